"""The WebDataset container: samples as neighbouring members of a tar.

The bytes depend on nothing but the samples. Python's `tarfile` makes the headers (ustar; a pax
header where a name is longer than 100 bytes), with every field that could tell where or when
zeroed. Reading never asks a member where it wants to
go: names are only ever looked up.
"""

import io
import tarfile
from collections.abc import Iterator, Sequence
from typing import ClassVar

from gazepack.errors import DatasetError
from gazepack.formats.codecs import AnyCodec
from gazepack.formats.codecs.base import Stored
from gazepack.formats.index import Member
from gazepack.formats.members import encode_members
from gazepack.formats.record import Sample
from gazepack.formats.shard import Container, Encoder, Row
from gazepack.formats.storage import Storage

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
"""What ends a tar; all of a shard without samples."""


class TarEncoder:
    """Writes one tar."""

    def __init__(self, codec: AnyCodec) -> None:
        self._codec = codec

    def begin(self) -> bytes:
        """Return nothing: a tar begins with its first member."""
        return b""

    def sample(self, sample: Sample, *, offset: int) -> tuple[bytes, list[Member]]:
        """Return a sample's stretch of the tar, and where its members lie."""
        return sample_to_bytes(sample, self._codec, offset=offset)

    def end(self) -> bytes:
        """Return two zero blocks."""
        return END


class WebDatasetContainer(Container):
    """The container `webdataset`."""

    name: ClassVar[str] = "webdataset"
    extension: ClassVar[str] = "tar"
    is_mapped: ClassVar[bool] = False
    is_npy: ClassVar[bool] = True

    def encoder(self, codec: AnyCodec) -> Encoder:
        """Return what writes one tar."""
        return TarEncoder(codec)

    def head(self, storage: Storage, name: str, *, codec: AnyCodec) -> bytes:  # noqa: ARG002
        """Return nothing: a tar has no head."""
        return b""

    def check_sample(self, stored: Stored, *, row: Row, codec: AnyCodec) -> Iterator[str]:  # noqa: ARG002
        """Yield a problem if a tar reader finds other members than the index lists."""
        listed = [(f"{row['key']}.{m['name']}", m["offset"], m["size"]) for m in row["members"]]
        if tar_members(stored, offset=row["offset"]) != listed:
            yield "tar and index list other members"

    def check_end(self, end: bytes, *, rows: Sequence[Row]) -> Iterator[str]:  # noqa: ARG002
        """Yield a problem unless it is two zero blocks."""
        if end != END:
            yield "it does not end in two zero blocks"

    def most_end_bytes(self, num_rows: int) -> int:  # noqa: ARG002 (always two blocks)
        """Return the length of two blocks."""
        return len(END)


def sample_to_bytes(sample: Sample, codec: AnyCodec, *, offset: int) -> tuple[bytes, list[Member]]:
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


def tar_members(stored: Stored, *, offset: int) -> list[tuple[str, int, int]]:
    """Return (full name, offset in the shard, size) of the members a tar reader finds.

    Raises:
        DatasetError: it is not a run of regular tar members.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(b"".join((stored, END))), mode="r:") as tar:
            found = tar.getmembers()
    except (tarfile.TarError, ValueError, EOFError, OSError) as error:
        raise DatasetError(f"the tar headers are damaged ({error})") from error
    for info in found:
        if not info.isreg():
            raise DatasetError(f"{info.name!r} is not a regular file of the tar")
    return [(info.name, offset + info.offset_data, info.size) for info in found]
