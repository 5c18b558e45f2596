"""Workers on a real cluster of several nodes, really killed: the output is always the serial one."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gazepack.errors import CheckpointError, StorageError, UsageError
from gazepack.formats import DatasetDirectory, verify_shard
from gazepack.geometry import CLIP_FRAMES
from gazepack.jobs import PackSettings, Resources, VideoDone, build_selector, open_run
from gazepack.jobs.executors import ray as driver_of_ray
from gazepack.jobs.executors.cluster import ClusterSettings
from gazepack.jobs.executors.ray import run_ray
from gazepack.jobs.metrics import STAGES

SETTINGS = {
    "shards": {"samples_per_shard": 1},
    "fit": {"max_tiles": 2},
    "selector": {"name": "greedy"},
}
Contents = Callable[[Path], dict[str, bytes]]
Packers = Callable[[], list[int]]


@pytest.fixture(scope="module")
def nodes(start_cluster: Callable[..., Any]) -> Iterator[Any]:
    """Two nodes of two cores, whose processes can read `poison:` addresses; one says that it has two GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "poison"), prepend=os.pathsep)
        yield start_cluster({"num_cpus": 2}, {"num_cpus": 2, "num_gpus": 2})


@pytest.fixture(scope="module")
def packed(
    videos: Path, tmp_path_factory: pytest.TempPathFactory, pack: Callable[..., Any]
) -> Path:
    """The videos packed by one process, undisturbed."""
    out = tmp_path_factory.mktemp("packed") / "out"
    pack(videos, out, SETTINGS)
    return out


