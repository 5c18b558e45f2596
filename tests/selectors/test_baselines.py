"""What gazing is measured against."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gazepack.geometry import FINEST, TILE_TOKENS, Grid
from gazepack.selectors import All, ClipBatch, Difference, Random
from gazepack.selectors.baselines import budget

GRID = Grid(rows=1, cols=2, patch_size=4)


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.1, 26), (0.2, 53), (0.06, 15), (1.0, 265), (0.001, 1)]
)
def test_budget(ratio: float, expected: int) -> None:
    """A ratio allows its share of 265, rounded down, at least one token."""
    assert expected == budget(ratio)


def test_difference_takes_what_changed_most(make_clips: Callable[..., ClipBatch]) -> None:
    """Finest patches come in order of summed absolute change since the frame before."""
    clips = make_clips(GRID, (2,))
    [[first, second]] = Difference().begin(clips).proposals
    frames = clips.frames_BT3HW[0].numpy().astype(np.int64)
    for before, now, proposal in ((128, frames[0], first), (frames[0], frames[1], second)):
        apart = np.abs(now - before).reshape(3, 14, 4, 28, 4).sum((0, 2, 4))
        tile, ids = np.divmod(proposal.choices, TILE_TOKENS)
        scale, row, col = GRID.from_tile(tile, ids)
        assert {FINEST} == set(scale.tolist())
        assert np.all(np.diff(apart[row, col]) <= 0)
        assert GRID.num_dense == len(set(proposal.choices.tolist()))


def test_difference_breaks_ties_row_by_row() -> None:
    """Equal differences come in row-major order over the frame."""
    still = torch.zeros(1, 1, 3, GRID.height, GRID.width, dtype=torch.uint8)
    clips = ClipBatch(frames_BT3HW=still, num_frames=(1,), names=("still",), grid=GRID)
    [[proposal]] = Difference().begin(clips).proposals
    tile, ids = np.divmod(proposal.choices, TILE_TOKENS)
    _, row, col = GRID.from_tile(tile, ids)
    assert list(range(GRID.num_dense)) == (row * 28 + col).tolist()


def test_random_draws_from_all_scales(make_clips: Callable[..., ClipBatch]) -> None:
    """An order holds every choice of the grid once."""
    [[proposal]] = Random().begin(make_clips(GRID, (1,))).proposals
    assert list(range(GRID.num_choices)) == sorted(proposal.choices.tolist())


def test_random_depends_on_seed_name_and_frame(make_clips: Callable[..., ClipBatch]) -> None:
    """Another seed, clip or frame gives another order; the same three the same."""
    clips = make_clips(GRID, (2, 1))
    (first, second), (other,) = Random(seed=1).begin(clips).proposals
    orders = [first, second, other, Random(seed=2).begin(clips).proposals[0][0]]
    assert len({order.choices.tobytes() for order in orders}) == 4
    [[again]] = Random(seed=1).begin(clips.part(range(1, 2))).proposals
    np.testing.assert_array_equal(other.choices, again.choices)


def test_ratios_of_the_positions_in_a_clip(make_clips: Callable[..., ClipBatch]) -> None:
    """Several ratios are those of the first frames of a clip; the last goes on to its end."""
    clips = make_clips(GRID, (4,))
    for selector in (Random(gazing_ratio=(0.2, 0.06)), Difference(gazing_ratio=(0.2, 0.06))):
        [proposals] = selector.begin(clips).proposals
        assert [len(proposal.choices) for proposal in proposals] == [106, 30, 30, 30]


def test_all_is_the_dense_video(make_clips: Callable[..., ClipBatch]) -> None:
    """`all` proposes each finest patch once."""
    [[proposal]] = All().begin(make_clips(GRID, (1,))).proposals
    tile, ids = np.divmod(proposal.choices, TILE_TOKENS)
    scale, _, _ = GRID.from_tile(tile, ids)
    assert {FINEST} == set(scale.tolist())
    assert GRID.num_dense == len(set(proposal.choices.tolist()))


def test_provenance() -> None:
    """What decides the choices is in the settings."""
    assert Random(gazing_ratio=0.1, seed=4).settings() == {
        "name": "random",
        "gazing_ratio": 0.1,
        "seed": 4,
    }
    assert Difference().settings() == {"name": "difference", "gazing_ratio": None}
    assert All().settings() == {"name": "all"}
