"""What to pack: files, folders, globs and manifests, listed once into one table.

The table is sorted by id, and every decision that follows (which shard, which key) is made from it and
nothing else, so the order in which a file system lists its files never shows in the output.

An id is a path below the folder that was named, or the manifest's own `id`; a key is an id made safe for
file names. What cannot be packed for its name alone stays in the table with its `problem`, and goes on
record with the other failures when its turn comes.
"""

import csv
import glob
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from gazepack.errors import DatasetError, SourceError
from gazepack.formats.index import table_from_bytes
from gazepack.formats.remote import (
    filesystem,
    has_secrets,
    lasting,
    persistently,
    without_secrets,
)
from gazepack.geometry import CLIP_FRAMES
from gazepack.video import Part

_SUFFIXES = (
    ".3gp .264 .265 .asf .avi .f4v .flv .gif .h264 .h265 .hevc .ivf .m2ts .m4v .mkv .mov .mp4 .mpeg "
    ".mpg .mts .mxf .obu .ogv .ps .ts .vob .webm .wmv .y4m"
)
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())
"""What is taken from a folder. A file that is named itself is tried whatever its suffix."""
MANIFEST_SUFFIXES = frozenset((".csv", ".jsonl", ".ndjson", ".parquet"))

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("start_seconds", pa.float64()),
        pa.field("end_seconds", pa.float64()),
        pa.field("user", pa.string(), nullable=False),
        pa.field("problem", pa.string()),
        pa.field("first_clip", pa.int32(), nullable=False),
        pa.field("num_clips", pa.int32()),
        pa.field("part_start_seconds", pa.float64()),
        pa.field("part_end_seconds", pa.float64()),
        pa.field("part_bytes", pa.int64()),
        pa.field("pixels", pa.float64()),
    ]
)
NUM_LISTED = SCHEMA.get_field_index("first_clip")
"""So many columns say what was listed; the others are filled in by `parts.py`, after a look into long files."""

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str).encode
_COLUMNS = frozenset(("path", "id", "start", "end", "bytes"))
"""What a manifest says of a video; its other columns are the user's."""
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,150}")
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,5}$")
_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")
_WINDOW = re.compile(r"_w\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One row of the table: a video, a time range of one, or a part of either."""

    id: str
    """The user's name for it; unique."""
    key: str
    """The id made safe for file names; unique."""
    uri: str
    """Where the file is: a local path or an fsspec URI."""
    bytes: int
    """Size of the file; 0 if unknown."""
    start_seconds: float | None = None
    """Where the segment starts; the start of the video if `None`."""
    end_seconds: float | None = None
    """Where the segment ends; the end of the video if `None`."""
    user: str = "{}"
    """The manifest's other columns, as a JSON object."""
    problem: str | None = None
    """Why it cannot be packed, when its name or row alone says so."""
    first_clip: int = 0
    """Where a part begins among the clips of its segment."""
    num_clips: int | None = None
    """The clips of a part; all that follow if `None`."""
    part_start_seconds: float | None = None
    """Where a part begins; `None` if this is a whole segment."""
    part_end_seconds: float | None = None
    """Where the part behind it begins; `None` if there is none."""
    part_bytes: int | None = None
    """The part's share of the file."""
    pixels: float | None = None
    """What decoding it takes, counted in pixels of all its frames; `None` if nobody looked."""

    @property
    def name(self) -> str:
        """The id, and of a part where it begins; unique."""
        at = self.part_start_seconds
        return self.id if at is None else f"{self.id} from {at:g} s"

    @property
    def shown_uri(self) -> str:
        """Where the file is, for people and files: without passwords and signatures."""
        return without_secrets(self.uri)

    @property
    def part(self) -> Part | None:
        """What to decode of the segment; all of it if `None`."""
        if self.part_start_seconds is None:
            return None
        return Part(
            first_frame=self.first_clip * CLIP_FRAMES,
            num_frames=None if self.num_clips is None else self.num_clips * CLIP_FRAMES,
            start_seconds=self.part_start_seconds,
            end_seconds=self.part_end_seconds,
        )

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Segment":
        """Read a row of the table."""
        return cls(**row)


def list_sources(sources: Sequence[str]) -> pa.Table:
    """List files, folders, globs and manifests.

    Args:
        sources: local paths or URIs. A folder is walked; a glob is expanded; a `.csv`, `.jsonl` or `.parquet`
            is a manifest with a column `path`, and if it likes `id`, `start`, `end` (seconds), `bytes` (size of
            a remote file, which is not asked for) and any others.

    Returns:
        A table of `SCHEMA`, sorted by id.

    Raises:
        SourceError: something named does not exist, holds no video or cannot be read; two equal ids.
    """
    segments: list[Segment] = []
    files: list[_File] = []
    for source in sources:
        if _suffix(source) in MANIFEST_SUFFIXES:
            segments += _read_manifest(source)
        else:
            files += _list_files(source)
    segments += _name_files(files)
    if not segments:
        raise SourceError(
            f"no video in {', '.join(map(repr, sources))}",
            remedy=f"name files, or folders that hold any of {' '.join(sorted(VIDEO_SUFFIXES))}",
        )
    return _table(segments)


def _suffix(source: str) -> str:
    """Return how a path or URI ends, not counting a URI's query."""
    path = source.split("?", 1)[0] if "://" in source else source
    return PurePosixPath(path).suffix.lower()


def _table(segments: list[Segment]) -> pa.Table:
    """Sort, refuse equal ids, and make the table."""
    segments.sort(key=lambda segment: segment.id.encode())
    seen: dict[str, Segment] = {}
    for segment in segments:
        other = seen.setdefault(segment.key, segment)
        if other is not segment:
            raise SourceError(
                f"two videos have the id {segment.id!r}: {other.shown_uri!r} and {segment.shown_uri!r}",
                remedy="give each row its own value in the manifest's column 'id'",
            )
    listed, later = list(SCHEMA)[:NUM_LISTED], list(SCHEMA)[NUM_LISTED + 1 :]
    columns = [pa.array([getattr(s, field.name) for s in segments], field.type) for field in listed]
    columns.append(pa.array(np.zeros(len(segments), np.int32)))
    columns += [pa.nulls(len(segments), field.type) for field in later]
    return pa.table(columns, schema=SCHEMA)


def key_of(video_id: str) -> str:
    """Return the key of an id: itself if it is safe and looks like no other key, else a slug and a hash."""
    if _SAFE_ID.fullmatch(video_id) and not _WINDOW.search(video_id):
        return video_id
    digest = hashlib.blake2b(video_id.encode(), digest_size=6).hexdigest()
    slug = _UNSAFE.sub("-", _ENDING.sub("", video_id)).strip("-")[-80:]
    return f"{slug}-{digest}" if slug else digest


# -------------------------------------------------------------------------------------- files and folders


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    uri: str
    bytes: int
    root: str
    """The folder that was named, or the one that a named file lies in."""


def _list_files(source: str) -> list[_File]:
    """List one file, folder or glob."""
    return _list_remote(source) if "://" in source else _list_local(source)


def _list_local(source: str) -> list[_File]:
    path = Path(source)
    try:
        if path.is_dir():
            found = [_File(uri=str(f), bytes=f.stat().st_size, root=str(path)) for f in _walk(path)]
            if not found:
                raise SourceError(
                    f"folder {source!r} holds no video",
                    remedy=f"gazepack takes {' '.join(sorted(VIDEO_SUFFIXES))} from folders",
                )
            return found
        matches = (
            [path]
            if path.exists()
            else [
                Path(m)
                for m in glob.glob(source, recursive=True)  # noqa: PTH207 (it takes any path)
            ]
        )
        matches = [match for match in matches if match.is_file()]
        if not matches:
            raise SourceError(f"{source!r} does not exist", remedy="check the path")
        return [
            _File(uri=str(f), bytes=f.stat().st_size, root=str(f.parent)) for f in sorted(matches)
        ]
    except OSError as error:
        raise SourceError(f"{source!r} cannot be listed ({error.strerror})") from error


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                yield path


def _list_remote(source: str) -> list[_File]:
    try:
        fs, path = filesystem(source)
        found, root = persistently(lambda: _find_remote(fs, path))
    except Exception as error:  # storage clients have exceptions of their own
        raise SourceError(
            without_secrets(f"{source!r} cannot be listed ({error or type(error).__name__})"),
            remedy="check the address, the credentials and the network",
        ) from error
    if not found:
        raise SourceError(
            without_secrets(f"{source!r} holds no video"),
            remedy="check the address and the credentials",
        )
    protocol = source.split("://", 1)[0]
    return [
        _File(
            uri=_address(protocol, p),
            bytes=i.get("size") or 0,
            root=lasting(_address(protocol, root)),
        )
        for p, i in sorted(found.items())
    ]


def _find_remote(fs: fsspec.AbstractFileSystem, path: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the files of one place with what is known of each, and the folder that they lie in."""
    magic = None if has_secrets(path) else re.search(r"[*?[]", path)  # a signed URL is one file
    if magic and not fs.exists(path):
        matches = fs.glob(path, detail=True)
        found = {p: info for p, info in matches.items() if info["type"] == "file"}
        return found, path[: magic.start()].rpartition("/")[0]
    if fs.isfile(path):
        return {path: fs.info(path)}, lasting(path).rpartition("/")[0]
    listed = fs.find(path, detail=True)
    return {p: info for p, info in listed.items() if _has_video_suffix(p)}, path.rstrip("/")


def _address(protocol: str, path: str) -> str:
    """Return the URI of a client's path; some clients (http) keep the protocol in it."""
    return path if "://" in path else f"{protocol}://{path}"


def _has_video_suffix(path: str) -> bool:
    return _suffix(path) in VIDEO_SUFFIXES


def _name_files(files: Iterable[_File]) -> Iterator[Segment]:
    """Give each file the id that is its path below everything that was named."""
    unique = {_absolute(file.uri): file for file in files}
    if not unique:
        return
    common = _common_folder([_absolute(file.root) for file in unique.values()])
    for absolute, file in unique.items():
        name = lasting(absolute)[len(common) :].lstrip("/")
        shown = name.encode("utf-8", "backslashreplace").decode()
        uri = absolute.encode("utf-8", "backslashreplace").decode()
        segment = Segment(id=shown, key=key_of(shown), uri=uri, bytes=file.bytes)
        if shown != name:
            segment = replace(segment, problem=f"file name {shown!r} is not UTF-8; rename it")
        yield segment


def _absolute(uri: str) -> str:
    return uri if "://" in uri else os.path.abspath(uri)  # noqa: PTH100 (resolve would follow links)


def _common_folder(folders: Sequence[str]) -> str:
    """Return the longest run of whole path parts that all folders begin with."""
    parts = zip(*(folder.rstrip("/").split("/") for folder in folders), strict=False)
    return "/".join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts))


# ---------------------------------------------------------------------------------------------- manifests


def _read_manifest(source: str) -> list[Segment]:
    """Read the rows of a manifest."""
    try:
        fs, path = filesystem(source)
        data = persistently(lambda: fs.cat_file(path))
        rows = _parse_manifest(data, _suffix(source))
    except (OSError, ValueError, ImportError, csv.Error, DatasetError) as error:
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
    folder = lasting(_absolute(source)).rpartition("/")[0]
    return [_manifest_segment(row, folder) for row in rows]


def _parse_manifest(data: bytes, suffix: str) -> list[dict[str, Any]]:
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
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError("a line is not a JSON object")
    return lines


def _manifest_segment(row: dict[str, Any], folder: str) -> Segment:
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
