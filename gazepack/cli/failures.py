"""`gazepack failures`: the videos that could not be packed, and why."""

import click

from gazepack.cli.options import as_json, epilog, print_json
from gazepack.errors import one_line


@click.command(
    epilog=epilog(
        "gazepack failures packed/", "gazepack failures packed/ --json | jq -r .failures[].uri"
    )
)
@click.argument("uri")
@as_json
def failures(uri: str, as_json: bool) -> None:
    """List the videos that could not be packed into the dataset at URI, and have not been since."""
    from gazepack.formats import DatasetDirectory, outstanding

    rows = outstanding(DatasetDirectory.open(uri)).to_pylist()
    if as_json:
        print_json({"failures": rows})
        return
    for row in rows:
        click.echo(f"{row['stage']:<8}{one_line(row['message'])}")
    if not rows:
        click.echo("no failures", err=True)
