"""What the tests of video share: the ffmpeg program as the independent judge, and small clips."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest

from gazepack.video import write_video
from gazepack.video.scenes import objects

Pixels = npt.NDArray[np.uint8]
Ffmpeg = Callable[..., bytes]


@pytest.fixture(scope="session")
def ffmpeg() -> Ffmpeg:
    """Run the ffmpeg program with these arguments and return what it writes to stdout."""

    def run(*arguments: str | Path) -> bytes:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *arguments]
        return subprocess.run([str(x) for x in command], check=True, capture_output=True).stdout

    return run


@pytest.fixture(scope="session")
def rgb_of(ffmpeg: Ffmpeg) -> Callable[..., Pixels]:
    """Decode a file with the ffmpeg program to T x H x W x 3, every frame once.

    The program is told where chroma sits (`left` in H.264): unlike the library, it does not look.
    """

    def run(path: Path, height: int, width: int, chroma: str = "auto") -> Pixels:
        scaler = (
            f"scale=flags=bilinear+accurate_rnd+full_chroma_int+bitexact:in_chroma_loc={chroma}"
        )
        raw = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
        data = ffmpeg("-i", path, "-map", "0:v:0", "-vf", scaler, *raw)
        return np.frombuffer(data, dtype=np.uint8).reshape(-1, height, width, 3)

    return run


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of H.264 at 30 fps, 128 x 96, with B-frames and a key frame a second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, objects(128, 96, 120), fps=30, options={"g": "30", "bf": "3"})
    return path


@pytest.fixture(scope="session")
def assert_close() -> Callable[[Pixels, Pixels], None]:
    """Equal up to one level in rounding: the program and PyAV bring two versions of swscale."""

    def check(actual_THW3: Pixels, expected_THW3: Pixels) -> None:
        assert expected_THW3.shape == actual_THW3.shape
        error = np.abs(actual_THW3.astype(np.int16) - expected_THW3)
        assert error.max() <= 1

    return check
