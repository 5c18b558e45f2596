"""`gazepack retry`: pack again what failed, into new shards."""

from typing import Any

import click

from gazepack.cli.options import as_json, epilog
from gazepack.cli.running import crew_of, pack_pending, running_options


@click.command(
    epilog=epilog(
        "gazepack retry packed/", "gazepack retry packed/ --video-timeout 3600 --stage decode"
    )
)
@click.argument("uri")
@click.option(
    "--model", metavar="PATH|URI|HUB_ID", help="The checkpoint it was packed with, if any."
)
@click.option(
    "--stage",
    type=click.Choice(("open", "decode", "fit", "select", "encode")),
    help="Retry only what failed in this step.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="Where the videos are now, if not where they were. Name what was packed.",
)
@running_options
@as_json
def retry(
    uri: str,
    model: str | None,
    stage: str | None,
    sources: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Pack the videos that failed in the dataset at URI again, with its own settings, into new shards.

    Nothing that is there is changed; a video that succeeds is no longer among the failures. Of a long video
    only the parts that failed are packed again. A run or a retry that is not complete is gone on with first.
    """
    from gazepack.jobs.ledger import open_retry

    crew = crew_of(options)
    crew.check()
    run = open_retry(uri, model=model, device=crew.own_device, only=stage, sources=sources)
    if not run.plan.listing.num_rows:
        click.echo("nothing to retry", err=True)
    return pack_pending(run, crew, as_json=as_json)
