"""`gazepack bench`: how fast packing is here, and what reading a dataset will be like."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gazepack.cli.options import Size, as_json, decode_device, epilog, fallback_line, print_json
from gazepack.cli.pack import settings_from, settings_options
from gazepack.units import size

if TYPE_CHECKING:
    from gazepack.jobs.bench import PackBench


@click.group(
    epilog=epilog(
        "gazepack bench pack my-video.mp4",
        "gazepack bench loader packed/ --ranks 64 --workers 8",
    )
)
def bench() -> None:
    """Measure packing on this machine, or predict how a training run will read a dataset."""


@bench.command(
    epilog=epilog(
        "gazepack bench pack my-video.mp4",
        "gazepack bench pack videos/ --end 10 --selector greedy --min-psnr 30 --json",
    )
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--decoders",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that decode.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads that choose, on the CPU.",
)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Tiles.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@decode_device
@settings_options
@as_json
def pack(
    sources: tuple[str, ...],
    decoders: int,
    threads: int,
    batch_size: int,
    device: str,
    decode_device: str,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Time every stage of packing SOURCE alone, then all together, and name the bottleneck.

    Give a few videos like those to be packed, and --end to take only their first seconds. What is packed is
    thrown away. Decoding and choosing run beside each other, so the slower of them is the speed of light.
    """
    import torch

    from gazepack.jobs import DecoderSettings, Resources, build_selector
    from gazepack.jobs.bench import bench_pack
    from gazepack.jobs.choices import check_decode_device, choose_device
    from gazepack.jobs.segment import Segment
    from gazepack.jobs.sources import list_sources

    settings = settings_from(config, options)
    device = choose_device(device)
    check_decode_device(decode_device)
    torch.set_num_threads(threads)
    found = bench_pack(
        [Segment.from_row(row) for row in list_sources(sources).to_pylist()],
        settings=settings,
        selector=build_selector(settings.selector, device=device),
        resources=Resources(
            device=device,
            batch_size=batch_size,
            decoders=DecoderSettings(num=decoders, device=decode_device),
        ),
    )
    if as_json:
        print_json(_pack_values(found))
    else:
        _print_pack(found)
        if found.spent.fallbacks:
            click.echo(fallback_line(found.spent.fallbacks, decode_device))


def _pack_values(found: "PackBench") -> dict[str, Any]:
    """Return what was measured, for programs."""
    stages = {
        f"{stage.name.strip()}: {stage.what}": round(stage.frames_per_second, 2)
        for stage in found.stages
    }
    return {
        "frames_per_second": stages,
        "bottleneck": found.bottleneck,
        "share_of_speed_of_light": round(found.share, 4),
        "worker_seconds": {stage: round(s, 3) for stage, s in found.spent.seconds.items()},
        "decoders": found.decoders,
        "decode_device_fallbacks": found.spent.fallbacks,
        "decoders_needed": round(found.decoders_needed, 2),
        "tiles_per_frame": round(found.tiles_per_frame, 2),
        "tokens_per_frame": round(found.tokens_per_frame, 2),
    }


def _print_pack(found: "PackBench") -> None:
    """Print what was measured, for people."""
    for stage in found.stages:
        click.echo(f"{stage.name:<8}{stage.frames_per_second:>9,.1f} frames/s  {stage.what}")
    click.echo(f"{found.tiles_per_frame:g} tiles and {found.tokens_per_frame:.1f} tokens a frame")
    click.echo(
        f"the pipeline reaches {found.share:.0%} of the slower of decode and choose, "
        f"which is {found.bottleneck}"
    )
    click.echo(f"in it, {found.spent.line()}")
    click.echo(f"{found.decoders_needed:.1f} decoders would keep one such worker busy choosing")


@bench.command(
    epilog=epilog(
        "gazepack bench loader packed/ --ranks 64 --workers 8",
        "gazepack bench loader s3://bucket/packed --ranks 8 --cache-size 500GB --json",
    )
)
@click.argument("uris", nargs=-1, required=True, metavar="URI...")
@click.option("--ranks", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--workers", type=click.IntRange(0), default=0, show_default=True, help="Of each rank."
)
@click.option(
    "--ranks-per-node",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Ranks that share a machine and its cache.",
)
@click.option("--batch-tokens", type=click.IntRange(1), help="[default: 65536]")
@click.option("--batch-size", type=click.IntRange(1), help="Samples, instead of tokens.")
@click.option("--max-tokens", type=click.IntRange(1), help="Dial: tokens of a sample.")
@click.option("--max-tokens-per-frame", type=click.IntRange(1), help="Dial: tokens of a frame.")
@click.option("--cache-size", type=Size(), help="Of each machine's cache of whole shards.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--epoch", type=click.IntRange(0), default=0, show_default=True)
@as_json
def loader(
    uris: tuple[str, ...],
    ranks: int,
    workers: int,
    ranks_per_node: int,
    batch_tokens: int | None,
    batch_size: int | None,
    max_tokens: int | None,
    max_tokens_per_frame: int | None,
    cache_size: int | None,
    seed: int,
    epoch: int,
    as_json: bool,
) -> None:
    """Predict balance, padding, bytes and cache hits of an epoch over the datasets at URI.

    Everything is told from the index: no sample is read, and no GPU is needed.
    """
    from dataclasses import asdict

    from gazepack.loader import GazeDataset

    dataset = GazeDataset(
        uris,
        batch_tokens=65536 if batch_tokens is None and batch_size is None else batch_tokens,
        batch_size=batch_size,
        max_tokens=max_tokens,
        max_tokens_per_frame=max_tokens_per_frame,
        seed=seed,
        rank=0,
        world_size=ranks,
    )
    dataset.set_epoch(epoch)
    forecast = asdict(
        dataset.forecast(
            workers=workers, ranks_per_node=ranks_per_node, cache_bytes=cache_size or 0
        )
    )
    if as_json:
        print_json(forecast)
    else:
        _print_forecast(", ".join(uris), forecast)


def _print_forecast(title: str, forecast: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, value in _rows(forecast):
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values for people."""
    worst, mean = found["imbalance_max"] - 1, found["imbalance_mean"] - 1
    return [
        (
            "steps",
            f"{found['steps']:,} on each of {found['ranks']:,} ranks, {found['nodes']:,} machines",
        ),
        (
            "batch",
            f"{found['tokens_per_batch']:,.0f} tokens, {found['samples_per_batch']:,.1f} samples "
            f"on average; {found['empty_batches']:,} empty",
        ),
        (
            "balance",
            f"largest rank above the mean by {mean:.2%} on average, {worst:.2%} at most; "
            f"{found['steps_above_two_percent']:,} steps above 2 %",
        ),
        (
            "padding avoided",
            f"{found['padding_avoided']:.1%} of {found['padded_tokens']:,} padded tokens",
        ),
        (
            "bytes read",
            f"{size(found['read_bytes'])} by {found['requests']:,} requests, for samples of "
            f"{size(found['sample_bytes'])}",
        ),
        (
            "cache",
            f"{size(found['cached_bytes'])} kept, {found['cache_hits']:.1%} hits, "
            f"{found['next_epoch_cache_hits']:.1%} in the next epoch",
        ),
        ("waiting batches", f"at most {size(found['ahead_bytes'])} of pixels a rank"),
    ]
