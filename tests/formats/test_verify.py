"""Damage is found wherever it is."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gazepack.errors import DatasetError
from gazepack.formats import DatasetDirectory, DatasetInfo, Failure, verify_shard
from gazepack.formats.index import (
    index_from_bytes,
    index_to_bytes,
    table_to_bytes,
    table_to_index,
)

FAILURE = Failure(id="f", uri="u", stage="open", error="VideoError", message="m", attempts=1)


@pytest.fixture
def whole(dataset, make_sample):
    """A dataset of one shard with two samples and a failure."""
    dataset.write_shard(0, [make_sample("a"), make_sample("b", seed=2)], [FAILURE])
    return dataset


def problems(dataset):
    """Return the problems of shard 0 as lines."""
    return [str(problem) for problem in verify_shard(dataset, 0)]


def path_of(dataset, name):
    """Return where a file lies."""
    return Path(dataset.uri) / name


def test_a_whole_shard_has_no_problem(whole):
    """What the writer writes, the verifier accepts."""
    assert problems(whole) == []


@pytest.mark.parametrize("member", range(5))
def test_a_flipped_bit_in_any_member_is_found(whole, member):
    """One bit in any member, or in its header, is found by checksum and names the sample."""
    row = whole.index(0).to_pylist()[1]
    path = path_of(whole, whole.shard_name(0))
    good = path.read_bytes()
    for position in (row["members"][member]["offset"], row["members"][member]["offset"] - 512):
        data = bytearray(good)
        data[position] ^= 1
        path.write_bytes(data)
        found = problems(whole)
        assert any(line.startswith("shards/000000.tar: sample b: its CRC-32") for line in found)
        assert any("its SHA-256 is not" in line for line in found)
        assert not any("sample a" in line for line in found)


def test_a_flipped_bit_in_the_end_is_found(whole):
    """The last blocks belong to the shard too."""
    path = path_of(whole, whole.shard_name(0))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "shards/000000.tar: it does not end in two zero blocks" in problems(whole)


def test_a_cut_shard_is_found(whole):
    """A shard that lost its tail names its size and the samples lost."""
    path = path_of(whole, whole.shard_name(0))
    path.write_bytes(path.read_bytes()[:-3000])
    found = problems(whole)
    assert any("the index says" in line and "it has" in line for line in found)
    assert any(line.startswith("shards/000000.tar: bytes ") for line in found)


@pytest.mark.parametrize("name", ["shards/000000.tar", "failures/000000.parquet"])
def test_a_missing_file_is_found(whole, name):
    """A shard or a failures file that the index promises must be there."""
    path_of(whole, name).unlink()
    (line,) = problems(whole)
    assert line.endswith(f"{name}: the file is missing")


def test_a_damaged_index_is_found(whole):
    """An index that cannot be read is one problem."""
    path = path_of(whole, "index/000000.parquet")
    path.write_bytes(path.read_bytes()[:100])
    (line,) = problems(whole)
    assert line.startswith("index/000000.parquet: not a readable Parquet file")


def test_an_index_that_lies_is_found(whole):
    """Every number of the index is compared with what the sample gives."""
    name = whole.index_name(0)
    table, _ = index_from_bytes(whole.storage.read_bytes(name), place=name)
    for column in ("dense_tokens", "window", "frames", "source_bytes", "min_psnr"):
        position = table.schema.get_field_index(column)
        field = table.schema.field(column)
        values = pa.array([99, table[column][1].as_py()], type=field.type)
        changed = table.set_column(position, field, values)
        whole.storage.write_atomic(name, table_to_bytes(changed))
        expected = f"shards/000000.tar: sample a: the index says {column} 99"
        assert any(line.startswith(expected) for line in problems(whole))


def test_counts_of_failures_must_agree(whole):
    """The index says how many failures there are."""
    name = whole.index_name(0)
    facts = replace(whole.shard_facts(0), failures=2)
    data = index_to_bytes([], replace(facts, size=1024))
    whole.storage.write_atomic(name, data)
    assert "failures/000000.parquet: 1 failures, the index says 2" in problems(whole)


def test_an_index_without_a_sample_is_found(whole):
    """Samples in the shard that the index leaves out do not go unnoticed."""
    name = whole.index_name(0)
    table, _ = index_from_bytes(whole.storage.read_bytes(name), place=name)
    whole.storage.write_atomic(name, table_to_bytes(table.slice(0, 1)))
    assert any("its samples end at" in line for line in problems(whole))
    whole.storage.write_atomic(name, table_to_bytes(table.slice(1, 1)))
    assert any("the one before ends at 0" in line for line in problems(whole))


def found_by(root):
    """Return whether opening or verifying a dataset says that it is damaged."""
    try:
        directory = DatasetDirectory.open(str(root))
        return any(verify_shard(directory, number) for number in directory.committed())
    except DatasetError:
        return True


@pytest.mark.parametrize(
    ("container", "codec"), [("webdataset", "jpeg"), ("arrow", "zstd"), ("arrow", "places")]
)
def test_a_flipped_bit_in_any_file_is_found(container, codec, tmp_path, make_sample):
    """All over the shard, its index, its failures and dataset.json: no bit can turn without a word."""
    info = DatasetInfo(container=container, codec={"name": codec}, patch_size=16)
    dataset = DatasetDirectory.create_or_open(str(tmp_path), info)
    samples = [make_sample("a"), make_sample("b", tokens=(), seed=1)]
    dataset.write_shard(0, samples, [FAILURE])
    assert not found_by(tmp_path)
    for name in dataset.storage.list():
        path = tmp_path / name
        good = path.read_bytes()
        for turn, at in enumerate(range(0, len(good), max(1, len(good) // 16))):
            data = bytearray(good)
            data[at] ^= 1 << turn % 8
            path.write_bytes(data)
            assert found_by(tmp_path), (name, at)
        path.write_bytes(good)
    assert not found_by(tmp_path)


def test_an_index_of_another_library_is_judged_by_its_rows(whole):
    """Equal bytes are asked only of the library that wrote them; a writer need not give the hashes."""
    name = whole.index_name(0)
    table, facts = index_from_bytes(whole.storage.read_bytes(name), place=name)
    bare = replace(facts, dataset_sha256=None)
    sink = pa.BufferOutputStream()
    stored = table_to_index(table, bare)
    whole.storage.write_atomic(name, stored)
    assert problems(whole) == []
    metadata = pq.read_table(pa.BufferReader(stored)).schema.metadata
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="none")
    whole.storage.write_atomic(name, bytes(sink.getvalue()))
    assert problems(whole) == ["index/000000.parquet: its bytes are not those that its rows give"]
    other = bytes(sink.getvalue()).replace(b"parquet-cpp-arrow", b"parquet-mr-arrows")
    whole.storage.write_atomic(name, other)
    assert problems(whole) == []
