"""`gazepack doctor`: what of this machine works, and what to do about the rest."""

from dataclasses import asdict

import click

from gazepack.cli.options import as_json, epilog, print_json
from gazepack.errors import UsageError

_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


@click.command(epilog=epilog("gazepack doctor", "gazepack doctor s3://bucket/packed --json"))
@click.argument("uri", required=False)
@as_json
def doctor(uri: str | None, as_json: bool) -> int:
    """Try what packing will need: CUDA, codecs, the network, Ray, and the storage at URI.

    A remote URI is written to: one small object is put, listed, read and deleted again. Without URI the disk of
    this folder is looked at. Ends with 2 if something is bad; a note is no failure.
    """
    from gazepack.jobs.doctor import examine

    found = []
    for check in examine(uri):
        found.append(check)
        if not as_json:
            click.echo(f"{click.style(f'{check.verdict:<5}', _COLOURS[check.verdict])} ", nl=False)
            click.echo(f"{check.name}: {check.says}")
            if check.remedy:
                click.echo(f"      {check.remedy}")
    healthy = all(check.verdict != "bad" for check in found)
    if as_json:
        print_json({"healthy": healthy, "checks": [asdict(check) for check in found]})
    return 0 if healthy else UsageError.exit_code
