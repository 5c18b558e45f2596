"""Small clips, and greedy selection as it would be explained: all pixels for every candidate."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gazepack.geometry import TILE_TOKENS, Grid
from gazepack.patches import MID_GREY, max_sum_of_squares, pyramid
from gazepack.selectors import ClipBatch

MakeClips = Callable[..., ClipBatch]
NaiveGreedy = Callable[..., list[list[int]]]
Image = npt.NDArray[np.int32]
Block = tuple[int, int, int, Image]


def make_clips_of(grid: Grid, num_frames: tuple[int, ...], *, seed: int = 0) -> ClipBatch:
    """Return clips of a soft background, a sharp moving square and a little noise."""
    side = 14 * grid.patch_size // 4
    longest, h, w = max(num_frames), grid.height, grid.width
    frames = np.zeros((len(num_frames), longest, 3, h, w), dtype=np.uint8)
    y, x = np.mgrid[:h, :w] / (14 * grid.patch_size)
    for b in range(len(num_frames)):
        rng = np.random.default_rng([seed, b])
        a = rng.uniform(1, 6, (3, 2, 1, 1))
        soft = 128 + 60 * np.sin(a[:, 0] * x + b) * np.cos(a[:, 1] * y)
        square = rng.integers(0, 256, (3, side, side))
        for t in range(longest):
            picture = soft + rng.normal(0, 2, soft.shape)
            top, left = (3 * t + 5 * b) % (h - side), (7 * t) % (w - side)
            picture[:, top : top + side, left : left + side] = square
            frames[b, t] = np.clip(picture, 0, 255).astype(np.uint8)
    return ClipBatch(
        frames_BT3HW=torch.from_numpy(frames),
        num_frames=num_frames,
        names=tuple(f"video-{seed}/{b}" for b in range(len(num_frames))),
        grid=grid,
    )


@pytest.fixture
def make_clips() -> MakeClips:
    """Make a batch of clips: `make_clips(grid, num_frames, seed=)`."""
    return make_clips_of


class _Naive:
    """Greedy painting of one clip, a whole frame of pixels for every question."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.canvas: Image = np.full((3, grid.height, grid.width), MID_GREY, dtype=np.int32)

    def frame(self, target: torch.Tensor, *, most: int) -> list[int]:
        """Choose until the summed squared error is at most `most`; return the choices in order."""
        blocks = [self._block(target, choice) for choice in range(self.grid.num_choices)]
        goal = target.numpy().astype(np.int32)
        chosen: list[int] = []
        while _error(goal, self._painted(blocks, chosen)) > most:
            errors = [
                _error(goal, self._painted(blocks, [*chosen, choice]))
                for choice in range(self.grid.num_choices)
            ]
            chosen.append(int(np.argmin(errors)))
        self.canvas = self._painted(blocks, chosen)
        return chosen

    def _block(self, target: torch.Tensor, choice: int) -> Block:
        """Return the scale of a choice, its top and left pixel, and what it paints there."""
        place = self.grid.from_tile(choice // TILE_TOKENS, np.array(choice % TILE_TOKENS))
        scale, row, col = (int(x) for x in place)
        p = self.grid.patch_size
        q = p * 14 // (2, 4, 7, 14)[scale]
        level = pyramid(target[None])[scale][0].numpy().astype(np.int64)
        patch = level[:, row * p : (row + 1) * p, col * p : (col + 1) * p]
        return scale, row * q, col * q, _enlarged(patch, q).astype(np.int32)

    def _painted(self, blocks: list[Block], chosen: list[int]) -> Image:
        """Paint the chosen patches over the canvas, coarse to fine."""
        shown = self.canvas.copy()
        for _, top, left, block in sorted(
            (blocks[choice] for choice in chosen), key=lambda x: x[0]
        ):
            shown[:, top : top + block.shape[1], left : left + block.shape[2]] = block
        return shown


def _error(goal: Image, shown: Image) -> int:
    """Sum the squared differences of all pixels."""
    apart = (goal - shown).ravel()
    return int(np.dot(apart, apart))


def _enlarged(patch: npt.NDArray[np.int64], q: int) -> npt.NDArray[np.int64]:
    """Interpolate a patch to q x q pixels in whole numbers, rounded half up."""
    p = patch.shape[1]
    at = np.clip((2 * np.arange(q) + 1) * p - q, 0, (p - 1) * 2 * q)  # in steps of 1 / 2q
    low = np.minimum(at // (2 * q), p - 2)
    high = at - 2 * q * low
    rows = patch[:, low] * (2 * q - high)[:, None] + patch[:, low + 1] * high[:, None]
    sums = rows[:, :, low] * (2 * q - high) + rows[:, :, low + 1] * high
    return (2 * sums + 4 * q * q) // (2 * 4 * q * q)


@pytest.fixture
def naive_greedy() -> NaiveGreedy:
    """Choose for one clip, slowly: `naive_greedy(clips, clip, min_psnr=)` gives choices per frame."""

    def choose_slowly(clips: ClipBatch, clip: int, *, min_psnr: float) -> list[list[int]]:
        naive = _Naive(clips.grid)
        most = max_sum_of_squares(min_psnr, naive.canvas.size)
        frames = clips.frames_BT3HW[clip, : clips.num_frames[clip]]
        return [naive.frame(frame, most=most) for frame in frames]

    return choose_slowly
