"""AutoGaze as a selector, against gazing at each tile by hand."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from gazepack.autogaze import AutoGaze, AutoGazeConfig, fresh_canvas_network
from gazepack.geometry import TILE_TOKENS, Grid
from gazepack.patches import psnr, repaint, split_tiles
from gazepack.selectors import ClipBatch, Gazing, Listed, Proposal, Selection, choose

TINY = Path(__file__).parent.parent / "data" / "autogaze-tiny"
GRID = Grid(rows=2, cols=2, patch_size=4)


@pytest.fixture(scope="module")
def model() -> AutoGaze:
    """Load the small recorded network."""
    return AutoGaze.from_pretrained(TINY)


def listed(gazing: Gazing, clips: ClipBatch) -> Sequence[Sequence[Proposal]]:
    """Return the proposals of a network that remembers tokens, of each frame of each clip."""
    proposer = gazing.begin(clips)
    assert isinstance(proposer, Listed)
    return proposer.proposals


def test_tiles_are_gazed_at_alone(model: AutoGaze, make_clips: Callable[..., ClipBatch]) -> None:
    """Each tile's choices are those of gazing at that square of pixels alone."""
    clips = make_clips(GRID, (3, 2))
    proposals = listed(Gazing(model, gazing_ratio=0.05), clips)
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
    [[proposal]] = listed(Gazing(model, gazing_ratio=0.02), make_clips(GRID, (1,)))
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
    together = listed(Gazing(model, gazing_ratio=0.05), clips)
    for b in range(3):
        [alone] = listed(Gazing(model, gazing_ratio=0.05), clips.part(range(b, b + 1)))
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


# ------------------------------------------------------------- networks that are shown the canvas


@pytest.fixture(scope="module")
def looking(canvas_config: AutoGazeConfig) -> AutoGaze:
    """A tiny network that is shown the canvas, untrained but with choices of its own."""
    network = fresh_canvas_network(canvas_config, seed=1)
    with torch.no_grad():
        network.gaze_decoder.lm_head.weight.normal_(
            0, 0.3, generator=torch.Generator().manual_seed(1)
        )
    return AutoGaze(network, sha256="cd" * 32)


def choices_of(selection: Selection, grid: Grid) -> list[list[int]]:
    """Return tile * 265 + tile id of each token, frame by frame."""
    places = (x.astype(np.int64) for x in (selection.scale, selection.row, selection.col))
    tile, ids = grid.to_tile(*places)
    parts = np.split(tile * TILE_TOKENS + ids, np.cumsum(selection.tokens_T)[:-1])
    return [part.tolist() for part in parts]


def repainted(selection: Selection, grid: Grid) -> torch.Tensor:
    """Return the canvases that a reader of the tokens paints, T x 3 x H x W."""
    at = {name: getattr(selection, name) for name in ("frame", "scale", "row", "col")}
    num = len(selection.tokens_T)
    frames = repaint(selection.patches_KPP3, **at, grid=grid, num_frames=num, clip_frames=16)
    return torch.from_numpy(np.stack(list(frames))).permute(0, 3, 1, 2)


def test_each_tile_is_looked_at_beside_what_was_painted(
    looking: AutoGaze, make_clips: Callable[..., ClipBatch]
) -> None:
    """Choices are those of looking by hand at each tile and the painting so far, greedy's patches included."""
    clips = make_clips(GRID, (3, 2))
    gazing = Gazing(looking, gazing_ratio=0.03)
    for clip, selection in enumerate(choose(gazing, clips, min_psnr=26)):
        shown = repainted(selection, GRID)
        canvas = torch.full_like(shown[:1], 128)
        for t, chosen in enumerate(choices_of(selection, GRID)):
            tiles, before = (
                split_tiles(x, GRID)[0] for x in (clips.frames_BT3HW[clip, t : t + 1], canvas)
            )
            gazes = looking.look(tiles, before, budgets=[7] * 4, loss_threshold=None)
            by_rank = zip(*(gaze.ids for gaze in gazes), strict=True)
            expected = [tile * 265 + i for ids in by_rank for tile, i in enumerate(ids)]
            assert expected == chosen[: len(expected)]
            canvas = shown[t : t + 1]
        assert selection.tokens_T.max() > 28


