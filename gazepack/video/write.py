"""Frames to a video file: for demonstrations, tests and `view`.

Colour is tagged BT.709, limited range, unless the pixel format is RGB. The same frames and settings give
the same file with one build of the encoder: no date or version is written by the container, the number of
encoder threads is fixed, and what reads memory that was never written is left out.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import av.container
import av.error
import av.video
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from gazepack.errors import GazepackError, StorageError, UsageError
from gazepack.video.picture import Pixels

_THREADS = 4
_REPEATABLE = {"libx264": {"mbtree": "0"}}
"""Options without which an encoder's output follows from what happens to lie in its memory: x264's macroblock
tree does so on narrow pictures (seen with x264 164, 96 x 64 px)."""
_BT709 = 1
_SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def write_video(
    path: str | Path,
    frames: Iterable[Pixels],
    *,
    fps: float,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
) -> None:
    """Encode frames into a local file; it appears under its name only when it is complete.

    Args:
        path: where to write; the ending chooses the container.
        frames: H x W x 3 uint8 RGB pictures, all of one size.
        fps: frames per second; frame k is shown from k / fps on.
        codec: FFmpeg's name of an encoder.
        pixel_format: FFmpeg's name of the stored pixel format.
        options: passed to the encoder, such as `{"crf": "18", "g": "30"}`.

    Raises:
        UsageError: no frames, frames of different sizes, or settings that the encoder refuses.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    if not 0 < fps <= 1000:
        raise UsageError(f"fps {fps} is not above 0 and at most 1000")
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        rate = Fraction(fps).limit_denominator(1001)
        _encode(partial, frames, rate, codec, pixel_format, options)
        partial.replace(path)
    except GazepackError:
        raise
    except (av.error.ExternalError, ValueError) as fault:
        raise UsageError(
            f"{path}: {codec} with {pixel_format} was refused ({fault})",
            remedy="check codec, pixel format, options and the ending; yuv420p needs even sizes",
        ) from fault
    except (av.error.FFmpegError, OSError) as fault:
        raise StorageError(
            f"{path}: cannot be written ({fault.strerror or fault})",
            remedy="check the folder, its space and rights",
        ) from fault
    finally:
        with suppress(OSError):  # what could not be made cannot be removed
            partial.unlink()


def _encode(
    path: Path,
    frames: Iterable[Pixels],
    rate: Fraction,
    codec: str,
    pixel_format: str,
    options: Mapping[str, str] | None,
) -> None:
    pictures = iter(frames)
    first_HW3 = next(pictures, None)
    if first_HW3 is None:
        raise UsageError(f"{path.name}: no frames to write", remedy="give at least one frame")
    if av.codec.Codec(codec, "w").type != "video":
        raise UsageError(f"{codec} does not encode video", remedy="use libx264 or another one")
    scaler = VideoReformatter()
    with av.open(f"file:{path}", mode="w", container_options={"fflags": "+bitexact"}) as container:
        options = _REPEATABLE.get(codec, {}) | dict(options or {})
        stream = container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.video.VideoStream)
        _configure(stream, first_HW3, pixel_format)
        for index, rgb_HW3 in enumerate(chain([first_HW3], pictures)):
            if rgb_HW3.shape != first_HW3.shape or rgb_HW3.dtype != np.uint8:
                raise UsageError(
                    f"frame {index} is {rgb_HW3.shape} {rgb_HW3.dtype}, not {first_HW3.shape} uint8",
                    remedy="give H x W x 3 uint8 frames of one size",
                )
            container.mux(stream.encode(_stored(scaler, rgb_HW3, index, stream)))
        container.mux(stream.encode(None))


def _configure(stream: av.video.VideoStream, first_HW3: Pixels, pixel_format: str) -> None:
    if first_HW3.ndim != 3 or first_HW3.shape[2] != 3:
        raise UsageError(f"frames of shape {first_HW3.shape} are not H x W x 3")
    stream.height, stream.width = first_HW3.shape[:2]
    stream.pix_fmt = pixel_format
    context = stream.codec_context
    context.thread_count = _THREADS
    if not context.format or context.format.is_rgb:
        return
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = ColorRange.MPEG


def _stored(
    scaler: VideoReformatter, rgb_HW3: Pixels, index: int, stream: av.video.VideoStream
) -> av.VideoFrame:
    """Return one picture in the pixel format of the stream, with its time."""
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HW3), format="rgb24")
    frame = scaler.reformat(
        picture,
        format=stream.pix_fmt,
        interpolation=_SCALER,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
        threads=1,
    )
    frame.pts = index
    frame.time_base = 1 / stream.codec_context.framerate
    return frame
