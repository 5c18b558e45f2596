"""Hostile files: whatever the bytes, a reader answers with data or a DatasetError, in bounded memory.

Each property damages a whole file that a writer made, or offers bytes that none would; `mutations` cuts, flips,
repeats and splices, which reaches deeper than random bytes do. GAZEPACK_FUZZ=100 tries a hundred times as much.
"""

import io
import json
import os
import pickle
import tarfile
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gazepack.errors import DatasetError
from gazepack.formats import (
    CODECS,
    DatasetDirectory,
    DatasetInfo,
    PlacesCodec,
    codec_from,
    verify_shard,
)
from gazepack.formats.arrow import batch_members
from gazepack.formats.failures import failures_from_bytes
from gazepack.formats.index import index_from_bytes, table_to_bytes
from gazepack.formats.members import from_npy, from_values
from gazepack.formats.meta import check_meta, parse_json
from gazepack.formats.webdataset import tar_members

GOLDEN = Path(__file__).parent / "golden"
CODEC = codec_from("zstd")
MOST_BYTES = 64 * 2**20
"""What any reader here may allocate at once, in Python and numpy; the files are some kB."""
FUZZ = settings(
    max_examples=60 * int(os.environ.get("GAZEPACK_FUZZ", "1")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def mutations(draw, data: bytes) -> bytes:
    """Return the bytes with up to four places changed."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(out) - 1)))
        kind = draw(st.sampled_from(["flip", "set", "cut", "drop", "repeat", "insert"]))
        if kind == "flip" and out:
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            value = draw(st.sampled_from([b"\xff" * 4, bytes(8), b"\xff" * 7 + b"\x7f", b"\x80"]))
            out[at : at + len(value)] = value
        elif kind == "cut":
            del out[at:]
        elif kind == "drop":
            del out[at : at + draw(st.integers(1, 64))]
        elif kind == "repeat":
            out[at:at] = out[at : at + draw(st.integers(1, 512))]
        else:
            out[at:at] = draw(st.binary(max_size=32))
    return bytes(out)


def bounded(read, *arguments, **named):
    """Call a reader: it returns or raises DatasetError, and allocates little."""
    tracemalloc.start()
    try:
        return read(*arguments, **named)
    except DatasetError:
        return None
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < MOST_BYTES


@cache
def golden(name: str, file: str) -> bytes:
    """Return a golden file."""
    return (GOLDEN / name / file).read_bytes()


@cache
def stored(name: str) -> tuple[dict, bytes]:
    """Return the first index row of a golden dataset, and its sample's bytes."""
    dataset = DatasetDirectory.open(str(GOLDEN / name))
    row = dataset.index(0).to_pylist()[0]
    return row, dataset.read_stored(row)


@cache
def member(name: str, field: str) -> bytes:
    """Return one member of the first sample of a golden dataset."""
    return DatasetDirectory.open(str(GOLDEN / name)).read_member(stored(name)[0], field)


@FUZZ
@given(data=st.one_of(st.binary(max_size=300), mutations(golden("zstd", "dataset.json"))))
def test_dataset_json(data):
    """Any dataset.json is read or refused."""
    bounded(DatasetInfo.from_json, data)


@FUZZ
@given(data=st.one_of(st.binary(max_size=300), mutations(golden("zstd", "index/000000.parquet"))))
def test_index(data):
    """Any index is read or refused."""
    bounded(index_from_bytes, data, place="p")


@FUZZ
@given(data=mutations(golden("zstd", "failures/000000.parquet")))
def test_failures(data):
    """Any failures file is read or refused."""
    bounded(failures_from_bytes, data, place="p")


@FUZZ
@given(data=st.one_of(st.binary(max_size=2048), mutations(stored("zstd")[1])))
def test_tar_members(data):
    """Any run of tar members is listed or refused."""
    bounded(tar_members, data, offset=0)


@FUZZ
@given(data=st.one_of(st.binary(max_size=2048), mutations(stored("arrow-zstd")[1])))
def test_arrow_batches(data):
    """Any record batch is read or refused, and the library allocates nothing that a header claims."""
    before = pa.default_memory_pool().max_memory()
    bounded(batch_members, data, offset=0, codec=CODEC)
    assert pa.default_memory_pool().max_memory() - before < MOST_BYTES


@FUZZ
@given(
    data=st.one_of(
        st.binary(max_size=200),
        mutations(b"\x93NUMPY\x01\x00\x46\x00{'descr': '<u2', 'fortran_order': False, ").map(
            lambda head: head + b"'shape': (2, 6), }" + b" " * 9 + b"\n" + bytes(24)
        ),
    ),
    width=st.sampled_from([6, None]),
)
def test_arrays(data, width):
    """Any .npy member is read or refused."""
    bounded(from_npy, data, dtype="<u2", width=width)
    bounded(from_values, data, dtype="<u2", width=width)


@pytest.mark.parametrize("name", sorted(CODECS))
@FUZZ
@given(data=st.data())
def test_patches(name, data):
    """Any member of any codec is decoded to the size asked, or refused."""
    codec = codec_from(name)
    row, content = stored(name)
    (member,) = (m for m in row["members"] if m["name"].startswith("patches."))
    start = member["offset"] - row["offset"]
    whole = content[start : start + member["size"]]
    damaged = data.draw(st.one_of(st.binary(max_size=300), mutations(whole)))
    patches = bounded(codec.decode, damaged, num_patches=row["tokens"], patch_size=14)
    assert patches is None or patches.shape == (row["tokens"], 14, 14, 3)


@FUZZ
@given(data=st.one_of(st.binary(max_size=300), mutations(member("places", "places.zst"))))
def test_places(data):
    """Any member without patches gives tokens that its metadata count, or is refused."""
    views = check_meta(parse_json(member("places", "json"))).views
    placed = bounded(PlacesCodec().decode, data, views=views)
    assert placed is None or placed.tokens_N6.shape == (12, 6)


@pytest.mark.parametrize("name", ["zstd", "arrow-jpeg", "arrow-places"])
@FUZZ
@given(data=st.data())
def test_whole_shards(name, data, tmp_path_factory):
    """Any shard and any index go through `verify`, which lists problems and never raises."""
    root = tmp_path_factory.mktemp("fuzz")
    for file in ("dataset.json", "failures/000000.parquet"):
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_bytes(golden(name, file))
    shard = f"shards/000000.{'arrow' if name.startswith('arrow') else 'tar'}"
    hit = data.draw(st.sampled_from([shard, "index/000000.parquet"]))
    changed = data.draw(mutations(golden(name, hit)))
    for file in (shard, "index/000000.parquet"):
        (root / file).parent.mkdir()
        (root / file).write_bytes(changed if file == hit else golden(name, file))
    problems = verify_shard(DatasetDirectory.open(str(root)), 0)
    assert problems or changed == golden(name, hit) or hit != shard


@pytest.mark.parametrize("depth", [10_000, 200_000])
def test_json_that_nests_is_refused(depth):
    """A tower of brackets is a DatasetError, not an overflow."""
    with pytest.raises(DatasetError, match="not valid JSON"):
        parse_json(b"[" * depth)


class Payload:
    """What a pickle would run."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_a_pickle_is_never_opened():
    """Pickles offered as arrays, metadata, patches, index and dataset.json are refused, not run."""
    bomb = pickle.dumps(Payload())
    out = io.BytesIO()
    np.save(out, np.array([Payload()], dtype=object), allow_pickle=True)
    for data in (bomb, out.getvalue()):
        with pytest.raises(DatasetError):
            from_npy(data, dtype="<u2", width=6)
        with pytest.raises(DatasetError):
            parse_json(data)
        with pytest.raises(DatasetError):
            index_from_bytes(data, place="p")
        with pytest.raises(DatasetError):
            DatasetInfo.from_json(data)
        for name in CODECS:
            with pytest.raises(DatasetError):
                codec_from(name).decode(data, num_patches=2, patch_size=16)


def test_an_extension_type_in_an_index_is_not_opened():
    """Arrow can name a Python type to unpickle in a schema; such an index is refused."""
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    metadata[b"ARROW:extension:metadata"] = pickle.dumps(Payload())
    field = pa.field("key", pa.string(), metadata=metadata)
    table = pa.table([pa.array(["k"])], schema=pa.schema([field]))
    with pytest.raises(DatasetError):
        index_from_bytes(table_to_bytes(table), place="p")


@pytest.mark.parametrize("name", ["../out.json", "/etc/out.json", "k.json/../../out"])
def test_no_member_leaves_its_folder(name, tmp_path, dataset, make_sample):
    """A tar whose members have other names than the index says is reported, and nothing is written."""
    dataset.write_shard(0, [make_sample("a")])
    path = Path(dataset.uri) / dataset.shard_name(0)
    data = bytearray(path.read_bytes())
    header = tarfile.TarInfo(name)
    header.size = dataset.index(0).to_pylist()[0]["members"][0]["size"]
    data[:512] = header.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    assert any("tar and index list other members" in str(p) for p in verify_shard(dataset, 0))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_index_that_claims_a_huge_sample_is_refused(dataset, make_sample):
    """Sizes are checked against the file before anything is read."""
    dataset.write_shard(0, [make_sample("a")])
    (row,) = dataset.index(0).to_pylist()
    for changed in ({"size": 2**60}, {"offset": 2**62}, {"offset": -5}):
        assert bounded(dataset.read_sample, row | changed) is None


def test_the_harness_finds_a_reader_that_raises_or_swallows_memory():
    """The harness itself fails for what it is to catch."""
    with pytest.raises(KeyError):
        bounded({}.__getitem__, "missing")
    with pytest.raises(AssertionError):
        bounded(bytearray, MOST_BYTES + 1)
    assert bounded(json.loads, "1") == 1
