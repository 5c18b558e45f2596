"""Pixels: of a fitted frame, build the scale pyramid, cut patches, paint them back, measure the error.

    legend   N  frames, or tiles of frames    H, W  height and width of the fitted frame, in pixels
             s  scale, 0 (coarse) to 3        h, w  height and width of the frame at one scale
             p  side of a patch               q     side of the square that a patch is painted over
             K  patches                       Y, X  half patches down and across

Every step after the fit is exact integer arithmetic, so that a token costs and gains the same on
every machine, device and batch: downsizing is the area average (weights in 1/4, 1/49 and 1/196),
painting is bilinear (weights in 1/16, 1/196 and 1/49), both rounded half up. The sums stay below
2^24 and are therefore carried in float32 without loss (TF32 products must stay off, as torch has
them by default). What this gives up is a sharper filter; what it buys is the byte-identity that
resuming and verifying rest on.

Painting is the reconstruction that needs no network: a canvas starts mid-grey at each clip; at each
frame the chosen patches are painted over it, coarse to fine, each enlarged into its own place,
blind to its neighbours. Nothing crosses the border of a tile, so tiles may be handled one by one.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.geometry import FINEST, NUM_SCALES, SCALE_SIDES, TILE_SIDE, Grid

Pixels = npt.NDArray[np.uint8]

MID_GREY = 128
"""What a canvas holds before anything is painted."""
MAX_PSNR = 100.0
"""The PSNR, in dB, given to a frame without error, and the most that is given to any."""


def split_tiles(frames_N3HW: Tensor, grid: Grid) -> Tensor:
    """Split fitted frames into their tiles, row-major: N x RC x 3 x S x S, a copy."""
    side = TILE_SIDE * grid.patch_size
    shape = (-1, 3, grid.rows, side, grid.cols, side)
    return frames_N3HW.reshape(shape).permute(0, 2, 4, 1, 3, 5).flatten(1, 2).contiguous()


# ------------------------------------------------------------------------------------------ pyramid


def pyramid(frames_N3HW: Tensor) -> tuple[Tensor, ...]:
    """Downsize fitted frames to the four scales by exact area average.

    Args:
        frames_N3HW: uint8, the pixels of a grid.

    Returns:
        Four uint8 tensors N x 3 x h x w, coarse to fine; the last is `frames_N3HW` itself.
    """
    x = frames_N3HW.to(torch.float32)
    of_3_5 = _sum_halves_of_seven(_sum_halves_of_seven(x, 2), 3)
    return (
        _divide(_sum_pairs(of_3_5), 4 * 49).to(torch.uint8),
        _divide(of_3_5, 49).to(torch.uint8),
        _divide(_sum_pairs(x), 4).to(torch.uint8),
        frames_N3HW,
    )


def _sum_halves_of_seven(x: Tensor, dim: int) -> Tensor:
    """Sum each run of 7 along `dim` into its two halves of 3.5, counted in halves of a value."""
    a, b, c, d, e, f, g = torch.unflatten(x, dim, (-1, 7)).unbind(dim + 1)
    halves = torch.stack((2 * (a + b + c) + d, d + 2 * (e + f + g)), dim=dim + 1)
    return halves.flatten(dim, dim + 1)


def _sum_pairs(x: Tensor) -> Tensor:
    """Sum each 2 x 2 block of the last two dimensions."""
    x = x[..., 0::2, :] + x[..., 1::2, :]
    return x[..., 0::2] + x[..., 1::2]


def _divide(sums: Tensor, denominator: int) -> Tensor:
    """Divide whole numbers held in float32 and round half up; the result is whole, still float32.

    The added quarter keeps every quotient at least 1/784 away from a whole number, farther than the
    roundings of float32 can carry it (below 1/10000), so the floor is exact.
    """
    shift = (denominator // 2 + 0.25) / denominator
    return (sums * (1 / denominator)).add_(shift).floor_()


# -------------------------------------------------------------------------------- cutting, painting


def to_patches(level_N3hw: Tensor, patch_size: int) -> Tensor:
    """View one scale of N frames as its patches: N x rows x cols x p x p x 3, uint8."""
    p = patch_size
    rows_N3ypw = torch.unflatten(level_N3hw, 2, (-1, p))
    return torch.unflatten(rows_N3ypw, 4, (-1, p)).permute(0, 2, 4, 3, 5, 1)


def from_patches(patches: Tensor) -> Tensor:
    """Put patches N x rows x cols x p x p x 3 together to N x 3 x h x w; undoes `to_patches`."""
    return patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def cut(
    levels: Sequence[Tensor],
    *,
    frame: Tensor,
    scale: Tensor,
    row: Tensor,
    col: Tensor,
    patch_size: int,
) -> Tensor:
    """Cut patches out of a pyramid.

    Args:
        levels: what `pyramid` returned.
        frame: int64 K, counted along N.
        scale: int64 K.
        row: int64 K, over the whole grid.
        col: int64 K, over the whole grid.
        patch_size: side of a patch, in pixels.

    Returns:
        uint8 K x p x p x 3, in the order asked.
    """
    p = patch_size
    out = torch.empty((len(frame), p, p, 3), dtype=torch.uint8, device=levels[FINEST].device)
    for s, level in enumerate(levels):
        at = torch.nonzero(scale == s).squeeze(1)
        if len(at):
            out[at] = to_patches(level, p)[frame[at], row[at], col[at]]
    return out


def enlarge(level_N3hw: Tensor, scale: int, patch_size: int) -> Tensor:
    """Paint every patch of one scale into its place.

    Args:
        level_N3hw: uint8, the frames at that scale, or any number of patches of it.
        scale: 0..3.
        patch_size: side of a patch, in pixels.

    Returns:
        uint8 N x 3 x H x W.
    """
    if scale == FINEST:
        return level_N3hw
    return enlarge_whole(level_N3hw, scale, patch_size).to(torch.uint8)


def enlarge_whole(level_N3hw: Tensor, scale: int, patch_size: int) -> Tensor:
    """Do what `enlarge` does, and leave the values as whole numbers in float32."""
    if scale == FINEST:
        return level_N3hw.to(torch.float32)
    weights_qp, denominator = _bilinear(scale, patch_size)
    weights_qp = weights_qp.to(level_N3hw.device)
    num, _, h, w = level_N3hw.shape
    q, p = weights_qp.shape
    x = level_N3hw.to(torch.float32).reshape(-1, p) @ weights_qp.T
    x = x.view(-1, p, w // p * q)
    x = torch.bmm(weights_qp.expand(len(x), q, p), x)
    return _divide(x.view(num, 3, h // p * q, w // p * q), denominator)


@lru_cache(maxsize=64)
def _bilinear(scale: int, patch_size: int) -> tuple[Tensor, int]:
    """Return whole-number weights q x p that enlarge p values to q by linear interpolation.

    Also the denominator of the two passes together. Samples sit at pixel centres and the borders
    repeat, as with `align_corners=False`; only here no weight is ever rounded.
    """
    p, side, unit = patch_size, SCALE_SIDES[scale], 2 * TILE_SIDE
    q = p * TILE_SIDE // side
    # the centre of output i lies at ((2i + 1) p/q - 1) / 2 inputs, counted here in steps of 1/28
    at = ((2 * torch.arange(q) + 1) * side - TILE_SIDE).clamp(0, (p - 1) * unit)
    low = (at // unit).clamp(max=p - 2)
    part = at - low * unit
    weights = torch.zeros(q, p, dtype=torch.int64)
    weights[torch.arange(q), low] = unit - part
    weights[torch.arange(q), low + 1] = part
    common = math.gcd(unit, *weights.flatten().tolist())
    return (weights // common).to(torch.float32), (unit // common) ** 2


def paint(
    canvases_N3HW: Tensor,
    patches_KPP3: Tensor,
    *,
    frame: Tensor,
    scale: Tensor,
    row: Tensor,
    col: Tensor,
) -> None:
    """Paint patches over canvases, in place, coarse to fine.

    Args:
        canvases_N3HW: uint8.
        patches_KPP3: uint8, no place twice.
        frame: int64 K, counted along N.
        scale: int64 K.
        row: int64 K, counted over a whole canvas.
        col: int64 K, counted over a whole canvas.
    """
    p = patches_KPP3.shape[1]
    for s in range(NUM_SCALES):
        at = torch.nonzero(scale == s).squeeze(1)
        if len(at):
            blocks_K3QQ = enlarge(patches_KPP3[at].permute(0, 3, 1, 2), s, p)
            places = to_patches(canvases_N3HW, blocks_K3QQ.shape[3])
            places[frame[at], row[at], col[at]] = blocks_K3QQ.permute(0, 2, 3, 1)


class Canvas:
    """What a viewer who is shown only the chosen patches has seen so far, for one view.

    Args:
        grid: the view's grid.

    Attributes:
        pixels_3HW: uint8, the canvas.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.pixels_3HW: Tensor = torch.empty((3, grid.height, grid.width), dtype=torch.uint8)
        self.clear()

    def clear(self) -> None:
        """Make the canvas mid-grey, as it is at the start of each clip."""
        self.pixels_3HW.fill_(MID_GREY)

    def paint(self, patches_KPP3: Tensor, *, scale: Tensor, row: Tensor, col: Tensor) -> None:
        """Paint the patches of one frame, coarse to fine.

        Args:
            patches_KPP3: uint8.
            scale: int64 K.
            row: int64 K.
            col: int64 K.
        """
        canvas_13HW = self.pixels_3HW[None]
        frame = torch.zeros_like(scale)
        paint(canvas_13HW, patches_KPP3, frame=frame, scale=scale, row=row, col=col)


