"""The exception tree: one line each, with the remedy and the exit code."""

import inspect
import pickle

import pytest

from gazepack import errors

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]
EXTRAS = {"stage": "decode", "place": "shards/000001.tar", "remedy": "look again"}


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.UsageError("p"), 2),
        (errors.SourceError("p"), 2),
        (errors.ProvenanceError("p"), 2),
        (errors.CheckpointError("p"), 2),
        (errors.StorageError("p"), 2),
        (errors.VideoError("p", stage="decode"), 3),
        (errors.DatasetError("p"), 4),
        (errors.NoDatasetError("p"), 2),
        (errors.FormatVersionError("p"), 2),
    ],
)
def test_exit_codes(error: errors.GazepackError, exit_code: int) -> None:
    """Each class is a GazepackError and leaves with the code of its kind."""
    assert isinstance(error, errors.GazepackError)
    assert exit_code == error.exit_code


def test_a_remedy_follows_the_problem() -> None:
    """The text is the problem, then the remedy, if there is one."""
    assert (
        str(errors.SourceError("no such folder", remedy="check the path"))
        == "no such folder; check the path"
    )
    assert str(errors.SourceError("no such folder")) == "no such folder"


def test_one_line() -> None:
    """A line break inside a message, say from a file's name, never reaches the terminal."""
    assert str(errors.VideoError("cannot read a\nb.mp4", stage="open")) == "cannot read a b.mp4"


def test_a_terminal_is_told_nothing_but_text() -> None:
    """What would move its cursor or colour its lines, say from a file's name, is written out; letters stay."""
    error = errors.VideoError("\x1b[2Jé \x9b漢🎬.mp4", stage="open")
    assert str(error) == "\\x1b[2Jé \\x9b漢🎬.mp4"


def test_a_place_leads() -> None:
    """A damaged dataset is named by its place first."""
    assert (
        str(errors.DatasetError("checksum differs", place="000001.tar"))
        == "000001.tar: checksum differs"
    )


def test_usage_error_is_a_value_error() -> None:
    """A setting that cannot be is also a ValueError, for users of the library."""
    with pytest.raises(ValueError, match="odd"):
        raise errors.UsageError("odd")


def test_no_other_error_is_a_value_error() -> None:
    """A damaged dataset is no wrong argument."""
    assert not isinstance(errors.DatasetError("p"), ValueError)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling(kind: type[errors.GazepackError]) -> None:
    """Every class of the tree comes back from pickling as it was: text, remedy, stage, place, exit code."""
    takes = inspect.signature(kind).parameters
    error = kind(
        "what was wrong", **{name: value for name, value in EXTRAS.items() if name in takes}
    )
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    assert type(back) is kind
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))
    assert back.exit_code == error.exit_code


def test_the_whole_tree_is_tried() -> None:
    """The classes above are those of the tree's drawing, no more and no fewer."""
    assert errors.__doc__ is not None
    assert all(kind.__name__ in errors.__doc__ for kind in KINDS)
    assert len(KINDS) == sum("Error" in line for line in errors.__doc__.splitlines())
