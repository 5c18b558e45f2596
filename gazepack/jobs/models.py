"""Models from any place that fsspec knows: fetched once for each machine, then loaded like a local folder.

Only `config.json` and `model.safetensors` are asked for, whatever else lies beside them, and neither may be
larger than a model of this kind can be. Copies are kept under what the store says of the files (an ETag, or
size and time), so another model at the same place is another copy. What a dataset says of its model is the
sha256 of the weights, wherever they came from.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import fsspec
import torch

from gazepack.errors import CheckpointError
from gazepack.formats.remote import filesystem, persistently, without_secrets
from gazepack.selectors import Selector, SelectorSettings, build

MAX_BYTES = {"config.json": 2**20, "model.safetensors": 2**30}
"""The files of a model, and how large each may be."""
CACHE = "GAZEPACK_CACHE"
"""The environment variable with the folder for copies; `~/.cache/gazepack` unless set."""
_PIECE_BYTES = 2**20


def build_selector(settings: SelectorSettings, *, device: torch.device | str) -> Selector:
    """Make the selector that settings describe; its model may lie anywhere.

    Args:
        settings: checked settings.
        device: where a network is to live.

    Raises:
        CheckpointError: the model cannot be fetched or loaded.
        UsageError: see `gazepack.selectors.build`.
    """
    if settings.model is not None and "://" in settings.model:
        settings = settings.model_copy(update={"model": str(fetched(settings.model))})
    return build(settings, device=device)


def fetched(uri: str) -> Path:
    """Return a local folder with the two files of a model.

    Args:
        uri: of the folder that holds them.

    Raises:
        CheckpointError: one of them is missing, too large, or cannot be read or kept.
    """
    with _in_one_line(uri):
        fs, root = filesystem(uri)
        paths = {name: f"{root.rstrip('/')}/{name}" for name in MAX_BYTES}
        tags = [persistently(partial(fs.ukey, path)) for path in paths.values()]
        digest = hashlib.blake2b(repr((uri, tags)).encode(), digest_size=16).hexdigest()
        folder = _cache() / "models" / digest
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_suffix(".lock")):
            if not folder.exists():
                _fetch(fs, paths, folder)
        return folder


def _cache() -> Path:
    given = os.environ.get(CACHE)
    return Path(given) if given else Path.home() / ".cache" / "gazepack"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let one process of this machine in at a time; the lock of a killed one is void."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(fs: fsspec.AbstractFileSystem, paths: dict[str, str], folder: Path) -> None:
    """Copy the files into a folder that appears when all of them are there."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        whole = Path(beside) / "model"
        whole.mkdir()
        for name, path in paths.items():
            persistently(partial(_copy, fs, path, whole / name))
        whole.rename(folder)


def _copy(fs: fsspec.AbstractFileSystem, path: str, local: Path) -> None:
    """Copy one file, and stop when it is larger than it may be."""
    left = MAX_BYTES[local.name]
    with fs.open(path, "rb", block_size=_PIECE_BYTES) as source, local.open("wb") as target:
        while piece := source.read(_PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise CheckpointError(
                    f"{local.name} is larger than {MAX_BYTES[local.name]:,} bytes",
                    remedy="is this the folder of an AutoGaze checkpoint?",
                )
            target.write(piece)


@contextmanager
def _in_one_line(uri: str) -> Iterator[None]:
    """Turn what a store's client can raise into one line; clients have exception trees of their own."""
    try:
        yield
    except CheckpointError as error:
        problem = f"model {uri} cannot be used: {error.problem}"
        raise CheckpointError(without_secrets(problem), remedy=error.remedy) from None
    except Exception as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "a file is missing" if missing else str(error) or type(error).__name__
        raise CheckpointError(
            without_secrets(f"model {uri} cannot be fetched ({reason})"),
            remedy=f"name a folder with {' and '.join(MAX_BYTES)}, and check the credentials",
        ) from error
