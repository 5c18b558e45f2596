"""A sample as named bytes, whatever the container.

Arrays travel as `.npy` version 1.0. Reading one checks its type and shape against the bytes that
are there before anything is allocated, and never unpickles.
"""

import io
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.codecs import AnyCodec, PlacesCodec
from gazepack.formats.codecs.base import Room, Stored
from gazepack.formats.codecs.places import Placed, pixels_crc32
from gazepack.formats.meta import canonical_json, check_meta, parse_json
from gazepack.formats.record import TOKEN_FIELDS, LooseSample, Sample

META = "json"
TOKENS = "tokens.npy"
LOSS = "loss.npy"
PLACES = "places.zst"

_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER_BYTES = 128
"""Of every header that numpy writes for our arrays; it aligns what follows to 64 bytes."""
_NPY_START = _NPY_MAGIC + (_NPY_HEADER_BYTES - len(_NPY_MAGIC) - 2).to_bytes(2, "little")
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|=][A-Za-z]\d*)', 'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,12},|\d{1,12}(?:, \d{1,12}){1,7})\), \} *\n"
)


SampleT = TypeVar("SampleT", bound=LooseSample)


def coded_field(codec: AnyCodec) -> str:
    """Return the name of the member that the codec makes."""
    return PLACES if isinstance(codec, PlacesCodec) else f"patches.{codec.extension}"


def encode_members(sample: Sample, codec: AnyCodec) -> dict[str, bytes]:
    """Return the fields of a sample as bytes, in the order in which they are stored.

    Raises:
        UsageError: the metadata are not JSON, or patches are to be stored that the sample does not have.
    """
    own = {META: canonical_json(sample.meta)}
    if not isinstance(codec, PlacesCodec):
        own |= {TOKENS: to_npy(sample.tokens_N6), LOSS: to_npy(sample.loss_N)}
    own[coded_field(codec)] = encoded(sample, codec)
    return own | dict(sorted(sample.fields.items()))


def encoded(sample: Sample, codec: AnyCodec) -> bytes:
    """Return the member that the codec makes: as it was carried over, or encoded now.

    Raises:
        UsageError: the codec stores patches, and the sample has none.
    """
    if sample.encoded is not None:
        return sample.encoded
    patches_NPP3 = sample.patches_NPP3
    if isinstance(codec, PlacesCodec):
        crc32 = sample.pixels_crc32 if patches_NPP3 is None else pixels_crc32(patches_NPP3)
        assert crc32 is not None  # checked by Sample
        placed = Placed(tokens_N6=sample.tokens_N6, loss_N=sample.loss_N, pixels_crc32=crc32)
        return codec.encode(placed, views=check_meta(sample.meta).views)
    if patches_NPP3 is None:
        raise UsageError(
            f"sample {sample.key} comes without patches, only with their places",
            remedy="name the videos, to cut them",
        )
    return codec.encode(patches_NPP3)


def decode_members(
    members: Mapping[str, Stored],
    *,
    key: str,
    codec: AnyCodec,
    patch_size: int,
    place: str,
    kind: type[SampleT],
    is_npy: bool = True,
    room: Room | None = None,
) -> SampleT:
    """Return the sample that `encode_members` stored.

    Args:
        members: content by field name.
        key: the sample's key.
        codec: what encoded the patches, or their places.
        patch_size: side of every patch, in pixels.
        place: where the members come from, for messages.
        kind: `Sample`, or `LooseSample` to check the tokens of many samples together.
        is_npy: whether arrays are `.npy` files; else they are values alone.
        room: gives the memory that the patches are decoded into; new memory by default.

    Raises:
        DatasetError: a field is missing or does not hold what it must; names the sample and field.
    """
    place = f"{place}: sample {key}"

    def field(name: str) -> Stored:
        if name not in members:
            raise DatasetError("the field is missing", place=f"{place}: {name}")
        return members[name]

    def at(name: str, read: Any, **settings: Any) -> Any:
        return _at(f"{place}: {name}", read, field(name), **settings)

    meta: Any = at(META, parse_json)
    coded = coded_field(codec)
    own = {META, TOKENS, LOSS, coded}
    if isinstance(codec, PlacesCodec):
        own = {META, coded}
        parts = at(coded, _placed, codec=codec, meta=meta, patch_size=patch_size)
    else:
        read = from_npy if is_npy else from_values
        tokens_N6 = at(TOKENS, read, dtype="<u2", width=len(TOKEN_FIELDS))
        parts = {"tokens_N6": tokens_N6, "loss_N": at(LOSS, read, dtype="<f2", width=None)}
        size = {"num_patches": len(tokens_N6), "patch_size": patch_size}
        out = None if room is None else _at(place, room, len(tokens_N6))
        parts["patches_NPP3"] = at(coded, codec.decode, **size, out=out)
    fields = {name: bytes(data) for name, data in members.items() if name not in own}
    try:
        return kind(key=key, meta=meta, fields=fields, **parts)
    except UsageError as error:
        raise DatasetError(error.problem, place=place) from error