def test_without_a_bound_it_gazes_as_the_network_alone(
    looking: AutoGaze, make_clips: Callable[..., ClipBatch]
) -> None:
    """With nothing added, ids and losses of a clip of one tile are those of gazing at the clip."""
    clips = make_clips(Grid(rows=1, cols=1, patch_size=4), (3,))
    [gaze] = looking.gaze(clips.frames_BT3HW, gazing_ratio=(0.1, 0.04, 0.04))
    [selection] = choose(Gazing(looking, gazing_ratio=(0.1, 0.04)), clips)
    found = np.concatenate(choices_of(selection, clips.grid)) + selection.frame * TILE_TOKENS
    np.testing.assert_array_equal(gaze.ids, found)
    np.testing.assert_array_equal(gaze.loss, selection.loss)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_looking_does_not_depend_on_the_batch(
    looking: AutoGaze, num_threads: int, make_clips: Callable[..., ClipBatch]
) -> None:
    """A clip's selection is the same to the bit alone and beside others, whatever threads share the work."""
    clips = make_clips(GRID, (2, 3, 1))
    gazing = Gazing(looking, loss_threshold=-24.0, stops_at_bound=True)
    alone = [choose(gazing, clips.part(range(b, b + 1)), min_psnr=24)[0] for b in range(3)]
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        together = choose(gazing, clips, min_psnr=24)
    finally:
        torch.set_num_threads(before)
    for expected, actual in zip(alone, together, strict=True):
        for field in fields(Selection):
            a, b = getattr(expected, field.name), getattr(actual, field.name)
            assert a.tobytes() == b.tobytes(), field.name
        assert actual.psnr_T.min() >= 24


def test_tiles_that_meet_the_bound_are_not_looked_at(
    looking: AutoGaze, make_clips: Callable[..., ClipBatch]
) -> None:
    """Where only one of four tiles moves, the other three get no token; with no bound each gets one."""
    clips = make_clips(GRID, (2,))
    clips.frames_BT3HW[:, 1] = clips.frames_BT3HW[:, 0]
    clips.frames_BT3HW[:, 1, :, :56, :56] = 255 - clips.frames_BT3HW[:, 0, :, :56, :56]
    stopping = Gazing(looking, loss_threshold=-26.0, stops_at_bound=True)
    [first, second] = choices_of(choose(stopping, clips, min_psnr=26)[0], GRID)
    met = tile_psnr(stopping, clips)
    assert min(met[1:]) >= 26 > met[0]
    assert {choice // TILE_TOKENS for choice in first} == {0, 1, 2, 3}
    assert {choice // TILE_TOKENS for choice in second} == {0}
    [_, second] = choices_of(choose(Gazing(looking, loss_threshold=-26.0), clips)[0], GRID)
    assert {choice // TILE_TOKENS for choice in second} == {0, 1, 2, 3}


def tile_psnr(gazing: Gazing, clips: ClipBatch) -> list[float]:
    """Return the PSNR of each tile of the second frame, against the painting of the first at 26 dB."""
    [selection] = choose(gazing, clips, min_psnr=26)
    tiles, canvas = (
        split_tiles(x, GRID)[0].double()
        for x in (clips.frames_BT3HW[0, 1:2], repainted(selection, GRID)[:1])
    )
    return [psnr(float(x.square().sum()), x.numel()) for x in tiles - canvas]


def test_a_still_frame_costs_nothing(
    looking: AutoGaze, make_clips: Callable[..., ClipBatch]
) -> None:
    """A frame that equals its predecessor gets no token where choices end at the bound."""
    clips = make_clips(GRID, (3,))
    clips.frames_BT3HW[:, 1:] = clips.frames_BT3HW[:, :1]
    gazing = Gazing(looking, loss_threshold=-25.0, stops_at_bound=True)
    [selection] = choose(gazing, clips, min_psnr=25)
    assert selection.tokens_T[0] > 0
    assert selection.tokens_T[1:].tolist() == [0, 0]
