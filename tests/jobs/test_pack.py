"""The main job: what comes out is right, complete, and the same every time."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gazepack.errors import ProvenanceError, StorageError, UsageError
from gazepack.formats import DatasetDirectory, summarise, verify_shard
from gazepack.geometry import DENSE_TILE_TOKENS, FINEST
from gazepack.jobs import (
    PackSettings,
    Resources,
    Segment,
    VideoDone,
    compare_with_source,
    list_sources,
    verify_totals,
)

SMALL = {
    "shards": {"samples_per_shard": 2},
    "fit": {"max_tiles": 2},
    "selector": {"name": "greedy"},
}
Pack = Callable[..., list[VideoDone]]
Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def packed(videos: Path, tmp_path_factory: pytest.TempPathFactory, pack: Pack) -> Path:
    """The folder of videos, packed in one go."""
    out = tmp_path_factory.mktemp("packed") / "out"
    pack(videos, out)
    return out


def test_every_video_is_packed_or_on_record(packed: Path) -> None:
    """Good videos become samples, bad ones failures with stage and message; together they are all."""
    directory = DatasetDirectory.open(str(packed))
    index, failures = directory.read_index(), directory.failures().to_pylist()
    assert index["id"].to_pylist() == [f"clip{n}.mp4" for n in range(5)]
    assert [row["id"] for row in failures] == ["empty.mp4", "text.mkv"]
    assert all(row["stage"] == "open" and "\n" not in row["message"] for row in failures)
    assert directory.committed() == [0, 1, 2, 3]
    assert list(verify_totals(directory)) == []


def test_every_frame_meets_the_bound_as_read(videos: Path, packed: Path) -> None:
    """The stored PSNR is at least 30 dB, and is what decoding and painting again finds, jpeg's loss and all."""
    directory = DatasetDirectory.open(str(packed))
    segments = {row["id"]: Segment.from_row(row) for row in list_sources([str(videos)]).to_pylist()}
    rows = directory.read_index().to_pylist()
    assert min(row["min_psnr"] for row in rows) >= 30.0
    assert list(compare_with_source(directory, rows, segments)) == []
    assert [p for n in directory.committed() for p in verify_shard(directory, n)] == []


def test_changed_source_is_found(videos: Path, packed: Path) -> None:
    """A video that is not the one packed gives a problem that names the sample."""
    directory = DatasetDirectory.open(str(packed))
    rows = directory.read_index().to_pylist()[:1]
    other = Segment(id="clip0.mp4", key="clip0", uri=str(videos / "clip2.mp4"), bytes=0)
    (problem, *_) = compare_with_source(directory, rows, {"clip0.mp4": other})
    assert "clip0" in problem.place
    (missing,) = compare_with_source(directory, rows, {})
    assert "no source has the id 'clip0.mp4'" in missing.problem


def test_packing_again_does_nothing(videos: Path, packed: Path, pack: Pack) -> None:
    """A second run finds every shard committed."""
    before = {path: path.stat().st_mtime_ns for path in packed.rglob("*")}
    assert pack(videos, packed) == []
    assert {path: path.stat().st_mtime_ns for path in packed.rglob("*")} == before


def test_a_corpus_may_move(videos: Path, tmp_path: Path, pack: Pack) -> None:
    """The same videos under another path are the same sources."""
    moved = tmp_path / "moved"
    moved.mkdir()
    os.link(videos / "clip0.mp4", moved / "clip0.mp4")
    pack(moved, tmp_path / "out")
    again = moved.rename(tmp_path / "elsewhere")
    assert pack(again, tmp_path / "out") == []


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_does_not_show(
    videos: Path, packed: Path, tmp_path: Path, batch_size: int, pack: Pack, contents: Contents
) -> None:
    """Another batch size gives byte-identical files."""
    pack(videos, tmp_path / "out", resources=Resources(batch_size=batch_size))
    assert contents(tmp_path / "out") == contents(packed)


def test_other_settings_or_sources_are_refused_with_both_sides(
    videos: Path, packed: Path, tmp_path: Path, pack: Pack, contents: Contents
) -> None:
    """A directory takes only the run it was begun with, and is not touched by another."""
    before = contents(packed)
    with pytest.raises(ProvenanceError, match=r"min_psnr: 30\.0 in the dataset, 32\.0 asked"):
        pack(videos, packed, {**SMALL, "selector": {"name": "greedy", "min_psnr": 32}})
    (tmp_path / "more").mkdir()
    for video in videos.iterdir():
        os.link(video, tmp_path / "more" / video.name)
    os.link(videos / "clip0.mp4", tmp_path / "more" / "new.mp4")
    with pytest.raises(ProvenanceError, match=r"7 videos.*now hold 8.*'new\.mp4'.*another --out"):
        pack(tmp_path / "more", packed)
    assert contents(packed) == before


