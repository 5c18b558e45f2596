"""What a worker of the cluster is: an actor that packs one unit after the other.

It is told a unit and answers when the shard is committed; asked meanwhile, it says which videos are over. It
may die at any moment. Frames stay inside it and its decoders, so the object store sees only a few numbers.
"""

import threading
from dataclasses import dataclass
from typing import Any

import torch
from ray.util.metrics import Counter

from gazepack import errors
from gazepack.errors import GazepackError, VideoError
from gazepack.formats import Codec, DatasetDirectory
from gazepack.jobs.decoders import Decoders
from gazepack.jobs.plan import Unit
from gazepack.jobs.settings import PackSettings
from gazepack.jobs.unit import Resources, VideoDone, pack_unit
from gazepack.selectors import build

News = list[dict[str, Any]]
"""Videos that are over, as plain values: exceptions with arguments of their own do not survive pickling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every worker of a run is told at birth."""

    uri: str
    """Of the dataset directory."""
    settings: PackSettings
    """What decides the bytes."""
    codec: Codec
    """How patches become bytes."""
    resources: Resources
    """What decides the speed."""
    num_threads: int
    """Clips that are chosen for side by side on a CPU."""


class Packer:
    """The actor; `pack` and `news` may be called at the same time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._directory = DatasetDirectory.open(job.uri)
        self._selector = build(job.settings.selector, device=job.resources.device)
        self._decoders = Decoders(job.settings, job.resources.decoders)
        self._lock = threading.Lock()
        self._news: News = []
        self._counters = {
            name: Counter(f"gazepack_{name}", description=f"{name} since this worker started")
            for name in ("videos", "failures", "frames", "tokens")
        }

    def pack(self, unit: Unit) -> dict[str, Any] | None:
        """Pack a unit; return `None`, or the error that stopped it, as plain values."""
        torch.set_num_threads(self._job.num_threads)
        try:
            pack_unit(
                unit,
                self._directory,
                settings=self._job.settings,
                selector=self._selector,
                codec=self._job.codec,
                decoders=self._decoders,
                resources=self._job.resources,
                report=self._note,
            )
        except GazepackError as error:
            return flattened(error)
        return None

    def news(self) -> News:
        """Return the videos that are over since this was last asked."""
        with self._lock:
            news, self._news = self._news, []
        return news

    def _note(self, video: VideoDone) -> None:
        """Take note of a video that is over."""
        counts = {"videos": 1, "frames": video.frames, "tokens": video.tokens}
        counts["failures"] = int(video.error is not None)
        for name, count in counts.items():
            if count:
                self._counters[name].inc(count)
        error = video.error and flattened(video.error)
        plain = {
            "id": video.id,
            "error": error,
            "bytes": video.bytes,
            "frames": video.frames,
            "tokens": video.tokens,
            "dense_tokens": video.dense_tokens,
        }
        with self._lock:
            self._news.append(plain)


def flattened(error: GazepackError) -> dict[str, Any]:
    """Return an error as plain values."""
    plain = {"kind": type(error).__name__, "problem": error.problem, "remedy": error.remedy}
    if isinstance(error, VideoError):
        plain["stage"] = error.stage
    return plain


def restored(plain: dict[str, Any]) -> GazepackError:
    """Return the error that `flattened` took apart; a `DatasetError` has its place in the problem already."""
    values = dict(plain)
    kind: type[GazepackError] = getattr(errors, values.pop("kind"))
    return kind(values.pop("problem"), **values)


def restored_video(plain: dict[str, Any]) -> VideoDone:
    """Return one video of the news."""
    error = plain["error"] and restored(plain["error"])
    return VideoDone(**{**plain, "error": error})
