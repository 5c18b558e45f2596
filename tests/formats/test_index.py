"""The index of a shard."""

import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gazepack.errors import DatasetError, FormatVersionError
from gazepack.formats import INDEX_SCHEMA
from gazepack.formats.index import (
    Member,
    ShardFacts,
    index_from_bytes,
    index_row,
    index_to_bytes,
    table_to_bytes,
)

FACTS = ShardFacts(name="shards/000000.tar", size=1024, sha256="ab" * 32, failures=0)


def row_of(sample):
    """Return the index row of a sample stored as five bytes at 512."""
    member = Member(name="txt", offset=512, size=5)
    return index_row(sample, stored=b"bytes", offset=512, members=[member])


def test_a_row_says_what_the_sample_says(make_sample):
    """Every column comes from the sample and its place."""
    table, facts = index_from_bytes(index_to_bytes([row_of(make_sample("k"))], FACTS), place="i")
    assert facts == FACTS
    assert table.to_pylist() == [
        {
            "key": "k",
            "id": "Ünïcode id/k\n",
            "window": 0,
            "offset": 512,
            "size": 5,
            "crc32": zlib.crc32(b"bytes"),
            "members": [{"name": "txt", "offset": 512, "size": 5}],
            "tokens": 12,
            "frames": 3,
            "tokens_per_frame": [5, 0, 7],
            "dense_tokens": 196 * 2 * 3,
            "duration_seconds": 1.5,
            "start_seconds": 0.5,
            "bytes": 5,
            "source_bytes": 1000,
            "min_psnr": 30.0,
            "mean_psnr": 31.0,
        }
    ]


def test_unknown_numbers_are_null(make_sample):
    """Without frames there is no PSNR; without an end, no duration."""
    sample = make_sample("k", tokens=())
    sample.meta["source"]["end_seconds"] = None
    row = row_of(sample)
    assert (row.min_psnr, row.mean_psnr, row.duration_seconds, row.tokens) == (None, None, None, 0)


def test_same_rows_give_same_bytes(make_sample):
    """No clock is in the file; an empty index is a file too."""
    first, second = (index_to_bytes([row_of(make_sample("k"))], FACTS) for _ in range(2))
    assert first == second
    table, _ = index_from_bytes(index_to_bytes([], FACTS), place="i")
    assert table.num_rows == 0
    assert table.schema.equals(INDEX_SCHEMA)


def rewritten(tmp_path, metadata):
    """Return an empty index with other file metadata."""
    path = tmp_path / "index.parquet"
    path.write_bytes(index_to_bytes([], FACTS))
    table = pq.read_table(path)
    changed = {k.decode(): v.decode() for k, v in table.schema.metadata.items()} | metadata
    return table_to_bytes(table.replace_schema_metadata(changed))


def test_a_newer_version_is_refused(tmp_path):
    """An index of a later format is not guessed at."""
    with pytest.raises(FormatVersionError, match="i: format version 2 is newer than 1; update"):
        index_from_bytes(rewritten(tmp_path, {"gazepack.format_version": "2"}), place="i")


def test_damaged_file_metadata_are_refused(tmp_path):
    """Metadata that are missing or no numbers are a DatasetError."""
    with pytest.raises(DatasetError, match="i: the file metadata are damaged"):
        index_from_bytes(rewritten(tmp_path, {"gazepack.shard_size": "many"}), place="i")
    with pytest.raises(DatasetError, match="i: the file metadata are damaged"):
        index_from_bytes(table_to_bytes(INDEX_SCHEMA.empty_table()), place="i")


@pytest.mark.parametrize(
    "sha256", ["", "ab" * 31, "ab" * 33, "AB" * 32, "xy" * 32, "ab" * 32 + "\n", "../outside"]
)
def test_a_hash_that_is_none_is_refused(sha256, tmp_path):
    """A shard's SHA-256 is 64 hexadecimal digits in lower case, and nothing else."""
    data = rewritten(tmp_path, {"gazepack.shard_sha256": "0f" * 32})
    assert index_from_bytes(data, place="i")[1].sha256 == "0f" * 32
    data = rewritten(tmp_path, {"gazepack.shard_sha256": sha256})
    with pytest.raises(DatasetError, match=r"i: the SHA-256 is '.*', not 64 hex"):
        index_from_bytes(data, place="i")


def test_other_columns_are_refused(tmp_path):
    """A Parquet file with our metadata and other columns is no index."""
    data = rewritten(tmp_path, {})
    table, _ = index_from_bytes(data, place="i")
    other = table_to_bytes(table.drop(["tokens"]))
    with pytest.raises(DatasetError, match="i: the columns are not those of a version 1 index"):
        index_from_bytes(other, place="i")


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
def test_a_cut_file_is_refused(cut, make_sample):
    """A part of an index is never read as an index."""
    data = index_to_bytes([row_of(make_sample("k"))], FACTS)
    with pytest.raises(DatasetError, match="i: not a readable Parquet file"):
        index_from_bytes(data[:cut], place="i")


MEMBER = {"name": "json", "offset": 0, "size": 3}


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("members", [None], "column members lacks 4 values"),
        ("members", [MEMBER | {"offset": None}], "column members lacks 1 values"),
        ("members", [MEMBER | {"name": None}], "column members lacks 1 values"),
        ("tokens_per_frame", [12, None], "column tokens_per_frame lacks 1 values"),
        ("key", None, "the columns are not those of a version 1 index"),
        ("offset", -1, "column offset has a negative number"),
        ("size", -1, "column size has a negative number"),
        ("tokens", -1, "column tokens has a negative number"),
        ("tokens", 2**40, "tokens are not the sum of tokens_per_frame"),
        ("tokens_per_frame", [], "tokens are not the sum of tokens_per_frame"),
        ("key", "../a", "a key has other characters than"),
        ("key", "", "a key has other characters than"),
    ],
)
def test_rows_that_no_writer_makes_are_refused(column, value, problem, make_sample):
    """Nulls, negative numbers, strange keys and counts that do not add up never leave the index."""
    good = index_to_bytes([row_of(make_sample("k")), row_of(make_sample("l"))], FACTS)
    table, _ = index_from_bytes(good, place="p")
    field = table.schema.field(column)
    values = pa.array([value, *table[column].to_pylist()[1:]], field.type)
    at = table.schema.get_field_index(column)
    changed = table.set_column(at, field.with_nullable(value is None), values)
    with pytest.raises(DatasetError, match=problem):
        index_from_bytes(table_to_bytes(changed), place="p")
