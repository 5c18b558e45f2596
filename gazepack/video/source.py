"""Open a video without trusting it, and speak of its faults in one line.

A source is a local path (opened by FFmpeg itself), any fsspec URI, or a seekable binary file. Three
walls stand before the decoder: only the containers of `FORMATS` are accepted, so that a playlist or a
text file cannot make FFmpeg open other files; frames above `MAX_PIXELS` are never allocated; and every
exception of PyAV becomes a `VideoError`.

What it gives up: playlists (HLS, DASH), image sequences and devices are not videos here; and a decoder
has one thread, as FFmpeg's frame threads swallow errors at the end of a stream (a file with a damaged
unit gave 29 frames and an error with one thread, 26 frames and no error with four). Workers decode
several videos side by side instead.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import av.container
import av.video
import fsspec
from av.codec.hwaccel import HWAccel

from gazepack.errors import Stage, VideoError
from gazepack.video import hardware

Source = str | Path | BinaryIO

MAX_SIDE = 16384
"""Longest side of a frame, in pixels."""
MAX_PIXELS = 1 << 28
"""Most pixels of a frame."""
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "avi,flv,live_flv,asf,ogg,mpeg,mpegts,mpegvideo,m4v,mxf,nut,ivf,obu,av1,rm,wtv,dv,vob",
    "h261,h263,h264,hevc,vvc,vc1,evc,cavsvideo,avs2,avs3,dirac,yuv4mpegpipe,gif,apng,mjpeg",
    "mp3,aac,wav,flac",  # audio only, so that the message can say so
)
"""Demuxers that may be tried; the rest of FFmpeg's can open other files or read anything as video."""

PLAYS = "check that the file is whole and plays"

_LFS_HEAD = b"version https://git-lfs"
_HEAD_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A source that can be opened as a container more than once."""

    name: str
    """What messages call it: the path or URI."""
    target: str | BinaryIO
    """What PyAV opens: a `file:` address or a binary file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVideo:
    """An open container and the one video stream that is read from it."""

    name: str
    container: av.container.InputContainer
    stream: av.video.VideoStream

    @property
    def rate(self) -> float:
        """Average frames per second; 0.0 when the container does not tell."""
        return float(self.stream.average_rate or self.stream.guessed_rate or 0)

    @property
    def tick_seconds(self) -> float:
        """Length of one unit of the stream's timestamps, in seconds."""
        return float(self.stream.time_base or 0) or 1e-6

    @property
    def is_indexed(self) -> bool:
        """Whether the container has an index that can be trusted for seeking."""
        return self.container.format.name in FORMATS[:2]


class Deadline:
    """The moment after which a video is given up."""

    def __init__(self, name: str, seconds: float | None) -> None:
        self._name = name
        self._seconds = seconds
        self._started = time.monotonic()

    def check(self) -> None:
        """Raise when the time is over.

        Raises:
            VideoError: more than the allowed seconds passed since construction.
        """
        if self._seconds is not None and time.monotonic() - self._started > self._seconds:
            raise VideoError(
                f"{self._name}: not decoded within {self._seconds:g} s",
                stage="decode",
                remedy="raise --video-timeout or split the video",
            )


@contextmanager
def faults(name: str, stage: Stage, *, remedy: str = PLAYS) -> Iterator[None]:
    """Turn what PyAV, libav and the file raise into a `VideoError` that names the file.

    Everything is caught: storage clients behind fsspec have exceptions of their own, and one file must
    not end a run. Keep the block to calls of theirs.
    """
    try:
        yield
    except VideoError:
        raise
    except Exception as fault:
        reason = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        verb = "cannot be opened" if stage == "open" else "cannot be decoded"
        raise VideoError(
            f"{name}: {verb} ({reason})",
            stage=stage,
            remedy=remedy,
        ) from fault


