"""What codecs that are picture formats share: one atlas, laid out, packed, unpacked and taken apart.

A format says how an atlas becomes a file (`pack`) and how a file of exactly the expected size becomes an atlas
again (`unpack`); everything else is here. Formats are opened by their own class: `Image.open` would try every
format it knows, and its guard against large images is a fixed number where the exact size is known.
"""

import io
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from gazepack.errors import DatasetError
from gazepack.formats.codecs.atlas import Atlas
from gazepack.formats.codecs.base import Patches, Stored, check_patches, make_room, no_patches


class PictureCodec(ABC):
    """Patches to one picture and back."""

    __slots__ = ()

    block: ClassVar[int] = 1
    """A cell's side is a multiple of this."""
    max_side: ClassVar[int]
    """The largest width or height of a picture, in pixels."""

    @abstractmethod
    def pack(self, picture: Image.Image) -> bytes:
        """Return the file of an RGB picture; the same picture gives the same bytes."""

    @abstractmethod
    def unpack(self, data: Stored, *, size: tuple[int, int]) -> Patches:
        """Return the uint8 H x W x 3 picture of a file; another size is refused before it is decoded.

        Raises:
            DatasetError: it is no such file, or its picture is not of this (width, height).
        """

    def encode(self, patches_NPP3: Patches) -> bytes:
        """Return one picture, or nothing for no patches."""
        num_patches, patch_size = check_patches(patches_NPP3)
        if not num_patches:
            return b""
        atlas = self._atlas(num_patches, patch_size)
        return self.pack(Image.fromarray(atlas.lay_out(patches_NPP3)))

    def decode(
        self, data: Stored, *, num_patches: int, patch_size: int, out: Patches | None = None
    ) -> Patches:
        """Return uint8 N x P x P x 3; the picture's stated size is checked before it is decoded."""
        if not num_patches:
            return no_patches(data, patch_size=patch_size, out=out)
        atlas = self._atlas(num_patches, patch_size)
        picture_HW3 = self.unpack(data, size=atlas.size)
        room = make_room(num_patches, patch_size=patch_size, out=out)
        atlas.take_apart(picture_HW3, out=room)
        return room

    def _atlas(self, num_patches: int, patch_size: int) -> Atlas:
        return Atlas(
            num_patches=num_patches,
            patch_size=patch_size,
            block=self.block,
            max_side=self.max_side,
        )


def open_picture(
    file_type: type[ImageFile], data: Stored, *, name: str, size: tuple[int, int]
) -> Patches:
    """Return the uint8 H x W x 3 picture of a file that states RGB and this (width, height).

    Args:
        file_type: Pillow's class of the format.
        data: the file.
        name: of the format, for messages.
        size: what the tokens need.

    Raises:
        DatasetError: it is no such file, states another size or kind, or cannot be decoded.
    """
    try:
        with file_type(io.BytesIO(data)) as image:
            if image.size != size or image.mode != "RGB":
                raise DatasetError(
                    f"the {name} is {image.mode} {image.size[0]} x {image.size[1]} where the tokens "
                    f"need RGB {size[0]} x {size[1]}"
                )
            return np.asarray(image, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetError(f"the {name} cannot be decoded ({error})") from error
