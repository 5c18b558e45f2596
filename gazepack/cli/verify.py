"""`gazepack verify`: is the dataset what it says it is?"""

import click

from gazepack.cli.options import DAMAGED, as_json, epilog, print_json


@click.command(
    epilog=epilog("gazepack verify packed/", "gazepack verify packed/ --source videos/ --json")
)
@click.argument("uri")
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="Decode these videos again and compare every stored error with the one found. Name what was packed.",
)
@as_json
def verify(uri: str, sources: tuple[str, ...], as_json: bool) -> int:
    """Check every byte, token and count of the dataset at URI, and every error against the videos.

    Checksums, tar members, arrays, every patch, the places of all tokens, the numbers in the index, and that
    packed and failed videos are together all that was to be packed.
    """
    from gazepack.formats import DatasetDirectory, verify_shard
    from gazepack.jobs import Segment, compare_with_source, list_sources, verify_totals

    directory = DatasetDirectory.open(uri)
    rows = list_sources(sources).to_pylist() if sources else []
    segments = {row["id"]: Segment.from_row(row) for row in rows}
    shards, problems = directory.committed(), list(verify_totals(directory))
    for number in shards:
        damage = verify_shard(directory, number)
        if sources and not damage:
            index = directory.index(number).to_pylist()
            damage = list(compare_with_source(directory, index, segments))
        problems += damage
    for problem in problems:
        click.echo(str(problem), err=True)
    if as_json:
        listed = [{"place": p.place, "problem": p.problem} for p in problems]
        print_json({"shards": len(shards), "compared": bool(sources), "problems": listed})
    else:
        compared = " and compared with the sources" if sources else ""
        count = f"{len(problems)} problems" if problems else "no problem"
        click.echo(f"{len(shards)} shards checked{compared}: {count}")
    return DAMAGED if problems else 0