def repaint(
    patches_KPP3: Pixels,
    *,
    frame: npt.NDArray[np.integer],
    scale: npt.NDArray[np.integer],
    row: npt.NDArray[np.integer],
    col: npt.NDArray[np.integer],
    grid: Grid,
    num_frames: int,
    clip_frames: int,
) -> Iterator[Pixels]:
    """Paint the tokens of one view, frame by frame.

    Args:
        patches_KPP3: uint8, in any order of frames.
        frame: K, the frame of each.
        scale: K.
        row: K.
        col: K.
        grid: the view's grid.
        num_frames: how many frames to yield.
        clip_frames: after how many frames the canvas starts anew.

    Yields:
        uint8 H x W x 3, a new array for each frame.
    """
    canvas = Canvas(grid)
    order = np.argsort(frame, kind="stable")
    ends = np.searchsorted(frame[order], np.arange(num_frames + 1))
    places = [torch.from_numpy(x.astype(np.int64)) for x in (scale, row, col)]
    patches = torch.from_numpy(patches_KPP3)
    for number in range(num_frames):
        if number % clip_frames == 0:
            canvas.clear()
        at = torch.from_numpy(order[ends[number] : ends[number + 1]])
        s, r, c = (x[at] for x in places)
        canvas.paint(patches[at], scale=s, row=r, col=c)
        yield canvas.pixels_3HW.permute(1, 2, 0).numpy().copy()


