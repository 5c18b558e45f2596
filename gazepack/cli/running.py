"""Running what is pending: the options of `pack` and `retry` that decide who packs, and the end of both."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gazepack.cli.options import SOME_FAILED, Size, decode_device, fallback_line, print_json
from gazepack.errors import StorageError
from gazepack.jobs.crew import Crew
from gazepack.units import counted

if TYPE_CHECKING:
    from gazepack.jobs import Run

NO_RAY = "Ray is not installed; pip install 'gazepack[ray]' packs them side by side"

Command = TypeVar("Command", bound=Callable[..., Any])


class Workers(click.ParamType[tuple[int, int]]):
    """A number of workers, or the least and the most."""

    name = "workers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read it."""
        least, _, most = str(value).partition(":")
        try:
            pair = int(least), int(most or least)
        except ValueError:
            pair = 0, 0
        if not 1 <= pair[0] <= pair[1]:
            self.fail(f"{value!r} is not a number of workers such as 8, or 2:64", param, ctx)
        return pair


_DEFAULT = Crew()
_OPTIONS = (
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=_DEFAULT.batch_size,
        show_default=True,
        metavar="TILES",
        help="Tiles of clips chosen for at once; decides speed and memory only.",
    ),
    click.option(
        "--device", default=_DEFAULT.device, show_default=True, help="auto, cpu, cuda or cuda:N."
    ),
    decode_device,
    click.option(
        "--video-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=_DEFAULT.video_timeout,
        show_default=True,
        metavar="SECONDS",
        help="Give up on a video that takes longer than this to decode.",
    ),
    click.option(
        "--video-memory",
        type=Size(),
        default=f"{_DEFAULT.video_memory >> 30}GiB",
        show_default=True,
        help="Give up on a video that needs more than this to decode.",
    ),
    click.option(
        "--attempts",
        type=click.IntRange(min=1),
        default=_DEFAULT.attempts,
        show_default=True,
        help="Tries of a video that fails, hangs or crashes its decoder, before it goes on record.",
    ),
    click.option(
        "--executor",
        type=click.Choice(("serial", "ray")),
        help="One unit after the other in this process, or workers of a Ray cluster.  "
        "[default: ray; serial if there is one shard to pack]",
    ),
    click.option(
        "--workers",
        type=Workers(),
        metavar="N|MIN:MAX",
        help="Workers on Ray.  [default: as many as fit]",
    ),
    click.option(
        "--cpus-per-worker",
        type=click.IntRange(min=1),
        default=_DEFAULT.cpus_per_worker,
        show_default=True,
        help="Cores of each worker, each of which decodes a video.",
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0),
        help="GPUs of each worker, or a share of one.  [default: 1 with cuda, else 0]",
    ),
    click.option(
        "--units-per-worker",
        type=click.IntRange(min=1),
        default=_DEFAULT.units_per_worker,
        show_default=True,
        help="Replace a worker after so many shards.",
    ),
    click.option(
        "--worker-memory",
        type=Size(),
        help="Replace a worker that holds more than this after a shard.  [default: no limit]",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="Of a Ray cluster that is there, such as auto or ray://head:10001.  [default: an own one]",
    ),
)


def running_options(command: Command) -> Command:
    """Add the options that `crew_of` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def crew_of(options: dict[str, Any]) -> Crew:
    """Take the options of `running_options` out of a command's."""
    return Crew(**{field.name: options.pop(field.name) for field in fields(Crew)})


def pack_pending(run: "Run", crew: Crew, *, as_json: bool) -> int:
    """Pack what is pending, print what the dataset then holds, and return the exit code."""
    from gazepack.cli.info import print_summary
    from gazepack.cli.progress import Progress
    from gazepack.formats import summarise
    from gazepack.jobs import RunLog, Tally, write_log

    # 1. pack; starting Ray takes longer than packing a shard of short videos
    if crew.executor is None and len(run.pending) > 1 and crew.executor_of(run) == "serial":
        click.echo(f"{counted(len(run.pending), 'shard')} in one process: {NO_RAY}", err=True)
    tally, began = Tally(), time.monotonic()
    with _terminated_as_interrupted(), Progress(run) as progress:
        crew.pack(run, report=progress.report, meter=tally)
    # 2. where the time went; that it is packed is what counts
    with suppress(StorageError):
        write_log(run.directory, RunLog.of(tally, wall_seconds=time.monotonic() - began))
    if line := tally.line():
        click.echo(line, err=True)
    if tally.fallbacks:
        click.echo(fallback_line(tally.fallbacks, crew.decode_device), err=True)
    # 3. what is there
    summary, out = summarise(run.directory), run.directory.uri
    if as_json:
        print_json(summary)
    else:
        print_summary(out, summary)
    if summary["failed"]:
        click.echo(
            f"{counted(summary['failed'], 'video')} failed: gazepack failures {out}", err=True
        )
        return SOME_FAILED
    return 0


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Have SIGTERM, which a machine that is taken away sends, end the run as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
