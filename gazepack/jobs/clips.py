"""From a segment to clips: decode, fit every frame to every view, group by 16.

This is what a decoder does, in a process of its own (`decoder.py`): nothing here knows of the selector, the
output or the other segments. One clip of frames is held at a time, so memory does not grow with a video's
length.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from gazepack.errors import VideoError
from gazepack.formats.remote import opened_source
from gazepack.geometry import CLIP_FRAMES, Grid
from gazepack.jobs.frames import FrameSettings, View
from gazepack.jobs.segment import Segment
from gazepack.video import Cut, Frame, Source, VideoInfo, cut, decode, fit, probe
from gazepack.video.hardware import CPU
from gazepack.video.picture import Pixels
from gazepack.video.source import faults

REACHED = "check the address, the credentials and the network"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """Up to 16 fitted frames of one view of one segment."""

    segment: int
    """Position of the segment in its unit."""
    view: str
    """Name of the view."""
    number: int
    """Position of the clip in its segment."""
    grid: Grid
    """The view's grid."""
    whole: bool
    """Whether the view is kept whole."""
    frames_THW3: Pixels
    """uint8."""
    times_T: tuple[float, ...]
    """Seconds from the first frame of the video."""
    is_from_hardware: bool = False
    """Whether the decode device decoded it, and not the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStart:
    """A segment could be opened; its clips follow. A second start of a segment voids all that came before."""

    segment: int
    info: VideoInfo
    views: dict[str, View]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEnd:
    """The last clip of a segment has been given, or it failed and what was given of it is void."""

    segment: int
    error: VideoError | None = None
    attempts: int = 1
    """How often it was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found when a segment was only looked into, to plan it."""

    segment: int
    cut: Cut


Item = Clip | SegmentStart | SegmentEnd


def clips_of_segment(
    position: int, segment: Segment, settings: FrameSettings, *, device: str = CPU
) -> Iterator[Clip | SegmentStart]:
    """Yield the start of a segment and the clips of all its views, in order of time.

    Args:
        position: of the segment in its unit.
        segment: what to decode.
        settings: how to sample and fit.
        device: where to decode; see `gazepack.video.hardware`.

    Raises:
        VideoError: it cannot be opened or decoded; at the `next` that finds out.
    """
    if segment.problem is not None:
        raise VideoError(segment.problem, stage="open")
    with ExitStack() as stack:
        source = stack.enter_context(_source_of(segment))
        yield from _clips(position, segment, source, settings, device)


@contextmanager
def _source_of(segment: Segment) -> Iterator[str | BinaryIO]:
    """Open a segment's file, if it is remote; what is wrong with its content is found later.

    Raises:
        VideoError: it is not there, or out of reach.
    """
    with ExitStack() as stack:
        with faults(segment.shown_uri, "open", remedy=REACHED):
            source = stack.enter_context(opened_source(segment.uri))
        yield source


def measure_segment(position: int, segment: Segment, settings: FrameSettings) -> Iterator[Measured]:
    """Yield what a segment takes to decode, and its parts if it is long; no clip is decoded.

    Raises:
        VideoError: it cannot be opened, or its first frame not decoded.
    """
    longest = settings.shards.split_seconds
    assert longest is not None
    start, end = settings.range_of(segment.start_seconds, segment.end_seconds)
    with ExitStack() as stack:
        source = stack.enter_context(_source_of(segment))
        found = cut(
            source,
            settings.sampling,
            clip_frames=CLIP_FRAMES,
            longest_seconds=longest,
            start_seconds=start,
            end_seconds=end,
        )
    yield Measured(segment=position, cut=found)


def _clips(
    position: int, segment: Segment, source: Source, settings: FrameSettings, device: str
) -> Iterator[Clip | SegmentStart]:
    """Decode one open segment."""
    info = probe(source)
    views = settings.fit.views(info)
    yield SegmentStart(segment=position, info=info, views=views)
    start, end = settings.range_of(segment.start_seconds, segment.end_seconds)
    frames = decode(
        source,
        settings.sampling,
        start_seconds=start,
        end_seconds=end,
        part=segment.part,
        device=device,
    )
    fitted: dict[str, list[Pixels]] = {name: [] for name in views}
    times: list[float] = []
    number = segment.first_clip
    for frame in frames:
        times.append(round(frame.time_seconds, 6))
        for name, view in views.items():
            if (len(times) - 1) % view.every == 0:
                fitted[name].append(fit(frame.rgb_HW3, view.grid))
        if len(times) == CLIP_FRAMES:
            yield from _take(position, number, views, fitted, times, frame)
            number += 1
    if times:
        yield from _take(position, number, views, fitted, times, frame)


def _take(
    position: int,
    number: int,
    views: dict[str, View],
    fitted: dict[str, list[Pixels]],
    times: list[float],
    last: Frame,
) -> Iterator[Clip]:
    """Make the clip of each view from the frames gathered up to `last`, and empty the lists."""
    for name, view in views.items():
        yield Clip(
            segment=position,
            view=name,
            number=number,
            grid=view.grid,
            whole=view.whole,
            frames_THW3=np.stack(fitted[name]),
            times_T=tuple(times[:: view.every]),
            is_from_hardware=last.is_from_hardware,
        )
        fitted[name].clear()
    times.clear()
