"""`gazepack clean`: remove what killed writers left."""

import click

from gazepack.cli.options import as_json, epilog, print_json
from gazepack.units import counted


@click.command(epilog=epilog("gazepack clean packed/ --dry-run", "gazepack clean packed/"))
@click.argument("uri")
@click.option("--dry-run", is_flag=True, help="Name the files only.")
@as_json
def clean(uri: str, dry_run: bool, as_json: bool) -> None:
    """Remove the files of the dataset at URI that no index names: a reader never sees them.

    Only while nothing packs into it: a shard that is being written has no index yet.
    """
    from gazepack.formats import DatasetDirectory

    directory = DatasetDirectory.open(uri)
    names = directory.leftovers() if dry_run else directory.remove_leftovers()
    if as_json:
        print_json({"files": names, "removed": not dry_run})
        return
    for name in names:
        click.echo(name)
    removed = "would be" if dry_run else "was" if len(names) == 1 else "were"
    click.echo(f"{counted(len(names), 'file')} {removed} removed", err=True)