@contextmanager
def opened_input(source: Source) -> Iterator[Input]:
    """Check that the source exists and is not obviously something else.

    Raises:
        VideoError: it is missing, empty, unreadable or the pointer text of git LFS (stage open).
    """
    if not isinstance(source, str | Path):
        name = str(getattr(source, "name", "") or "<file object>")
        _check_head(name, source)
        yield Input(name=name, target=source)
        return
    name = str(source)
    if "://" in name and not name.startswith("file://"):
        with faults(name, "open"):
            remote = fsspec.open(name, "rb").open()
        with remote:
            _check_head(name, remote)
            yield Input(name=name, target=remote)
        return
    path = Path(name.removeprefix("file://"))
    _check_path(name, path)
    yield Input(name=name, target=f"file:{path}")


def _check_path(name: str, path: Path) -> None:
    if "\0" in name or not path.exists():
        raise VideoError(f"{name}: no such file", stage="open", remedy="check the path")
    if not path.is_file():
        raise VideoError(f"{name}: not a regular file", stage="open", remedy="name a video file")
    with faults(name, "open"), path.open("rb") as file:
        _check_head(name, file)


def _check_head(name: str, file: BinaryIO) -> None:
    with faults(name, "open"):
        file.seek(0)
        head = file.read(_HEAD_BYTES)
        file.seek(0)
    if not head:
        raise VideoError(f"{name}: zero bytes", stage="open", remedy="fetch the file again")
    if head.startswith(_LFS_HEAD):
        raise VideoError(
            f"{name}: a git LFS pointer, not the video", stage="open", remedy="run git lfs pull"
        )


@contextmanager
def opened(source: Input, *, device: str = hardware.CPU) -> Iterator[OpenVideo]:
    """Open the container and choose its video stream; both are closed on leaving.

    Args:
        source: what to open.
        device: where to decode it, if it can be decoded exactly there; see `hardware`.

    Raises:
        VideoError: not a video, no video stream, no decoder for it, or frames too large (stage open).
    """
    with faults(source.name, "open"):
        container = _container(source)
    if device != hardware.CPU:
        with container, faults(source.name, "open"):
            is_suited = hardware.suits(_video_stream(source.name, container), device)
        with faults(source.name, "open"):
            container = _container(source, hardware.accelerator(device) if is_suited else None)
    with container:
        with faults(source.name, "open"):
            stream = _video_stream(source.name, container)
            check_size(source.name, stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
            stream.codec_context.thread_count = 1
        yield OpenVideo(name=source.name, container=container, stream=stream)


def _container(source: Input, hwaccel: HWAccel | None = None) -> av.container.InputContainer:
    if not isinstance(source.target, str):
        source.target.seek(0)
    return av.open(
        source.target,
        mode="r",
        container_options={"format_whitelist": ",".join(FORMATS)},
        options={"max_pixels": str(MAX_PIXELS)},
        metadata_errors="replace",
        hwaccel=hwaccel,
    )


def _video_stream(name: str, container: av.container.InputContainer) -> av.video.VideoStream:
    """Return FFmpeg's choice of the video stream, never a cover picture."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        others = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        raise VideoError(
            f"{name}: no video stream (streams: {others})",
            stage="open",
            remedy="leave this file out",
        )
    best = container.streams.best("video")
    stream = next((stream for stream in streams if best and stream.index == best.index), streams[0])
    if stream.codec_context is None:
        raise VideoError(
            f"{name}: this build of PyAV has no decoder for its video codec",
            stage="open",
            remedy="transcode it to H.264",
        )
    return stream


def check_size(name: str, width: int, height: int) -> None:
    """Refuse a frame that would not fit in memory.

    Raises:
        VideoError: a side above `MAX_SIDE` or an area above `MAX_PIXELS` pixels.
    """
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise VideoError(
            f"{name}: frames of {width} x {height} px are larger than {MAX_SIDE} px a side"
            f" or {MAX_PIXELS} px",
            stage="open",
            remedy="scale the video down",
        )
