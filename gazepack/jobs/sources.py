"""What to pack: files, folders, globs and manifests, listed once into one table.

The table is sorted by id, and every decision that follows (which shard, which key) is made from it and
nothing else, so the order in which a file system lists its files never shows in the output.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from gazepack.errors import SourceError
from gazepack.formats.remote import local_path, without_secrets
from gazepack.jobs.folders import VIDEO_SUFFIXES, FoundFile, list_files, named, suffix_of
from gazepack.jobs.manifest import LISTS, MANIFEST_SUFFIXES, read_manifest
from gazepack.jobs.segment import NUM_LISTED, SCHEMA, Segment


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
        UsageError: something named is neither a path nor a URI.
    """
    rows, files = _looked_up(sources)
    return _table([*rows, *named([file for found in files for file in found])])


def list_packed(sources: Sequence[str]) -> pa.Table:
    """List the videos of a dataset again, under every id by which its samples may name them.

    Several sources share a common folder, so their videos have other ids together than apart; a merged
    dataset has the latter. The ids of all together come first, then those that each source alone gives. An id
    of the latter kind that two sources give to different videos has that as its `problem`.

    Args:
        sources: as for `list_sources`.

    Returns:
        A table of `SCHEMA`, sorted by id; a video may stand there under two ids.

    Raises:
        SourceError: as `list_sources`.
        UsageError: as `list_sources`.
    """
    rows, files = _looked_up(sources)
    found = [*rows, *named([file for found in files for file in found])]
    together = {segment.id for segment in found}
    apart: dict[str, Segment] = {}
    for segment in (segment for alone in files for segment in named(alone)):
        other = apart.setdefault(segment.id, segment)
        if other.uri != segment.uri:
            both = f"{other.shown_uri!r} and {segment.shown_uri!r}"
            problem = (
                f"{segment.id!r}: two sources hold a video of this id: {both}; name one of them"
            )
            apart[segment.id] = replace(other, problem=other.problem or problem)
    return _table([*found, *(segment for id, segment in apart.items() if id not in together)])


def _looked_up(sources: Sequence[str]) -> tuple[list[Segment], list[list[FoundFile]]]:
    """Return the rows of all manifests, and the files of every other source.

    Raises:
        SourceError: there is neither.
    """
    rows: list[Segment] = []
    files: list[list[FoundFile]] = []
    for source in map(_place, sources):
        suffix = suffix_of(source)
        if suffix in LISTS and not Path(source).is_dir():
            raise SourceError(
                without_secrets(f"{source!r} is no video, and {suffix} is no manifest"),
                remedy=f"a list of videos is one of {' '.join(sorted(MANIFEST_SUFFIXES))}",
            )
        if suffix in MANIFEST_SUFFIXES:
            rows += read_manifest(source)
        else:
            files.append(list(list_files(source)))
    if not rows and not any(files):
        raise SourceError(
            f"no video in {', '.join(map(repr, sources))}",
            remedy=f"name files, or folders that hold any of {' '.join(sorted(VIDEO_SUFFIXES))}",
        )
    return rows, files


def _place(source: str) -> str:
    """Return a source with `~` written out; an empty name, as of a variable that is not set, is no folder."""
    if not source:
        raise SourceError(
            "the name of a source is empty", remedy="name a file or a folder; . is this folder"
        )
    return source if "://" in source else str(local_path(source))


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
