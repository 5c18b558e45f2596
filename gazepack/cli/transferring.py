"""What `convert`, `merge`, `split` and `verify --repair` share: running transfers, and their report."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gazepack.cli.options import print_json
from gazepack.units import counted

if TYPE_CHECKING:
    from gazepack.formats import DatasetDirectory
    from gazepack.formats.transfer import Transfer, TransferSettings

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--format",
        "container",
        type=click.Choice(("webdataset", "arrow")),
        help="What the shards are.  [default: as they are]",
    ),
    click.option(
        "--codec",
        type=click.Choice(("zstd", "webp", "png", "raw")),
        help="How patches are stored; a conversion loses nothing.  [default: as they are]",
    ),
    click.option(
        "--store",
        type=click.Choice(("places",)),
        help="Drop the patches of a lossless codec: they are cut from the videos when they are read.",
    ),
    click.option(
        "--source",
        "sources",
        multiple=True,
        help="Cut patches that are not stored out of these videos. Name what was packed.",
    ),
    click.option(
        "--samples-per-shard",
        type=click.IntRange(min=1),
        help="The most samples in a shard.  [default: shards as they are]",
    ),
)


def transfer_options(command: Command) -> Command:
    """Add the options that `opened` and `settings_of` read."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def opened(uris: Sequence[str], options: Mapping[str, Any]) -> list["DatasetDirectory"]:
    """Open datasets, whose patches are cut from the videos of --source where they are not stored.

    One that is still being packed can be copied as far as it is, and is said to be.
    """
    from gazepack.formats import DatasetDirectory
    from gazepack.jobs import SourcePatches
    from gazepack.jobs.status import what_is_missing

    videos = SourcePatches(options["sources"]) if options["sources"] else None
    directories = [DatasetDirectory.open(uri, patches_from=videos) for uri in uris]
    for directory in directories:
        if missing := what_is_missing(directory):
            click.echo(f"{directory.uri}: {missing}; what is there is copied", err=True)
    return directories


def settings_of(options: Mapping[str, Any]) -> "TransferSettings":
    """Return what becomes of the samples.

    Raises:
        UsageError: a codec of patches is given and no patches are to be stored.
    """
    from gazepack.errors import UsageError
    from gazepack.formats import PlacesCodec, codec_from
    from gazepack.formats.transfer import TransferSettings

    codec, places = options["codec"], options["store"] == "places"
    if places and codec:
        raise UsageError(f"--codec {codec} is for patches, and --store places keeps none")
    made = PlacesCodec() if places else codec_from(codec) if codec else None
    return TransferSettings(
        container=options["container"],
        codec=None if made is None else made.settings(),
        samples_per_shard=options["samples_per_shard"],
    )


def run_transfers(transfers: Sequence["Transfer"], *, as_json: bool) -> None:
    """Run transfers one after the other, say so on stderr, and print what their targets hold."""
    from gazepack.cli.info import print_summary
    from gazepack.formats import summarise

    summaries = {}
    for transfer in transfers:
        uri = transfer.target.uri
        done = len(transfer) - len(transfer.pending)
        shards = counted(len(transfer), "shard")
        if done:
            click.echo(f"{uri}: {done} of {shards} already there", err=True)
        for _ in transfer.run():
            done += 1
            click.echo(f"{uri}: {done} of {shards} written and compared", err=True)
        summaries[uri] = summarise(transfer.target)
    if as_json:
        listed = [{"uri": uri, **summary} for uri, summary in summaries.items()]
        print_json(listed[0] if len(listed) == 1 else {"datasets": listed})
        return
    for uri, summary in summaries.items():
        print_summary(uri, summary)
