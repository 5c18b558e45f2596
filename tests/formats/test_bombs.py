"""Decompression bombs: small files that claim, or truly hold, far more than they may."""

import io
import json
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from PIL import Image

from gazepack.errors import DatasetError
from gazepack.formats import DatasetInfo, PlacesCodec, codec_from
from gazepack.formats.index import index_from_bytes
from gazepack.formats.members import from_npy
from gazepack.formats.meta import check_meta, parse_json

MOST_GROWTH = 32 * 2**20
"""What a refused file may add to the memory of this process, in bytes."""
SIDE = 6_000
"""Of a picture of 108 MB of pixels; blank ones are kilobytes as files."""


@contextmanager
def bounded():
    """While this lasts, the most memory that this process holds hardly grows beyond what it holds before."""

    def held(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = held("VmRSS")
    yield
    assert held("VmHWM") - before < MOST_GROWTH


def png(width, height, *, rows):
    """Return a PNG that states a size and holds so many blank rows, made without the memory of them."""
    packer = zlib.compressobj(9)
    line = bytes(1 + 3 * width)
    data = b"".join(packer.compress(line) for _ in range(rows)) + packer.flush()

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg(width, height):
    """Return a JPEG that states another size than it has."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG", subsampling=0)
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(width, height):
    """Return a lossless WebP that states another size than it has."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "WEBP", lossless=True)
    data = bytearray(out.getvalue())
    data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


def zstd(num_bytes):
    """Return a zstd frame of so many zeros that states it."""
    out = io.BytesIO()
    packer = zstandard.ZstdCompressor(level=1)
    with packer.stream_writer(out, size=num_bytes, closefd=False) as writer:
        for _ in range(num_bytes >> 20):
            writer.write(bytes(1 << 20))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("png", lambda: png(SIDE, SIDE, rows=SIDE)),
        (
            "png",
            lambda: png(64 * 16, 16, rows=SIDE),
        ),  # of the size that is asked, and more behind it
        ("jpeg", lambda: jpeg(65_500, 65_500)),
        ("webp", lambda: webp(16_383, 16_383)),
        ("zstd", lambda: zstd(2**30)),
        ("zstd", lambda: zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**24))),
    ],
)
def test_patches_that_unpack_to_more_than_the_tokens_need(name, make):
    """Every codec knows the size before it allocates; what is not that size is refused or never unpacked."""
    bomb = make()
    assert len(bomb) < 2**21
    with bounded():
        try:
            found = codec_from(name).decode(bomb, num_patches=64, patch_size=16)
        except DatasetError:
            return
        assert (name, found.shape) == ("png", (64, 16, 16, 3))


def test_places_that_unpack_to_more_than_a_sample_may_hold():
    """A gigabyte of zeros, and metadata that would ask for it."""
    view = {"name": "tiles", "rows": 1, "cols": 1, "patch_size": 16}
    many = {
        "times": [0.0] * 4000,
        "tokens": [65_535] * 4000,
        "psnr": [1.0] * 4000,
        "l1": [1.0] * 4000,
    }
    source = dict.fromkeys(("bytes", "width", "height", "display_width", "display_height"), 1)
    source |= {"codec": "", "fps": None, "duration_seconds": None}
    meta = {
        "format_version": 1,
        "key": "k",
        "id": "k",
        "window": 0,
        "first_frame": 0,
        "clip_frames": 16,
    }
    meta |= {"source": source | {"start_seconds": 0.0, "end_seconds": None}, "user": {}}
    views = check_meta(meta | {"views": [view | many]}).views
    few = [views[0].model_copy(update={"tokens": [3], "times": [0.0]})]
    bomb = zstd(2**30)
    with bounded(), pytest.raises(DatasetError, match="count 262140000 tokens, more than"):
        PlacesCodec().decode(bomb, views=views)
    with bounded(), pytest.raises(DatasetError, match=r"states 1073741824 bytes .* need 22"):
        PlacesCodec().decode(bomb, views=few)


def test_an_array_whose_header_claims_terabytes():
    """The shape is checked against the bytes that are there."""
    header = b"{'descr': '<u2', 'fortran_order': False, 'shape': (999999999999, 6), }"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.ljust(117) + b"\n" + bytes(24)
    with bounded(), pytest.raises(DatasetError, match="needs 11999999999988 bytes, there are 24"):
        from_npy(data, dtype="<u2", width=6)


@pytest.mark.parametrize("encoding", ["PLAIN", "RLE_DICTIONARY"])
def test_an_index_that_unpacks_to_gigabytes(encoding):
    """By pages that compress to nothing, or by a dictionary of one word."""
    zeros, sink = pa.table({"x": pa.array(np.zeros(2**20))}), pa.BufferOutputStream()
    uses = encoding == "RLE_DICTIONARY"
    with pq.ParquetWriter(sink, zeros.schema, compression="zstd", use_dictionary=uses) as writer:
        for _ in range(64):
            writer.write_table(zeros)
    data = bytes(sink.getvalue())
    assert len(data) < 2**20
    with bounded(), pytest.raises(DatasetError, match=r"bytes state 67108864 rows"):
        index_from_bytes(data, place="p")


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":['])
def test_json_that_nests_without_end(opening):
    """A tower is refused, wherever JSON is read."""
    data = opening.encode() * 100_000
    with pytest.raises(DatasetError, match="not valid JSON"):
        parse_json(data)
    with pytest.raises(DatasetError, match="not valid JSON"):
        DatasetInfo.from_json(data)


@pytest.mark.parametrize("depth", [64, 65, 900])
def test_json_that_nests_as_deep_as_it_may(depth):
    """What is accepted can be written again; the rest is refused in one line."""
    nested = json.loads("[" * depth + "]" * depth)
    info = {"format": "gazepack", "format_version": 1, "writer": "w", "container": "webdataset"}
    info |= {"codec": {"name": "raw"}, "patch_size": 16, "clip_frames": 16}
    info |= {"scale_sides": [2, 4, 7, 14], "provenance": {"deep": nested}}
    if depth == 64:
        DatasetInfo.from_json(json.dumps(info).encode()).to_json()
        return
    with pytest.raises(DatasetError, match="it nests deeper than 64 levels"):
        DatasetInfo.from_json(json.dumps(info).encode())
