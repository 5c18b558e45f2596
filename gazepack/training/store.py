"""Where a training run keeps itself: one state file, the model so far, and a log of JSON lines.

    OUT/
      state.safetensors   weights, their average, the optimiser's moments; step and settings in its header
      model/              the average so far in half precision, as a checkpoint that `--model` takes
      log.jsonl           a line a report: step, losses, rates

The state is one file so that it is replaced whole or not at all, and safetensors so that reading it runs
no code. An interrupted run goes on from it with the same next step, to the bit on one CPU.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gazepack.autogaze import CanvasNetwork, save_checkpoint
from gazepack.errors import CheckpointError, ProvenanceError, StorageError

STATE_NAME = "state.safetensors"
LOG_NAME = "log.jsonl"
MODEL_NAME = "model"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """Everything that the next step depends on, beside the settings."""

    network: CanvasNetwork
    optimiser: torch.optim.AdamW
    average: dict[str, Tensor]
    """The running average of the weights, by name; what is shipped."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Time they took."""

    @classmethod
    def fresh(cls, network: CanvasNetwork, *, weight_decay: float) -> "TrainingState":
        """Begin with a network."""
        matrices = [p for p in network.parameters() if p.ndim > 1]
        vectors = [p for p in network.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return cls(
            network=network,
            optimiser=torch.optim.AdamW(groups, betas=(0.9, 0.98)),
            average={name: p.detach().clone() for name, p in network.named_parameters()},
        )

    def update_average(self, decay: float) -> None:
        """Move the average towards the weights."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for name, parameter in self.network.named_parameters():
            self.average[name].lerp_(parameter.detach(), 1 - decay)


class Store:
    """The folder of a run.

    Args:
        folder: made if it is not there.
        settings: as JSON; a run of other settings in the same folder is refused.
    """

    def __init__(self, folder: str | os.PathLike[str], *, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self._settings = settings

    def save(self, state: TrainingState) -> None:
        """Replace the state and the model.

        Raises:
            StorageError: the folder cannot be written.
        """
        header = {"step": state.step, "seconds": state.seconds, "settings": self._settings}
        beside = self.folder / f".{STATE_NAME}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(_tensors(state), beside, metadata={"gazepack": json.dumps(header)})
            beside.replace(self.folder / STATE_NAME)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"cannot write a state to {self.folder}: {error}") from error
        network = self.averaged(state)
        save_checkpoint(network, self.folder / MODEL_NAME, dtype=torch.float16)

    def averaged(self, state: TrainingState) -> CanvasNetwork:
        """Return a network of the averaged weights."""
        network = CanvasNetwork(state.network.config)
        network.load_state_dict({name: x.cpu() for name, x in state.average.items()})
        return network

    def load(self, state: TrainingState) -> bool:
        """Go on from what the folder holds.

        Returns:
            Whether there was anything.

        Raises:
            CheckpointError: the state cannot be read or does not fit.
            ProvenanceError: it was made with other settings.
        """
        path = self.folder / STATE_NAME
        if not path.exists():
            return False
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads(file.metadata()["gazepack"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"cannot read {path}: {error}", remedy="remove it to begin anew"
            ) from error
        self._check_settings(header["settings"])
        state.step, state.seconds = int(header["step"]), float(header["seconds"])
        _restore(state, tensors, path)
        return True

    def log(self, **values: float | int | str) -> None:
        """Add a line to the log."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / LOG_NAME).open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write the log in {self.folder}: {error}") from error

    def _check_settings(self, found: dict[str, Any]) -> None:
        """Refuse to go on with other settings than the run began with."""
        wanted = json.loads(json.dumps(self._settings))
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                raise ProvenanceError(
                    f"{self.folder} holds a run with {name} {found.get(name)!r}, "
                    f"not {wanted.get(name)!r}",
                    remedy="repeat its settings to go on, or choose another --out",
                )


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    """Return the tensors of a state by name."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in state.network.named_parameters():
        tensors[f"weight.{name}"] = parameter.detach()
        tensors[f"average.{name}"] = state.average[name]
        for moment in _MOMENTS:
            if parameter in state.optimiser.state:
                tensors[f"{moment}.{name}"] = state.optimiser.state[parameter][moment]
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _restore(state: TrainingState, tensors: dict[str, Tensor], path: Path) -> None:
    """Fill a state with tensors."""
    for name, parameter in state.network.named_parameters():
        for kind in ("weight", "average", *_MOMENTS):
            found = tensors.get(f"{kind}.{name}")
            if found is None or found.shape != parameter.shape:
                shape = "nothing" if found is None else str(tuple(found.shape))
                raise CheckpointError(
                    f"{path}: {kind}.{name} is {shape}, this run's geometry asks for "
                    f"{tuple(parameter.shape)}",
                    remedy="go on with the geometry it began with, or choose another --out",
                )
            tensors[f"{kind}.{name}"] = found.to(parameter.device)
        with torch.no_grad():
            parameter.copy_(tensors[f"weight.{name}"])
        state.average[name] = tensors[f"average.{name}"]
    _restore_moments(state, tensors, state.step)


def _restore_moments(state: TrainingState, tensors: dict[str, Tensor], step: int) -> None:
    """Give the optimiser its moments back."""
    for name, parameter in state.network.named_parameters():
        moments = {moment: tensors[f"{moment}.{name}"] for moment in _MOMENTS}
        state.optimiser.state[parameter] = {"step": torch.tensor(float(step)), **moments}
