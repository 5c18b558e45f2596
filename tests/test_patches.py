"""Pyramid, cutting, painting and errors, against exact arithmetic done slowly."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from gazepack.geometry import SCALE_SIDES, TILE_SIDE, Grid
from gazepack.patches import (
    MAX_PSNR,
    MID_GREY,
    Canvas,
    _divide,
    absolute_errors,
    cell_errors,
    cut,
    enlarge,
    from_patches,
    max_sum_of_squares,
    paint,
    psnr,
    pyramid,
    repaint,
    split_tiles,
    to_patches,
)

PATCH_SIZES = [4, 6, 8, 14, 16]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return uint8 noise."""
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return torch.from_numpy(values)


def round_half_up(value: Fraction) -> int:
    """Return the nearest whole number, halves up."""
    return int((value + Fraction(1, 2)) // 1)


def area_weights(side: int, size: int) -> list[list[Fraction]]:
    """Return how much of each of `size` values falls into each of `side` equal parts."""
    width = Fraction(size, side)
    return [
        [
            max(Fraction(0), min((i + 1) * width, Fraction(j + 1)) - max(i * width, Fraction(j)))
            / width
            for j in range(size)
        ]
        for i in range(side)
    ]


def linear_weights(q: int, p: int) -> list[list[Fraction]]:
    """Return the weights of linear interpolation from p to q samples at pixel centres."""
    weights = [[Fraction(0)] * p for _ in range(q)]
    for i in range(q):
        at = min(
            max((Fraction(2 * i + 1, 2)) * p / q - Fraction(1, 2), Fraction(0)), Fraction(p - 1)
        )
        low = min(int(at), p - 2)
        weights[i][low] += 1 - (at - low)
        weights[i][low + 1] += at - low
    return weights


def apply_exactly(weights: list[list[Fraction]], values: npt.NDArray[np.uint8]) -> list[list[int]]:
    """Apply weights to both sides of a square of values, in rational arithmetic."""
    unit = int(np.lcm.reduce([w.denominator for row in weights for w in row]))
    whole = np.array([[int(w * unit) for w in row] for row in weights], dtype=object)
    sums = whole @ values.astype(object) @ whole.T
    return [[round_half_up(Fraction(int(x), unit * unit)) for x in row] for row in sums]


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_pyramid_is_the_exact_area_average(patch_size: int) -> None:
    """Each value is the average of the area under it, rounded half up, to the last bit."""
    size = TILE_SIDE * patch_size
    frame = noise(1, 3, size, size, seed=patch_size)
    levels = pyramid(frame)
    for side, level in zip(SCALE_SIDES, levels, strict=True):
        weights = area_weights(side * patch_size, size)
        assert apply_exactly(weights, frame[0, 1].numpy()) == level[0, 1].tolist()


def test_pyramid_rounds_half_up() -> None:
    """A mean of exactly one half goes up."""
    frame = torch.zeros(1, 3, 56, 56, dtype=torch.uint8)
    frame[..., 0::2, 0::2] = 2
    assert torch.all(pyramid(frame)[2] == 1)


@given(st.integers(0, 255))
@settings(max_examples=20)
def test_a_flat_frame_stays_flat(value: int) -> None:
    """A frame of one value keeps it at every scale, and painted back."""
    frame = torch.full((1, 3, 56, 56), value, dtype=torch.uint8)
    for s, level in enumerate(pyramid(frame)):
        assert torch.all(level == value)
        assert torch.equal(frame, enlarge(level, s, 4))


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
@pytest.mark.parametrize("scale", [0, 1, 2])
def test_enlarging_is_exact(scale: int, patch_size: int) -> None:
    """Painting is bilinear interpolation of each patch alone, rounded half up, to the last bit."""
    p, side = patch_size, SCALE_SIDES[scale]
    level = noise(1, 3, side * p, side * p, seed=scale)
    q = TILE_SIDE * p // side
    painted = enlarge(level, scale, p)
    weights = linear_weights(q, p)
    for row, col in [(0, 0), (side - 1, 1)]:
        patch = level[0, 2, row * p : (row + 1) * p, col * p : (col + 1) * p]
        block = painted[0, 2, row * q : (row + 1) * q, col * q : (col + 1) * q]
        assert apply_exactly(weights, patch.numpy()) == block.tolist()


@pytest.mark.parametrize("patch_size", [4, 14, 16])
@pytest.mark.parametrize("scale", [0, 1, 2, 3])
def test_enlarging_is_torchs_bilinear(scale: int, patch_size: int) -> None:
    """What users know as `interpolate(mode="bilinear")` gives the same within one step."""
    patches = noise(5, 3, patch_size, patch_size, seed=scale)
    q = TILE_SIDE * patch_size // SCALE_SIDES[scale]
    theirs = functional.interpolate(
        patches.float(), size=(q, q), mode="bilinear", align_corners=False
    )
    apart = (enlarge(patches, scale, patch_size).float() - theirs).abs()
    assert apart.max() <= 0.51  # theirs is not rounded


def test_division_is_exact_for_every_sum() -> None:
    """No sum that can occur is rounded wrongly: all 49 * 4 * 255 of them, by whole numbers."""
    for denominator in (4, 16, 49, 196):
        sums = torch.arange(denominator * 255 + 1)
        expected = (2 * sums + denominator) // (2 * denominator)
        assert torch.equal(expected.float(), _divide(sums.float(), denominator))


@pytest.mark.parametrize("scale", [0, 1, 2, 3])
def test_patches_go_together_again(scale: int) -> None:
    """`from_patches` undoes `to_patches`."""
    side = SCALE_SIDES[scale]
    level = noise(2, 3, side * 6, 2 * side * 6)
    patches = to_patches(level, 6)
    assert (2, side, 2 * side, 6, 6, 3) == patches.shape
    assert torch.equal(level, from_patches(patches))


def test_cut_takes_the_right_pixels() -> None:
    """A patch is the square of pixels at its place, in the order asked."""
    levels = pyramid(noise(2, 3, 56, 112))
    frame, scale, row, col = (
        torch.tensor(x) for x in ([1, 0, 1, 0], [3, 0, 2, 1], [13, 1, 0, 3], [27, 3, 13, 0])
    )
    patches = cut(levels, frame=frame, scale=scale, row=row, col=col, patch_size=4)
    for n, s, r, c, patch in zip(frame, scale, row, col, patches, strict=True):
        expected = levels[s][n, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
        assert torch.equal(expected.permute(1, 2, 0), patch)


def test_split_tiles_are_row_major() -> None:
    """Tile number r * C + c is the square of pixels at (r, c)."""
    grid = Grid(rows=2, cols=3, patch_size=4)
    frames = noise(2, 3, grid.height, grid.width)
    tiles = split_tiles(frames, grid)
    for r in range(2):
        for c in range(3):
            expected = frames[:, :, 56 * r : 56 * r + 56, 56 * c : 56 * c + 56]
            assert torch.equal(expected, tiles[:, 3 * r + c])


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_all_finest_patches_give_the_frame(patch_size: int) -> None:
    """Cutting every patch at the finest scale and painting it back is the fitted frame exactly."""
    grid = Grid(rows=1, cols=2, patch_size=patch_size)
    frame = noise(1, 3, grid.height, grid.width)
    scale, row, col = (torch.from_numpy(x) for x in grid.places(np.arange(grid.num_choices)))
    at = scale == 3
    where = {"scale": scale[at], "row": row[at], "col": col[at]}
    zeros = torch.zeros(int(at.sum()), dtype=torch.int64)
    patches = cut(pyramid(frame), frame=zeros, patch_size=patch_size, **where)
    canvas = Canvas(grid)
    canvas.paint(patches, **where)
    assert torch.equal(frame[0], canvas.pixels_3HW)


def test_a_coarse_patch_never_covers_a_finer_one() -> None:
    """Whatever the order they come in, finer patches end on top."""
    grid = Grid(rows=1, cols=1, patch_size=4)
    patches = torch.stack([torch.full((4, 4, 3), v, dtype=torch.uint8) for v in (10, 20, 30)])
    canvas = Canvas(grid)
    place = torch.tensor([0, 0, 0])
    canvas.paint(patches, scale=torch.tensor([3, 0, 2]), row=place, col=place)
    pixels = canvas.pixels_3HW[0]
    assert pixels[3, 3] == 10
    assert pixels[7, 7] == 30
    assert pixels[8, 8] == 20
    assert pixels[27, 27] == 20
    assert pixels[28, 28] == MID_GREY


def test_painting_many_canvases_is_painting_each() -> None:
    """`paint` over several canvases at once is `Canvas` one by one."""
    grid = Grid(rows=1, cols=1, patch_size=6)
    rng = np.random.default_rng(5)
    frame = torch.from_numpy(np.repeat(np.arange(3), 40))
    ids = np.concatenate([rng.permutation(265)[:40] for _ in range(3)])
    scale, row, col = (torch.from_numpy(x) for x in grid.places(ids))
    patches = noise(120, 6, 6, 3)
    together = torch.full((3, 3, 84, 84), MID_GREY, dtype=torch.uint8)
    paint(together, patches, frame=frame, scale=scale, row=row, col=col)
    for n in range(3):
        at, canvas = frame == n, Canvas(grid)
        canvas.paint(patches[at], scale=scale[at], row=row[at], col=col[at])
        assert torch.equal(canvas.pixels_3HW, together[n])


def test_repaint_starts_anew_at_each_clip() -> None:
    """The canvas goes on from frame to frame and is grey again at the start of a clip."""
    grid = Grid(rows=1, cols=1, patch_size=4)
    patches = np.full((1, 4, 4, 3), 9, dtype=np.uint8)
    one = np.zeros(1, dtype=np.uint16)
    frames = list(
        repaint(
            patches, frame=one, scale=one, row=one, col=one, grid=grid, num_frames=4, clip_frames=3
        )
    )
    assert [int(frame[0, 0, 0]) for frame in frames] == [9, 9, 9, MID_GREY]


@pytest.mark.parametrize("patch_size", [4, 14, 64])
def test_cell_errors_are_exact(patch_size: int) -> None:
    """Squared errors per half patch are those of whole-number arithmetic, even at the extremes."""
    size, half = TILE_SIDE * patch_size, patch_size // 2
    target, painted = noise(2, 3, size, size), noise(2, 3, size, size, seed=1)
    target[0], painted[0] = 0, 255
    squares = (target.numpy().astype(np.int64) - painted.numpy()) ** 2
    expected = squares.reshape(2, 3, 28, half, 28, half).sum((1, 3, 5))
    np.testing.assert_array_equal(expected, cell_errors(target, painted, patch_size).numpy())


def test_absolute_errors_are_exact() -> None:
    """Summed absolute errors are those of whole-number arithmetic, even at the extremes."""
    target, painted = noise(2, 3, 896, 896), noise(2, 3, 896, 896, seed=1)
    target[0], painted[0] = 0, 255
    expected = np.abs(target.numpy().astype(np.int64) - painted.numpy()).sum((1, 2, 3))
    np.testing.assert_array_equal(expected, absolute_errors(target, painted).numpy())


def test_psnr_is_numpys() -> None:
    """PSNR is 10 log10 of 255 squared over the mean squared error."""
    a, b = (noise(3, 20, 20, seed=seed).numpy().astype(np.float64) for seed in (0, 1))
    expected = 10 * np.log10(255**2 / np.mean((a - b) ** 2))
    assert expected == pytest.approx(psnr(float(((a - b) ** 2).sum()), a.size))


def test_psnr_of_no_error() -> None:
    """A frame without error has the highest PSNR there is, and a near miss no more."""
    assert psnr(0, 100) == MAX_PSNR
    assert psnr(1, 10**12) == MAX_PSNR


@given(st.floats(10, 60), st.integers(1, 10**8))
def test_max_sum_of_squares_is_the_border(min_psnr: float, num_values: int) -> None:
    """The largest allowed error reaches the bound; a larger one does not."""
    most = max_sum_of_squares(min_psnr, num_values)
    assert psnr(most, num_values) >= min_psnr - 1e-9
    assert psnr(most + 1, num_values) < min_psnr + 1e-9
