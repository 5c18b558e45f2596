"""Files as memory."""

import os
import pickle

import pytest

from gazepack.errors import DatasetError
from gazepack.formats import DatasetDirectory
from gazepack.formats import mapped as mapped_module
from gazepack.formats.mapped import MappedFiles


@pytest.fixture
def arrow(tmp_path, info, make_sample):
    """A dataset of one Arrow shard with two samples."""
    given = info.model_copy(update={"container": "arrow"})
    dataset = DatasetDirectory.create_or_open(str(tmp_path / "arrow"), given)
    dataset.write_shard(0, [make_sample("a"), make_sample("b", seed=3)])
    return dataset


def test_a_sample_of_an_arrow_shard_is_not_copied(arrow, dataset, make_sample):
    """It is a view of the mapped file, with the bytes that reading gives; a tar's is read."""
    row = arrow.index(0).to_pylist()[1]
    stored = arrow.read_stored(row)
    assert isinstance(stored, memoryview)
    name = arrow.shard_name(0)
    assert stored == arrow.storage.read_range(name, offset=row["offset"], size=row["size"])
    dataset.write_shard(0, [make_sample("a")])
    assert isinstance(dataset.read_stored(dataset.index(0).to_pylist()[0]), bytes)


def test_what_is_read_outlives_the_map(arrow, same, make_sample):
    """A sample's arrays are its own: they may be written, and stay when the file is gone."""
    sample = arrow.read_sample(arrow.index(0).to_pylist()[0])
    arrow.storage.remove(arrow.shard_name(0))
    same(sample, make_sample("a"))
    sample.tokens_N6[0, 0] = 7


def test_a_file_that_became_shorter_is_an_error(arrow):
    """No page beyond the end is touched: the answer is that of an ordinary read."""
    rows = arrow.index(0).to_pylist()
    arrow.read_sample(rows[1])
    os.truncate(arrow.storage.path(arrow.shard_name(0)), rows[1]["offset"] + 8)
    with pytest.raises(DatasetError, match="bytes"):
        arrow.read_sample(rows[1])
    arrow.storage.remove(arrow.shard_name(0))
    with pytest.raises(DatasetError, match="missing"):
        arrow.read_sample(rows[0])


def test_another_file_in_the_place_is_mapped_anew(tmp_path):
    """What is read is what the path names now."""
    files, path = MappedFiles(), tmp_path / "file"
    path.write_bytes(b"before")
    assert files.read(str(path), offset=0, size=6) == b"before"
    (tmp_path / "other").write_bytes(b"behind")
    (tmp_path / "other").replace(path)
    assert files.read(str(path), offset=0, size=6) == b"behind"


def test_ranges_that_are_not_there_are_left_to_an_ordinary_read(tmp_path):
    """Beyond the end, before the start, of an empty file, and of none."""
    files, path = MappedFiles(), tmp_path / "file"
    path.write_bytes(b"1234")
    for offset, size in ((0, 5), (-1, 1), (0, -1), (4, 1)):
        assert files.read(str(path), offset=offset, size=size) is None
    path.write_bytes(b"")
    assert files.read(str(path), offset=0, size=0) is None
    assert files.read(str(tmp_path / "none"), offset=0, size=1) is None


def test_maps_are_bounded_and_stay_in_their_process(tmp_path, monkeypatch):
    """The one used longest ago goes first; a pickle carries none."""
    monkeypatch.setattr(mapped_module, "MOST_MAPS", 2)
    files = MappedFiles()
    for name in ("a", "b", "a", "c"):
        (tmp_path / name).write_bytes(name.encode())
        files.read(str(tmp_path / name), offset=0, size=1)
    assert [path[-1] for path in files._maps] == ["a", "c"]
    assert not pickle.loads(pickle.dumps(files))._maps  # noqa: S301
