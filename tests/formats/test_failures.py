"""The ledger of failures."""

from dataclasses import replace

import pyarrow as pa
import pytest

from gazepack.errors import DatasetError
from gazepack.formats.failures import Failure, failures_from_bytes, failures_to_bytes
from gazepack.formats.index import table_to_bytes

FAILURE = Failure(
    id="a\nb", uri="/x/ü.mp4", stage="open", error="VideoError", message="cut", attempts=2
)


def test_they_come_back():
    """Every field is a column, in order."""
    table = failures_from_bytes(failures_to_bytes([FAILURE]), place="f")
    assert table.to_pylist() == [
        {
            "id": "a\nb",
            "uri": "/x/ü.mp4",
            "stage": "open",
            "error": "VideoError",
            "message": "cut",
            "attempts": 2,
            "window": 0,
        }
    ]


def test_parts_of_a_video_are_told_apart():
    """The column `window` is stored as soon as a part failed, and only then."""
    part = replace(FAILURE, window=600)
    stored = failures_to_bytes([FAILURE, part])
    assert failures_from_bytes(stored, place="f")["window"].to_pylist() == [0, 600]
    assert b"window" in stored
    assert b"window" not in failures_to_bytes([FAILURE])


def test_names_that_are_not_unicode_are_kept_visible():
    """A file name with a bad byte cannot lose its row."""
    failure = Failure(id="a\udc80", uri="u", stage="open", error="E", message="m", attempts=1)
    table = failures_from_bytes(failures_to_bytes([failure]), place="f")
    assert table["id"].to_pylist() == ["a\\udc80"]


def test_garbage_is_damage():
    """What is no Parquet file is a DatasetError with its place."""
    with pytest.raises(DatasetError, match=r"failures/000000\.parquet: not a readable Parquet"):
        failures_from_bytes(b"PAR1garbagePAR1", place="failures/000000.parquet")


def test_other_columns_are_damage():
    """A Parquet file of something else is a DatasetError."""
    table = failures_from_bytes(failures_to_bytes([FAILURE]), place="f").drop(["uri"])
    with pytest.raises(DatasetError, match="not those of a failures file"):
        failures_from_bytes(table_to_bytes(table), place="f")


def test_other_rows_than_were_written_are_damage():
    """Rows that their own checksum does not know are a DatasetError; without one they are taken as they are."""
    written = failures_from_bytes(failures_to_bytes([FAILURE]), place="f")
    changed = written.set_column(1, written.schema.field("uri"), pa.array(["other.mp4"]))
    with pytest.raises(DatasetError, match="f: its rows are not those that were written"):
        failures_from_bytes(table_to_bytes(changed), place="f")
    bare = failures_from_bytes(table_to_bytes(changed.replace_schema_metadata()), place="f")
    assert bare["uri"].to_pylist() == ["other.mp4"]
