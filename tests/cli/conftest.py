"""A packed dataset for the commands that read one."""

from pathlib import Path

import numpy as np
import pytest

from gazepack.cli.main import run
from gazepack.video import write_video


def moving(number: int, *, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Draw a frame of a square that moves over stripes."""
    height, width = size
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[:] = (np.arange(width) // 16 % 2 * 120 + 60)[None, :, None]
    x = 12 * number % (width - 60)
    picture[60:120, x : x + 60] = (250, 60, 40)
    return picture


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos and one that is empty."""
    path = tmp_path_factory.mktemp("commands") / "videos"
    path.mkdir()
    for number in range(3):
        frames = (moving(number + n) for n in range(6 + 10 * number))
        write_video(path / f"{number}.mp4", frames, fps=10)
    (path / "empty.mp4").touch()
    return path


@pytest.fixture(scope="session")
def dataset(folder: Path) -> Path:
    """The videos, packed by the program itself."""
    out = folder.parent / "packed"
    serial = ["--executor", "serial"]  # starting Ray takes far longer than these videos
    assert run(["pack", str(folder), "--out", str(out), "--samples-per-shard", "2", *serial]) == 3
    return out
