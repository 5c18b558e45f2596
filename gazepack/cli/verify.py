"""`gazepack verify`: is the dataset what it says it is?"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from gazepack.cli.options import DAMAGED, as_json, epilog, print_json
from gazepack.errors import one_line
from gazepack.units import counted

if TYPE_CHECKING:
    from gazepack.formats import DatasetDirectory
    from gazepack.formats.verify import Problem
    from gazepack.jobs import Segment


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
    from gazepack.formats import DatasetDirectory
    from gazepack.jobs import Segment, SourcePatches, list_packed

    listing = list_packed(sources) if sources else None
    videos = None if listing is None else SourcePatches.listed(listing)
    directory = DatasetDirectory.open(uri, patches_from=videos)
    rows = [] if listing is None else listing.to_pylist()
    segments = {row["id"]: Segment.from_row(row) for row in rows}
    shards = directory.committed()
    problems = _problems(directory, shards, segments if sources else None)
    if repaired is not None:
        _repair(directory, repaired)
    if as_json:
        listed = [{"place": p.place, "problem": p.problem} for p in problems]
        print_json({"shards": len(shards), "compared": bool(sources), "problems": listed})
    else:
        compared = " and compared with the sources" if sources else ""
        count = counted(len(problems), "problem") if problems else "no problem"
        click.echo(f"{counted(len(shards), 'shard')} checked{compared}: {count}")
    return DAMAGED if problems else 0


def _problems(
    directory: "DatasetDirectory", shards: list[int], segments: "dict[str, Segment] | None"
) -> "list[Problem]":
    """Return everything that is wrong, each of it said when it is found; compared with the videos if given."""
    from gazepack.cli.progress import LiveLine
    from gazepack.formats import verify_shard
    from gazepack.jobs import compare_with_source, verify_totals

    found: dict[Problem, None] = {}  # what is wrong with an index shows in the totals too
    compared = 0

    def tell(problems: "Iterable[Problem]") -> None:
        for problem in problems:
            if problem not in found:
                found[problem] = None
                live.say(one_line(str(problem)))

    def line(checked: int) -> str:
        samples = "" if segments is None else f", {counted(compared, 'sample')} compared"
        return (
            f"{checked}/{counted(len(shards), 'shard')}{samples}, {counted(len(found), 'problem')}"
        )

    with LiveLine(len(shards)) as live:
        tell(verify_totals(directory))
        for checked, number in enumerate(shards):
            damage = verify_shard(directory, number)
            tell(damage)
            rows = [] if segments is None or damage else directory.index(number).to_pylist()
            for position, row in enumerate(rows):
                live.update(checked + position / len(rows), line(checked))
                tell(compare_with_source(directory, [row], segments or {}))
                compared += 1
            live.update(checked + 1, line(checked + 1))
    return list(found)


def _repair(directory: "DatasetDirectory", out: str) -> None:
    """Copy what is whole, and say what was left out."""
    from gazepack.formats.transfer import Transfer, TransferSettings

    transfer = Transfer([directory], out, settings=TransferSettings(drops_damaged=True))
    kept = sum(transfer.target.index(number).num_rows for number in transfer.run())
    for problem in transfer.dropped:
        click.echo(one_line(f"left out: {problem}"), err=True)
    click.echo(
        f"{out}: {counted(kept, 'sample')} copied, {len(transfer.dropped)} left out", err=True
    )
