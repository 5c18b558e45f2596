"""What the commands share: the table of exit codes, an output as JSON, sizes as options."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gazepack.units import counted

Command = TypeVar("Command", bound=Callable[..., Any] | click.Command)


INTERRUPTED = 130
SOME_FAILED = 3
DAMAGED = 4

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a bug in gazepack
  2    wrong usage, or input that cannot be used
  3    done, but some videos failed; see `gazepack failures`
  4    the dataset is damaged
  130  interrupted; the same command goes on
"""

as_json: Callable[[Command], Command] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object to stdout."
)


decode_device: Callable[[Command], Command] = click.option(
    "--decode-device",
    default="cpu",
    show_default=True,
    metavar="cpu|cuda[:N]",
    help="Where H.264, HEVC, VP8 and VP9 are decoded, to the same bytes; other videos fall back to the CPU.",
)


def fallback_line(num_videos: int, device: str) -> str:
    """Say how many videos were not decoded where they were to be."""
    videos = f"{counted(num_videos, 'video')} {'was' if num_videos == 1 else 'were'}"
    return f"{videos} decoded by the CPU, as {device} has no exact decoder for them"


def epilog(*examples: str) -> str:
    """Return what stands below a command's options: its examples and the exit codes."""
    lines = "\n".join(f"  {example}" for example in examples)
    title = "Example:" if len(examples) == 1 else "Examples:"
    return f"\b\n{title}\n{lines}\n\n{EXIT_CODES}"


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object to stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class Size(click.ParamType[int]):
    """A number of bytes such as 500MB or 4GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        text = str(value).strip()
        number = text.rstrip("BbKkMmGgTtIi ")
        factor = _UNITS.get(text[len(number) :].strip().upper())
        try:
            result = int(float(number) * (factor or 0))
        except (ValueError, OverflowError):
            result = 0
        if result < 1:
            self.fail(f"{text!r} is not a size such as 500MB or 4GiB", param, ctx)
        return result
