"""A frame laid on the tiles that it will be seen through."""

import numpy as np
from PIL import Image

from gazepack.geometry import Grid
from gazepack.video.picture import Pixels


def fit(rgb_HW3: Pixels, grid: Grid) -> Pixels:
    """Resize a frame to the grid's pixels: bicubic, antialiased, in Pillow's fixed point."""
    if rgb_HW3.shape[:2] == (grid.height, grid.width):
        return rgb_HW3
    image = Image.fromarray(rgb_HW3).resize((grid.width, grid.height), Image.Resampling.BICUBIC)
    return np.asarray(image)
