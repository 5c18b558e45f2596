"""`gazepack label`, `train` and `evaluate`, from the command line to the files."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gazepack.autogaze import load_checkpoint
from gazepack.cli.main import run
from gazepack.video import write_video
from gazepack.video.scenes import objects, pan

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two short videos."""
    folder = tmp_path_factory.mktemp("videos")
    for name, scene in (("objects", objects), ("pan", pan)):
        write_video(folder / f"{name}.mp4", scene(96, 64, 6), fps=6)
    return folder


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    """Run a command line; return its exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture(scope="module")
def model(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one step of training leaves."""
    out = tmp_path_factory.mktemp("run")
    arguments = ["train", "ntp", str(videos), "--out", str(out), "--steps", "1"]
    assert run([*arguments, "--frames-per-step", "1", "--layers", "1", "--workers", "0"]) == 0
    return out / "model"


def test_label_writes_a_table_a_video(program: Program, videos: Path, tmp_path: Path) -> None:
    """Each video gets a file; a second call finds nothing to do."""
    out = tmp_path / "labels"
    code, stdout, _ = program("label", videos, "--out", out, "--min-psnr", "24", "--json")
    said = json.loads(stdout)
    assert (code, said["videos"], said["failed"], said["frames"]) == (0, 2, 0, 12)
    tables = [pq.read_table(path) for path in sorted(out.iterdir())]
    assert sum(sum(table["kept"].to_pylist()) for table in tables) == said["tokens"]
    code, stdout, _ = program("label", videos, "--out", out)
    assert (code, stdout.split()[0]) == (0, "0")


def test_label_goes_on_after_a_broken_video(program: Program, videos: Path, tmp_path: Path) -> None:
    """The broken one is named, the others are labelled, the exit code says so."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    code, stdout, stderr = program("label", broken, videos, "--out", tmp_path / "labels")
    assert code == 3
    assert "broken.mp4" in stderr
    assert stdout.startswith("2 videos labelled, 1 failed")


def test_train_ntp_leaves_a_model(model: Path) -> None:
    """The model of a run predicts dB at contiguous positions, and has the layers asked for."""
    config = load_checkpoint(model).network.config
    assert (config.loss_unit, config.decode_positions) == ("negative_psnr", "contiguous")
    assert config.decoder.num_hidden_layers == 1


def test_train_rl_goes_on_from_a_model(
    program: Program, videos: Path, model: Path, tmp_path: Path
) -> None:
    """Post-training begins with a model and leaves another of the same shape."""
    code, stdout, stderr = program(
        *("train", "rl", videos, "--out", tmp_path, "--init", model, "--steps", "1"),
        *("--group", "2", "--clips-per-step", "1"),
    )
    assert (code, stdout.strip()) == (0, f"{tmp_path}/model")
    assert "step 1 (100.0%): " in stderr
    after = load_checkpoint(tmp_path / "model").network
    assert after.config == load_checkpoint(model).network.config


def test_evaluate_compares(program: Program, videos: Path, model: Path, tmp_path: Path) -> None:
    """The table, the figure and the JSON are written; stdout has one JSON object."""
    code, stdout, _ = program(
        *("evaluate", videos, "--model", model, "--min-psnr", "20", "--out", tmp_path, "--json")
    )
    [row] = json.loads(stdout)["comparisons"]
    assert code == 0
    assert row["times_greedy"]["greedy"] == 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".md", ".svg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "ntp", "VIDEOS", "--out", "OUT"), "the run has no length; give --steps"),
        (("train", "ntp", "NOTHING", "--out", "OUT", "--steps", "1"), "NOTHING"),
        (("train", "rl", "VIDEOS", "--out", "OUT", "--steps", "1"), "give --init RUN/model"),
        (
            ("train", "rl", "VIDEOS", "--out", "OUT", "--steps", "1", "--init", "NOTHING"),
            "no checkpoint at",
        ),
        (
            ("train", "ntp", "VIDEOS", "--out", "OUT", "--steps", "1", "--device", "tpu"),
            "unknown device 'tpu'; use cpu, cuda or cuda:N",
        ),
        (
            (
                *("train", "ntp", "VIDEOS", "--out", "OUT", "--steps", "1"),
                *("--init", "MODEL", "--layers", "2"),
            ),
            "has 1 layers, --layers asks for 2",
        ),
        (("evaluate", "VIDEOS", "--model", "MODEL", "--side", "300"), "side 300 is not a multiple"),
        (("label", "VIDEOS", "--out", "OUT", "--device", "cuda:99"), "device cuda:99 is not there"),
    ],
)
def test_refused(
    program: Program,
    videos: Path,
    model: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    """What cannot be is one line and exit code 2, and leaves nothing behind."""
    places = {
        "VIDEOS": videos,
        "MODEL": model,
        "OUT": tmp_path / "out",
        "NOTHING": tmp_path / "NOTHING",
    }
    code, _, stderr = program(*(places.get(word, word) for word in arguments))
    assert code == 2
    assert message in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "out" / "model").exists()
