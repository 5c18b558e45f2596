"""Lossless patches as a WebP atlas: the smallest lossless codec here.

394 bytes a 16-px patch where `zstd` needs 416 (what greedy chooses from 13 real clips); effort 4 gives 372 at
a twentieth of the speed. Only the lossless kind (VP8L) is written and read. Lossy WebP predicts blocks from
their neighbours and smooths across them, so in an atlas a patch's pixels would depend on its company; one lossy
picture a patch would be lawful, and was measured: 209 bytes at 37.6 dB, where `jpeg` needs 153 at 37.8 dB, and
30 times slower.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.codecs.base import Patches, Stored
from gazepack.formats.codecs.picture import PictureCodec

_HEADER = struct.Struct("<4sI8sIBI")
"""RIFF, size of the rest, `WEBPVP8L`, size of the chunk, signature, 14 bits of width - 1 and of height - 1."""
_SIGNATURE = 0x2F


@dataclass(frozen=True, slots=True, kw_only=True)
class WebpCodec(PictureCodec):
    """The codec `webp`, lossless.

    Raises:
        UsageError: an effort outside 0..6.
    """

    name: ClassVar[str] = "webp"
    extension: ClassVar[str] = "webp"
    lossless: ClassVar[bool] = True
    max_side: ClassVar[int] = 16383

    effort: int = 0
    """0 (fast) to 6 (small)."""

    def __post_init__(self) -> None:
        if type(self.effort) is not int or not 0 <= self.effort <= 6:
            raise UsageError(f"webp effort {self.effort!r} is not a whole number from 0 to 6")

    def settings(self) -> dict[str, Any]:
        """Return the name and the effort."""
        return {"name": self.name, "effort": self.effort}

    def pack(self, picture: Image.Image) -> bytes:
        """Return one lossless WebP."""
        out = io.BytesIO()
        quality = min(100, 20 * self.effort)  # of a lossless picture, this too is effort
        picture.save(out, format="WEBP", lossless=True, method=self.effort, quality=quality)
        return out.getvalue()

    def unpack(self, data: Stored, *, size: tuple[int, int]) -> Patches:
        """Return the picture of a lossless WebP of this size.

        The header is read here, because the library allocates what a header states before it can be asked.
        """
        _check_header(data, size=size)
        try:
            with WebPImageFile(io.BytesIO(data)) as image:
                picture = np.asarray(image.convert("RGB"), dtype=np.uint8)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise DatasetError(f"the WebP cannot be decoded ({error})") from error
        if picture.shape != (size[1], size[0], 3):
            raise DatasetError(f"the WebP cannot be decoded (it gave {picture.shape})")
        return picture


def _check_header(data: Stored, *, size: tuple[int, int]) -> None:
    """Refuse what is no plain lossless WebP that states this (width, height)."""
    if len(data) < _HEADER.size:
        raise DatasetError(f"the WebP cannot be decoded (it has {len(data)} bytes)")
    riff, rest, kind, _, signature, bits = _HEADER.unpack_from(data)
    if (riff, rest, kind, signature) != (b"RIFF", len(data) - 8, b"WEBPVP8L", _SIGNATURE):
        raise DatasetError(
            "the WebP cannot be decoded (it is no plain lossless WebP of its length)"
        )
    stated = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if stated != size:
        raise DatasetError(
            f"the WebP is {stated[0]} x {stated[1]} where the tokens need {size[0]} x {size[1]}"
        )
