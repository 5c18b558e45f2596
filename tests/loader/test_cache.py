"""A folder of whole shards, and what is read through it."""

import dataclasses
import fcntl
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gazepack.errors import DatasetError, UsageError
from gazepack.formats import DatasetDirectory
from gazepack.loader import Batch, GazeDataset
from gazepack.loader.cache import ShardCache

Keys = Callable[[Sequence[Batch]], list[str]]


@pytest.fixture
def remote(packed: str) -> DatasetDirectory:
    """The dataset of `packed` on an object store in memory."""
    local = DatasetDirectory.open(packed)
    far = DatasetDirectory.create_or_open(f"memory://{uuid.uuid4().hex}", local.info)
    for number in local.committed():
        far.write_shard(number, local.iter_samples(number))
    return far


def shards_in(folder: Path) -> set[str]:
    """Return the names of the copies."""
    return {path.stem for path in folder.glob("*.shard")}


def remove_shards(directory: DatasetDirectory, numbers: Sequence[int]) -> None:
    """Take shards away from the store."""
    for number in numbers:
        directory.storage.remove(directory.shard_name(number))


def test_an_epoch_is_read_from_the_copies(
    remote: DatasetDirectory, packed: str, tmp_path: Path, keys: Keys
) -> None:
    """The second epoch asks the store for no shard, and gives the same batches as without a cache."""
    folder = tmp_path / "cache"
    cached = GazeDataset(remote.uri, batch_size=4, cache_dir=folder, cache_bytes=10**9)
    plain = GazeDataset(packed, batch_size=4)
    assert keys(list(cached)) == keys(list(plain))
    facts = [remote.shard_facts(number) for number in remote.committed()]
    assert shards_in(folder) == {f.sha256 for f in facts}
    assert {p.stat().st_size for p in folder.glob("*.shard")} == {f.size for f in facts}
    remove_shards(remote, remote.committed())
    for batch, same in zip(cached, plain, strict=True):
        assert batch.meta == same.meta
        assert batch.patches.equal(same.patches)


def test_the_limit_is_kept_and_the_rest_is_read_by_ranges(
    remote: DatasetDirectory, tmp_path: Path, keys: Keys
) -> None:
    """Two of seven shards find room; they stay, and every sample is still given out."""
    folder = tmp_path / "cache"
    sizes = sorted(remote.shard_facts(n).size for n in remote.committed())
    limit = sum(sizes[-2:])
    dataset = GazeDataset(
        remote.uri, batch_size=4, num_threads=3, cache_dir=folder, cache_bytes=limit
    )
    assert len(keys(list(dataset))) == len(set(keys(list(dataset)))) == 45
    used = sum(path.stat().st_size for path in folder.iterdir())
    assert used <= limit
    assert 2 <= len(shards_in(folder)) < 7
    assert not list(folder.glob("*.part"))


def test_a_copy_that_is_not_the_shard_is_not_kept(remote: DatasetDirectory, tmp_path: Path) -> None:
    """A damaged shard is not cached, and its samples are reported as damaged."""
    name = remote.shard_name(2)
    data = bytearray(remote.storage.read_bytes(name))
    row = remote.index(2).to_pylist()[0]
    data[row["offset"] + row["size"] - 600] ^= 255
    remote.storage.write_atomic(name, bytes(data))
    dataset = GazeDataset(remote.uri, batch_size=4, cache_dir=tmp_path / "c", cache_bytes=10**9)
    with pytest.raises(DatasetError, match=f"sample {row['key']}: the checksum is wrong"):
        dataset[row["key"]]
    assert shards_in(tmp_path / "c") == set()
    assert not list((tmp_path / "c").glob("*.part"))


def test_a_shard_that_another_process_copies_is_read_by_ranges(
    remote: DatasetDirectory, tmp_path: Path
) -> None:
    """Nobody waits, and nobody copies twice; what a killed process left is copied anew."""
    cache = ShardCache(folder=tmp_path / "c", max_bytes=10**9)
    facts, name = remote.shard_facts(0), remote.shard_name(0)
    part = cache.path(facts).with_suffix(".part")
    with part.open("ab") as file:
        file.write(b"half")
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not cache.fetch(remote.storage, name, facts)
        assert not cache.path(facts).exists()
        key = remote.index(0)["key"][0].as_py()
        dataset = GazeDataset(remote.uri, batch_size=4, cache_dir=tmp_path / "c", cache_bytes=10**9)
        assert dataset[key].num_samples == 1
    assert not cache.fetch(remote.storage, name, facts)
    assert cache.path(facts).read_bytes() == remote.storage.read_bytes(name)
    assert not part.exists()


def test_a_hash_is_never_a_path(remote: DatasetDirectory, tmp_path: Path) -> None:
    """An index that names another place than a SHA-256 makes no file."""
    facts = dataclasses.replace(remote.shard_facts(0), sha256="../outside")
    cache = ShardCache(folder=tmp_path / "c", max_bytes=10**9)
    with pytest.raises(DatasetError, match=r"gives '\.\./outside' as the SHA-256 of a shard"):
        cache.fetch(remote.storage, remote.shard_name(0), facts)
    assert not list(tmp_path.glob("outside*"))


def test_local_shards_are_not_copied(packed: str, tmp_path: Path) -> None:
    """A folder needs no copy of a folder."""
    dataset = GazeDataset(packed, batch_size=4, cache_dir=tmp_path / "c", cache_bytes=10**9)
    assert len(list(dataset)) == 12
    assert shards_in(tmp_path / "c") == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_dir": "x"}, "cache_dir is x and cache_bytes is None; give both or neither"),
        ({"cache_bytes": 5}, "cache_dir is None and cache_bytes is 5"),
        ({"cache_dir": "c", "cache_bytes": 0}, "cache_bytes 0 is not a whole number above 0"),
        ({"cache_dir": "file/c", "cache_bytes": 5}, r"cache_dir 'file/c' cannot be made"),
    ],
)
def test_an_impossible_cache_is_refused(
    packed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    message: str,
) -> None:
    """A cache is a folder and a limit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=message):
        GazeDataset(packed, batch_size=4, **options)  # type: ignore[arg-type]
