"""What a worker of the cluster is: an actor that packs one unit after the other.

It is told a unit and answers when the shard is committed; asked meanwhile, it says which videos are over. It
may die at any moment. Frames stay inside it and its decoders, so the object store sees only a few numbers.
"""

import resource
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from gazepack.errors import GazepackError
from gazepack.formats import AnyCodec, DatasetDirectory
from gazepack.jobs.choices import check_decode_device
from gazepack.jobs.decoders import Decoders
from gazepack.jobs.executors.meter import RayMeter
from gazepack.jobs.metrics import Stage
from gazepack.jobs.models import build_selector
from gazepack.jobs.plan import Unit
from gazepack.jobs.settings import PackSettings
from gazepack.jobs.unit import Resources, VideoDone, pack_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every worker of a run is told at birth."""

    uri: str
    """Of the dataset directory."""
    settings: PackSettings
    """What decides the bytes."""
    codec: AnyCodec
    """How patches become bytes."""
    resources: Resources
    """What decides the speed."""
    num_threads: int
    """Clips that are chosen for side by side on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitEnd:
    """A worker's answer to a unit."""

    error: GazepackError | None
    """What stopped it, or `None` when it is committed."""
    seconds: dict[Stage, float]
    """How long the worker was at each stage."""
    bytes: int
    """Of the samples that were written."""
    fallbacks: int
    """Videos that the CPU decoded though another device was to."""
    memory_bytes: int
    """What the worker then holds for itself, its decoders not counted."""


class Packer:
    """The actor: `begin` once, then `pack` again and again; `news` may be called at the same time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._decoders = Decoders(job.settings, job.resources.decoders)
        self._lock = threading.Lock()
        self._news: list[VideoDone] = []
        self._meter = RayMeter()

    def begin(self) -> GazepackError | None:
        """Open the directory and load the model; return what is in the way, or `None`."""
        job = self._job
        try:
            check_decode_device(job.resources.decoders.device)
            self._directory = DatasetDirectory.open(job.uri)
            self._selector = build_selector(job.settings.selector, device=job.resources.device)
        except GazepackError as error:
            return error
        return None

    def pack(self, unit: Unit) -> UnitEnd:
        """Pack a unit, and say how it went."""
        torch.set_num_threads(self._job.num_threads)
        before, num_bytes = self._meter.seconds.copy(), self._meter.bytes
        fallbacks = self._meter.fallbacks
        stopped: GazepackError | None = None
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
                meter=self._meter,
            )
        except GazepackError as error:
            stopped = error
        return UnitEnd(
            error=stopped,
            seconds={stage: s - before[stage] for stage, s in self._meter.seconds.items()},
            bytes=self._meter.bytes - num_bytes,
            fallbacks=self._meter.fallbacks - fallbacks,
            memory_bytes=own_memory(),
        )

    def news(self) -> list[VideoDone]:
        """Return the videos that are over since this was last asked."""
        with self._lock:
            news, self._news = self._news, []
        return news

    def _note(self, video: VideoDone) -> None:
        """Take note of a video that is over."""
        self._meter.video(video)
        with self._lock:
            self._news.append(video)


def own_memory() -> int:
    """Return the bytes that this process holds and shares with no other."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return (int(resident) - int(shared)) * resource.getpagesize()
