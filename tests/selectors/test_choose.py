"""One loop for every selector: the bound, the painting, the order, and independence of the batch."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gazepack.geometry import TILE_TOKENS, Grid
from gazepack.patches import from_patches, repaint, split_tiles, to_patches
from gazepack.selectors import (
    All,
    ClipBatch,
    Difference,
    Greedy,
    Listed,
    Proposal,
    Random,
    Selection,
    Selector,
    choose,
)

SELECTORS: list[Selector] = [
    Greedy(),
    Difference(),
    Difference(gazing_ratio=0.05),
    Random(),
    Random(gazing_ratio=0.02, seed=3),
    All(),
]
SMALL = Grid(rows=1, cols=1, patch_size=4)


def name_of(selector: Selector) -> str:
    """Name a parametrized selector."""
    return f"{selector.name}-{selector.settings().get('gazing_ratio')}"


each_selector = pytest.mark.parametrize("selector", SELECTORS, ids=name_of)


def lossy(level_N3hw: Tensor) -> Tensor:
    """Stand for a codec: 5 bits a value, patch by patch; at most 4 steps off, so 36 dB at least."""
    patches = to_patches(level_N3hw, SMALL.patch_size)
    return from_patches(patches // 8 * 8 + 4)


def choices_of(selection: Selection, grid: Grid) -> list[list[int]]:
    """Return tile * 265 + tile id of each token, frame by frame."""
    places = (x.astype(np.int64) for x in (selection.scale, selection.row, selection.col))
    tile, ids = grid.to_tile(*places)
    parts = np.split(tile * TILE_TOKENS + ids, np.cumsum(selection.tokens_T)[:-1])
    return [part.tolist() for part in parts]


def assert_same(expected: Selection, actual: Selection) -> None:
    """Compare two selections to the bit."""
    for field in fields(Selection):
        a, b = getattr(expected, field.name), getattr(actual, field.name)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), field.name


def repainted(selection: Selection, clips: ClipBatch, clip: int, patches: Any = None) -> Tensor:
    """Return the canvases that a reader of the tokens paints, T x 3 x H x W."""
    frames = repaint(
        selection.patches_KPP3 if patches is None else patches,
        frame=selection.frame,
        scale=selection.scale,
        row=selection.row,
        col=selection.col,
        grid=clips.grid,
        num_frames=clips.num_frames[clip],
        clip_frames=16,
    )
    return torch.from_numpy(np.stack(list(frames))).permute(0, 3, 1, 2)


def psnr_and_l1(
    selection: Selection, clips: ClipBatch, clip: int, patches: Any = None
) -> tuple[list[float], list[float]]:
    """Measure the painting of a selection against the fitted frames, frame by frame, with NumPy."""
    shown = repainted(selection, clips, clip, patches).numpy().astype(np.float64)
    apart = shown - clips.frames_BT3HW[clip, : clips.num_frames[clip]].numpy()
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(255**2 / (apart**2).mean((1, 2, 3)))
    return np.minimum(psnr, 100).tolist(), np.abs(apart).mean((1, 2, 3)).tolist()


@pytest.mark.parametrize(
    ("rows", "cols", "patch_size", "num_frames", "min_psnr"),
    [
        (1, 1, 4, (3, 2), 28),
        (1, 1, 6, (2,), 26),
        (1, 2, 4, (2, 1), 25),
        (2, 1, 8, (1,), 24),
        (2, 2, 4, (1,), 23),
        (1, 1, 14, (1,), 24),
        (1, 1, 16, (1,), 24),
    ],
)
def test_greedy_is_the_naive_greedy(
    rows: int,
    cols: int,
    patch_size: int,
    num_frames: tuple[int, ...],
    min_psnr: float,
    make_clips: Callable[..., ClipBatch],
    naive_greedy: Callable[..., list[list[int]]],
) -> None:
    """Greedy makes the very choices, in order, of painting a whole frame for every candidate."""
    clips = make_clips(Grid(rows=rows, cols=cols, patch_size=patch_size), num_frames)
    selections = choose(Greedy(), clips, min_psnr=min_psnr)
    for clip, selection in enumerate(selections):
        expected = naive_greedy(clips, clip, min_psnr=min_psnr)
        assert sum(map(len, expected)) > len(expected)
        assert expected == choices_of(selection, clips.grid)


def test_ties_go_to_the_lowest_choice() -> None:
    """Of equally good patches the first in order of (tile, tile id) is taken."""
    frames = torch.full((1, 1, 3, 56, 112), 255, dtype=torch.uint8)
    grid = Grid(rows=1, cols=2, patch_size=4)
    clips = ClipBatch(frames_BT3HW=frames, num_frames=(1,), names=("white",), grid=grid)
    [selection] = choose(Greedy(), clips, min_psnr=60)
    assert choices_of(selection, grid) == [[0, 1, 2, 3, 265, 266, 267, 268]]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(min_psnr=st.floats(10, 60), seed=st.integers(0, 99))
@each_selector
def test_the_bound_holds(
    selector: Selector, min_psnr: float, seed: int, make_clips: Callable[..., ClipBatch]
) -> None:
    """Whatever the selector and the bound, every frame of every clip meets it."""
    clips = make_clips(SMALL, (2, 1), seed=seed)
    for selection in choose(selector, clips, min_psnr=min_psnr):
        assert selection.psnr_T.min() >= min_psnr


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(min_psnr=st.floats(10, 35), seed=st.integers(0, 99))
@each_selector
def test_the_bound_holds_for_what_is_read(
    selector: Selector, min_psnr: float, seed: int, make_clips: Callable[..., ClipBatch]
) -> None:
    """With a lossy codec, the canvas painted from what it gives back meets the bound."""
    clips = make_clips(SMALL, (2,), seed=seed)
    [selection] = choose(selector, clips, min_psnr=min_psnr, as_read=lossy)
    psnr, l1 = psnr_and_l1(selection, clips, 0, patches=selection.patches_KPP3 // 8 * 8 + 4)
    assert min(psnr) >= min_psnr
    np.testing.assert_allclose(psnr, selection.psnr_T, rtol=1e-12)
    np.testing.assert_allclose(l1, selection.l1_T, rtol=1e-12)


def test_a_bound_beyond_the_codec(make_clips: Callable[..., ClipBatch]) -> None:
    """A bound that a lossy codec cannot reach ends the search, and the stored PSNR says so."""
    clips = make_clips(SMALL, (1,))
    [selection] = choose(Greedy(), clips, min_psnr=60, as_read=lossy)
    assert 36 < selection.psnr_T[0] < 60


@each_selector
def test_the_stored_error_is_what_a_reader_finds(
    selector: Selector, make_clips: Callable[..., ClipBatch]
) -> None:
    """PSNR and L1 of each frame are those of repainting the tokens."""
    clips = make_clips(Grid(rows=1, cols=2, patch_size=6), (3, 2))
    for clip, selection in enumerate(choose(selector, clips, min_psnr=27)):
        psnr, l1 = psnr_and_l1(selection, clips, clip)
        np.testing.assert_allclose(psnr, selection.psnr_T, rtol=1e-12)
        np.testing.assert_allclose(l1, selection.l1_T, rtol=1e-12)


@pytest.mark.parametrize("num_threads", [1, 2])
@each_selector
def test_the_batch_does_not_matter(
    selector: Selector, num_threads: int, make_clips: Callable[..., ClipBatch]
) -> None:
    """A clip's selection is the same to the bit alone, beside others, in any order and thread count."""
    grid = Grid(rows=1, cols=2, patch_size=4)
    clips = make_clips(grid, (3, 1, 2))
    order = [2, 0, 1]
    shuffled = ClipBatch(
        frames_BT3HW=clips.frames_BT3HW[order],
        num_frames=tuple(clips.num_frames[b] for b in order),
        names=tuple(clips.names[b] for b in order),
        grid=grid,
    )
    alone = [choose(selector, clips.part(range(b, b + 1)), min_psnr=26)[0] for b in range(3)]
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        together = choose(selector, clips, min_psnr=26)
        mixed = choose(selector, shuffled, min_psnr=26)
    finally:
        torch.set_num_threads(before)
    for b in range(3):
        assert_same(alone[b], together[b])
        assert_same(alone[order[b]], mixed[b])


