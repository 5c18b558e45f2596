"""The dataset directory."""

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from gazepack.errors import DatasetError, FormatVersionError, ProvenanceError, UsageError
from gazepack.formats import (
    CODECS,
    DatasetDirectory,
    DatasetInfo,
    Failure,
    codec_from,
    verify_shard,
)
from gazepack.formats.index import index_from_bytes, table_to_bytes
from gazepack.formats.storage import LocalStorage

FAILURE = Failure(id="f", uri="u", stage="open", error="VideoError", message="m", attempts=1)


def snapshot(directory: DatasetDirectory) -> dict[str, bytes]:
    """Return every file below the root."""
    storage = directory.storage
    return {name: storage.read_bytes(name) for name in storage.list()}


@pytest.mark.parametrize("container", ["webdataset", "arrow"])
@pytest.mark.parametrize("name", sorted(CODECS))
def test_samples_come_back(name, container, tmp_path, make_sample, same):
    """What was written is read, one by row and all in order; lossy pixels as the codec gives them."""
    codec = codec_from(name)
    info = DatasetInfo(container=container, codec=codec.settings(), patch_size=14)
    dataset = DatasetDirectory.create_or_open(str(tmp_path), info)
    samples = [make_sample(f"k{i}", patch_size=14, seed=i, tokens=(i, 3)) for i in range(4)]
    dataset.write_shard(7, samples)
    rows = dataset.index(7).to_pylist()
    assert [(row["shard"], row["key"]) for row in rows] == [(7, f"k{i}") for i in range(4)]
    for row, sample, again in zip(rows, samples, dataset.iter_samples(7), strict=True):
        same(dataset.read_sample(row), again)
        assert again.meta == sample.meta
        expected = codec.decode(
            codec.encode(sample.patches_NPP3), num_patches=sample.num_tokens, patch_size=14
        )
        assert (again.patches_NPP3 == expected).all()


def test_the_whole_index_is_the_shards_in_order(dataset, make_sample):
    """`read_index` joins the shards by number, whatever the order in which they were committed."""
    for number in (12, 0, 3):
        dataset.write_shard(number, [make_sample(f"k{number}-{i}") for i in range(2)])
    assert dataset.committed() == [0, 3, 12]
    table = dataset.read_index()
    assert table["shard"].to_pylist() == [0, 0, 3, 3, 12, 12]
    assert table["key"].to_pylist() == [f"k{n}-{i}" for n in (0, 3, 12) for i in range(2)]


def test_an_empty_dataset_has_an_empty_index(dataset):
    """Nothing committed is a table without rows, with all columns."""
    assert dataset.committed() == []
    assert dataset.read_index().num_rows == 0
    assert dataset.failures().num_rows == 0
    assert "tokens" in dataset.read_index().column_names


def test_a_unit_whose_videos_all_failed_commits(dataset):
    """An empty shard and its failures are visible; failures are asked for after the samples."""
    failed: list[Failure] = []

    def samples():
        failed.append(FAILURE)
        return
        yield

    dataset.write_shard(0, samples(), lambda: failed)
    assert dataset.committed() == [0]
    assert dataset.failures()["id"].to_pylist() == ["f"]
    assert verify_shard(dataset, 0) == []


def test_same_samples_give_same_bytes(tmp_path, info, make_sample):
    """Two directories written apart agree in every byte of every file."""
    twins = [DatasetDirectory.create_or_open(str(tmp_path / name), info) for name in "ab"]
    for twin in twins:
        twin.write_shard(0, (make_sample(f"k{i}", seed=i) for i in range(3)), [FAILURE])
    assert snapshot(twins[0]) == snapshot(twins[1])


def test_samples_that_raise_leave_nothing(dataset, make_sample):
    """The caller's error passes, and no file is left."""

    def samples():
        yield make_sample("a")
        raise RuntimeError("the decoder died")

    with pytest.raises(RuntimeError, match="the decoder died"):
        dataset.write_shard(0, samples())
    assert list(snapshot(dataset)) == ["dataset.json"]


@pytest.mark.parametrize("survived", range(4))
def test_a_writer_stopped_between_any_two_steps_shows_no_shard(
    survived, tmp_path, info, make_sample, monkeypatch
):
    """Nothing is visible before the last file is; resuming gives the bytes of an undisturbed run."""
    whole = DatasetDirectory.create_or_open(str(tmp_path / "whole"), info)
    whole.write_shard(0, [make_sample("a")], [FAILURE])
    broken = DatasetDirectory.create_or_open(str(tmp_path / "broken"), info)
    published = 0
    real = Path.replace

    def replace(path, target):
        nonlocal published
        if published == survived:
            raise KeyboardInterrupt
        published += 1
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        if survived < 3:
            with pytest.raises(KeyboardInterrupt):
                broken.write_shard(0, [make_sample("a")], [FAILURE])
        else:
            broken.write_shard(0, [make_sample("a")], [FAILURE])
    assert broken.committed() == ([0] if survived == 3 else [])
    assert len(broken.leftovers()) == (0 if survived == 3 else survived)
    if survived < 3:
        broken.write_shard(0, [make_sample("a")], [FAILURE])
    assert snapshot(broken) == snapshot(whole)


