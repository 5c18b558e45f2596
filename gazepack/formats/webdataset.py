"""The WebDataset container: samples as neighbouring members of a tar.

The bytes depend on nothing but the samples. Python's `tarfile` makes the headers (ustar; a pax
header where a name is longer than 100 bytes), with every field that could tell where or when
zeroed. Reading never asks a member where it wants to
go: names are only ever looked up.
"""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from gazepack.errors import DatasetError
from gazepack.formats.codecs.base import Codec
from gazepack.formats.index import IndexRow, Member, index_row
from gazepack.formats.members import decode_members, encode_members
from gazepack.formats.record import Sample
from gazepack.formats.storage import Staged

EXTENSION = "tar"
BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
"""What ends a tar; all of a shard without samples."""


class ShardWriter:
    """Writes samples one after the other and keeps their index rows; holds one sample at a time."""

    def __init__(self, file: Staged, codec: Codec) -> None:
        self._file = file
        self._codec = codec
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._rows: list[IndexRow] = []

    def write(self, sample: Sample) -> IndexRow:
        """Append one sample and return its index row."""
        stored, members = sample_to_bytes(sample, self._codec, offset=self._size)
        row = index_row(sample, stored=stored, offset=self._size, members=members)
        self._append(stored)
        self._rows.append(row)
        return row

    def finish(self) -> None:
        """Append the end of the archive."""
        self._append(END)

    @property
    def rows(self) -> Sequence[IndexRow]:
        """The index rows of everything written so far."""
        return self._rows

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def sha256(self) -> str:
        """Of the bytes written so far, in hexadecimal."""
        return self._sha256.hexdigest()

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._size += len(data)


def sample_to_bytes(sample: Sample, codec: Codec, *, offset: int) -> tuple[bytes, list[Member]]:
    """Return a sample's stretch of the tar, and where its members lie if it starts at `offset`."""
    parts: list[bytes] = []
    members: list[Member] = []
    position = offset
    for name, content in encode_members(sample, codec).items():
        header = _header(f"{sample.key}.{name}", len(content))
        members.append(Member(name=name, offset=position + len(header), size=len(content)))
        padding = bytes(-len(content) % BLOCK)
        parts += [header, content, padding]
        position += len(header) + len(content) + len(padding)
    return b"".join(parts), members


def _header(name: str, size: int) -> bytes:
    """Return the header block of a member, with a pax header in front where the name needs one."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def sample_from_bytes(
    stored: bytes, *, row: Mapping[str, Any], codec: Codec, patch_size: int, place: str
) -> Sample:
    """Return the sample of an index row from its stretch of the tar.

    Args:
        stored: the bytes `row["offset"]` to `row["offset"] + row["size"]` of the shard.
        row: key, offset and members are used.
        codec: what encoded the patches.
        patch_size: side of every patch, in pixels.
        place: the shard, for messages.

    Raises:
        DatasetError: a member lies outside the stretch, is missing or does not hold what it must.
    """
    view = memoryview(stored)
    contents: dict[str, bytes] = {}
    for member in row["members"]:
        start = member["offset"] - row["offset"]
        if start < 0 or member["size"] < 0 or start + member["size"] > len(stored):
            raise DatasetError(
                f"the index places it at bytes {member['offset']} to "
                f"{member['offset'] + member['size']}, outside the sample",
                place=f"{place}: sample {row['key']}: {member['name']}",
            )
        contents[member["name"]] = bytes(view[start : start + member["size"]])
    return decode_members(contents, key=row["key"], codec=codec, patch_size=patch_size, place=place)


def tar_members(stored: bytes, *, offset: int, place: str) -> list[tuple[str, int, int]]:
    """Return (full name, offset in the shard, size) of the members a tar reader finds.

    Raises:
        DatasetError: it is not a run of regular tar members.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(stored + END), mode="r:") as tar:
            found = tar.getmembers()
    except (tarfile.TarError, ValueError, EOFError, OSError) as error:
        raise DatasetError(f"the tar headers are damaged ({error})", place=place) from error
    for info in found:
        if not info.isreg():
            raise DatasetError(f"{info.name!r} is not a regular file of the tar", place=place)
    return [(info.name, offset + info.offset_data, info.size) for info in found]