def test_what_lies_past_a_clips_end_is_ignored(make_clips: Callable[..., ClipBatch]) -> None:
    """Padding frames of a clip shorter than its neighbours leave no trace."""
    clips = make_clips(SMALL, (3, 1))
    expected = choose(Greedy(), clips, min_psnr=30)[1]
    clips.frames_BT3HW[1, 1:] = 255
    assert_same(expected, choose(Greedy(), clips, min_psnr=30)[1])
    assert len(expected.tokens_T) == 1


def test_a_repeated_frame_costs_nothing(make_clips: Callable[..., ClipBatch]) -> None:
    """A frame that equals its predecessor needs no token under greedy."""
    clips = make_clips(SMALL, (3,))
    clips.frames_BT3HW[:, 1:] = clips.frames_BT3HW[:, :1]
    [selection] = choose(Greedy(), clips, min_psnr=34)
    assert selection.tokens_T[0] > 0
    assert selection.tokens_T[1:].tolist() == [0, 0]
    assert selection.psnr_T[0] == selection.psnr_T[2]


def test_a_lower_bound_is_a_prefix_of_the_first_frame(make_clips: Callable[..., ClipBatch]) -> None:
    """Greedy's choices for a looser bound are the first of those for a tighter one."""
    clips = make_clips(SMALL, (1,))
    loose, tight = (
        choices_of(choose(Greedy(), clips, min_psnr=min_psnr)[0], SMALL)[0] for min_psnr in (22, 32)
    )
    assert len(loose) < len(tight)
    assert loose == tight[: len(loose)]


