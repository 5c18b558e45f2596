"""gazepack: pack video corpora into sparse multi-scale patches, once, and train on far fewer tokens.

The public names are loaded on first use, so that `gazepack --help` needs neither torch nor pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gazepack.api import Dataset as Dataset
    from gazepack.api import PackOptions as PackOptions
    from gazepack.api import open_dataset as open
    from gazepack.api import pack as pack
    from gazepack.autogaze import AutoGaze as AutoGaze
    from gazepack.errors import GazepackError as GazepackError
    from gazepack.formats import Sample as Sample
    from gazepack.jobs import SourcePatches as SourcePatches
    from gazepack.loader import GazeDataset as GazeDataset

__version__ = "0.1.0"

_HOMES = {
    "AutoGaze": ("gazepack.autogaze", "AutoGaze"),
    "Dataset": ("gazepack.api", "Dataset"),
    "GazeDataset": ("gazepack.loader", "GazeDataset"),
    "GazepackError": ("gazepack.errors", "GazepackError"),
    "PackOptions": ("gazepack.api", "PackOptions"),
    "Sample": ("gazepack.formats", "Sample"),
    "SourcePatches": ("gazepack.jobs", "SourcePatches"),
    "open": ("gazepack.api", "open_dataset"),
    "pack": ("gazepack.api", "pack"),
}
__all__ = [
    "AutoGaze",
    "Dataset",
    "GazeDataset",
    "GazepackError",
    "PackOptions",
    "Sample",
    "SourcePatches",
    "__version__",
    "open",
    "pack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gazepack' has no attribute {name!r}")
    home, there = _HOMES[name]
    return getattr(import_module(home), there)
