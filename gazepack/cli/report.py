"""`gazepack report`: a dataset on one page."""

from pathlib import Path

import click

from gazepack.cli.options import as_json, epilog, print_json
from gazepack.errors import UsageError
from gazepack.units import counted

MAX_PICTURES = 8


@click.command(
    epilog=epilog(
        "gazepack report packed/ --out report.html",
        "gazepack report s3://bucket/packed --out report.html --source s3://bucket/videos/",
        "gazepack report s3://bucket/packed --out report.html --pictures 0 --json",
    )
)
@click.argument("uri")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="The page to write.",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=0, max=MAX_PICTURES),
    default=4,
    show_default=True,
    help="Samples shown of each kind: most tokens, fewest tokens, lowest PSNR.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="Where the videos are, if not where they were packed from.",
)
@as_json
def report(uri: str, out: Path, pictures: int, sources: tuple[str, ...], as_json: bool) -> None:
    """Show the dataset at URI on one page, whether it is whole or still being packed.

    Totals, distributions, tokens over a clip, scales, storage, the best and the worst samples, failures by
    cause, and where the time went. One file that needs no network, at most 1.5 MB whatever the dataset. The
    pictures are over the videos where these are at hand; a dataset of places alone has no others.
    """
    from gazepack.formats import DatasetDirectory
    from gazepack.viewing import write_report

    if out.suffix.lower() != ".html":
        raise UsageError(f"--out {out} does not end in .html")
    totals = write_report(DatasetDirectory.open(uri), out, pictures=pictures, sources=sources)
    if as_json:
        print_json({"out": str(out), **totals})
    else:
        click.echo(
            f"{out}: {counted(totals['samples'], 'sample')}, {out.stat().st_size / 1e6:.2f} MB"
        )