# ------------------------------------------------------------------------------------------- errors


def cell_errors(target_N3HW: Tensor, painted_N3HW: Tensor, patch_size: int) -> Tensor:
    """Sum squared differences over the three colours of each half patch.

    Args:
        target_N3HW: values 0..255, uint8 or whole numbers in float32.
        painted_N3HW: the same.
        patch_size: side of a patch, in pixels.

    Returns:
        float64 N x Y x X of whole numbers, exact.
    """
    half = patch_size // 2
    squares = (target_N3HW.to(torch.float32) - painted_N3HW).square_()
    colours_NHW = squares[:, 0].add_(squares[:, 1]).add_(squares[:, 2])
    rows_NYW = torch.unflatten(colours_NHW, 1, (-1, half)).sum(2)  # at most 32 * 3 * 255^2
    return torch.unflatten(rows_NYW.to(torch.float64), 2, (-1, half)).sum(3)


def absolute_errors(target_N3HW: Tensor, painted_N3HW: Tensor) -> Tensor:
    """Sum absolute differences over each frame.

    Args:
        target_N3HW: uint8.
        painted_N3HW: uint8.

    Returns:
        float64 N of whole numbers, exact.
    """
    apart = (target_N3HW.to(torch.float32) - painted_N3HW).abs_()
    return apart.sum(3).to(torch.float64).sum((1, 2))  # a row is at most 2^16 pixels wide


def psnr(sum_of_squares: float, num_values: int) -> float:
    """Return the peak signal-to-noise ratio of 8-bit values, in dB, at most `MAX_PSNR`."""
    if sum_of_squares <= 0:
        return MAX_PSNR
    return min(MAX_PSNR, 10.0 * math.log10(255.0**2 * num_values / sum_of_squares))


def max_sum_of_squares(min_psnr: float, num_values: int) -> int:
    """Return the largest summed squared error of 8-bit values that still reaches `min_psnr` dB."""
    return math.floor(255.0**2 * num_values * math.pow(10.0, -min_psnr / 10.0))
