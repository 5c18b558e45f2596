"""A run from its settings to its folder: what the command line calls."""

import os
from collections.abc import Sequence
from pathlib import Path

from gazepack.autogaze import (
    AutoGazeConfig,
    CanvasNetwork,
    fresh_canvas_network,
    load_checkpoint,
)
from gazepack.autogaze.devices import find_device
from gazepack.errors import CheckpointError
from gazepack.training.clips import Video
from gazepack.training.grpo import RlSettings, posttrain
from gazepack.training.loop import Report
from gazepack.training.ntp import NtpSettings, pretrain
from gazepack.training.rewards import FeatureReward, PaintingReward, Reward, load_features
from gazepack.training.store import Store, TrainingState

DEFAULT_LAYERS = 2


def default_config(*, layers: int = DEFAULT_LAYERS) -> AutoGazeConfig:
    """Return the shape of a network that is trained here."""
    values = AutoGazeConfig.default().model_dump()
    values["gaze_model_config"]["gaze_decoder_config"]["num_hidden_layers"] = layers
    return AutoGazeConfig.model_validate(values)


def run_ntp(
    videos: Sequence[Video],
    settings: NtpSettings,
    *,
    out: str | os.PathLike[str],
    init: str | None,
    device: str,
    layers: int | None,
    num_workers: int,
    report: Report,
) -> None:
    """Pre-train into a folder, or go on with what it holds.

    Args:
        videos: what to train on.
        settings: of the run.
        out: the folder.
        init: a checkpoint to begin with; a new network if `None`.
        device: cpu or cuda.
        layers: of a new network; a checkpoint must have as many if given.
        num_workers: processes that make batches ahead.
        report: told how it goes.

    Raises:
        CheckpointError: the checkpoint cannot be loaded or is of another geometry.
        GazepackError: see `pretrain`.
    """
    where = find_device(device)
    network, origin = _begin(init, settings.seed, layers)
    state = TrainingState.fresh(network.to(where), weight_decay=settings.weight_decay)
    named = {"kind": "ntp", **settings.model_dump(mode="json"), **origin}
    store = Store(out, settings=named)
    store.load(state)
    pretrain(
        state, videos, settings, store=store, report=report, device=where, num_workers=num_workers
    )


def run_rl(
    videos: Sequence[Video],
    settings: RlSettings,
    *,
    out: str | os.PathLike[str],
    init: str,
    device: str,
    reward_features: str | None,
    report: Report,
) -> None:
    """Post-train into a folder, or go on with what it holds.

    Args:
        videos: what to train on.
        settings: of the run.
        out: the folder.
        init: the checkpoint to begin with; it must predict dB.
        device: cpu or cuda.
        reward_features: folder of a vision transformer to see paintings with; pixels if `None`.
        report: told how it goes.

    Raises:
        CheckpointError: a checkpoint cannot be loaded.
        GazepackError: see `posttrain`.
    """
    where = find_device(device)
    network, origin = _begin(init, settings.seed, None)
    state = TrainingState.fresh(network.to(where), weight_decay=settings.weight_decay)
    features = {"reward_features": reward_features}
    named = {"kind": "rl", **settings.model_dump(mode="json"), **origin, **features}
    store = Store(out, settings=named)
    store.load(state)
    reward: Reward = PaintingReward()
    if reward_features is not None:
        reward = FeatureReward(load_features(Path(reward_features), device=where))
    posttrain(state, videos, settings, reward=reward, store=store, report=report, device=where)


def _begin(
    init: str | None, seed: int, layers: int | None
) -> tuple[CanvasNetwork, dict[str, str | int | None]]:
    """Return the network to begin with, and what a run's settings say of it."""
    if init is None:
        config = default_config(layers=layers or DEFAULT_LAYERS)
        return fresh_canvas_network(config, seed=seed), {
            "init": None,
            "layers": config.decoder.num_hidden_layers,
        }
    checkpoint = load_checkpoint(init)
    network = checkpoint.network
    if not isinstance(network, CanvasNetwork):
        raise CheckpointError(
            f"{init} remembers tokens, training is for networks whose memory is the canvas",
            remedy="begin with a model that `gazepack train` made, or leave --init out",
        )
    found = network.config.decoder.num_hidden_layers
    if layers is not None and found != layers:
        raise CheckpointError(
            f"{init} has {found} layers, --layers asks for {layers}",
            remedy="leave --layers out, or begin without --init",
        )
    return network, {"init": checkpoint.sha256, "layers": None}
