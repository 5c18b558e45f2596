"""Where a long video can be cut, so that its parts give the very frames that decoding through gives.

Parts begin where clips of the sampled sequence begin. With `fps` the times of all clips follow from the
rate, and the end is read from the packets behind the last key frame. With every frame kept, the times of
all packets are read (nothing is decoded), as a frame rate may vary; this reads the file through once.

A video stays whole unless it can be cut with certainty: its container must have an index to seek by
(MP4, Matroska) and tell the length, its pictures must not be interlaced (deinterlacing looks at
neighbours), and with every frame kept its codec must be one of those whose packets are frames one by one.
What it gives up: with `fps`, a file whose timestamps stop increasing in the middle is not noticed here; its
later parts then go by other times than decoding through would.

    legend   C  clips    T  frames    N  packets
"""

import math
from array import array
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import av.video
import numpy as np
import numpy.typing as npt

from gazepack.errors import VideoError
from gazepack.video.decode import Part
from gazepack.video.frames import DEFAULT_RATE, Clock, Extent, decoded
from gazepack.video.probe import VideoInfo, describe, no_frame
from gazepack.video.sampling import Sampling, tolerance
from gazepack.video.source import Deadline, Input, OpenVideo, Source, faults, opened, opened_input

Seconds: TypeAlias = npt.NDArray[np.float64]

ONE_BY_ONE = frozenset(("h264", "hevc", "vp9", "av1", "prores", "dnxhd", "mjpeg"))
"""Codecs whose packets in MP4 and Matroska are frames one by one; each part counts them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A segment and its parts."""

    info: VideoInfo
    """Of the video."""
    duration_seconds: float
    """Of the segment; 0.0 when unknown."""
    parts: tuple[Part, ...]
    """At least two, or none when the segment stays whole."""

    @property
    def pixels(self) -> float:
        """Stored pixels of all frames of the segment: what decoding it costs; 0.0 when unknown."""
        rate = self.info.fps or DEFAULT_RATE
        return self.info.width * self.info.height * rate * self.duration_seconds


def cut(
    source: Source,
    sampling: Sampling,
    *,
    clip_frames: int,
    longest_seconds: float,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> Cut:
    """Find the parts of a segment.

    Args:
        source: local path, fsspec URI, or seekable binary file (read from its start, left open).
        sampling: as for `decode`.
        clip_frames: parts begin at multiples of so many sampled frames.
        longest_seconds: a longer segment is cut into equal parts of at most about this length.
        start_seconds: start of the segment; None is 0.
        end_seconds: end of the segment; None is the end of the video.

    Raises:
        VideoError: the source cannot be opened, or its first frame not decoded.
    """
    start = start_seconds or 0.0
    end = math.inf if end_seconds is None else end_seconds
    with opened_input(source) as target:
        with opened(target) as video:
            clock, first = _first(video)
            info = describe(video, first)
            declared = Extent(video).declared_seconds or info.duration_seconds
            duration = max(0.0, min(end, declared) - start)
            whole = Cut(info=info, duration_seconds=duration, parts=())
            if not _can_be_cut(video, clock, first, sampling) or duration <= longest_seconds:
                return whole
            if sampling.fps is not None:
                seen = min(end, _tail_seconds(video, clock, declared))
                seen -= tolerance(clock.tick_seconds, video.rate)
                starts_C = _starts_by_rate(start, seen, clip_frames / sampling.fps)
        if sampling.fps is None:
            times_T = _packet_times(target, clock)
            times_T = times_T[(times_T >= start) & (times_T < end)]
            starts_C = _starts_by_packets(start, times_T, clip_frames)
    num_parts = min(math.ceil(duration / longest_seconds), len(starts_C))
    if num_parts < 2:
        return whole
    return replace(whole, parts=_parts(starts_C, num_parts, clip_frames))


def _parts(starts_C: Seconds, num_parts: int, clip_frames: int) -> tuple[Part, ...]:
    """Give each part as many clips as the others; frames behind the last whole clip go with the last part."""
    clips = [number * len(starts_C) // num_parts for number in range(num_parts)]
    inner = [
        Part(
            first_frame=clip * clip_frames,
            num_frames=(following - clip) * clip_frames,
            start_seconds=float(starts_C[clip]),
            end_seconds=float(starts_C[following]),
        )
        for clip, following in pairwise(clips)
    ]
    last = Part(first_frame=clips[-1] * clip_frames, start_seconds=float(starts_C[clips[-1]]))
    return (*inner, last)


def _starts_by_rate(start: float, end: float, clip_seconds: float) -> Seconds:
    """Return when the first frame of each whole clip is wanted."""
    num_clips = max(0, math.floor((end - start) / clip_seconds))
    return np.asarray(start + np.arange(num_clips) * clip_seconds, dtype=np.float64)


def _starts_by_packets(start: float, times_T: Seconds, clip_frames: int) -> Seconds:
    """Return a time between the first frame of each whole clip and the frame before it."""
    firsts = np.arange(0, len(times_T) - clip_frames + 1, clip_frames)
    if not len(firsts):
        return np.empty(0)
    between = (times_T[firsts[1:] - 1] + times_T[firsts[1:]]) / 2
    return np.concatenate([[start], between])


def _first(video: OpenVideo) -> tuple[Clock, av.VideoFrame]:
    """Decode the first frame, which sets the clock."""
    frames = decoded(video, Extent(video), Deadline(video.name, None))
    first = next(frames, None)
    frames.close()
    if first is None:
        raise no_frame(video.name)
    clock = Clock(video)
    clock.start(first)
    return clock, first


def _can_be_cut(video: OpenVideo, clock: Clock, first: av.VideoFrame, sampling: Sampling) -> bool:
    """Return whether parts of the video would be those of the whole."""
    if sampling.num_frames is not None or first.interlaced_frame:
        return False
    codec = video.stream.codec_context.codec.canonical_name
    return (
        video.is_indexed and clock.trusts_pts and (sampling.fps is not None or codec in ONE_BY_ONE)
    )


def _tail_seconds(video: OpenVideo, clock: Clock, declared_seconds: float) -> float:
    """Return when the last frame leaves the screen, from the packets behind the last key frame.

    Returns:
        0.0 when they cannot be read, which leaves the video whole: decoding will say what is wrong.
    """
    tail = Extent(video)
    try:
        with faults(video.name, "decode"):
            video.container.seek(clock.tick(declared_seconds), stream=video.stream)
            for packet in video.container.demux(video.stream):
                tail.observe(packet)
    except VideoError:
        return 0.0
    return 0.0 if tail.is_damaged or not tail.num_packets else tail.end_seconds(clock)


def _packet_times(target: Input, clock: Clock) -> Seconds:
    """Return the times of all frames as their packets say, in order; none if they cannot be trusted."""
    ticks = array("q")
    origin = clock.origin or 0
    with opened(target) as video, faults(video.name, "decode"):
        for packet in video.container.demux(video.stream):
            if packet.is_discard or not packet.size:
                continue
            if packet.is_corrupt or packet.pts is None:
                return np.empty(0)
            if (
                packet.pts >= origin
            ):  # those before cannot be decoded: they refer to what was cut away
                ticks.append(packet.pts)
    sorted_N = np.sort(np.frombuffer(ticks, dtype=np.int64)) if ticks else np.empty(0, np.int64)
    if (np.diff(sorted_N) <= 0).any():
        return np.empty(0)
    return np.asarray((sorted_N - origin) * clock.tick_seconds, dtype=np.float64)
