"""Progress on stderr: a live line on a terminal, a plain line every few seconds elsewhere.

The time that is left of a run is estimated from the source bytes done, not from the number of files: one film
among clips would make the latter lie.
"""

import sys
import time
from types import TracebackType
from typing import Self

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gazepack.jobs import Run, VideoDone
from gazepack.jobs.plan import shares
from gazepack.units import counted, time_left

PLAIN_SECONDS = 10.0
"""How often a line is written when stderr is not a terminal."""


class LiveLine:
    """A context that keeps a line on stderr true.

    Args:
        total: of the work; nothing is live without any.
    """

    def __init__(self, total: float) -> None:
        self._total = total
        self._began = self._spoke = time.monotonic()
        self._bar: Bar | None = None
        if sys.stderr.isatty() and total:
            self._bar = Bar(
                BarColumn(bar_width=16),
                TaskProgressColumn(),
                TextColumn("{task.description}", markup=False),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=total)

    @property
    def is_live(self) -> bool:
        """Whether it is on a terminal."""
        return self._bar is not None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, line: str) -> None:
        """Say how far the work is, if it is time to."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=line)
        elif now - self._spoke >= PLAIN_SECONDS:
            self._spoke = now
            left = time_left(done, self._total, now - self._began)
            click.echo(", ".join(filter(None, (line, left))), err=True)

    def say(self, line: str) -> None:
        """Say something that stays."""
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            click.echo(line, err=True)


class Progress:
    """A context that is told of every video.

    Args:
        run: what is to be packed.
    """

    def __init__(self, run: Run) -> None:
        listing = run.plan.listing
        offsets = np.asarray(run.plan.starts[:-1], dtype=np.int64)
        sizes = np.add.reduceat(np.maximum(1, shares(listing)), offsets)
        pending = np.asarray(run.pending, dtype=np.int64) - run.plan.first
        self._total = run.plan.num_segments(run.pending)
        self._bytes, self._all_bytes = 0, int(sizes[pending].sum())
        self._videos = self._failed = self._frames = self._tokens = self._dense = 0
        self._began = time.monotonic()
        done = len(run.plan) - len(run.pending)
        if done:
            shards = counted(len(run.plan), "shard")
            click.echo(f"{done} of {shards} packed already", err=True)
        self._live = LiveLine(self._all_bytes)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)
        if not self._live.is_live and self._total and kind is None:
            click.echo(self._line(), err=True)

    def report(self, video: VideoDone) -> None:
        """Take note of a video that is over; say so if it failed."""
        self._videos += 1
        self._bytes += max(1, video.bytes)
        if video.error is None:
            self._frames += video.frames
            self._tokens += video.tokens
            self._dense += video.dense_tokens
        else:
            self._failed += 1
            self._live.say(f"failed: {video.error}")
        self._live.update(self._bytes, self._line())

    def _line(self) -> str:
        """Return where the run stands."""
        seconds = max(1e-9, time.monotonic() - self._began)
        reduction = f"{self._dense / self._tokens:.1f}x" if self._tokens else "-"
        return (
            f"{self._videos}/{counted(self._total, 'video')}, {self._failed} failed, "
            f"{self._frames / seconds:.0f} frames/s, {self._tokens / seconds:.0f} tokens/s, "
            f"reduction {reduction}"
        )
