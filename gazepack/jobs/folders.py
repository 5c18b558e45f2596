"""Videos by their files: one file, a folder that is walked or a glob that is expanded, here or on a store.

The id of each is its path below everything that was named, so it does not depend on where the corpus lies.
"""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from gazepack.errors import SourceError
from gazepack.formats.remote import (
    filesystem,
    has_secrets,
    lasting,
    persistently,
    without_secrets,
)
from gazepack.jobs.segment import Segment, key_of, unicode_of

_SUFFIXES = (
    ".3gp .264 .265 .asf .avi .f4v .flv .gif .h264 .h265 .hevc .ivf .m2ts .m4v .mkv .mov .mp4 .mpeg "
    ".mpg .mts .mxf .obu .ogv .ps .ts .vob .webm .wmv .y4m"
)
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())
"""What is taken from a folder. A file that is named itself is tried whatever its suffix."""
MAX_BYTES = 2**50
"""The largest file there is; a manifest that says more is taken to mean this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file that was found."""

    uri: str
    bytes: int
    root: str
    """The folder that was named, or the one that a named file lies in."""


def list_files(source: str) -> list[FoundFile]:
    """List one file, folder or glob."""
    return _list_remote(source) if "://" in source else _list_local(source)


def _list_local(source: str) -> list[FoundFile]:
    path = Path(source)
    try:
        if path.is_dir():
            found = [_found(file, root=path) for file in _walk(path)]
            remedy = f"gazepack takes {' '.join(sorted(VIDEO_SUFFIXES))} from folders"
            problem = f"folder {source!r} holds no video"
        else:
            matches = [path] if path.exists() else _expanded(source)
            found = [_found(file, root=file.parent) for file in matches if file.is_file()]
            problem, remedy = f"{source!r} does not exist", "check the path"
    except OSError as error:
        raise SourceError(
            f"{error.filename or source!r} cannot be listed ({error.strerror})",
            remedy="give yourself permission, or name what you want from beside it",
        ) from error
    if not found:
        raise SourceError(problem, remedy=remedy)
    return found


def _expanded(pattern: str) -> list[Path]:
    """Return what a glob matches."""
    return sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 (it takes any path)


def _found(file: Path, *, root: Path) -> FoundFile:
    return FoundFile(uri=str(file), bytes=size_of(None, str(file)), root=str(root))


def _walk(top: Path) -> Iterator[Path]:
    """Yield the videos below a folder; links are followed, but not into a folder that the way leads through.

    A link to nothing, such as that of a file which DVC or git-annex has not fetched, is a video that will fail.
    """
    ways: list[tuple[Path, frozenset[str]]] = [(top, frozenset())]
    while ways:
        folder, above = ways.pop()
        here = os.path.realpath(folder)
        for path in folder.iterdir() if here not in above else ():
            if path.is_dir():
                ways.append((path, above | {here}))
            elif path.suffix.lower() in VIDEO_SUFFIXES and (path.is_file() or not path.exists()):
                yield path


def _list_remote(source: str) -> list[FoundFile]:
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
            without_secrets(f"{source!r} holds no video, or does not answer"),
            remedy="check the address, the credentials and the network",
        )
    protocol = source.split("://", 1)[0]
    return [
        FoundFile(
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
    return suffix_of(path) in VIDEO_SUFFIXES


def named(files: Iterable[FoundFile]) -> Iterator[Segment]:
    """Give each file the id that is its path below everything that was named."""
    unique = {absolute(file.uri): file for file in files}
    if not unique:
        return
    common = _common_folder([absolute(file.root) for file in unique.values()])
    for path, file in unique.items():
        name = lasting(path)[len(common) :].lstrip("/")
        shown = unicode_of(name)
        segment = Segment(id=shown, key=key_of(shown), uri=unicode_of(path), bytes=file.bytes)
        if shown != name:
            segment = replace(segment, problem=f"file name {shown!r} is not UTF-8; rename it")
        yield segment


def absolute(uri: str) -> str:
    """Return a path from the root, and a URI as it is."""
    return uri if "://" in uri else os.path.abspath(uri)  # noqa: PTH100 (resolve would follow links)


def _common_folder(folders: Sequence[str]) -> str:
    """Return the longest run of whole path parts that all folders begin with."""
    parts = zip(*(folder.rstrip("/").split("/") for folder in folders), strict=False)
    return "/".join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts))


def suffix_of(source: str) -> str:
    """Return how a path or URI ends, not counting a URI's query."""
    path = source.split("?", 1)[0] if "://" in source else source
    return PurePosixPath(path).suffix.lower()


def size_of(given: Any, uri: str) -> int:
    """Return the size of a file: as the manifest says, or as a local file has it.

    Returns:
        0 for a remote one, which is not asked row by row, and a missing one.
    """
    try:
        if given not in (None, ""):
            return min(max(0, int(given)), MAX_BYTES)
        return 0 if "://" in uri else Path(uri).stat().st_size
    except (OSError, ValueError, TypeError, OverflowError):
        return 0
