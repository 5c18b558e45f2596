"""Places alone: what was chosen and how well, without a pixel, for corpora that may not be copied.

A token takes about 1.5 bytes (13 real clips): its number among the choices of its frame, and its loss as the
difference to the one before, byte plane by byte plane, in one zstd frame. View, frame and rank follow from the
counts in the metadata and from the order. A CRC-32 of the patches that were chosen stays with them, so patches
that are cut from the source later are these patches, or refused. What it gives up: every reading decodes the
video.

    legend   N  tokens      6  `TOKEN_FIELDS` of the record
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import zstandard

from gazepack.errors import DatasetError
from gazepack.formats.codecs.base import Patches, Stored
from gazepack.formats.codecs.zstd import decompress
from gazepack.formats.meta import ViewMeta
from gazepack.geometry import Grid

MAX_TOKENS = 2**21
"""The most tokens of a sample: more are refused before they are unpacked."""
_LEVEL = 19
_CRC = struct.Struct("<I")
_PLACE_BYTES, _LOSS_BYTES = 4, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What a member holds."""

    tokens_N6: npt.NDArray[np.uint16]
    """uint16 N x 6, as `Sample` has them."""
    loss_N: npt.NDArray[np.float16]
    """float16 N."""
    pixels_crc32: int
    """`pixels_crc32` of the patches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacesCodec:
    """What stands in `dataset.json` in place of a codec of patches; `docs/format.md`, section 5."""

    name: ClassVar[str] = "places"
    lossless: ClassVar[bool] = True

    def settings(self) -> dict[str, Any]:
        """Return the name."""
        return {"name": self.name}

    def encode(self, placed: Placed, *, views: Sequence[ViewMeta]) -> bytes:
        """Return the member; the same tokens give the same bytes.

        Args:
            placed: tokens that keep the rules of `Sample`.
            views: of their metadata.
        """
        bits = placed.loss_N.view(np.uint16)
        steps = bits.copy()
        steps[1:] -= bits[:-1]
        content = _CRC.pack(placed.pixels_crc32)
        content += _planes(_numbers(placed.tokens_N6, views), _PLACE_BYTES)
        content += _planes(steps, _LOSS_BYTES)
        return zstandard.ZstdCompressor(level=_LEVEL).compress(content)

    def decode(self, data: Stored, *, views: Sequence[ViewMeta]) -> Placed:
        """Return what was encoded; the stated size is checked before anything is unpacked.

        Raises:
            DatasetError: the bytes do not hold as many tokens as the views count, or a place that a view
                does not have.
        """
        num_tokens = sum(sum(view.tokens) for view in views)
        if num_tokens > MAX_TOKENS:
            raise DatasetError(f"the metadata count {num_tokens} tokens, more than {MAX_TOKENS}")
        size = _CRC.size + num_tokens * (_PLACE_BYTES + _LOSS_BYTES)
        content = decompress(data, size=size)
        split = _CRC.size + num_tokens * _PLACE_BYTES
        steps = _from_planes(content[split:], _LOSS_BYTES).astype(np.uint16)
        return Placed(
            tokens_N6=_tokens(_from_planes(content[_CRC.size : split], _PLACE_BYTES), views),
            loss_N=np.cumsum(steps, dtype=np.uint16).view(np.float16),
            pixels_crc32=_CRC.unpack_from(content)[0],
        )


def pixels_crc32(patches_NPP3: Patches) -> int:
    """Return the CRC-32 of patches, uint8 N x P x P x 3 in C order."""
    return zlib.crc32(np.ascontiguousarray(patches_NPP3).data)


def _numbers(
    tokens_N6: npt.NDArray[np.uint16], views: Sequence[ViewMeta]
) -> npt.NDArray[np.uint32]:
    """Return the number of each token among the choices of its frame."""
    numbers = np.empty(len(tokens_N6), dtype=np.uint32)
    for number, view in enumerate(views):
        at = tokens_N6[:, 0] == number
        _, _, scale, row, col, _ = tokens_N6[at].T
        numbers[at] = Grid(rows=view.rows, cols=view.cols).ids(scale, row, col)
    return numbers


def _tokens(numbers: npt.NDArray[np.uint32], views: Sequence[ViewMeta]) -> npt.NDArray[np.uint16]:
    """Return the tokens, uint16 N x 6, of these numbers."""
    parts, start = [], 0
    for number, view in enumerate(views):
        count = sum(view.tokens)
        ids = numbers[start : start + count].astype(np.int64)
        parts.append(_tokens_of_view(number, view, ids))
        start += count
    return np.concatenate(parts)


def _tokens_of_view(
    number: int, view: ViewMeta, ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint16]:
    """Return the tokens of one view."""
    grid = Grid(rows=view.rows, cols=view.cols)
    try:
        scale, row, col = grid.places(ids)
    except ValueError as error:
        raise DatasetError(f"view {view.name!r}: {error}") from error
    frame = np.repeat(np.arange(len(view.tokens)), view.tokens)
    tile, _ = grid.to_tile(scale, row, col)
    columns = (np.full_like(ids, number), frame, scale, row, col)
    tokens_N6 = np.empty((len(ids), 6), dtype=np.uint16)
    tokens_N6[:, :5] = np.stack(columns, axis=1)
    tokens_N6[:, 5] = _ranks(frame * grid.num_tiles + tile)
    return tokens_N6


def _ranks(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each token how many of its group stand before it."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered, side="left")
    return ranks


def _planes(values: npt.NDArray[np.integer], num_bytes: int) -> bytes:
    """Return the lowest byte of every value, then the next byte of every value, and so on."""
    little = values.astype(f"<u{num_bytes}")
    return little.view(np.uint8).reshape(-1, num_bytes).T.tobytes()


def _from_planes(data: bytes, num_bytes: int) -> npt.NDArray[np.uint32]:
    """Undo `_planes`."""
    planes = np.frombuffer(data, dtype=np.uint8).reshape(num_bytes, -1)
    values = np.zeros(planes.shape[1], dtype=np.uint32)
    for place, plane in enumerate(planes):
        values |= plane.astype(np.uint32) << np.uint32(8 * place)
    return values
