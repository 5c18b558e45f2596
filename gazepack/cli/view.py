"""`gazepack view`: what the gaze saw, as a page, a picture or a film."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from gazepack.cli.options import as_json, epilog, print_json
from gazepack.errors import UsageError, VideoError, one_line

FRAMES = {".html": 96, ".png": 8}
"""Frames shown, unless told otherwise; a film shows all."""


@click.command(
    epilog=epilog(
        "gazepack view packed/ --out gaze.html",
        "gazepack view packed/ --out gaze.png --frames 4",
        "gazepack view packed/ talks/opening.mp4 --out gaze.mp4 --source videos/",
    )
)
@click.argument("uri")
@click.argument("key", required=False)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.html|.png|.mp4",
    help="What to write: a page to look into, a sheet of some frames, or a film of all.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="Where the videos are, if not where they were packed from.",
)
@click.option(
    "--view",
    "view_name",
    type=click.Choice(("tiles", "thumbnail")),
    default="tiles",
    show_default=True,
    help="Which view of the sample.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1, max=200),
    help="Frames on the page or sheet, spread evenly.  "
    f"[default: {FRAMES['.html']} on a page, {FRAMES['.png']} on a sheet]",
)
@as_json
def view(
    uri: str,
    key: str | None,
    out: Path,
    sources: tuple[str, ...],
    view_name: str,
    frames: int | None,
    as_json: bool,
) -> None:
    """Show one sample of the dataset at URI: the video, its chosen patches, and what they paint.

    KEY is a sample's key or the video's own id; the first sample if left out. Without the video, which is
    looked for where it was packed from, the first of the three pictures is missing. A page is one file of at
    most 16 MB that needs no network: a slider over the frames, and every token to click.
    """
    from gazepack.formats import DatasetDirectory
    from gazepack.jobs import SourcePatches
    from gazepack.viewing import Scene, find_listing, find_row, find_segment

    write = _writer(out, frames)
    directory = DatasetDirectory.open(uri)
    row = find_row(directory, key)
    if not directory.info.stores_patches:
        listing = find_listing(directory, sources)
        if listing is None:
            raise UsageError(f"{uri} stores places alone", remedy="name the videos with --source")
        directory = DatasetDirectory.open(uri, patches_from=SourcePatches.listed(listing))
    scene = Scene.of(directory, row, view_name=view_name)
    segment = find_segment(directory, row["id"], sources)
    if segment is None:
        click.echo("no source in the picture: no list says where the video is", err=True)
    try:
        shown = write(scene, out, segment=segment)
    except VideoError as error:
        if sources:
            raise UsageError(
                str(error), remedy="name the --source it was packed from, or leave --source out"
            ) from error
        click.echo(f"no source in the picture: {error}", err=True)
        segment = None
        shown = write(scene, out, segment=None)
    if as_json:
        source = None if segment is None else segment.uri
        print_json({"out": str(out), "key": row["key"], "frames": shown, "source": source})
    else:
        click.echo(f"{out}: {shown} of {row['frames']} frames of {one_line(row['id'])}")


def _writer(out: Path, frames: int | None) -> Callable[..., int]:
    """Return what writes a file of this ending.

    Raises:
        UsageError: nothing does, or it cannot show a number of frames.
    """
    from gazepack.viewing import write_film, write_page, write_sheet

    suffix = out.suffix.lower()
    if suffix == ".mp4":
        if frames is not None:
            raise UsageError(f"--frames {frames} is for .html and .png; a film shows every frame")
        return write_film
    writers = {".html": write_page, ".png": write_sheet}
    if suffix not in writers:
        raise UsageError(f"--out {out} ends in none of .html, .png and .mp4")
    return partial(writers[suffix], frames=frames or FRAMES[suffix])