def test_a_killed_writer_is_resumed_to_the_same_bytes(tmp_path, info, make_sample):
    """SIGKILL in the middle of a shard: a temporary file is left, then cleaned, then the shard is written."""
    whole = DatasetDirectory.create_or_open(str(tmp_path / "whole"), info)
    whole.write_shard(0, [make_sample("a")])
    killed = DatasetDirectory.create_or_open(str(tmp_path / "killed"), info)
    code = (
        "import os, signal, sys\n"
        "from gazepack.formats import DatasetDirectory\n"
        "def samples():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "    yield\n"
        "DatasetDirectory.open(sys.argv[1]).write_shard(0, samples())\n"
    )
    run = subprocess.run([sys.executable, "-c", code, killed.uri], check=False)
    assert run.returncode == -signal.SIGKILL
    assert killed.committed() == []
    assert len(killed.remove_leftovers()) == 1
    killed.write_shard(0, [make_sample("a")])
    assert snapshot(killed) == snapshot(whole)


def test_the_failures_of_a_killed_writer_do_not_survive(dataset, make_sample):
    """A resumed shard without failures removes the failures that a killed writer left."""
    dataset.storage.write_atomic(dataset.failures_name(0), b"left behind")
    dataset.write_shard(0, [make_sample("a")])
    assert not dataset.storage.exists(dataset.failures_name(0))
    assert dataset.failures().num_rows == 0


def test_leftovers_are_what_no_index_names(dataset, make_sample):
    """Only files that writers leave are listed and removed; a user's own file is not."""
    dataset.write_shard(0, [make_sample("a")], [FAILURE])
    dataset.write_run_file("plan.arrow", b"plan")
    for name in ("shards/000001.tar", "failures/000001.parquet", "notes.txt"):
        dataset.storage.write_atomic(name, b"x")
    before = snapshot(dataset)
    left = ["failures/000001.parquet", "shards/000001.tar"]
    assert dataset.leftovers() == left
    assert dataset.remove_leftovers() == left
    assert snapshot(dataset) == {n: data for n, data in before.items() if n not in left}


def test_a_committed_shard_is_never_replaced(dataset, make_sample):
    """Writing a shard number twice is refused, and nothing changes."""
    dataset.write_shard(0, [make_sample("a")])
    before = snapshot(dataset)
    with pytest.raises(UsageError, match=r"shard 0 of .* is committed already"):
        dataset.write_shard(0, [make_sample("b")])
    assert snapshot(dataset) == before


def test_two_samples_of_one_key_are_refused(dataset, make_sample):
    """Keys are unique in a shard; nothing is left of the refused one."""
    with pytest.raises(UsageError, match="two samples of one shard have the key 'a'"):
        dataset.write_shard(0, [make_sample("a"), make_sample("a", seed=1)])
    assert dataset.leftovers() == []


def test_a_foreign_patch_size_is_refused(dataset, make_sample):
    """All samples have the dataset's patch size."""
    with pytest.raises(UsageError, match="has patches of 14 px, the dataset of 16 px"):
        dataset.write_shard(0, [make_sample("a", patch_size=14)])


@pytest.mark.parametrize("number", [-1, 10**9])
def test_shard_numbers_have_bounds(dataset, number):
    """A shard number has at most nine digits."""
    with pytest.raises(UsageError, match=r"is not in 0..999999999"):
        dataset.write_shard(number, [])


def test_large_shard_numbers_are_found(dataset, make_sample):
    """A number beyond six digits is written, listed and read."""
    dataset.write_shard(1_234_567, [make_sample("a")])
    assert dataset.committed() == [1_234_567]
    assert dataset.read_index()["shard"].to_pylist() == [1_234_567]


def test_other_settings_are_refused_with_both_sides(tmp_path, info):
    """The same settings open; other ones are refused and nothing is touched."""
    first = DatasetDirectory.create_or_open(str(tmp_path), info)
    before = snapshot(first)
    assert DatasetDirectory.create_or_open(str(tmp_path), info).info == info
    other = info.model_copy(update={"provenance": {"selector": {"name": "random"}}})
    with pytest.raises(ProvenanceError, match="'greedy' in the dataset, 'random' asked"):
        DatasetDirectory.create_or_open(str(tmp_path), other)
    assert snapshot(first) == before


