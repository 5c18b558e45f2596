"""Long videos become several rows of the listing, so that several workers can pack one of them.

Only files that are large enough to be long are looked into, before the listing is frozen: in decoder processes
and under their limits of time and memory, as nobody knows what a file does to who opens it. One that cannot be
looked into stays one row, and fails in its turn. What is found also says what each row costs.

What it gives up: a remote file named by a manifest has no known size unless the manifest has a column
`bytes`, so without one it stays whole.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from gazepack.geometry import CLIP_FRAMES
from gazepack.jobs.decoders import Decoders, DecoderSettings
from gazepack.jobs.frames import FrameSettings
from gazepack.jobs.nursery import Nursery
from gazepack.jobs.segment import NUM_LISTED, SCHEMA, Segment
from gazepack.video import Cut

LEAST_BYTES_PER_SECOND = 25_000
"""A file of fewer bytes for each of `split_seconds` (200 kbit/s) is not looked into."""
LOOK_SECONDS = 60.0
"""How long looking into one file may take, if its packets need not all be read."""
_BATCH = 4096
"""Files that are looked into before what was found is kept in a smaller form."""


def divided(
    listing: pa.Table,
    settings: FrameSettings,
    how: DecoderSettings,
    *,
    nursery: Nursery | None = None,
) -> pa.Table:
    """Return a listing with the parts of its long videos as rows of their own, one after the other.

    Args:
        listing: what `list_sources` returned.
        settings: how videos are sampled, and `shards.split_seconds`.
        how: how many files are looked into at a time, and the limits.
        nursery: where decoders come from; an own one if `None`, started if there is a large file.
    """
    large = _large(listing, settings)
    if not len(large):
        return listing
    limit = how.timeout_seconds
    if settings.sampling.fps is not None:
        limit = LOOK_SECONDS if limit is None else min(limit, LOOK_SECONDS)
    found: dict[int, list[Segment]] = {}
    with Decoders(settings, replace(how, timeout_seconds=limit), nursery=nursery) as decoders:
        for first in range(0, len(large), _BATCH):
            rows = large[first : first + _BATCH]
            segments = [Segment.from_row(row) for row in listing.take(rows).to_pylist()]
            for position, cut in decoders.measured(segments):
                found[int(rows[position])] = _rows(segments[position], cut)
    return _with_rows(listing, found)


def _large(
    listing: pa.Table, settings: FrameSettings
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return the rows that may hold a long video, by nothing but what is listed."""
    longest = settings.shards.split_seconds
    if longest is None or settings.sampling.num_frames is not None:
        return np.empty(0, np.int64)
    sizes = listing["bytes"].to_numpy()
    rows = np.flatnonzero(sizes >= longest * LEAST_BYTES_PER_SECOND)

    def may_be_long(row: dict[str, float | None]) -> bool:
        start, end = settings.range_of(row["start_seconds"], row["end_seconds"])
        return row["problem"] is None and (end is None or end - (start or 0.0) > longest)

    columns = ["start_seconds", "end_seconds", "problem"]
    listed = listing.select(columns).take(rows).to_pylist()
    return rows[[may_be_long(row) for row in listed]]


def _rows(segment: Segment, cut: Cut) -> list[Segment]:
    """Return what takes the place of a segment."""
    whole = replace(segment, pixels=cut.pixels or None)
    if not cut.parts:
        return [whole]
    end = cut.parts[0].start_seconds + cut.duration_seconds
    parts = []
    for part in cut.parts:
        until = end if part.end_seconds is None else part.end_seconds
        share = max(0.0, until - part.start_seconds) / cut.duration_seconds
        parts.append(
            replace(
                segment,
                first_clip=part.first_frame // CLIP_FRAMES,
                num_clips=None if part.num_frames is None else part.num_frames // CLIP_FRAMES,
                part_start_seconds=part.start_seconds,
                part_end_seconds=part.end_seconds,
                part_bytes=round(segment.bytes * share),
                pixels=cut.pixels * share,
            )
        )
    return parts


def _with_rows(listing: pa.Table, found: dict[int, list[Segment]]) -> pa.Table:
    """Put the rows that were found where the ones they were made of stand."""
    counts = np.ones(listing.num_rows, np.int64)
    for row, segments in found.items():
        counts[row] = len(segments)
    table = listing.take(np.repeat(np.arange(listing.num_rows), counts))
    firsts = np.cumsum(counts) - counts
    for column in range(NUM_LISTED, len(SCHEMA)):
        field = SCHEMA.field(column)
        values: list[object] = [0 if field.name == "first_clip" else None] * table.num_rows
        for row, segments in found.items():
            at = int(firsts[row])
            values[at : at + len(segments)] = [getattr(s, field.name) for s in segments]
        table = table.set_column(column, field, pa.array(values, field.type))
    return table


def listed_rows(listing: pa.Table) -> pa.Table:
    """Return what was listed, before long videos became parts."""
    is_first = np.flatnonzero(listing["first_clip"].to_numpy() == 0)
    return listing.select(SCHEMA.names[:NUM_LISTED]).take(is_first)


def moved(listing: pa.Table, uris: pa.ChunkedArray) -> pa.Table:
    """Return a listing whose videos, in their order, lie elsewhere."""
    video_of_row = np.cumsum(listing["first_clip"].to_numpy() == 0) - 1
    at = SCHEMA.get_field_index("uri")
    return listing.set_column(at, SCHEMA.field("uri"), uris.take(video_of_row))
