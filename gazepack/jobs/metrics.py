"""How the time of a worker is spent, and how much waits: told by the unit, kept by whoever wants to know.

Every moment of a unit belongs to one of four stages, so their seconds add up to the worker's time and the
largest is the bottleneck. Decoding happens in other processes meanwhile, and encoding in another thread; their
stages are what the worker waits for them, not what they use.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Stage = Literal["decode", "choose", "encode", "write"]
"""`decode`: the worker waits for frames. `choose`: the selector is at work. `encode`: samples are put together,
and written to the shard as their patches become bytes. `write`: the shard is flushed, put in its place and
committed."""
STAGES: tuple[Stage, ...] = ("decode", "choose", "encode", "write")

Queue = Literal["decoded", "clips_waiting"]
"""`decoded`: items that decoders have given and nobody has taken. `clips_waiting`: clips taken, and not yet
chosen for since their batch is not full."""

REMEDIES: Mapping[Stage, str] = {
    "decode": "more cores that decode would help (on Ray --cpus-per-worker)",
    "choose": "more or faster workers would help",
    "encode": "more workers, or a cheaper --codec, would help",
    "write": "more workers, or a faster way to the output, would help",
}


class Meter(Protocol):
    """Who wants to know."""

    def spent(self, stage: Stage, seconds: float) -> None:
        """Seconds of a worker have gone into a stage."""
        ...

    def waits(self, queue: Queue, number: int) -> None:
        """So many things wait in a queue now."""
        ...

    def wrote(self, num_bytes: int) -> None:
        """A shard with samples of so many bytes is committed."""
        ...

    def fell_back(self, num_videos: int) -> None:
        """So many videos were decoded by the CPU, though another device was to."""
        ...


@dataclass(slots=True)
class Tally:
    """A meter that adds up, for the line at the end of a run."""

    seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """Of all workers together."""
    bytes: int = 0
    """Of the samples that were written."""
    fallbacks: int = 0
    """Videos, or parts of long ones, that the CPU decoded though another device was to."""

    def spent(self, stage: Stage, seconds: float) -> None:
        """Add to a stage."""
        self.seconds[stage] += seconds

    def waits(self, queue: Queue, number: int) -> None:
        """Forget it: at the end of a run nothing waits."""

    def wrote(self, num_bytes: int) -> None:
        """Add a shard."""
        self.bytes += num_bytes

    def fell_back(self, num_videos: int) -> None:
        """Add videos."""
        self.fallbacks += num_videos

    def line(self) -> str:
        """Return one line for people that names the bottleneck; empty if nothing was done."""
        whole = sum(self.seconds.values())
        if whole <= 0:
            return ""
        shares = ", ".join(f"{stage} {self.seconds[stage] / whole:.0%}" for stage in STAGES)
        worst = max(STAGES, key=lambda stage: self.seconds[stage])
        return f"{whole:.1f} worker seconds: {shares}; the bottleneck is {worst}, {REMEDIES[worst]}"


class StageClock:
    """Which stage the present moment of one unit belongs to.

    Args:
        meter: told whenever a stage ends.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._stage: Stage | None = None
        self._since = 0.0

    def to(self, stage: Stage | None) -> None:
        """Say that another stage begins now, or with `None` that the unit is over."""
        now = time.perf_counter()
        if self._stage is not None:
            self._meter.spent(self._stage, now - self._since)
        self._stage, self._since = stage, now
