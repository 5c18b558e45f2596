"""`gazepack info`: what a dataset holds, in numbers."""

from typing import Any

import click

from gazepack.cli.options import as_json, epilog, print_json
from gazepack.units import counted, size


@click.command(epilog=epilog("gazepack info packed/", "gazepack info s3://bucket/packed --json"))
@click.argument("uri")
@as_json
def info(uri: str, as_json: bool) -> None:
    """Say what the dataset at URI holds."""
    from gazepack.formats import DatasetDirectory, summarise

    summary = summarise(DatasetDirectory.open(uri))
    if as_json:
        print_json(summary)
    else:
        print_summary(uri, summary)


def print_summary(uri: str, summary: dict[str, Any]) -> None:
    """Print a summary as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # a plain string would be read as markup: an address may have brackets
    table = Table(title=Text(uri), title_justify="left", show_header=False, box=None)
    for name, value in _rows(summary):
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values for people."""
    reduction, psnr = summary["reduction"], summary["min_psnr"]
    share = summary["bytes"] / summary["source_bytes"] if summary["source_bytes"] else 0.0
    return [
        ("videos", f"{summary['videos']:,} packed, {summary['failed']:,} failed"),
        ("samples", f"{summary['samples']:,} in {counted(summary['shards'], 'shard')}"),
        ("frames", f"{summary['frames']:,}"),
        ("tokens", f"{summary['tokens']:,} of {summary['dense_tokens']:,} dense"),
        ("reduction", "-" if reduction is None else f"{reduction:.1f}x"),
        (
            "bytes",
            f"{size(summary['bytes'])}, {share:.2f} of the sources' {size(summary['source_bytes'])}",
        ),
        ("stored", "patches" if summary["store"] == "patches" else "places alone"),
        ("min PSNR", "-" if psnr is None else f"{psnr:.2f} dB"),
        ("selector", summary["selector"]),
    ]
