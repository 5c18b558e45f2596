"""The ledger's commands: plan, status, retry, clean."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gazepack.cli.main import run
from gazepack.formats import DatasetDirectory
from gazepack.video import write_video

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short videos, one of them not a video."""
    import numpy as np

    folder = tmp_path_factory.mktemp("ledger") / "source"
    folder.mkdir()
    for number in range(2):
        grey = [np.full((64, 64, 3), 40 * n, np.uint8) for n in range(1 + number, 6)]
        write_video(folder / f"v{number}.mp4", grey, fps=5)
    (folder / "broken.mp4").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def packed(source: Path) -> Path:
    """The three videos packed into one shard."""
    assert run(["pack", str(source), "--out", str(source.parent / "packed")]) == 3
    return source.parent / "packed"


@pytest.fixture
def out(packed: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(packed, tmp_path / "out"))


@pytest.fixture
def said(capsys: Capture) -> Callable[[list[str]], tuple[int, dict[str, object]]]:
    """Return a function that runs a command with --json, and returns its exit code and what it said."""

    def said(arguments: list[str]) -> tuple[int, dict[str, object]]:
        capsys.readouterr()
        code = run([*arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return said


Said = Callable[[list[str]], tuple[int, dict[str, object]]]


def test_status_says_how_far_a_run_is(out: Path, said: Said, capsys: Capture) -> None:
    """Videos and shards, and whether all is done."""
    code, status = said(["status", str(out)])
    assert code == 0
    assert (status["videos"], status["planned_videos"], status["shards"]) == (3, 3, 1)
    assert status["complete"] is True
    (out / "index" / "000000.parquet").unlink()
    assert said(["status", str(out)])[1]["complete"] is False
    capsys.readouterr()
    assert run(["status", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "0 of 1 shard, 0.0% of the work",
        "0 failures, 0 rounds of gazepack retry",
        "not complete; the same pack command goes on",
    ]


def test_status_watches_until_all_is_packed(
    out: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is a line on stderr with the work done; the last state is the answer."""
    index = out / "index" / "000000.parquet"
    whole = index.read_bytes()
    index.unlink()
    looks: list[float] = []

    def committed_meanwhile(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            index.write_bytes(whole)

    monkeypatch.setattr("time.sleep", committed_meanwhile)
    capsys.readouterr()
    assert run(["status", str(out), "--watch", "--every", "5", "--json"]) == 0
    told, lines = capsys.readouterr()
    assert looks == [5, 5]
    assert json.loads(told)["complete"] is True
    assert json.loads(told)["work"] == 1.0
    assert lines.count("0.0%, 0 of 3 videos") == 2


def test_status_of_something_else_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    """A folder that is no dataset is a wrong address."""
    assert run(["status", str(tmp_path)]) == 2
    assert "is not a gazepack dataset" in capsys.readouterr().err


def test_pack_without_source_goes_on(out: Path, said: Said) -> None:
    """The frozen listing is enough; it need not be listed again, nor be where it was."""
    before = (out / "index" / "000000.parquet").read_bytes()
    (out / "index" / "000000.parquet").unlink()
    code, summary = said(["pack", "--out", str(out)])
    assert (code, summary["videos"]) == (3, 2)
    assert (out / "index" / "000000.parquet").read_bytes() == before


def test_pack_without_source_takes_the_settings_of_the_run(source: Path, tmp_path: Path) -> None:
    """Nothing has to be remembered; settings that are given are compared with those of the run."""
    out = tmp_path / "out"
    pack = ["pack", "--out", str(out), "--executor", "serial"]
    options = ["--selector", "greedy", "--min-psnr", "26", "--codec", "zstd", "--fps", "2"]
    assert run([*pack, str(source), *options, "--samples-per-shard", "1"]) == 3
    before = (out / "index" / "000001.parquet").read_bytes()
    (out / "index" / "000001.parquet").unlink()
    assert run(pack) == 3
    assert (out / "index" / "000001.parquet").read_bytes() == before
    assert run([*pack, *options]) == 2


def test_pack_without_source_needs_a_run(tmp_path: Path, capsys: Capture) -> None:
    """With nothing begun there is nothing to go on with."""
    assert run(["pack", "--out", str(tmp_path / "new")]) == 2
    assert "no source is named, and no run has begun" in capsys.readouterr().err


def test_retry_packs_what_was_mended(out: Path, source: Path, tmp_path: Path, said: Said) -> None:
    """The exit code is 3 while a video is outstanding, 0 once none is."""
    assert said(["retry", str(out)])[0] == 3
    mended = shutil.copytree(source, tmp_path / "mended")
    shutil.copy(source / "v1.mp4", mended / "broken.mp4")
    code, summary = said(["retry", str(out), "--source", str(mended)])
    assert (code, summary["videos"], summary["failed"]) == (0, 3, 0)
    assert said(["failures", str(out)])[1] == {"failures": []}


def test_clean_removes_what_no_index_names(out: Path, said: Said) -> None:
    """With --dry-run it only names them; the dataset itself is not touched."""
    (out / "shards" / "000007.tar").write_bytes(b"half a shard")
    named = {"files": ["shards/000007.tar"], "removed": False}
    assert said(["clean", str(out), "--dry-run"]) == (0, named)
    assert said(["clean", str(out)])[1]["removed"] is True
    assert not (out / "shards" / "000007.tar").exists()
    assert DatasetDirectory.open(str(out)).committed() == [0]


def test_plan_estimates_with_an_interval(source: Path, said: Said, capsys: Capture) -> None:
    """Every amount has a low, a value and a high; money follows from the hours."""
    code, found = said(["plan", str(source), "--sample", "3", "--price", "2"])
    assert code == 0
    assert (found["videos"], found["sampled"], found["failed"]) == (3, 3, 1)
    frames = found["frames"]
    assert isinstance(frames, dict)
    assert frames["low"] <= frames["value"] <= frames["high"]
    assert run(["plan", str(source), "--sample", "2", "--price", "2"]) == 0
    assert "money" in capsys.readouterr().out


def test_plan_of_nothing_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    """An empty folder has exit code 2."""
    assert run(["plan", str(tmp_path)]) == 2
    assert "holds no video" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", "4:2", "many", "1:2:3"])
def test_impossible_workers_are_refused(workers: str, tmp_path: Path, capsys: Capture) -> None:
    """Workers are a number from 1, or a range of them."""
    assert run(["pack", "x", "--out", str(tmp_path / "out"), "--workers", workers]) == 2
    assert "is not a number of workers such as 8, or 2:64" in capsys.readouterr().err
