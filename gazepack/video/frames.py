"""Decoded frames in the order of presentation, each with its time; the loop around the decoder.

A frame's time counts from the first frame that the decoder shows: edit lists, discarded first key
frames and non-zero starts have no influence on it. Timestamps are trusted as long as they increase. From
the first that does not (AVI with B-frames), or if there are none (a raw .264 stream), decoding
timestamps take over, and where these are missing too, the average frame rate. Times therefore always
increase.

A damaged packet ends the reading; so does a frame that the decoder marks as damaged. Only before the
first shown frame are undecodable packets skipped, and only those that depend on an earlier key frame:
a recording may begin in the middle of a group of pictures.
"""

import math
from collections.abc import Generator
from typing import TypeAlias

import av
import av.error
import av.video

from gazepack.errors import VideoError
from gazepack.video.source import Deadline, OpenVideo, check_size, faults

VideoPacket: TypeAlias = "av.Packet[av.video.VideoStream]"

DEFAULT_RATE = 25.0
"""Frames per second of a stream that has neither timestamps nor a rate; as FFmpeg assumes."""


class Clock:
    """Frame timestamps to seconds since the first frame; strictly increasing."""

    def __init__(self, video: OpenVideo) -> None:
        self.tick_seconds: float = video.tick_seconds
        self.step_seconds: float = 1.0 / (video.rate or DEFAULT_RATE)
        self.origin: int | None = None
        """Timestamp of the first frame; None when it has none."""
        self.last_seconds: float | None = None
        """Time of the latest frame; None before the first."""
        self.trusts_pts: bool = True

    def start(self, first: av.VideoFrame) -> None:
        """Set the origin: the first frame that the decoder shows."""
        self.trusts_pts = first.pts is not None
        self.origin = first.pts if first.pts is not None else first.dts

    def tick(self, seconds: float) -> int:
        """Return the stream's timestamp of a time since the first frame."""
        return (self.origin or 0) + math.floor(seconds / self.tick_seconds)

    def seconds(self, frame: av.VideoFrame) -> float:
        """Return the time of the next frame in presentation order."""
        last = -math.inf if self.last_seconds is None else self.last_seconds
        seconds = self._since_origin(frame.pts) if self.trusts_pts else None
        if seconds is None or seconds <= last:
            self.trusts_pts = False
            seconds = self._since_origin(frame.dts)
        if seconds is None or seconds <= last:
            seconds = 0.0 if self.last_seconds is None else last + self.step_seconds
        self.last_seconds = seconds
        return seconds

    def _since_origin(self, ticks: int | None) -> float | None:
        if ticks is None or self.origin is None:
            return None
        return (ticks - self.origin) * self.tick_seconds


class Extent:
    """Where the readable part of a stream ends, from its packets alone."""

    def __init__(self, video: OpenVideo) -> None:
        self._video = video
        self._last_tick: int | None = None
        self.num_packets: int = 0
        """Packets that hold a frame, so far."""
        self.declared_seconds: float = _declared_seconds(video)
        """What the header promises; 0.0 when it promises nothing."""
        self.is_damaged: bool = False
        """Whether a packet was cut short or marked as damaged; nothing is read after it."""

    def observe(self, packet: VideoPacket) -> None:
        """Count one packet of the stream."""
        if packet.is_corrupt:
            self.is_damaged = True
        if packet.is_corrupt or packet.is_discard or not packet.size:
            return
        self.num_packets += 1
        if packet.pts is not None:
            step = 1.0 / (self._video.rate or DEFAULT_RATE)
            duration = packet.duration or round(step / self._video.tick_seconds)
            end = packet.pts + duration
            self._last_tick = end if self._last_tick is None else max(end, self._last_tick)

    def end_seconds(self, clock: Clock) -> float:
        """Return when the last frame leaves the screen, in seconds since the first frame."""
        step = clock.step_seconds
        if self._last_tick is None or clock.origin is None:
            end = self.num_packets * step
        else:
            end = (self._last_tick - clock.origin) * clock.tick_seconds
        shown = 0.0 if clock.last_seconds is None else clock.last_seconds
        return end if end > shown else shown + step

    def check_whole(self, clock: Clock) -> None:
        """Refuse a damaged packet, and compare what was read with what the header declares.

        A header may round up by a frame or an edit list, so half a second, two frames or 1 %, whichever
        is longest, may be missing.

        Raises:
            VideoError: more is missing, or a packet is damaged (stage decode).
        """
        readable = self.end_seconds(clock)
        if self._last_tick is not None:
            readable = max(readable, self._last_tick * clock.tick_seconds)
        missing = self.declared_seconds - readable
        if missing > max(0.5, 2 * clock.step_seconds, 0.01 * self.declared_seconds):
            raise VideoError(
                f"{self._video.name}: truncated: declared {self.declared_seconds:.1f} s,"
                f" readable {readable:.1f} s",
                stage="decode",
                remedy="fetch the file again, or give an end before the cut",
            )
        if self.is_damaged:
            raise VideoError(
                f"{self._video.name}: damaged packet after {readable:.1f} s",
                stage="decode",
                remedy="fetch the file again, or give an end before the damage",
            )


