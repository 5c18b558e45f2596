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
import pyarrow.compute as pc
import pyarrow.parquet as pq
from zlib_ng import zlib_ng

from gazepack.errors import DatasetError, FormatVersionError
from gazepack.formats.codecs.base import Stored
from gazepack.formats.meta import FORMAT_VERSION, check_meta
from gazepack.formats.record import Sample
from gazepack.formats.thrift import parquet_footer
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
MOST_UNPACKED = 2**27
"""What a Parquet file may unpack to, in bytes, beside a multiple of its own size."""
_MOST_RATIO = 64
_VALUE_BYTES = 4
# the numbers of fields in `parquet.thrift`: of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData
_ROW_GROUPS, _COLUMNS, _NUM_ROWS, _META_DATA, _NUM_VALUES, _UNCOMPRESSED = 4, 1, 3, 3, 5, 6
_COUNTS = ("window", "offset", "size", "tokens", "frames", "dense_tokens", "bytes", "source_bytes")
_KEY = r"^[A-Za-z0-9_-]{1,200}$"
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
    dataset_sha256: str | None = None
    """Of dataset.json when the shard was committed; None when the writer did not say."""


def index_row(
    sample: Sample, *, stored: Stored, offset: int, members: Sequence[Member]
) -> IndexRow:
    """Return the row of a sample that was stored as `stored` at `offset` of its shard."""
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
    return table_to_index(rows_to_table(rows), facts)


def table_to_index(table: pa.Table, facts: ShardFacts) -> bytes:
    """Return the index file of a table of `INDEX_SCHEMA`."""
    metadata = {
        "gazepack.format_version": str(FORMAT_VERSION),
        "gazepack.shard": facts.name,
        "gazepack.shard_size": str(facts.size),
        "gazepack.shard_sha256": facts.sha256,
        "gazepack.failures": str(facts.failures),
    }
    if facts.dataset_sha256 is not None:
        metadata["gazepack.dataset_sha256"] = facts.dataset_sha256
    schema = INDEX_SCHEMA.with_metadata(metadata)
    return table_to_bytes(pa.Table.from_arrays(table.columns, schema=schema))


def is_as_written(data: bytes, again: bytes) -> bool:
    """Return whether a Parquet file has the bytes that its content gives, if the library here wrote it.

    Args:
        data: the file.
        again: its content, written here.
    """
    writers = {pq.read_metadata(pa.BufferReader(file)).created_by for file in (data, again)}
    return data == again or len(writers) > 1


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
    _check_rows(table, place=place)
    return table, facts


def _check_rows(table: pa.Table, *, place: str) -> None:
    """Refuse rows that no writer makes, before anything is planned or allocated by them.

    Raises:
        DatasetError: a null where none may be, a negative number, a key that is none, or tokens that are not
            the sum over the frames.
    """
    refuse_nulls(table, place=place)
    for name in _COUNTS:
        if table.num_rows and pc.min(table[name]).as_py() < 0:
            raise DatasetError(f"column {name} has a negative number", place=place)
    if not pc.all(pc.match_substring_regex(table["key"], _KEY), min_count=0).as_py():
        raise DatasetError("a key has other characters than A-Z a-z 0-9 _ -", place=place)
    per_frame = table["tokens_per_frame"].combine_chunks()
    sums = np.concatenate([[0], np.cumsum(per_frame.values.to_numpy(), dtype=np.int64)])
    bounds = per_frame.offsets.to_numpy()
    if not np.array_equal(np.diff(sums[bounds]), table["tokens"].to_numpy()):
        raise DatasetError("tokens are not the sum of tokens_per_frame", place=place)


def refuse_nulls(table: pa.Table, *, place: str) -> None:
    """Refuse a null in a column that has none, or inside of any list.

    Raises:
        DatasetError: names the column.
    """
    for field, column in zip(table.schema, table.columns, strict=True):
        missing = 0 if field.nullable else column.null_count
        for chunk in column.chunks if pa.types.is_list(field.type) else ():
            inner = chunk.flatten()
            missing += inner.null_count
            if pa.types.is_struct(inner.type):
                missing += sum(part.null_count for part in inner.flatten())
        if missing:
            raise DatasetError(f"column {field.name} lacks {missing} values", place=place)


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
            dataset_sha256=text("dataset_sha256")
            if b"gazepack.dataset_sha256" in metadata
            else None,
        )
    except (KeyError, ValueError) as error:
        raise DatasetError(f"the file metadata are damaged ({error})", place=place) from error
    for sha256 in (facts.sha256, facts.dataset_sha256):
        if sha256 is not None and not _SHA256.fullmatch(sha256):
            raise DatasetError(
                f"the SHA-256 is {sha256[:80]!r}, not 64 hexadecimal digits",
                place=place,
                remedy="restore the index from a copy, or pack the shard again",
            )
    return facts


def table_to_bytes(table: pa.Table) -> bytes:
    """Return a Parquet file without clock or host in it: the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=3, version="2.6")
    return bytes(sink.getvalue())


def _check_unpacked(data: bytes, *, place: str) -> None:
    """Refuse a file that states more rows, values or bytes than an honest one of its size.

    Every row has a name of its own and so takes a byte at least; lists of equal numbers may be long.

    Raises:
        DatasetError: it does, or it does not say.
    """
    try:
        groups = parquet_footer(data)[_ROW_GROUPS]
        rows = sum(group[_NUM_ROWS] for group in groups)
        sizes = [
            (column[_META_DATA][_UNCOMPRESSED], column[_META_DATA][_NUM_VALUES])
            for group in groups
            for column in group[_COLUMNS]
        ]
        unpacked = sum(max(0, size) + _VALUE_BYTES * max(0, values) for size, values in sizes)
    except DatasetError as error:
        raise DatasetError(f"not a readable Parquet file ({error})", place=place) from error
    except (LookupError, TypeError) as error:
        raise DatasetError("not a readable Parquet file (its footer)", place=place) from error
    if rows > len(data) or unpacked > MOST_UNPACKED + _MOST_RATIO * len(data):
        raise DatasetError(
            f"{len(data)} bytes state {rows} rows and {unpacked} bytes unpacked", place=place
        )


def table_from_bytes(data: bytes, *, place: str) -> pa.Table:
    """Return the table of a Parquet file.

    Raises:
        DatasetError: it is not one, states that it unpacks to far more than it is, or its checksums or text are
            damaged.
    """
    _check_unpacked(data, place=place)
    try:
        table = pq.read_table(pa.BufferReader(data), use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(
            f"not a readable Parquet file ({str(error).splitlines()[0]})", place=place
        ) from error
    return table
