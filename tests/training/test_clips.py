"""Windows and the clips cut out of them."""

from pathlib import Path

import numpy as np
import pytest

from gazepack.errors import SourceError
from gazepack.training.clips import (
    SCENE_SHARE,
    WINDOW_FRAMES,
    Video,
    draw_clip,
    generator,
    read_window,
)


def test_a_window_depends_on_its_numbers_alone(videos: list[Video]) -> None:
    """Equal numbers give equal windows, others give others."""
    first, again, other = (read_window(videos, generator(0, 1, n)) for n in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8
    assert 1 <= len(first) <= WINDOW_FRAMES
    assert first.shape != other.shape or (first != other).any()


def test_a_range_of_a_video_is_not_left(videos: list[Video]) -> None:
    """A window of a time range holds frames of that range only."""
    part = Video(uri=videos[0].uri, start_seconds=0.5, end_seconds=1.0)
    lengths = {len(read_window([part], generator(0, n))) for n in range(6)}
    assert lengths <= {6, WINDOW_FRAMES}  # a generated scene has them all
    assert 6 in lengths


def test_broken_videos_are_passed_over(videos: list[Video], tmp_path: Path) -> None:
    """A video that cannot be decoded costs a draw, no more."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    assert len(read_window([Video(uri=str(broken)), *videos], generator(0))) > 0


def test_nothing_but_broken_videos(tmp_path: Path) -> None:
    """When nothing can be decoded, the last problem is told."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    seed = next(seed for seed in range(99) if generator(seed).random() >= SCENE_SHARE)
    with pytest.raises(SourceError, match=r"20 videos in a row cannot be decoded.*broken\.mp4"):
        read_window([Video(uri=str(broken))], generator(seed))


@pytest.mark.parametrize("num_frames", [1, 5, 16])
def test_clips_have_the_form_of_a_tile(num_frames: int) -> None:
    """A clip is uint8 T x 224 x 224 x 3, from windows short, small or large, and depends on its seed."""
    for number, shape in enumerate(((1, 30, 40), (9, 300, 250), (40, 224, 448))):
        window = generator(number).integers(0, 256, (*shape, 3), dtype=np.uint8)
        clips = [draw_clip(window, num_frames, generator(7, number)) for _ in range(2)]
        assert clips[0].shape == (num_frames, 224, 224, 3)
        assert clips[0].dtype == np.uint8
        np.testing.assert_array_equal(*clips)


def test_a_window_shorter_than_its_clip_repeats() -> None:
    """A video of one frame, too, gives clips of sixteen."""
    window = np.random.default_rng(0).integers(0, 256, (1, 60, 80, 3), dtype=np.uint8)
    for seed in range(4):
        assert draw_clip(window, 16, generator(seed)).shape == (16, 224, 224, 3)


def test_clips_hold_motion_stills_and_repeats() -> None:
    """Among forty clips of a moving window some stand still, some repeat frames, most move."""
    window = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 240, 320, 3), dtype=np.uint8
    )
    window[:, ::7] += 100
    changes = []
    for number in range(40):
        clip = draw_clip(window, 6, generator(5, number)).astype(int)
        changes.append((np.abs(np.diff(clip, axis=0)).sum((1, 2, 3)) > 0).mean())
    assert min(changes) == 0
    assert max(changes) == 1
    assert any(0 < change < 1 for change in changes)
