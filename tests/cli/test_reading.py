"""`info`, `failures` and `verify` on a packed dataset."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gazepack.cli.main import run
from gazepack.formats import DatasetDirectory, Failure
from gazepack.jobs.runlog import read_logs

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A dataset that may be damaged."""
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def test_info_counts(dataset: Path, capsys: Captured) -> None:
    """`info --json` agrees with what was packed; the table says the same to people."""
    assert run(["info", str(dataset), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["samples"], summary["frames"], summary["selector"]) == (3, 48, "autogaze")
    assert summary["dense_tokens"] == 48 * 196
    assert summary["reduction"] == pytest.approx(summary["dense_tokens"] / summary["tokens"])
    assert summary["bytes"] > 0
    assert run(["info", str(dataset)]) == 0
    assert f"{summary['tokens']:,} of {summary['dense_tokens']:,} dense" in capsys.readouterr().out


def test_failures_as_json(dataset: Path, capsys: Captured) -> None:
    """Each failure has the video, the stage, the error, one line and the attempts."""
    assert run(["failures", str(dataset), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["failures"]
    assert (row["id"], row["stage"], row["attempts"]) == ("empty.mp4", "open", 2)


def test_verify_of_a_whole_dataset(folder: Path, dataset: Path, capsys: Captured) -> None:
    """Nothing is wrong, also against the sources."""
    assert run(["verify", str(dataset), "--source", str(folder)]) == 0
    assert "2 shards checked and compared with the sources: no problem" in capsys.readouterr().out


def test_verify_finds_a_flipped_bit(copy: Path, capsys: Captured) -> None:
    """One bit of a shard: exit code 4, and the sample is named."""
    shard = copy / "shards" / "000000.tar"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert run(["verify", str(copy), "--json"]) == 4
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert problems
    assert all("shards/000000.tar" in problem["place"] for problem in problems)


def test_verify_misses_a_lost_shard(copy: Path, capsys: Captured) -> None:
    """Without its index a shard does not exist, and the totals do not add up."""
    (copy / "index" / "000001.parquet").unlink()
    assert run(["verify", str(copy)]) == 4
    assert "videos are neither packed nor failed" in capsys.readouterr().err


def test_verify_notices_another_video(
    folder: Path, dataset: Path, tmp_path: Path, capsys: Captured
) -> None:
    """A source that changed since gives the frame at which it differs."""
    changed = Path(shutil.copytree(folder, tmp_path / "videos"))
    shutil.copy(folder / "2.mp4", changed / "1.mp4")
    assert run(["verify", str(dataset), "--source", str(changed)]) == 4
    assert "is stored," in capsys.readouterr().err


def test_verify_finds_videos_that_were_packed_apart(
    folder: Path, dataset: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Two folders, each of which names its videos as when it was packed by itself; one id twice is said."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    shutil.copytree(folder, two)
    (two / "0.mp4").rename(one / "0.mp4")
    sources = ["--source", str(one), "--source", str(two)]
    assert run(["verify", str(dataset), *sources]) == 0
    shutil.copy(one / "0.mp4", two / "0.mp4")
    capsys.readouterr()
    assert run(["verify", str(dataset), *sources]) == 4
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'0.mp4': two sources hold a video of this id: " in error


def test_verify_says_how_far_it_is(
    folder: Path, dataset: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line on stderr, every few seconds where that is no terminal; stdout has the result alone."""
    assert run(["verify", str(dataset), "--source", str(folder)]) == 0
    assert capsys.readouterr().err == ""  # it took no few seconds
    monkeypatch.setattr("gazepack.cli.progress.PLAIN_SECONDS", 0.0)
    assert run(["verify", str(dataset), "--source", str(folder), "--json"]) == 0
    told, lines = capsys.readouterr()
    assert json.loads(told)["problems"] == []
    said = [line.partition(", about")[0] for line in lines.splitlines()]
    assert said == [
        "0/2 shards, 0 samples compared, 0 problems",
        "0/2 shards, 1 sample compared, 0 problems",
        "1/2 shards, 2 samples compared, 0 problems",
        "1/2 shards, 2 samples compared, 0 problems",
        "2/2 shards, 3 samples compared, 0 problems",
    ]


def test_failures_that_would_move_a_cursor_are_written_out(copy: Path, capsys: Captured) -> None:
    """One line each, whatever a stranger's dataset has in its messages."""
    directory = DatasetDirectory.open(str(copy))
    failure = Failure(
        id="a", uri="a", stage="open", error="VideoError", message="\x1b[2Ja\nb", attempts=1
    )
    directory.write_shard(2, [], [failure])
    assert run(["failures", str(copy)]) == 0
    assert "open    \\x1b[2Ja b" in capsys.readouterr().out.splitlines()


def test_view_names_a_video_on_one_line(copy: Path, tmp_path: Path, capsys: Captured) -> None:
    """An id with a line break, as a manifest may give, is no second line."""
    directory = DatasetDirectory.open(str(copy))
    sample = directory.read_sample(directory.index(0).to_pylist()[0])
    named = replace(sample, key="k", meta={**sample.meta, "key": "k", "id": "a\nb"})
    directory.write_shard(2, [named])
    assert run(["view", str(copy), "k", "--out", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path / 'a.png'}: 6 of 6 frames of a b"]


def test_info_shows_an_address_as_it_is(copy: Path, capsys: Captured) -> None:
    """Brackets in it are no markup."""
    place = copy.rename(copy.parent / "a[bold]")
    assert run(["info", str(place)]) == 0
    assert "a[bold]" in capsys.readouterr().out.replace("\n", "")


def test_pack_leaves_its_log_and_a_second_run_none(dataset: Path) -> None:
    """The program keeps where the time went once, and does not when there is nothing left to do."""
    directory = DatasetDirectory.open(str(dataset))
    (found,) = read_logs(directory)
    assert found.worker_seconds > 0
    assert found.bytes == sum(directory.read_index()["bytes"].to_pylist())
    assert run(["pack", "--out", str(dataset), "--samples-per-shard", "2"]) == 3
    assert read_logs(directory) == [found]
