"""Version 1 in bytes: directories written once and kept, which every later gazepack must read and rewrite.

`GAZEPACK_WRITE_GOLDEN=1 pytest tests/formats/test_golden.py` writes them anew; only a new format version
may need it. Compressed members (patches, Parquet) may differ with the version of zstd, libjpeg-turbo or
parquet, so of these the contents are compared; every other byte must be equal.
"""

import io
import os
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from gazepack.formats import (
    DatasetDirectory,
    DatasetInfo,
    Failure,
    codec_from_settings,
    verify_shard,
)
from gazepack.formats.transfer import without_patches

GOLDEN = Path(__file__).parent / "golden"
KEPT = ("zstd", "jpeg", "webp", "png", "raw", "arrow-zstd", "arrow-jpeg", "places", "arrow-places")
"""Folders: a codec of WebDataset shards, or `arrow-` and a codec."""
COMPRESSED = (".patches", ".places")
"""Members whose bytes depend on the library that wrote them."""


def write(root: Path, kept: str, make_sample) -> DatasetDirectory:
    """Write the dataset that the golden files hold."""
    codec = kept.removeprefix("arrow-")
    info = DatasetInfo(
        container="webdataset" if codec == kept else "arrow",
        writer="gazepack 0.1.0",
        codec=codec_from_settings({"name": codec}).settings(),
        patch_size=14,
        provenance={"selector": {"name": "greedy"}, "min_psnr": 30.0},
    )
    failure = Failure(
        id="bad", uri="bad.mp4", stage="open", error="VideoError", message="cut", attempts=1
    )
    dataset = DatasetDirectory.create_or_open(str(root), info)
    samples = [make_sample("first", patch_size=14), make_sample("empty", patch_size=14, tokens=())]
    dataset.write_shard(0, samples, [failure])
    return dataset


def members(data: bytes) -> dict[str, object]:
    """Return the members of a tar by name, in order; the columns of an Arrow file by key and name."""
    if data.startswith(b"ARROW1"):
        with pa.ipc.open_file(pa.BufferReader(data)) as file:
            rows = file.read_all().to_pylist()
        return {f"{row['key']}.{name}": value for row in rows for name, value in row.items()}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


@pytest.fixture(params=KEPT)
def golden(request, make_sample):
    """A kept directory."""
    root = GOLDEN / request.param
    if os.environ.get("GAZEPACK_WRITE_GOLDEN") == "1":
        shutil.rmtree(root, ignore_errors=True)
        write(root, request.param, make_sample)
    return DatasetDirectory.open(str(root))


def test_kept_files_are_read(golden, make_sample, same):
    """Every golden file is whole, and holds the samples it was made of (bit for bit if lossless)."""
    assert golden.committed() == [0]
    assert verify_shard(golden, 0) == []
    first, empty = golden.iter_samples(0)
    made = make_sample("empty", patch_size=14, tokens=()), make_sample("first", patch_size=14)
    if not golden.info.stores_patches:
        made = tuple(map(without_patches, made))
        assert first.pixels_crc32 == made[1].pixels_crc32
    same(empty, made[0])
    if golden.info.make_codec().lossless:
        same(first, made[1])
    assert golden.failures().to_pylist() == [
        {
            "shard": 0,
            "id": "bad",
            "uri": "bad.mp4",
            "stage": "open",
            "error": "VideoError",
            "message": "cut",
            "attempts": 1,
            "window": 0,
        }
    ]


def test_the_writer_still_writes_them(golden, tmp_path, make_sample, same):
    """A new run gives the golden bytes of dataset.json, metadata and arrays, and equal pixels."""
    fresh = write(tmp_path, Path(golden.uri).name, make_sample)
    assert fresh.storage.list() == golden.storage.list()
    assert fresh.storage.read_bytes("dataset.json") == golden.storage.read_bytes("dataset.json")
    name = golden.shard_name(0)
    ours, kept = (members(d.storage.read_bytes(name)) for d in (fresh, golden))
    assert list(ours) == list(kept)
    for member in ours:
        assert any(part in member for part in COMPRESSED) or repr(ours[member]) == repr(
            kept[member]
        )  # NaN is NaN
    for left, right in zip(fresh.iter_samples(0), golden.iter_samples(0), strict=True):
        same(left, right)
    for name in ("key", "window", "tokens", "tokens_per_frame", "min_psnr", "frames"):
        assert fresh.read_index()[name].equals(golden.read_index()[name])
    assert fresh.read_index().schema.equals(golden.read_index().schema)
