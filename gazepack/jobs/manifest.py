"""Manifests: tables of videos in CSV, JSON lines or Parquet, with the user's own columns carried along.

Anybody may have written them, so a value can be anything. A file that cannot be read is refused as a whole,
with its row or line; a value that cannot be used becomes the problem of its row.
"""

import csv
import io
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from gazepack.errors import DatasetError, SourceError
from gazepack.formats.index import table_from_bytes
from gazepack.formats.remote import filesystem, lasting, persistently, without_secrets
from gazepack.jobs.folders import absolute, size_of, suffix_of
from gazepack.jobs.segment import Segment, key_of, unicode_of

MANIFEST_SUFFIXES = frozenset((".csv", ".jsonl", ".ndjson", ".parquet"))
LISTS = frozenset((".json", ".list", ".lst", ".tsv", ".txt", ".xls", ".xlsx", ".yaml", ".yml"))
"""What lists are often called that no manifest is."""
COLUMNS = frozenset(("path", "id", "start", "end", "bytes"))
"""What a manifest says of a video; its other columns are the user's."""

_encode = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, allow_nan=False, default=str, check_circular=False
).encode


def read_manifest(source: str) -> list[Segment]:
    """Read the rows of a manifest."""
    try:
        fs, path = filesystem(source)
        data = persistently(lambda: fs.cat_file(path))
        rows = parse_manifest(data, suffix_of(source))
    except (OSError, ValueError, ImportError, csv.Error, DatasetError) as error:
        raise SourceError(
            without_secrets(f"manifest {source!r} cannot be read ({error})"),
            remedy="it must be CSV with a header, JSON lines or Parquet, in UTF-8",
        ) from error
    shown = without_secrets(source)
    if rows and "path" not in rows[0]:
        remedy = "name the column with the videos' paths 'path'"
        if len(rows[0]) == 1 and re.search("[;\t]", next(iter(rows[0]))):
            remedy = "put commas between the columns"
        raise SourceError(
            f"manifest {shown!r} has no column 'path', only {', '.join(map(repr, rows[0]))}",
            remedy=remedy,
        )
    if not rows:
        raise SourceError(f"manifest {shown!r} has no rows")
    folder = lasting(absolute(source)).rpartition("/")[0]
    return [_segment(row, folder) for row in rows]


def _segment(row: dict[str, Any], folder: str) -> Segment:
    """Turn one row into a segment; what is wrong with it becomes its `problem`."""
    path, problem = row.get("path"), None
    if not isinstance(path, str) or not path:
        path, problem = str(path or ""), "the manifest's row has no path"
    uri = path
    if "://" not in path and not os.path.isabs(path):  # noqa: PTH117 (the path may be of another system)
        uri = f"{folder}/{path}"
        if ".." in PurePosixPath(path).parts:
            problem = f"path {path!r} leaves the manifest's folder; write it as an absolute path"
    problem = problem and without_secrets(problem)
    times: dict[str, float | None] = {}
    for column in ("start", "end"):
        try:
            times[column] = seconds_of(row.get(column))
        except ValueError:
            held = repr(row[column])[:100]
            problem = f"column {column!r} holds {held}, which is not a number of seconds"
            times[column] = None
    start, end = times["start"], times["end"]
    if problem is None and end is not None and end <= (start or 0.0):
        problem = f"the manifest says end {end:g} s, which is not after start {start or 0:g} s"
    given = row.get("id")
    video_id = str(given) if given not in (None, "") else _range_id(lasting(path), start, end)
    user = without_secrets(user_json(row))
    shown, address, columns = map(unicode_of, (video_id, uri, user))
    if problem is None and (shown, address, columns) != (video_id, uri, user):
        problem = "the manifest's row holds half a character, such as \\ud83d; write it whole"
    return Segment(
        id=shown,
        key=key_of(shown),
        uri=address,
        bytes=size_of(row.get("bytes"), address),
        start_seconds=start,
        end_seconds=end,
        user=columns,
        problem=None if problem is None else unicode_of(f"{video_id!r}: {problem}"),
    )


def _range_id(path: str, start: float | None, end: float | None) -> str:
    if start is None and end is None:
        return path
    return f"{path}#{'' if start is None else f'{start:g}'}-{'' if end is None else f'{end:g}'}"


def parse_manifest(data: bytes, suffix: str) -> list[dict[str, Any]]:
    """Return the rows of a manifest.

    Args:
        data: the file.
        suffix: one of `MANIFEST_SUFFIXES`.

    Raises:
        ValueError: it is not what its name says; names the row or line.
        csv.Error: nor is it CSV.
        DatasetError: nor is it Parquet.
    """
    if suffix == ".parquet":
        rows: list[dict[str, Any]] = table_from_bytes(data, place="").to_pylist()
        return rows
    text = data.decode("utf-8-sig")
    return _csv_rows(text) if suffix == ".csv" else _json_rows(text)


def _csv_rows(text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    _check_header(reader.fieldnames or ())
    try:
        rows = list(reader)
    except csv.Error as error:
        problem = f"after line {reader.line_num}: {error}"
        if "field larger than field limit" in str(error):
            problem = (
                f"line {reader.line_num + 1} has a field of more than {csv.field_size_limit():,} characters, "
                "the most of a CSV; shorten it, close its quotes, or make it JSON lines or Parquet"
            )
        raise ValueError(problem) from error
    for number, row in enumerate(rows, start=1):
        if None in row:  # where the reader puts what has no name
            raise ValueError(f"row {number} has more columns than the header")
    return rows


def _check_header(names: Sequence[str]) -> None:
    """Refuse names of which one would be taken for another, or be overlooked."""
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ValueError(f"two columns are called {name!r}")
        if name != name.strip() and name.strip() in COLUMNS:
            raise ValueError(f"the column {name!r} has spaces around its name")


def _json_rows(text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines also splits inside texts
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object")
        rows.append(row)
    return rows


def user_json(row: dict[str, Any]) -> str:
    """Return the user's columns of a row as a JSON object; NaN and infinity, which JSON lacks, are null."""
    user = {name: value for name, value in row.items() if name not in COLUMNS}
    try:
        return _encode(user)
    except ValueError:
        return _encode(_finite(user))


def _finite(value: Any) -> Any:
    """Return a value with null in place of every number that is none."""
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def seconds_of(value: Any) -> float | None:
    """Return a time; `None` where there is none.

    Raises:
        ValueError: it is no number, or not one of seconds.
    """
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, OverflowError) as error:
        raise ValueError(value) from error
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(value)
    return seconds