def _declared_seconds(video: OpenVideo) -> float:
    """Return the length of the video stream that the header declares; 0.0 where it is an estimate."""
    names = video.container.format.name
    if video.stream.duration and (video.is_indexed or names == "avi"):
        return float(video.stream.duration * video.tick_seconds)
    tag = video.stream.metadata.get("DURATION", "")
    if tag.count(":") == 2:
        hours, minutes, seconds = tag.split(":")
        if hours.isdigit() and minutes.isdigit() and seconds.replace(".", "", 1).isdigit():
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    alone = not any(stream.type == "audio" for stream in video.container.streams)
    if video.is_indexed and alone and video.container.duration:
        return float(video.container.duration / 1_000_000)
    return 0.0


def scan(video: OpenVideo, deadline: Deadline) -> Extent:
    """Read every packet and decode none; memory does not depend on the length.

    Raises:
        VideoError: the container is damaged, or the deadline passed (stage decode).
    """
    extent = Extent(video)
    packets = video.container.demux(video.stream)
    while True:
        deadline.check()
        with faults(video.name, "decode"):
            packet = next(packets, None)
        if packet is None:
            return extent
        extent.observe(packet)
        if packet.is_corrupt:
            return extent


def decoded(video: OpenVideo, extent: Extent, deadline: Deadline) -> Generator[av.VideoFrame]:
    """Yield the frames that the decoder shows, from the container's position to its end.

    Raises:
        VideoError: damaged data, a frame too large, or the deadline passed (stage decode).
    """
    shown = False
    packets = video.container.demux(video.stream)
    while not extent.is_damaged:
        deadline.check()
        with faults(video.name, "decode"):
            packet = next(packets, None)
        if packet is None:
            return
        extent.observe(packet)
        flush = packet.is_corrupt or not packet.size
        for frame in _decode_packet(video, None if flush else packet, is_start=not shown):
            shown = True
            yield frame


def _decode_packet(
    video: OpenVideo, packet: "VideoPacket | None", *, is_start: bool
) -> list[av.VideoFrame]:
    """Decode one packet, or flush the decoder when it is None."""
    skippable = is_start and packet is not None and not packet.is_keyframe
    with faults(video.name, "decode"):
        try:
            frames = video.stream.decode(packet)
        except av.error.InvalidDataError:
            if not skippable:
                raise
            return []
    for frame in frames:
        check_size(video.name, frame.width, frame.height)
        if frame.is_corrupt:
            raise VideoError(
                f"{video.name}: damaged picture at timestamp {frame.pts}"
                f" ({(frame.pts or 0) * video.tick_seconds:.2f} s on the container's clock)",
                stage="decode",
                remedy="fetch the file again, or give an end before the damage",
            )
    return frames
