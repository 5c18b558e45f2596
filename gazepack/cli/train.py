"""`gazepack train`: pre-training on greedy's choices, and post-training on painting error."""

from typing import Any

import click

from gazepack.cli.options import epilog
from gazepack.cli.trained import listed_videos, report_line


@click.group(
    epilog=epilog(
        "gazepack train ntp videos/ --out run/ --steps 20000",
        "gazepack train rl videos/ --init run/model --out better/",
    )
)
def train() -> None:
    """Train AutoGaze: first `ntp`, then `rl`."""


def _running(command: Any) -> Any:
    """Add the options of how and where a run goes."""
    for option in (
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--init", metavar="PATH|HUB_ID", help="Checkpoint to begin with."),
        click.option(
            "--out", required=True, type=click.Path(), help="Folder of the run: state, log, model/."
        ),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option("--learning-rate", type=float, help="At the top of the schedule."),
        click.option("--minutes", type=float, help="Length of the run in minutes."),
        click.option("--steps", type=int, help="Length of the run in steps."),
    ):
        command = option(command)
    return command


@train.command(
    epilog=epilog(
        "gazepack train ntp videos/ --out run/ --steps 20000",
        "gazepack train ntp my-cameras/ --out run/ --init some-model/ --minutes 30 --device cuda",
    )
)
@click.argument("sources", nargs=-1, required=True, metavar="VIDEOS...")
@_running
@click.option("--frames-per-step", type=int, help="Frames of a batch.  [default: 16]")
@click.option("--accumulate", type=int, help="Batches of a step.  [default: 1]")
@click.option("--layers", type=click.IntRange(1, 32), help="Of a new network.  [default: 2]")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Processes that cut and label clips ahead.",
)
def ntp(sources: tuple[str, ...], **options: Any) -> None:
    """Teach a network to choose what greedy painting chooses, and to know its own error in dB.

    The same command goes on with the run in --out. The model so far is in OUT/model.
    """
    from gazepack.training.ntp import NtpSettings
    from gazepack.training.runs import run_ntp

    settings = NtpSettings.parse(_given(options, NtpSettings.model_fields))
    run_ntp(
        listed_videos(sources),
        settings,
        out=options["out"],
        init=options["init"],
        device=options["device"],
        layers=options["layers"],
        num_workers=options["workers"],
        report=report_line,
    )
    click.echo(f"{options['out']}/model")


@train.command(
    epilog=epilog(
        "gazepack train rl videos/ --out run-rl/ --init run/model --steps 500",
        "gazepack train rl videos/ --out run-rl/ --init run/model --steps 500 --reward-features dinov2/",
    )
)
@click.argument("sources", nargs=-1, required=True, metavar="VIDEOS...")
@_running
@click.option("--group", type=int, help="Rollouts of each clip.  [default: 4]")
@click.option("--clips-per-step", type=int, help="Clips of a step.  [default: 4]")
@click.option("--token-price", type=float, metavar="DB", help="What a token costs.  [default: 0.1]")
@click.option(
    "--reward-features",
    metavar="DIR",
    help="Folder of a Hugging Face ViT to see the painting with.",
)
def rl(sources: tuple[str, ...], reward_features: str | None, **options: Any) -> None:
    """Let a pre-trained network try, and reward the rollouts that paint better than the others (GRPO)."""
    from gazepack.errors import UsageError
    from gazepack.training.grpo import RlSettings
    from gazepack.training.runs import run_rl

    if options["init"] is None:
        raise UsageError("rl begins with a trained network", remedy="give --init RUN/model")
    settings = RlSettings.parse(_given(options, RlSettings.model_fields))
    run_rl(
        listed_videos(sources),
        settings,
        out=options["out"],
        init=options["init"],
        device=options["device"],
        reward_features=reward_features,
        report=report_line,
    )
    click.echo(f"{options['out']}/model")


def _given(options: dict[str, Any], fields: Any) -> dict[str, Any]:
    """Return the options that are settings and were given."""
    return {name: x for name, x in options.items() if name in fields and x is not None}