def test_a_folder_of_something_else_is_refused(tmp_path, info):
    """A folder with files and no dataset.json is not written into."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ProvenanceError, match="is not empty and holds no dataset; choose an empty"):
        DatasetDirectory.create_or_open(str(tmp_path), info)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_writer_killed_at_its_first_file_does_not_block_the_next(tmp_path, info):
    """A temporary dataset.json is no foreign file."""
    (tmp_path / f".dataset.json.{'0' * 16}.tmp").write_bytes(b"{")
    assert DatasetDirectory.create_or_open(str(tmp_path), info).committed() == []


def test_a_dataset_is_not_begun_inside_another(tmp_path, dataset, info):
    """Nor touched; beside it is fine, also by a path through it, and below a dataset.json of others."""
    inside = f"{dataset.uri}/shards/deeper"
    with pytest.raises(
        ProvenanceError, match=r"lies inside the dataset .*; choose a place outside"
    ):
        DatasetDirectory.create_or_open(inside, info)
    assert not Path(inside).parent.exists()
    assert DatasetDirectory.create_or_open(f"{dataset.uri}/../beside", info).committed() == []
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "dataset.json").write_text("{}")
    ours = DatasetDirectory.create_or_open(str(tmp_path / "theirs" / "ours"), info)
    assert ours.committed() == []


def test_opening_what_is_no_dataset_is_refused(tmp_path, dataset, info):
    """A missing, damaged or newer dataset.json is one line."""
    with pytest.raises(DatasetError, match=r"is not a gazepack dataset: it has no dataset.json"):
        DatasetDirectory.open(str(tmp_path / "nothing"))
    storage = LocalStorage(dataset.uri, Path(dataset.uri))
    storage.write_atomic("dataset.json", info.to_json()[:20])
    with pytest.raises(DatasetError, match=r"dataset.json: not valid JSON"):
        DatasetDirectory.open(dataset.uri)
    storage.write_atomic("dataset.json", b'{"format": "gazepack", "format_version": 2}')
    with pytest.raises(FormatVersionError, match="update gazepack"):
        DatasetDirectory.open(dataset.uri)


def test_a_flipped_bit_is_found_on_reading(dataset, make_sample):
    """Reading a sample checks its checksum, and names shard and sample."""
    dataset.write_shard(0, [make_sample("a"), make_sample("b")])
    rows = dataset.index(0).to_pylist()
    path = Path(dataset.uri) / dataset.shard_name(0)
    data = bytearray(path.read_bytes())
    data[rows[1]["members"][3]["offset"] + 5] ^= 4
    path.write_bytes(data)
    assert dataset.read_sample(rows[0]).key == "a"
    with pytest.raises(DatasetError, match=r"shards/000000\.tar: sample b: the checksum is wrong"):
        dataset.read_sample(rows[1])


def test_a_missing_shard_is_named(dataset, make_sample):
    """An index without its shard is damage."""
    dataset.write_shard(0, [make_sample("a")])
    dataset.storage.remove(dataset.shard_name(0))
    with pytest.raises(DatasetError, match=r"shards/000000\.tar: the file is missing"):
        next(dataset.iter_samples(0))


def test_an_index_of_another_shard_is_refused(dataset, make_sample):
    """A renamed index is damage."""
    dataset.write_shard(0, [make_sample("a")])
    data = dataset.storage.read_bytes(dataset.index_name(0))
    dataset.storage.write_atomic(dataset.index_name(1), data)
    with pytest.raises(DatasetError, match=r"it is the index of 'shards/000000\.tar'"):
        dataset.index(1)


def test_run_files_come_back_and_stay_inside(dataset):
    """The writer's papers are read as written; a name cannot leave run/."""
    dataset.write_run_file("plan.arrow", b"plan")
    assert dataset.read_run_file("plan.arrow") == b"plan"
    with pytest.raises(UsageError, match="is not a safe name"):
        dataset.write_run_file("../dataset.json", b"")
    with pytest.raises(DatasetError, match="run/nothing: the file is missing"):
        dataset.read_run_file("nothing")


def test_an_index_that_counts_more_tokens_than_fit_is_refused(dataset, make_sample):
    """A loader plans and allocates by the index: at most a token in every 14 bytes of a sample."""
    dataset.write_shard(0, [make_sample("a")])
    name = dataset.index_name(0)
    table, _ = index_from_bytes(dataset.storage.read_bytes(name), place=name)
    for column, value in (("tokens", 4 * 65535), ("tokens_per_frame", [65535] * 4)):
        at, field = table.schema.get_field_index(column), table.schema.field(column)
        table = table.set_column(at, field, pa.array([value], field.type))
    dataset.storage.write_atomic(name, table_to_bytes(table))
    with pytest.raises(DatasetError, match="more tokens than its samples can hold"):
        dataset.read_index()
