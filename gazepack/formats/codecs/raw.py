"""Lossless patches as they are: 3p² bytes each, nothing to decode.

Take it where the disk is faster than a core, or to read patches with nothing but numpy. It gives up
size: 768 bytes a 16-px patch.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gazepack.errors import DatasetError
from gazepack.formats.codecs.base import Patches, Stored, check_patches, make_room


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCodec:
    """The codec `raw`."""

    name: ClassVar[str] = "raw"
    extension: ClassVar[str] = "raw"
    lossless: ClassVar[bool] = True

    def settings(self) -> dict[str, Any]:
        """Return the name."""
        return {"name": self.name}

    def encode(self, patches_NPP3: Patches) -> bytes:
        """Return the pixels in C order."""
        check_patches(patches_NPP3)
        return patches_NPP3.tobytes()

    def decode(
        self, data: Stored, *, num_patches: int, patch_size: int, out: Patches | None = None
    ) -> Patches:
        """Return uint8 N x P x P x 3."""
        size = num_patches * patch_size * patch_size * 3
        if len(data) != size:
            raise DatasetError(f"{len(data)} bytes of pixels where the tokens need {size}")
        room = make_room(num_patches, patch_size=patch_size, out=out)
        room[...] = np.frombuffer(data, dtype=np.uint8).reshape(room.shape)
        return room
