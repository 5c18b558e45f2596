"""Writing: what is written reads back, whole or not at all."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from gazepack.errors import StorageError, UsageError
from gazepack.video import Sampling, decode, write_video
from gazepack.video.scenes import objects


def test_lossless_frames_come_back(tmp_path: Path) -> None:
    """RGB in FFV1 is the same, bit for bit, with times k / fps."""
    drawn = list(objects(65, 33, 4))
    write_video(tmp_path / "a.mkv", drawn, fps=12.5, codec="ffv1", pixel_format="bgr0")
    frames = list(decode(tmp_path / "a.mkv", Sampling()))
    np.testing.assert_array_equal(np.stack(drawn), np.stack([frame.rgb_HW3 for frame in frames]))
    assert pytest.approx([frame.time_seconds for frame in frames]) == [0.0, 0.08, 0.16, 0.24]


def test_the_default_keeps_the_colours(tmp_path: Path) -> None:
    """H.264 at the default settings stays within a few levels of what was drawn."""
    drawn = list(objects(96, 64, 4))
    write_video(tmp_path / "a.mp4", drawn, fps=30, options={"crf": "4"})
    read = [frame.rgb_HW3.astype(int) for frame in decode(tmp_path / "a.mp4", Sampling())]
    assert np.abs(np.stack(read) - np.stack(drawn)).mean() < 4


def test_equal_input_gives_equal_files(tmp_path: Path) -> None:
    """Two processes write the same bytes, whatever their memory held: no date, no random id."""
    code = (
        "import sys\nfrom gazepack.video import write_video\nfrom gazepack.video.scenes import objects\n"
        "write_video(sys.argv[1], objects(96, 64, 40), fps=30)"
    )
    for filling in ("1", "170"):
        environment = os.environ | {"GLIBC_TUNABLES": f"glibc.malloc.perturb={filling}"}
        line = [sys.executable, "-c", code, str(tmp_path / f"{filling}.mp4")]
        subprocess.run(line, env=environment, check=True)
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "170.mp4").read_bytes()


@pytest.mark.parametrize(
    ("frames", "settings", "match"),
    [
        ([], {}, "no frames"),
        ([np.zeros((32, 32), np.uint8)], {}, "are not H x W x 3"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8)], {}, "frame 1 is"),
        ([np.zeros((33, 33, 3), np.uint8)], {}, "yuv420p needs even sizes"),
        ([np.zeros((32, 32, 3), np.uint8)], {"codec": "nonsense"}, "nonsense"),
        ([np.zeros((32, 32, 3), np.uint8)], {"codec": "aac"}, "aac"),
        ([np.zeros((32, 32, 3), np.uint8)], {"pixel_format": "nonsense"}, "nonsense"),
        ([np.zeros((32, 32, 3), np.uint8)], {"fps": 0.0}, "fps 0.0 is not above 0"),
    ],
)
def test_impossible_settings_are_refused(
    tmp_path: Path, frames: list[np.ndarray], settings: dict[str, object], match: str
) -> None:
    """What cannot be encoded is a usage error, and leaves no file."""
    with pytest.raises(UsageError, match=match):
        write_video(tmp_path / "a.mp4", frames, **{"fps": 10.0, **settings})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    """A folder that does not exist is named."""
    with pytest.raises(StorageError, match=r"none/a.mp4: cannot be written"):
        write_video(tmp_path / "none" / "a.mp4", islice(objects(32, 32, 9), 2), fps=10)
