"""What a patch codec is.

A codec turns N patches into one member of a sample and back. It keeps no state, and a patch's
decoded pixels depend on that patch alone, so errors measured on a few patches hold wherever those
patches are stored. It decodes into memory that the caller owns, such as a batch's, so that no pixel is
moved twice.

    legend   N  patches      P  side of a patch in pixels      3  red, green, blue
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from gazepack.errors import DatasetError

Patches = npt.NDArray[np.uint8]
Stored = bytes | memoryview
"""A member, or the stretch of a file where it lies."""
Room = Callable[[int], Patches]
"""Gives memory for so many patches, uint8 N x P x P x 3 in C order, to be decoded into."""


class Codec(Protocol):
    """Patches to bytes and back; the bytes are one page of `docs/format.md`, section 5."""

    name: ClassVar[str]
    """The name users write."""
    extension: ClassVar[str]
    """What follows `patches.` in the member's name."""
    lossless: ClassVar[bool]
    """Whether decoding gives back every pixel."""

    def settings(self) -> dict[str, Any]:
        """Return the name and every setting, as `dataset.json` stores them."""
        ...

    def encode(self, patches_NPP3: Patches) -> bytes:
        """Return the member of N patches; the same patches give the same bytes."""
        ...

    def decode(
        self, data: Stored, *, num_patches: int, patch_size: int, out: Patches | None = None
    ) -> Patches:
        """Return uint8 N x P x P x 3, writable.

        Args:
            data: the member.
            num_patches: N, as the tokens say.
            patch_size: P.
            out: where to decode to, uint8 N x P x P x 3 in C order, returned; new memory by default.
                What it holds after an error is undefined.

        Raises:
            DatasetError: the bytes do not hold `num_patches` patches of that size. (A picture has whole rows
                of cells, so a few patches more or less in its last row cannot be told from its size.)
            ValueError: `out` is no such array.
        """
        ...


def check_patches(patches_NPP3: Patches) -> tuple[int, int]:
    """Return (N, P) of an array of patches.

    Raises:
        ValueError: it is not uint8 N x P x P x 3.
    """
    shape = patches_NPP3.shape
    if patches_NPP3.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
        raise ValueError(
            f"patches must be uint8 of shape N x P x P x 3, got {patches_NPP3.dtype} {shape}"
        )
    return shape[0], shape[1]


def make_room(num_patches: int, *, patch_size: int, out: Patches | None) -> Patches:
    """Return where a codec decodes to: `out`, or new memory where it is None.

    To be called when the member's size is known to be right: a small file must not allocate much.

    Raises:
        ValueError: `out` is not uint8 N x P x P x 3 in C order.
    """
    shape = (num_patches, patch_size, patch_size, 3)
    if out is None:
        return np.empty(shape, dtype=np.uint8)
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(
            f"out must be uint8 of shape {shape} in C order, got {out.dtype} {out.shape} "
            f"with strides {out.strides}"
        )
    return out


def no_patches(data: Stored, *, patch_size: int, out: Patches | None) -> Patches:
    """Return the empty array that a member of zero bytes stands for.

    Raises:
        DatasetError: there are bytes although there is no patch.
        ValueError: as `make_room`.
    """
    if data:
        raise DatasetError(f"{len(data)} bytes are stored for a sample without patches")
    return make_room(0, patch_size=patch_size, out=out)
