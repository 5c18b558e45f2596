"""Lossless patches as a PNG atlas: what every tool can open and show.

Take it to look at patches with any viewer. It gives up size: 519 bytes a 16-px patch where `zstd` needs 416 and
`webp` 394 (13 real clips), since its filters see one row at a time and colours apart from each other.
"""

import io
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.codecs.atlas import Atlas
from gazepack.formats.codecs.base import Patches, check_patches, no_patches

MAX_SIDE = 65535
"""The largest width or height we write, in pixels; PNG itself has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PngCodec:
    """The codec `png`.

    Raises:
        UsageError: a level that zlib does not have.
    """

    name: ClassVar[str] = "png"
    extension: ClassVar[str] = "png"
    lossless: ClassVar[bool] = True

    level: int = 3
    """Effort, 0 (none) to 9 (most)."""

    def __post_init__(self) -> None:
        if type(self.level) is not int or not 0 <= self.level <= 9:
            raise UsageError(f"png level {self.level!r} is not a whole number from 0 to 9")

    def settings(self) -> dict[str, Any]:
        """Return the name and the level."""
        return {"name": self.name, "level": self.level}

    def encode(self, patches_NPP3: Patches) -> bytes:
        """Return one PNG of 8-bit RGB, or nothing for no patches."""
        num_patches, patch_size = check_patches(patches_NPP3)
        if not num_patches:
            return b""
        out = io.BytesIO()
        picture = Image.fromarray(_atlas(num_patches, patch_size).lay_out(patches_NPP3))
        picture.save(out, format="PNG", compress_level=self.level)
        return out.getvalue()

    def decode(self, data: bytes, *, num_patches: int, patch_size: int) -> Patches:
        """Return uint8 N x P x P x 3; its stated size is checked before it is decoded."""
        if not num_patches:
            return no_patches(data, patch_size=patch_size)
        atlas = _atlas(num_patches, patch_size)
        return atlas.take_apart(_decode_picture(data, size=atlas.size))


def _atlas(num_patches: int, patch_size: int) -> Atlas:
    return Atlas(num_patches=num_patches, patch_size=patch_size, block=1, max_side=MAX_SIDE)


def _decode_picture(data: bytes, *, size: tuple[int, int]) -> Patches:
    """Return uint8 H x W x 3 of a PNG of exactly this (width, height); no more than that is unpacked."""
    try:
        with PngImageFile(io.BytesIO(data)) as image:
            if image.size != size or image.mode != "RGB":
                raise DatasetError(
                    f"the PNG is {image.mode} {image.size[0]} x {image.size[1]} where the tokens "
                    f"need RGB {size[0]} x {size[1]}"
                )
            return np.array(image, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetError(f"the PNG cannot be decoded ({error})") from error
