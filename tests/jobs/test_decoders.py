"""Videos that crash, hang or fill the memory take nothing with them."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest

from gazepack.cli.main import run
from gazepack.formats import DatasetDirectory
from gazepack.geometry import Grid
from gazepack.jobs import (
    DecoderSettings,
    Nursery,
    PackSettings,
    Resources,
    Segment,
    Tally,
    build_selector,
    open_run,
    run_serial,
)
from gazepack.jobs.clips import Clip, Item, SegmentEnd, SegmentStart, clips_of_segment
from gazepack.jobs.decoders import Decoders
from gazepack.jobs.wire import receive_item, send_item

SETTINGS = PackSettings.parse(
    {"fit": {"max_tiles": 2}, "shards": {"samples_per_shard": 10}, "selector": {"name": "greedy"}}
)


@pytest.fixture(scope="module")
def poison() -> Iterator[None]:
    """Make `poison:` addresses readable in every process that is started meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "poison"))
        yield


@pytest.fixture(scope="module")
def decoders(request: pytest.FixtureRequest) -> Iterator[Decoders]:
    """Two decoders that give a video two seconds and 300 MB."""
    request.getfixturevalue("poison")
    how = DecoderSettings(num=2, timeout_seconds=2.0, memory_bytes=300 * 2**20)
    with Decoders(SETTINGS, how) as decoders:
        yield decoders


def segment(uri: str | Path) -> Segment:
    return Segment(id=str(uri), key="k", uri=str(uri), bytes=0)


def of(items: list[Item], position: int) -> list[Item]:
    return [item for item in items if item.segment == position]


def assert_same_clips(left: list[Item], right: list[Item]) -> None:
    """Two runs of items hold the same clips."""
    for a, b in zip(left, right, strict=True):
        assert type(a) is type(b)
        if isinstance(a, Clip) and isinstance(b, Clip):
            assert (a.view, a.number, a.grid, a.times_T) == (b.view, b.number, b.grid, b.times_T)
            np.testing.assert_array_equal(a.frames_THW3, b.frames_THW3)
        elif isinstance(a, SegmentStart) and isinstance(b, SegmentStart):
            assert (a.info, a.views) == (b.info, b.views)


def test_decoders_give_what_decoding_here_gives(decoders: Decoders, videos: Path) -> None:
    """Through two processes comes, segment by segment, exactly what one call in this process gives."""
    names = [f"clip{n}.mp4" for n in range(4)]
    segments = [segment(videos / name) for name in names]
    items = list(decoders.items(segments))
    for position, one in enumerate(segments):
        got = of(items, position)
        assert got[-1] == SegmentEnd(segment=position)
        assert_same_clips(got[:-1], list(clips_of_segment(position, one, SETTINGS)))


@pytest.mark.parametrize("is_from_hardware", [True, False])
def test_a_clip_says_on_the_way_who_decoded_it(is_from_hardware: bool) -> None:
    """What a decoder knows of the decode device reaches the worker, and whether the view is kept whole."""
    clip = Clip(
        segment=3,
        view="tiles",
        number=2,
        grid=Grid(rows=1, cols=1, patch_size=4),
        whole=not is_from_hardware,
        frames_THW3=np.zeros((1, 56, 56, 3), dtype=np.uint8),
        times_T=(0.5,),
        is_from_hardware=is_from_hardware,
    )
    ours, theirs = Pipe()
    send_item(theirs, clip)
    received = receive_item(ours)
    assert isinstance(received, Clip)
    assert received.is_from_hardware is is_from_hardware
    assert received.whole is not is_from_hardware


