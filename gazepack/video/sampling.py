"""Which frames of a video are taken: a question about time, never about frame numbers.

`fps` asks for the frame on screen at start, start + 1/fps, start + 2/fps, ...; `num_frames` for the one
on screen at the centre of each of n equal parts. A frame is on screen from its time until the next one's,
the last one until its duration ends. So a variable frame rate needs no special case, and a video sampled
faster than it runs gives the same frame several times.

Containers round timestamps (Matroska to 1 ms), so a frame counts as on screen up to `tolerance` seconds
early; without it, sampling a 30 fps WebM at 30 fps would repeat every third frame and lose another.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Item = TypeVar("Item")


class Sampling(BaseModel):
    """How many frames are taken. With neither field, every frame, each once."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False
    )

    fps: float | None = Field(default=None, gt=0, le=1000)
    """Frames per second of video time."""
    num_frames: int | None = Field(default=None, ge=1, le=1_000_000)
    """Frames in all, spread evenly over the segment."""

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if self.fps is not None and self.num_frames is not None:
            raise ValueError("give fps or num_frames, not both")
        return self


def times_at(fps: float, start_seconds: float, end_seconds: float) -> Iterator[float]:
    """Yield start + k/fps for k = 0, 1, ... below the end, in seconds; the end may be infinite."""
    k = 0
    while (seconds := start_seconds + k / fps) < end_seconds:
        yield seconds
        k += 1


def centres(num_frames: int, start_seconds: float, end_seconds: float) -> Iterator[float]:
    """Yield the centres of n equal parts of [start, end), in seconds."""
    part = (end_seconds - start_seconds) / num_frames
    return (start_seconds + (i + 0.5) * part for i in range(num_frames))


def tolerance(tick_seconds: float, rate: float) -> float:
    """Return by how much a rounded timestamp may lie after the time it stands for, in seconds.

    One tick of the container's clock, but at most 1 ms and a quarter of a frame, and at least 1 us for
    the rounding of the arithmetic.
    """
    quarter = 0.25 / rate if rate else math.inf
    return max(1e-6, min(tick_seconds, 1e-3, quarter))


def on_screen(
    frames: Iterable[tuple[float, Item]],
    wanted: Iterator[float],
    *,
    slack: float,
    end: Callable[[], float],
) -> Iterator[tuple[float, Item]]:
    """Yield for each wanted time the last frame with time <= wanted + slack.

    Args:
        frames: (seconds, frame) with increasing seconds; only as many as needed are taken.
        wanted: increasing seconds, none of them before the first frame.
        slack: see `tolerance`, in seconds.
        end: asked once, after the last frame: from then on the screen is dark, in seconds.
    """
    target = next(wanted, None)
    shown: tuple[float, Item] | None = None
    for following in frames:
        while shown is not None and target is not None and target + slack < following[0]:
            yield shown
            target = next(wanted, None)
        if target is None:
            return
        shown = following
    dark = end()
    while shown is not None and target is not None and target + slack < dark:
        yield shown
        target = next(wanted, None)
