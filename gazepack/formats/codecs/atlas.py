"""Patches as one picture, for codecs that are picture formats.

The picture is an atlas of square cells, row-major, one patch in each. It is as wide as 64 cells where there
are that many patches, so that a decoder goes through memory in long rows, and wider only where the picture
would otherwise be higher than its format allows.

    legend   N  patches      P  side of a patch in pixels      3  red, green, blue
             R, C  cells down and across        H, W  of the atlas in pixels
"""

from dataclasses import dataclass

import numpy as np

from gazepack.formats.codecs.base import Patches

MIN_COLS = 64
"""Cells in a row of the atlas, when there are that many patches."""
GREY = 128
"""All of a cell without a patch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Atlas:
    """How many patches of one size are laid out."""

    num_patches: int
    """N, at least 1."""
    patch_size: int
    """Side of a patch, in pixels."""
    block: int
    """The side of a cell is the next multiple of this; a patch's last row and column fill the rest."""
    max_side: int
    """The largest width or height that the picture format has, in pixels."""

    @property
    def side(self) -> int:
        """Side of a cell, in pixels."""
        return -(-self.patch_size // self.block) * self.block

    @property
    def cols(self) -> int:
        """Cells across."""
        max_rows = self.max_side // self.side
        return min(self.num_patches, max(MIN_COLS, -(-self.num_patches // max_rows)))

    @property
    def rows(self) -> int:
        """Cells down."""
        return -(-self.num_patches // self.cols)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture in pixels, as image libraries say it."""
        return self.cols * self.side, self.rows * self.side

    def lay_out(self, patches_NPP3: Patches) -> Patches:
        """Return the uint8 H x W x 3 picture of N patches."""
        cells = np.full((self.rows * self.cols, self.side, self.side, 3), GREY, dtype=np.uint8)
        pad = (0, self.side - self.patch_size)
        cells[: self.num_patches] = np.pad(patches_NPP3, ((0, 0), pad, pad, (0, 0)), mode="edge")
        grid = cells.reshape(self.rows, self.cols, self.side, self.side, 3)
        width, height = self.size
        return grid.transpose(0, 2, 1, 3, 4).reshape(height, width, 3)

    def take_apart(self, atlas_HW3: Patches, *, out: Patches) -> None:
        """Copy the patches to `out`, uint8 N x P x P x 3 in C order; the inverse of `lay_out`.

        A row of a patch is moved as one value of 3P bytes, which is three times as fast as pixel by pixel.
        """
        line = np.dtype(f"V{3 * self.patch_size}")
        cells = atlas_HW3.reshape(self.rows, self.side, self.cols, 3 * self.side)
        lines = cells[:, : self.patch_size, :, : line.itemsize].view(line)[..., 0]
        lines_RCP = lines.transpose(0, 2, 1)
        out_NP = out.reshape(self.num_patches, self.patch_size, line.itemsize).view(line)[..., 0]
        whole, rest = divmod(self.num_patches, self.cols)
        full = whole * self.cols
        out_NP[:full].reshape(whole, self.cols, self.patch_size)[...] = lines_RCP[:whole]
        if rest:
            out_NP[full:] = lines_RCP[whole, :rest]
