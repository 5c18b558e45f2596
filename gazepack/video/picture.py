"""A decoded frame to an upright, progressive, full-range RGB picture, the same bits everywhere.

Colour: the matrix (BT.601, 709, 2020, ...) and the range (limited, full) written in the stream are
undone by swscale with bilinear chroma, accurate rounding and the bit-exact code path. A stream that does
not name its matrix is read as BT.601, and one that does not name its range as limited, at every size: so
does FFmpeg, and with it what torchcodec, decord and OpenCV show a model (players prefer BT.709 from 720
lines up). Transfer function and primaries stay as they are: HDR (PQ, HLG) is not tone-mapped, and looks
flat. Alpha is dropped. More than 8 bits are dithered by position, never by chance.

Interlaced frames go through FFmpeg's `bwdif`, one frame out for one in; from the first interlaced frame
on, progressive ones pass it unchanged.

    legend   H, W  height and width in pixels
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import av.error
import av.filter
import av.video
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from gazepack.video.hardware import PLANAR
from gazepack.video.source import faults

Pixels = npt.NDArray[np.uint8]
Tag = TypeVar("Tag")

_SCALER = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INT
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How stored rows and columns become upright: first transposed, then flipped.

    From the display matrix of the container: a stored point (x, y) is shown at (a x + c y, b x + d y).
    Angles between the quarter turns are rounded to the nearest one.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Orientation":
        """Read the display matrix of a frame; upright when there is none or it is degenerate."""
        try:
            data = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]  # stubs know only motion vectors
        except ValueError:  # the frame carries side data that this PyAV cannot name
            return cls._turned(-frame.rotation)
        if data is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
        if a * d == b * c:
            return cls()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(flip_x=a < 0, flip_y=d < 0)
        return cls(transpose=True, flip_x=c < 0, flip_y=b < 0)

    @classmethod
    def _turned(cls, clockwise_degrees: int) -> "Orientation":
        quarters = round(clockwise_degrees / 90) % 4
        return cls(
            transpose=quarters in (1, 3), flip_x=quarters in (1, 2), flip_y=quarters in (2, 3)
        )

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right are swapped, before the rotation."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    @property
    def rotation(self) -> int:
        """Clockwise turn in degrees, after undoing the mirror: 0, 90, 180 or 270."""
        if self.transpose:
            return 270 if self.flip_y else 90
        return 180 if self.flip_y else 0

    def upright(self, rgb_HW3: Pixels) -> Pixels:
        """Return the picture as it is meant to be seen, C-contiguous."""
        upright_HW3 = rgb_HW3.transpose(1, 0, 2) if self.transpose else rgb_HW3
        upright_HW3 = upright_HW3[:, ::-1] if self.flip_x else upright_HW3
        upright_HW3 = upright_HW3[::-1] if self.flip_y else upright_HW3
        return np.ascontiguousarray(upright_HW3)


class Painter:
    """Frames of one video to RGB; holds the scaler between frames.

    The display matrix is that of the first frame, and is read again when the rotation changes. To read it is
    costly: PyAV's frame and its side data then hold each other, and wait for Python's collector, which counts
    objects and not bytes. 2.7 GB of 4K frames waited.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._scaler = VideoReformatter()
        self._orientation = Orientation()
        self._rotation: int | None = None

    def rgb(self, frame: av.VideoFrame) -> Pixels:
        """Return the upright picture, H x W x 3 uint8.

        Raises:
            VideoError: swscale knows no conversion (stage decode).
        """
        with faults(self._name, "decode"):
            picture = self._scaler.reformat(
                frame,
                format="rgb24",
                interpolation=_SCALER,
                dst_color_range=ColorRange.JPEG,
                threads=1,
            )
            rgb_HW3 = np.asarray(picture.to_ndarray(), dtype=np.uint8)
        if frame.rotation != self._rotation:
            self._orientation, self._rotation = Orientation.of(frame), frame.rotation
        return self._orientation.upright(rgb_HW3)


def deinterlaced(
    frames: Iterable[tuple[Tag, av.VideoFrame]], name: str
) -> Iterator[tuple[Tag, av.VideoFrame]]:
    """Yield tagged frames, progressive, in the order and number they came.

    Raises:
        VideoError: the filter refuses the frames (stage decode).
    """
    weaver: _Weaver[Tag] | None = None
    for tag, given in frames:
        frame = given if weaver is None and not given.interlaced_frame else _planar(given)
        if weaver is not None and not weaver.accepts(frame):
            with faults(name, "decode"):
                ready = weaver.flush()
            yield from ready
            weaver = None
        if weaver is None and frame.interlaced_frame:
            with faults(name, "decode"):
                weaver = _Weaver(frame)
        if weaver is None:
            yield tag, frame
            continue
        with faults(name, "decode"):
            ready = weaver.push(tag, frame)
        yield from ready
    if weaver is not None:
        with faults(name, "decode"):
            ready = weaver.flush()
        yield from ready


def _planar(frame: av.VideoFrame) -> av.VideoFrame:
    """Return a frame as software would lay it out: the filter would convert it in a way of its own."""
    if frame.format.name not in PLANAR:
        return frame
    return VideoReformatter().reformat(
        frame,
        format=PLANAR[frame.format.name],
        interpolation=_SCALER,
        src_color_range=frame.color_range,
        dst_color_range=frame.color_range,
        threads=1,
    )


class _Weaver(Generic[Tag]):
    """One `bwdif` filter; it holds a frame back until the next one is known."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._key = self._describe(frame)
        self._tags: deque[Tag] = deque()
        self._num_pushed = 0
        self._graph = graph = av.filter.Graph()  # the filters do not keep it alive
        self._source = graph.add("buffer", self._key)
        self._sink = graph.add("buffersink")
        bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        graph.link_nodes(self._source, bwdif, self._sink)
        graph.configure()

    @staticmethod
    def _describe(frame: av.VideoFrame) -> str:
        return (
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1:"
            f"colorspace={frame.colorspace}:range={frame.color_range}"
        )

    def accepts(self, frame: av.VideoFrame) -> bool:
        """Whether the frame has the size and format that the filter was built for."""
        return self._describe(frame) == self._key

    def push(self, tag: Tag, frame: av.VideoFrame) -> list[tuple[Tag, av.VideoFrame]]:
        self._tags.append(tag)
        frame.pts = self._num_pushed
        self._num_pushed += 1
        self._source.push(frame)
        return self._ready()

    def flush(self) -> list[tuple[Tag, av.VideoFrame]]:
        self._source.push(None)
        return self._ready()

    def _ready(self) -> list[tuple[Tag, av.VideoFrame]]:
        ready: list[tuple[Tag, av.VideoFrame]] = []
        while True:
            try:
                frame = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return ready
            if isinstance(frame, av.VideoFrame):
                ready.append((self._tags.popleft(), frame))
