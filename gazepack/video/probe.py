"""What a video is, before anything is sampled from it.

Reads the header and decodes one frame: only a decoded frame tells its orientation, whether it is
interlaced and whether the decoder works at all. A file that probes can still be damaged further on.
"""

from dataclasses import dataclass
from fractions import Fraction

import av.video

from gazepack.errors import VideoError
from gazepack.video.frames import Extent, decoded
from gazepack.video.picture import Orientation
from gazepack.video.source import Deadline, OpenVideo, Source, opened, opened_input

_MATRICES = {0: "rgb", 1: "bt709", 2: "unknown", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m"}
_MATRICES |= {8: "ycgco", 9: "bt2020nc", 10: "bt2020c", 14: "ictcp"}
_TRANSFERS = {1: "bt709", 2: "unknown", 6: "bt601", 8: "linear", 13: "srgb", 14: "bt2020-10"}
_TRANSFERS |= {15: "bt2020-12", 16: "pq", 18: "hlg"}
_RANGES = {1: "limited", 2: "full"}
_MAX_PIXEL_ASPECT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """The facts of one video stream."""

    codec: str
    """FFmpeg's name of the codec."""
    width: int
    """Width of the decoded frames in pixels, after the rotation of the metadata."""
    height: int
    """Height of the decoded frames in pixels, after the rotation of the metadata."""
    display_width: int
    """Width in square pixels; never less than `width`."""
    display_height: int
    """Height in square pixels; never less than `height`."""
    rotation: int
    """Clockwise turn that was applied, in degrees: 0, 90, 180 or 270."""
    is_mirrored: bool
    """Whether left and right were swapped before the turn."""
    is_interlaced: bool
    """Whether the first frame is interlaced; frames are deinterlaced by `decode`."""
    pixel_format: str
    """FFmpeg's name of the stored pixel format."""
    color_matrix: str
    """Matrix written in the stream, such as bt601, bt709, bt2020nc; `unknown` is read as bt601."""
    color_transfer: str
    """Transfer function written in the stream; it is kept as is (pq and hlg are HDR)."""
    color_range: str
    """`limited`, `full` or `unknown`, which is read as limited."""
    fps: float
    """Average frames per second; 0.0 when unknown."""
    duration_seconds: float
    """Length that the header declares; 0.0 when unknown. It can be wrong; `decode` measures."""
    start_seconds: float
    """Timestamp of the first frame on the container's clock; 0.0 when unknown."""


def probe(source: Source) -> VideoInfo:
    """Read the facts of a video.

    Args:
        source: local path, fsspec URI, or seekable binary file (read from its beginning, left open).

    Raises:
        VideoError: the source cannot be opened (stage open) or its first frame not decoded (decode).
    """
    with opened_input(source) as target, opened(target) as video:
        frames = decoded(video, Extent(video), Deadline(video.name, None))
        frame = next(frames, None)
        frames.close()
        if frame is None:
            raise no_frame(video.name)
        return describe(video, frame)


def no_frame(name: str) -> VideoError:
    """Return the error of a stream in which nothing can be shown."""
    return VideoError(
        f"{name}: no frame can be decoded",
        stage="decode",
        remedy="check that the file is whole and not encrypted",
    )


def describe(video: OpenVideo, frame: av.VideoFrame) -> VideoInfo:
    """Return the facts of a video whose first frame this is."""
    orientation = Orientation.of(frame)
    width, height = frame.width, frame.height
    shown_width, shown_height = _square_pixels(video.stream, width, height)
    if orientation.transpose:
        width, height = height, width
        shown_width, shown_height = shown_height, shown_width
    ranged = "full" if frame.format.name.startswith("yuvj") else "unknown"
    return VideoInfo(
        codec=video.stream.codec_context.codec.canonical_name,
        width=width,
        height=height,
        display_width=shown_width,
        display_height=shown_height,
        rotation=orientation.rotation,
        is_mirrored=orientation.is_mirrored,
        is_interlaced=frame.interlaced_frame,
        pixel_format=frame.format.name,
        color_matrix=_MATRICES.get(frame.colorspace, "unknown"),
        color_transfer=_TRANSFERS.get(frame.color_trc, "unknown"),
        color_range=_RANGES.get(frame.color_range, ranged),
        fps=video.rate,
        duration_seconds=_duration(video),
        start_seconds=(frame.pts or 0) * video.tick_seconds,
    )


def _square_pixels(stream: av.video.VideoStream, width: int, height: int) -> tuple[int, int]:
    """Return the size in square pixels: the short side is stretched, so that no detail is lost."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, _MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT:
        return width, height
    if aspect > 1:
        return round(width * aspect), height
    return width, round(height / aspect)


def _duration(video: OpenVideo) -> float:
    if video.stream.duration:
        return float(video.stream.duration * video.tick_seconds)
    return max(0.0, float(video.container.duration or 0) / 1_000_000)