@pytest.fixture(scope="module")
def two(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two of the videos."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("clip1.mp4", "clip4.mp4"):
        shutil.copy(videos / name, folder)
    return folder


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_test(packers: Packers) -> Iterator[None]:
    """Wait until the workers that a run has ended are gone, so that the next test counts only its own."""
    yield
    deadline = time.monotonic() + 20
    while alive := packers():
        assert time.monotonic() < deadline, f"workers {alive} outlived their run"
        time.sleep(0.05)


def on_ray(source: Path, out: Path, **where: Any) -> list[VideoDone]:
    """Pack on the cluster, with two workers unless said otherwise; return what was reported."""
    settings = PackSettings.parse(SETTINGS)
    selector = build_selector(settings.selector, device="cpu")
    run = open_run([str(source)], str(out), settings=settings, selector=selector)
    done: list[VideoDone] = []
    cluster = ClusterSettings(**{"max_workers": 2, **where})
    run_ray(run, resources=Resources(), report=done.append, settings=cluster)
    return done


@contextmanager
def watching(look: Callable[[], None]) -> Iterator[None]:
    """Look again and again while the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A run with at most four workers, and what could be seen of it from outside."""

    out: Path
    done: list[VideoDone]
    most: int
    """The most workers that were there at once."""
    metrics: str
    """What the nodes last offered to Prometheus."""
    stored_bytes: list[float]
    """In the object stores of all nodes, at every look."""


@pytest.fixture(scope="module")
def observed(
    nodes: Any, videos: Path, tmp_path_factory: pytest.TempPathFactory, packers: Packers
) -> Observed:
    """Pack all videos with four workers, and look on."""
    assert nodes.address
    out, most, metrics = tmp_path_factory.mktemp("observed") / "out", 0, ""
    stored: list[float] = []

    def look() -> None:
        nonlocal most, metrics
        most = max(most, len(packers()))
        if found := scraped():
            metrics = found
            gauges = re.findall(r"^ray_object_store_memory\{.*\} (\S+)", found, re.M)
            stored.extend([sum(map(float, gauges))] if gauges else [])

    with watching(look):
        done = on_ray(videos, out, max_workers=4)
    return Observed(out=out, done=done, most=most, metrics=metrics, stored_bytes=stored)


def scraped() -> str:
    """Return what all nodes offer to Prometheus, if there is anything of ours."""
    import ray

    texts = []
    for node in ray.nodes():
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            texts.append(answer.read().decode())
    return "\n".join(text for text in texts if "gazepack" in text)


def test_four_workers_give_the_bytes_of_one_process(
    observed: Observed, videos: Path, packed: Path, contents: Contents
) -> None:
    """Serial, and with 4 workers (1 and 2 below); every video is reported once, and no fifth worker comes."""
    assert contents(observed.out) == contents(packed)
    done = observed.done
    assert sorted(video.id for video in done) == sorted(path.name for path in videos.iterdir())
    assert {video.id for video in done if video.error} == {"empty.mp4", "text.mkv"}
    assert 1 < observed.most <= 4


def test_prometheus_finds_the_numbers_of_a_run(observed: Observed) -> None:
    """Counts, stages and queues at the ports that the nodes name, none of them larger than the truth."""
    found = dict.fromkeys(re.findall(r"^ray_gazepack_(\w+)\{", observed.metrics, re.M))
    wanted = {f"{x}_total" for x in ("videos", "failures", "frames", "tokens", "bytes")}
    assert found.keys() >= wanted | {"stage_seconds_total", "waiting", "units", "workers"}
    counted = re.findall(r"^ray_gazepack_tokens_total\{.*\} (\S+)", observed.metrics, re.M)
    assert 0 < sum(map(float, counted)) <= sum(video.tokens for video in observed.done)
    stages = re.findall(
        r"^ray_gazepack_stage_seconds_total\{.*stage=\"(\w+)\"", observed.metrics, re.M
    )
    assert set(stages) == set(STAGES)


def test_frames_never_enter_the_object_store(observed: Observed) -> None:
    """At no look did the nodes' object stores hold as much as one clip of one tile."""
    assert observed.stored_bytes
    assert max(observed.stored_bytes) < CLIP_FRAMES * 3 * 224 * 224


@pytest.mark.usefixtures("nodes")
def test_killed_workers_change_nothing(
    videos: Path, packed: Path, tmp_path: Path, contents: Contents, packers: Packers
) -> None:
    """SIGKILL of workers, soon after a shard has come: the bytes are the same, each video is told once."""
    chance, out = random.Random(1), tmp_path / "out"
    killed: list[int] = []
    seen = 0

    def kill() -> None:
        nonlocal seen
        there = len(list(out.glob("index/0*")))
        if len(killed) < 5 and (there > seen or not killed) and packers():
            time.sleep(chance.uniform(0.0, 0.5))
            seen = there
            if alive := packers():
                killed.append(chance.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    with watching(kill):
        done = on_ray(videos, out)
    assert len(killed) >= 3  # two shards that come within one look are one chance
    assert contents_of_index(out, contents) == contents_of_index(packed, contents)
    assert len({video.id for video in done}) == len(done) == 7


def contents_of_index(folder: Path, contents: Contents) -> dict[str, bytes]:
    """Return every file but the temporary ones that killed writers left."""
    return {name: data for name, data in contents(folder).items() if not name.endswith(".tmp")}


@pytest.mark.usefixtures("nodes")
def test_storage_that_cannot_be_written_ends_the_run(
    two: Path, tmp_path: Path, pack: Callable[..., Any]
) -> None:
    """What a worker cannot write is one line in the driver, after two tries; mended, the run goes on."""
    out = tmp_path / "out"
    settings = PackSettings.parse(SETTINGS)
    selector = build_selector(settings.selector, device="cpu")
    run = open_run([str(two)], str(out), settings=settings, selector=selector)
    (out / "shards").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"shards/.* cannot be written"):
        run_ray(
            run,
            resources=Resources(),
            report=lambda _: None,
            settings=ClusterSettings(max_workers=1),
        )
    (out / "shards").unlink()
    assert len(pack(two, out, SETTINGS)) == 2
    assert len(DatasetDirectory.open(str(out)).committed()) == 2


COMMAND = """
import sys
from gazepack.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def driver(videos: Path, out: Path, *where: str) -> subprocess.Popen[str]:
    """Start `gazepack pack` in a process of its own."""
    options = [
        "--samples-per-shard",
        "1",
        "--max-tiles",
        "2",
        "--executor",
        "ray",
        "--selector",
        "greedy",
        *where,
    ]
    line = [sys.executable, "-c", COMMAND, "pack", str(videos), "--out", str(out), *options]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def await_shards(out: Path, number: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many shards are committed, or the process is over."""
    while len(list((out / "index").glob("0*"))) < number and process.poll() is None:
        time.sleep(0.02)


def test_killed_drivers_change_nothing(
    nodes: Any, videos: Path, packed: Path, tmp_path: Path, contents: Contents
) -> None:
    """SIGKILL of the driver twice; what is committed is whole each time, and a third one ends the run."""
    out, chance = tmp_path / "out", random.Random(2)
    for kill in (1, 2):
        process = driver(videos, out, "--workers", "1", "--ray-address", nodes.address)
        await_shards(out, kill, process)
        time.sleep(chance.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
        directory = DatasetDirectory.open(str(out))
        assert [p for n in directory.committed() for p in verify_shard(directory, n)] == []
    on_ray(videos, out, max_workers=1)
    DatasetDirectory.open(str(out)).remove_leftovers()
    assert contents(out) == contents(packed)


@pytest.mark.usefixtures("nodes")
def test_a_terminated_driver_was_interrupted(
    videos: Path, packed: Path, tmp_path: Path, contents: Contents, pack: Callable[..., Any]
) -> None:
    """SIGTERM, for which Ray has a handler of its own, is one line and exit code 130; one process goes on."""
    out = tmp_path / "out"
    process = driver(videos, out, "--workers", "1")  # on a cluster of its own
    await_shards(out, 1, process)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == (
        "gazepack: interrupted; the same command goes on where this one stopped"
    )
    assert "Traceback" not in said
    assert 0 < len(DatasetDirectory.open(str(out)).committed()) < 7
    pack(videos, out, SETTINGS)
    DatasetDirectory.open(str(out)).remove_leftovers()
    assert contents(out) == contents(packed)


def test_a_node_comes_and_dies_and_another_comes(
    nodes: Any,
    two: Path,
    tmp_path: Path,
    contents: Contents,
    pack: Callable[..., Any],
    packers: Packers,
) -> None:
    """A worker that fits nowhere waits for a machine; that is killed under it, and it goes on with the next."""
    out = tmp_path / "out"
    where = {"min_workers": 1, "max_workers": 1, "cpus_per_worker": 3}
    packing = threading.Thread(target=on_ray, args=[two, out], kwargs=where)
    packing.start()
    time.sleep(2.0)
    assert packing.is_alive()
    assert packers() == []
    for kill in (True, False):
        node = nodes.add_node(
            num_cpus=3, dashboard_agent_listen_port=0, object_store_memory=80 * 2**20
        )
        while kill and packing.is_alive() and not any(map(is_at_work, packers())):
            time.sleep(0.02)
        if kill:
            nodes.remove_node(node, allow_graceful=False)
    packing.join()
    nodes.remove_node(node)
    DatasetDirectory.open(str(out)).remove_leftovers()
    pack(two, tmp_path / "serial", SETTINGS)
    assert contents(out) == contents(tmp_path / "serial")


def is_at_work(worker: int) -> bool:
    """Return whether a worker has a nursery, which it starts for its first unit."""
    with suppress(OSError):
        return any(path.read_text() for path in Path(f"/proc/{worker}/task").glob("*/children"))
    return False


@pytest.mark.usefixtures("nodes")
def test_a_unit_that_kills_every_worker_is_set_aside(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is behind it is packed, and the run ends with its number and what to do."""
    monkeypatch.setattr(driver_of_ray, "DEATHS", 2)
    manifest = tmp_path / "m.csv"
    good = videos / "clip0.mp4"
    manifest.write_text(f"path,id\npoison://worker{good},v0\n{good},v1\n{good},v2\n")
    with pytest.raises(
        UsageError, match=r"units \[0\] ended their workers 2 times each, the rest is packed"
    ):
        on_ray(manifest, tmp_path / "out", max_workers=1)
    assert DatasetDirectory.open(str(tmp_path / "out")).committed() == [1, 2]


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("limit", ["units_per_worker", "worker_memory_bytes"])
def test_workers_are_replaced_before_they_leak(
    two: Path,
    tmp_path: Path,
    contents: Contents,
    pack: Callable[..., Any],
    packers: Packers,
    limit: str,
) -> None:
    """After so many units, or above so much memory, another process goes on; the bytes are the same."""
    seen: set[int] = set()
    with watching(lambda: seen.update(packers())):
        on_ray(two, tmp_path / "out", max_workers=1, **{limit: 1})
    assert len(seen) == 2
    pack(two, tmp_path / "serial", SETTINGS)
    assert contents(tmp_path / "out") == contents(tmp_path / "serial")


@pytest.mark.usefixtures("nodes")
def test_each_worker_has_the_gpus_that_were_asked_for(
    videos: Path, packed: Path, tmp_path: Path, contents: Contents, packers: Packers
) -> None:
    """Two GPUs and four cores are two workers of one GPU each, which see different ones; no third comes.

    What a worker sees is read from the environment of its nursery, which is started by it.
    """
    seen: dict[int, str] = {}
    most = 0

    def look() -> None:
        nonlocal most
        alive = packers()
        most = max(most, len(alive))
        for pid in alive:
            with suppress(OSError):
                for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
                    pairs = dict(entry.partition(b"=")[::2] for entry in environment)
                    if gpus := pairs.get(b"CUDA_VISIBLE_DEVICES"):
                        seen[pid] = gpus.decode()

    with watching(look):
        on_ray(videos, tmp_path / "out", max_workers=None, gpus_per_worker=1.0)
    assert contents(tmp_path / "out") == contents(packed)
    assert most in (1, 2)  # one alone may be done before the other has started
    assert set(seen.values()) <= {"0", "1"}
    assert len(seen) == len(set(seen.values())) >= 1


@pytest.mark.usefixtures("nodes")
def test_a_model_that_workers_cannot_load_is_one_line(two: Path, tmp_path: Path) -> None:
    """What keeps a worker from beginning is told as it is, not as workers that died."""
    model = shutil.copytree(
        Path(__file__).parents[1] / "data" / "autogaze-tiny", tmp_path / "model"
    )
    settings = PackSettings.parse(
        {**SETTINGS, "selector": {"name": "autogaze", "model": str(model), "gazing_ratio": 0.1}}
    )
    selector = build_selector(settings.selector, device="cpu")
    run = open_run([str(two)], str(tmp_path / "out"), settings=settings, selector=selector)
    shutil.rmtree(model)
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*/model; give a folder"):
        run_ray(
            run,
            resources=Resources(),
            report=lambda _: None,
            settings=ClusterSettings(max_workers=1),
        )


@pytest.mark.usefixtures("nodes")
def test_workers_that_never_come_end_the_run(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no machine is large enough for a worker, the run says so instead of waiting for ever."""
    monkeypatch.setattr(driver_of_ray, "PATIENCE_SECONDS", 1.0)
    with pytest.raises(
        UsageError, match=r"0 of 1 workers came within 1 s; each needs 64 CPUs and 0 GPUs"
    ):
        on_ray(two, tmp_path / "out", max_workers=1, cpus_per_worker=64)


@pytest.mark.usefixtures("nodes")
def test_two_runs_at_once_do_no_harm(
    videos: Path,
    packed: Path,
    tmp_path: Path,
    contents: Contents,
    pack: Callable[..., Any],
) -> None:
    """Workers on Ray and one process pack the same videos into one directory: the bytes of one run."""
    out = tmp_path / "out"
    other = threading.Thread(target=pack, args=[videos, out, SETTINGS])
    other.start()
    on_ray(videos, out, max_workers=1)
    other.join()
    assert contents(out) == contents(packed)
