"""The exception tree: one line each, with the remedy and the exit code."""

import pytest

from gazepack import errors


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
        (errors.FormatVersionError("p"), 4),
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
