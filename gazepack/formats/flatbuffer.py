"""Just enough of FlatBuffers to look into an Arrow file's own headers before a library trusts them.

An Arrow library allocates what a header states, and unpacks what it calls compressed. Both are read here first,
with every offset checked against the bytes that are there. Layout: https://flatbuffers.dev/internals, tables of
`Message.fbs` and `File.fbs` of Apache Arrow.
"""

import struct
from dataclasses import dataclass

from gazepack.errors import DatasetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of a flatbuffer.

    Raises:
        DatasetError: any access beyond the buffer.
    """

    buffer: bytes
    """All of the flatbuffer."""
    position: int
    """Where the table starts."""

    @classmethod
    def root(cls, buffer: bytes) -> "Table":
        """Return the table that the flatbuffer is."""
        return cls(buffer=buffer, position=_number("<I", buffer, 0))

    def field(self, number: int) -> int | None:
        """Return where the value of a field stands, or `None` if it is absent."""
        vtable = self.position - _number("<i", self.buffer, self.position)
        if 4 + 2 * number + 2 > _number("<H", self.buffer, vtable):
            return None
        offset = _number("<H", self.buffer, vtable + 4 + 2 * number)
        return self.position + offset if offset else None

    def number(self, number: int, layout: str) -> int:
        """Return the whole number in a field, 0 if it is absent."""
        at = self.field(number)
        return 0 if at is None else _number(layout, self.buffer, at)

    def table(self, number: int) -> "Table | None":
        """Return the table that a field refers to, or `None` if it is absent."""
        at = self.field(number)
        if at is None:
            return None
        return Table(buffer=self.buffer, position=at + _number("<I", self.buffer, at))

    def structs(self, number: int, layout: str) -> list[tuple[int, ...]]:
        """Return the vector of fixed structs that a field refers to; none if it is absent."""
        at = self.field(number)
        if at is None:
            return []
        start = at + _number("<I", self.buffer, at)
        count, size = _number("<I", self.buffer, start), struct.calcsize(layout)
        if start + 4 + count * size > len(self.buffer):
            raise DatasetError(f"a list of {count} structs ends beyond its header")
        content = self.buffer[start + 4 : start + 4 + count * size]
        return list(struct.iter_unpack(layout, content))


def _number(layout: str, buffer: bytes, at: int) -> int:
    if at < 0:
        raise DatasetError(f"a header refers to byte {at}")
    try:
        return int(struct.unpack_from(layout, buffer, at)[0])
    except struct.error as error:
        raise DatasetError(f"a header refers to byte {at} of {len(buffer)}") from error
