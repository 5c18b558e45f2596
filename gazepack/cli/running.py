"""Running what is pending: the options of `pack` and `retry` that decide who packs, and the end of both."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gazepack.cli.options import SOME_FAILED, Size, decode_device, fallback_line, print_json
from gazepack.errors import StorageError

if TYPE_CHECKING:
    from gazepack.jobs import DecoderSettings, Meter, Report, Resources, Run
    from gazepack.jobs.choices import Executor

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


_OPTIONS = (
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=32,
        show_default=True,
        metavar="TILES",
        help="Tiles of clips chosen for at once; decides speed and memory only.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    decode_device,
    click.option(
        "--video-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=600.0,
        show_default=True,
        metavar="SECONDS",
        help="Give up on a video that takes longer than this to decode.",
    ),
    click.option(
        "--video-memory",
        type=Size(),
        default="4GiB",
        show_default=True,
        help="Give up on a video that needs more than this to decode.",
    ),
    click.option(
        "--attempts",
        type=click.IntRange(min=1),
        default=2,
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
        default=1,
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
        default=50,
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
    """Add the options that `Where.of` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Who packs the units, and how hard each video is tried; the fields are the options."""

    batch_size: int
    device: str
    decode_device: str
    video_timeout: float
    video_memory: int
    attempts: int
    executor: "Executor | None"
    workers: tuple[int, int] | None
    cpus_per_worker: int
    gpus_per_worker: float | None
    units_per_worker: int
    worker_memory: int | None
    ray_address: str | None

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Where":
        """Take the options of `running_options` out of a command's."""
        return cls(**{name: options.pop(name) for name in cls.__dataclass_fields__})

    @property
    def own_device(self) -> str:
        """The device of this process; with `--gpus-per-worker` the GPUs are the workers'."""
        from gazepack.jobs.choices import choose_device

        return "cpu" if self.gpus_per_worker else choose_device(self.device)

    def run(self, run: "Run", *, as_json: bool) -> int:
        """Pack what is pending, print what the dataset then holds, and return the exit code."""
        from gazepack.cli.info import print_summary
        from gazepack.cli.progress import Progress
        from gazepack.formats import summarise
        from gazepack.jobs import RunLog, Tally, write_log

        tally, began = Tally(), time.monotonic()
        with _terminated_as_interrupted(), Progress(run) as progress:
            self._pack(run, progress.report, tally)
        with suppress(StorageError):  # that it is packed is what counts
            write_log(run.directory, RunLog.of(tally, wall_seconds=time.monotonic() - began))
        if line := tally.line():
            click.echo(line, err=True)
        if tally.fallbacks:
            click.echo(fallback_line(tally.fallbacks, self.decode_device), err=True)
        summary, out = summarise(run.directory), run.directory.uri
        if as_json:
            print_json(summary)
        else:
            print_summary(out, summary)
        if summary["failed"]:
            click.echo(f"{summary['failed']} videos failed: gazepack failures {out}", err=True)
            return SOME_FAILED
        return 0

    def _pack(self, run: "Run", report: "Report", meter: "Meter") -> None:
        """Choose the executor; starting Ray takes longer than packing a shard of short videos."""
        from gazepack.jobs import run_serial
        from gazepack.jobs.choices import choose_executor

        executor = choose_executor(
            self.executor, num_units=len(run.pending), address=self.ray_address
        )
        if executor == "serial":
            if self.executor is None and len(run.pending) > 1:
                click.echo(f"{len(run.pending)} shards in one process: {NO_RAY}", err=True)
            resources = self._resources(self.own_device, min(4, os.cpu_count() or 1))
            run_serial(run, resources=resources, report=report, meter=meter)
            return
        from gazepack.jobs.executors.cluster import ClusterSettings
        from gazepack.jobs.executors.ray import run_ray

        gpus = self.gpus_per_worker
        if gpus is None:
            gpus = float(self.own_device.startswith("cuda"))
        least, most = self.workers or (None, None)
        cluster = ClusterSettings(
            address=self.ray_address,
            min_workers=least,
            max_workers=most,
            cpus_per_worker=self.cpus_per_worker,
            gpus_per_worker=gpus,
            units_per_worker=self.units_per_worker,
            worker_memory_bytes=self.worker_memory,
        )
        resources = self._resources("cuda" if gpus else "cpu", self.cpus_per_worker)
        run_ray(run, resources=resources, report=report, meter=meter, settings=cluster)

    def _resources(self, device: str, num_decoders: int) -> "Resources":
        """Return what decides the speed of one worker."""
        from gazepack.jobs import Resources

        decoders = self.decoders(num_decoders)
        return Resources(device=device, batch_size=self.batch_size, decoders=decoders)

    def decoders(self, num: int = min(4, os.cpu_count() or 1)) -> "DecoderSettings":
        """Return how many videos are decoded side by side, and how hard each is tried."""
        from gazepack.jobs import DecoderSettings

        return DecoderSettings(
            num=num,
            timeout_seconds=self.video_timeout,
            memory_bytes=self.video_memory,
            attempts=self.attempts,
            device=self.decode_device,
        )

    def check(self) -> None:
        """Refuse a decode device before anything is begun; the machines of a cluster look for themselves."""
        from gazepack.jobs.choices import check_decode_device

        elsewhere = self.ray_address is not None or bool(self.gpus_per_worker)
        check_decode_device(self.decode_device, is_here=not elsewhere)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Have SIGTERM, which a machine that is taken away sends, end the run as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
