"""A sample as named bytes, whatever the container.

Arrays travel as `.npy` version 1.0. Reading one checks its type and shape against the bytes that
are there before anything is allocated, and never unpickles.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.codecs.base import Codec
from gazepack.formats.meta import canonical_json, parse_json
from gazepack.formats.record import TOKEN_FIELDS, Sample

META = "json"
TOKENS = "tokens.npy"
LOSS = "loss.npy"


def patches_field(codec: Codec) -> str:
    """Return the name of the member that holds the patches."""
    return f"patches.{codec.extension}"


def encode_members(sample: Sample, codec: Codec) -> dict[str, bytes]:
    """Return the fields of a sample as bytes, in the order in which they are stored.

    Raises:
        UsageError: the metadata are not JSON.
    """
    own = {
        META: canonical_json(sample.meta),
        TOKENS: to_npy(sample.tokens_N6),
        LOSS: to_npy(sample.loss_N),
        patches_field(codec): codec.encode(sample.patches_NPP3),
    }
    return own | dict(sorted(sample.fields.items()))


def decode_members(
    members: Mapping[str, bytes], *, key: str, codec: Codec, patch_size: int, place: str
) -> Sample:
    """Return the sample that `encode_members` stored.

    Args:
        members: content by field name.
        key: the sample's key.
        codec: what encoded the patches.
        patch_size: side of every patch, in pixels.
        place: where the members come from, for messages.

    Raises:
        DatasetError: a field is missing or does not hold what it must; names the sample and field.
    """
    place = f"{place}: sample {key}"

    def field(name: str) -> bytes:
        if name not in members:
            raise DatasetError("the field is missing", place=f"{place}: {name}")
        return members[name]

    meta: Any = _at(f"{place}: {META}", parse_json, field(META))
    tokens_N6 = _at(
        f"{place}: {TOKENS}", from_npy, field(TOKENS), dtype="<u2", width=len(TOKEN_FIELDS)
    )
    loss_N = _at(f"{place}: {LOSS}", from_npy, field(LOSS), dtype="<f2", width=None)
    patches_NPP3 = _at(
        f"{place}: {patches_field(codec)}",
        codec.decode,
        field(patches_field(codec)),
        num_patches=len(tokens_N6),
        patch_size=patch_size,
    )
    own = {META, TOKENS, LOSS, patches_field(codec)}
    try:
        return Sample(
            key=key,
            tokens_N6=tokens_N6,
            loss_N=loss_N,
            patches_NPP3=patches_NPP3,
            meta=meta,
            fields={name: bytes(data) for name, data in members.items() if name not in own},
        )
    except UsageError as error:
        raise DatasetError(error.problem, place=place) from error


def _at(place: str, read: Any, data: bytes, **settings: Any) -> Any:
    """Return `read(data)`, with the place put in front of what it complains about."""
    try:
        return read(data, **settings)
    except DatasetError as error:
        raise DatasetError(error.problem, place=place) from error


def to_npy(array: npt.NDArray[Any]) -> bytes:
    """Return the array as `.npy` version 1.0, little-endian, C order."""
    out = io.BytesIO()
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    np.lib.format.write_array(out, little, version=(1, 0), allow_pickle=False)
    return out.getvalue()


def from_npy(data: bytes, *, dtype: str, width: int | None) -> npt.NDArray[Any]:
    """Return the array of an `.npy` member, writable: shape (N, width), or (N,) without a width.

    Raises:
        DatasetError: another version, type, order or shape, or more or fewer bytes than the shape
            needs.
    """
    stream = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("its version is not 1.0")
        shape, is_fortran, stored = np.lib.format.read_array_header_1_0(stream)
    except ValueError as error:
        raise DatasetError(f"not an .npy file ({str(error).splitlines()[0]})") from error
    expected = np.dtype(dtype)
    trailing = () if width is None else (width,)
    fits = len(shape) == 1 + len(trailing) and shape[1:] == trailing and shape[0] >= 0
    if stored != expected or is_fortran or not fits:
        raise DatasetError(
            f"the array is {stored} {shape}, not {dtype} (N, {width or ''}) in C order"
        )
    num_bytes = shape[0] * (width or 1) * expected.itemsize
    content = data[stream.tell() :]
    if len(content) != num_bytes:
        raise DatasetError(f"the shape {shape} needs {num_bytes} bytes, there are {len(content)}")
    array = np.frombuffer(content, dtype=expected).reshape(shape)
    return array.astype(expected.newbyteorder("="))
