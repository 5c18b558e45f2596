"""What a run cost, kept in `run/` for the report: one small JSON file for each start that packed something.

A start that is stopped leaves none; its shards are counted all the same, its seconds are not.
"""

import re
import time
from dataclasses import asdict, dataclass
from typing import Any, Self

from gazepack.errors import DatasetError
from gazepack.formats import DatasetDirectory
from gazepack.formats.meta import canonical_json, parse_json
from gazepack.jobs.metrics import STAGES, Stage, Tally

_NAME = re.compile(r"run/work-\d{19}\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLog:
    """One start of a run, or several added up."""

    seconds: dict[Stage, float]
    """Of all workers together, by stage."""
    wall_seconds: float
    """From its beginning to its end."""
    bytes: int
    """Of the samples that were written."""

    @classmethod
    def of(cls, tally: Tally, *, wall_seconds: float) -> Self:
        """Take what a tally has added up."""
        return cls(seconds=dict(tally.seconds), wall_seconds=wall_seconds, bytes=tally.bytes)

    @property
    def worker_seconds(self) -> float:
        """Of all stages."""
        return sum(self.seconds.values())


def write_log(directory: DatasetDirectory, log: RunLog) -> None:
    """Keep the log of a start beside those before it; nothing is written if nothing was done.

    Raises:
        StorageError: the place cannot be written.
    """
    if log.worker_seconds > 0:
        directory.write_run_file(f"work-{time.time_ns():019d}.json", canonical_json(asdict(log)))


def read_logs(directory: DatasetDirectory) -> list[RunLog]:
    """Return the logs of all starts, in order; files that are none of ours are passed over."""
    names = sorted(name for name in directory.storage.list("run") if _NAME.fullmatch(name))
    found = (_log_from(directory.storage.read_bytes(name)) for name in names)
    return [log for log in found if log is not None]


def _log_from(data: bytes) -> RunLog | None:
    """Return what a file holds, or `None` if it is no log."""
    try:
        value: Any = parse_json(data)
        return RunLog(
            seconds={stage: float(value["seconds"][stage]) for stage in STAGES},
            wall_seconds=float(value["wall_seconds"]),
            bytes=int(value["bytes"]),
        )
    except (DatasetError, KeyError, TypeError, ValueError):
        return None


def added_up(logs: list[RunLog]) -> RunLog:
    """Return several starts as one."""
    return RunLog(
        seconds={stage: sum(log.seconds[stage] for log in logs) for stage in STAGES},
        wall_seconds=sum(log.wall_seconds for log in logs),
        bytes=sum(log.bytes for log in logs),
    )
