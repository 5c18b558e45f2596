"""The ledger: how far a run is, and packing again what failed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gazepack.errors import DatasetError, ProvenanceError, UsageError
from gazepack.formats import DatasetDirectory, outstanding, summarise, verify_shard
from gazepack.formats.transfer import Transfer, TransferSettings
from gazepack.jobs import Nursery, Resources, run_serial, verify_totals
from gazepack.jobs.ledger import begun_settings, open_retry, plans, settings_of
from gazepack.jobs.status import Status, status_of

Pack = Callable[..., Any]


@pytest.fixture
def broken(videos: Path, tmp_path: Path, pack: Pack) -> Path:
    """A packed folder `in` of two good videos and two that failed; the dataset is `out`."""
    source = tmp_path / "in"
    source.mkdir()
    for name in ("clip0.mp4", "clip1.mp4"):
        shutil.copy(videos / name, source / name)
    (source / "mended.mp4").write_bytes(b"")
    (source / "never.mp4").write_bytes(b"")
    pack(source, tmp_path / "out")
    return tmp_path


@pytest.fixture
def retry(nursery: Nursery) -> Callable[[Path], int]:
    """Return a function that retries in this process, and returns how many videos were tried."""

    def retry(out: Path) -> int:
        done: list[Any] = []
        run = open_retry(str(out))
        run_serial(run, resources=Resources(), report=done.append, nursery=nursery)
        return len(done)

    return retry


def test_what_is_mended_is_packed_into_new_shards(
    broken: Path, videos: Path, retry: Callable[[Path], int]
) -> None:
    """A retry tries the failures only, changes no file, and leaves on record what fails again."""
    out = broken / "out"
    directory = DatasetDirectory.open(str(out))
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    shutil.copy(videos / "clip2.mp4", broken / "in" / "mended.mp4")
    assert retry(out) == 2
    assert {path: path.read_bytes() for path in before} == before
    assert directory.committed() == [0, 1, 2]
    assert [row["id"] for row in directory.index(2).to_pylist()] == ["mended.mp4"]
    (row,) = outstanding(directory).to_pylist()
    assert (row["id"], row["shard"]) == ("never.mp4", 2)
    assert summarise(directory)["failed"] == 1
    assert [p for n in directory.committed() for p in verify_shard(directory, n)] == []
    assert list(verify_totals(directory)) == []


def test_a_second_retry_is_a_round_of_its_own(
    broken: Path, videos: Path, retry: Callable[[Path], int]
) -> None:
    """Each round takes what is outstanding then; with nothing outstanding nothing is done."""
    out = broken / "out"
    shutil.copy(videos / "clip2.mp4", broken / "in" / "mended.mp4")
    retry(out)
    shutil.copy(videos / "clip3.mp4", broken / "in" / "never.mp4")
    assert retry(out) == 1
    directory = DatasetDirectory.open(str(out))
    assert [plan.numbers for plan in plans(directory)] == [range(2), range(2, 3), range(3, 4)]
    assert outstanding(directory).num_rows == 0
    assert retry(out) == 0
    assert len(plans(directory)) == 3


def test_an_interrupted_retry_goes_on(
    broken: Path, videos: Path, retry: Callable[[Path], int]
) -> None:
    """A round whose shard is not committed is gone on with, not begun anew."""
    out = broken / "out"
    shutil.copy(videos / "clip2.mp4", broken / "in" / "mended.mp4")
    first = open_retry(str(out))
    assert first.pending == (2,)
    assert retry(out) == 2
    assert len(plans(DatasetDirectory.open(str(out)))) == 2


def test_only_one_stage_is_retried(broken: Path) -> None:
    """With a stage named, failures of other stages are left alone."""
    run = open_retry(str(broken / "out"), only="select")
    assert len(run.plan) == 0
    assert run.pending == ()


def test_another_model_is_refused(videos: Path, tmp_path: Path, pack: Pack) -> None:
    """A retry with weights that are not those of the dataset would mix two gazes."""
    tiny = Path(__file__).parents[1] / "data" / "autogaze-tiny"
    values = {
        "shards": {"samples_per_shard": 2},
        "fit": {"fit": "square"},
        "selector": {"name": "autogaze", "model": str(tiny), "gazing_ratio": 0.05},
    }
    shutil.copytree(videos, tmp_path / "in", ignore=shutil.ignore_patterns("clip*"))
    pack(tmp_path / "in", tmp_path / "out", values)
    assert open_retry(str(tmp_path / "out"), model=str(tiny)).pending == (1,)
    info = tmp_path / "out" / "dataset.json"
    text = info.read_text()
    for opened in (open_retry, begun_settings):
        with pytest.raises(
            UsageError, match=r"packed with model .* not the one in the package; give"
        ):
            opened(str(tmp_path / "out"))
    at = text.index('"model_sha256": "') + len('"model_sha256": "')
    info.write_text(text[:at] + "0" * 64 + text[at + 64 :])
    with pytest.raises(ProvenanceError, match=r"was packed with model 0000.*--model"):
        open_retry(str(tmp_path / "out"), model=str(tiny))


def test_settings_come_back_from_a_dataset(tmp_path: Path, videos: Path, pack: Pack) -> None:
    """What a dataset says of itself is enough to pack more of it."""
    values = {
        "sampling": {"fps": 2},
        "selector": {"name": "random", "gazing_ratio": [0.2, 0.1], "seed": 3, "min_psnr": 24},
        "codec": {"name": "zstd"},
        "fit": {"max_tiles": 2},
        "shards": {"samples_per_shard": 3},
    }
    pack(videos / "clip0.mp4", tmp_path / "out", values)
    found = settings_of(DatasetDirectory.open(str(tmp_path / "out")))
    assert found.sampling.fps == 2
    assert found.selector.gazing_ratio == (0.2, 0.1)
    assert (found.selector.seed, found.selector.min_psnr) == (3, 24)
    assert (found.codec.name, found.shards.samples_per_shard) == ("zstd", 3)


def test_status_counts_what_is_committed(broken: Path) -> None:
    """Shards and videos done and planned, before and after a shard goes missing, and with a retry begun."""
    out = broken / "out"
    directory = DatasetDirectory.open(str(out))
    planned = {"planned_shards": 2, "planned_videos": 4}
    whole = Status(shards=2, videos=4, failures=2, retries=0, work=1.0, **planned)
    assert status_of(directory) == whole
    assert whole.is_complete
    open_retry(str(out))
    begun = status_of(directory)
    assert (begun.shards, begun.planned_shards, begun.planned_videos) == (2, 3, 6)
    assert not begun.is_complete
    (out / "index" / "000000.parquet").unlink()
    assert status_of(directory).videos == 2


def test_status_of_no_run_is_one_line(broken: Path) -> None:
    """A dataset without a frozen listing has no status."""
    (broken / "out" / "run" / "sources.parquet").unlink()
    with pytest.raises(
        DatasetError, match=r"no run has begun here.*run gazepack pack first"
    ) as told:
        status_of(DatasetDirectory.open(str(broken / "out")))
    assert told.value.exit_code == 2  # nothing is damaged


def test_a_dataset_made_of_others_cannot_be_retried(broken: Path) -> None:
    """A conversion carries the failures along but knows no videos; what to do is said, and nothing written."""
    packed = DatasetDirectory.open(str(broken / "out"))
    transfer = Transfer(
        [packed], str(broken / "copy"), settings=TransferSettings(container="arrow")
    )
    list(transfer.run())
    before = transfer.target.storage.list()
    for attempt in (lambda: open_retry(str(broken / "copy")), lambda: status_of(transfer.target)):
        with pytest.raises(
            UsageError, match=r"made of other datasets by convert.*retry in the dataset"
        ):
            attempt()
    assert transfer.target.storage.list() == before
    assert outstanding(transfer.target).num_rows == 2


def test_sources_may_lie_elsewhere_at_a_retry(broken: Path, videos: Path, nursery: Nursery) -> None:
    """Named anew, videos are found by their ids; one that is not there stays where it was."""
    elsewhere = broken / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(videos / "clip2.mp4", elsewhere / "mended.mp4")
    run = open_retry(str(broken / "out"), sources=[str(elsewhere)])
    assert sorted(run.plan.listing["uri"].to_pylist()) == sorted(
        [str(elsewhere / "mended.mp4"), str(broken / "in" / "never.mp4")]
    )
    run_serial(run, resources=Resources(), report=lambda _: None, nursery=nursery)
    (row,) = outstanding(run.directory).to_pylist()
    assert row["id"] == "never.mp4"