def test_losses_of_greedy_fall(make_clips: Callable[..., ClipBatch]) -> None:
    """The loss before each token is minus the frame's PSNR in dB, and falls to the bound."""
    clips = make_clips(SMALL, (1,))
    [selection] = choose(Greedy(), clips, min_psnr=30)
    frame = clips.frames_BT3HW[0, 0].numpy().astype(np.float64)
    psnr = 10 * np.log10(255**2 / ((frame - 128) ** 2).mean())
    assert selection.loss[0] == pytest.approx(-psnr, rel=1e-6)
    assert np.all(np.diff(selection.loss) < 0)
    assert selection.loss[-1] > -30


def test_tokens_are_in_gaze_order(make_clips: Callable[..., ClipBatch]) -> None:
    """Frames never fall, ranks count from 0 inside each tile and frame, no place comes twice."""
    grid = Grid(rows=2, cols=2, patch_size=4)
    clips = make_clips(grid, (3,))
    [selection] = choose(Greedy(), clips, min_psnr=28)
    assert np.all(np.diff(selection.frame.astype(int)) >= 0)
    places = (x.astype(np.int64) for x in (selection.scale, selection.row, selection.col))
    tile, _ = grid.to_tile(*places)
    for t in range(3):
        for g in range(4):
            ranks = selection.rank[(selection.frame == t) & (tile == g)]
            assert list(range(len(ranks))) == ranks.tolist()
    for frame in choices_of(selection, grid):
        assert len(frame) == len(set(frame))


def test_patches_are_cut_from_the_frame(make_clips: Callable[..., ClipBatch]) -> None:
    """The stored finest patches are the pixels at their places, whatever a codec would make of them."""
    clips = make_clips(SMALL, (2,))
    [selection] = choose(All(), clips, as_read=lossy)
    frames = clips.frames_BT3HW[0].numpy()
    for token in (0, 77, 195, 196, 391):
        t, r, c = (int(x[token]) for x in (selection.frame, selection.row, selection.col))
        expected = frames[t, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].transpose(1, 2, 0)
        np.testing.assert_array_equal(expected, selection.patches_KPP3[token])


class Fixed:
    """A selector that proposes given choices for every frame."""

    name = "greedy"
    stops_at_bound = False

    def __init__(self, choices: list[int]) -> None:
        self.proposal = Proposal(
            choices=np.array(choices), losses=np.linspace(1, 0.5, len(choices), dtype=np.float32)
        )

    def settings(self) -> dict[str, Any]:
        """Return nothing of interest."""
        return {}

    def begin(self, clips: ClipBatch) -> Listed:
        """Propose the given choices."""
        return Listed(proposals=[[self.proposal] * num for num in clips.num_frames])


def test_a_proposal_is_taken_whole(make_clips: Callable[..., ClipBatch]) -> None:
    """Without a bound the tokens are the proposal, in its order, with its losses."""
    clips = make_clips(SMALL, (2,))
    [selection] = choose(Fixed([100, 2, 30]), clips)
    assert choices_of(selection, SMALL) == [[100, 2, 30]] * 2
    assert selection.loss.tolist() == [1, 0.75, 0.5] * 2


