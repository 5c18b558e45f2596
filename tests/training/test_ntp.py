"""Pre-training: it learns, goes on where it stopped, and stops where it must."""

import json
from pathlib import Path

import pytest
import torch

from gazepack.autogaze import AutoGazeConfig, fresh_canvas_network
from gazepack.errors import DivergedError, UsageError
from gazepack.training import batches as batches_module
from gazepack.training.batches import BatchMaker
from gazepack.training.clips import Video
from gazepack.training.loop import RunSettings
from gazepack.training.ntp import NtpSettings, ntp_loss, pretrain
from gazepack.training.store import STATE_NAME, Store, TrainingState

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of few tokens from few windows, so that a step takes no time."""
    monkeypatch.setattr(batches_module, "LANES", 2)
    small = {"lengths": (2,), "max_tokens": 8}
    original = batches_module.BatchSettings

    def settings(**values: object) -> batches_module.BatchSettings:
        return original(**{**small, **values})  # type: ignore[arg-type]

    monkeypatch.setattr("gazepack.training.ntp.BatchSettings", settings)


def run(
    config: AutoGazeConfig, videos: list[Video], folder: Path, settings: NtpSettings, *, stop: int
) -> TrainingState:
    """Train until the end, or until the report of a step interrupts."""
    state = TrainingState.fresh(fresh_canvas_network(config, seed=0), weight_decay=0.01)
    store = Store(folder, settings=settings.model_dump())
    store.load(state)

    def report(step: int, progress: float, numbers: dict[str, float]) -> None:
        assert 0 < progress <= 1
        assert numbers["choice"] > 0
        if step == stop:
            store.save(state)
            raise KeyboardInterrupt

    try:
        pretrain(state, videos, settings, store=store, report=report, device=CPU, num_workers=0)
    except KeyboardInterrupt:
        assert state.step == stop
    return state


def test_an_interrupted_run_goes_on_to_the_bit(
    config: AutoGazeConfig, videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after step 2 and begun again, a run of four steps ends with the same bytes."""
    monkeypatch.setattr("gazepack.training.loop.REPORT_STEPS", 1)
    settings = NtpSettings(steps=4, frames_per_step=4, warmup_steps=1)
    run(config, videos, tmp_path / "whole", settings, stop=0)
    run(config, videos, tmp_path / "parts", settings, stop=2)
    run(config, videos, tmp_path / "parts", settings, stop=0)
    whole, parts = (tmp_path / name / "model/model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()
    ]
    assert steps == [1, 2, 3, 4]


def test_it_learns(config: AutoGazeConfig, videos: list[Video], tmp_path: Path) -> None:
    """After twenty steps the choices are likelier, and gains, errors and losses better known."""
    settings = NtpSettings(steps=20, frames_per_step=4, learning_rate=1e-2, warmup_steps=5)
    run(config, videos, tmp_path, settings, stop=0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for name in ("choice", "decibel", "gain", "error"):
        assert lines[-1][name] < lines[0][name] - 0.02, name


def test_a_divided_step_is_the_mean_of_its_batches(
    config: AutoGazeConfig,
    videos: list[Video],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step of two batches takes the next two of the stream, and their mean gradient."""
    monkeypatch.setattr("gazepack.training.loop.REPORT_STEPS", 1)
    settings = NtpSettings(steps=2, frames_per_step=4, accumulate=2)
    assert settings.batches.frames_per_batch == 2
    state = run(config, videos, tmp_path, settings, stop=1)
    slow = TrainingState.fresh(fresh_canvas_network(config, seed=0), weight_decay=0.01)
    maker = BatchMaker(videos, settings.batches)
    losses = [ntp_loss(slow, maker(n), spread=4.0, device=CPU)[0] for n in range(2)]
    torch.stack(losses).mean().backward()
    torch.nn.utils.clip_grad_norm_(slow.network.parameters(), 1.0)
    for a, b in zip(state.network.parameters(), slow.network.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)


def test_a_loss_that_is_no_number_stops_the_run(
    config: AutoGazeConfig, videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is named, and the last good checkpoint stands."""
    monkeypatch.setattr("gazepack.training.loop.SAVE_STEPS", 1)
    settings = NtpSettings(steps=9, frames_per_step=2)
    state = TrainingState.fresh(fresh_canvas_network(config, seed=0), weight_decay=0.01)
    store = Store(tmp_path, settings=settings.model_dump())
    monkeypatch.setattr("gazepack.training.loop.REPORT_STEPS", 2)

    def poison(*_: object) -> None:
        state.network.connector.pos_embed.data.fill_(float("nan"))

    with pytest.raises(DivergedError, match=r"batch 2 is not a number; the last checkpoint"):
        pretrain(state, videos, settings, store=store, report=poison, device=CPU, num_workers=0)
    assert (tmp_path / STATE_NAME).is_file()
    good = TrainingState.fresh(fresh_canvas_network(config, seed=5), weight_decay=0.01)
    assert store.load(good)


def test_a_gradient_that_is_no_number_stops_the_run(
    config: AutoGazeConfig, videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the loss is one, the weights are left as they were, and nothing is saved."""
    state = TrainingState.fresh(fresh_canvas_network(config, seed=0), weight_decay=0.01)
    before = [weight.detach().clone() for weight in state.network.parameters()]

    def steep(
        state: TrainingState, *_: object, **__: object
    ) -> tuple[torch.Tensor, dict[str, float]]:
        return (state.network.loss_bias.sqrt() * torch.tensor(2.0)).sum(), {}  # at 0, without end

    monkeypatch.setattr("gazepack.training.ntp.ntp_loss", steep)
    settings = NtpSettings(steps=2, frames_per_step=2)
    store = Store(tmp_path, settings=settings.model_dump())
    run = {"store": store, "report": lambda *_: None, "device": CPU, "num_workers": 0}
    with pytest.raises(DivergedError, match=r"the gradient of step 0 is not a number"):
        pretrain(state, videos, settings, **run)  # type: ignore[arg-type]
    assert all(map(torch.equal, state.network.parameters(), before))
    assert not (tmp_path / STATE_NAME).exists()


def test_no_memory_left(
    config: AutoGazeConfig, videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory says which setting to lower."""

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("gazepack.training.ntp.ntp_loss", full)
    with pytest.raises(UsageError, match=r"out of memory in step 0; lower --frames-per-step"):
        run(config, videos, tmp_path, NtpSettings(steps=1), stop=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"the run has no length; give --steps or --minutes"),
        ({"steps": 3, "minutes": 1}, r"the run has two lengths"),
        ({"steps": 0}, r"steps: .*greater than or equal to 1 \(got 0\)"),
        ({"steps": 3, "learning_rate": -1}, r"learning_rate: .*greater than 0"),
    ],
)
def test_refused(values: dict[str, float], message: str) -> None:
    """A setting that cannot be is refused in one line."""
    with pytest.raises(UsageError, match=message):
        RunSettings.parse(values)


def test_the_schedule(config: AutoGazeConfig) -> None:
    """The rate rises over the warm-up and falls to a fiftieth; minutes count like steps."""
    state = TrainingState.fresh(fresh_canvas_network(config, seed=0), weight_decay=0.01)
    settings = NtpSettings(minutes=2, learning_rate=1.0, warmup_steps=10)
    assert settings.rate(state) == pytest.approx(0.1)
    state.step, state.seconds = 100, 60
    assert settings.rate(state) == pytest.approx(0.51)
    assert settings.spread(state) == pytest.approx(2.5)
    state.seconds = 120
    assert settings.rate(state) == pytest.approx(0.02)
    assert settings.progress(state) == 1
