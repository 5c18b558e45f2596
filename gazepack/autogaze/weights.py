"""Checkpoints in the published layout: `config.json` beside `model.safetensors`.

Only safetensors are read: a pickle can run code, so a `.bin` or `.pt` is refused whoever made it. A
checkpoint is a folder, a `.safetensors` file with its `config.json` beside it, or the name of a
repository on the Hugging Face hub. Every tensor must be there, in its shape, and nothing else: a
file that almost fits is a file of another model.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gazepack.autogaze.canvas import CanvasNetwork
from gazepack.autogaze.config import AutoGazeConfig
from gazepack.autogaze.network import AutoGazeNetwork
from gazepack.errors import CheckpointError, StorageError

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
PREFIX = "gazing_model."
"""What the published tensor names begin with, before the module names used here."""
HUB_TIMEOUT_SECONDS = 10
BUNDLED = Path(__file__).parent / "bundled"
"""The checkpoint that comes with the package; its licence is the package's."""

Network = AutoGazeNetwork | CanvasNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A network as it came from disk."""

    network: Network
    """Float32 on the CPU, in training mode as torch makes it."""
    sha256: str
    """Of the weights file, in hexadecimal; the model's name in a dataset's provenance."""
    path: Path
    """The weights file that was read."""


def load_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Load a checkpoint of the published layout.

    Args:
        source: a folder with `config.json` and `model.safetensors`, a `.safetensors` file beside
            its `config.json`, or a repository of the Hugging Face hub such as `nvidia/AutoGaze`.

    Raises:
        CheckpointError: nothing there, unreachable hub, a pickle, or tensors that do not fit.
    """
    path = find_weights(source)
    config = AutoGazeConfig.from_json(
        _read(path.parent / CONFIG_NAME), source=str(path.parent / CONFIG_NAME)
    )
    kind = CanvasNetwork if config.memory == "canvas" else AutoGazeNetwork
    with torch.device("meta"):  # a network that the file does not hold is never allocated
        wanted = {name: tensor.shape for name, tensor in kind(config).state_dict().items()}
    tensors = _read_tensors(path, wanted)
    network = kind(config)
    network.load_state_dict(tensors)
    return Checkpoint(network=network, sha256=sha256_of(path), path=path)


def find_weights(source: str | os.PathLike[str]) -> Path:
    """Return the path of a checkpoint's weights file, fetching it from the hub if it is a hub name.

    Raises:
        CheckpointError: nothing there, an unreachable hub, or a pickle.
    """
    path = Path(source)
    if path.is_dir():
        return _weights_in(path)
    if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}:
        raise _refuse_pickle(path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise CheckpointError(
                f"{path} is not a checkpoint", remedy="give a folder or a .safetensors file"
            )
        return path
    name = os.fspath(source)
    if path.is_absolute() or path.suffix == ".safetensors" or name.count("/") != 1:
        raise CheckpointError(
            f"no checkpoint at {name}",
            remedy=f"give a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, or a hub name",
        )
    return _fetch(name)


def save_checkpoint(
    network: Network, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a network in the published layout; return the path of its weights file.

    Files appear whole or not at all, and equal weights give equal bytes.

    Args:
        network: to write.
        folder: made if it is not there.
        dtype: of the tensors in the file; float16 halves it and rounds the weights to 11 bits.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder = Path(folder)
    path = folder / WEIGHTS_NAME
    tensors = {
        PREFIX + name: tensor.detach().cpu().to(dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{WEIGHTS_NAME}.{os.getpid()}"
        save_file(tensors, beside, metadata={"format": "pt"})
        beside.replace(path)
        beside = folder / f".{CONFIG_NAME}.{os.getpid()}"
        beside.write_text(network.config.to_json(), encoding="utf-8")
        beside.replace(folder / CONFIG_NAME)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write a checkpoint to {folder}: {error}") from error
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights_in(folder: Path) -> Path:
    path = folder / WEIGHTS_NAME
    if path.is_file():
        return path
    pickles = sorted(folder.glob("pytorch_model*.bin")) + sorted(folder.glob("*.pt"))
    if pickles:
        raise _refuse_pickle(pickles[0])
    raise CheckpointError(
        f"no {WEIGHTS_NAME} in {folder}", remedy="give the folder of an AutoGaze checkpoint"
    )


def _refuse_pickle(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is a pickle, which can run code",
        remedy="convert it to safetensors where you trust it",
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}", remedy="keep it beside the weights"
        ) from error


def _read_tensors(path: Path, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return the tensors of a file under the names of a network's, float32, each checked."""
    wanted = {PREFIX + name: shape for name, shape in shapes.items()}
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            _check_tensors(path, wanted, found)
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}", remedy="fetch or copy the file again"
        ) from error
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {name} holds values that are not finite numbers")
    return {name.removeprefix(PREFIX): tensor.float() for name, tensor in tensors.items()}


def _check_tensors(path: Path, wanted: dict[str, torch.Size], found: dict[str, list[int]]) -> None:
    """Refuse a file that lacks a tensor, has one of another shape, or one too many."""
    for name, shape in wanted.items():
        if name not in found:
            raise CheckpointError(
                f"{path}: tensor {name} is missing", remedy=f"its {CONFIG_NAME} asks for it"
            )
        if tuple(found[name]) != tuple(shape):
            raise CheckpointError(
                f"{path}: tensor {name} has shape {tuple(found[name])}, "
                f"its {CONFIG_NAME} asks for {tuple(shape)}"
            )
    for name in found:
        if name not in wanted:
            raise CheckpointError(
                f"{path}: unexpected tensor {name}", remedy="is this an AutoGaze checkpoint?"
            )


def _fetch(name: str) -> Path:
    """Fetch a repository's two files from the hub, or find them in its local cache."""
    # here, since every worker of a run imports this file and few fetch
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        folder = snapshot_download(
            name, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME], etag_timeout=HUB_TIMEOUT_SECONDS
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"cannot fetch {name} from the Hugging Face hub: {reason}",
            remedy="check the name and the network, or give a local folder",
        ) from error
    return _weights_in(Path(folder))
