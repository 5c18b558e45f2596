"""A run from its settings to its folder: what the command line calls."""

import os
from collections.abc import Sequence
from pathlib import Path

from gazepack.autogaze import AutoGazeConfig, AutoGazeNetwork, load_checkpoint
from gazepack.errors import CheckpointError
from gazepack.training.clips import Video
from gazepack.training.devices import find_device
from gazepack.training.grpo import RlSettings, posttrain
from gazepack.training.loop import Report
from gazepack.training.ntp import NtpSettings, pretrain
from gazepack.training.rewards import FeatureReward, PaintingReward, Reward, load_features
from gazepack.training.start import informed_network
from gazepack.training.store import Store, TrainingState

DEFAULT_LAYERS = 3


def default_config(*, layers: int = DEFAULT_LAYERS) -> AutoGazeConfig:
    """Return the shape of a network that is trained here.

    The published one, but for a convolution that looks at one place only (painting errors are local, and
    it saves a million weights) and fewer layers.
    """
    values = AutoGazeConfig.default().model_dump()
    values["gaze_model_config"]["vision_model_config"]["trunk_spatial_kernel_size"] = 1
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
) -> tuple[AutoGazeNetwork, dict[str, str | int | None]]:
    """Return the network to begin with, and what a run's settings say of it."""
    if init is None:
        config = default_config(layers=layers or DEFAULT_LAYERS)
        return informed_network(config, seed=seed), {
            "init": None,
            "layers": config.decoder.num_hidden_layers,
        }
    checkpoint = load_checkpoint(init)
    found = checkpoint.network.config
    if layers is not None and found.decoder.num_hidden_layers != layers:
        raise CheckpointError(
            f"{init} has {found.decoder.num_hidden_layers} layers, --layers asks for {layers}",
            remedy="leave --layers out, or begin without --init",
        )
    return _own(checkpoint.network), {"init": checkpoint.sha256, "layers": None}


def _own(network: AutoGazeNetwork) -> AutoGazeNetwork:
    """Return a network whose config says what training here makes of it: contiguous positions, dB."""
    marks = AutoGazeConfig.default()
    changes = {"decode_positions": marks.decode_positions, "loss_unit": marks.loss_unit}
    own = AutoGazeNetwork(network.config.model_copy(update=changes))
    own.load_state_dict(network.state_dict())
    return own
