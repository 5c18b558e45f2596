"""`gazepack.pack` and `gazepack.open`: the program's two main commands as functions."""

from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import gazepack
from gazepack.api import PLACES
from gazepack.cli.main import run
from gazepack.cli.pack import SETTINGS, pack
from gazepack.formats import DatasetDirectory
from gazepack.jobs import VideoDone, repainted
from gazepack.video import write_video
from gazepack.video.scenes import objects


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, one of which is none."""
    folder = tmp_path_factory.mktemp("api") / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", objects(240, 136, 5, 0), fps=10)
    (folder / "b.mp4").touch()
    return folder


@pytest.fixture(scope="module")
def packed(videos: Path) -> tuple[gazepack.Dataset, list[VideoDone]]:
    """What the function made of them, and what it told on the way."""
    told: list[VideoDone] = []
    out = videos.parent / "packed"
    return gazepack.pack(videos, out, min_psnr=32, codec="zstd", on_video=told.append), told


def test_pack_does_what_the_program_does(
    videos: Path, packed: tuple[gazepack.Dataset, list[VideoDone]]
) -> None:
    """The same options give the same bytes, from Python and from the command line."""
    dataset, told = packed
    by_program = videos.parent / "by_program"
    options = ["--min-psnr", "32", "--codec", "zstd"]
    assert run(["pack", str(videos), "--out", str(by_program), *options]) == 3
    for part in ("dataset.json", "shards/000000.tar", "index/000000.parquet"):
        assert (by_program / part).read_bytes() == (Path(dataset.uri) / part).read_bytes()
    assert sorted(video.id for video in told) == ["a.mp4", "b.mp4"]


def test_a_dataset_is_looked_into(packed: tuple[gazepack.Dataset, list[VideoDone]]) -> None:
    """By key, by id, one after the other, painted, counted; what failed is told."""
    dataset = gazepack.open(packed[0].uri)
    (sample,) = dataset
    assert isinstance(sample, gazepack.Sample)
    assert len(dataset) == 1
    assert dataset[sample.key].key == dataset["a.mp4"].key == sample.key
    assert dataset.summary()["min_psnr"] >= 32 - 1e-3
    assert dataset.info.codec["name"] == "zstd"
    assert [row["id"] for row in dataset.failures()] == ["b.mp4"]
    for one, other in zip(dataset.paint("a.mp4"), repainted(sample, 0), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(KeyError, match="nobody"):
        _ = dataset["nobody"]


def test_wrong_options_are_refused_before_anything_is_made(videos: Path, tmp_path: Path) -> None:
    """A value that cannot be, and an option that is none, are told from those that are."""
    with pytest.raises(gazepack.GazepackError, match="min_psnr"):
        gazepack.pack(videos, tmp_path / "out", min_psnr=99)
    with pytest.raises(
        gazepack.GazepackError, match="no option 'min_snr'; did you mean 'min_psnr'"
    ):
        gazepack.pack(videos, tmp_path / "out", **{"min_snr": 30})
    assert not (tmp_path / "out").exists()


def test_nothing_to_open_is_an_error(tmp_path: Path) -> None:
    """A folder that is no dataset is told from one."""
    with pytest.raises(gazepack.GazepackError, match="is not a gazepack dataset"):
        gazepack.open(tmp_path)


def test_the_options_are_those_of_the_program() -> None:
    """Program and function have the same names for the same settings."""
    assert set(get_type_hints(gazepack.PackOptions)) == set(PLACES) == set(SETTINGS)
    assert {param.name for param in pack.params} >= set(PLACES)


def test_directories_opened_twice_are_one(packed: tuple[gazepack.Dataset, list[VideoDone]]) -> None:
    """The index of `open` is that of the directory."""
    directory = DatasetDirectory.open(packed[0].uri)
    assert packed[0].index.equals(directory.read_index())
