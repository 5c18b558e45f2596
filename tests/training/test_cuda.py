"""Training on a GPU that is pretended (`pretend_cuda`): steps, checkpoints, labels, evaluation."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from pretend_cuda import PretendedCuda
from torch import Tensor

from gazepack.autogaze import AutoGaze, CanvasNetwork
from gazepack.autogaze.weights import save_checkpoint
from gazepack.cli.main import run
from gazepack.selectors import ClipBatch, Selection, Selector, choose
from gazepack.selectors.baselines import Random
from gazepack.training.clips import Video
from gazepack.training.forced import Lessons, lesson_loss
from gazepack.training.labels import label_clips
from gazepack.training.ntp import precision
from gazepack.video import write_video
from gazepack.video.scenes import objects

NTP = ("--frames-per-step", "1", "--accumulate", "2", "--workers", "0")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """One short video."""
    write_video(tmp_path / "film.mp4", objects(64, 64, 1), fps=6)
    return tmp_path / "film.mp4"


@pytest.fixture
def model(network: CanvasNetwork, tmp_path: Path) -> Path:
    """A checkpoint whose heads have something to say."""
    save_checkpoint(network, tmp_path / "init")
    return tmp_path / "init"


def program(*arguments: object) -> None:
    assert run([str(argument) for argument in arguments]) == 0


def last(folder: Path) -> dict[str, Any]:
    """Return the last line of a run's log."""
    values: dict[str, Any] = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return values


def test_products_are_bfloat16_and_what_is_exact_stays(
    network: CanvasNetwork, frames_BT3SS: Tensor
) -> None:
    """The loss and its gradients are those of the CPU's float32 but for the rounding of products."""
    frames = frames_BT3SS[:1, :2]
    labels = label_clips(frames, min_psnr_B=[24.0], beyond=5)
    own = lesson_loss(network, Lessons.of(frames, labels, device=torch.device("cpu")), spread=2.0)
    own.total.backward()
    expected = {name: x.grad for name, x in network.named_parameters()}
    network.zero_grad()
    with PretendedCuda() as cuda:
        there, device = network.to("cuda"), torch.device("cuda")
        with precision(device):
            found = lesson_loss(there, Lessons.of(frames, labels, device=device), spread=2.0)
        assert found.total.item() == pytest.approx(own.total.item(), rel=0.02)
        assert found.numbers() == pytest.approx(own.numbers(), rel=0.05)
        found.total.backward()
        assert cuda.questions < 10
        for name, parameter in there.named_parameters():
            a, b = parameter.grad, expected[name]
            assert (a is None) == (b is None), name
            if a is not None and b is not None and b.norm() > 1e-3:
                apart = (a.cpu() - b).norm() / b.norm()
                assert apart < 0.1, (name, apart)


@pytest.mark.usefixtures("cuda")
def test_a_run_goes_on_where_it_was(film: Path, model: Path, tmp_path: Path) -> None:
    """Two steps at once are one step, a stop, and another; the checkpoint is read on the CPU as well."""
    ntp = ("train", "ntp", film, "--init", model, *NTP, "--device", "cuda", "--steps")
    program(*ntp, 2, "--out", tmp_path / "whole")
    assert last(tmp_path / "whole")["step"] == 2
    program(*ntp, 2, "--out", tmp_path / "whole")  # there is nothing left to do
    rl = ("train", "rl", film, "--init", tmp_path / "whole/model", "--steps", 1, "--group", 2)
    for device in ("cuda", "cpu"):
        program(*rl, "--clips-per-step", 1, "--out", tmp_path / device, "--device", device)
    there, here = last(tmp_path / "cuda"), last(tmp_path / "cpu")
    for name in ("score", "worth", "tokens"):  # the same dice
        assert there[name] == pytest.approx(here[name], rel=0.02)


@pytest.mark.usefixtures("cuda")
def test_labels_are_those_of_the_cpu(film: Path, tmp_path: Path) -> None:
    """Greedy's answers do not depend on the device."""
    for device in ("cpu", "cuda"):
        program("label", film, "--out", tmp_path / device, "--min-psnr", 24, "--device", device)
    tables = [pq.read_table(next((tmp_path / name).iterdir())) for name in ("cpu", "cuda")]
    assert tables[0].equals(tables[1])


def test_evaluation_chooses_where_the_network_is(
    film: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips go to the device; on the CPU, threads would share the network's groups."""
    seen = []

    def choosing(selector: Selector, clips: ClipBatch, **_: Any) -> list[Selection]:
        seen.append((selector.name, clips.frames_BT3HW.device.type))
        part = replace(clips, frames_BT3HW=clips.frames_BT3HW[:, :2], num_frames=(2,))
        return choose(Random(gazing_ratio=0.01), part)

    evaluation = importlib.import_module("gazepack.training.evaluate")
    monkeypatch.setattr(evaluation, "choose", choosing)
    with PretendedCuda():
        network = AutoGaze.from_pretrained(model, device="cuda")
        videos = [Video(uri=str(film))]
        evaluation.evaluate(network, videos, name="", bounds=(20,), progress=lambda _: None)
    assert {name for name, _ in seen} == {"autogaze", "greedy", "difference", "random"}
    assert {device for _, device in seen} == {"cuda"}
