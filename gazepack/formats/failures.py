"""The ledger of what could not be packed: one row a video, in a Parquet file beside the shard.

Text of a failure comes from file systems and decoders and may not be Unicode; bad bytes are kept as
visible escapes, since a ledger that refuses a row would lose a video.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from gazepack.errors import DatasetError
from gazepack.formats.index import refuse_nulls, table_from_bytes, table_to_bytes
from gazepack.formats.meta import canonical_json

FAILURES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
    ]
)
"""The columns of a failures file; `docs/format.md`, section 7."""
_WITHOUT_PARTS = FAILURES_SCHEMA.remove(FAILURES_SCHEMA.get_field_index("window"))
"""What is stored when whole videos failed: their window is 0."""
_SHA256 = "gazepack.rows_sha256"
"""The key of the rows' own checksum. It is not in the index, which does not tell where videos lay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A video that could not be packed."""

    id: str
    """The user's own name of the video."""
    uri: str
    """Where it lies."""
    stage: str
    """The step that gave up."""
    error: str
    """Class name of the error."""
    message: str
    """One line for people."""
    attempts: int
    """How often it was tried."""
    window: int = 0
    """The first window that its samples would have had: not 0 for a later part of a long video."""


def failures_to_bytes(failures: Sequence[Failure]) -> bytes:
    """Return the failures file."""
    rows = [
        {
            name: value.encode("utf-8", "backslashreplace").decode()
            if isinstance(value, str)
            else value
            for name, value in asdict(failure).items()
        }
        for failure in failures
    ]
    has_parts = any(failure.window for failure in failures)
    schema = FAILURES_SCHEMA if has_parts else _WITHOUT_PARTS
    table = pa.Table.from_pylist(rows, schema=schema)
    return table_to_bytes(table.replace_schema_metadata({_SHA256: _rows_sha256(table)}))


def failures_again(data: bytes, *, place: str) -> bytes:
    """Return what a failures file gives when it is read and written here.

    Raises:
        DatasetError: it is not one.
    """
    return table_to_bytes(table_from_bytes(data, place=place))


def _rows_sha256(table: pa.Table) -> str:
    """Return the SHA-256 of the rows as canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(table.to_pylist())).hexdigest()


def failures_from_bytes(data: bytes, *, place: str) -> pa.Table:
    """Return the table of a failures file, with the windows if it does not state them.

    Raises:
        DatasetError: it is not one, or its rows are not those that were written.
    """
    table = table_from_bytes(data, place=place)
    whole = not table.schema.equals(_WITHOUT_PARTS)
    if whole and not table.schema.equals(FAILURES_SCHEMA):
        raise DatasetError("the columns are not those of a failures file", place=place)
    stated = (table.schema.metadata or {}).get(_SHA256.encode())
    if stated is not None and stated != _rows_sha256(table).encode():
        raise DatasetError("its rows are not those that were written", place=place)
    if not whole:
        zeros = pa.array([0] * table.num_rows, pa.int32())
        table = table.append_column(FAILURES_SCHEMA.field("window"), zeros)
    refuse_nulls(table, place=place)
    return table
