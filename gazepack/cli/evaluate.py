"""`gazepack evaluate`: is a network worth more than greedy, difference and random?"""

from pathlib import Path

import click

from gazepack.cli.options import as_json, epilog, print_json
from gazepack.cli.trained import listed_videos


@click.command(
    epilog=epilog(
        "gazepack evaluate videos/ --model run/model",
        "gazepack evaluate videos/ --model run/model --side 224 --side 448 --fps 4 --out report/",
    )
)
@click.argument("sources", nargs=-1, required=True, metavar="VIDEOS...")
@click.option("--model", required=True, metavar="PATH|HUB_ID", help="Checkpoint to judge.")
@click.option(
    "--min-psnr",
    "bounds",
    type=click.FloatRange(10, 60),
    multiple=True,
    metavar="DB",
    help="Bound to compare at; may be repeated.  [default: 26, 30, 34]",
)
@click.option(
    "--side",
    "sides",
    type=int,
    multiple=True,
    metavar="PIXELS",
    help="Side of the centre crop, a multiple of 224; may be repeated.  [default: 224]",
)
@click.option(
    "--fps",
    "rates",
    type=float,
    multiple=True,
    help="Frames per second of video time; may be repeated.  [default: every frame]",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for evaluation.md, evaluation.svg and evaluation.json.",
)
@as_json
def evaluate(
    sources: tuple[str, ...],
    model: str,
    bounds: tuple[float, ...],
    sides: tuple[int, ...],
    rates: tuple[float, ...],
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare MODEL with greedy, difference and random on the first 16 frames of VIDEOS.

    Every frame is brought to the bound: autogaze stops where it predicts it and is topped up greedily, the
    others take their tokens one by one. Printed are the tokens, those that the network needs without greedy's
    help, how far it misjudges its own error, the scales used, and what a repeated frame costs.
    """
    import json

    from gazepack.autogaze import AutoGaze
    from gazepack.autogaze.devices import find_device
    from gazepack.formats.storage import open_storage
    from gazepack.training.evaluate import BOUNDS, View
    from gazepack.training.evaluate import evaluate as measure
    from gazepack.training.report import to_json, to_markdown, to_svg

    views = [View(side=side, fps=fps) for side in sides or (224,) for fps in rates or (None,)]
    network = AutoGaze.from_pretrained(model, device=find_device(device))
    evaluation = measure(
        network,
        listed_videos(sources),
        name=model,
        bounds=bounds or BOUNDS,
        views=views,
        progress=lambda line: click.echo(line, err=True),
    )
    if out is not None:
        storage = open_storage(str(out))
        storage.write_atomic("evaluation.md", to_markdown(evaluation).encode())
        storage.write_atomic("evaluation.svg", to_svg(evaluation).encode())
        storage.write_atomic("evaluation.json", json.dumps(to_json(evaluation), indent=1).encode())
    if as_json:
        print_json(to_json(evaluation))
    else:
        click.echo(to_markdown(evaluation), nl=False)
