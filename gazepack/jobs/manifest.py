"""Manifests: tables of videos in CSV, JSON lines or Parquet, with the user's own columns carried along."""

import csv
import io
import json
import math
import os
from pathlib import Path, PurePosixPath
from typing import Any

from gazepack.errors import DatasetError, SourceError
from gazepack.formats.index import table_from_bytes
from gazepack.formats.remote import filesystem, lasting, persistently, without_secrets
from gazepack.jobs.folders import absolute, suffix_of
from gazepack.jobs.segment import Segment, key_of

MANIFEST_SUFFIXES = frozenset((".csv", ".jsonl", ".ndjson", ".parquet"))

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str).encode
_COLUMNS = frozenset(("path", "id", "start", "end", "bytes"))
"""What a manifest says of a video; its other columns are the user's."""


def read_manifest(source: str) -> list[Segment]:
    """Read the rows of a manifest."""
    try:
        fs, path = filesystem(source)
        data = persistently(lambda: fs.cat_file(path))
        rows = _parse(data, suffix_of(source))
    except (OSError, ValueError, RecursionError, ImportError, csv.Error, DatasetError) as error:
        raise SourceError(
            without_secrets(f"manifest {source!r} cannot be read ({error})"),
            remedy="it must be CSV with a header, JSON lines or Parquet, in UTF-8",
        ) from error
    shown = without_secrets(source)
    if rows and "path" not in rows[0]:
        raise SourceError(
            f"manifest {shown!r} has no column 'path', only {', '.join(map(repr, rows[0]))}",
            remedy="name the column with the videos' paths 'path'",
        )
    if not rows:
        raise SourceError(f"manifest {shown!r} has no rows")
    folder = lasting(absolute(source)).rpartition("/")[0]
    return [_segment(row, folder) for row in rows]


def _parse(data: bytes, suffix: str) -> list[dict[str, Any]]:
    if suffix == ".parquet":
        rows: list[dict[str, Any]] = table_from_bytes(data, place="").to_pylist()
        return rows
    text = data.decode("utf-8-sig")
    if suffix == ".csv":
        records = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        for number, record in enumerate(records, start=1):
            if None in record:  # where the reader puts what has no name
                raise ValueError(f"row {number} has more columns than the header")
        return records
    lines = [json.loads(line) for line in text.split("\n") if line.strip()]
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError("a line is not a JSON object")
    return lines


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
            times[column] = _seconds(row.get(column))
        except ValueError:
            problem = f"column {column!r} holds {row[column]!r}, which is not a number of seconds"
            times[column] = None
    start, end = times["start"], times["end"]
    if problem is None and end is not None and end <= (start or 0.0):
        problem = f"the manifest says end {end:g} s, which is not after start {start or 0:g} s"
    given = row.get("id")
    video_id = str(given) if given not in (None, "") else _range_id(lasting(path), start, end)
    user = {k: v for k, v in row.items() if k not in _COLUMNS}
    return Segment(
        id=video_id,
        key=key_of(video_id),
        uri=uri,
        bytes=_size(row.get("bytes"), uri),
        start_seconds=start,
        end_seconds=end,
        user=without_secrets(_encode(user)),
        problem=problem,
    )


def _seconds(value: Any) -> float | None:
    if value is None or value == "":
        return None
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(value)
    return seconds


def _range_id(path: str, start: float | None, end: float | None) -> str:
    if start is None and end is None:
        return path
    return f"{path}#{'' if start is None else f'{start:g}'}-{'' if end is None else f'{end:g}'}"


def _size(given: Any, uri: str) -> int:
    """Return the size of a file: as the manifest says, or as a local file has it.

    Returns:
        0 for a remote one, which is not asked row by row, and a missing one.
    """
    try:
        if given not in (None, ""):
            return max(0, int(given))
        return 0 if "://" in uri else Path(uri).stat().st_size
    except (OSError, ValueError):
        return 0
