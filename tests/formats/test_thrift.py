"""A Parquet file's footer."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gazepack.errors import DatasetError
from gazepack.formats.index import index_from_bytes
from gazepack.formats.thrift import parquet_footer


@pytest.fixture
def stored():
    """A file of two row groups with flat and nested columns."""
    table = pa.table({"x": np.arange(5), "y": [[1, 2], [], [3], [4, 5, 6], []], "z": list("abcde")})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=3)
    return bytes(sink.getvalue())


def test_it_says_what_the_library_says(stored):
    """Rows, values and sizes of every column of every group."""
    metadata = pq.read_metadata(pa.BufferReader(stored))
    groups = parquet_footer(stored)[4]
    assert [group[3] for group in groups] == [3, 2]
    for number, group in enumerate(groups):
        theirs = metadata.row_group(number)
        for at, column in enumerate(group[1]):
            expected = theirs.column(at)
            assert (column[3][5], column[3][6]) == (
                expected.num_values,
                expected.total_uncompressed_size,
            )
    assert parquet_footer(stored)[6].decode() == metadata.created_by


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:4],
        lambda d: d[:-1] + b"2",
        lambda d: d[:-8] + b"\xff\xff\xff\x7f" + d[-4:],
        lambda _: b"\x1c" * 300 + b"\x2c\x01\x00\x00PAR1",
        lambda _: b"\x19\xff\xff\xff\xff\x0f" + b"\x06\x00\x00\x00PAR1",
        lambda _: b"\x18\xff\xff\xff\x0f" + b"\x05\x00\x00\x00PAR1",
        lambda _: b"\x15" + b"\x80" * 20 + b"\x15\x00\x00\x00PAR1",
        lambda _: b"\x1d\x00" + b"\x02\x00\x00\x00PAR1",
    ],
)
def test_damage_is_refused(damage, stored):
    """Cut short, nested without end, longer than it is, of a kind that is none: one line, at once."""
    with pytest.raises(DatasetError, match="Parquet file"):
        parquet_footer(damage(stored))


@pytest.mark.parametrize(
    "groups", [b"\x49\x0b", b"\x49\x1b\x00", b"\x48\x00", b"\x45\x02", b"\x49\x1c\x00"]
)
def test_a_footer_of_other_fields_is_refused(groups):
    """Maps, text, a number or empty structs where the row groups should be (found by fuzzing)."""
    footer = groups + b"\x00"
    data = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(DatasetError, match="not a readable Parquet file"):
        index_from_bytes(data, place="p")


@pytest.mark.parametrize("turned", range(0, 400, 3))
def test_any_damage_to_a_footer_leaves_the_process_alive(turned, stored):
    """Found by fuzzing: asked for a damaged column, the library ended the process."""
    data = bytearray(stored)
    data[-9 - turned] ^= 1 << turned % 8
    with pytest.raises(DatasetError):
        index_from_bytes(bytes(data), place="p")
