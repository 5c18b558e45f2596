"""A frame laid on the tiles that it will be seen through."""

import numpy as np

from gazepack.geometry import Grid
from gazepack.video import fit


def test_fit_leaves_a_fitting_frame_alone() -> None:
    """A frame of the grid's size is returned as it is; another is resized."""
    grid = Grid(rows=1, cols=2, patch_size=4)
    chance = np.random.default_rng(3)
    frame = chance.integers(0, 256, (56, 112, 3), dtype=np.uint8)
    np.testing.assert_array_equal(frame, fit(frame, grid))
    other = chance.integers(0, 256, (100, 90, 3), dtype=np.uint8)
    assert fit(other, grid).shape == (56, 112, 3)
