"""Samples in an Arrow file."""

import hashlib
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gazepack.errors import DatasetError
from gazepack.formats import DatasetDirectory, Failure, Sample, codec_from, verify_shard
from gazepack.formats.arrow import SCHEMA, ArrowContainer, ArrowEncoder, batch_members
from gazepack.formats.index import index_from_bytes, table_to_index

CODEC = codec_from("zstd")
FAILURE = Failure(id="f", uri="u", stage="open", error="VideoError", message="m", attempts=1)


@pytest.fixture
def arrow(tmp_path, info):
    """An empty dataset of Arrow shards."""
    given = info.model_copy(update={"container": "arrow"})
    return DatasetDirectory.create_or_open(str(tmp_path / "arrow"), given)


@pytest.fixture
def whole(arrow, make_sample):
    """A dataset of one shard with three samples, one of them without tokens and fields."""
    empty = replace(make_sample("empty", tokens=()), fields={})
    many = replace(make_sample("c", seed=2), fields={"txt": b"", "a.b": b"x", "none": b""})
    arrow.write_shard(0, [make_sample("a"), empty, many], [FAILURE])
    return arrow


def path_of(dataset):
    """Return where shard 0 lies."""
    return Path(dataset.uri) / dataset.shard_name(0)


def problems(dataset):
    """Return the problems of shard 0 as lines."""
    return [str(problem) for problem in verify_shard(dataset, 0)]


def test_a_whole_shard_has_no_problem(whole):
    """What the writer writes, the verifier accepts."""
    assert problems(whole) == []


def test_an_empty_shard_is_an_arrow_file(arrow):
    """A shard without samples has a schema and no record batch."""
    arrow.write_shard(0, [], [FAILURE])
    assert problems(arrow) == []
    with pa.memory_map(str(path_of(arrow))) as file:
        assert pa.ipc.open_file(file).num_record_batches == 0


def test_pyarrow_alone_reads_it_mapped(whole):
    """Mapped into memory, without gazepack and without a copy: the same samples, row by row."""
    before = pa.total_allocated_bytes()
    with pa.memory_map(str(path_of(whole))) as file:
        table = pa.ipc.open_file(file).read_all()
        assert pa.total_allocated_bytes() - before < 4096
        assert table.schema.equals(SCHEMA)
        rows = zip(table.to_pylist(), whole.iter_samples(0), strict=True)
        for row, sample in rows:
            assert row["key"] == sample.key
            tokens = np.array(row["tokens"], dtype=np.uint16).reshape(-1, 6)
            np.testing.assert_array_equal(tokens, sample.tokens_N6)
            np.testing.assert_array_equal(np.array(row["loss"], np.float16), sample.loss_N)
            patches = CODEC.decode(row["patches"], num_patches=len(tokens), patch_size=16)
            np.testing.assert_array_equal(patches, sample.patches_NPP3)
            assert {field["name"]: field["content"] for field in row["fields"]} == sample.fields


