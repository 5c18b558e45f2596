"""The painting errors of a frame on the lattice of half patches, and what each choice would gain.

Under the painting rule a pixel shows the finest chosen patch that covers it, else what the canvas
held. All borders of all scales fall on half patches, so five numbers per half patch (the squared
error of the canvas and of each scale painted alone) decide every question about a frame: no pixel
is touched while choosing.

    legend   B  frames, one of each clip in the batch    M  frames picked for at once, M <= B
             G  tiles of the grid                        S  the 4 scales
             Y, X  the 28 half patches down and across a tile

A choice is counted tile by tile: tile * 265 + tile id. Errors are whole numbers far below 2^53, held
in float64, so every sum is exact, the best choice is the same on every machine, and ties go to the
lowest choice. All of it is NumPy on the host, whatever device the pixels live on: 31 kB a tile, and
a step would be lost in the launches of an accelerator.
"""

import numpy as np
import numpy.typing as npt

from gazepack.geometry import (
    CELLS_PER_PATCH,
    NUM_SCALES,
    SCALE_OFFSETS,
    SCALE_SIDES,
    TILE_TOKENS,
    Ints,
    tile_places,
)

Whole = npt.NDArray[np.float64]
"""Whole numbers, exact."""
Flags = npt.NDArray[np.bool_]

UNPAINTED = -1
"""The level of a half patch that shows the canvas of the frame before."""

_SCALES_S11 = np.arange(NUM_SCALES, dtype=np.int8)[:, None, None]
_SCALE, _ROW, _COL = tile_places(np.arange(TILE_TOKENS))
_SPREAD = tuple(
    np.kron(np.eye(side), np.ones((1, k)))
    for side, k in zip(SCALE_SIDES, CELLS_PER_PATCH, strict=True)
)
"""Per scale, which half patches a row of patches covers: side x 28, of 0 and 1."""
_COVERED: Flags = np.stack(
    [np.outer(_SPREAD[s][r], _SPREAD[s][c]) > 0 for s, r, c in zip(_SCALE, _ROW, _COL, strict=True)]
)
"""Which half patches of a tile each tile id covers: 265 x Y x X."""


class Lattice:
    """One frame of each of B clips of one grid.

    Args:
        canvas_errors_BGYX: squared error of what the canvas holds, per half patch.
        painted_errors_BGSYX: squared error of each scale painted everywhere.

    Attributes:
        sum_of_squares_B: the error of each whole frame as it is painted so far.
    """

    def __init__(self, canvas_errors_BGYX: Whole, painted_errors_BGSYX: Whole) -> None:
        self._shown_BGYX = canvas_errors_BGYX.copy()
        self._painted_BGSYX = painted_errors_BGSYX
        self._level_BGYX = np.full(canvas_errors_BGYX.shape, UNPAINTED, dtype=np.int8)
        self._refresh()

    def _refresh(self) -> None:
        """Count everything anew."""
        self.sum_of_squares_B: Whole = self._shown_BGYX.sum((1, 2, 3))
        self._gains_BGI = _gains(self._shown_BGYX, self._level_BGYX, self._painted_BGSYX)

    @property
    def errors_BGEYX(self) -> Whole:
        """Return the squared error of each half patch as it stands, and painted at each of the four scales."""
        return np.concatenate((self._shown_BGYX[:, :, None], self._painted_BGSYX), axis=2)

    @property
    def gains_BGI(self) -> Whole:
        """Return by how much each choice would lower the error as it stands; below 0 if it would raise it."""
        return self._gains_BGI.copy()

    def best(self, frames_M: Ints) -> tuple[Ints, Whole]:
        """Return the choice of largest gain of each named frame, and that gain."""
        gains_MI = self._gains_BGI[frames_M].reshape(len(frames_M), -1)
        choices_M = gains_MI.argmax(1)  # the first of equals
        return choices_M, gains_MI[np.arange(len(frames_M)), choices_M]

    def pick(self, frames_M: Ints, choices_M: Ints) -> None:
        """Paint one choice into each named frame."""
        tile, tile_id = np.divmod(choices_M, TILE_TOKENS)
        at = frames_M, tile
        scale_M11 = _SCALE[tile_id].astype(np.int8)[:, None, None]
        shown, level, painted = self._shown_BGYX[at], self._level_BGYX[at], self._painted_BGSYX[at]
        changed = _COVERED[tile_id] & (level < scale_M11)
        after = np.where(changed, painted[np.arange(len(tile)), _SCALE[tile_id]], shown)
        level = np.where(changed, scale_M11, level)
        self.sum_of_squares_B[frames_M] += (after - shown).sum((1, 2))
        self._shown_BGYX[at], self._level_BGYX[at] = after, level
        self._gains_BGI[at] = _gains(after, level, painted)

    def pick_all(self, chosen_BGI: Flags) -> None:
        """Paint many choices into every frame at once; their order does not matter.

        Args:
            chosen_BGI: which of the 265 choices of each tile.
        """
        for s, (start, side) in enumerate(zip(SCALE_OFFSETS, SCALE_SIDES, strict=True)):
            patches = chosen_BGI[..., start : start + side * side]
            patches = patches.reshape(*patches.shape[:2], side, side)
            covered = (_SPREAD[s].T @ patches @ _SPREAD[s]) > 0
            self._level_BGYX[covered] = s
            self._shown_BGYX = np.where(covered, self._painted_BGSYX[:, :, s], self._shown_BGYX)
        self._refresh()


def _gains(shown: Whole, level: npt.NDArray[np.int8], painted: Whole) -> Whole:
    """Return how much each of the 265 choices of tiles would lower the error.

    Args:
        shown: ... x Y x X.
        level: ... x Y x X.
        painted: ... x S x Y x X.

    Returns:
        ... x 265.
    """
    gains = np.empty((*shown.shape[:-2], TILE_TOKENS))
    drop = shown[..., None, :, :] - painted
    drop *= level[..., None, :, :] < _SCALES_S11
    for s, (start, side) in enumerate(zip(SCALE_OFFSETS, SCALE_SIDES, strict=True)):
        sums = _SPREAD[s] @ drop[..., s, :, :] @ _SPREAD[s].T
        gains[..., start : start + side * side] = sums.reshape(*sums.shape[:-2], side * side)
    return gains
