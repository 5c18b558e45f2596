"""Small generated videos for the tests of jobs and commands."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gazepack.jobs import (
    Nursery,
    PackSettings,
    Resources,
    VideoDone,
    build_selector,
    open_run,
    run_serial,
)
from gazepack.video import write_video

MakeVideo = Callable[..., Path]

STORE = {"object_store_memory": 80 * 2**20}
"""Of every node of a Ray cluster; Ray takes no less."""
RAY = {"worker_niceness": 0, "metrics_report_interval_ms": 500}
"""Tests cannot wait for workers that let all other work go first, nor for numbers every 10 seconds."""
SMALL = {
    "shards": {"samples_per_shard": 2},
    "fit": {"max_tiles": 2},
    "selector": {"name": "greedy"},
}
"""Settings under which the videos of the tests fill several shards, chosen by the selector that takes least."""


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
        make_video(folder / f"clip{number}.mp4", frames=10 + 6 * number, size=size, seed=number)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mkv").write_text("not a video")
    return folder


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """One nursery for all tests that do not care, as its start takes half a second of a core."""
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
        selector = build_selector(settings.selector, device="cpu")
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


@pytest.fixture(scope="module")
def source(s3_server: Any, videos: Path) -> str:
    """The folder of videos in the bucket."""
    shutil.copytree(videos, s3_server.bucket / "videos")
    return "s3://bucket/videos"


@pytest.fixture(scope="module")
def start_cluster() -> Iterator[Callable[..., Any]]:
    """Return a function that starts a Ray cluster of several nodes and connects to it.

    Its arguments are those of the head and of each further node. Processes of the cluster have the environment
    of the moment at which their node was added. Agents take any free port: several clusters may run here. The
    cluster ends with the module.
    """
    started: list[Any] = []

    def start(head: dict[str, Any], *nodes: dict[str, Any]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ray's own, at import and at start
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
            import ray
            from ray.cluster_utils import Cluster

            started.append(cluster := Cluster())
            for node in ({"include_dashboard": False, "_system_config": RAY, **head}, *nodes):
                cluster.add_node(dashboard_agent_listen_port=0, **STORE, **node)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        return cluster

    yield start
    if started:
        import ray

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.shutdown()
            for cluster in started:
                cluster.shutdown()


@pytest.fixture(scope="session")
def packers() -> Callable[[], list[int]]:
    """Return a function that gives the process ids of the workers on all nodes that this process started."""

    def parent_of(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[1])

    def packers() -> list[int]:
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and b"ray::Packer" in (folder / "cmdline").read_bytes():
                    raylet = parent_of(int(folder.name))
                    if parent_of(raylet) == os.getpid():
                        found.append(int(folder.name))
            except OSError:
                continue
        return found

    return packers


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads every file of a directory but a command's notes of where its time went."""

    def contents(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.match("run/work-*.json")
        }

    return contents
