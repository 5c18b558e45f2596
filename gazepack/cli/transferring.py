"""What `convert`, `merge`, `split` and `verify --repair` share: running transfers, and their report."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gazepack.cli.options import print_json

if TYPE_CHECKING:
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
        "--samples-per-shard",
        type=click.IntRange(min=1),
        help="The most samples in a shard.  [default: shards as they are]",
    ),
)


def transfer_options(command: Command) -> Command:
    """Add the options that `settings_of` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings_of(
    *, container: str | None, codec: str | None, samples_per_shard: int | None
) -> "TransferSettings":
    """Return what the options say."""
    from gazepack.formats import codec_from
    from gazepack.formats.transfer import TransferSettings

    return TransferSettings(
        container=container,
        codec=None if codec is None else codec_from(codec).settings(),
        samples_per_shard=samples_per_shard,
    )


def run_transfers(transfers: Sequence["Transfer"], *, as_json: bool) -> None:
    """Run transfers one after the other, say so on stderr, and print what their targets hold."""
    from gazepack.cli.info import print_summary
    from gazepack.formats import summarise

    summaries = {}
    for transfer in transfers:
        uri = transfer.target.uri
        done = len(transfer) - len(transfer.pending)
        if done:
            click.echo(f"{uri}: {done} of {len(transfer)} shards are there already", err=True)
        for _ in transfer.run():
            done += 1
            click.echo(f"{uri}: {done} of {len(transfer)} shards written and compared", err=True)
        summaries[uri] = summarise(transfer.target)
    if as_json:
        listed = [{"uri": uri, **summary} for uri, summary in summaries.items()]
        print_json(listed[0] if len(listed) == 1 else {"datasets": listed})
        return
    for uri, summary in summaries.items():
        print_summary(uri, summary)
