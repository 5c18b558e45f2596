"""Generated scenes: shape, determinism, and the motion that each of them promises."""

from itertools import islice

import numpy as np
import pytest

from gazepack.errors import UsageError
from gazepack.video.scenes import SCENES, cuts, grainy, objects, pan, screen


@pytest.mark.parametrize("name", sorted(SCENES))
def test_scene_is_a_function_of_its_arguments(name: str) -> None:
    """Two runs are equal, a longer run begins with the shorter one, another seed differs."""
    frames = list(SCENES[name](96, 64, 30, 5))
    again = list(islice(SCENES[name](96, 64, 60, 5), 30))
    other = list(SCENES[name](96, 64, 30, 6))
    assert len(frames) == 30
    assert all(frame.shape == (64, 96, 3) and frame.dtype == np.uint8 for frame in frames)
    np.testing.assert_array_equal(np.stack(frames), np.stack(again))
    assert not np.array_equal(np.stack(frames), np.stack(other))


def changed(before: np.ndarray, after: np.ndarray) -> float:
    return float((before != after).any(axis=-1).mean())


def test_scenes_change_as_they_promise() -> None:
    """Objects leave most of the wall alone, a pan shifts, a cut renews all, typing touches little."""
    still, moved = list(objects(160, 120, 2))
    assert 0 < changed(still, moved) < 0.2
    before, after = list(pan(160, 120, 2))
    np.testing.assert_array_equal(before[:, 2:], after[:, :-2])
    shots = list(cuts(160, 120, 25))
    assert changed(shots[23], shots[24]) > 0.8
    typed = list(screen(160, 120, 2))
    assert 0 < changed(typed[0], typed[1]) < 0.1


def test_grain_is_new_in_each_frame_and_small() -> None:
    """Grain of 2 levels changes most pixels by a few levels, and repeats for an equal seed."""
    clean = next(pan(160, 120, 1)).astype(int)
    noisy = [next(grainy(pan(160, 120, 1), 2.0, seed)).astype(int) for seed in (1, 1, 2)]
    assert 1.0 < np.std(noisy[0] - clean) < 3.0
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])


@pytest.mark.parametrize(("width", "num_frames"), [(8, 3), (64, 0)])
def test_too_small_a_scene_is_refused(width: int, num_frames: int) -> None:
    """A scene needs 16 pixels a side and one frame."""
    with pytest.raises(UsageError, match="at least 16 x 16"):
        next(objects(width, 64, num_frames))
