"""Packing on a GPU that is pretended (`pretend_cuda`), with decoders, codecs and files that are real."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pretend_cuda import PretendedCuda

from gazepack.autogaze import AutoGazeConfig, fresh_canvas_network
from gazepack.autogaze.weights import save_checkpoint
from gazepack.cli.main import run
from gazepack.jobs import doctor, unit
from gazepack.jobs.choices import choose_device
from gazepack.video import write_video
from gazepack.video.scenes import objects

Contents = Callable[[Path], dict[str, bytes]]
SMALL = ("--executor", "serial", "--patch-size", "4", "--min-psnr", "22")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of one tile and a few frames."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(3):
        write_video(folder / f"{number}.mp4", objects(64, 64, 2, number), fps=10)
    return folder


def pack(films: Path, out: Path, *options: str) -> int:
    return run(["pack", str(films), "--out", str(out), *SMALL, *options])


@pytest.mark.parametrize("selector", ["greedy", "autogaze"])
def test_a_dataset_is_the_same_to_the_byte(
    films: Path, tmp_path: Path, contents: Contents, canvas_config: AutoGazeConfig, selector: str
) -> None:
    """What the device chose is what the CPU chose; `--device auto` takes the device where there is one."""
    save_checkpoint(fresh_canvas_network(canvas_config, seed=1), tmp_path / "model")
    options = ["--selector", selector]
    if selector == "autogaze":
        options += ["--model", str(tmp_path / "model"), "--gazing-ratio", "0.02"]
    assert pack(films, tmp_path / "cpu", *options, "--device", "cpu") == 0
    with PretendedCuda() as cuda:
        assert pack(films, tmp_path / "cuda", *options) == 0
        assert cuda.uploads
    assert contents(tmp_path / "cpu") == contents(tmp_path / "cuda")


def test_a_batch_that_does_not_fit_is_divided(
    films: Path, tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips are chosen for in halves, with the same bytes; where one does not fit it is said in a line."""
    sizes = []
    choose = unit.choose

    def noting(selector, clips, **options):
        sizes.append(len(clips))
        return choose(selector, clips, **options)

    monkeypatch.setattr(unit, "choose", noting)
    with PretendedCuda() as cuda:
        assert pack(films, tmp_path / "all", "--selector", "greedy") == 0
        needed = cuda.reserved
    with PretendedCuda(memory_bytes=needed * 4 // 5):
        assert pack(films, tmp_path / "half", "--selector", "greedy") == 0
    assert sizes == [3, 3, 1, 2]  # the second three did not fit
    assert contents(tmp_path / "all") == contents(tmp_path / "half")


def test_too_little_for_a_clip_is_said(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is one line, what to do, and exit code 2."""
    with PretendedCuda(memory_bytes=2**16):
        assert pack(films, tmp_path / "out", "--selector", "greedy") == 2
    said = capsys.readouterr().err
    assert "cuda has too little memory for a clip of 1 tiles; free some" in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("cuda")
def test_a_device_that_is_not_there_is_refused(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second of one GPU is no device, whoever chooses; the first and `auto` are."""
    assert pack(films, tmp_path / "out", "--selector", "greedy", "--device", "cuda:1") == 2
    assert "device cuda:1 is not there" in capsys.readouterr().err
    assert [choose_device(name) for name in ("auto", "cuda", "cuda:0", "cpu")] == [
        *("cuda", "cuda", "cuda:0", "cpu")
    ]


@pytest.mark.usefixtures("cuda")
def test_the_bench_works_there(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every stage is timed."""
    common = ["--selector", "greedy", "--patch-size", "4", "--min-psnr", "22", "--json"]
    assert run(["bench", "pack", str(films / "0.mp4"), *common, "--device", "cuda"]) == 0
    rates = json.loads(capsys.readouterr().out)["frames_per_second"]
    assert min(rates.values()) > 0
    assert "choose" in " ".join(rates)


def test_the_doctor_tries_it() -> None:
    """The device is named with its memory; without one it is a note."""
    with PretendedCuda(memory_bytes=2**30):
        check = doctor._torch()
    assert (check.verdict, check.says) == (
        "ok",
        f"{torch.__version__}, 1 x pretended, 1.1 GB of 1.1 GB free",
    )
    assert doctor._torch().verdict == "note"
