"""Training clips: windows of videos or generated scenes, and the many views cut out of each.

Videos for training are few and decoding is slow, so a window of consecutive frames is decoded once and
gives several clips: another crop, speed, direction, colour, a camera that pans over a still, a cut, a
frame that repeats. Every clip is a function of (seed, numbers) alone, which is what lets an interrupted
run go on as if nothing had happened.

    legend   T  frames    H, W  height and width of a window's frames    S  side of a tile (224 px)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from gazepack.autogaze.config import INPUT_SIDE
from gazepack.errors import SourceError, VideoError
from gazepack.video import Sampling, decode, probe
from gazepack.video.scenes import SCENES

Pixels: TypeAlias = npt.NDArray[np.uint8]
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom of a square, in pixels."""

WINDOW_FRAMES = 40
"""Consecutive frames decoded at once."""
WINDOW_SIDE = 448
"""Longest short side that a window's frames keep, in pixels."""
SCENE_SHARE = 0.08
"""Windows that are generated rather than read."""
_SCENE_SIZE = (448, 320)
_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A video to train on, or a time range of one."""

    uri: str
    """A local path or an fsspec URI."""
    start_seconds: float = 0.0
    """Where the range starts."""
    end_seconds: float | None = None
    """Where it ends; the end of the video if `None`."""


def generator(*numbers: int) -> np.random.Generator:
    """Return the random numbers that belong to some numbers, equal on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(numbers)))


def read_window(videos: Sequence[Video], random: np.random.Generator) -> Pixels:
    """Draw a video and a place in it, and decode a window there.

    Args:
        videos: what to draw from; one that cannot be decoded is passed over.
        random: draws everything.

    Returns:
        uint8 T x H x W x 3, up to `WINDOW_FRAMES` frames.

    Raises:
        SourceError: twenty draws in a row could not be decoded.
    """
    if random.random() < SCENE_SHARE:
        return _scene(random)
    problem = ""
    for _ in range(_TRIES):
        video = videos[int(random.integers(len(videos)))]
        place = random.random()
        try:
            return _decoded(video, place)
        except VideoError as error:
            problem = str(error)
    raise SourceError(
        f"{_TRIES} videos in a row cannot be decoded, the last: {problem}",
        remedy="check the folder with `gazepack pack`, which names every broken file",
    )


def _scene(random: np.random.Generator) -> Pixels:
    """Generate a window."""
    scene = list(SCENES.values())[int(random.integers(len(SCENES)))]
    skip, seed = int(random.integers(30)), int(random.integers(2**31))
    frames = scene(*_SCENE_SIZE, skip + WINDOW_FRAMES, seed)
    return np.stack(list(islice(frames, skip, None)))


def _decoded(video: Video, place: float) -> Pixels:
    """Decode a window at a place 0..1 of a video."""
    info = probe(video.uri)
    end = video.end_seconds or info.duration_seconds
    room = max(0.0, end - video.start_seconds - WINDOW_FRAMES / (info.fps or 25.0))
    frames = decode(
        video.uri,
        Sampling(),
        start_seconds=video.start_seconds + place * room,
        end_seconds=video.end_seconds,
    )
    return np.stack([_shrunk(frame.rgb_HW3) for frame in islice(frames, WINDOW_FRAMES)])


def _shrunk(rgb_HW3: Pixels) -> Pixels:
    """Reduce a frame to the longest short side that is kept."""
    height, width = rgb_HW3.shape[:2]
    ratio = WINDOW_SIDE / min(height, width)
    if ratio >= 1:
        return rgb_HW3
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.asarray(Image.fromarray(rgb_HW3).resize(size, Image.Resampling.BICUBIC))


