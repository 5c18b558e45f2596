"""Lossless patches as a PNG atlas: what every tool can open and show.

Take it to look at patches with any viewer. It gives up size: 519 bytes a 16-px patch where `zstd` needs 416 and
`webp` 394 (13 real clips), since its filters see one row at a time and colours apart from each other.
"""

import io
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from gazepack.errors import UsageError
from gazepack.formats.codecs.base import Patches, Stored
from gazepack.formats.codecs.picture import PictureCodec, open_picture


@dataclass(frozen=True, slots=True, kw_only=True)
class PngCodec(PictureCodec):
    """The codec `png`.

    Raises:
        UsageError: a level that zlib does not have.
    """

    name: ClassVar[str] = "png"
    extension: ClassVar[str] = "png"
    lossless: ClassVar[bool] = True
    max_side: ClassVar[int] = 65535  # of what we write; PNG itself has more

    level: int = 3
    """Effort, 0 (none) to 9 (most)."""

    def __post_init__(self) -> None:
        if type(self.level) is not int or not 0 <= self.level <= 9:
            raise UsageError(f"png level {self.level!r} is not a whole number from 0 to 9")

    def settings(self) -> dict[str, Any]:
        """Return the name and the level."""
        return {"name": self.name, "level": self.level}

    def pack(self, picture: Image.Image) -> bytes:
        """Return one PNG of 8-bit RGB."""
        out = io.BytesIO()
        picture.save(out, format="PNG", compress_level=self.level)
        return out.getvalue()

    def unpack(self, data: Stored, *, size: tuple[int, int]) -> Patches:
        """Return the picture of a PNG of this size; no more than that is unpacked."""
        return open_picture(PngImageFile, data, name="PNG", size=size)