def test_long_video_goes_on_in_further_samples(
    videos: Path, packed: Path, tmp_path: Path, pack: Pack
) -> None:
    """Past the token limit a segment is cut between clips; the windows together are the whole."""
    values = {**SMALL, "shards": {"samples_per_shard": 2, "max_sample_tokens": 1}}
    pack(videos, tmp_path / "out", values)
    cut, whole = (DatasetDirectory.open(str(p)) for p in (tmp_path / "out", packed))
    rows = [row for row in cut.read_index().to_pylist() if row["id"] == "clip4.mp4"]
    assert [row["key"] for row in rows] == [
        rows[0]["key"],
        *(f"{rows[0]['key']}_w{n:04d}" for n in (1, 2)),
    ]
    (row,) = (row for row in whole.read_index().to_pylist() if row["id"] == "clip4.mp4")
    one, parts = whole.read_sample(row), [cut.read_sample(row) for row in rows]
    np.testing.assert_array_equal(
        np.concatenate([part.patches_NPP3 for part in parts]), one.patches_NPP3
    )
    times = [time for part in parts for time in part.meta["views"][0]["times"]]
    assert times == one.meta["views"][0]["times"]
    assert summarise(cut)["source_bytes"] == summarise(whole)["source_bytes"]
    segments = {row["id"]: Segment.from_row(row) for row in list_sources([str(videos)]).to_pylist()}
    assert list(compare_with_source(cut, rows, segments)) == []


def test_a_whole_thumbnail_has_frames_of_its_own(videos: Path, tmp_path: Path, pack: Pack) -> None:
    """Every so-many-th frame, of each all finest patches and no other; the tiles are as without it.

    Its twin is the gazed thumbnail of the same videos, a second view of every frame, fewer tokens in each.
    Both meet the bound.
    """
    fit = {"max_tiles": 1, "thumbnail": True}
    for name, more in (("whole", {"thumbnail_every": 4}), ("gazed", {})):
        pack(videos, tmp_path / name, {**SMALL, "fit": fit | more})
    whole, gazed = (DatasetDirectory.open(str(tmp_path / name)) for name in ("whole", "gazed"))
    for sample, twin in zip(whole.iter_samples(0), gazed.iter_samples(0), strict=True):
        (tiles, thumbnail), (other, small) = sample.meta["views"], twin.meta["views"]
        assert tiles == other
        assert [tiles["name"], thumbnail["name"], small["name"]] == ["tiles", *["thumbnail"] * 2]
        assert (thumbnail["every"], thumbnail["times"]) == (4, tiles["times"][::4])
        assert thumbnail["tokens"] == [DENSE_TILE_TOKENS] * len(thumbnail["times"])
        assert set(sample.tokens_N6[sample.tokens_N6[:, 0] == 1, 2]) == {FINEST}
        assert small["times"] == other["times"]
        assert max(small["tokens"]) < DENSE_TILE_TOKENS
        assert min(*thumbnail["psnr"], *small["psnr"]) >= 30
    assert whole.info.provenance["fit"]["thumbnail_every"] == 4
    for row in whole.index(0).to_pylist():
        frames = row["frames"] + -(-row["frames"] // 4)
        assert row["dense_tokens"] == DENSE_TILE_TOKENS * frames
        assert (row["tokens"], len(row["tokens_per_frame"])) == (
            sum(row["tokens_per_frame"]),
            frames,
        )
    segments = {row["id"]: Segment.from_row(row) for row in list_sources([str(videos)]).to_pylist()}
    for directory in (whole, gazed):
        rows = directory.index(0).to_pylist()
        assert list(compare_with_source(directory, rows, segments)) == []


def test_every_frame_of_no_thumbnail_is_refused() -> None:
    """A thumbnail that is not there is not kept whole, nor at frames that clips do not share."""
    with pytest.raises(UsageError, match="there is none; add thumbnail"):
        PackSettings.parse({"fit": {"thumbnail_every": 2}})
    with pytest.raises(UsageError, match=r"thumbnail_every.*got 3"):
        PackSettings.parse({"fit": {"thumbnail": True, "thumbnail_every": 3}})


def test_unreachable_bound_fails_the_video_with_a_remedy(
    videos: Path, tmp_path: Path, pack: Pack
) -> None:
    """A bound above what the codec itself can hold is a failure on record that names the way out."""
    values = {**SMALL, "selector": {"name": "greedy", "min_psnr": 55}, "codec": {"quality": 20}}
    done = pack(videos, tmp_path / "out", values)
    assert all(video.error for video in done)
    (row, *_) = DatasetDirectory.open(str(tmp_path / "out")).failures().to_pylist()
    assert row["stage"] == "select"
    assert "with every patch, 55 dB were asked; use --codec zstd" in row["message"]


def test_manifest_columns_are_carried_through(videos: Path, tmp_path: Path, pack: Pack) -> None:
    """The user's columns are in the sample, and start and end choose the frames."""
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"path,id,start,end,caption\n{videos}/clip3.mp4,mine,1,2,a square\n")
    pack(manifest, tmp_path / "out")
    (sample,) = DatasetDirectory.open(str(tmp_path / "out")).iter_samples(0)
    assert sample.key == sample.meta["id"] == "mine"
    assert sample.meta["user"] == {"caption": "a square"}
    assert sample.meta["views"][0]["times"] == pytest.approx([1 + n / 10 for n in range(10)])


