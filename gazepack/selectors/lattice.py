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
lowest choice. This one is NumPy on the host: a tile is 31 kB and stays in the processor's cache, and frames
leave the work as they end. `device_lattice` does the same for frames on an accelerator.
"""

from typing import NamedTuple, Protocol

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


class Picks(NamedTuple):
    """What was picked, in the order of picking inside each frame."""

    frames: Ints
    choices: Ints
    squares_before: Whole
    """The error of the frame before each."""


class FrameLattice(Protocol):
    """What choosing asks of one frame of each of B clips, wherever its errors lie."""

    @property
    def sum_of_squares_B(self) -> Whole:
        """The error of each whole frame as it is painted so far."""

    def pick_all(self, chosen_BGI: Flags) -> None:
        """Paint many choices into every frame at once; their order does not matter.

        Args:
            chosen_BGI: which of the 265 choices of each tile.
        """

    def pick_until(self, order_BJ: Ints, bound: int) -> Picks:
        """Paint given choices one after the other, into each frame until its error is at most `bound`.

        Args:
            order_BJ: none twice; -1 behind the last of a frame.
            bound: the largest error that is good enough.
        """

    def top_up(self, bound: int) -> Picks:
        """Paint the best choice, the first of equals, into each frame until its error is at most `bound`.

        A frame in which nothing gains any more ends as well. The last thing to ask for, but for the error.
        """


UNPAINTED = -1
"""The level of a half patch that shows the canvas of the frame before."""

NO_PICKS = Picks(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))

_SCALES_S11 = np.arange(NUM_SCALES, dtype=np.int8)[:, None, None]
SCALE, _ROW, _COL = tile_places(np.arange(TILE_TOKENS))
_SPREAD = tuple(
    np.kron(np.eye(side), np.ones((1, k)))
    for side, k in zip(SCALE_SIDES, CELLS_PER_PATCH, strict=True)
)
"""Per scale, which half patches a row of patches covers: side x 28, of 0 and 1."""
COVERED: Flags = np.stack(
    [np.outer(_SPREAD[s][r], _SPREAD[s][c]) > 0 for s, r, c in zip(SCALE, _ROW, _COL, strict=True)]
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
        scale_M11 = SCALE[tile_id].astype(np.int8)[:, None, None]
        shown, level, painted = self._shown_BGYX[at], self._level_BGYX[at], self._painted_BGSYX[at]
        changed = COVERED[tile_id] & (level < scale_M11)
        after = np.where(changed, painted[np.arange(len(tile)), SCALE[tile_id]], shown)
        level = np.where(changed, scale_M11, level)
        self.sum_of_squares_B[frames_M] += (after - shown).sum((1, 2))
        self._shown_BGYX[at], self._level_BGYX[at] = after, level
        self._gains_BGI[at] = _gains(after, level, painted)

    def pick_until(self, order_BJ: Ints, bound: int) -> Picks:
        """Paint given choices until the bound is met; see `FrameLattice`."""
        parts = []
        for choices_B in order_BJ.T:
            rows = np.flatnonzero((self.sum_of_squares_B > bound) & (choices_B >= 0))
            if not len(rows):
                break
            parts.append(Picks(rows, choices_B[rows], self.sum_of_squares_B[rows]))
            self.pick(rows, choices_B[rows])
        return _joined(parts)

    def top_up(self, bound: int) -> Picks:
        """Paint the best choices until the bound is met; see `FrameLattice`."""
        parts = []
        rows = np.flatnonzero(self.sum_of_squares_B > bound)
        while len(rows):
            choices, gains = self.best(rows)
            rows, choices = rows[gains > 0], choices[gains > 0]
            parts.append(Picks(rows, choices, self.sum_of_squares_B[rows]))
            self.pick(rows, choices)
            rows = rows[self.sum_of_squares_B[rows] > bound]
        return _joined(parts)

    def pick_all(self, chosen_BGI: Flags) -> None:
        """Paint many choices at once; see `FrameLattice`."""
        for s, (start, side) in enumerate(zip(SCALE_OFFSETS, SCALE_SIDES, strict=True)):
            patches = chosen_BGI[..., start : start + side * side]
            patches = patches.reshape(*patches.shape[:2], side, side)
            covered = (_SPREAD[s].T @ patches @ _SPREAD[s]) > 0
            self._level_BGYX[covered] = s
            self._shown_BGYX = np.where(covered, self._painted_BGSYX[:, :, s], self._shown_BGYX)
        self._refresh()


def rank_among_equals(values: Ints) -> Ints:
    """Return how many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    first = np.searchsorted(values[order], values[order], side="left")
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(len(values)) - first
    return ranks


def _joined(parts: list[Picks]) -> Picks:
    """Put steps together, of which each took at most one choice a frame."""
    if not parts:
        return NO_PICKS
    return Picks(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


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
