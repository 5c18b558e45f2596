"""The folder of a run."""

import json
from pathlib import Path

import pytest
import torch

from gazepack.autogaze import AutoGazeConfig, CanvasNetwork, fresh_canvas_network, load_checkpoint
from gazepack.errors import CheckpointError, ProvenanceError, StorageError
from gazepack.training.store import STATE_NAME, Store, TrainingState


def trained(network: CanvasNetwork) -> TrainingState:
    """A state after two steps on nothing in particular."""
    state = TrainingState.fresh(network, weight_decay=0.1)
    for _ in range(2):
        state.optimiser.zero_grad()
        torch.stack([p.square().sum() for p in network.parameters()]).sum().backward()
        state.optimiser.step()
        state.step += 1
        state.update_average(0.9)
    state.seconds = 1.5
    return state


def test_what_is_saved_is_loaded(network: CanvasNetwork, tmp_path: Path) -> None:
    """Weights, average and moments come back to the bit, and so do step and seconds."""
    store, state = Store(tmp_path, settings={"seed": 1}), trained(network)
    store.save(state)
    other = TrainingState.fresh(fresh_canvas_network(network.config, seed=9), weight_decay=0.1)
    assert store.load(other)
    assert (other.step, other.seconds) == (2, 1.5)
    for a, b in zip(state.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(a, b)
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(state.optimiser.state[a][moment], other.optimiser.state[b][moment])
    assert all(torch.equal(state.average[name], other.average[name]) for name in state.average)


def test_the_model_is_the_average(network: CanvasNetwork, tmp_path: Path) -> None:
    """The checkpoint beside the state holds the averaged weights, not the latest, in half precision."""
    state = trained(network)
    Store(tmp_path, settings={}).save(state)
    found = load_checkpoint(tmp_path / "model").network
    for name, parameter in found.named_parameters():
        assert torch.equal(parameter, state.average[name].half().float())
    latest = network.gaze_decoder.lm_head.weight
    assert not torch.equal(found.gaze_decoder.lm_head.weight, latest.half().float())


def test_the_average_begins_fast(network: CanvasNetwork) -> None:
    """Early steps weigh more than the decay says, so that the first weights are forgotten."""
    state = TrainingState.fresh(network, weight_decay=0.1)
    first = state.average["loss_bias"].clone()
    state.step = 2
    with torch.no_grad():
        network.loss_bias.add_(1)
    state.update_average(0.99)
    torch.testing.assert_close(state.average["loss_bias"], first + 1 - 3 / 12)
    state.step = 10_000
    state.update_average(0.99)
    torch.testing.assert_close(state.average["loss_bias"], first + 1 - 0.99 * 3 / 12)


def test_an_empty_folder_holds_nothing(network: CanvasNetwork, tmp_path: Path) -> None:
    """A run begins where there is no state."""
    state = TrainingState.fresh(network, weight_decay=0.1)
    assert not Store(tmp_path / "new", settings={}).load(state)


def test_other_settings_are_refused(network: CanvasNetwork, tmp_path: Path) -> None:
    """Going on with other settings names the setting and both values."""
    state = trained(network)
    Store(tmp_path, settings={"seed": 1, "steps": 5}).save(state)
    with pytest.raises(ProvenanceError, match=r"seed 1, not 2; repeat its settings"):
        Store(tmp_path, settings={"seed": 2, "steps": 5}).load(state)


def test_another_geometry_is_refused(
    network: CanvasNetwork, config: AutoGazeConfig, tmp_path: Path
) -> None:
    """A state of other shapes names the tensor and both shapes."""
    Store(tmp_path, settings={}).save(trained(network))
    values = config.model_dump()
    values["gaze_model_config"]["gaze_decoder_config"]["intermediate_size"] = 40
    wider = fresh_canvas_network(AutoGazeConfig.model_validate(values), seed=0)
    with pytest.raises(CheckpointError, match=r"mlp\..*is \(24, 16\).*asks for \(40, 16\)"):
        Store(tmp_path, settings={}).load(TrainingState.fresh(wider, weight_decay=0.1))


def test_a_damaged_state_is_refused(network: CanvasNetwork, tmp_path: Path) -> None:
    """A state that was cut short is not gone on from."""
    store, state = Store(tmp_path, settings={}), trained(network)
    store.save(state)
    path = tmp_path / STATE_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"cannot read .*remove it to begin anew"):
        store.load(state)


def test_a_failed_save_leaves_the_old_state(
    network: CanvasNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk refuses, what was there stays."""
    store, state = Store(tmp_path, settings={}), trained(network)
    store.save(state)
    before = (tmp_path / STATE_NAME).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gazepack.training.store.save_file", full)
    with pytest.raises(StorageError, match="No space left"):
        store.save(state)
    assert (tmp_path / STATE_NAME).read_bytes() == before


def test_the_log_grows_by_lines(tmp_path: Path) -> None:
    """Each report is one JSON object on one line."""
    store = Store(tmp_path, settings={})
    store.log(step=1, choice=0.5)
    store.log(step=2, choice=0.25)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["choice"] for line in lines] == [0.5, 0.25]
