"""`gazepack status`: how far a run is."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from gazepack.cli.options import as_json, epilog, print_json
from gazepack.units import counted, time_left

if TYPE_CHECKING:
    from gazepack.formats import DatasetDirectory
    from gazepack.jobs.status import Status


@click.command(
    epilog=epilog(
        "gazepack status packed/",
        "gazepack status packed/ --watch",
        "gazepack status s3://bucket/packed --json",
    )
)
@click.argument("uri")
@click.option("--watch", is_flag=True, help="Look again and again until all is packed.")
@click.option(
    "--every",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look with --watch.",
)
@as_json
def status(uri: str, watch: bool, every: float, as_json: bool) -> None:
    """Say how far the run in the dataset at URI is, whether it is running or not.

    With --watch, a line each time with the time left, which comes from the pixels (or source bytes) packed
    since watching began; then, as without it, what there is in the end.
    """
    from gazepack.formats import DatasetDirectory
    from gazepack.jobs.status import status_of

    directory = DatasetDirectory.open(uri)
    found = _watched(directory, every) if watch else status_of(directory)
    if as_json:
        print_json({**asdict(found), "complete": found.is_complete})
        return
    share = 100 * found.videos / max(1, found.planned_videos)
    click.echo(f"{found.videos:,} of {counted(found.planned_videos, 'video')} ({share:.1f} %)")
    click.echo(
        f"{found.shards:,} of {counted(found.planned_shards, 'shard')}, {found.work:.1%} of the work"
    )
    rounds = counted(found.retries, "round")
    click.echo(f"{counted(found.failures, 'failure')}, {rounds} of gazepack retry")
    click.echo("complete" if found.is_complete else "not complete; the same pack command goes on")


def _watched(directory: "DatasetDirectory", every: float) -> "Status":
    """Look until all is packed, and return what was seen last."""
    from gazepack.jobs.status import status_of

    began, first = time.monotonic(), status_of(directory)
    found = first
    while not found.is_complete:
        left = time_left(found.work - first.work, 1 - first.work, time.monotonic() - began)
        click.echo(
            f"{time.strftime('%H:%M:%S')}  {found.work:.1%}, "
            f"{found.videos:,} of {counted(found.planned_videos, 'video')}, "
            f"{counted(found.failures, 'failure')}" + (f", {left}" if left else ""),
            err=True,
        )
        time.sleep(every)
        found = status_of(directory)
    return found
