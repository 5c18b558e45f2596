"""`gazepack pack`: videos in, a dataset out."""

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gazepack.api import PLACES, placed
from gazepack.cli.options import Size, as_json, epilog
from gazepack.cli.running import Command, crew_of, pack_pending, running_options
from gazepack.errors import UsageError

if TYPE_CHECKING:
    from gazepack.jobs import PackSettings

SETTINGS = tuple(PLACES)
"""The names of the options that decide the bytes."""


class Ratios(click.ParamType[float | list[float]]):
    """One gazing ratio, or several with commas between."""

    name = "ratio[,ratio...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | list[float]:
        """Read it."""
        try:
            ratios = [float(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is not a number, or numbers with commas between", param, ctx)
        return ratios if len(ratios) > 1 else ratios[0]


_OPTIONS = (
    click.option(
        "--preset",
        metavar="NAME",
        help="Settings of a model, such as siglip2-base-p16-224 or qwen2.5-vl; other options go first.",
    ),
    click.option(
        "--fps", type=float, help="Frames per second of video time.  [default: every frame]"
    ),
    click.option("--num-frames", type=int, help="Frames per video, spread evenly."),
    click.option("--start", type=float, metavar="SECONDS", help="Where every video starts."),
    click.option("--end", type=float, metavar="SECONDS", help="Where every video ends."),
    click.option(
        "--fit",
        type=click.Choice(("tiles", "square")),
        help="Grid of tiles of the closest aspect ratio, or one tile.  [default: tiles]",
    ),
    click.option("--max-tiles", type=int, help="The most tiles of a frame.  [default: 8]"),
    click.option(
        "--thumbnail", is_flag=True, default=None, help="Also see the whole frame in one tile."
    ),
    click.option(
        "--thumbnail-every",
        type=int,
        metavar="N",
        help="Keep all finest patches of the thumbnail, of every N-th frame: 1, 2, 4, 8 or 16.  "
        "[default: it is gazed at like the tiles, every frame]",
    ),
    click.option(
        "--patch-size", type=int, metavar="PIXELS", help="Side of a patch.  [default: 16]"
    ),
    click.option(
        "--selector",
        type=click.Choice(("autogaze", "greedy", "difference", "random", "all")),
        help="Who chooses the patches.  [default: autogaze]",
    ),
    click.option("--model", metavar="PATH|URI|HUB_ID", help="Checkpoint of autogaze."),
    click.option(
        "--gazing-ratio",
        type=Ratios(),
        help="The most tokens of a frame as a share of 265 a tile; several go frame by frame through a clip.",
    ),
    click.option(
        "--loss-threshold",
        type=float,
        help="autogaze stops at a frame once the loss it predicts is this low.",
    ),
    click.option(
        "--min-psnr",
        type=float,
        metavar="DB",
        help="Painting error that every frame is topped up to meet.  "
        "[default: 30, where nothing else ends a frame]",
    ),
    click.option("--seed", type=int, help="Of the random selector.  [default: 0]"),
    click.option(
        "--format",
        type=click.Choice(("webdataset", "arrow")),
        help="What the shards are: tar or Arrow files.  [default: webdataset]",
    ),
    click.option(
        "--store",
        type=click.Choice(("patches", "places")),
        help="places: no patches, which are cut from the videos when they are read.  [default: patches]",
    ),
    click.option(
        "--codec",
        type=click.Choice(("jpeg", "zstd", "webp", "png", "raw")),
        help="How patches are stored; all but jpeg lose nothing.  [default: jpeg]",
    ),
    click.option("--quality", type=int, help="Of jpeg.  [default: 95]"),
    click.option(
        "--samples-per-shard", type=int, help="The most videos in a shard.  [default: 256]"
    ),
    click.option(
        "--shard-size",
        type=Size(),
        help="The most bytes of source videos behind a shard.  [default: 4GiB]",
    ),
    click.option(
        "--max-sample-tokens",
        type=int,
        help="Where a long video goes on in a further sample.  [default: 65536]",
    ),
    click.option(
        "--split-seconds",
        metavar="SECONDS|never",
        help="Longer videos are shared out among workers in parts of about this length.  [default: 600]",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="TOML or JSON file of these settings; options given here go first.",
    ),
)


def settings_options(command: Command) -> Command:
    """Add the options that `settings_from` reads: everything that decides the bytes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    epilog=epilog(
        "gazepack pack videos/ --out packed/",
        "gazepack pack --out packed/  # goes on, without listing the sources again",
        "gazepack pack manifest.csv --out s3://bucket/packed --fps 2 --min-psnr 30",
        "gazepack pack videos/ --out packed/ --selector autogaze --model nvidia/AutoGaze "
        "--gazing-ratio 0.75 --loss-threshold 0.7",
    )
)
@click.argument("sources", nargs=-1, metavar="[SOURCE...]")
@click.option(
    "--out", required=True, metavar="URI", help="Dataset directory to make or go on with."
)
@settings_options
@running_options
@as_json
def pack(
    sources: tuple[str, ...],
    out: str,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Pack videos into a dataset of their patches that matter.

    SOURCE is a video, a folder, a glob, or a manifest (.csv, .jsonl, .parquet) with a column `path` and, if
    it likes, `id`, `start`, `end` in seconds, `bytes` and columns of its own. Running the same command again
    goes on where the last one stopped, and does nothing when all is packed. Without SOURCE it goes on with the
    list of videos that the first run froze, and with its settings unless some are given.
    """
    from gazepack.jobs import begun_settings, build_selector, open_run

    crew = crew_of(options)
    crew.check()
    given = {name for name, value in options.items() if value is not None}
    if sources or config or given - {"model"}:
        settings = settings_from(config, options)
    else:
        settings = begun_settings(out, model=options["model"])
    selector = build_selector(settings.selector, device=crew.own_device)
    how = crew.own_decoders
    run = open_run(sources, out, settings=settings, selector=selector, how=how)
    return pack_pending(run, crew, as_json=as_json)


def settings_from(config: Path | None, options: dict[str, Any]) -> "PackSettings":
    """Return the settings of a configuration file with the given options over them, and a preset under both.

    Raises:
        UsageError: one cannot be; names the file unless the options alone are refused for the same.
    """
    from gazepack.jobs import PackSettings

    if config is None:
        return PackSettings.parse(placed(options, {}))
    values = _read_config(config)
    try:
        return PackSettings.parse(placed(options, values))
    except UsageError as error:
        if _refused(options) == str(error):
            raise
        raise UsageError(f"{config}: {error.problem}", remedy=error.remedy) from None


def _refused(options: dict[str, Any]) -> str | None:
    """Return why the options cannot be, without any file; `None` if they can."""
    from gazepack.jobs import PackSettings

    try:
        PackSettings.parse(placed(options, {}))
    except UsageError as error:
        return str(error)
    return None


def _read_config(config: Path) -> dict[str, Any]:
    """Read a TOML or JSON file."""
    try:
        text = config.read_text(encoding="utf-8")
        values = json.loads(text) if config.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"--config {config} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"--config {config} is neither TOML nor JSON ({error})") from None
    if not isinstance(values, dict):
        raise UsageError(f"--config {config} does not hold a table of settings")
    return values
