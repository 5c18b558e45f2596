"""From uint8 pixels to what the network reads.

    legend   B clips  T frames  3 RGB  H, W pixels

The published preprocessing: scale to -1..1, then normalise with ImageNet's mean and deviation, then
resize a tile of another side to 224 pixels, bicubic without antialiasing.
"""

import torch
from torch import Tensor
from torch.nn import functional

from gazepack.autogaze.config import INPUT_SIDE
from gazepack.errors import UsageError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def check_pixels(pixels_BT3HW: Tensor) -> None:
    """Refuse pixels that are not uint8 square RGB tiles of at least one frame.

    Raises:
        UsageError: the dtype or shape is wrong.
    """
    shape = tuple(pixels_BT3HW.shape)
    if pixels_BT3HW.dtype != torch.uint8:
        raise UsageError(
            f"pixels are {pixels_BT3HW.dtype}", remedy="give uint8 RGB values from 0 to 255"
        )
    if len(shape) != 5 or shape[2] != 3 or shape[3] != shape[4] or 0 in shape[1:]:
        raise UsageError(
            f"pixels have shape {shape}",
            remedy="give B x T x 3 x S x S, square tiles of RGB frames",
        )


def normalise(pixels_BT3HW: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uint8 pixels as the network's input, B x T x 3 x 224 x 224 of `dtype`."""
    mean_311, std_311 = (
        torch.tensor(values, device=pixels_BT3HW.device).view(3, 1, 1) for values in (MEAN, STD)
    )
    # one memory layout, whatever the caller's: kernels round differently for different strides
    x_BT3HW = (pixels_BT3HW.contiguous().float() / 127.5 - 1 - mean_311) / std_311
    if x_BT3HW.shape[-1] != INPUT_SIDE:
        resized = functional.interpolate(
            x_BT3HW.flatten(0, 1),
            size=(INPUT_SIDE, INPUT_SIDE),
            mode="bicubic",
            align_corners=False,
        )
        x_BT3HW = resized.reshape(*x_BT3HW.shape[:2], *resized.shape[1:])
    return x_BT3HW.to(dtype)
