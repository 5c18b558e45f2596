"""A video to a stream of sampled RGB frames, with constant memory.

Frames are decoded in order, their times compared with the wanted ones, and only the chosen ones
converted. Seeking to the start of a segment is an optimisation, used in containers with an index:
unless the first frame after the jump lies safely before the segment, decoding starts at the
beginning. So a segment gives the same frames as decoding everything and dropping the rest.

What it gives up: `num_frames` reads the file twice (the true length comes from the packets, as
container headers lie), and frames between two chosen ones are decoded too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import av
import av.video

from gazepack.errors import VideoError
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    name: str
    start_seconds: float
    end_seconds: float

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
    deadline_seconds: float | None = None,
) -> Iterator[Frame]:
    """Yield the sampled frames of a video or of a segment of it, in order of time.

    Args:
        source: local path, fsspec URI, or seekable binary file (read from its start, left open).
        sampling: by rate, by number, or every frame with start <= time < end.
        start_seconds: start of the segment, from the first frame of the video; None is 0.
        end_seconds: end of the segment, not included; None is the end of the video.
        deadline_seconds: seconds from the first `next` after which the video is given up, the
            consumer's own time included; checked between packets.

    Raises:
        VideoError: at the first `next` if the source cannot be opened; later for damage, after the
            frames before it; at the end if the file is shorter than its header declares.
    """
    with opened_input(source) as target:
        segment = _Segment(
            name=target.name,
            start_seconds=0.0 if start_seconds is None else start_seconds,
            end_seconds=math.inf if end_seconds is None else end_seconds,
        )
        deadline = Deadline(target.name, deadline_seconds)
        extent: Extent | None = None
        if sampling.num_frames is not None:
            with opened(target) as video:
                extent = scan(video, deadline)
        for may_seek in (True, False):
            with opened(target) as video:
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
        is_far = self._segment.start_seconds >= SEEK_SECONDS
        if not (may_seek and has_index and is_far) or first.interlaced_frame:
            self._frames = chain([first], self._frames)
            return True
        return self._jump(self._segment.start_seconds - _RUN_UP_SECONDS)

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
                last = Frame(time_seconds=seconds, rgb_HW3=painter.rgb(frame))
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
            yield self._clock.seconds(frame), frame
        self._is_finished = True

    def _chosen(
        self, timed: Iterator[tuple[float, av.VideoFrame]], sampling: Sampling
    ) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield the frames that the sampling asks for, with their times."""
        start, end = self._segment.start_seconds, self._segment.end_seconds
        slack = tolerance(self._clock.tick_seconds, self._video.rate)
        if sampling.fps is not None:
            wanted = times_at(sampling.fps, start, end)
            yield from on_screen(timed, wanted, slack=slack, end=self._end)
        elif sampling.num_frames is not None:
            end = min(end, self._end())
            if start < end:
                wanted = centres(sampling.num_frames, start, end)
                yield from on_screen(timed, wanted, slack=slack, end=lambda: math.inf)
        else:
            for seconds, frame in timed:
                if seconds >= end:
                    return
                if seconds >= start:
                    yield seconds, frame
