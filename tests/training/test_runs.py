"""What a run may begin with."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gazepack.autogaze import AutoGazeConfig, CanvasNetwork, fresh_network, load_checkpoint
from gazepack.autogaze.weights import save_checkpoint
from gazepack.errors import CheckpointError
from gazepack.training.clips import Video
from gazepack.training.ntp import NtpSettings
from gazepack.training.runs import default_config, run_ntp


def begin(videos: list[Video], out: Path, **options: Any) -> None:
    """Run one step that hardly moves."""
    settings = NtpSettings(steps=1, frames_per_step=1, learning_rate=1e-9)
    quiet: dict[str, Any] = {"device": "cpu", "num_workers": 0, "report": lambda *_: None}
    run_ntp(videos, settings, out=out, **{"layers": None, "init": None, **quiet, **options})


def test_a_run_begins_with_the_checkpoint_it_is_given(
    network: CanvasNetwork, videos: list[Video], tmp_path: Path
) -> None:
    """After a step of no length the model is the checkpoint, in half precision."""
    save_checkpoint(network, tmp_path / "init")
    begin(videos, tmp_path / "run", init=str(tmp_path / "init"), layers=2)
    found = load_checkpoint(tmp_path / "run/model").network
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)


def test_a_network_that_remembers_tokens_is_refused(
    config: AutoGazeConfig, videos: list[Video], tmp_path: Path
) -> None:
    """Training is for networks that are shown the canvas; nothing is written."""
    tokens = config.model_copy(update={"memory": "tokens"})
    save_checkpoint(fresh_network(tokens, seed=0), tmp_path / "init")
    with pytest.raises(CheckpointError, match=r"init remembers tokens.*leave --init out"):
        begin(videos, tmp_path / "run", init=str(tmp_path / "init"))
    assert not (tmp_path / "run").exists()


def test_another_number_of_layers_is_refused(
    network: CanvasNetwork, videos: list[Video], tmp_path: Path
) -> None:
    """The checkpoint says how many there are."""
    save_checkpoint(network, tmp_path / "init")
    with pytest.raises(CheckpointError, match=r"init has 2 layers, --layers asks for 3"):
        begin(videos, tmp_path / "run", init=str(tmp_path / "init"), layers=3)


def test_layers_are_all_that_is_asked_for() -> None:
    """The shape of a new network differs from the default in its layers alone."""
    assert default_config() == AutoGazeConfig.default()
    assert default_config(layers=3).decoder.num_hidden_layers == 3
    assert default_config(layers=3).vision == AutoGazeConfig.default().vision
