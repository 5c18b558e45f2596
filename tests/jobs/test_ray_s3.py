"""Workers on a real cluster that read from S3 and write to it, through a network that fails, and are killed."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from gazepack.errors import StorageError
from gazepack.formats import DatasetDirectory
from gazepack.jobs import (
    DecoderSettings,
    PackSettings,
    Resources,
    VideoDone,
    build_selector,
    open_run,
)
from gazepack.jobs.executors.cluster import ClusterSettings
from gazepack.jobs.executors.ray import run_ray

SETTINGS = {
    "shards": {"samples_per_shard": 1},
    "fit": {"max_tiles": 2},
    "selector": {"name": "greedy"},
}
Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def proxy(start_proxy: Callable[..., Any]) -> Iterator[Any]:
    """Every twentieth request fails, for everybody in this module; silences are met in `test_s3.py`."""
    proxy = start_proxy("--faults", "500", "503", "reset", "cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        patch.setenv("GAZEPACK_RETRY_SECONDS", "1")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield proxy


@pytest.fixture(scope="module")
def nodes(proxy: Any, start_cluster: Callable[..., Any]) -> Any:
    """Two nodes whose processes know S3 through the proxy only."""
    assert os.environ["AWS_ENDPOINT_URL"].endswith(f":{proxy.port}")
    return start_cluster({"num_cpus": 2}, {"num_cpus": 2})


@pytest.fixture(scope="module")
def packed(
    videos: Path,
    tmp_path_factory: pytest.TempPathFactory,
    pack: Callable[..., Any],
    contents: Contents,
) -> dict[str, bytes]:
    """Shards and indices of the videos packed from disk to disk by one process."""
    out = tmp_path_factory.mktemp("packed") / "out"
    pack(videos, out, SETTINGS)
    return shards(contents(out))


def shards(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the shards and indices; failures and run/ name the addresses of the sources."""
    return {name: data for name, data in files.items() if name.startswith(("shards/", "index/"))}


def on_ray(source: str, out: str, workers: int) -> list[VideoDone]:
    """Pack on the cluster; return what was reported."""
    settings = PackSettings.parse(SETTINGS)
    selector = build_selector(settings.selector, device="cpu")
    run = open_run([source], out, settings=settings, selector=selector)
    done: list[VideoDone] = []
    resources = Resources(decoders=DecoderSettings(timeout_seconds=60.0))
    where = ClusterSettings(max_workers=workers)
    run_ray(run, resources=resources, report=done.append, settings=where)
    return done


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("workers", [1, 4])
def test_ray_to_s3_gives_the_bytes_of_one_process_on_disk(
    s3_server: Any, source: str, packed: dict[str, bytes], contents: Contents, workers: int
) -> None:
    """With one request in twenty failing, 1 or 4 workers (2 below) write the same; every video is told once."""
    done = on_ray(source, f"s3://bucket/by{workers}", workers)
    assert shards(contents(s3_server.bucket / f"by{workers}")) == packed
    assert len({video.id for video in done}) == len(done) == 7
    assert {video.id for video in done if video.error} == {"empty.mp4", "text.mkv"}


@pytest.mark.usefixtures("nodes")
def test_killed_workers_lose_nothing_on_s3(
    s3_server: Any,
    source: str,
    packed: dict[str, bytes],
    contents: Contents,
    packers: Callable[[], list[int]],
) -> None:
    """SIGKILL of four workers, each just before, while or after it writes: the same bytes once the run ends."""
    chance, over, killed = random.Random(3), threading.Event(), []
    bucket = s3_server.bucket / "killed"

    def kill() -> None:
        """Kill somebody whenever another index has come."""
        seen = 0
        while len(killed) < 4 and not over.wait(0.02):
            there = len(list((bucket / "index").glob("0*"))) if bucket.exists() else 0
            alive = packers()
            if there > seen and alive and not over.wait(chance.uniform(0.0, 0.5)):
                seen = there
                killed.append(chance.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        on_ray(source, "s3://bucket/killed", 2)
    finally:
        over.set()
        killer.join()
    assert len(killed) >= 2
    assert shards(contents(bucket)) == packed


@pytest.mark.usefixtures("nodes")
def test_an_outage_ends_the_run_with_one_line_and_it_goes_on(
    s3_server: Any,
    proxy: Any,
    videos: Path,
    packed: dict[str, bytes],
    start_proxy: Callable[..., Any],
    contents: Contents,
) -> None:
    """With the way to S3 gone for good, what a worker meets is one line in the driver; then it goes on."""
    source, out, bucket = str(videos), "s3://bucket/outage", s3_server.bucket / "outage"
    over = threading.Event()

    def cut() -> None:
        while not list(bucket.glob("index/0*")) and not over.wait(0.02):
            continue
        proxy.stop()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        with pytest.raises(StorageError, match=r"s3://bucket/outage/.* cannot be ") as caught:
            on_ray(source, out, 1)
    finally:
        over.set()
        cutter.join()
    assert "\n" not in str(caught.value)
    start_proxy("--port", str(proxy.port), "--faults", "500")
    before = DatasetDirectory.open(out).committed()
    on_ray(source, out, 1)
    assert 0 < len(before) < 7
    assert shards(contents(bucket)) == packed