@pytest.mark.skipif(
    os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="mounts a tmpfs"
)
def test_full_disk_is_one_line_and_resumable(
    videos: Path, packed: Path, tmp_path: Path, pack: Pack, contents: Contents
) -> None:
    """With room for two thirds the run stops with a remedy; with room again it ends as if nothing had been."""
    disk = tmp_path / "disk"
    disk.mkdir()
    room = f"size={sum(map(len, contents(packed).values())) * 2 // 3}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", room, "tmpfs", disk]).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        with pytest.raises(StorageError, match=r"space|full"):
            pack(videos, disk / "out")
        assert 0 < len(DatasetDirectory.open(str(disk / "out")).committed()) < 4
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        pack(videos, disk / "out")
        assert contents(disk / "out") == contents(packed)
    finally:
        subprocess.run(["umount", disk], check=True)


COMMAND = """
import sys
from gazepack.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def pack_command(videos: Path, out: Path) -> list[str]:
    """Return the command line that packs in a process of its own, as `packed` was."""
    options = [
        "--samples-per-shard",
        "2",
        "--max-tiles",
        "2",
        "--executor",
        "serial",
        "--selector",
        "greedy",
    ]
    return [sys.executable, "-c", COMMAND, "pack", str(videos), "--out", str(out), *options]


def test_killed_ten_times_the_result_is_the_same(
    videos: Path, packed: Path, tmp_path: Path, contents: Contents
) -> None:
    """SIGKILL at ten random moments of packing, then one run to the end: byte for byte the undisturbed one."""
    out = tmp_path / "out"
    command = pack_command(videos, out)
    chance = random.Random(0)
    kills = 0
    while kills < 10:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not out.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 3)
        kills += 1
        done = DatasetDirectory.open(str(out)) if (out / "dataset.json").exists() else None
        for number in done.committed() if done else ():
            assert verify_shard(done, number) == []
        if (
            done and len(done.committed()) == 4
        ):  # begin again, so that every kill meets a run at work
            for index in sorted((out / "index").iterdir())[1:]:
                index.unlink()
    assert subprocess.run(command, capture_output=True).returncode == 3
    DatasetDirectory.open(str(out)).remove_leftovers()
    assert contents(out) == contents(packed)


def test_ctrl_c_is_one_line_and_resumable(
    videos: Path, packed: Path, tmp_path: Path, contents: Contents, pack: Pack
) -> None:
    """SIGINT in the middle of a run ends it with 130 and a line; what was committed stays, and it goes on."""
    out = tmp_path / "out"
    command = pack_command(videos, out)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("index/0*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("gazepack: interrupted; the same command goes on")
    assert "Traceback" not in said
    directory = DatasetDirectory.open(str(out))
    assert 0 < len(directory.committed()) < 4
    assert directory.leftovers() == []
    pack(videos, out)
    assert contents(out) == contents(packed)


def test_two_runs_at_once_do_no_harm(
    videos: Path, packed: Path, tmp_path: Path, contents: Contents
) -> None:
    """Two processes started on one output at the same moment both end well; the output is that of one."""
    out = tmp_path / "out"
    command = pack_command(videos, out)
    runs = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [3, 3], said
    assert contents(out) == contents(packed)
