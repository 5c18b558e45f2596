"""Lossy patches: all patches of a sample in one JPEG atlas, 4:4:4.

Each patch fills whole 8 x 8 blocks of its own and chroma is not subsampled, so no block mixes two
patches and a patch decodes to the same pixels in any company (a law, tested). Measured on 8 real
clips at quality 95: about 115 bytes a 16-px patch, 2.2 times less than `zstd`. What it gives up is
exactness, about 41 dB.
"""

import io
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.codecs.base import Patches, check_patches, no_patches

BLOCK = 8
"""Side of a DCT block, in pixels."""
MIN_COLS = 64
"""Cells in a row of the atlas, when there are that many patches."""
MAX_SIDE = 65535
"""The largest width or height of a JPEG, in pixels."""
GREY = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegCodec:
    """The codec `jpeg`.

    Raises:
        UsageError: a quality outside 1..100.
    """

    name: ClassVar[str] = "jpeg"
    extension: ClassVar[str] = "jpg"
    lossless: ClassVar[bool] = False

    quality: int = 95
    """1 (small) to 100 (close)."""

    def __post_init__(self) -> None:
        if type(self.quality) is not int or not 1 <= self.quality <= 100:
            raise UsageError(f"jpeg quality {self.quality!r} is not a whole number from 1 to 100")

    def settings(self) -> dict[str, Any]:
        """Return the name and the quality."""
        return {"name": self.name, "quality": self.quality}

    def encode(self, patches_NPP3: Patches) -> bytes:
        """Return one baseline JPEG, or nothing for no patches."""
        num_patches, _ = check_patches(patches_NPP3)
        if not num_patches:
            return b""
        out = io.BytesIO()
        image = Image.fromarray(to_atlas(patches_NPP3))
        image.save(out, format="JPEG", quality=self.quality, subsampling=0)
        return out.getvalue()

    def decode(self, data: bytes, *, num_patches: int, patch_size: int) -> Patches:
        """Return uint8 N x P x P x 3; its stated size is checked before it is decoded."""
        if not num_patches:
            return no_patches(data, patch_size=patch_size)
        rows, cols, side = atlas_shape(num_patches, patch_size=patch_size)
        atlas_HW3 = _decode_image(data, width=cols * side, height=rows * side)
        return from_atlas(atlas_HW3, num_patches=num_patches, patch_size=patch_size)


def atlas_shape(num_patches: int, *, patch_size: int) -> tuple[int, int, int]:
    """Return (rows, cols, side): cells down and across, and the side of a cell in pixels."""
    side = -(-patch_size // BLOCK) * BLOCK
    max_rows = MAX_SIDE // side
    cols = min(num_patches, max(MIN_COLS, -(-num_patches // max_rows)))
    return -(-num_patches // cols), cols, side


def to_atlas(patches_NPP3: Patches) -> Patches:
    """Return the uint8 H x W x 3 image of all cells, row-major; cells without a patch are grey."""
    num_patches, patch_size = patches_NPP3.shape[:2]
    rows, cols, side = atlas_shape(num_patches, patch_size=patch_size)
    cells = np.full((rows * cols, side, side, 3), GREY, dtype=np.uint8)
    pad = (0, side - patch_size)
    cells[:num_patches] = np.pad(patches_NPP3, ((0, 0), pad, pad, (0, 0)), mode="edge")
    grid = cells.reshape(rows, cols, side, side, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * side, cols * side, 3)


def from_atlas(atlas_HW3: Patches, *, num_patches: int, patch_size: int) -> Patches:
    """Return uint8 N x P x P x 3; the inverse of `to_atlas`."""
    rows, cols, side = atlas_shape(num_patches, patch_size=patch_size)
    grid = atlas_HW3.reshape(rows, side, cols, side, 3).transpose(0, 2, 1, 3, 4)
    cells = grid.reshape(rows * cols, side, side, 3)
    return np.ascontiguousarray(cells[:num_patches, :patch_size, :patch_size])


def _decode_image(data: bytes, *, width: int, height: int) -> Patches:
    """Return uint8 H x W x 3 of a JPEG of exactly this size.

    `JpegImageFile` is opened by itself: `Image.open` would try every format it knows, and its guard
    against large images is a fixed number where the exact size is known.
    """
    try:
        with JpegImageFile(io.BytesIO(data)) as image:
            if image.size != (width, height) or image.mode != "RGB":
                raise DatasetError(
                    f"the JPEG is {image.mode} {image.size[0]} x {image.size[1]} where the tokens "
                    f"need RGB {width} x {height}"
                )
            return np.array(image, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetError(f"the JPEG cannot be decoded ({error})") from error