def test_the_bytes_are_those_of_a_plain_arrow_writer(whole):
    """A file written by pyarrow from the same batches is the same file."""
    data = path_of(whole).read_bytes()
    sink = pa.BufferOutputStream()
    with (
        pa.ipc.open_file(pa.BufferReader(data)) as reader,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        for number in range(reader.num_record_batches):
            writer.write_batch(reader.get_batch(number))
    assert bytes(sink.getvalue()) == data


def test_an_object_store_is_read_by_ranges(info, make_sample, same):
    """A sample of an Arrow shard is one range of one object."""
    given = info.model_copy(update={"container": "arrow"})
    dataset = DatasetDirectory.create_or_open("memory://arrow-by-ranges/dataset", given)
    samples = [make_sample("a"), make_sample("b", seed=3)]
    rows = dataset.write_shard(0, samples).to_pylist()
    assert verify_shard(dataset, 0) == []
    same(dataset.read_sample(rows[1]), samples[1])


def test_members_are_where_the_index_says(whole):
    """The index places every value: text, arrays without a header, the codec's bytes, the user's own."""
    row = whole.index(0).to_pylist()[2]
    data = path_of(whole).read_bytes()
    found = {m["name"]: data[m["offset"] : m["offset"] + m["size"]] for m in row["members"]}
    sample = whole.read_sample(row)
    assert list(found) == ["json", "tokens.npy", "loss.npy", "patches.zst", "a.b", "none", "txt"]
    assert found["tokens.npy"] == sample.tokens_N6.tobytes()
    assert found["loss.npy"] == sample.loss_N.tobytes()
    assert found["patches.zst"] == CODEC.encode(sample.patches_NPP3)
    assert (found["a.b"], found["none"], found["txt"]) == (b"x", b"", b"")


def test_a_flipped_bit_anywhere_is_found(whole):
    """One bit in any member, header, schema, or the footer: found, and only in its sample."""
    path = path_of(whole)
    good = path.read_bytes()
    rows = whole.index(0).to_pylist()
    inside = [rows[0]["offset"] + 20]
    inside += [m["offset"] + m["size"] // 2 for m in rows[0]["members"] if m["size"]]
    end = rows[-1]["offset"] + rows[-1]["size"]
    for position in (*inside, 2, 20, end - 1, end + 1, end + 20, len(good) - 8, len(good) - 1):
        data = bytearray(good)
        data[position] ^= 1
        path.write_bytes(data)
        found = problems(whole)
        assert found, position
        if position in inside:
            assert any(line.startswith("shards/000000.arrow: sample a: ") for line in found)
            assert not any("sample c" in line for line in found)


@pytest.mark.parametrize("cut", [0, 4, 100, 900, -1, -300])
def test_a_shard_cut_short_is_found(whole, cut):
    """A shard of any smaller length is damage, said in one line."""
    path = path_of(whole)
    path.write_bytes(path.read_bytes()[:cut])
    assert problems(whole)


def forge(dataset, data, rows):
    """Write a shard and an index that agrees with it in size, hash and checksums."""
    name = dataset.index_name(0)
    table, facts = index_from_bytes(dataset.storage.read_bytes(name), place=name)
    for row in rows:
        row.pop("shard", None)
        row["crc32"] = zlib.crc32(data[row["offset"] : row["offset"] + row["size"]])
    path_of(dataset).write_bytes(data)
    facts = replace(facts, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    forged = pa.Table.from_pylist(rows, schema=table.schema)
    dataset.storage.write_atomic(name, table_to_index(forged, facts))


def test_an_index_that_points_elsewhere_is_found(whole):
    """The index and an Arrow reader must find the same values, even if all checksums agree."""
    rows = whole.index(0).to_pylist()
    rows[0]["members"][4]["offset"] += 1
    forge(whole, path_of(whole).read_bytes(), rows)
    assert problems(whole) == [
        "shards/000000.arrow: sample a: record batch and index list other members"
    ]


def test_a_footer_that_lists_other_samples_is_found(whole):
    """An Arrow reader goes by the footer: it must list what the index lists."""
    rows = whole.index(0).to_pylist()
    data = bytearray(path_of(whole).read_bytes())
    at = data.rindex(rows[2]["offset"].to_bytes(8, "little"))
    data[at : at + 8] = rows[1]["offset"].to_bytes(8, "little")
    forge(whole, bytes(data), rows)
    assert problems(whole) == ["shards/000000.arrow: footer and index list other samples"]


def stored_batch(sample, **options):
    """Return a sample's record batch, written with options of the library."""
    encoder = ArrowEncoder(CODEC)
    stored, _ = encoder.sample(sample, offset=0)
    if not options:
        return stored
    batch = pa.ipc.read_record_batch(pa.ipc.read_message(pa.py_buffer(stored)), SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())[len(bytes(SCHEMA.serialize())) : -8]


def test_a_compressed_batch_is_refused_before_it_is_unpacked(make_sample):
    """What could be a bomb never reaches the library."""
    bomb = replace(make_sample("k"), fields={"txt": bytes(30_000_000)})
    stored = stored_batch(bomb, compression="zstd")
    assert len(stored) < 100_000
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(DatasetError, match="is compressed, which version 1 does not allow"):
        batch_members(stored, offset=0, codec=CODEC)
    assert pa.default_memory_pool().max_memory() == before


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda d: d[:4], "4 bytes are no record batch"),
        (lambda d: bytes(8) + d[8:], "does not begin as one"),
        (lambda d: d[:4] + b"\xff\xff\xff\x7f" + d[8:], "does not begin as one"),
        (lambda d: d[:8] + b"\xff" * 8 + d[16:], "a header refers to byte"),
        (lambda d: d[:-8], "states a body of"),
        (lambda d: d + bytes(8), "states a body of"),
        (lambda _: bytes(SCHEMA.serialize()), "the message is not a record batch"),
    ],
)
def test_hostile_batches_are_refused(damage, match, make_sample):
    """A header that lies is a DatasetError before anything is allocated."""
    with pytest.raises(DatasetError, match=match):
        batch_members(damage(stored_batch(make_sample("k"))), offset=0, codec=CODEC)


def test_a_member_outside_its_sample_is_refused(make_sample):
    """An index cannot make a reader look elsewhere."""
    stored = stored_batch(make_sample("k"))
    row = {"key": "k", "offset": 0, "members": [{"name": "json", "offset": 9, "size": 10**9}]}
    with pytest.raises(DatasetError, match="p: sample k: json: the index places it at bytes"):
        ArrowContainer().read(stored, row=row, codec=CODEC, patch_size=16, place="p", kind=Sample)


def test_other_columns_are_refused(whole):
    """A shard is of our columns or it is none."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, pa.schema([("key", pa.string())])):
        pass
    path_of(whole).write_bytes(sink.getvalue())
    assert problems(whole) == [
        "shards/000000.arrow: its columns are not those of a version 1 shard"
    ]


def test_datasets_alone_reads_it(whole):
    """Hugging Face's `datasets` reads a shard without gazepack."""
    datasets = pytest.importorskip("datasets", reason="the package `datasets` is not installed")
    files = str(path_of(whole))
    cache = str(Path(whole.uri).parent / "cache")
    rows = list(datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=cache))
    for row, sample in zip(rows, whole.iter_samples(0), strict=True):
        assert row["key"] == sample.key
        assert np.array(row["tokens"]).reshape(-1, 6).tolist() == sample.tokens_N6.tolist()
        assert row["patches"] == CODEC.encode(sample.patches_NPP3)
