"""A reader written from docs/format.md alone: numpy, json, tarfile, pyarrow, zstandard, Pillow; no gazepack."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from PIL import Image

from gazepack.formats import CODECS, DatasetDirectory, DatasetInfo, codec_from_settings


def read_shard(root: Path, number: int):
    """Yield (key, meta, tokens, loss, patches) of a shard, as the specification says."""
    info = json.loads((root / "dataset.json").read_bytes())
    assert (info["format"], info["format_version"]) == ("gazepack", 1)
    unpack = {"zstd": unpack_zstd, "jpeg": unpack_jpeg, "raw": unpack_raw}
    unpack |= {"webp": unpack_cells, "png": unpack_cells}
    read = {"webdataset": read_tar, "arrow": read_arrow}[info["container"]]
    for key, text, tokens, loss, data in read(root / "shards" / f"{number:06d}"):
        if info["codec"]["name"] == "places":
            yield key, json.loads(text), *unpack_places(data, json.loads(text)["views"])
            continue
        patches = unpack[info["codec"]["name"]](data, len(tokens), info["patch_size"])
        yield key, json.loads(text), tokens, loss, patches


def read_tar(stem: Path):
    """Section 3, webdataset."""
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(stem.with_suffix(".tar")) as tar:
        for member in tar:
            key, field = member.name.split(".", 1)
            samples.setdefault(key, {})[field] = tar.extractfile(member).read()
    for key, fields in samples.items():
        if "places.zst" in fields:
            yield key, fields["json"], None, None, fields["places.zst"]
            continue
        tokens = np.load(io.BytesIO(fields["tokens.npy"]), allow_pickle=False)
        loss = np.load(io.BytesIO(fields["loss.npy"]), allow_pickle=False)
        (patches,) = (data for name, data in fields.items() if name.startswith("patches."))
        yield key, fields["json"], tokens, loss, patches


def read_arrow(stem: Path):
    """Section 3, arrow."""
    with pa.memory_map(str(stem.with_suffix(".arrow"))) as file:
        rows = pa.ipc.open_file(file).read_all().to_pylist()
    for row in rows:
        if "places" in row:
            yield row["key"], row["json"], None, None, row["places"]
            continue
        tokens = np.array(row["tokens"], dtype=np.uint16).reshape(-1, 6)
        loss = np.array(row["loss"], dtype=np.float16)
        yield row["key"], row["json"], tokens, loss, row["patches"]


def unpack_zstd(data: bytes, n: int, p: int) -> np.ndarray:
    """Section 5, zstd."""
    if n == 0:
        return np.zeros((0, p, p, 3), dtype=np.uint8)
    x = np.frombuffer(zstandard.ZstdDecompressor().decompress(data), dtype=np.uint8)
    x = x.reshape(n, 3, p, p).cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
    x[:, 0::2] += x[:, 1:2]
    return x.transpose(0, 2, 3, 1)


def unpack_jpeg(data: bytes, n: int, p: int) -> np.ndarray:
    """Section 5, jpeg."""
    return unpack_cells(data, n, p, side=(p + 7) // 8 * 8)


def unpack_cells(data: bytes, n: int, p: int, side: int | None = None) -> np.ndarray:
    """Section 5, the atlas of webp and png."""
    if n == 0:
        return np.zeros((0, p, p, 3), dtype=np.uint8)
    side = side or p
    atlas = np.asarray(Image.open(io.BytesIO(data)))
    cols = atlas.shape[1] // side
    assert cols == min(n, max(64, -(-n // (65535 // side))))
    cells = []
    for i in range(n):
        row, col = divmod(i, cols)
        cells.append(atlas[row * side : row * side + p, col * side : col * side + p])
    return np.stack(cells)


def unpack_raw(data: bytes, n: int, p: int) -> np.ndarray:
    """Section 5, raw."""
    return np.frombuffer(data, dtype=np.uint8).reshape(n, p, p, 3)


def unpack_places(data: bytes, views: list):
    """Section 5, places: tokens, losses, and the CRC-32 of patches that are not there."""
    content = zstandard.ZstdDecompressor().decompress(data)
    n = sum(sum(view["tokens"]) for view in views)
    planes = np.frombuffer(content, np.uint8, offset=4).reshape(6, n)
    numbers = planes[:4].T.copy().view("<u4")[:, 0]
    loss = planes[4:].T.copy().view("<u2")[:, 0].cumsum(dtype=np.uint16).view(np.float16)
    tokens, i = np.zeros((n, 6), dtype=np.uint16), 0
    for v, view in enumerate(views):
        for f, count in enumerate(view["tokens"]):
            ranks: dict = {}
            for _ in range(count):
                number, scale = int(numbers[i]), 0
                while number >= (cells := view["rows"] * view["cols"] * (2, 4, 7, 14)[scale] ** 2):
                    number, scale = number - cells, scale + 1
                side = (2, 4, 7, 14)[scale]
                row, col = divmod(number, side * view["cols"])
                tile = row // side, col // side
                ranks[tile] = ranks.get(tile, -1) + 1
                tokens[i] = v, f, scale, row, col, ranks[tile]
                i += 1
    return tokens, loss, int.from_bytes(content[:4], "little")


@pytest.mark.parametrize("container", ["webdataset", "arrow"])
@pytest.mark.parametrize("codec", ["places", *sorted(CODECS)])
@pytest.mark.parametrize("patch_size", [14, 16])
def test_the_specification_is_enough(codec, container, patch_size, tmp_path, make_sample):
    """The plain reader finds exactly what gazepack finds, also beyond one row of the atlas."""
    settings = codec_from_settings({"name": codec}).settings()
    info = DatasetInfo(container=container, codec=settings, patch_size=patch_size)
    dataset = DatasetDirectory.create_or_open(str(tmp_path), info)
    counts = [(3, 2), (), (16, 16, 16, 16, 9)]
    dataset.write_shard(
        0,
        (
            make_sample(f"k{i}", tokens=tokens, patch_size=patch_size)
            for i, tokens in enumerate(counts)
        ),
    )
    found = list(read_shard(tmp_path, 0))
    assert [sample[0] for sample in found] == ["k0", "k1", "k2"]
    for (_, meta, tokens, loss, patches), sample in zip(
        found, dataset.iter_samples(0), strict=True
    ):
        assert meta == sample.meta
        np.testing.assert_array_equal(tokens, sample.tokens_N6)
        np.testing.assert_array_equal(loss, sample.loss_N)
        if codec == "places":
            assert (patches, None) == (sample.pixels_crc32, sample.patches_NPP3)
        else:
            np.testing.assert_array_equal(patches, sample.patches_NPP3)
