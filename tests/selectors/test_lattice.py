"""The lattice against counting cell by cell."""

import numpy as np
import numpy.typing as npt

from gazepack.geometry import CELLS_PER_PATCH, TILE_TOKENS, tile_places
from gazepack.selectors.lattice import Lattice

Whole = npt.NDArray[np.float64]


def random_errors(num_frames: int, num_tiles: int) -> tuple[Whole, Whole]:
    """Return whole-number errors of canvases and of the scales."""
    rng = np.random.default_rng(1)
    shape = num_frames, num_tiles, 28, 28
    canvas = rng.integers(0, 1000, shape).astype(np.float64)
    painted = rng.integers(0, 1000, (num_frames, num_tiles, 4, 28, 28)).astype(np.float64)
    return canvas, painted


def error_after(canvas: Whole, painted: Whole, choices: list[int]) -> float:
    """Count the error of one frame cell by cell: each shows its finest chosen patch, or the canvas."""
    shown = canvas.copy()
    level = np.full(canvas.shape, -1)
    for choice in choices:
        tile, tile_id = divmod(choice, TILE_TOKENS)
        s, r, c = (int(x) for x in tile_places(np.array(tile_id)))
        k = CELLS_PER_PATCH[s]
        for y in range(r * k, r * k + k):
            for x in range(c * k, c * k + k):
                if level[tile, y, x] < s:
                    level[tile, y, x], shown[tile, y, x] = s, painted[tile, s, y, x]
    return float(shown.sum())


def test_picking_one_by_one() -> None:
    """After each pick the error is that of counting; the best choice is the one of least error after."""
    canvas, painted = random_errors(2, 2)
    lattice = Lattice(canvas, painted)
    rng = np.random.default_rng(2)
    taken: list[list[int]] = [[], []]
    for _ in range(6):
        choices = rng.integers(0, 2 * TILE_TOKENS, 2)
        lattice.pick(np.arange(2), choices)
        for b in range(2):
            taken[b].append(int(choices[b]))
            assert error_after(canvas[b], painted[b], taken[b]) == lattice.sum_of_squares_B[b]
    best, gains = lattice.best(np.arange(2))
    for b in range(2):
        after = [
            error_after(canvas[b], painted[b], [*taken[b], choice])
            for choice in range(2 * TILE_TOKENS)
        ]
        assert int(np.argmin(after)) == best[b]
        assert lattice.sum_of_squares_B[b] - min(after) == gains[b]


def test_only_named_frames_change() -> None:
    """A pick leaves the other frames of the batch alone."""
    lattice = Lattice(*random_errors(3, 1))
    before = lattice.sum_of_squares_B.copy()
    lattice.pick(np.array([1]), np.array([0]))
    assert (before == lattice.sum_of_squares_B).tolist() == [True, False, True]


def test_picking_all_at_once() -> None:
    """`pick_all` is `pick` one after the other, in any order."""
    canvas, painted = random_errors(2, 2)
    rng = np.random.default_rng(3)
    choices = rng.permutation(2 * TILE_TOKENS)[:50]
    one_by_one, at_once = Lattice(canvas, painted), Lattice(canvas, painted)
    for choice in choices:
        one_by_one.pick(np.arange(2), np.full(2, choice))
    flags = np.zeros((2, 2 * TILE_TOKENS), dtype=bool)
    flags[:, choices] = True
    at_once.pick_all(flags.reshape(2, 2, TILE_TOKENS))
    np.testing.assert_array_equal(one_by_one.sum_of_squares_B, at_once.sum_of_squares_B)
    for expected, actual in zip(
        one_by_one.best(np.arange(2)), at_once.best(np.arange(2)), strict=True
    ):
        np.testing.assert_array_equal(expected, actual)


def test_errors_given_are_left_alone() -> None:
    """The caller's arrays are not written to."""
    canvas, painted = random_errors(1, 1)
    before = canvas.copy()
    Lattice(canvas, painted).pick(np.array([0]), np.array([0]))
    np.testing.assert_array_equal(before, canvas)
