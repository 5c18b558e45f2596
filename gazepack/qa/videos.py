"""The videos of a packed dataset, found by the names that a file of questions has for them.

A question names a file or a bare id; a dataset knows ids, which are paths below a folder or what a manifest
said. They are the same video if they are equal, if their last parts are, or if these are without endings, in
this order; a name that fits several videos is refused.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from gazepack.errors import UsageError
from gazepack.formats import DatasetDirectory
from gazepack.loader import Batch, GazeDataset
from gazepack.qa.questions import Question


class PackedVideos:
    """A dataset, video by video.

    Args:
        uri: its folder or URI.
        dials: further arguments of `GazeDataset`, such as `max_tokens_per_frame`.

    Raises:
        DatasetError: it is missing or damaged.
    """

    def __init__(self, uri: str, **dials: Any) -> None:
        directory = DatasetDirectory.open(uri)
        self.uri: str = uri
        self.selector = str(directory.info.provenance.get("selector", {}).get("name", "unknown"))
        self._dataset = GazeDataset(uri, batch_size=1, shuffle=False, rank=0, world_size=1, **dials)
        index = directory.read_index().select(["id", "key", "start_seconds", "window"])
        self._keys: dict[str, list[str]] = defaultdict(list)
        self._ids: dict[str, set[str]] = defaultdict(set)
        order = [(name, "ascending") for name in ("start_seconds", "window")]
        self._fill(index.sort_by(order))

    def _fill(self, index: pa.Table) -> None:
        for row in index.to_pylist():
            self._keys[row["id"]].append(row["key"])
            for name in _names(row["id"]):
                self._ids[name].add(row["id"])

    def find(self, question: Question) -> str | None:
        """Return the id of a question's video; None if it is not in the dataset.

        Raises:
            UsageError: its name fits several.
        """
        for given in question.videos:
            for name in _names(given):
                ids = self._ids.get(name, set())
                if given in self._keys:
                    return given
                if len(ids) > 1:
                    raise UsageError(
                        f"{question.place}: the video {given!r} may be any of {sorted(ids)[:3]} of {self.uri}",
                        remedy="name it as the dataset does",
                    )
                if ids:
                    return next(iter(ids))
        return None

    def read(self, video: str) -> Iterator[Batch]:
        """Give the samples of a video in order, each a batch of one."""
        for key in self._keys[video]:
            yield self._dataset[key]


def _names(name: str) -> tuple[str, str, str]:
    """Return a name, its last part, and this without its ending."""
    path = PurePosixPath(name)
    return name, path.name, path.stem
