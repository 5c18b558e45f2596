"""Long videos in parts: several workers, one logical video, the very tokens of the whole."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gazepack.formats import DatasetDirectory, Sample, outstanding, summarise, verify_shard
from gazepack.jobs import (
    DecoderSettings,
    Nursery,
    PackSettings,
    Resources,
    Segment,
    compare_with_source,
    frozen_listing,
    list_sources,
    run_serial,
    verify_totals,
)
from gazepack.jobs.ledger import open_retry
from gazepack.jobs.parts import LEAST_BYTES_PER_SECOND, divided
from gazepack.jobs.status import status_of
from gazepack.video import write_video

Pack = Callable[..., Any]
LONGEST = 1.5
CHEAP: dict[str, Any] = {
    "fit": {"fit": "square"},
    "selector": {"name": "random", "gazing_ratio": 0.01},
    "codec": {"name": "zstd"},
}
"""A selector whose choices depend on a clip's place in its video, and cost little."""


def settings(split: float | str, **sampling: float) -> dict[str, Any]:
    return {
        **CHEAP,
        "sampling": sampling,
        "shards": {"samples_per_shard": 2, "split_seconds": split, "max_sample_tokens": 100},
    }


def noise(path: Path, *, frames: int, seed: int = 0) -> Path:
    """Write a video at 20 frames a second that no encoder makes small, with B-frames and few key frames."""
    chance = np.random.Generator(np.random.PCG64(seed))
    pictures = (chance.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(frames))
    write_video(path, pictures, fps=20, options={"g": "70", "bf": "3"})
    assert path.stat().st_size >= LONGEST * LEAST_BYTES_PER_SECOND
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 6.5 s that is packed in five parts of at most 1.5 s, and a clip of 1.4 s beside it."""
    folder = tmp_path_factory.mktemp("films")
    noise(folder / "film.mp4", frames=130)
    noise(folder / "short.mp4", frames=28, seed=1)
    return folder


@pytest.fixture(scope="module")
def in_parts(films: Path, tmp_path_factory: pytest.TempPathFactory, pack: Pack) -> Path:
    """The films packed in parts, every frame."""
    out = tmp_path_factory.mktemp("parts") / "out"
    pack(films, out, settings(LONGEST))
    return out


def samples_of(out: Path, video: str = "film.mp4") -> list[Sample]:
    """Return the samples of a video in order of time."""
    directory = DatasetDirectory.open(str(out))
    rows = [row for row in directory.read_index().to_pylist() if row["id"] == video]
    return [directory.read_sample(row) for row in sorted(rows, key=lambda row: row["window"])]


def assert_same_video(expected: list[Sample], actual: list[Sample]) -> None:
    """Two runs of samples hold the same frames with the same tokens, wherever they are cut."""

    def frames(samples: list[Sample], name: str) -> list[float]:
        return [value for sample in samples for value in sample.meta["views"][0][name]]

    def tokens(samples: list[Sample]) -> np.ndarray:
        rows = [sample.tokens_N6.astype(np.int64) for sample in samples]
        for sample, row in zip(samples, rows, strict=True):
            row[:, 1] += sample.meta["first_frame"]
        return np.concatenate(rows)

    for name in ("times", "tokens", "psnr", "l1"):
        assert frames(expected, name) == frames(actual, name)
    np.testing.assert_array_equal(tokens(expected), tokens(actual))
    for array in ("patches_NPP3", "loss_N"):
        left, right = (np.concatenate([getattr(s, array) for s in x]) for x in (expected, actual))
        np.testing.assert_array_equal(left, right)


def segments_of(source: Path) -> dict[str, Segment]:
    rows = list_sources([str(source)]).to_pylist()
    return {row["id"]: Segment.from_row(row) for row in rows}


@pytest.mark.parametrize("sampling", [{}, {"fps": 12.5}])
def test_a_video_in_parts_has_the_tokens_of_the_whole(
    films: Path, in_parts: Path, tmp_path: Path, pack: Pack, sampling: dict[str, float]
) -> None:
    """Tokens, losses, times and patches are those of packing it unsplit; places go on over the parts."""
    pack(films, tmp_path / "whole", settings("never", **sampling))
    out = in_parts
    if sampling:
        out = tmp_path / "parts"
        pack(films, out, settings(LONGEST, **sampling))
    directory = DatasetDirectory.open(str(out))
    listing = frozen_listing(directory)
    assert listing is not None
    assert listing["id"].to_pylist() == ["film.mp4"] * 5 + ["short.mp4"]
    assert len(directory.committed()) == 3
    parts, whole = samples_of(out), samples_of(tmp_path / "whole")
    assert len(parts) > len(whole) > 1
    assert_same_video(whole, parts)
    assert_same_video(samples_of(tmp_path / "whole", "short.mp4"), samples_of(out, "short.mp4"))
    windows = [sample.meta["window"] for sample in parts]
    assert windows == sorted(set(windows))
    assert set(listing["first_clip"].to_pylist()[:5]) <= set(windows)
    assert [s.key for s in parts] == [
        f"{whole[0].key}_w{w:04d}" if w else whole[0].key for w in windows
    ]
    found, plain = (summarise(DatasetDirectory.open(str(p))) for p in (out, tmp_path / "whole"))
    for name in ("videos", "frames", "tokens", "failed", "source_bytes"):
        assert found[name] == plain[name]


def test_whole_thumbnails_go_on_over_the_parts(films: Path, tmp_path: Path, pack: Pack) -> None:
    """Of a video in parts the same frames have a thumbnail as of the whole, with the same patches."""
    fit = {"max_tiles": 1, "thumbnail": True, "thumbnail_every": 4}
    for name, split in (("parts", LONGEST), ("whole", "never")):
        chosen = settings(split) | {"fit": fit}
        chosen["shards"] = chosen["shards"] | {"max_sample_tokens": 10_000}
        pack(films, tmp_path / name, chosen)
    parts, whole = (samples_of(tmp_path / name) for name in ("parts", "whole"))
    assert len(parts) > len(whole)
    for view in (0, 1):
        for name in ("times", "tokens", "psnr"):
            left, right = (
                [x for s in y for x in s.meta["views"][view][name]] for y in (parts, whole)
            )
            assert left == right
        patches = (
            np.concatenate([s.patches_NPP3[s.tokens_N6[:, 0] == view] for s in y])
            for y in (parts, whole)
        )
        np.testing.assert_array_equal(*patches)
    times = [[x for s in parts for x in s.meta["views"][view]["times"]] for view in (0, 1)]
    assert times[1] == times[0][::4]


def test_parts_are_verified_against_their_source(
    films: Path, in_parts: Path, tmp_path: Path
) -> None:
    """`verify` finds nothing missing and every stored error again; another film is found out."""
    directory = DatasetDirectory.open(str(in_parts))
    assert [p for n in directory.committed() for p in verify_shard(directory, n)] == []
    assert list(verify_totals(directory)) == []
    rows = [row for row in directory.read_index().to_pylist() if row["window"] > 0]
    assert list(compare_with_source(directory, rows, segments_of(films))) == []
    shutil.copy(films / "short.mp4", tmp_path / "film.mp4")
    assert list(compare_with_source(directory, rows[-1:], segments_of(tmp_path)))


def test_a_missing_part_is_noticed(films: Path, tmp_path: Path, pack: Pack) -> None:
    """`status` and `verify` know that a video is not whole while one of its parts is not there."""
    pack(films, tmp_path / "out", settings(LONGEST, fps=12.5))
    directory = DatasetDirectory.open(str(tmp_path / "out"))
    before = status_of(directory)
    assert (before.videos, before.planned_videos) == (2, 2)
    (tmp_path / "out" / "index" / "000001.parquet").unlink()
    after = status_of(directory)
    assert (after.videos, after.planned_videos, after.is_complete) == (1, 2, False)
    (problem,) = verify_totals(directory)
    assert "1 video is neither packed nor failed" in problem.problem
    assert summarise(directory)["videos"] == 2


def test_a_failed_part_is_packed_by_a_retry(
    films: Path, in_parts: Path, tmp_path: Path, pack: Pack, nursery: Nursery
) -> None:
    """Damage costs the part it is in, which is on record; mended, this part alone is packed again."""
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(films, source)
    data = bytearray((source / "film.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes([0x5A]) * 3000
    (source / "film.mp4").write_bytes(data)
    pack(source, out, settings(LONGEST))
    directory = DatasetDirectory.open(str(out))
    rows = outstanding(directory).to_pylist()
    assert {row["id"] for row in rows} == {"film.mp4"}
    assert 1 <= len(rows) <= 3
    assert all(row["window"] > 0 for row in rows)
    found = summarise(directory)
    assert (found["videos"], found["failed"]) == (2, 1)
    assert list(verify_totals(directory)) == []
    shutil.copy(films / "film.mp4", source / "film.mp4")
    run = open_retry(str(out))
    done: list[Any] = []
    run_serial(run, resources=Resources(), report=done.append, nursery=nursery)
    assert len(done) == len(rows)
    assert all(video.id.startswith("film.mp4 from ") for video in done)
    assert outstanding(directory).num_rows == 0
    assert_same_video(samples_of(in_parts), samples_of(out))


def test_what_is_frozen_is_not_looked_into_again(films: Path, tmp_path: Path, pack: Pack) -> None:
    """A second run takes the parts of the first, also from another place, and has nothing to do."""
    source = tmp_path / "in"
    shutil.copytree(films, source)
    pack(source, tmp_path / "out", settings(LONGEST, fps=12.5))
    moved = source.rename(tmp_path / "moved")
    assert pack(moved, tmp_path / "out", settings(LONGEST, fps=12.5)) == []
    (tmp_path / "out" / "index" / "000001.parquet").unlink()
    done = pack(moved, tmp_path / "out", settings(LONGEST, fps=12.5))
    assert [video.error for video in done] == [None, None]
    assert len({video.id for video in done}) == 2


@pytest.mark.parametrize(
    "values",
    [
        settings("never"),
        settings(1000.0),
        settings(LONGEST, num_frames=3),
        {**settings(LONGEST), "end_seconds": 1.2},
    ],
)
def test_what_cannot_be_long_is_not_looked_into(films: Path, values: dict[str, Any]) -> None:
    """Small files, short ranges, and settings that know no parts cost nothing: the listing stays as it is."""
    listing = list_sources([str(films)])
    assert divided(listing, PackSettings.parse(values), DecoderSettings()) is listing


def test_a_manifest_may_state_the_size(films: Path, tmp_path: Path, nursery: Nursery) -> None:
    """A column `bytes` stands for the size of a file that is not asked; it is no metadata of the user's."""
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        f"path,id,bytes\nfile://{films}/film.mp4,a,\nfile://{films}/film.mp4,b,90000\n"
    )
    listing = list_sources([str(manifest)])
    assert listing["bytes"].to_pylist() == [0, 90000]
    assert set(listing["user"].to_pylist()) == {"{}"}
    parsed = PackSettings.parse(settings(LONGEST))
    rows = divided(listing, parsed, DecoderSettings(), nursery=nursery)
    assert rows["id"].to_pylist() == ["a"] + ["b"] * 5
    assert sum(rows["part_bytes"].to_pylist()[1:]) == pytest.approx(90000, abs=5)