def _placed(data: Stored, *, codec: PlacesCodec, meta: Any, patch_size: int) -> dict[str, Any]:
    """Return the parts of a sample whose patches are not stored."""
    try:
        views = check_meta(meta).views
    except UsageError as error:
        raise DatasetError(error.problem) from error
    if {view.patch_size for view in views} != {patch_size}:
        raise DatasetError(f"the metadata have patches of other sizes than {patch_size} px")
    placed = codec.decode(data, views=views)
    return {
        "tokens_N6": placed.tokens_N6,
        "loss_N": placed.loss_N,
        "patches_NPP3": None,
        "pixels_crc32": placed.pixels_crc32,
    }


def _at(place: str, read: Any, given: Any, **settings: Any) -> Any:
    """Return `read(given)`, with the place put in front of what it complains about."""
    try:
        return read(given, **settings)
    except DatasetError as error:
        raise DatasetError(error.problem, place=place) from error


def to_values(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array little-endian and in C order."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def from_values(data: Stored, *, dtype: str, width: int | None) -> npt.NDArray[Any]:
    """Return the array of values alone, writable: shape (N, width), or (N,) without a width.

    Raises:
        DatasetError: the bytes are no whole number of rows.
    """
    expected = np.dtype(dtype)
    row_bytes = (width or 1) * expected.itemsize
    if len(data) % row_bytes:
        raise DatasetError(f"{len(data)} bytes are no whole number of rows of {row_bytes} bytes")
    array = np.frombuffer(data, dtype=expected).reshape((-1,) if width is None else (-1, width))
    return array.astype(expected.newbyteorder("="))


def to_npy(array: npt.NDArray[Any]) -> bytes:
    """Return the array as `.npy` version 1.0, little-endian, C order."""
    out = io.BytesIO()
    np.lib.format.write_array(out, to_values(array), version=(1, 0), allow_pickle=False)
    return out.getvalue()


def from_npy(data: Stored, *, dtype: str, width: int | None) -> npt.NDArray[Any]:
    """Return the array of an `.npy` member, writable: shape (N, width), or (N,) without a width.

    The header that numpy writes for an array that fills the member is known beforehand and only compared;
    any other is parsed.

    Raises:
        DatasetError: another version, type, order or shape, or more or fewer bytes than the shape
            needs.
    """
    expected = np.dtype(dtype)
    rows, rest = divmod(len(data) - _NPY_HEADER_BYTES, (width or 1) * expected.itemsize)
    if not rest and data[:_NPY_HEADER_BYTES] == _known_header(rows, dtype=dtype, width=width):
        return from_values(data[_NPY_HEADER_BYTES:], dtype=dtype, width=width)
    descr, order, shape, content = _npy_header(data)
    trailing = () if width is None else (width,)
    fits = len(shape) == 1 + len(trailing) and shape[1:] == trailing
    if descr != dtype or order != "False" or not fits:
        raise DatasetError(
            f"the array is {descr} {shape}, not {dtype} (N, {width or ''}) in C order"
        )
    num_bytes = shape[0] * (width or 1) * expected.itemsize
    if len(content) != num_bytes:
        raise DatasetError(f"the shape {shape} needs {num_bytes} bytes, there are {len(content)}")
    array = np.frombuffer(content, dtype=expected).reshape(shape)
    return array.astype(expected.newbyteorder("="))


def _known_header(rows: int, *, dtype: str, width: int | None) -> bytes:
    """Return the header of an `.npy` file of so many rows as numpy writes it."""
    sides = f"({rows},)" if width is None else f"({rows}, {width})"
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {sides}, }}"
    return _NPY_START + text.ljust(_NPY_HEADER_BYTES - len(_NPY_START) - 1).encode() + b"\n"


def _npy_header(data: Stored) -> tuple[str, str, tuple[int, ...], Stored]:
    """Return (type, whether columns go first, shape, content) of an `.npy` file of version 1.0.

    The header is read as numpy writes it. Any other is a Python expression, and nothing is evaluated here.

    Raises:
        DatasetError: it is not one.
    """
    if data[: len(_NPY_MAGIC)] != _NPY_MAGIC:
        raise DatasetError("not an .npy file of version 1.0")
    start = len(_NPY_MAGIC) + 2
    end = start + int.from_bytes(data[len(_NPY_MAGIC) : start], "little")
    found = _NPY_HEADER.fullmatch(data[start:end])
    if found is None or end > len(data):
        raise DatasetError("not an .npy file: its header is not what numpy writes")
    descr, order, sides = (part.decode("ascii") for part in found.groups())
    return descr, order, tuple(int(side) for side in sides.split(",") if side.strip()), data[end:]
