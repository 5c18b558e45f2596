"""The index of a shard: one Parquet row a sample, with the shard's size and hash.

The index is the commit (a shard without one does not exist), the address book (every member's
place, for range requests), and the planner's table (token counts, known before a byte of the shard
is read). Everything a batch plan needs is a column; the user's own metadata stay in the samples.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from zlib_ng import zlib_ng

from gazepack.errors import DatasetError, FormatVersionError
from gazepack.formats.meta import FORMAT_VERSION, check_meta
from gazepack.formats.record import Sample
from gazepack.geometry import DENSE_TILE_TOKENS

_SHA256 = re.compile(r"[0-9a-f]{64}")
MEMBER_TYPE = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
        pa.field("members", pa.list_(MEMBER_TYPE), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("tokens_per_frame", pa.list_(pa.uint16()), nullable=False),
        pa.field("dense_tokens", pa.int64(), nullable=False),
        pa.field("duration_seconds", pa.float64()),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("source_bytes", pa.int64(), nullable=False),
        pa.field("min_psnr", pa.float32()),
        pa.field("mean_psnr", pa.float32()),
    ]
)
"""The columns of an index file; `docs/format.md`, section 6."""
SHARD_FIELD = pa.field("shard", pa.int64(), nullable=False)
"""What a reader puts in front of the columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Where one field of a sample lies in the shard."""

    name: str
    """The field."""
    offset: int
    """First byte of its content in the shard."""
    size: int
    """Length of its content in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """One sample; the fields are the columns of `INDEX_SCHEMA`."""

    key: str
    id: str
    window: int
    offset: int
    size: int
    crc32: int
    members: tuple[Member, ...]
    tokens: int
    frames: int
    tokens_per_frame: tuple[int, ...]
    dense_tokens: int
    duration_seconds: float | None
    start_seconds: float
    bytes: int
    source_bytes: int
    min_psnr: float | None
    mean_psnr: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFacts:
    """What an index says of its shard as a whole."""

    name: str
    """Of the shard, below the root."""
    size: int
    """In bytes."""
    sha256: str
    """In hexadecimal, 64 digits."""
    failures: int
    """Rows of the failures file; 0 when there is none."""


def index_row(sample: Sample, *, stored: bytes, offset: int, members: Sequence[Member]) -> IndexRow:
    """Return the row of a sample that was stored as the bytes `stored` at `offset` of its shard."""
    meta = check_meta(sample.meta)
    psnr = np.array([value for view in meta.views for value in view.psnr], dtype=np.float64)
    end = meta.source.end_seconds
    return IndexRow(
        key=sample.key,
        id=meta.id,
        window=meta.window,
        offset=offset,
        size=len(stored),
        crc32=zlib_ng.crc32(stored),
        members=tuple(members),
        tokens=sample.num_tokens,
        frames=len(meta.views[0].times),
        tokens_per_frame=tuple(count for view in meta.views for count in view.tokens),
        dense_tokens=sum(DENSE_TILE_TOKENS * v.rows * v.cols * len(v.times) for v in meta.views),
        duration_seconds=None if end is None else end - meta.source.start_seconds,
        start_seconds=meta.source.start_seconds,
        bytes=len(stored),
        source_bytes=meta.source.bytes,
        min_psnr=float(psnr.min()) if psnr.size else None,
        mean_psnr=float(psnr.mean()) if psnr.size else None,
    )


def rows_to_table(rows: Sequence[IndexRow]) -> pa.Table:
    """Return the rows as a table of `INDEX_SCHEMA`."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=INDEX_SCHEMA)


def index_to_bytes(rows: Sequence[IndexRow], facts: ShardFacts) -> bytes:
    """Return the index file."""
    metadata = {
        "gazepack.format_version": str(FORMAT_VERSION),
        "gazepack.shard": facts.name,
        "gazepack.shard_size": str(facts.size),
        "gazepack.shard_sha256": facts.sha256,
        "gazepack.failures": str(facts.failures),
    }
    return table_to_bytes(rows_to_table(rows).replace_schema_metadata(metadata))


def index_from_bytes(data: bytes, *, place: str) -> tuple[pa.Table, ShardFacts]:
    """Return the table, with its facts.

    Raises:
        FormatVersionError: a newer gazepack wrote it.
        DatasetError: it is not an index.
    """
    table = table_from_bytes(data, place=place)
    facts = _facts(table.schema.metadata or {}, place=place)
    if not table.schema.equals(INDEX_SCHEMA):
        raise DatasetError("the columns are not those of a version 1 index", place=place)
    return table, facts


def _facts(metadata: Mapping[bytes, bytes], *, place: str) -> ShardFacts:
    def text(name: str) -> str:
        return metadata[f"gazepack.{name}".encode()].decode()

    try:
        version = int(text("format_version"))
        if version > FORMAT_VERSION:
            raise FormatVersionError(
                f"format version {version} is newer than {FORMAT_VERSION}",
                place=place,
                remedy="update gazepack",
            )
        facts = ShardFacts(
            name=text("shard"),
            size=int(text("shard_size")),
            sha256=text("shard_sha256"),
            failures=int(text("failures")),
        )
    except (KeyError, ValueError) as error:
        raise DatasetError(f"the file metadata are damaged ({error})", place=place) from error
    if not _SHA256.fullmatch(facts.sha256):
        raise DatasetError(
            f"the SHA-256 of the shard is {facts.sha256[:80]!r}, not 64 hexadecimal digits",
            place=place,
            remedy="restore the index from a copy, or pack the shard again",
        )
    return facts


def table_to_bytes(table: pa.Table) -> bytes:
    """Return a Parquet file without clock or host in it: the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=3, version="2.6")
    return bytes(sink.getvalue())


def table_from_bytes(data: bytes, *, place: str) -> pa.Table:
    """Return the table of a Parquet file.

    Raises:
        DatasetError: it is not one, or its checksums or text are damaged.
    """
    try:
        table = pq.read_table(pa.BufferReader(data), use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(
            f"not a readable Parquet file ({str(error).splitlines()[0]})", place=place
        ) from error
    return table
