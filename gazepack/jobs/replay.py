"""A sample beside its source: decode the video again, fit it as it was fitted, paint the stored tokens.

What `verify --source` measures and `view` draws. The dataset's own provenance says how frames were sampled and
fitted, so nothing but the video is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from gazepack.errors import VideoError
from gazepack.formats import DatasetDirectory, DatasetInfo, Problem, Sample
from gazepack.geometry import Grid
from gazepack.jobs.decoder import shown
from gazepack.jobs.ledger import LISTING, frozen_listing
from gazepack.jobs.sources import Segment
from gazepack.patches import Pixels, psnr, repaint
from gazepack.video import Part, Sampling, decode, fit

ROUNDED_SECONDS = 1e-6
"""Stored times are rounded to this."""
TOLERANCE = 2e-4
"""In dB and in 8-bit steps: stored errors are rounded to 1e-4."""


def view_grid(view: Mapping[str, Any]) -> Grid:
    """Return the grid that a view's metadata describe."""
    return Grid(rows=view["rows"], cols=view["cols"], patch_size=view["patch_size"])


def repainted(sample: Sample, view: int) -> Iterator[Pixels]:
    """Yield the painted frames of one view of a sample: uint8 H x W x 3."""
    meta = sample.meta["views"][view]
    at = sample.tokens_N6[:, 0] == view
    _, frame, scale, row, col, _ = sample.tokens_N6[at].T
    return repaint(
        sample.patches_NPP3[at],
        frame=frame,
        scale=scale,
        row=row,
        col=col,
        grid=view_grid(meta),
        num_frames=len(meta["times"]),
        clip_frames=sample.meta["clip_frames"],
    )


def refitted(sample: Sample, view: int, segment: Segment, info: DatasetInfo) -> Iterator[Pixels]:
    """Yield the frames of the source as one view of the sample saw them: uint8 H x W x 3.

    Raises:
        VideoError: the video cannot be decoded, or does not have these frames at these times.
    """
    try:
        yield from _refitted(sample, view, segment, info)
    except VideoError as error:
        raise shown(error) from None


def _refitted(sample: Sample, view: int, segment: Segment, info: DatasetInfo) -> Iterator[Pixels]:
    """Yield what `refitted` yields; its errors may name passwords and signatures."""
    meta = sample.meta["views"][view]
    given = info.provenance
    sampling = Sampling.model_validate(given["sampling"])
    start, end = segment.start_seconds, segment.end_seconds
    start = given["start_seconds"] if start is None else start
    end = given["end_seconds"] if end is None else end
    first = sample.meta["first_frame"]
    part = _part(sampling, start or 0.0, first, meta["times"][0])
    frames = decode(segment.uri, sampling, start_seconds=start, end_seconds=end, part=part)
    times = iter(meta["times"])
    skipped = first if part is None else 0
    for frame in islice(frames, skipped, skipped + len(meta["times"])):
        time = next(times)
        if round(frame.time_seconds, 6) != time:
            raise VideoError(
                f"{segment.uri!r} has a frame at {frame.time_seconds:g} s where the sample has one at "
                f"{time:g} s",
                stage="decode",
                remedy="the video or the sampling is another one",
            )
        yield fit(frame.rgb_HW3, view_grid(meta))
    if next(times, None) is not None:
        raise VideoError(f"{segment.uri!r} has fewer frames than its sample", stage="decode")


def _part(sampling: Sampling, start: float, first_frame: int, time: float) -> Part | None:
    """Return where to begin decoding, so that what lies before a sample need not be decoded."""
    if not first_frame or sampling.num_frames is not None:
        return None
    if sampling.fps is not None:
        return Part(first_frame=first_frame, start_seconds=start + first_frame / sampling.fps)
    return Part(first_frame=first_frame, start_seconds=time - ROUNDED_SECONDS)


def verify_totals(directory: DatasetDirectory) -> Iterator[Problem]:
    """Check that what is packed and what failed are together all that was to be packed.

    Yields:
        A problem if videos of the frozen listing are missing, or there are others.
    """
    listing = frozen_listing(directory)
    if listing is None:
        return
    present = set(_parts(directory.read_index(), "window"))
    present |= set(_parts(directory.failures(), "window"))
    planned = set(_parts(listing, "first_clip"))
    missing = {id for id, _ in planned - present}
    others = {id for id, _ in present} - {id for id, _ in planned}
    for ids, what in (
        (missing, "videos are neither packed nor failed; the same pack command goes on"),
        (others, "videos are not in the frozen listing"),
    ):
        if ids:
            problem = f"{len(ids)} {what}, such as {min(ids)!r}"
            yield Problem(place=f"run/{LISTING}", problem=problem)


def _parts(table: pa.Table, column: str) -> Iterator[tuple[str, int]]:
    """Yield the id and the first window of every row."""
    return zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True)


def compare_with_source(
    directory: DatasetDirectory, rows: Sequence[Mapping[str, Any]], segments: Mapping[str, Segment]
) -> Iterator[Problem]:
    """Measure stored samples against their videos.

    Args:
        directory: the dataset.
        rows: of its index.
        segments: the sources by id.

    Yields:
        A problem for each sample whose source is missing or unreadable, or whose stored error is not the
        error found.
    """
    for row in rows:
        place = f"{directory.shard_name(row['shard'])}: sample {row['key']}"
        segment = segments.get(row["id"])
        if segment is None:
            yield Problem(place=place, problem=f"no source has the id {row['id']!r}")
            continue
        sample = directory.read_sample(row)
        for view in range(len(sample.meta["views"])):
            try:
                yield from _compare_view(sample, view, segment, directory.info, place)
            except VideoError as error:
                yield Problem(place=place, problem=str(error))


def _compare_view(
    sample: Sample, view: int, segment: Segment, info: DatasetInfo, place: str
) -> Iterator[Problem]:
    """Compare every frame of one view."""
    meta = sample.meta["views"][view]
    pairs = zip(repainted(sample, view), refitted(sample, view, segment, info), strict=True)
    for number, (painted, fitted) in enumerate(pairs):
        apart = painted.astype(np.int64) - fitted
        found = {"psnr": psnr(int((apart**2).sum()), apart.size), "l1": float(abs(apart).mean())}
        for name, value in found.items():
            stored = meta[name][number]
            if abs(stored - value) > TOLERANCE:
                where = f"view {meta['name']}, frame {number}"
                yield Problem(
                    place=f"{place}, {where}",
                    problem=f"{name} {stored} is stored, {value:.4f} found",
                )
