"""`gazepack status`: how far a run is."""

from dataclasses import asdict

import click

from gazepack.cli.options import as_json, epilog, print_json


@click.command(
    epilog=epilog("gazepack status packed/", "gazepack status s3://bucket/packed --json")
)
@click.argument("uri")
@as_json
def status(uri: str, as_json: bool) -> None:
    """Say how far the run in the dataset at URI is, whether it is running or not."""
    from gazepack.formats import DatasetDirectory
    from gazepack.jobs.status import status_of

    found = status_of(DatasetDirectory.open(uri))
    if as_json:
        print_json({**asdict(found), "complete": found.is_complete})
        return
    share = 100 * found.videos / max(1, found.planned_videos)
    click.echo(f"{found.videos:,} of {found.planned_videos:,} videos ({share:.1f} %)")
    click.echo(f"{found.shards:,} of {found.planned_shards:,} shards")
    click.echo(f"{found.failures:,} failures, {found.retries:,} retries")
    click.echo("complete" if found.is_complete else "not complete; gazepack pack --out goes on")
