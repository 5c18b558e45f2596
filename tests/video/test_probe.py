"""Probing: facts of the header and of the first frame."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gazepack.errors import VideoError
from gazepack.video import probe

Ffmpeg = Callable[..., bytes]


def test_facts_of_a_plain_clip(clip: Path) -> None:
    """Size, rate, length, codec and colour are those it was written with."""
    info = probe(clip)
    assert (info.codec, info.width, info.height, info.fps) == ("h264", 128, 96, 30.0)
    assert (info.rotation, info.pixel_format, info.color_matrix) == (0, "yuv420p", "bt709")
    assert pytest.approx(4.0) == info.duration_seconds
    assert not info.is_interlaced


@pytest.mark.parametrize(
    ("aspect", "size"), [("4/3", (171, 96)), ("3/4", (128, 128)), ("1/1", (128, 96))]
)
def test_pixels_that_are_not_square(
    clip: Path, ffmpeg: Ffmpeg, tmp_path: Path, aspect: str, size: tuple[int, int]
) -> None:
    """The display size stretches one side and never shrinks the other; the frames stay as stored."""
    path = tmp_path / "pixels.mp4"
    ffmpeg("-i", clip, "-vf", f"setsar={aspect}", "-frames:v", "3", path)
    info = probe(path)
    assert size == (info.display_width, info.display_height)
    assert (info.width, info.height) == (128, 96)


def test_a_stream_without_pictures_cannot_be_probed(clip: Path, tmp_path: Path) -> None:
    """A header alone says that no frame can be decoded, or that nothing can be read."""
    data = clip.read_bytes()
    path = tmp_path / "hollow.mp4"
    start = data.index(b"mdat") + 4
    path.write_bytes(
        data[:start] + bytes(data.index(b"moov") - 4 - start) + data[data.index(b"moov") - 4 :]
    )
    with pytest.raises(VideoError, match=r"hollow.mp4: (no frame can|cannot) be decoded"):
        probe(path)
