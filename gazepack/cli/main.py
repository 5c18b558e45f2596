"""The `gazepack` program: its commands, and what becomes of errors.

Command files import nothing heavy at the top; whatever a command needs is imported when it runs, so that
`gazepack --help` answers at once.
"""

import errno
import os
import signal
import sys
import traceback

import click

from gazepack import __version__
from gazepack.cli.bench import bench
from gazepack.cli.clean import clean
from gazepack.cli.convert import convert
from gazepack.cli.doctor import doctor
from gazepack.cli.evaluate import evaluate
from gazepack.cli.evaluate_qa import evaluate_qa
from gazepack.cli.failures import failures
from gazepack.cli.info import info
from gazepack.cli.label import label
from gazepack.cli.merge import merge
from gazepack.cli.options import EXIT_CODES, INTERRUPTED
from gazepack.cli.pack import pack
from gazepack.cli.plan import plan
from gazepack.cli.report import report
from gazepack.cli.retry import retry
from gazepack.cli.split import split
from gazepack.cli.status import status
from gazepack.cli.submit import submit
from gazepack.cli.train import train
from gazepack.cli.verify import verify
from gazepack.cli.view import view
from gazepack.errors import GazepackError, StorageError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gazepack")
def cli() -> None:
    """Pack videos into sparse multi-scale patches, once, and train on 4 to 100 times fewer tokens."""


for _command in (
    plan,
    pack,
    submit,
    status,
    info,
    verify,
    failures,
    retry,
    clean,
    view,
    report,
    bench,
    convert,
    merge,
    split,
    label,
    train,
    evaluate,
    evaluate_qa,
    doctor,
):
    cli.add_command(_command)


def main() -> None:
    """Run the program and leave with its exit code."""
    code = run()
    # all is said and put away: a second Ctrl-C ends the process, not the libraries as they are taken down
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: without the program's name; those of the process if `None`.

    Returns:
        The exit code; see `EXIT_CODES`.
    """
    try:
        # click leaves colours out where stdout is no terminal; NO_COLOR (no-color.org) leaves them out anywhere
        colour = False if os.environ.get("NO_COLOR") else None
        code = cli.main(arguments, prog_name="gazepack", standalone_mode=False, color=colour)
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except GazepackError as error:
        click.echo(f"gazepack: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "gazepack: interrupted; the same command goes on where this one stopped", err=True
        )
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            # what is printed, or what a library keeps in its own files; a dataset's are a StorageError
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"gazepack: {where}{error.strerror}; free some space", err=True)
            return StorageError.exit_code
        traceback.print_exc()
        click.echo("gazepack: this is a bug; please report it with the lines above", err=True)
        return GazepackError.exit_code
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
