"""`gazepack label`: what greedy painting chooses, token by token."""

import io

import click

from gazepack.cli.options import SOME_FAILED, as_json, epilog, print_json
from gazepack.cli.trained import as_video
from gazepack.errors import one_line
from gazepack.units import counted


@click.command(
    epilog=epilog(
        "gazepack label videos/ --out labels/",
        "gazepack label manifest.csv --out s3://bucket/labels --min-psnr 34 --fps 8",
    )
)
@click.argument("sources", nargs=-1, required=True, metavar="VIDEOS...")
@click.option(
    "--out", required=True, metavar="URI", help="Folder of labels, a Parquet file a video."
)
@click.option(
    "--min-psnr",
    type=click.FloatRange(10, 60),
    default=30.0,
    show_default=True,
    metavar="DB",
    help="Painting error that every frame meets.",
)
@click.option(
    "--beyond",
    type=click.IntRange(0, 265),
    default=0,
    show_default=True,
    help="Tokens to list beyond the bound.",
)
@click.option("--fps", type=float, help="Frames per second of video time.  [default: every frame]")
@click.option("--patch-size", type=int, default=16, show_default=True, metavar="PIXELS")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@as_json
def label(
    sources: tuple[str, ...],
    out: str,
    min_psnr: float,
    beyond: int,
    fps: float | None,
    patch_size: int,
    device: str,
    as_json: bool,
) -> int:
    """Write the greedy painting sequences of VIDEOS: ids in gaze order and the loss before each.

    Every frame is fitted to one square tile. Files appear whole or not at all; a video whose file is there
    is not labelled again.
    """
    import pyarrow.parquet as pq

    from gazepack.autogaze.devices import find_device
    from gazepack.errors import VideoError
    from gazepack.formats.storage import open_storage
    from gazepack.jobs import Segment, list_sources
    from gazepack.training.label_table import label_video
    from gazepack.video import Sampling

    where, storage, sampling = find_device(device), open_storage(out), Sampling(fps=fps)
    done = failed = frames = tokens = 0
    for segment in (Segment.from_row(row) for row in list_sources(sources).to_pylist()):
        name = f"{segment.key}.parquet"
        if storage.exists(name):
            continue
        try:
            table = label_video(
                as_video(segment),
                min_psnr=min_psnr,
                beyond=beyond,
                sampling=sampling,
                patch_size=patch_size,
                device=where,
            )
        except VideoError as error:
            failed += 1
            click.echo(f"failed: {error}", err=True)
            continue
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        storage.write_atomic(name, buffer.getvalue())
        done, frames = done + 1, frames + table.num_rows
        tokens += sum(table["kept"].to_pylist())
        click.echo(f"{one_line(segment.id)}: {counted(table.num_rows, 'frame')}", err=True)
    if as_json:
        print_json({"videos": done, "failed": failed, "frames": frames, "tokens": tokens})
    else:
        click.echo(
            f"{counted(done, 'video')} labelled, {failed} failed: {frames} frames, {tokens} tokens"
        )
    return SOME_FAILED if failed else 0