def test_the_top_up_follows_the_proposal(make_clips: Callable[..., ClipBatch]) -> None:
    """With a bound the proposal comes first and greedy choices follow; without need none do."""
    clips = make_clips(SMALL, (1,))
    [selection] = choose(Fixed([100, 2, 30]), clips, min_psnr=30)
    chosen = choices_of(selection, SMALL)[0]
    assert chosen[:3] == [100, 2, 30]
    assert len(chosen) > 3
    [selection] = choose(Fixed([100, 2, 30]), clips, min_psnr=10)
    assert choices_of(selection, SMALL) == [[100, 2, 30]]


def test_ordered_selectors_stop_at_the_bound(make_clips: Callable[..., ClipBatch]) -> None:
    """`random` without a ratio takes its order one by one and stops as soon as the bound holds."""
    clips = make_clips(SMALL, (1,))
    [selection] = choose(Random(), clips, min_psnr=25)
    [[proposal]] = Random().begin(clips).proposals
    num = len(selection.frame)
    assert proposal.choices[:num].tolist() == choices_of(selection, SMALL)[0]
    one_less = choose(Fixed(proposal.choices[: num - 1].tolist()), clips)[0]
    assert one_less.psnr_T[0] < 25 <= selection.psnr_T[0]


class Witness:
    """Random's order, taken one by one; what it is shown is kept."""

    name = "random"

    def __init__(self, *, stops_at_bound: bool) -> None:
        self.stops_at_bound = stops_at_bound
        self.shown: dict[tuple[int, int], Tensor] = {}

    def settings(self) -> dict[str, Any]:
        """Return nothing of interest."""
        return {}

    def begin(self, clips: ClipBatch) -> "Witness":
        """Draw the orders."""
        self.listed = Random().begin(clips)
        return self

    def propose(
        self, number: int, *, rows: Sequence[int], canvas_BG3SS: Tensor
    ) -> Sequence[Proposal]:
        """Remember the canvases, and propose."""
        for row, canvas_G3SS in zip(rows, canvas_BG3SS, strict=True):
            self.shown[row, number] = canvas_G3SS.clone()
        return self.listed.propose(number, rows=rows, canvas_BG3SS=canvas_BG3SS)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_proposer_sees_the_painting_so_far(
    num_threads: int, make_clips: Callable[..., ClipBatch]
) -> None:
    """It is asked for each frame of each clip once, with the tiles of what a reader has painted by then."""
    grid = Grid(rows=1, cols=2, patch_size=4)
    clips = make_clips(grid, (3, 1, 2))
    witness = Witness(stops_at_bound=True)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        selections = choose(witness, clips, min_psnr=26)
    finally:
        torch.set_num_threads(before)
    assert {(b, t) for b, num in enumerate((3, 1, 2)) for t in range(num)} == witness.shown.keys()
    for clip, selection in enumerate(selections):
        painted = repainted(selection, clips, clip)
        canvases = torch.cat((torch.full_like(painted[:1], 128), painted[:-1]))
        for t, expected in enumerate(split_tiles(canvases, grid)):
            assert torch.equal(expected, witness.shown[clip, t])


def test_a_frame_that_meets_the_bound_is_not_asked_about(
    make_clips: Callable[..., ClipBatch],
) -> None:
    """With choices that end at the bound, still frames are not proposed for; otherwise every frame is."""
    clips = make_clips(SMALL, (3, 3))
    clips.frames_BT3HW[0, 1:] = clips.frames_BT3HW[0, :1]
    stopping, taking = Witness(stops_at_bound=True), Witness(stops_at_bound=False)
    [still, moving] = choose(stopping, clips, min_psnr=28)
    assert {(0, 0), (1, 0), (1, 1), (1, 2)} == stopping.shown.keys()
    assert still.tokens_T[1:].tolist() == [0, 0]
    assert moving.tokens_T.min() > 0
    choose(taking, clips, min_psnr=28)
    assert len(taking.shown) == 6
    unbound = Witness(stops_at_bound=True)
    choose(unbound, clips)
    assert len(unbound.shown) == 6