def test_falling_back_to_the_cpu_changes_nothing_and_is_counted(
    videos: Path, tmp_path: Path, nursery: Nursery
) -> None:
    """Told of a device that decodes none of them, decoders give the same bytes, and the run says how many."""
    written, counts = [], []
    for device in ("cpu", "qsv"):
        out = tmp_path / device
        selector = build_selector(SETTINGS.selector, device="cpu")
        video = str(videos / "clip0.mp4")
        run = open_run([video], str(out), settings=SETTINGS, selector=selector)
        resources, tally = Resources(decoders=DecoderSettings(device=device)), Tally()
        run_serial(run, resources=resources, report=lambda _: None, meter=tally, nursery=nursery)
        counts.append(tally.fallbacks)
        written.append((out / "shards" / "000000.tar").read_bytes())
    assert counts == [0, 1]
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("segv", r"its decoder died \(SIGSEGV\); transcode the video"),
        ("kill", r"its decoder died \(SIGKILL\)"),
        ("hang", r"not decoded within 2 s; raise --video-timeout"),
        ("stop", r"not decoded within 2 s"),
        ("memory", r"cannot be opened \(.*memory|needs more memory|cannot be opened \(MemoryError"),
        ("missing", r"cannot be opened"),
    ],
)
def test_poison_is_quarantined_after_two_tries(
    decoders: Decoders, videos: Path, how: str, match: str
) -> None:
    """What a video does to its decoder is on record; the videos before and behind it are whole."""
    good = videos / "clip1.mp4"
    uris = [good, f"poison://{how}{good}", good]
    items = list(decoders.items([segment(uri) for uri in uris]))
    (end,) = of(items, 1)
    assert isinstance(end, SegmentEnd)
    assert end.attempts == 2
    with pytest.raises(type(end.error), match=match):
        raise end.error
    for position in (0, 2):
        alone = list(clips_of_segment(position, segment(good), SETTINGS))
        got = of(items, position)[:-1]
        starts = [n for n, item in enumerate(got) if isinstance(item, SegmentStart)]
        # a slow machine may take two tries for a good one
        assert_same_clips(got[starts[-1] :], alone)


def test_a_killed_nursery_is_replaced(decoders: Decoders, videos: Path) -> None:
    """SIGKILL of the process that all decoders come from costs one try, not the videos."""
    segments = [segment(videos / f"clip{n}.mp4") for n in range(4)]
    items = decoders.items(segments)
    first = next(items)
    nursery = decoders._nursery
    assert nursery is not None
    os.kill(nursery._process.pid, signal.SIGKILL)
    ends = [item for item in [first, *items] if isinstance(item, SegmentEnd)]
    assert sorted(end.segment for end in ends) == [0, 1, 2, 3]
    assert all(end.error is None for end in ends)


def test_a_nursery_has_one_thread_and_no_torch(decoders: Decoders, videos: Path) -> None:
    """Forking is safe because nothing else runs in the process that forks, and cheap as it holds little."""
    list(decoders.items([segment(videos / "clip0.mp4")]))
    nursery = decoders._nursery
    assert nursery is not None
    about = Path(f"/proc/{nursery._process.pid}")
    assert len(list((about / "task").iterdir())) == 1
    libraries = (about / "maps").read_text()
    assert "libavcodec" in libraries
    assert "libtorch" not in libraries


@pytest.mark.usefixtures("poison")
def test_decoders_end_with_their_worker(videos: Path) -> None:
    """Leaving the context ends a decoder that hangs, at once."""
    hanging = segment(f"poison://hang{videos}/clip0.mp4")

    def read(decoders: Decoders) -> None:
        with suppress(OSError, RuntimeError):  # it is cut off in the middle
            next(decoders.items([hanging]), None)

    with Decoders(SETTINGS, DecoderSettings(timeout_seconds=None)) as decoders:
        threading.Thread(target=read, args=[decoders], daemon=True).start()
        while decoders._nursery is None:
            time.sleep(0.01)
        pid = decoders._nursery._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        while not children.read_text().split():
            time.sleep(0.01)
        (born,) = children.read_text().split()
        time.sleep(0.5)  # until it has been handed its segment
    deadline = time.monotonic() + 10
    while Path(f"/proc/{born}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{born}").exists()


