"""Sampling by time, against a twin that looks at every frame for every wanted moment."""

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gazepack.video import Sampling
from gazepack.video.sampling import centres, on_screen, times_at, tolerance

STEPS = st.lists(st.integers(1, 90), min_size=1, max_size=30)


def naive(times: list[float], wanted: list[float], slack: float, end: float) -> list[float]:
    shown = [target for target in wanted if target + slack < end]
    return [max(time for time in times if time <= target + slack) for target in shown]


def running(steps: list[int]) -> list[float]:
    return [sum(steps[:k]) / 30 - steps[0] / 30 for k in range(1, len(steps) + 1)]


@given(steps=STEPS, fps=st.floats(0.2, 40), start=st.floats(0, 3))
def test_fps_takes_the_frame_on_screen(steps: list[int], fps: float, start: float) -> None:
    """The streaming choice equals the choice from the whole list, at any rate and start."""
    times = running(steps)
    end = times[-1] + 1 / 30
    wanted = list(times_at(fps, start, end))
    items = [(time, time) for time in times]
    chosen = on_screen(items, times_at(fps, start, math.inf), slack=1e-4, end=lambda: end)
    assert naive(times, wanted, 1e-4, end) == [time for time, _ in chosen]


@given(steps=STEPS, num_frames=st.integers(1, 50))
def test_num_frames_gives_that_many(steps: list[int], num_frames: int) -> None:
    """Exactly n frames come, each the one on screen at the centre of its part."""
    times = running(steps)
    end = times[-1] + 1 / 30
    wanted = list(centres(num_frames, 0.0, end))
    items = [(time, time) for time in times]
    chosen = on_screen(items, iter(wanted), slack=1e-4, end=lambda: math.inf)
    assert naive(times, wanted, 1e-4, math.inf) == [time for time, _ in chosen]
    assert len(wanted) == num_frames


def test_rounded_timestamps_neither_repeat_nor_lose_frames() -> None:
    """30 fps in milliseconds, sampled at 30 fps, gives each frame once; without slack it does not."""
    times = [round(k / 30, 3) for k in range(300)]
    items = [(time, time) for time in times]

    def chosen(slack: float) -> list[float]:
        wanted = times_at(30, 0.0, math.inf)
        return [time for time, _ in on_screen(items, wanted, slack=slack, end=lambda: 10.0)]

    assert times == chosen(tolerance(0.001, 30.0))
    assert times != chosen(0.0)


def test_only_as_many_frames_as_needed_are_taken() -> None:
    """After the last wanted moment no further frame is asked for."""
    taken: list[float] = []

    def frames() -> Iterator[tuple[float, int]]:
        for k in range(1000):
            taken.append(float(k))
            yield float(k), k

    assert [k for _, k in on_screen(frames(), iter([2.5]), slack=1e-6, end=lambda: 0.0)] == [2]
    assert len(taken) == 4


def test_tolerance_stays_below_half_a_frame() -> None:
    """A coarse clock of one tick a frame does not make neighbouring frames equal."""
    assert tolerance(0.001, 1000.0) == 0.00025
    assert tolerance(1 / 30, 30.0) == 0.001


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fps": 2, "num_frames": 8}, "not both"),
        ({"fps": 0}, "greater than 0"),
        ({"fps": float("nan")}, "finite"),
        ({"num_frames": 0}, "greater than or equal to 1"),
        ({"rate": 3}, "Extra inputs"),
    ],
)
def test_impossible_sampling_is_refused(fields: dict[str, float], message: str) -> None:
    """Two answers, none at all, or an unknown field are refused by name."""
    with pytest.raises(ValidationError, match=message):
        Sampling.model_validate(fields)
