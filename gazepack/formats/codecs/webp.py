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
from gazepack.formats.codecs.atlas import Atlas
from gazepack.formats.codecs.base import Patches, check_patches, no_patches

MAX_SIDE = 16383
"""The largest width or height of a WebP, in pixels."""
_HEADER = struct.Struct("<4sI8sIBI")
"""RIFF, size of the rest, `WEBPVP8L`, size of the chunk, signature, 14 bits of width - 1 and of height - 1."""
_SIGNATURE = 0x2F


@dataclass(frozen=True, slots=True, kw_only=True)
class WebpCodec:
    """The codec `webp`, lossless.

    Raises:
        UsageError: an effort outside 0..6.
    """

    name: ClassVar[str] = "webp"
    extension: ClassVar[str] = "webp"
    lossless: ClassVar[bool] = True

    effort: int = 0
    """0 (fast) to 6 (small)."""

    def __post_init__(self) -> None:
        if type(self.effort) is not int or not 0 <= self.effort <= 6:
            raise UsageError(f"webp effort {self.effort!r} is not a whole number from 0 to 6")

    def settings(self) -> dict[str, Any]:
        """Return the name and the effort."""
        return {"name": self.name, "effort": self.effort}

    def encode(self, patches_NPP3: Patches) -> bytes:
        """Return one lossless WebP, or nothing for no patches."""
        num_patches, patch_size = check_patches(patches_NPP3)
        if not num_patches:
            return b""
        out = io.BytesIO()
        picture = Image.fromarray(_atlas(num_patches, patch_size).lay_out(patches_NPP3))
        quality = min(100, 20 * self.effort)  # of a lossless picture, this too is effort
        picture.save(out, format="WEBP", lossless=True, method=self.effort, quality=quality)
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
    """Return uint8 H x W x 3 of a lossless WebP of exactly this (width, height).

    The header is read here, because the library allocates what a header states before it can be asked.
    """
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
    try:
        with WebPImageFile(io.BytesIO(data)) as image:
            picture = np.array(image.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetError(f"the WebP cannot be decoded ({error})") from error
    if picture.shape != (size[1], size[0], 3):
        raise DatasetError(f"the WebP cannot be decoded (it gave {picture.shape})")
    return picture
