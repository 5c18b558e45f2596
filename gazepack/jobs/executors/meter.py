"""A worker's numbers as Ray metrics, which every node of a cluster offers to Prometheus.

Ray puts `ray_` before each name and `_total` behind a counter, and adds which worker on which node it was.
"""

from ray.util.metrics import Counter, Gauge

from gazepack.jobs.metrics import Queue, Stage, Tally
from gazepack.jobs.unit import VideoDone

_COUNTS = {
    "videos": "videos, or parts of long ones, that are over, packed or failed",
    "failures": "videos, or parts of long ones, that could not be packed",
    "frames": "sampled frames of packed videos",
    "tokens": "tokens of packed videos",
    "bytes": "bytes of packed samples",
}


class RayMeter(Tally):
    """The meter of one worker, and its count of videos."""

    def __init__(self) -> None:
        super().__init__()
        self._counts = {
            name: Counter(f"gazepack_{name}", description=text) for name, text in _COUNTS.items()
        }
        self._seconds = Counter(
            "gazepack_stage_seconds",
            description="seconds of workers by stage: decode (waiting for frames), choose, encode, write",
            tag_keys=("stage",),
        )
        self._waiting = Gauge(
            "gazepack_waiting",
            description="things that wait in a worker by queue: decoded items, clips_waiting for a batch",
            tag_keys=("queue",),
        )

    def video(self, video: VideoDone) -> None:
        """Count a video that is over."""
        self._add("videos", 1)
        self._add("failures", int(video.error is not None))
        self._add("frames", video.frames)
        self._add("tokens", video.tokens)

    def spent(self, stage: Stage, seconds: float) -> None:
        """Add to a stage."""
        super().spent(stage, seconds)
        if seconds > 0:
            self._seconds.inc(seconds, tags={"stage": stage})

    def waits(self, queue: Queue, number: int) -> None:
        """Show how many things wait."""
        self._waiting.set(number, tags={"queue": queue})

    def wrote(self, num_bytes: int) -> None:
        """Add a shard."""
        super().wrote(num_bytes)
        self._add("bytes", num_bytes)

    def _add(self, name: str, amount: int) -> None:
        if amount:
            self._counts[name].inc(amount)


class RunGauges:
    """What the driver knows of the whole run."""

    def __init__(self) -> None:
        self._units = Gauge("gazepack_units", description="units in line, packed by nobody yet")
        self._workers = Gauge("gazepack_workers", description="workers that are at a unit")

    def show(self, *, units: int, workers: int) -> None:
        """Show where the run stands."""
        self._units.set(units)
        self._workers.set(workers)
