"""Samples and datasets made from fixed arithmetic, for every test of the formats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gazepack.formats import DatasetDirectory, DatasetInfo, Sample, codec_from

GRID_ROWS, GRID_COLS = 1, 2


def smooth_patches(num_patches: int, *, patch_size: int, seed: int = 0) -> np.ndarray:
    """Return uint8 N x P x P x 3 with slopes and a little noise, by integer arithmetic alone."""
    n, y, x, c = np.ogrid[:num_patches, :patch_size, :patch_size, :3]
    slopes = 3 * x + 2 * y + 17 * n + 40 * c + 11 * seed
    noise = (n * 31 + y * 7 + x * 13 + c * 5 + seed) * 2654435761 % 2**32 >> 29
    return ((slopes + noise) % 256).astype(np.uint8)


def build_sample(
    key: str, *, tokens: tuple[int, ...] = (5, 0, 7), patch_size: int = 16, seed: int = 0
) -> Sample:
    """Return a sample with `tokens[f]` tokens in frame f, at distinct places of a 1 x 2 grid."""
    rows = []
    for frame, count in enumerate(tokens):
        for rank in range(count):
            scale = (rank + seed) % 4
            number = rank // 4
            rows.append((0, frame, scale, number % 2, number // 2, rank))
    tokens_N6 = np.array(rows, dtype=np.uint16).reshape(-1, 6)
    loss_N = (np.arange(len(rows)) / 8).astype(np.float16)
    loss_N[::3] = np.nan
    return Sample(
        key=key,
        tokens_N6=tokens_N6,
        loss_N=loss_N,
        patches_NPP3=smooth_patches(len(rows), patch_size=patch_size, seed=seed),
        meta=build_meta(key, tokens=tokens, patch_size=patch_size),
        fields={"txt": f"a caption of {key}".encode()},
    )


def build_meta(key: str, *, tokens: tuple[int, ...], patch_size: int = 16) -> dict[str, Any]:
    """Return complete metadata for `build_sample`."""
    return {
        "format_version": 1,
        "key": key,
        "id": f"Ünïcode id/{key}\n",
        "window": 0,
        "first_frame": 0,
        "clip_frames": 16,
        "source": {
            "bytes": 1000,
            "codec": "h264",
            "width": 320,
            "height": 240,
            "display_width": 320,
            "display_height": 240,
            "fps": 30.0,
            "duration_seconds": 4.0,
            "start_seconds": 0.5,
            "end_seconds": 2.0,
        },
        "views": [
            {
                "name": "tiles",
                "rows": GRID_ROWS,
                "cols": GRID_COLS,
                "patch_size": patch_size,
                "times": [0.5 + frame / 2 for frame in range(len(tokens))],
                "tokens": list(tokens),
                "psnr": [30.0 + frame for frame in range(len(tokens))],
                "l1": [2.5] * len(tokens),
            }
        ],
        "user": {"license": "CC0", "n": 3},
    }


def assert_same(left: Sample, right: Sample) -> None:
    """Two samples agree in every part, NaN equal to NaN."""
    assert left.key == right.key
    assert left.meta == right.meta
    assert left.fields == right.fields
    np.testing.assert_array_equal(left.tokens_N6, right.tokens_N6)
    np.testing.assert_array_equal(left.loss_N, right.loss_N)
    np.testing.assert_array_equal(left.patches_NPP3, right.patches_NPP3)


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    return build_sample


@pytest.fixture(scope="session")
def make_meta() -> Callable[..., dict[str, Any]]:
    return build_meta


@pytest.fixture(scope="session")
def make_patches() -> Callable[..., np.ndarray]:
    return smooth_patches


@pytest.fixture(scope="session")
def same() -> Callable[[Sample, Sample], None]:
    return assert_same


@pytest.fixture(scope="session")
def info() -> DatasetInfo:
    return DatasetInfo(
        codec=codec_from("zstd").settings(),
        patch_size=16,
        provenance={"selector": {"name": "greedy"}, "min_psnr": 30.0},
    )


@pytest.fixture
def dataset(tmp_path: Path, info: DatasetInfo) -> DatasetDirectory:
    return DatasetDirectory.create_or_open(str(tmp_path / "a dataset"), info)