def test_hostile_files_do_not_stop_planning(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What crashes, hangs or is no video stays one row, to fail in its turn; the film beside it has parts."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "poison"))
    film, text = films / "film.mp4", tmp_path / "text.mp4"
    text.write_bytes(b"no video " * 20000)
    paths = [f"poison://segv{film}", f"poison://hang{film}", str(text), str(film)]
    manifest = tmp_path / "m.csv"
    rows = "".join(f"{path},v{number},90000\n" for number, path in enumerate(paths))
    manifest.write_text(f"path,id,bytes\n{rows}")
    how = DecoderSettings(num=2, timeout_seconds=3.0, attempts=1)
    listing = list_sources([str(manifest)])
    found = divided(listing, PackSettings.parse(settings(LONGEST, fps=10)), how)
    assert found["id"].to_pylist() == ["v0", "v1", "v2"] + ["v3"] * 4
    assert found["pixels"].to_pylist()[:3] == [None] * 3


def test_what_was_looked_into_says_what_it_costs(films: Path, nursery: Nursery) -> None:
    """Pixels of all frames, shared out among the parts like the bytes; a video that stays whole has its own."""
    parsed = PackSettings.parse(settings(LONGEST))
    rows = divided(list_sources([str(films)]), parsed, DecoderSettings(), nursery=nursery)
    pixels, num_bytes = rows["pixels"].to_pylist(), rows["part_bytes"].to_pylist()
    assert sum(pixels[:5]) == pytest.approx(96 * 64 * 130, rel=0.01)
    assert pixels[5] == pytest.approx(96 * 64 * 28, rel=0.01)
    assert sum(num_bytes[:5]) == pytest.approx((films / "film.mp4").stat().st_size, abs=5)
    assert num_bytes[5] is None
    per_byte = [pixel / num for pixel, num in zip(pixels[:5], num_bytes[:5], strict=True)]
    assert per_byte == pytest.approx([per_byte[0]] * 5, rel=0.01)
