"""Progress of a run on stderr: a live line on a terminal, a plain line every few seconds elsewhere.

The time that is left is estimated from the source bytes done, not from the number of files: one film among
clips would make the latter lie.
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
from gazepack.units import time_left

PLAIN_SECONDS = 10.0
"""How often a line is written when stderr is not a terminal."""


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
        self._began = self._spoke = time.monotonic()
        self._bar: Bar | None = None
        done = len(run.plan) - len(run.pending)
        if done:
            click.echo(f"{done} of {len(run.plan)} shards are packed already", err=True)
        if sys.stderr.isatty() and self._total:
            self._bar = Bar(
                BarColumn(bar_width=16),
                TaskProgressColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=self._all_bytes)

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
        elif self._total and kind is None:
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
            self._say(f"failed: {video.error}")
        if self._bar is not None:
            self._bar.update(self._task, completed=self._bytes, description=self._line())
        elif time.monotonic() - self._spoke >= PLAIN_SECONDS:
            self._spoke = time.monotonic()
            left = time_left(self._bytes, self._all_bytes, self._spoke - self._began)
            click.echo(f"{self._line()}, {left}", err=True)

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            click.echo(line, err=True)

    def _line(self) -> str:
        """Return where the run stands."""
        seconds = max(1e-9, time.monotonic() - self._began)
        reduction = f"{self._dense / self._tokens:.1f}x" if self._tokens else "-"
        return (
            f"{self._videos}/{self._total} videos, {self._failed} failed, "
            f"{self._frames / seconds:.0f} frames/s, {self._tokens / seconds:.0f} tokens/s, "
            f"reduction {reduction}"
        )
