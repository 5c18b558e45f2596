"""gazepack: pack video corpora into sparse multi-scale patches, once, and train on far fewer tokens.

The public names are loaded on first use, so that `gazepack --help` needs neither torch nor pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gazepack.autogaze import AutoGaze
    from gazepack.jobs import SourcePatches
    from gazepack.loader import GazeDataset

__version__ = "0.1.0"
__all__ = ["AutoGaze", "GazeDataset", "SourcePatches", "__version__"]

_HOMES = {
    "AutoGaze": "gazepack.autogaze",
    "GazeDataset": "gazepack.loader",
    "SourcePatches": "gazepack.jobs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gazepack' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
