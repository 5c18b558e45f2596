"""`GazeDataset` behind `DataLoader` workers and in process groups."""

import json
import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks
from torch.utils.data import DataLoader

from gazepack.errors import DatasetError, UsageError
from gazepack.formats import DatasetDirectory
from gazepack.loader import Batch, GazeDataset

ROOT = Path(__file__).parents[2]

# PyTorch warns of more workers than cores, and these tests run on any machine.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
Keys = Callable[[list[Batch]], list[str]]


def loader(dataset: GazeDataset, num_workers: int, **options: Any) -> "DataLoader[Any]":
    """Return the loader that the documents show."""
    return DataLoader(dataset, batch_size=None, num_workers=num_workers, **options)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_workers_change_nothing(packed: str, num_workers: int) -> None:
    """The batches and their order are those of one process, for any number of workers."""
    expected = list(GazeDataset(packed, batch_tokens=100))
    batches = list(loader(GazeDataset(packed, batch_tokens=100), num_workers))
    assert [b.state for b in batches] == [b.state for b in expected]
    for batch, same in zip(batches, expected, strict=True):
        assert batch.meta == same.meta
        assert batch.patches.equal(same.patches)
        assert batch.cu_seqlens.equal(same.cu_seqlens)


def test_spawned_workers_change_nothing(packed: str, keys: Keys) -> None:
    """A dataset may be sent to processes that share nothing with this one."""
    expected = list(GazeDataset(packed, batch_tokens=100))
    spawned = loader(GazeDataset(packed, batch_tokens=100), 2, multiprocessing_context="spawn")
    assert keys(list(spawned)) == keys(expected)


def test_more_workers_than_batches_do_not_hang(packed: str, keys: Keys) -> None:
    """Workers without a batch end at once."""
    dataset = GazeDataset(packed, batch_size=30)
    assert len(dataset) == 2
    assert len(keys(list(loader(dataset, 5)))) == 45


def test_workers_that_live_on_see_the_epoch(packed: str, keys: Keys) -> None:
    """`set_epoch` reaches persistent workers."""
    dataset = GazeDataset(packed, batch_size=4)
    expected = [keys(list(dataset)) for _ in range(3)]
    dataset = GazeDataset(packed, batch_size=4)
    persistent = loader(dataset, 2, persistent_workers=True)
    for epoch in (0, 1, 2):
        dataset.set_epoch(epoch)
        assert keys(list(persistent)) == expected[epoch]


@pytest.mark.parametrize("persistent", [False, True])
def test_an_epoch_that_workers_give_again_is_said(packed: str, persistent: bool) -> None:
    """Without `set_epoch` every epoch would have one order; a look, or no shuffle, is none of that."""
    dataset = GazeDataset(packed, batch_size=4)
    workers = loader(dataset, 2, persistent_workers=persistent)
    next(iter(workers))
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        list(workers)
    unshuffled = loader(GazeDataset(packed, batch_size=4, shuffle=False), 1)
    assert len(list(unshuffled)) == len(list(unshuffled)) == 12
    # the tests make an error of a warning
    with pytest.raises(
        UserWarning, match="epoch 0 is given again, in the same order: call set_epoch"
    ):
        list(workers)


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 0), (0, 3)])
def test_a_batch_knows_where_to_go_on(packed: str, keys: Keys, before: int, after: int) -> None:
    """The state of the last batch counts what was used, not what workers had prefetched."""
    expected = keys(list(GazeDataset(packed, batch_size=4)))
    batches = iter(loader(GazeDataset(packed, batch_size=4), before))
    used = [next(batches) for _ in range(3)]
    del batches
    dataset = GazeDataset(packed, batch_size=4)
    assert used[-1].state is not None
    dataset.load_state_dict(used[-1].state)
    assert keys(used) + keys(list(loader(dataset, after))) == expected


