"""Workers on a real cluster of several nodes, really killed: the output is always the serial one."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gazepack.errors import StorageError, UsageError
from gazepack.formats import DatasetDirectory, verify_shard
from gazepack.jobs import PackSettings, Resources, VideoDone, open_run
from gazepack.jobs.executors.cluster import ClusterSettings
from gazepack.jobs.executors.packer import flattened, restored
from gazepack.jobs.executors.ray import run_ray
from gazepack.selectors import build

SETTINGS = {"shards": {"samples_per_shard": 1}, "fit": {"max_tiles": 2}}
Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of a head without room for workers, and two nodes with two cores each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ray's own, at import and at start
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray
        from ray.cluster_utils import Cluster

        store = {"object_store_memory": 80 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
        for _ in range(2):
            cluster.add_node(num_cpus=2, **store)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def packed(
    videos: Path, tmp_path_factory: pytest.TempPathFactory, pack: Callable[..., Any]
) -> Path:
    """The videos packed by one process, undisturbed."""
    out = tmp_path_factory.mktemp("packed") / "out"
    pack(videos, out, SETTINGS)
    return out


def on_ray(source: Path, out: Path, workers: int = 2) -> list[VideoDone]:
    """Pack on the cluster; return what was reported."""
    settings = PackSettings.parse(SETTINGS)
    selector = build(settings.selector, device="cpu")
    run = open_run([str(source)], str(out), settings=settings, selector=selector)
    done: list[VideoDone] = []
    where = ClusterSettings(max_workers=workers)
    run_ray(run, resources=Resources(), report=done.append, settings=where)
    return done


def packers() -> list[int]:
    """Return the process ids of all workers."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and b"ray::Packer" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_bytes(
    videos: Path, packed: Path, tmp_path: Path, contents: Contents, workers: int
) -> None:
    """Serial, and with 1 or 4 workers (2 below); every video is reported once."""
    done = on_ray(videos, tmp_path / "out", workers)
    assert contents(tmp_path / "out") == contents(packed)
    assert sorted(video.id for video in done) == sorted(path.name for path in videos.iterdir())
    assert {video.id for video in done if video.error} == {"empty.mp4", "text.mkv"}


@pytest.mark.usefixtures("nodes")
def test_killed_workers_change_nothing(
    videos: Path, packed: Path, tmp_path: Path, contents: Contents
) -> None:
    """SIGKILL of a worker at three random moments: its unit is packed again, and each video reported once."""
    chance, over = random.Random(1), threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while len(killed) < 3 and not over.wait(chance.uniform(0.3, 2.0)):
            if alive := packers():
                killed.append(chance.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        while len(killed) < 3:  # begin again, so that every kill meets a run at work
            out = tmp_path / f"out{len(killed)}"
            done = on_ray(videos, out)
            assert contents_of_index(out, contents) == contents_of_index(packed, contents)
            assert len({video.id for video in done}) == len(done) == 7
    finally:
        over.set()
        killer.join()


def contents_of_index(folder: Path, contents: Contents) -> dict[str, bytes]:
    """Return every file but the temporary ones that killed writers left."""
    return {name: data for name, data in contents(folder).items() if not name.endswith(".tmp")}


@pytest.mark.usefixtures("nodes")
def test_storage_that_cannot_be_written_ends_the_run(videos: Path, tmp_path: Path) -> None:
    """What a worker cannot write is one line in the driver, after two tries; what was committed stays."""
    out = tmp_path / "out"
    settings = PackSettings.parse(SETTINGS)
    selector = build(settings.selector, device="cpu")
    run = open_run([str(videos)], str(out), settings=settings, selector=selector)
    (out / "shards").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"shards/.* cannot be written"):
        run_ray(
            run,
            resources=Resources(),
            report=lambda _: None,
            settings=ClusterSettings(max_workers=1),
        )
    (out / "shards").unlink()
    on_ray(videos, out)
    assert len(DatasetDirectory.open(str(out)).committed()) == 7


COMMAND = """
import sys
from gazepack.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def command(videos: Path, out: Path, address: str) -> list[str]:
    options = ["--samples-per-shard", "1", "--max-tiles", "2", "--executor", "ray"]
    options += ["--workers", "2", "--ray-address", address]
    return [sys.executable, "-c", COMMAND, "pack", str(videos), "--out", str(out), *options]


def test_killed_drivers_and_a_killed_node_change_nothing(
    nodes: Any, videos: Path, packed: Path, tmp_path: Path, contents: Contents
) -> None:
    """SIGKILL of the driver twice, and of a whole node while the last one runs."""
    out = tmp_path / "out"
    line = command(videos, out, nodes.address)
    chance = random.Random(2)
    for kill in range(2):
        driver = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((out / "index").glob("0*"))) <= kill and driver.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 0.5))
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    for number in DatasetDirectory.open(str(out)).committed():
        assert verify_shard(DatasetDirectory.open(str(out)), number) == []
    for index in sorted((out / "index").iterdir())[1:]:
        index.unlink()  # so that the node dies under work
    extra = nodes.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    driver = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not packers() and driver.poll() is None:
        time.sleep(0.02)
    time.sleep(1.0)
    nodes.remove_node(extra, allow_graceful=False)
    _, said = driver.communicate(timeout=120)
    assert driver.returncode == 3, said
    DatasetDirectory.open(str(out)).remove_leftovers()
    assert contents(out) == contents(packed)


def test_no_cluster_at_the_address_is_one_line(videos: Path, tmp_path: Path) -> None:
    """A wrong --ray-address ends with exit code 2 and a remedy, not with a traceback."""
    line = command(videos, tmp_path / "out", "127.0.0.1:1")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "no Ray cluster answers at '127.0.0.1:1'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_impossible_range_of_workers_is_refused() -> None:
    """At least one worker, and not more at least than at most."""
    with pytest.raises(UsageError, match=r"workers 3:2 is not a range"):
        ClusterSettings(min_workers=3, max_workers=2)


def test_errors_survive_the_way_from_a_worker() -> None:
    """What a worker could not do comes back as the error it was, remedy and all."""
    error = StorageError("the disk is full", remedy="free some space")
    back = restored(flattened(error))
    assert type(back) is StorageError
    assert str(back) == str(error)
