"""`gazepack split`: one dataset in parts."""

from typing import Any

import click

from gazepack.cli.options import as_json, epilog
from gazepack.cli.transferring import opened, run_transfers, settings_of, transfer_options


class Share(click.ParamType[tuple[str, float]]):
    """A part's name and its share of the videos."""

    name = "name=share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Read it."""
        name, _, share = str(value).partition("=")
        try:
            number = float(share)
        except ValueError:
            number = 0.0
        if not name.replace("-", "").replace("_", "").isalnum() or not 0 < number <= 1:
            self.fail(f"{value!r} is not a name and a share such as val=0.1", param, ctx)
        return name, number


@click.command(epilog=epilog("gazepack split packed/ --out parts/ --part train=0.9 --part val=0.1"))
@click.argument("uri")
@click.option("--out", required=True, metavar="URI", help="Where the parts' directories go.")
@click.option(
    "--part",
    "shares",
    type=Share(),
    multiple=True,
    required=True,
    help="Name of a part and its share of the videos; shares add up to 1.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another one, other parts.")
@transfer_options
@as_json
def split(
    uri: str,
    out: str,
    shares: tuple[tuple[str, float], ...],
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Copy the dataset at URI into parts, each a dataset below --out, pixel for pixel.

    A video falls to a part by a hash of its id, with all its samples: it stays there when others come or go.
    The shares are therefore nearly met, not exactly. The same command goes on where it was interrupted.
    """
    from gazepack.errors import UsageError
    from gazepack.formats.transfer import Transfer, parts_by_share

    if len(dict(shares)) != len(shares):
        raise UsageError("two parts have one name")
    (source,) = opened([uri], options)
    transfers = [
        Transfer(
            [source], f"{out.rstrip('/')}/{part.name}", settings=settings_of(options), part=part
        )
        for part in parts_by_share(dict(shares), seed=seed)
    ]
    run_transfers(transfers, as_json=as_json)
