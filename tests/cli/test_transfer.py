"""`convert`, `merge`, `split` and `verify --repair`."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from gazepack import GazeDataset
from gazepack.cli.main import run
from gazepack.formats import DatasetDirectory

Captured = pytest.CaptureFixture[str]


def summary(captured: Captured) -> dict[str, object]:
    """Return the JSON object on stdout."""
    value: dict[str, object] = json.loads(captured.readouterr().out)
    return value


def test_convert_to_arrow_and_back(dataset: Path, tmp_path: Path, capsys: Captured) -> None:
    """The same numbers, the same shard bytes after a round trip, and both verify."""
    arrow, back = str(tmp_path / "arrow"), str(tmp_path / "back")
    assert run(["convert", str(dataset), "--out", arrow, "--format", "arrow", "--json"]) == 0
    converted = summary(capsys)
    assert run(["info", str(dataset), "--json"]) == 0
    original = summary(capsys)
    for name in ("samples", "videos", "failed", "frames", "tokens", "min_psnr", "shards"):
        assert converted[name] == original[name]
    assert run(["convert", arrow, "--out", back, "--format", "webdataset"]) == 0
    assert run(["verify", arrow]) == run(["verify", back]) == 0
    for shard in (dataset / "shards").iterdir():
        assert (Path(back) / "shards" / shard.name).read_bytes() == shard.read_bytes()


def test_a_converted_dataset_verifies_against_its_sources(
    folder: Path, dataset: Path, tmp_path: Path
) -> None:
    """Stored errors are still those of the videos."""
    out = str(tmp_path / "out")
    assert run(["convert", str(dataset), "--out", out, "--codec", "zstd"]) == 0
    assert run(["verify", out, "--source", str(folder)]) == 0


def test_converting_twice_does_nothing(dataset: Path, tmp_path: Path, capsys: Captured) -> None:
    """The second run finds all shards there; other settings are refused with both sides."""
    command = ["convert", str(dataset), "--out", str(tmp_path / "out"), "--samples-per-shard"]
    assert run([*command, "1"]) == 0
    assert run([*command, "1"]) == 0
    assert "3 of 3 shards already there" in capsys.readouterr().err
    assert run([*command, "2"]) == 2
    assert "samples_per_shard: 1 in the dataset, 2 asked" in capsys.readouterr().err


def test_a_copy_of_what_is_not_complete_says_so(
    dataset: Path, tmp_path: Path, capsys: Captured
) -> None:
    """A dataset that is still being packed is copied as far as it is, with a line that says how far."""
    half = shutil.copytree(dataset, tmp_path / "half")
    shutil.rmtree(half / "index")
    assert run(["convert", str(half), "--out", str(tmp_path / "out"), "--json"]) == 0
    told = capsys.readouterr()
    assert f"{half}: not complete: 0 of 4 videos, 0 of 2 shards; what is there" in told.err
    assert json.loads(told.out)["samples"] == 0
    assert run(["convert", str(dataset), "--out", str(tmp_path / "whole")]) == 0
    assert "not complete" not in capsys.readouterr().err


def test_a_lossy_codec_is_not_on_offer(dataset: Path, tmp_path: Path, capsys: Captured) -> None:
    """`--codec jpeg` is a usage error."""
    command = ["convert", str(dataset), "--out", str(tmp_path / "out"), "--codec", "jpeg"]
    assert run(command) == 2
    assert "'jpeg' is not one of" in capsys.readouterr().err


def test_split_and_merge(dataset: Path, tmp_path: Path, capsys: Captured) -> None:
    """The parts together are the whole, and merging them gives every sample once."""
    parts = [f"{tmp_path}/parts/{name}" for name in ("a", "b")]
    command = ["split", str(dataset), "--out", f"{tmp_path}/parts/", "--part", "a=0.5"]
    assert run([*command, "--part", "b=0.5", "--json"]) == 0
    listed = summary(capsys)["datasets"]
    assert [part["uri"] for part in listed] == parts  # type: ignore[attr-defined]
    assert run(["merge", *parts, "--out", str(tmp_path / "merged"), "--json"]) == 0
    merged = summary(capsys)
    assert (merged["samples"], merged["failed"]) == (3, 1)
    whole = DatasetDirectory.open(str(dataset)).read_index()["key"].to_pylist()
    keys = DatasetDirectory.open(str(tmp_path / "merged")).read_index()["key"].to_pylist()
    assert sorted(keys) == sorted(whole)


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        (("a=1", "a=1"), "two parts have one name"),
        (("a=0.5",), "are not positive numbers that add up to 1"),
        (("a",), "'a' is not a name and a share"),
        (("../a=1",), "'../a=1' is not a name and a share"),
        (("a=2",), "'a=2' is not a name and a share"),
    ],
)
def test_parts_that_make_no_sense(
    shares: tuple[str, ...], problem: str, dataset: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Names are plain and different, shares add up to 1; nothing is written otherwise."""
    options = [word for share in shares for word in ("--part", share)]
    assert run(["split", str(dataset), "--out", str(tmp_path / "out"), *options]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_merging_a_dataset_with_itself(dataset: Path, tmp_path: Path, capsys: Captured) -> None:
    """Keys that occur twice are refused."""
    out = str(tmp_path / "out")
    assert run(["merge", str(dataset), str(dataset), "--out", out]) == 2
    assert "3 keys occur more than once" in capsys.readouterr().err


def test_repair_copies_what_is_whole(dataset: Path, tmp_path: Path, capsys: Captured) -> None:
    """Exit code 4 for the damaged dataset, which stays as it is; the copy lacks one sample and verifies."""
    damaged = Path(shutil.copytree(dataset, tmp_path / "damaged"))
    shard = damaged / "shards" / "000000.tar"
    data = bytearray(shard.read_bytes())
    data[len(data) // 4] ^= 1
    shard.write_bytes(data)
    out = str(tmp_path / "out")
    assert run(["verify", str(damaged), "--repair", out]) == 4
    told = capsys.readouterr().err
    assert "2 samples copied, 1 left out" in told
    (line,) = [line for line in told.splitlines() if line.startswith("left out: ")]
    assert line.count("shards/000000.tar") == 1
    assert shard.read_bytes() == data
    assert run(["verify", out]) == 0
    capsys.readouterr()
    assert run(["info", out, "--json"]) == 0
    repaired = summary(capsys)
    assert (repaired["samples"], repaired["failed"]) == (2, 2)


@pytest.mark.parametrize("command", ["convert", "merge", "split"])
def test_what_is_no_dataset(command: str, tmp_path: Path, capsys: Captured) -> None:
    """A folder of something else is a wrong address, in one line."""
    options = ["--part", "a=1"] if command == "split" else []
    assert run([command, str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 2
    assert "is not a gazepack dataset" in capsys.readouterr().err


def test_packing_into_arrow_with_a_lossless_codec(folder: Path, tmp_path: Path) -> None:
    """`pack --format arrow --codec webp` verifies against its source, and goes on like any dataset."""
    out, video = str(tmp_path / "out"), str(folder / "0.mp4")
    assert run(["pack", video, "--out", out, "--format", "arrow", "--codec", "webp"]) == 0
    info = json.loads((tmp_path / "out" / "dataset.json").read_bytes())
    assert (info["container"], info["codec"]["name"]) == ("arrow", "webp")
    assert run(["verify", out, "--source", video]) == 0
    assert run(["retry", out]) == 0


def test_places_from_packing_to_patches(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    """`pack --store places` is a lossless dataset converted to places, and the videos bring it back."""
    videos, zstd, places = str(folder / "1.mp4"), str(tmp_path / "zstd"), str(tmp_path / "places")
    assert run(["pack", videos, "--out", zstd, "--codec", "zstd"]) == 0
    assert run(["pack", videos, "--out", places, "--store", "places"]) == 0
    assert run(["convert", zstd, "--out", str(tmp_path / "converted"), "--store", "places"]) == 0
    shard = Path("shards") / "000000.tar"
    assert (tmp_path / "converted" / shard).read_bytes() == (
        tmp_path / "places" / shard
    ).read_bytes()
    convert = ["convert", places, "--out", str(tmp_path / "back"), "--codec", "zstd"]
    assert run(convert) == 2
    assert "name the videos with --source" in capsys.readouterr().err
    assert run([*convert, "--source", videos]) == 0
    assert (tmp_path / "back" / shard).read_bytes() == (tmp_path / "zstd" / shard).read_bytes()
    assert run(["verify", places]) == run(["verify", places, "--source", videos]) == 0
    assert run(["view", places, "--out", str(tmp_path / "gaze.png"), "--frames", "1"]) == 0
    assert run(["retry", places]) == 0
    capsys.readouterr()
    assert run(["info", places]) == 0
    assert "places alone" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["pack", "convert"])
def test_places_with_a_codec_make_no_sense(
    command: str, folder: Path, dataset: Path, tmp_path: Path, capsys: Captured
) -> None:
    """A codec is for patches; nothing is written."""
    given = str(folder) if command == "pack" else str(dataset)
    options = ["--out", str(tmp_path / "out"), "--store", "places", "--codec", "zstd"]
    assert run([command, given, *options]) == 2
    assert "for patches" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_arrow_on_an_object_store(
    folder: Path, tmp_path: Path, s3_server: object, capsys: Captured
) -> None:
    """Packed there as here, verified, converted, and read in any order by ranges."""
    del s3_server
    video, uri, local = str(folder / "2.mp4"), "s3://bucket/arrow", str(tmp_path / "local")
    options = ["--format", "arrow", "--codec", "zstd"]
    assert run(["pack", video, "--out", uri, *options]) == 0
    assert run(["convert", uri, "--out", local]) == 0
    assert run(["convert", local, "--out", f"{uri}-again", "--samples-per-shard", "1"]) == 0
    assert run(["verify", uri, "--source", video]) == run(["verify", f"{uri}-again"]) == 0
    capsys.readouterr()
    shard = "shards/000000.arrow"
    remote, here = DatasetDirectory.open(uri), DatasetDirectory.open(local)
    assert remote.storage.read_bytes(shard) == here.storage.read_bytes(shard)
    left, right = (GazeDataset(place, batch_size=1) for place in (uri, local))
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one.patches, other.patches)
        key = one.meta[0]["key"]
        assert torch.equal(left[key].patches, right[key].patches)
