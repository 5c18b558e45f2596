"""`gazepack convert`: the same samples in another container, codec or shard size."""

from typing import Any

import click

from gazepack.cli.options import as_json, epilog
from gazepack.cli.transferring import opened, run_transfers, settings_of, transfer_options


@click.command(
    epilog=epilog(
        "gazepack convert packed/ --out arrow/ --format arrow",
        "gazepack convert packed/ --out s3://bucket/packed --samples-per-shard 1024",
        "gazepack convert places/ --out patches/ --codec zstd --source videos/",
    )
)
@click.argument("uri")
@click.option(
    "--out", required=True, metavar="URI", help="Dataset directory to make or go on with."
)
@transfer_options
@as_json
def convert(uri: str, out: str, as_json: bool, **options: Any) -> None:
    """Copy the dataset at URI into another container, codec or shard size, pixel for pixel.

    Patches whose codec stays are carried over as they are. Every shard is compared with what was read. The
    same command goes on where it was interrupted. No conversion makes patches smaller by a lossy codec: the
    errors stored with them would no longer be true; pack the videos again. With --source, patches that are
    not stored are cut from the videos.
    """
    from gazepack.formats.transfer import Transfer

    transfer = Transfer(opened([uri], options), out, settings=settings_of(options))
    run_transfers([transfer], as_json=as_json)
