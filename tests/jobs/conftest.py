"""Small generated videos for the tests of jobs and commands."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gazepack.video import write_video

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def make_video() -> MakeVideo:
    """Return a function that writes a video of a square moving over a still texture."""

    def make(
        path: Path, *, frames: int = 20, size: tuple[int, int] = (240, 320), seed: int = 0
    ) -> Path:
        height, width = size
        texture = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (6, 8, 3))
        still = texture.repeat(height // 6, 0).repeat(width // 8, 1).astype(np.uint8)

        def moving(number: int) -> np.ndarray:
            picture = still.copy()
            x = 10 * number % (width - 60)
            picture[40:100, x : x + 60] = (250, 30 + seed, 40)
            return picture

        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, (moving(number) for number in range(frames)), fps=10)
        return path

    return make


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Path:
    """A folder of five good videos in two sizes and two that cannot be packed."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(5):
        size = (240, 320) if number % 2 else (480, 264)
        make_video(folder / f"clip{number}.mp4", frames=10 + 9 * number, size=size, seed=number)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mkv").write_text("not a video")
    return folder
