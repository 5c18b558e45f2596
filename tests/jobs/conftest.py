"""Small generated videos for the tests of jobs and commands."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gazepack.jobs import Nursery, PackSettings, Resources, VideoDone, open_run, run_serial
from gazepack.selectors import build
from gazepack.video import write_video

MakeVideo = Callable[..., Path]

SMALL = {"shards": {"samples_per_shard": 2}, "fit": {"max_tiles": 2}}
"""Settings under which the videos of the tests fill several shards."""


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


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """One nursery for all tests that do not care, as its start takes three seconds of a core."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def pack(nursery: Nursery) -> Callable[..., list[VideoDone]]:
    """Return a function that packs in this process, and returns what was reported."""

    def pack(
        source: Path,
        out: Path | str,
        values: dict[str, Any] | None = None,
        resources: Resources | None = None,
        *,
        own_nursery: bool = False,
    ) -> list[VideoDone]:
        settings = PackSettings.parse(SMALL if values is None else values)
        selector = build(settings.selector, device="cpu")
        run = open_run([str(source)], str(out), settings=settings, selector=selector)
        done: list[VideoDone] = []
        run_serial(
            run,
            resources=resources or Resources(),
            report=done.append,
            nursery=None if own_nursery else nursery,
        )
        return done

    return pack


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads every file of a directory."""

    def contents(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return contents