BAD = {
    "v05": ("poison://segv{}", r"its decoder died \(SIGSEGV\)"),
    "v11": ("poison://kill{}", r"its decoder died \(SIGKILL\)"),
    "v17": ("poison://hang{}", r"not decoded within 2 s"),
    "v23": ("poison://memory{}", r"memory|Memory"),
    "v29": ("{}.corrupt", r"cannot be|truncated"),
}
"""What five videos of fifty do: crash, be killed, hang, take all memory, be damaged."""
FLAKY = "v35"
"""A video that kills its decoder once, and is good when it is tried again."""


@pytest.mark.usefixtures("poison")
def test_a_corpus_with_poison_is_packed(
    videos: Path, tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    """Of fifty videos five are bad: the command ends with 3, the five are on record and nothing else is lost.

    It takes bounded time: each bad video is tried twice. The shards are byte for byte those of a run in which
    every bad video was a missing file.
    """
    good = tmp_path / "clip.mp4"
    shutil.copy(videos / "clip1.mp4", good)
    flaky = tmp_path / "flaky.mp4"
    shutil.copy(good, flaky)
    data = good.read_bytes()
    (tmp_path / "clip.mp4.corrupt").write_bytes(data[: len(data) // 2])
    names = [f"v{number:02d}" for number in range(50)]

    def manifest(name: str, uris: dict[str, str]) -> Path:
        path = tmp_path / name
        rows = "".join(f"{uris.get(video, good)},{video}\n" for video in names)
        path.write_text(f"path,id\n{rows}")
        return path

    def packed(source: Path, out: str) -> int:
        options = [
            "--selector",
            "greedy",
            "--fps",
            "1",
            "--max-tiles",
            "1",
            "--samples-per-shard",
            "25",
        ]
        limits = ["--video-timeout", "2", "--video-memory", "300MB", "--executor", "serial"]
        return run(["pack", str(source), "--out", str(tmp_path / out), *options, *limits])

    bad = {video: uri.format(good) for video, (uri, _) in BAD.items()}
    assert packed(manifest("a.csv", {**bad, FLAKY: f"poison://once{flaky}"}), "a") == 3
    directory = DatasetDirectory.open(str(tmp_path / "a"))
    rows = directory.failures().to_pylist()
    assert {row["id"]: row["attempts"] for row in rows} == dict.fromkeys(BAD, 2)
    for row in rows:
        assert re.search(BAD[row["id"]][1], row["message"]), row
    assert directory.read_index()["id"].to_pylist() == [v for v in names if v not in BAD]
    # twin: nothing bad ever happened
    gone = dict.fromkeys(BAD, "gone.mp4")
    assert packed(manifest("b.csv", {**gone, FLAKY: f"poison://fine{flaky}"}), "b") == 3
    left, right = contents(tmp_path / "a"), contents(tmp_path / "b")
    shards = [name for name in left if name.startswith("shards/")]
    assert len(shards) == 2
    assert all(left[name] == right[name] for name in shards)


@pytest.mark.usefixtures("poison")
def test_a_video_that_kills_whoever_tries_it_is_set_aside(videos: Path, tmp_path: Path) -> None:
    """Tried four times, on record after that; the videos of its unit and the units behind are packed."""
    good = videos / "clip0.mp4"
    manifest = tmp_path / "m.csv"
    paths = [f"poison://kill{good}", good, good]
    manifest.write_text("path,id\n" + "".join(f"{path},v{n}\n" for n, path in enumerate(paths)))
    options = [
        "--selector",
        "greedy",
        "--attempts",
        "4",
        "--samples-per-shard",
        "2",
        "--fps",
        "1",
        "--executor",
        "serial",
    ]
    assert run(["pack", str(manifest), "--out", str(tmp_path / "out"), *options]) == 3
    directory = DatasetDirectory.open(str(tmp_path / "out"))
    (row,) = directory.failures().to_pylist()
    assert (row["id"], row["attempts"], row["shard"]) == ("v0", 4, 0)
    assert "SIGKILL" in row["message"]
    assert directory.read_index()["id"].to_pylist() == ["v1", "v2"]
