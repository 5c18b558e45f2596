"""A sample beside its source: decode the video again, fit it as it was fitted, paint the stored tokens.

What `verify --source` measures and `view` draws. The dataset's own provenance says how frames were sampled and
fitted, so nothing but the video is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from gazepack.errors import DatasetError, VideoError
from gazepack.formats import DatasetDirectory, DatasetInfo, LooseSample, Problem, Sample
from gazepack.formats.info import INFO_NAME
from gazepack.geometry import Grid
from gazepack.jobs.decoder import shown
from gazepack.jobs.ledger import LISTING, frozen_listing
from gazepack.jobs.segment import Segment
from gazepack.jobs.settings import PackSettings
from gazepack.patches import Pixels, psnr, repaint
from gazepack.units import counted
from gazepack.video import Part, Sampling, decode, fit

ROUNDED_SECONDS = 1e-6
"""Stored times are rounded to this."""
TOLERANCE = 2e-4
"""In dB and in 8-bit steps: stored errors are rounded to 1e-4."""


def view_grid(view: Mapping[str, Any]) -> Grid:
    """Return the grid that a view's metadata describe."""
    return Grid(rows=view["rows"], cols=view["cols"], patch_size=view["patch_size"])


def repainted(sample: Sample, view: int) -> Iterator[Pixels]:
    """Yield the painted frames of one view of a sample that has its patches: uint8 H x W x 3."""
    assert sample.patches_NPP3 is not None
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
        VideoError: as `source_frames`.
    """
    meta = sample.meta["views"][view]
    for number, rgb_HW3 in enumerate(source_frames(sample, segment, info)):
        if number % meta.get("every", 1) == 0:
            yield fit(rgb_HW3, view_grid(meta))


def source_frames(sample: LooseSample, segment: Segment, info: DatasetInfo) -> Iterator[Pixels]:
    """Yield the frames of a sample as its video has them, uint8 H x W x 3, before they are fitted.

    Raises:
        VideoError: the video cannot be decoded, or does not have these frames at these times.
    """
    try:
        yield from _source_frames(sample, segment, info)
    except VideoError as error:
        raise shown(error) from None


def _source_frames(sample: LooseSample, segment: Segment, info: DatasetInfo) -> Iterator[Pixels]:
    """Yield what `source_frames` yields; its errors may name passwords and signatures."""
    times = sample.meta["views"][0]["times"]  # it sees them all
    if not times:
        return
    if segment.problem is not None:
        raise VideoError(segment.problem, stage="open")
    sampling, start, end = _sampled(info)
    start = start if segment.start_seconds is None else segment.start_seconds
    end = end if segment.end_seconds is None else segment.end_seconds
    first = sample.meta["first_frame"]
    part = _part(sampling, start or 0.0, first, times[0])
    frames = decode(segment.uri, sampling, start_seconds=start, end_seconds=end, part=part)
    skipped = first if part is None else 0
    found = 0
    for frame in islice(frames, skipped, skipped + len(times)):
        if round(frame.time_seconds, 6) != times[found]:
            raise VideoError(
                f"{segment.uri!r} has a frame at {frame.time_seconds:g} s where the sample has one at "
                f"{times[found]:g} s",
                stage="decode",
                remedy="the video or the sampling is another one",
            )
        found += 1
        yield frame.rgb_HW3
    if found < len(times):
        raise VideoError(f"{segment.uri!r} has fewer frames than its sample", stage="decode")


def _sampled(info: DatasetInfo) -> tuple[Sampling, float | None, float | None]:
    """Return how frames were sampled, and from where to where in every video.

    Raises:
        DatasetError: the dataset does not say.
    """
    try:
        settings = PackSettings.model_validate(
            {name: info.provenance[name] for name in ("sampling", "start_seconds", "end_seconds")}
        )
    except (KeyError, ValidationError) as error:
        raise DatasetError(
            "the provenance does not say how frames were sampled", place=INFO_NAME
        ) from error
    return settings.sampling, settings.start_seconds, settings.end_seconds


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
    try:
        listing = frozen_listing(directory)
        if listing is None:
            return
        present = set(_parts(directory.read_index(), "window"))
        present |= set(_parts(directory.failures(), "window"))
    except DatasetError as error:
        yield Problem.of(error, f"run/{LISTING}")
        return
    planned = set(_parts(listing, "first_clip"))
    missing = {id for id, _ in planned - present}
    others = {id for id, _ in present} - {id for id, _ in planned}
    for ids, what in (
        (missing, "neither packed nor failed; the same pack command goes on"),
        (others, "not in the frozen listing"),
    ):
        if ids:
            number = f"{counted(len(ids), 'video')} {'is' if len(ids) == 1 else 'are'}"
            problem = f"{number} {what}, such as {min(ids)!r}"
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
        try:
            sample = directory.read_sample(row)
            for view in range(len(sample.meta["views"])):
                yield from _compare_view(sample, view, segment, directory.info, place)
        except (VideoError, DatasetError) as error:
            yield Problem(place=place, problem=error.problem)


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
