"""AutoGaze as a selector, against gazing at each tile by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gazepack.autogaze import AutoGaze
from gazepack.geometry import TILE_TOKENS, Grid
from gazepack.selectors import ClipBatch, Gazing, choose

TINY = Path(__file__).parent.parent / "data" / "autogaze-tiny"
GRID = Grid(rows=2, cols=2, patch_size=4)


@pytest.fixture(scope="module")
def model() -> AutoGaze:
    """Load the small recorded network."""
    return AutoGaze.from_pretrained(TINY)


def test_tiles_are_gazed_at_alone(model: AutoGaze, make_clips: Callable[..., ClipBatch]) -> None:
    """Each tile's choices are those of gazing at that square of pixels alone."""
    clips = make_clips(GRID, (3, 2))
    proposals = Gazing(model, gazing_ratio=0.05).propose(clips)
    for clip, num in enumerate(clips.num_frames):
        for tile in range(4):
            r, c = divmod(tile, 2)
            pixels = clips.frames_BT3HW[
                clip : clip + 1, :num, :, 56 * r : 56 * r + 56, 56 * c : 56 * c + 56
            ]
            [gaze] = model.gaze(pixels, gazing_ratio=0.05)
            found = [p.choices[p.choices // TILE_TOKENS == tile] for p in proposals[clip]]
            expected = gaze.ids - np.repeat(np.arange(num) * TILE_TOKENS, gaze.num_each_frame)
            np.testing.assert_array_equal(expected, np.concatenate(found) % TILE_TOKENS)
            losses = [p.losses[p.choices // TILE_TOKENS == tile] for p in proposals[clip]]
            np.testing.assert_array_equal(gaze.loss, np.concatenate(losses))


def test_choices_are_dealt_by_rank_then_tile(
    model: AutoGaze, make_clips: Callable[..., ClipBatch]
) -> None:
    """Every tile's first choice comes before any tile's second."""
    [[proposal]] = Gazing(model, gazing_ratio=0.02).propose(make_clips(GRID, (1,)))
    assert (proposal.choices // TILE_TOKENS).tolist() == [0, 1, 2, 3] * 5
    assert len(set(proposal.choices.tolist())) == 20


def test_ratios_of_the_positions_in_a_clip(
    model: AutoGaze, make_clips: Callable[..., ClipBatch]
) -> None:
    """Several ratios are those of the first frames of a clip; the last goes on to its end."""
    clips = make_clips(Grid(rows=1, cols=1, patch_size=4), (4,))
    [selection] = choose(Gazing(model, gazing_ratio=(0.2, 0.06)), clips)
    assert selection.tokens_T.tolist() == [53, 15, 15, 15]


def test_a_threshold_stops_early(model: AutoGaze, make_clips: Callable[..., ClipBatch]) -> None:
    """A threshold above every predicted loss leaves the one token that a frame always gets."""
    clips = make_clips(Grid(rows=1, cols=1, patch_size=4), (2,))
    [selection] = choose(Gazing(model, gazing_ratio=0.1, loss_threshold=1e9), clips)
    assert selection.tokens_T.tolist() == [1, 1]


def test_the_bound_holds_after_gazing(
    model: AutoGaze, make_clips: Callable[..., ClipBatch]
) -> None:
    """With a bound, what was gazed at comes first and the top-up reaches the bound."""
    clips = make_clips(GRID, (2, 1))
    gazed = choose(Gazing(model, gazing_ratio=0.02), clips)
    topped = choose(Gazing(model, gazing_ratio=0.02), clips, min_psnr=30)
    for before, after in zip(gazed, topped, strict=True):
        assert before.psnr_T.min() < 30 <= after.psnr_T.min()
        assert np.all(after.tokens_T >= before.tokens_T)


def test_the_batch_does_not_matter(model: AutoGaze, make_clips: Callable[..., ClipBatch]) -> None:
    """Ids and losses of a clip are the same to the bit beside clips of other lengths."""
    clips = make_clips(GRID, (2, 3, 2))
    together = Gazing(model, gazing_ratio=0.05).propose(clips)
    for b in range(3):
        [alone] = Gazing(model, gazing_ratio=0.05).propose(clips.part(range(b, b + 1)))
        for expected, actual in zip(alone, together[b], strict=True):
            assert expected.choices.tobytes() == actual.choices.tobytes()
            assert expected.losses.tobytes() == actual.losses.tobytes()


def test_provenance(model: AutoGaze) -> None:
    """The model's sha256 and how it was decoded are on record."""
    assert {
        "name": "autogaze",
        "gazing_ratio": 0.1,
        "loss_threshold": None,
        "stops_at_bound": False,
        "model_sha256": model.sha256,
        "decode_positions": "published",
        "loss_unit": "none",
    } == Gazing(model, gazing_ratio=0.1).settings()
