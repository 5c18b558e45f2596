"""Where a run stands, running or dead, from anywhere that reads its directory.

Made from one listing of `index/`, the frozen listings and the failures: no shard and no index is opened, so it
costs the same whatever is in them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gazepack.errors import GazepackError
from gazepack.formats import DatasetDirectory
from gazepack.jobs.ledger import plans
from gazepack.jobs.plan import Plan, costs
from gazepack.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A run in numbers."""

    shards: int
    """Committed."""
    planned_shards: int
    videos: int
    """In committed shards, as samples or as failures."""
    planned_videos: int
    failures: int
    """Rows of all failures files, those of videos that were packed later included."""
    retries: int
    """How often `retry` was begun."""
    work: float
    """Share of the work that is in committed shards, 0 to 1: of pixels, or of bytes where nobody looked."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to pack."""
        return self.shards == self.planned_shards


def what_is_missing(directory: DatasetDirectory) -> str:
    """Return how much is packed yet, for people; empty when all is, or when nobody knows."""
    try:
        status = status_of(directory)
    except GazepackError:
        return ""
    if status.is_complete:
        return ""
    return (
        f"not complete: {status.videos:,} of {counted(status.planned_videos, 'video')}, "
        f"{status.shards:,} of {counted(status.planned_shards, 'shard')}"
    )


def status_of(directory: DatasetDirectory) -> Status:
    """Return where the run in a directory stands.

    Raises:
        DatasetError: no run has begun there, or a file is damaged.
    """
    committed = set(directory.committed())
    rounds = plans(directory)
    done = [[number for number in plan.numbers if number in committed] for plan in rounds]
    todo = sum(_work(plan, plan.numbers) for plan in rounds)
    work = sum(_work(plan, numbers) for plan, numbers in zip(rounds, done, strict=True))
    return Status(
        shards=sum(map(len, done)),
        planned_shards=sum(map(len, rounds)),
        videos=sum(plan.num_videos(n) for plan, n in zip(rounds, done, strict=True)),
        planned_videos=sum(plan.num_videos(plan.numbers) for plan in rounds),
        failures=directory.failures().num_rows,
        retries=len(rounds) - 1,
        work=work / todo if todo else 1.0,
    )


def _work(plan: Plan, numbers: Iterable[int]) -> float:
    """Return what packing some units takes."""
    at = np.fromiter(numbers, dtype=np.int64) - plan.first
    if not len(at):
        return 0.0
    return float(np.add.reduceat(costs(plan.listing), plan.starts[:-1])[at].sum())