def test_the_dataset_does_not_guess_what_workers_gave(packed: str) -> None:
    """`state_dict` is refused while workers read, and works again where the dataset knows."""
    dataset = GazeDataset(packed, batch_size=4)
    batch = next(iter(loader(dataset, 2)))
    with pytest.raises(UsageError, match=r"cannot tell .*; take batch\.state of the last batch"):
        dataset.state_dict()
    dataset.load_state_dict(batch.state)
    assert dataset.state_dict() == batch.state
    next(iter(loader(dataset, 1)))
    assert next(iter(dataset)).state == dataset.state_dict()


def test_the_state_of_a_worker_is_not_that_of_the_run(packed: str) -> None:
    """What a worker says of itself is refused elsewhere."""
    dataset = GazeDataset(packed, batch_size=4)
    state = dataset.state_dict() | {"worker_steps": 2}
    with pytest.raises(UsageError, match="is that of one DataLoader worker; load batch"):
        dataset.load_state_dict(state)


def test_batches_are_not_batched_again(packed: str) -> None:
    """Without `batch_size=None` PyTorch refuses batches, in the words that docs/loader.md explains."""
    told = re.escape("found <class 'gazepack.loader.batch.Batch'>")
    with pytest.raises(TypeError, match=told):
        next(iter(DataLoader(GazeDataset(packed, batch_size=1))))
    assert re.search(told, (ROOT / "docs" / "loader.md").read_text())


def test_an_error_in_a_worker_keeps_its_place(packed: str) -> None:
    """A missing shard is a DatasetError in the main process too."""
    (Path(packed) / DatasetDirectory.open(packed).shard_name(2)).unlink()
    with pytest.raises(DatasetError, match=r"shards/000002\.tar: the file is missing") as caught:
        list(loader(GazeDataset(packed, batch_size=4), 2))
    # PyTorch's frames and the error hold each other; workers that the garbage collector ends take 10 s.
    traceback.clear_frames(caught.tb)


def test_a_killed_worker_is_one_clear_error(packed: str) -> None:
    """PyTorch tells that a worker is gone; nothing hangs."""

    def die(batch: Batch) -> Batch:
        if batch.state is not None and batch.state["consumed"] == 12:
            os._exit(9)
        return batch

    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid.*\) exited unexpectedly"):
        list(loader(GazeDataset(packed, batch_size=4, transform=die), 2))


@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 3), (4, 1)])
def test_process_groups_take_equal_steps(
    make_dataset: Callable[..., str],
    counts: Callable[..., list[list[int]]],
    tmp_path: Path,
    world_size: int,
    num_workers: int,
) -> None:
    """An all-reduce at every step ends without a hang: uneven shards, and more readers than shards."""
    uri = make_dataset(counts(45), per_shard=32)
    assert len(list(Path(uri, "shards").iterdir())) == 2
    run_ranks(Path(__file__).with_name("ddp_ranks.py"), world_size, uri, tmp_path, num_workers)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world_size)]
    assert len({rank["steps"] for rank in told}) == 1
    assert all(rank["steps"] == rank["planned"] > 1 for rank in told)
    assert sorted(k for rank in told for k in rank["keys"]) == [f"s{i:04d}" for i in range(45)]


def test_ranks_are_those_of_the_launcher(
    packed: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under torchrun, ranks share an epoch also before anybody has made a process group."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(keys(list(GazeDataset(packed, batch_size=4))))
        assert shares[-1] == keys(list(GazeDataset(packed, batch_size=4, rank=rank, world_size=2)))
    alone = GazeDataset(packed, batch_size=4, rank=0, world_size=1)
    assert sorted(shares[0] + shares[1]) == sorted(keys(list(alone)))


@pytest.mark.parametrize(("rank", "world_size"), [("2", "2"), ("one", "2"), ("-1", "2"), ("0", "")])
def test_a_launcher_that_is_confused_is_refused(
    packed: str, monkeypatch: pytest.MonkeyPatch, rank: str, world_size: str
) -> None:
    """Better no epoch than the wrong share of one."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(
        UsageError, match=f"the environment says RANK={rank} and WORLD_SIZE={world_size}"
    ):
        next(iter(GazeDataset(packed, batch_size=4)))
