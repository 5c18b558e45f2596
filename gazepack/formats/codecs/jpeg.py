"""Lossy patches: all patches of a sample in one JPEG atlas, 4:4:4.

Each patch fills whole 8 x 8 blocks of its own and chroma is not subsampled, so no block mixes two
patches and a patch decodes to the same pixels in any company (a law, tested). Measured on what greedy
chooses from 13 real clips at quality 95: 189 bytes a 16-px patch, 2.2 times less than `zstd`; Huffman
tables of its own make up 6 % of that. What it gives up is exactness, about 41 dB.
"""

import io
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from gazepack.errors import UsageError
from gazepack.formats.codecs.base import Patches, Stored
from gazepack.formats.codecs.picture import PictureCodec, open_picture

_BUFFER_BYTES = 65536
"""With tables of its own the library needs all of a JPEG in one buffer: this, or a byte a pixel if more.
Noise at quality 95 is larger, and gets the standard tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegCodec(PictureCodec):
    """The codec `jpeg`.

    Raises:
        UsageError: a quality outside 1..100.
    """

    name: ClassVar[str] = "jpeg"
    extension: ClassVar[str] = "jpg"
    lossless: ClassVar[bool] = False
    block: ClassVar[int] = 8  # the side of a DCT block
    max_side: ClassVar[int] = 65535

    quality: int = 95
    """1 (small) to 100 (close)."""

    def __post_init__(self) -> None:
        if type(self.quality) is not int or not 1 <= self.quality <= 100:
            raise UsageError(f"jpeg quality {self.quality!r} is not a whole number from 1 to 100")

    def settings(self) -> dict[str, Any]:
        """Return the name and the quality."""
        return {"name": self.name, "quality": self.quality}

    def pack(self, picture: Image.Image) -> bytes:
        """Return one baseline JPEG."""
        plain = self._save(picture, optimize=False)
        fits = len(plain) <= max(_BUFFER_BYTES, picture.width * picture.height)
        return self._save(picture, optimize=True) if fits else plain

    def _save(self, picture: Image.Image, *, optimize: bool) -> bytes:
        """Return the JPEG; `optimize` makes Huffman tables for it and changes no pixel."""
        out = io.BytesIO()
        picture.save(out, format="JPEG", quality=self.quality, subsampling=0, optimize=optimize)
        return out.getvalue()

    def unpack(self, data: Stored, *, size: tuple[int, int]) -> Patches:
        """Return the picture of a JPEG of this size."""
        return open_picture(JpegImageFile, data, name="JPEG", size=size)
