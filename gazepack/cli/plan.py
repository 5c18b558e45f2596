"""`gazepack plan`: what packing would take, before it is begun."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gazepack.cli.options import as_json, decode_device, epilog, print_json
from gazepack.cli.pack import settings_from, settings_options
from gazepack.units import size

if TYPE_CHECKING:
    from gazepack.jobs.estimate import Amount, Estimate


@click.command(
    epilog=epilog(
        "gazepack plan videos/ --fps 2",
        "gazepack plan manifest.csv --sample 50 --price 2.10 --json",
    )
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--sample",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    metavar="VIDEOS",
    help="How many videos to pack for the estimate.",
)
@click.option("--price", type=click.FloatRange(min=0), help="Money for one worker and hour.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@decode_device
@settings_options
@as_json
def plan(
    sources: tuple[str, ...],
    sample: int,
    price: float | None,
    device: str,
    decode_device: str,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Estimate tokens, bytes, hours and money of packing SOURCE, by packing a few of its videos for nothing.

    The estimates come with the range in which 90 % of them lie when the sample is drawn again from itself.
    Hours are those of one worker like this machine; they do not hold for other machines.
    """
    from gazepack.jobs import DecoderSettings, Resources, build_selector
    from gazepack.jobs.choices import check_decode_device, choose_device
    from gazepack.jobs.estimate import estimate

    settings = settings_from(config, options)
    device = choose_device(device)
    check_decode_device(decode_device)
    selector = build_selector(settings.selector, device=device)
    found = estimate(
        sources,
        settings=settings,
        selector=selector,
        resources=Resources(device=device, decoders=DecoderSettings(device=decode_device)),
        sample=sample,
    )
    if as_json:
        print_json({**asdict(found), "price": price})
    else:
        _print(found, price)


def _print(found: "Estimate", price: float | None) -> None:
    """Print an estimate for people."""

    def line(name: str, amount: "Amount", show: Any) -> None:
        low, value, high = (show(x) for x in (amount.low, amount.value, amount.high))
        click.echo(f"{name:<14}{value}  ({low} to {high})")

    failed = f", {found.failed} of them failed" if found.failed else ""
    click.echo(f"{'videos':<14}{found.videos:,}, {found.sampled} sampled{failed}")
    line("frames", found.frames, lambda x: f"{x:,.0f}")
    line("tokens", found.tokens, lambda x: f"{x:,.0f}")
    line("bytes", found.bytes, lambda x: size(int(x)))
    line("worker hours", found.worker_hours, lambda x: f"{x:,.4g}")
    if price is not None:
        line("money", found.worker_hours, lambda x: f"{price * x:,.2f}")
