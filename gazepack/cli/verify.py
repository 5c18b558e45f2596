"""`gazepack verify`: is the dataset what it says it is?"""

from typing import TYPE_CHECKING

import click

from gazepack.cli.options import DAMAGED, as_json, epilog, print_json

if TYPE_CHECKING:
    from gazepack.formats import DatasetDirectory


@click.command(
    epilog=epilog(
        "gazepack verify packed/",
        "gazepack verify packed/ --source videos/ --json",
        "gazepack verify packed/ --repair repaired/",
    )
)
@click.argument("uri")
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="Decode these videos again and compare every stored error with the one found. Name what was packed.",
)
@click.option(
    "--repair",
    "repaired",
    metavar="URI",
    help="Copy all samples that are whole into a new dataset there; the others become failures in it.",
)
@as_json
def verify(uri: str, sources: tuple[str, ...], repaired: str | None, as_json: bool) -> int:
    """Check every byte, token and count of the dataset at URI, and every error against the videos.

    Checksums, tar members, arrays, every patch, the places of all tokens, the numbers in the index, and that
    packed and failed videos are together all that was to be packed. Patches that are not stored are cut from
    the videos that --source names, and must be those that were chosen. Nothing in URI is ever changed; the exit
    code says whether it is damaged, also when a repaired copy was made.
    """
    from gazepack.formats import DatasetDirectory, verify_shard
    from gazepack.jobs import (
        Segment,
        SourcePatches,
        compare_with_source,
        list_packed,
        verify_totals,
    )

    listing = list_packed(sources) if sources else None
    videos = None if listing is None else SourcePatches.listed(listing)
    directory = DatasetDirectory.open(uri, patches_from=videos)
    rows = [] if listing is None else listing.to_pylist()
    segments = {row["id"]: Segment.from_row(row) for row in rows}
    shards, problems = directory.committed(), list(verify_totals(directory))
    for number in shards:
        damage = verify_shard(directory, number)
        if sources and not damage:
            index = directory.index(number).to_pylist()
            damage = list(compare_with_source(directory, index, segments))
        problems += damage
    problems = list(dict.fromkeys(problems))  # what is wrong with an index shows in the totals too
    for problem in problems:
        click.echo(str(problem), err=True)
    if repaired is not None:
        _repair(directory, repaired)
    if as_json:
        listed = [{"place": p.place, "problem": p.problem} for p in problems]
        print_json({"shards": len(shards), "compared": bool(sources), "problems": listed})
    else:
        compared = " and compared with the sources" if sources else ""
        count = f"{len(problems)} problems" if problems else "no problem"
        click.echo(f"{len(shards)} shards checked{compared}: {count}")
    return DAMAGED if problems else 0


def _repair(directory: "DatasetDirectory", out: str) -> None:
    """Copy what is whole, and say what was left out."""
    from gazepack.formats.transfer import Transfer, TransferSettings

    transfer = Transfer([directory], out, settings=TransferSettings(drops_damaged=True))
    kept = sum(transfer.target.index(number).num_rows for number in transfer.run())
    for problem in transfer.dropped:
        click.echo(f"left out: {problem}", err=True)
    click.echo(f"{out}: {kept} samples copied, {len(transfer.dropped)} left out", err=True)
