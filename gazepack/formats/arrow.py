"""The Arrow container: one record batch a sample in an uncompressed Arrow IPC file.

Any Arrow library and `datasets` read it alone, mapped into memory. gazepack cuts the members out of a
sample's stretch as the index places them, as it does with a tar, and asks no Arrow library: nothing that a
header claims is allocated. Against a tar it saves about 3 kB a sample and gives up that any `tar` can list it.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from gazepack.errors import DatasetError
from gazepack.formats.codecs import AnyCodec, PlacesCodec
from gazepack.formats.codecs.base import Stored
from gazepack.formats.flatbuffer import Table
from gazepack.formats.index import Member
from gazepack.formats.members import (
    LOSS,
    META,
    TOKENS,
    coded_field,
    encoded,
    to_values,
)
from gazepack.formats.meta import FORMAT_VERSION, canonical_json
from gazepack.formats.record import TOKEN_FIELDS, Sample
from gazepack.formats.shard import Container, Encoder, Row
from gazepack.formats.storage import Storage

_FIELDS_TYPE = pa.list_(
    pa.struct(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("content", pa.large_binary(), nullable=False),
        ]
    )
)
_METADATA = {"gazepack.format_version": str(FORMAT_VERSION)}
_KEY = pa.field("key", pa.string(), nullable=False)
_JSON = pa.field("json", pa.string(), nullable=False)
_FIELDS = pa.field("fields", _FIELDS_TYPE, nullable=False)
SCHEMA = pa.schema(
    [
        _KEY,
        _JSON,
        pa.field("tokens", pa.list_(pa.list_(pa.uint16(), len(TOKEN_FIELDS))), nullable=False),
        pa.field("loss", pa.list_(pa.float16()), nullable=False),
        pa.field("patches", pa.large_binary(), nullable=False),
        _FIELDS,
    ],
    metadata=_METADATA,
)
"""The columns of a shard; `docs/format.md`, section 3."""
PLACES_SCHEMA = pa.schema(
    [_KEY, _JSON, pa.field("places", pa.large_binary(), nullable=False), _FIELDS],
    metadata=_METADATA,
)
"""The columns of a shard without patches."""

MAGIC = b"ARROW1"
_START = MAGIC + bytes(2)
_PREFIX = struct.Struct("<Ii")
"""In front of every message: a continuation mark and the size of its header."""
_CONTINUATION = 0xFFFFFFFF
_MOST_HEADER_BYTES = 1 << 20
_RECORD_BATCH = 3
"""The number of this kind of header in `Message.fbs`."""
_BLOCK = "<qi4xq"
"""`Block` of `File.fbs`: offset, size of the header with its prefix, size of the body."""


def schema_of(codec: AnyCodec) -> pa.Schema:
    """Return the columns of a shard whose samples a codec makes."""
    return PLACES_SCHEMA if isinstance(codec, PlacesCodec) else SCHEMA


class _Sink:
    """A file in memory that is emptied as it is written."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        """Append."""
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        """Return how much was ever written."""
        return self._size

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Take no more."""
        self.closed = True

    def take(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


class ArrowEncoder:
    """Writes one Arrow file."""

    def __init__(self, codec: AnyCodec) -> None:
        self._codec = codec
        self._sink = _Sink()
        schema = schema_of(codec)
        self._writer = pa.ipc.new_file(pa.PythonFile(self._sink, mode="w"), schema)
        self._head = _START + bytes(schema.serialize())

    def begin(self) -> bytes:
        """Return the magic number and the schema."""
        return self._head

    def sample(self, sample: Sample, *, offset: int) -> tuple[bytes, list[Member]]:
        """Return a sample's record batch, and where the values of its columns lie."""
        self._writer.write_batch(_batch(sample, self._codec))
        stored = self._taken()
        return stored, batch_members(stored, offset=offset, codec=self._codec)

    def end(self) -> bytes:
        """Return the end mark and the footer."""
        self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        """Return what is new; the library writes the head together with what comes first."""
        data = self._sink.take()
        if self._sink.tell() == len(data):
            data = data.removeprefix(self._head)
        return data


class ArrowContainer(Container):
    """The container `arrow`."""

    name: ClassVar[str] = "arrow"
    extension: ClassVar[str] = "arrow"
    is_mapped: ClassVar[bool] = True
    is_npy: ClassVar[bool] = False

    def encoder(self, codec: AnyCodec) -> Encoder:
        """Return what writes one Arrow file."""
        return ArrowEncoder(codec)

    def head(self, storage: Storage, name: str, *, codec: AnyCodec) -> bytes:
        """Return the magic number and the schema of a shard."""
        start = storage.read_range(name, offset=0, size=len(_START) + _PREFIX.size)
        mark, size = _PREFIX.unpack_from(start, len(_START))
        if not start.startswith(_START) or mark != _CONTINUATION:
            raise DatasetError("it does not begin as an Arrow file", place=name)
        if not 0 < size <= _MOST_HEADER_BYTES:
            raise DatasetError(f"its schema has {size} bytes", place=name)
        head = start + storage.read_range(name, offset=len(start), size=size)
        try:
            schema = pa.ipc.read_schema(pa.py_buffer(head[len(_START) :]))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DatasetError(f"its schema cannot be read ({error})", place=name) from error
        if not schema.equals(schema_of(codec)):
            raise DatasetError("its columns are not those of a version 1 shard", place=name)
        return head

    def check_sample(self, stored: Stored, *, row: Row, codec: AnyCodec) -> Iterator[str]:
        """Yield a problem if an Arrow reader finds other values than the index lists."""
        found = batch_members(stored, offset=row["offset"], codec=codec)
        if [(m.name, m.offset, m.size) for m in found] != [
            (m["name"], m["offset"], m["size"]) for m in row["members"]
        ]:
            yield "record batch and index list other members"
        if (key := _read_batch(stored, codec)["key"][0].as_py()) != row["key"]:
            yield f"the record batch has the key {key!r}"

    def check_end(self, end: bytes, *, rows: Sequence[Row]) -> Iterator[str]:
        """Yield what is wrong with the end mark and the footer."""
        mark = _PREFIX.pack(_CONTINUATION, 0)
        size = len(end) - len(mark) - 4 - len(MAGIC)
        trailer = struct.pack("<i", max(0, size)) + MAGIC
        if size <= 0 or not end.startswith(mark) or not end.endswith(trailer):
            yield "it does not end as an Arrow file"
            return
        try:
            blocks = Table.root(end[len(mark) : len(mark) + size]).structs(3, _BLOCK)
        except DatasetError as error:
            yield f"its footer is damaged ({error})"
            return
        found = [(offset, header + body) for offset, header, body in blocks]
        if found != [(row["offset"], row["size"]) for row in rows]:
            yield "footer and index list other samples"

    def most_end_bytes(self, num_rows: int) -> int:
        """Return a bound on the footer: its schema, and 24 bytes a sample."""
        return _MOST_HEADER_BYTES + 24 * num_rows


def _batch(sample: Sample, codec: AnyCodec) -> pa.RecordBatch:
    """Return the one row of a sample."""
    columns = [
        pa.array([sample.key], pa.string()),
        pa.array([canonical_json(sample.meta).decode()], pa.string()),
    ]
    if not isinstance(codec, PlacesCodec):
        count = pa.array([0, sample.num_tokens], pa.int32())
        tokens = pa.array(to_values(sample.tokens_N6).ravel())
        rows = pa.FixedSizeListArray.from_arrays(tokens, len(TOKEN_FIELDS))
        columns.append(pa.ListArray.from_arrays(count, rows))
        columns.append(pa.ListArray.from_arrays(count, pa.array(to_values(sample.loss_N))))
    columns.append(pa.array([encoded(sample, codec)], pa.large_binary()))
    fields = [{"name": name, "content": data} for name, data in sorted(sample.fields.items())]
    columns.append(pa.array([fields], _FIELDS_TYPE))
    return pa.record_batch(columns, schema=schema_of(codec))


def batch_members(stored: Stored, *, offset: int, codec: AnyCodec) -> list[Member]:
    """Return where an Arrow reader finds the values of a sample's columns.

    Args:
        stored: the sample's record batch, with its header.
        offset: where it starts in the shard.
        codec: what made the sample's members.

    Raises:
        DatasetError: it is not one uncompressed record batch of our columns.
    """
    batch = _read_batch(stored, codec)
    base = pa.py_buffer(stored).address
    fields = batch["fields"].values
    values = {META: (batch["json"].buffers()[2], len(batch["json"][0].as_buffer()))}
    if not isinstance(codec, PlacesCodec):
        tokens, loss = batch["tokens"].values, batch["loss"].values
        values[TOKENS] = tokens.values.buffers()[1], 2 * len(TOKEN_FIELDS) * len(tokens)
        values[LOSS] = loss.buffers()[1], 2 * len(loss)
    coded = batch["places" if isinstance(codec, PlacesCodec) else "patches"]
    values[coded_field(codec)] = coded.buffers()[2], len(coded[0].as_buffer())
    members = [
        _member(name, buffer, base=base, offset=offset, size=size)
        for name, (buffer, size) in values.items()
    ]
    contents = fields.field("content")
    names = fields.field("name").to_pylist()
    ends = struct.unpack_from(f"<{len(names) + 1}q", contents.buffers()[1]) if names else ()
    for name, start, end in zip(names, ends[:-1], ends[1:], strict=True):
        member = _member(
            name, contents.buffers()[2], base=base, offset=offset, size=end - start, skip=start
        )
        members.append(member)
    return members


def _member(
    name: str, buffer: "pa.Buffer | None", *, base: int, offset: int, size: int, skip: int = 0
) -> Member:
    """Return where a buffer lies; one without bytes lies at the sample's start."""
    at = buffer.address - base + skip if size and buffer is not None else 0
    return Member(name=name, offset=offset + at, size=size)


def _read_batch(stored: Stored, codec: AnyCodec) -> pa.RecordBatch:
    """Return the record batch in these bytes, whose buffers point into them.

    Raises:
        DatasetError: it is not one uncompressed record batch of our columns.
    """
    _check_header(stored)
    schema = schema_of(codec)
    try:
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(pa.py_buffer(stored)), schema)
        batch.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"the record batch cannot be read ({problem})") from error
    if batch.num_rows != 1:
        raise DatasetError(f"the record batch has {batch.num_rows} rows, not 1")
    return batch


def _check_header(stored: Stored) -> None:
    """Refuse what an Arrow library would allocate for: anything but a plain record batch of this length."""
    if len(stored) < _PREFIX.size:
        raise DatasetError(f"{len(stored)} bytes are no record batch")
    mark, size = _PREFIX.unpack_from(stored)
    if mark != _CONTINUATION or not 0 < size <= len(stored) - _PREFIX.size:
        raise DatasetError("the record batch does not begin as one")
    message = Table.root(bytes(stored[_PREFIX.size : _PREFIX.size + size]))
    header = message.table(2)
    if message.number(1, "<B") != _RECORD_BATCH or header is None:
        raise DatasetError("the message is not a record batch")
    if header.field(3) is not None:
        raise DatasetError("the record batch is compressed, which version 1 does not allow")
    body = len(stored) - _PREFIX.size - size
    if (stated := message.number(3, "<q")) != body:
        raise DatasetError(f"the record batch states a body of {stated} bytes, there are {body}")
