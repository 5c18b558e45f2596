"""Picking tile by tile beside each other against picking in order, and against painting everything."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from gazepack.geometry import TILE_TOKENS, Grid
from gazepack.patches import max_sum_of_squares, split_tiles
from gazepack.selectors import ClipBatch, Greedy, Selection, choose, tiles
from gazepack.selectors.device_lattice import DeviceLattice
from gazepack.selectors.lattice import Lattice, Picks
from gazepack.selectors.tiles import FrameTiles

CASES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
Errors = npt.NDArray[np.float64]


def both(errors_BGEYX: Errors) -> tuple[Lattice, DeviceLattice]:
    """Return the same frames twice."""
    errors_NEYX = torch.from_numpy(errors_BGEYX).flatten(0, 1)
    return (
        Lattice(errors_BGEYX[:, :, 0], errors_BGEYX[:, :, 1:]),
        DeviceLattice(errors_NEYX, num_frames=len(errors_BGEYX)),
    )


def by_frame(picks: Picks, num_frames: int) -> list[list[tuple[int, float]]]:
    """Return choices and the errors before them, frame by frame."""
    found: list[list[tuple[int, float]]] = [[] for _ in range(num_frames)]
    for frame, choice, squares in zip(*(part.tolist() for part in picks), strict=True):
        found[frame].append((choice, squares))
    return found


def assert_same_course(errors_BGEYX: Errors, order_BJ: npt.NDArray[np.int64], bound: int) -> int:
    """Let both take given choices and top up; compare all they say; return how much was topped up."""
    answers = []
    for lattice in both(errors_BGEYX):
        given = by_frame(lattice.pick_until(order_BJ, bound), len(errors_BGEYX))
        between = lattice.sum_of_squares_B.tolist()
        topped = by_frame(lattice.top_up(bound), len(errors_BGEYX))
        answers.append((given, between, topped, lattice.sum_of_squares_B.tolist()))
    assert answers[0] == answers[1]
    return sum(map(len, answers[1][2]))


@CASES
@given(
    seed=st.integers(0, 2**32 - 1),
    num_frames=st.integers(1, 3),
    num_tiles=st.integers(1, 3),
    largest=st.sampled_from([1, 3, 1000, 3 * 32 * 32 * 255**2]),
    wanted=st.floats(0, 1),
    num_given=st.integers(0, 60),
)
def test_any_errors(seed, num_frames, num_tiles, largest, wanted, num_given):
    """Choices, their order, errors before each and at the end are those of the host's, ties and all."""
    rng = np.random.default_rng(seed)
    shape = num_frames, num_tiles, 5, 28, 28
    errors_BGEYX = rng.integers(0, largest + 1, shape).astype(np.float64)
    order_BJ = np.stack(
        [rng.permutation(num_tiles * TILE_TOKENS)[:num_given] for _ in range(num_frames)]
    )
    lengths_B1 = rng.integers(0, num_given + 1, (num_frames, 1))
    order_BJ[np.arange(num_given) >= lengths_B1] = -1
    bound = int(errors_BGEYX[:, :, 0].sum((1, 2, 3)).mean() * wanted)
    assert_same_course(errors_BGEYX, order_BJ, bound)


