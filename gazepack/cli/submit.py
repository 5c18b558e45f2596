"""`gazepack submit`: the same as `pack`, as a job of a Ray cluster."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from gazepack.cli.options import INTERRUPTED, as_json, epilog, print_json
from gazepack.cli.pack import SETTINGS, pack, settings_from
from gazepack.errors import UsageError

DASHBOARD = "http://127.0.0.1:8265"


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog=epilog(
        "gazepack submit s3://corpus/videos.parquet --out s3://corpus/packed --workers 4:64",
        "gazepack submit /nfs/videos --out /nfs/packed --dashboard http://head:8265 --no-wait",
        "gazepack submit s3://corpus/ --out s3://packed/ --env AWS_PROFILE --wheel dist/gazepack-*.whl",
    ),
)
@click.argument(
    "arguments", nargs=-1, type=click.UNPROCESSED, metavar="[SOURCE...] --out URI [PACK OPTIONS]"
)
@click.option(
    "--dashboard",
    envvar="RAY_API_SERVER_ADDRESS",
    default=DASHBOARD,
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="Of the cluster.",
)
@click.option(
    "--wheel",
    type=click.Path(path_type=Path),
    help="The gazepack to run.  [default: the one that is installed here]",
)
@click.option(
    "--env",
    "names",
    multiple=True,
    metavar="NAME",
    help="A variable of this environment to pass on. Whoever reaches the dashboard can read it.",
)
@click.option(
    "--wait/--no-wait", default=True, help="Show the job's log until it ends.  [default: wait]"
)
@as_json
def submit(
    arguments: tuple[str, ...],
    dashboard: str,
    wheel: Path | None,
    names: tuple[str, ...],
    wait: bool,
    as_json: bool,
) -> int:
    """Run `gazepack pack` on a cluster, with the gazepack that is installed here.

    Takes all arguments of `pack`, and ends with the exit code that the job ends with. Sources, --out and
    --model must be URIs, or absolute paths that all machines of the cluster have; a --config file is sent
    along. The machines need gazepack's dependencies. Ctrl-C leaves the job running.
    """
    params = _checked(arguments)
    from gazepack.jobs.executors import submission

    environment = submission.values_of(names)
    with tempfile.TemporaryDirectory(prefix="gazepack-submit-") as place:
        folder = Path(place)
        submission.ship(folder, wheel=wheel)
        line = ["pack", *arguments, "--executor", "ray", "--ray-address", "auto"]
        if params["config"] is not None:
            sent = folder / f"settings{params['config'].suffix}"
            shutil.copyfile(params["config"], sent)
            line += ["--config", sent.name]
        job = submission.submit(dashboard, arguments=line, folder=folder, environment=environment)
    click.echo(f"follow: {job.line('logs --follow')}\nstop:   {job.line('stop')}", err=True)
    result: dict[str, Any] = {"submission_id": job.id, "dashboard": dashboard}
    if wait:
        try:
            result["exit_code"] = job.wait(lambda lines: click.echo(lines, nl=False, err=as_json))
        except KeyboardInterrupt:
            click.echo("gazepack: the job goes on; see above how to follow or stop it", err=True)
            return INTERRUPTED
    if as_json:
        print_json(result)
    elif not wait:
        click.echo(job.id)
    return int(result.get("exit_code", 0))


def _checked(arguments: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of `pack` as it reads them, and refuse what cannot work on another machine.

    Raises:
        UsageError: a setting that cannot be, or a place that only this machine knows.
        ClickException: what `pack` itself would say.
    """
    if "--" in arguments:
        raise UsageError("submit does not know what '--' is for", remedy="name sources as ./-name")
    params = pack.make_context("gazepack pack", list(arguments)).params
    if params["executor"] == "serial":
        raise UsageError("--executor serial is not for a cluster", remedy="leave --executor out")
    if params["ray_address"] is not None:
        raise UsageError(
            f"--ray-address {params['ray_address']} is what the job finds out itself",
            remedy="name the cluster with --dashboard",
        )
    for place in (*params["sources"], params["out"]):
        _check_secrets(place)
        if "://" not in place and not Path(place).is_absolute():
            raise UsageError(
                f"{place!r} is a path from here, and the job runs elsewhere",
                remedy="give a URI, or an absolute path that all machines of the cluster have",
            )
    options = {name: params[name] for name in SETTINGS}
    model = settings_from(params["config"], options).selector.model
    if model is None:
        return params
    _check_secrets(model)
    if not Path(model).is_absolute() and Path(model).exists():
        raise UsageError(
            f"the model {model!r} is a path from here, and the job runs elsewhere",
            remedy="copy it to a URI or to an absolute path that all machines of the cluster have",
        )
    return params


def _check_secrets(place: str) -> None:
    """Refuse a place with a password or a signature in it.

    Raises:
        UsageError: it has one; the message does not repeat it.
    """
    from gazepack.formats.remote import without_secrets

    if without_secrets(place) != place:
        raise UsageError(
            f"{without_secrets(place)!r} carries a secret, and the dashboard shows it to everybody",
            remedy="name a place that the machines' own role or a variable given with --env opens",
        )
