"""From a segment to clips: decode, fit every frame to every view, group by 16.

Decoding and fitting run in a thread of their own, a few clips ahead of the choosing; PyAV and Pillow give
up the interpreter lock while they work. The queue between them is bounded, so memory does not grow with a
video's length.
"""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gazepack.errors import VideoError
from gazepack.geometry import CLIP_FRAMES, Grid
from gazepack.jobs.settings import PackSettings
from gazepack.jobs.sources import Segment
from gazepack.patches import Pixels, fit
from gazepack.video import VideoInfo, decode, probe

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
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
    frames_T3HW: Tensor
    """uint8."""
    times_T: tuple[float, ...]
    """Seconds from the first frame of the video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStart:
    """A segment could be opened; its clips follow."""

    segment: int
    info: VideoInfo
    views: dict[str, Grid]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEnd:
    """The last clip of a segment has been given, or it failed and what was given of it is void."""

    segment: int
    error: VideoError | None = None


Item = Clip | SegmentStart | SegmentEnd


def clips_of_unit(
    segments: Sequence[Segment], settings: PackSettings, *, timeout_seconds: float | None
) -> Iterator[Item]:
    """Yield for each segment its start, the clips of all its views, and its end.

    Args:
        segments: of one unit.
        settings: how to sample and fit.
        timeout_seconds: how long the decoding of one segment may take.

    Yields:
        Items in the order of the segments. A segment that cannot be decoded gives a `SegmentEnd` with the
        error; the ones after it are not touched by that.
    """
    for position, segment in enumerate(segments):
        try:
            yield from _clips(position, segment, settings, timeout_seconds)
            yield SegmentEnd(segment=position)
        except VideoError as error:
            yield SegmentEnd(segment=position, error=error)


def _clips(
    position: int, segment: Segment, settings: PackSettings, timeout_seconds: float | None
) -> Iterator[Item]:
    """Decode one segment."""
    if segment.problem is not None:
        raise VideoError(segment.problem, stage="open")
    info = probe(segment.uri)
    views = settings.fit.views(info)
    yield SegmentStart(segment=position, info=info, views=views)
    start, end = segment.start_seconds, segment.end_seconds
    frames = decode(
        segment.uri,
        settings.sampling,
        start_seconds=settings.start_seconds if start is None else start,
        end_seconds=settings.end_seconds if end is None else end,
        deadline_seconds=timeout_seconds,
    )
    fitted: dict[str, list[Pixels]] = {name: [] for name in views}
    times: list[float] = []
    number = 0
    for frame in frames:
        times.append(round(frame.time_seconds, 6))
        for name, grid in views.items():
            fitted[name].append(fit(frame.rgb_HW3, grid))
        if len(times) == CLIP_FRAMES:
            yield from _take(position, number, views, fitted, times)
            number += 1
    if times:
        yield from _take(position, number, views, fitted, times)


def _take(
    position: int,
    number: int,
    views: dict[str, Grid],
    fitted: dict[str, list[Pixels]],
    times: list[float],
) -> Iterator[Clip]:
    """Make the clip of each view from the frames gathered, and empty the lists."""
    for name, grid in views.items():
        frames_THW3 = torch.from_numpy(np.stack(fitted[name]))
        yield Clip(
            segment=position,
            view=name,
            number=number,
            grid=grid,
            frames_T3HW=frames_THW3.permute(0, 3, 1, 2).contiguous(),
            times_T=tuple(times),
        )
        fitted[name].clear()
    times.clear()


def ahead(items: Iterable[T], *, depth: int) -> Iterator[T]:
    """Yield `items`, produced by a thread that runs at most `depth` items ahead.

    An error in the thread is raised here, in its place. Closing this generator ends the thread.
    """
    box: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                box.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=produce, name="gazepack-decode", daemon=True)
    thread.start()
    try:
        while True:
            item, error = box.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # None stands only beside an error
    finally:
        stopped.set()
        thread.join(timeout=5.0)
