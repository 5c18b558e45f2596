"""The pixels behind one frame of every clip in a batch, tile by tile: measured, cut and painted.

Nothing of the pyramid or the painting crosses the border of a tile, so tiles of all frames are
handled alike and a few at a time: what is in work then stays in the processor's cache, which makes
measuring three times faster than whole batches of frames.

    legend   N  tiles, those of the first frame first    S  side of a tile in pixels    K  patches
             Y, X  the 28 half patches down and across a tile                           s  scale
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.geometry import FINEST, TILE_TOKENS, tile_places
from gazepack.patches import absolute_errors, cell_errors, cut, enlarge_whole, paint, pyramid
from gazepack.selectors.device_lattice import DeviceLattice
from gazepack.selectors.lattice import FrameLattice, Lattice, Whole

AsRead = Callable[[Tensor], Tensor]
"""Takes patches laid side by side, uint8 N x 3 x h x w with h and w multiples of the patch side, to
what comes back once they were encoded and decoded. What becomes of a patch depends on it alone."""

VALUES_IN_CACHE = 2**19
VALUES_ON_DEVICE = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTiles:
    """One frame of each clip in a batch, as tiles."""

    target_N3SS: Tensor
    """uint8, the fitted frames."""
    canvas_N3SS: Tensor
    """uint8, what their canvases hold; `paint` changes it."""
    levels: tuple[Tensor, ...]
    """The pyramid of the target."""
    read: tuple[Tensor, ...]
    """The pyramid as a reader will get it."""
    patch_size: int
    """Side of a patch, in pixels."""

    @classmethod
    def of(
        cls, target_N3SS: Tensor, canvas_N3SS: Tensor, *, patch_size: int, as_read: AsRead | None
    ) -> "FrameTiles":
        """Build the pyramids."""
        chunks = [pyramid(target_N3SS[at]) for at in _chunks(target_N3SS)]
        levels = tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))
        return cls(
            target_N3SS=target_N3SS,
            canvas_N3SS=canvas_N3SS,
            levels=levels,
            read=levels if as_read is None else tuple(as_read(level) for level in levels),
            patch_size=patch_size,
        )

    def lattice(self, *, num_frames: int) -> Lattice:
        """Measure how wrong the canvas is, and how wrong each scale would be; the answer is on the host."""
        errors_NEYX = self._errors_NEYX()
        errors_BGEYX = errors_NEYX.cpu().numpy().reshape(num_frames, -1, *errors_NEYX.shape[1:])
        return Lattice(errors_BGEYX[:, :, 0], errors_BGEYX[:, :, 1:])

    def lattice_there(self, *, num_frames: int) -> FrameLattice:
        """Measure the same; the answer stays on the accelerator that holds the frames, if one does."""
        if is_accelerator(self.target_N3SS.device):
            return DeviceLattice(self._errors_NEYX(), num_frames=num_frames)
        return self.lattice(num_frames=num_frames)

    def _errors_NEYX(self) -> Tensor:
        return torch.cat([self._errors(at) for at in _chunks(self.target_N3SS)])

    def _errors(self, at: slice) -> Tensor:
        """Return the errors of the canvas and of each scale of some tiles: N x 5 x Y x X."""
        p = self.patch_size
        target = self.target_N3SS[at].to(torch.float32)
        errors = [cell_errors(target, self.canvas_N3SS[at], p)]
        for s, level in enumerate(self.read):
            if s == FINEST and level is self.levels[FINEST]:
                errors.append(torch.zeros_like(errors[0]))
            else:
                errors.append(cell_errors(target, enlarge_whole(level[at], s, p), p))
        return torch.stack(errors, 1)

    def cut_and_paint(self, choices: Sequence[Sequence[int]]) -> list[npt.NDArray[np.uint8]]:
        """Paint the choices of each frame; return their patches, uint8 K x p x p x 3 each."""
        counts = [len(ids) for ids in choices]
        flat = np.asarray([choice for ids in choices for choice in ids], dtype=np.int64)
        tile, tile_id = np.divmod(flat, TILE_TOKENS)
        tile += np.repeat(np.arange(len(counts)), counts) * (len(self.target_N3SS) // len(counts))
        frame, scale, row, col = (
            torch.from_numpy(x).to(self.target_N3SS.device) for x in (tile, *tile_places(tile_id))
        )
        at = {"frame": frame, "scale": scale, "row": row, "col": col}
        patches = cut(self.levels, **at, patch_size=self.patch_size)
        shown = patches
        if self.read is not self.levels:
            shown = cut(self.read, **at, patch_size=self.patch_size)
        paint(self.canvas_N3SS, shown, **at)
        return np.split(patches.cpu().numpy(), np.cumsum(counts)[:-1])

    def absolute_errors(self, *, num_frames: int) -> Whole:
        """Sum the absolute errors of the canvases of each frame."""
        parts = [
            absolute_errors(self.target_N3SS[at], self.canvas_N3SS[at])
            for at in _chunks(self.target_N3SS)
        ]
        sums: Whole = torch.cat(parts).cpu().numpy().reshape(num_frames, -1).sum(1)
        return sums


def is_accelerator(device: torch.device) -> bool:
    """Return whether work on a device should be in few large pieces, and stay there."""
    return device.type != "cpu"


def _chunks(tiles_N3SS: Tensor) -> Iterator[slice]:
    """Yield which tiles are in work together."""
    values = VALUES_ON_DEVICE if is_accelerator(tiles_N3SS.device) else VALUES_IN_CACHE
    num = max(1, values // tiles_N3SS[0].numel())
    for start in range(0, len(tiles_N3SS), num):
        yield slice(start, start + num)
