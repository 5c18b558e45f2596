"""Just enough of Thrift's compact protocol to read a Parquet file's footer before a library trusts it.

What a column unpacks to stands in the footer, and asking the library for it ends the process where the footer
is damaged (pyarrow 26: an exception of C++ that nobody catches). Layout: Thrift's compact protocol and
`parquet.thrift`.
"""

import struct
from typing import Any

from gazepack.errors import DatasetError

_MAGIC = b"PAR1"
_TRAILER = struct.Struct("<I4s")
_MOST_DEPTH = 16
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_NUMBERS = (4, 5, 6)


def parquet_footer(data: bytes) -> dict[int, Any]:
    """Return the `FileMetaData` of a Parquet file, by the numbers of its fields.

    Raises:
        DatasetError: the file does not end in one.
    """
    if len(data) < _TRAILER.size:
        raise DatasetError(f"{len(data)} bytes are no Parquet file")
    size, magic = _TRAILER.unpack_from(data, len(data) - _TRAILER.size)
    if magic != _MAGIC or size > len(data) - _TRAILER.size:
        raise DatasetError("it does not end as a Parquet file")
    reader = _Reader(data[len(data) - _TRAILER.size - size : -_TRAILER.size])
    try:
        return reader.struct(0)
    except (IndexError, struct.error) as error:
        raise DatasetError("the footer of the Parquet file is damaged") from error


class _Reader:
    """A position in a footer; reading beyond its end is an `IndexError` or a `struct.error`."""

    def __init__(self, buffer: bytes) -> None:
        self._buffer = buffer
        self._at = 0

    def struct(self, depth: int) -> dict[int, Any]:
        """Return the fields of a struct by their numbers."""
        if depth > _MOST_DEPTH:
            raise DatasetError("the footer of the Parquet file nests too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            is_flag = kind in (_TRUE, _FALSE)
            fields[number] = kind == _TRUE if is_flag else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        """Return a value that is not a flag of a struct."""
        if kind in _NUMBERS:
            return self._zigzag()
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            self._at += 8
            return struct.unpack_from("<d", self._buffer, self._at - 8)[0]
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            pairs = range(count)
            return [
                (self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1))
                for _ in pairs
            ]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise DatasetError(f"the footer of the Parquet file has a value of kind {kind}")

    def _byte(self) -> int:
        self._at += 1
        return self._buffer[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._buffer) - self._at:
            raise IndexError
        self._at += count
        return self._buffer[self._at - count : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise IndexError
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
