"""Every error a user can meet, in one tree.

    GazepackError                  one line, and a remedy
    ├── UsageError          exit 2 a setting that cannot be, also a ValueError
    ├── SourceError         exit 2 nothing to pack: a missing folder, an unreadable manifest, two equal ids
    ├── ProvenanceError     exit 2 the output directory holds a dataset of other settings or sources
    ├── CheckpointError     exit 2 weights that are missing, misshapen or of another geometry
    ├── DivergedError       exit 2 training met a loss that is no number
    ├── StorageError        exit 2 the output cannot be written: full disk, no permission, lost network
    ├── VideoError          exit 3 one video cannot be packed; it goes on record and the rest goes on
    └── DatasetError        exit 4 a dataset directory is damaged
        ├── NoDatasetError      exit 2 there is none at this address
        └── FormatVersionError  exit 2 it was written by a newer gazepack

The command line prints `str(error)` and leaves with `error.exit_code`; it prints no traceback for any of these.
All of them survive pickling, so they may be raised in one process and caught in another.
"""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Literal

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What could move a terminal's cursor or change its colours, as a stranger's file name may hold."""


def one_line(text: str) -> str:
    """Return a text for a terminal: on one line, with what could move its cursor written out."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], " ".join(text.split()))


def instead_of(name: str, known: Sequence[str], *, compared: Callable[[str], str] = str) -> str:
    """Return the remedy for a name that is none: the one that was probably meant, and all there are.

    Args:
        name: what somebody wrote.
        known: what there is.
        compared: what of a known name is compared with it.
    """
    alike = {compared(other): other for other in reversed(known)}
    near = get_close_matches(name, alike, n=1)
    meant = f"did you mean {alike[near[0]]!r}? " if near else ""
    return f"{meant}there are {', '.join(known)}"


Stage = Literal["open", "decode", "fit", "select", "encode"]


class GazepackError(Exception):
    """The root: what was wrong with which value, and what to do about it.

    Args:
        problem: one clause naming the thing and the value that was refused.
        remedy: one clause saying what to do; empty when there is nothing to say.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return one_line(f"{self.problem}; {self.remedy}" if self.remedy else self.problem)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[GazepackError], args: tuple[Any, ...]) -> GazepackError:
    """Return an error without its state, which the unpickler sets; no keyword has to be known."""
    return kind.__new__(kind, *args)


class UsageError(GazepackError, ValueError):
    """A setting that cannot be honoured."""

    exit_code = 2


class SourceError(GazepackError):
    """There is nothing to pack, or what was named cannot be listed."""

    exit_code = 2


class ProvenanceError(GazepackError):
    """The output directory already holds a dataset made with other settings or from other sources."""

    exit_code = 2


class CheckpointError(GazepackError):
    """Model weights that are missing, misshapen or of another geometry."""

    exit_code = 2


class DivergedError(GazepackError):
    """Training met a loss that is no number; the last checkpoint stands."""

    exit_code = 2


class StorageError(GazepackError):
    """The output cannot be written; what was committed before stays whole."""

    exit_code = 2


class VideoError(GazepackError):
    """One video cannot be packed.

    Args:
        problem: one clause naming the video and what is wrong with it.
        stage: the step that gave up.
        remedy: what the owner of the video can do.
    """

    exit_code = 3

    def __init__(self, problem: str, *, stage: Stage, remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.stage: Stage = stage


class DatasetError(GazepackError):
    """A dataset directory is damaged.

    Args:
        problem: what is wrong.
        place: where: the file, and the sample and field when they are known.
        remedy: what to do.
    """

    exit_code = 4

    def __init__(self, problem: str, *, place: str = "", remedy: str = "") -> None:
        super().__init__(f"{place}: {problem}" if place else problem, remedy=remedy)
        self.place = place


class NoDatasetError(DatasetError):
    """There is no dataset at an address: it is mistyped, or nothing was packed there yet."""

    exit_code = 2


class FormatVersionError(DatasetError):
    """The dataset was written in a format version that this gazepack does not know; it is not damaged."""

    exit_code = 2