def frames_of(kind: str, grid: Grid, num: int, seed: int) -> torch.Tensor:
    """Return frames B x 3 x H x W of a kind."""
    rng = np.random.default_rng(seed)
    shape = num, 3, grid.height, grid.width
    made = {
        "random": lambda: rng.integers(0, 256, shape),
        "flat": lambda: np.broadcast_to(rng.integers(0, 256, (num, 3, 1, 1)), shape),
        "extreme": lambda: 255 * rng.integers(0, 2, shape),
        "repeated": lambda: np.broadcast_to(rng.integers(0, 256, shape[2:]), shape),
        "half grey": lambda: (
            np.where(np.arange(grid.width) < grid.width // 2, 128, 200) + np.zeros(shape)
        ),
    }[kind]()
    return torch.from_numpy(np.ascontiguousarray(made).astype(np.uint8))


@CASES
@given(
    kind=st.sampled_from(["random", "flat", "extreme", "repeated", "half grey"]),
    patch_size=st.sampled_from([4, 6, 14, 16]),
    cols=st.integers(1, 2),
    min_psnr=st.floats(8, 60),
    seed=st.integers(0, 99),
)
def test_any_frames(kind, patch_size, cols, min_psnr, seed):
    """Frames of every kind and patch size, at any bound: nothing given, then greedy to the end."""
    grid = Grid(rows=1, cols=cols, patch_size=patch_size)
    target = frames_of(kind, grid, 2, seed)
    canvas = frames_of("flat", grid, 2, seed + 1)
    split = [split_tiles(x, grid).flatten(0, 1) for x in (target, canvas)]
    measured = FrameTiles.of(*split, patch_size=patch_size, as_read=None)
    lattice = measured.lattice(num_frames=2)
    bound = max_sum_of_squares(min_psnr, 3 * grid.height * grid.width)
    nothing = np.zeros((2, 0), dtype=np.int64)
    assert_same_course(lattice.errors_BGEYX, nothing, bound)


def test_something_is_topped_up():
    """The comparison is of hundreds of choices, and more steps are asked for than one round of them."""
    rng = np.random.default_rng(0)
    errors_BGEYX = rng.integers(0, 1000, (2, 2, 5, 28, 28)).astype(np.float64)
    order_BJ = np.stack([rng.permutation(2 * TILE_TOKENS)[:20] for _ in range(2)])
    assert assert_same_course(errors_BGEYX, order_BJ, 600_000) > 150


def test_picking_all_at_once():
    """`pick_all` leaves the errors and the next choices that the host's leaves."""
    rng = np.random.default_rng(3)
    errors_BGEYX = rng.integers(0, 1000, (2, 2, 5, 28, 28)).astype(np.float64)
    flags_BGI = rng.random((2, 2, TILE_TOKENS)) < 0.1
    host, there = both(errors_BGEYX)
    host.pick_all(flags_BGI)
    there.pick_all(flags_BGI)
    assert host.sum_of_squares_B.tolist() == there.sum_of_squares_B.tolist()
    bound = int(host.sum_of_squares_B.min() * 0.9)
    assert by_frame(host.top_up(bound), 2) == by_frame(there.top_up(bound), 2)


def test_errors_given_are_left_alone():
    """The caller's tensor is not written to."""
    errors_NEYX = torch.randint(0, 1000, (1, 5, 28, 28))
    before = errors_NEYX.clone()
    DeviceLattice(errors_NEYX, num_frames=1).top_up(0)
    assert torch.equal(before, errors_NEYX)


def test_a_step_asks_the_device_nothing():
    """Picks run on tensors without values; whether to go on is the one thing that cannot."""
    lattice = DeviceLattice(torch.randint(0, 1000, (4, 5, 28, 28)), num_frames=2)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for name in ("_shown_NYX", "_painted_NSYX", "_level_NYX", "_gains_NI"):
            setattr(lattice, name, mode.from_tensor(getattr(lattice, name)))
        for name in ("_covered_IYX", "_scale_I", "_scales_S11"):
            setattr(lattice, name, mode.from_tensor(getattr(lattice, name)))
        for _ in range(3):
            step = lattice._pick_best()
        assert step.shape == (2, 4)
        with pytest.raises(DataDependentOutputException):
            bool((step > 0).any())


def greedily(clips: ClipBatch) -> list[Selection]:
    return choose(Greedy(), clips, min_psnr=25)


def test_frames_on_an_accelerator_are_chosen_for_there(
    make_clips: Callable[..., ClipBatch],
    naive_greedy: Callable[..., list[list[int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Greedy on an accelerator never asks the host's lattice, and its selections are equal to the bit."""
    clips = make_clips(Grid(rows=1, cols=2, patch_size=4), (2, 1))
    expected = greedily(clips)
    monkeypatch.setattr(tiles, "is_accelerator", lambda _: True)
    monkeypatch.setattr(FrameTiles, "lattice", None)
    actual = greedily(clips)
    for a, b in zip(expected, actual, strict=True):
        for name in Selection.__dataclass_fields__:
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name
    for clip, selection in enumerate(actual):
        places = (getattr(selection, name).astype(int) for name in ("scale", "row", "col"))
        tile, ids = clips.grid.to_tile(*places)
        naive = [choice for frame in naive_greedy(clips, clip, min_psnr=25) for choice in frame]
        assert naive == (tile * TILE_TOKENS + ids).tolist()
