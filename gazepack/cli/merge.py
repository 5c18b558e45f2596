"""`gazepack merge`: several datasets in one."""

from typing import Any

import click

from gazepack.cli.options import as_json, epilog
from gazepack.cli.transferring import opened, run_transfers, settings_of, transfer_options


@click.command(epilog=epilog("gazepack merge monday/ tuesday/ --out week/"))
@click.argument("uris", nargs=-1, required=True, metavar="URI...")
@click.option(
    "--out", required=True, metavar="URI", help="Dataset directory to make or go on with."
)
@transfer_options
@as_json
def merge(uris: tuple[str, ...], out: str, as_json: bool, **options: Any) -> None:
    """Copy the datasets at URI... into one, in this order, pixel for pixel.

    They must have been packed with the same settings and hold different videos. The same command goes on
    where it was interrupted.
    """
    from gazepack.formats.transfer import Transfer

    transfer = Transfer(opened(uris, options), out, settings=settings_of(options))
    run_transfers([transfer], as_json=as_json)
