"""What a container is, and the writer of a shard in any of them.

A container says how samples lie in a file: what stands before the first, how one is laid out, what follows
the last. Everything else (checksums, index rows, the order of commits) is the same for all of them, so a
reader that has an index row reads the sample's stretch of the file and cuts the members out of it, whatever
the container.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from gazepack.errors import DatasetError
from gazepack.formats.codecs import AnyCodec
from gazepack.formats.codecs.base import Room, Stored
from gazepack.formats.index import IndexRow, Member, index_row
from gazepack.formats.members import SampleT, decode_members
from gazepack.formats.record import Sample
from gazepack.formats.storage import Staged, Storage

Row = Mapping[str, Any]
"""A row of an index, as a dictionary."""


class Encoder(Protocol):
    """Turns samples into the bytes of one shard, one after the other."""

    def begin(self) -> bytes:
        """Return what stands before the first sample."""
        ...

    def sample(self, sample: Sample, *, offset: int) -> tuple[bytes, list[Member]]:
        """Return a sample's bytes, and where its members lie when these start at `offset`."""
        ...

    def end(self) -> bytes:
        """Return what follows the last sample."""
        ...


class Container(ABC):
    """How samples lie in a shard; `docs/format.md`, section 3."""

    name: ClassVar[str]
    """The name users write."""
    extension: ClassVar[str]
    """Of a shard's file."""
    is_mapped: ClassVar[bool]
    """Whether files of this machine are read as memory."""
    is_npy: ClassVar[bool]
    """Whether arrays are stored as `.npy` files; else as their values alone."""

    @abstractmethod
    def encoder(self, codec: AnyCodec) -> Encoder:
        """Return what writes one shard."""

    def read(
        self,
        stored: Stored,
        *,
        row: Row,
        codec: AnyCodec,
        patch_size: int,
        place: str,
        kind: type[SampleT],
        room: Room | None = None,
    ) -> SampleT:
        """Return the sample of an index row.

        Args:
            stored: the bytes `row["offset"]` to `row["offset"] + row["size"]` of the shard.
            row: key, offset and members are used.
            codec: what encoded the patches, or their places.
            patch_size: side of every patch, in pixels.
            place: the shard, for messages.
            kind: `Sample`, or `LooseSample` to check the tokens of many samples together.
            room: gives the memory that the patches are decoded into; new memory by default.

        Raises:
            DatasetError: a member lies outside the stretch, is missing or does not hold what it must.
        """
        return decode_members(
            cut_members(stored, row=row, place=place),
            key=row["key"],
            codec=codec,
            patch_size=patch_size,
            place=place,
            kind=kind,
            is_npy=self.is_npy,
            room=room,
        )

    @abstractmethod
    def head(self, storage: Storage, name: str, *, codec: AnyCodec) -> bytes:
        """Return what stands before the first sample of a shard.

        Raises:
            DatasetError: it is not what this container begins with.
        """

    @abstractmethod
    def check_sample(self, stored: Stored, *, row: Row, codec: AnyCodec) -> Iterator[str]:
        """Yield how a sample differs from what the index lists, to a reader that has no index."""

    @abstractmethod
    def check_end(self, end: bytes, *, rows: Sequence[Row]) -> Iterator[str]:
        """Yield what is wrong with what follows the last sample."""

    @abstractmethod
    def most_end_bytes(self, num_rows: int) -> int:
        """Return how long the end of a shard of so many samples may be."""


class ShardWriter:
    """Writes samples one after the other and keeps their index rows; holds one sample at a time."""

    def __init__(self, file: Staged, encoder: Encoder) -> None:
        self._file = file
        self._encoder = encoder
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._rows: list[IndexRow] = []
        self._append(encoder.begin())

    def write(self, sample: Sample) -> IndexRow:
        """Append one sample and return its index row."""
        stored, members = self._encoder.sample(sample, offset=self._size)
        row = index_row(sample, stored=stored, offset=self._size, members=members)
        self._append(stored)
        self._rows.append(row)
        return row

    def finish(self) -> None:
        """Append the end of the shard."""
        self._append(self._encoder.end())

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


def cut_members(stored: Stored, *, row: Row, place: str) -> dict[str, memoryview]:
    """Return the content of a sample's members by name, as the index places them; nothing is copied.

    Raises:
        DatasetError: a member lies outside the sample.
    """
    view = memoryview(stored)
    contents: dict[str, memoryview] = {}
    for member in row["members"]:
        start = member["offset"] - row["offset"]
        if start < 0 or member["size"] < 0 or start + member["size"] > len(stored):
            raise DatasetError(
                f"the index places it at bytes {member['offset']} to "
                f"{member['offset'] + member['size']}, outside the sample",
                place=f"{place}: sample {row['key']}: {member['name']}",
            )
        contents[member["name"]] = view[start : start + member["size"]]
    return contents
