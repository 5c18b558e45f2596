"""Where each token of a batch stands: in which image, in which frame of it, at which position.

A vision transformer looks at images. What counts as one image is a window of tiles: the whole view, or squares
of `window_tiles` x `window_tiles` tiles of it, as models do that cut a large picture into pictures of the size
they were trained on. The tokens of one window through all frames of a sample are a sequence, those of one frame
of it a block; nothing ever attends from one sequence to another.

Everything is computed from the places of the batch, on its device; only lengths come to the host.

    legend   N  tokens     V  views of all samples     W  windows of all views     B  blocks
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from gazepack.geometry import SCALE_OFFSETS, SCALE_SIDES
from gazepack.loader import Batch

Shape = tuple[int, int]
"""Tiles down and across."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """The order in which a transformer reads a batch, and what it needs to know of every token."""

    order_N: Tensor
    """int64: which token of the batch stands at each place; sequence by sequence, block by block."""
    position_N: Tensor
    """int64, in that order: the token's row in the positions of all `shapes`, one shape after the other, each
    with its four scales, coarse to fine, row-major."""
    shapes: tuple[Shape, ...]
    """The different sizes of windows."""
    lengths_B: tuple[int, ...]
    """Tokens of each block; none is empty."""
    blocks_of_sequence: tuple[int, ...]
    """Blocks of each sequence that has any."""
    sample_B: Tensor
    """int64: the sample of each block."""
    view_B: Tensor
    """int64: its view, a position in `meta[s]["views"]`."""
    window_B: Tensor
    """int64: its window, row-major over the view."""
    frame_B: Tensor
    """int64: its frame, a position in the view's `times`."""

    @classmethod
    def of(cls, batch: Batch, *, window_tiles: int | None) -> "Layout":
        """Lay out a batch.

        Args:
            batch: as the loader gives it; the tokens of a frame keep their order.
            window_tiles: side of the square of tiles that is one image, the whole view where None. At the
                right and bottom of a view that is no multiple of it, windows are smaller.
        """
        device = batch.scale.device
        windows = _Windows.of(batch.meta, window_tiles=window_tiles)
        view_first_V, first_V, across_V, start_W, area_W, wide_W = windows.to(device)

        # 1. the window of each token
        num_each = batch.cu_seqlens.long().diff()
        sample_N = torch.arange(batch.num_samples, device=device).repeat_interleave(num_each)
        view_N = view_first_V[sample_N] + batch.view
        scale_N, frame_N = batch.scale.long(), batch.frame.long()
        tile_N = torch.tensor(SCALE_SIDES, device=device)[scale_N]
        side_N = tile_N * windows.side
        across_N = across_V[view_N]
        window_N = first_V[view_N] + batch.row // side_N * across_N + batch.col // side_N

        # 2. sequences and blocks
        num_frames = int(frame_N.max()) + 1 if len(frame_N) else 1
        key_N, order_N = torch.sort(window_N * num_frames + frame_N, stable=True)
        key_B, lengths_B = torch.unique_consecutive(key_N, return_counts=True)
        blocks_of_sequence = torch.unique_consecutive(key_B // num_frames, return_counts=True)[1]
        first_N = order_N[lengths_B.cumsum(0) - lengths_B]

        # 3. the position inside the window
        offset_N = torch.tensor(SCALE_OFFSETS, device=device)[scale_N]
        position_N = start_W[window_N] + offset_N * area_W[window_N]
        position_N += batch.row % side_N * (tile_N * wide_W[window_N]) + batch.col % side_N
        return cls(
            order_N=order_N,
            position_N=position_N[order_N],
            shapes=windows.shapes,
            lengths_B=tuple(lengths_B.tolist()),
            blocks_of_sequence=tuple(blocks_of_sequence.tolist()),
            sample_B=sample_N[first_N],
            view_B=batch.view[first_N].long(),
            window_B=(window_N - first_V[view_N])[first_N],
            frame_B=frame_N[first_N],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """All windows of a batch, sample by sample, view by view."""

    side: int
    """Side of a window, in tiles; that of the largest view where a view is one window."""
    view_of_sample: list[int]
    """The first view of each sample."""
    first_V: list[int]
    """The first window of each view."""
    across_V: list[int]
    """Windows across each view."""
    shape_W: list[Shape]

    @classmethod
    def of(cls, meta: Sequence[dict[str, Any]], *, window_tiles: int | None) -> "_Windows":
        """Read the grids of the views."""
        grids = [(view["rows"], view["cols"]) for sample in meta for view in sample["views"]]
        side = window_tiles or max((max(grid) for grid in grids), default=1)
        in_each = [
            [(d, w) for d in _cut(rows, side) for w in _cut(cols, side)] for rows, cols in grids
        ]
        return cls(
            side=side,
            view_of_sample=_starts([len(sample["views"]) for sample in meta]),
            first_V=_starts([len(shapes) for shapes in in_each]),
            across_V=[len(_cut(cols, side)) for _, cols in grids],
            shape_W=[shape for shapes in in_each for shape in shapes],
        )

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The different shapes, smallest first."""
        return tuple(sorted(set(self.shape_W)))

    def to(self, device: torch.device) -> list[Tensor]:
        """Return int64 columns: first view; first window, windows across; table start, area, width."""
        num_rows = [num_positions(shape) for shape in self.shapes]
        start = dict(zip(self.shapes, _starts(num_rows), strict=True))
        columns = [self.view_of_sample, self.first_V, self.across_V]
        columns += [[start[shape] for shape in self.shape_W]]
        columns += [
            [down * wide for down, wide in self.shape_W],
            [wide for _, wide in self.shape_W],
        ]
        return [torch.tensor(column, dtype=torch.int64).to(device) for column in columns]


def num_positions(shape: Shape) -> int:
    """Return the positions of all scales of a window."""
    return shape[0] * shape[1] * sum(side * side for side in SCALE_SIDES)


def _cut(tiles: int, side: int) -> list[int]:
    """Cut a row of tiles into windows: the tiles of each."""
    return [min(side, tiles - start) for start in range(0, tiles, side)]


def _starts(lengths: Sequence[int]) -> list[int]:
    """Return where each of some runs starts."""
    return list(accumulate(lengths, initial=0))[:-1]
