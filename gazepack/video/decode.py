"""A video to a stream of sampled RGB frames, with constant memory.

Frames are decoded in order, their times compared with the wanted ones, and only the chosen ones
converted. Seeking to the start of a segment is an optimisation, used in containers with an index:
unless the first frame after the jump lies safely before the segment, decoding starts at the
beginning. So a segment gives the same frames as decoding everything and dropping the rest.

A segment may be decoded in parts, by several processes: a `Part` names a run of its sampled frames, and
gives exactly those (`parts.py` finds parts that begin where clips do).

What it gives up: `num_frames` reads the file twice (the true length comes from the packets, as
container headers lie), and frames between two chosen ones are decoded too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import av
import av.video

from gazepack.errors import VideoError
from gazepack.video import hardware
from gazepack.video.frames import Clock, Extent, decoded, scan
from gazepack.video.picture import Painter, Pixels, deinterlaced
from gazepack.video.probe import no_frame
from gazepack.video.sampling import Sampling, centres, on_screen, times_at, tolerance
from gazepack.video.source import Deadline, OpenVideo, Source, faults, opened, opened_input

SEEK_SECONDS = 2.0
"""Segments that start earlier than this are decoded from the beginning."""
_RUN_UP_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One sampled frame."""

    time_seconds: float
    """When the frame appears, counted from the first frame of the video (not of the segment)."""
    rgb_HW3: Pixels
    """Upright full-range RGB, H x W x 3 uint8. Repeated samples share one array."""
    is_from_hardware: bool = False
    """Whether the decode device decoded it, and not the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A run of the sampled frames of a segment; not for sampling by `num_frames`."""

    first_frame: int = 0
    """Position of its first frame among the sampled frames of the segment."""
    num_frames: int | None = None
    """How many it has; all up to the end of the segment if `None`."""
    start_seconds: float
    """With `fps`, when its first frame is wanted; else a time after the frame before its first one."""
    end_seconds: float | None = None
    """The same of the part that follows; `None` if none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    name: str
    start_seconds: float
    end_seconds: float
    part: Part | None

    @property
    def first_seconds(self) -> float:
        """Before when no frame is needed, but for the one that is on screen then."""
        return self.start_seconds if self.part is None else self.part.start_seconds

    def __post_init__(self) -> None:
        if not 0 <= self.start_seconds < self.end_seconds:
            raise self.empty("start must be at least 0 and before end")

    def empty(self, why: str) -> VideoError:
        return VideoError(
            f"{self.name}: segment {self.start_seconds:g} to {self.end_seconds:g} s is empty:"
            f" {why}",
            stage="decode",
            remedy="correct its start and end",
        )


def decode(
    source: Source,
    sampling: Sampling,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    part: Part | None = None,
    deadline_seconds: float | None = None,
    device: str = hardware.CPU,
) -> Iterator[Frame]:
    """Yield the sampled frames of a video or of a segment of it, in order of time.

    Args:
        source: local path, fsspec URI, or seekable binary file (read from its start, left open).
        sampling: by rate, by number, or every frame with start <= time < end.
        start_seconds: start of the segment, from the first frame of the video; None is 0.
        end_seconds: end of the segment, not included; None is the end of the video.
        part: of the segment, if not all of it.
        deadline_seconds: seconds from the first `next` after which the video is given up, the
            consumer's own time included; checked between packets.
        device: where to decode, if the stream can be decoded exactly there: cpu, cuda, cuda:1; see
            `hardware`. It changes no frame.

    Raises:
        VideoError: at the first `next` if the source cannot be opened; later for damage, after the
            frames before it; at the end if the file is shorter than its header declares.
    """
    with opened_input(source) as target:
        segment = _Segment(
            name=target.name,
            start_seconds=0.0 if start_seconds is None else start_seconds,
            end_seconds=math.inf if end_seconds is None else end_seconds,
            part=part,
        )
        deadline = Deadline(target.name, deadline_seconds)
        extent: Extent | None = None
        if sampling.num_frames is not None:
            with opened(target) as video:
                extent = scan(video, deadline)
        for may_seek in (True, False):
            with opened(target, device=device) as video:
                run = _Run(video, segment, deadline, scanned=extent)
                if run.begin(may_seek=may_seek):
                    yield from run.sampled(sampling)
                    return


class _Run:
    """One pass over a container: where it stands and what it has seen."""

    def __init__(
        self, video: OpenVideo, segment: _Segment, deadline: Deadline, *, scanned: Extent | None
    ) -> None:
        self._video = video
        self._segment = segment
        self._deadline = deadline
        self._clock = Clock(video)
        self._extent = Extent(video)
        self._scanned = scanned
        self._is_finished = scanned is not None
        self._is_from_hardware = False
        self._frames: Iterator[av.VideoFrame] = decoded(video, self._extent, deadline)

    def begin(self, *, may_seek: bool) -> bool:
        """Decode the first frame, which sets the clock, and jump near the start of the segment.

        Returns:
            Whether the run can go on; False after a jump that led too far or nowhere.
        """
        first = next(self._frames, None)
        if first is None:
            raise no_frame(self._video.name)
        self._clock.start(first)
        has_index = self._video.is_indexed and self._clock.trusts_pts
        is_far = self._segment.first_seconds >= SEEK_SECONDS
        if not (may_seek and has_index and is_far) or first.interlaced_frame:
            self._frames = chain([first], self._frames)
            return True
        return self._jump(self._segment.first_seconds - _RUN_UP_SECONDS)

    def _jump(self, seconds: float) -> bool:
        """Seek to a key frame before `seconds`; True if the decoder then starts there."""
        try:
            with faults(self._video.name, "decode"):
                self._video.container.seek(self._clock.tick(seconds), stream=self._video.stream)
            self._frames = decoded(self._video, self._extent, self._deadline)
            landed = next(self._frames, None)
        except VideoError:
            return False
        if landed is None or landed.pts is None or landed.pts > self._clock.tick(seconds):
            return False
        self._frames = chain([landed], self._frames)
        return True

    def sampled(self, sampling: Sampling) -> Iterator[Frame]:
        """Yield the frames of the segment."""
        painter = Painter(self._video.name)
        timed = deinterlaced(self._timed(), self._video.name)
        last: Frame | None = None
        for seconds, frame in self._chosen(timed, sampling):
            if last is None or seconds != last.time_seconds:
                last = Frame(
                    time_seconds=seconds,
                    rgb_HW3=painter.rgb(frame),
                    is_from_hardware=self._is_from_hardware,
                )
            yield last
        end = self._end()
        if last is None:
            raise self._segment.empty(f"the video has {end:.2f} s")
        if self._is_finished and self._segment.end_seconds > end:
            (self._scanned or self._extent).check_whole(self._clock)

    def _end(self) -> float:
        return (self._scanned or self._extent).end_seconds(self._clock)

    def _timed(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield every remaining frame with its time, and note the end of the file."""
        for frame in self._frames:
            self._is_from_hardware = hardware.is_from_hardware(frame)
            yield self._clock.seconds(frame), frame
        self._is_finished = True

    def _chosen(
        self, timed: Iterator[tuple[float, av.VideoFrame]], sampling: Sampling
    ) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield the frames that the sampling asks for, with their times."""
        segment = self._segment
        slack = tolerance(self._clock.tick_seconds, self._video.rate)
        if sampling.fps is not None:
            wanted = times_at(sampling.fps, segment.start_seconds, segment.end_seconds)
            if segment.part is not None:
                first, number = segment.part.first_frame, segment.part.num_frames
                wanted = islice(wanted, first, None if number is None else first + number)
            yield from on_screen(timed, wanted, slack=slack, end=self._end)
        elif sampling.num_frames is not None:
            end = min(segment.end_seconds, self._end())
            if segment.start_seconds < end:
                wanted = centres(sampling.num_frames, segment.start_seconds, end)
                yield from on_screen(timed, wanted, slack=slack, end=lambda: math.inf)
        elif segment.part is not None:
            yield from self._counted(timed, segment.part)
        else:
            yield from _between(timed, segment.start_seconds, segment.end_seconds)

    def _counted(
        self, timed: Iterator[tuple[float, av.VideoFrame]], part: Part
    ) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield every frame of a part, and refuse another number of them than the packets promised.

        Raises:
            VideoError: the decoder shows more or fewer, so the parts behind would begin elsewhere.
        """
        end = self._segment.end_seconds if part.end_seconds is None else part.end_seconds
        count = 0
        for count, entry in enumerate(_between(timed, part.start_seconds, end), 1):  # noqa: B007
            yield entry
        if part.num_frames is not None and count != part.num_frames:
            raise VideoError(
                f"{self._video.name}: {count} frames from {part.start_seconds:g} to {end:g} s,"
                f" its packets promised {part.num_frames}",
                stage="decode",
                remedy="transcode the video, or pack it with --split-seconds never",
            )


def _between(
    timed: Iterator[tuple[float, av.VideoFrame]], start: float, end: float
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield the frames with start <= time < end; reading stops at the first one behind."""
    for seconds, frame in timed:
        if seconds >= end:
            return
        if seconds >= start:
            yield seconds, frame