def draw_clip(window_THW3: Pixels, num_frames: int, random: np.random.Generator) -> Pixels:
    """Cut a clip out of a window.

    Args:
        window_THW3: uint8.
        num_frames: T, 1..16.
        random: draws everything.

    Returns:
        uint8 T x S x S x 3.
    """
    numbers = _frame_numbers(len(window_THW3), num_frames, random)
    boxes = _boxes(window_THW3.shape[1:3], num_frames, random)
    if random.random() < 0.1:  # a cut: from here on, another place and view
        cut = int(random.integers(num_frames))
        numbers[cut:] = _frame_numbers(len(window_THW3), num_frames, random)[cut:]
        boxes[cut:] = _boxes(window_THW3.shape[1:3], num_frames, random)[cut:]
    if random.random() < 0.2:  # frames that repeat the one before
        for t in range(1, num_frames):
            if random.random() < 0.4:
                numbers[t], boxes[t] = numbers[t - 1], boxes[t - 1]
    views: dict[tuple[int, Box], Pixels] = {}
    for key in zip(numbers, boxes, strict=True):
        if key not in views:
            views[key] = _view(window_THW3[key[0]], key[1])
    clip = np.stack([views[key] for key in zip(numbers, boxes, strict=True)])
    return _recoloured(_flipped(clip, random), random)


def _frame_numbers(length: int, num_frames: int, random: np.random.Generator) -> list[int]:
    """Draw which frames of the window to take: a still, or some speed forwards or backwards."""
    if random.random() < 0.08:
        return [int(random.integers(length))] * num_frames
    fastest = max(1, (length - 1) // max(1, num_frames - 1))
    stride = min(fastest, int(random.choice((1, 1, 1, 1, 2, 2, 3, 4, 6, 8))))
    reach = stride * (num_frames - 1)
    first = int(random.integers(max(1, length - reach)))
    numbers = [min(first + stride * t, length - 1) for t in range(num_frames)]
    return numbers[::-1] if random.random() < 0.3 else numbers


def _boxes(size: tuple[int, int], num_frames: int, random: np.random.Generator) -> list[Box]:
    """Draw the square that each frame shows: at rest mostly, else one that travels and zooms."""
    height, width = size
    longest = float(min(height, width))
    shortest = min(longest, INPUT_SIDE * 0.75)
    side = shortest * (longest / shortest) ** random.random()
    if random.random() < 0.25 and longest > INPUT_SIDE:
        side = float(INPUT_SIDE)  # pixel for pixel, as tiles are cut when packing
    x, y = random.random() * (width - side), random.random() * (height - side)
    if random.random() < 0.85:
        return [(x, y, x + side, y + side)] * num_frames
    speed_x, speed_y = random.normal(0, 0.02, 2) * side
    zoom = random.normal(0, 0.008)
    return [
        _inside(x + speed_x * t, y + speed_y * t, side * (1 + zoom) ** t, size)
        for t in range(num_frames)
    ]


def _inside(x: float, y: float, side: float, size: tuple[int, int]) -> Box:
    """Move a square into the frame."""
    side = min(side, *size)
    x, y = min(max(x, 0.0), size[1] - side), min(max(y, 0.0), size[0] - side)
    return x, y, x + side, y + side


def _view(rgb_HW3: Pixels, box: Box) -> Pixels:
    """Return what a square shows, S x S x 3."""
    size = (INPUT_SIDE, INPUT_SIDE)
    return np.asarray(Image.fromarray(rgb_HW3).resize(size, Image.Resampling.BICUBIC, box=box))


def _flipped(clip_TSS3: Pixels, random: np.random.Generator) -> Pixels:
    """Mirror a clip, and sometimes lay it on its side or head."""
    if random.random() < 0.5:
        clip_TSS3 = clip_TSS3[:, :, ::-1]
    if random.random() < 0.15:
        clip_TSS3 = clip_TSS3[:, ::-1]
    return clip_TSS3.swapaxes(1, 2) if random.random() < 0.15 else clip_TSS3


def _recoloured(clip_TSS3: Pixels, random: np.random.Generator) -> Pixels:
    """Change brightness, contrast and colours, and sometimes add grain."""
    if random.random() < 0.5:
        return np.ascontiguousarray(clip_TSS3)
    x = clip_TSS3.astype(np.float32)
    x = x[..., random.permutation(3)] if random.random() < 0.2 else x
    grey = x.mean(-1, keepdims=True, dtype=np.float32)
    x = grey + (x - grey) * np.float32(random.choice((0.0, 0.5, 1.0, 1.0, 1.3)))
    x = (x - 128) * np.float32(random.uniform(0.6, 1.3)) + 128 + np.float32(random.normal(0, 16))
    if random.random() < 0.15:
        x += random.normal(0, random.uniform(1, 4), (*x.shape[:3], 1)).astype(np.float32)
    pixels: Pixels = np.clip(np.rint(x), 0, 255).astype(np.uint8)
    return pixels
