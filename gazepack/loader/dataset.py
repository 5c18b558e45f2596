"""`GazeDataset`: epochs of ragged batches, planned from the index alone.

    dataset = GazeDataset("packed", batch_tokens=65536)
    for batch in dataset:
        ...

It is a PyTorch `IterableDataset` whose items are whole batches: use it as it is, or behind
`DataLoader(dataset, batch_size=None, num_workers=8)`, which gives the same batches in the same
order, or with `num_threads=4` and no workers at all. What it gives up: every sample is one range
read, so a shuffled epoch over an object store wants threads, workers or a cache to hide the latency.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from gazepack.errors import UsageError
from gazepack.formats import PatchSource
from gazepack.loader.batch import Batch
from gazepack.loader.cache import ShardCache
from gazepack.loader.catalog import open_catalog
from gazepack.loader.dials import Dials
from gazepack.loader.forecast import Forecast, forecast
from gazepack.loader.order import Order
from gazepack.loader.plan import MAX_DEFERRED, BatchLimit, Plan, plan_steps
from gazepack.loader.prefetch import prefetched
from gazepack.loader.reader import OnError, SampleReader
from gazepack.loader.state import LoaderState
from gazepack.loader.whole import whole

Uri = str | PathLike[str]


class GazeDataset(IterableDataset[Any]):
    """The batches of one rank.

    Each epoch is a function of (index, seed, epoch, options): a seeded shuffle of all samples, cut
    into steps; at each step every rank gets one batch, all of nearly the same number of tokens. No
    sample occurs twice in an epoch and none is lost. Iterating again goes on with the next epoch
    (without `DataLoader` workers; with them, call `set_epoch` before each epoch, as for PyTorch's
    samplers).

    A `DataLoader` must be told `batch_size=None`: what it is given are batches already. Left out, PyTorch
    raises a `TypeError` that ends in "found <class 'gazepack.loader.batch.Batch'>".

    Args:
        uri: folder or URI of a dataset, or a list of them.
        batch_tokens: most tokens of a batch; a larger sample makes a batch by itself.
        batch_size: most samples of a batch; give this or `batch_tokens`.
        shuffle: whether each epoch has an order of its own; otherwise that of the index.
        seed: of the shuffle, 0 to 2^63 - 1.
        rank: this process, from 0; when left out, found from `torch.distributed`, before it is initialised
            from what `torchrun` puts into the environment (`RANK`), and 0 without either.
        world_size: number of processes; found likewise (`WORLD_SIZE`; 1 without either).
        on_error: `raise`, or `skip` a damaged sample with a warning and a line in
            `Batch.skipped`.
        max_tokens_per_frame: keep the first so many tokens of each frame; `Dials` has the details.
        max_tokens: keep at most so many tokens of each sample, shortening its frames evenly.
        max_loss: keep tokens that were added while the loss was above this, and rank 0.
        scales: keep tokens of these scales only.
        frame_step: keep every so-many-th frame of each view.
        max_frames: keep the first so many of these frames.
        weights: one number for each dataset: its share of the samples of an epoch, which has as many
            samples as without weights. A sample comes again only after all others of its dataset.
        bucket_samples: sort windows of so many samples by length, so that those of similar length
            meet in a batch; see `docs/loader.md` for what it costs.
        num_threads: threads of this process (or of each worker) that read ahead, as many batches.
        pin_memory: build batches in page-locked memory; for reading without workers on a machine
            with a GPU (with workers, give `pin_memory=True` to the `DataLoader`).
        cache_dir: a folder for whole shards of object stores, shared by all processes of a machine.
        cache_bytes: most bytes of that folder; give both or neither.
        filter: a pyarrow expression on the columns of the index; keeps the rows where it is true.
        join: a `pyarrow.Table` with a column `key` or `id`; each sample's row is put into
            `Batch.meta[s]["joined"]`.
        patches_from: cuts the patches of datasets that store places alone, such as
            `gazepack.SourcePatches("videos/")`.
        transform: called with each `Batch`, in the worker; its result is given out instead. It must
            be a function of a module for workers that are spawned.
        drop_last: leave out the last step of an epoch when it has fewer samples than there are
            ranks; otherwise some ranks get an empty batch there.

    Raises:
        UsageError: an option that cannot be.
        DatasetError: a dataset is missing or damaged.
        StorageError: it cannot be read.
    """

    def __init__(
        self,
        uri: Uri | Sequence[Uri],
        *,
        batch_tokens: int | None = None,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        on_error: OnError = "raise",
        max_tokens_per_frame: int | None = None,
        max_tokens: int | None = None,
        max_loss: float | None = None,
        scales: Sequence[int] | None = None,
        frame_step: int | None = None,
        max_frames: int | None = None,
        weights: Sequence[float] | None = None,
        bucket_samples: int | None = None,
        num_threads: int = 0,
        pin_memory: bool = False,
        cache_dir: str | PathLike[str] | None = None,
        cache_bytes: int | None = None,
        filter: pc.Expression | None = None,
        join: pa.Table | None = None,
        patches_from: PatchSource | None = None,
        transform: Callable[[Batch], Any] | None = None,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        self._limit = BatchLimit(tokens=batch_tokens, samples=batch_size)
        self._num_threads = whole("num_threads", num_threads)
        self._process = _check_process(rank, world_size)
        if on_error not in get_args(OnError):
            raise UsageError(f"on_error {on_error!r} is not one of {', '.join(get_args(OnError))}")
        if transform is not None and not callable(transform):
            raise UsageError(
                f"transform {transform!r} is no function", remedy="it is given a Batch"
            )
        self._transform = transform
        self._drop_last = _flag("drop_last", drop_last)
        dials = Dials(
            max_tokens_per_frame=max_tokens_per_frame,
            max_tokens=max_tokens,
            max_loss=max_loss,
            scales=scales,
            frame_step=frame_step,
            max_frames=max_frames,
        )
        catalog, index = open_catalog(_addresses(uri), filter=filter, join=join)
        if catalog.without_patches and patches_from is None:
            raise UsageError(
                f"{catalog.without_patches[0]} stores places alone",
                remedy="give patches_from=gazepack.SourcePatches(...) of the videos that were packed",
            )
        self._tokens = dials.planned_tokens(index)
        self._order = Order.of(
            catalog.sizes,
            weights=weights,
            seed=whole("seed", seed),
            shuffle=_flag("shuffle", shuffle),
            bucket_samples=bucket_samples,
            tokens=self._tokens,
        )
        self._fingerprint = self._order.fingerprint(catalog.fingerprint)
        self._reader = SampleReader(
            catalog,
            tokens=self._tokens,
            dials=dials,
            on_error=on_error,
            pin_memory=_can_pin(pin_memory),
            cache=_check_cache(cache_dir, cache_bytes),
            patches_from=patches_from,
        )
        # (epoch, consumed, number of deferred, the deferred) where the next iteration starts. In
        # shared memory, since workers that live on between epochs would not see `set_epoch`.
        self._start = torch.zeros(3 + MAX_DEFERRED, dtype=torch.int64).share_memory_()
        self._read_by_workers = torch.zeros(1, dtype=torch.bool).share_memory_()
        self._epochs_of_workers = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._position = self._state(epoch=0)
        # What a worker goes on after: its own, since all workers share `_start`.
        self._resumed: LoaderState | None = None
        self._plan: tuple[tuple[LoaderState, int], Plan] | None = None

    # -- size and access ------------------------------------------------------------------------

    def __repr__(self) -> str:
        uris = ", ".join(self._reader.catalog.uris)
        limit = f"batch_tokens={self._limit.tokens}"
        if self._limit.samples is not None:
            limit = f"batch_size={self._limit.samples}"
        return f"<GazeDataset {uris}: {self.num_samples:,} samples, {limit}, epoch {self.epoch}>"

    @property
    def num_samples(self) -> int:
        """Samples of an epoch, on all ranks together."""
        return len(self._order)

    @property
    def num_tokens(self) -> int:
        """Tokens of the next epoch, on all ranks; an upper bound with `max_loss` or `scales`."""
        return int(self._tokens[self._order.epoch(self.epoch)].sum())

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration gives, from 0."""
        return int(self._start[0])

    def __len__(self) -> int:
        """Return the number of batches that the next iteration gives, the same on every rank."""
        return self.plan().num_steps

    def __getitem__(self, key: str) -> Any:
        """Return the batch of one sample, after dials and transform.

        Raises:
            KeyError: there is no sample of this key.
            UsageError: the key is no text; batches have no numbers.
            DatasetError: it is damaged.
        """
        if not isinstance(key, str):
            raise UsageError(
                f"{key!r} is not the key of a sample",
                remedy="give one such as batch.meta[0]['key'], or iterate over the batches",
            )
        position = self._reader.catalog.position(key)
        return self._finish(self._reader.read(np.array([position])))

    # -- iteration ------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Return the plan of the next iteration: every batch of every rank, before a byte is read."""
        return self._plan_from(self._starting())

    def _plan_from(self, start: LoaderState) -> Plan:
        _, world_size = self._rank_and_world()
        if self._plan is None or self._plan[0] != (start, world_size):
            plan = plan_steps(
                self._order.epoch(start.epoch),
                self._tokens,
                limit=self._limit,
                world_size=world_size,
                consumed=start.consumed,
                deferred=start.deferred,
                drop_last=self._drop_last,
            )
            self._plan = ((start, world_size), plan)
        return self._plan[1]

    def forecast(
        self, *, workers: int = 0, ranks_per_node: int = 8, cache_bytes: int = 0
    ) -> Forecast:
        """Return what the next iteration costs all ranks, told from the plan; nothing is read.

        Args:
            workers: `DataLoader` workers of each rank.
            ranks_per_node: ranks that share a machine and its cache.
            cache_bytes: of each machine's cache; 0 for none.

        Raises:
            UsageError: a number below its least.
        """
        return forecast(
            self.plan(),
            tokens=self._tokens,
            addresses=self._reader.catalog.addresses,
            patch_size=self._reader.catalog.patch_size,
            ranks=self._rank_and_world()[1],
            workers=workers,
            ranks_per_node=ranks_per_node,
            cache_bytes=cache_bytes,
        )

    def __iter__(self) -> Iterator[Any]:
        """Give out this rank's batches from where the dataset stands to the end of the epoch."""
        rank, _ = self._rank_and_world()
        worker = get_worker_info()
        self._read_by_workers.fill_(worker is not None)
        if worker is not None:
            return self._in_worker(rank, *self._worker_start(worker.id, worker.num_workers))
        self._position = self._starting()
        return self._in_process(self.plan(), self.epoch, rank)

    def _in_process(self, plan: Plan, epoch: int, rank: int) -> Iterator[Any]:
        """Give out all batches, keeping count of what was given out.

        The last batch ends the epoch: a trainer that counts batches never asks for one more.
        """
        for step, batch in enumerate(self._batches(plan, epoch, rank, range(plan.num_steps))):
            self._position = self._state_after(plan, epoch, step)
            if step + 1 == plan.num_steps:
                self._move(self._position)
            yield batch
        if not plan.num_steps:
            self._move(self._state(epoch=epoch + 1))

    def _worker_start(self, worker: int, num_workers: int) -> tuple[LoaderState, range]:
        """Return where the iteration of a worker starts and which of the steps from there it gives.

        Where the worker had given all its batches of the epoch that it resumes, and `set_epoch` has chosen a
        later one since, it is that one. torchdata then asks first the worker whose turn it would have been.
        """
        chosen, resumed = self._starting(), self._resumed
        self._resumed = None
        turn = worker
        if resumed is not None:
            turn = worker if resumed.worker_turn is None else resumed.worker_turn
            start = resumed.model_copy(update={"worker_steps": None, "worker_turn": None})
            num_steps = self._plan_from(start).num_steps
            steps = range(turn, num_steps, num_workers)[resumed.worker_steps or 0 :]
            if steps or start.epoch >= chosen.epoch:
                return start, steps
            turn = (turn - num_steps) % num_workers
        self._position = chosen
        if turn != worker:
            self._position = chosen.model_copy(update={"worker_turn": turn})
        return chosen, range(turn, self._plan_from(chosen).num_steps, num_workers)

    def _in_worker(self, rank: int, start: LoaderState, steps: range) -> Iterator[Any]:
        """Give out the batches of one worker, keeping count of its steps."""
        done = self._position.worker_steps or 0
        plan = self._plan_from(start)
        if 0 in steps:  # one of the workers says it for all
            self._warn_of_an_epoch_again(start.epoch)
        for step, batch in zip(steps, self._batches(plan, start.epoch, rank, steps), strict=True):
            done += 1
            self._position = self._position.model_copy(update={"worker_steps": done})
            if step + 1 == plan.num_steps:
                self._epochs_of_workers.fill_(start.epoch + 1)
            yield batch

    def _warn_of_an_epoch_again(self, epoch: int) -> None:
        """Warn where workers have given out an epoch to its end and begin it anew."""
        if self._order.shuffle and int(self._epochs_of_workers) == epoch + 1:
            warnings.warn(
                f"epoch {epoch} is given again, in the same order: call set_epoch before each epoch, "
                "as DataLoader workers cannot tell the dataset how far they came",
                stacklevel=2,
            )

    def _batches(self, plan: Plan, epoch: int, rank: int, steps: range) -> Iterator[Any]:
        def read(step: int) -> Any:
            state = self._state_after(plan, epoch, step).to_dict()
            return self._finish(self._reader.read(plan.samples(step, rank=rank), state=state))

        return prefetched(read, steps, num_threads=self._num_threads)

    def _finish(self, batch: Batch) -> Any:
        return batch if self._transform is None else self._transform(batch)

    # -- state ----------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration give an epoch from its start.

        A dataset that stands in the middle of just this epoch, after `load_state_dict`, stays
        there, so that a loop over epochs need not know that it was resumed.

        Raises:
            UsageError: the epoch is negative.
        """
        number = whole("epoch", epoch)
        if number != self.epoch:
            self._move(self._state(epoch=number))

    def state_dict(self) -> dict[str, Any]:
        """Return where this iteration stands, after the last batch that was given out.

        In a `DataLoader` worker it is where that worker stands, which torchdata's
        `StatefulDataLoader` gathers and gives back to as many workers.

        Raises:
            UsageError: the batches are read by `DataLoader` workers, which run ahead; take
                `Batch.state` of the last batch you used.
        """
        if self._read_by_workers and get_worker_info() is None:
            raise UsageError(
                "state_dict() cannot tell which batches of the DataLoader workers were used",
                remedy="take batch.state of the last batch you used",
            )
        return self._position.to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next iteration go on after a state, also with other ranks, workers or batch sizes.

        Raises:
            UsageError: it is no state, or one of other samples or another seed.
        """
        loaded = LoaderState.from_dict(state)
        loaded.check_same_order(self._position)
        if get_worker_info() is not None:
            self._resumed = self._position = loaded
            return
        if loaded.worker_steps is not None:
            raise UsageError(
                "the loader state is that of one DataLoader worker",
                remedy="load batch.state of the last batch you used",
            )
        self._move(loaded)

    def _move(self, state: LoaderState) -> None:
        numbers = [state.epoch, state.consumed, len(state.deferred), *state.deferred]
        self._start[: len(numbers)] = torch.tensor(numbers)
        self._read_by_workers.fill_(False)
        self._position = state

    def _starting(self) -> LoaderState:
        """Return where the next iteration starts."""
        epoch, consumed, count, *places = self._start.tolist()
        return self._state(epoch=epoch, consumed=consumed, deferred=places[:count])

    def _state(self, *, epoch: int, consumed: int = 0, deferred: Sequence[int] = ()) -> LoaderState:
        return LoaderState(
            epoch=epoch,
            consumed=consumed,
            deferred=list(deferred),
            samples=len(self._order),
            seed=self._order.seed,
            shuffle=self._order.shuffle,
            fingerprint=self._fingerprint,
        )

    def _state_after(self, plan: Plan, epoch: int, step: int) -> LoaderState:
        """Return the state after a step; after the last one, the start of the next epoch."""
        if step + 1 == plan.num_steps:
            return self._state(epoch=epoch + 1)
        consumed = int(plan.bounds[step + 1])
        deferred = plan.deferred.get(consumed, ())
        return self._state(epoch=epoch, consumed=consumed, deferred=deferred)

    # -- processes ------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """A spawned worker has no process group: it is told its rank."""
        return self.__dict__ | {"_process": self._rank_and_world()}

    def _rank_and_world(self) -> tuple[int, int]:
        """Return (rank, world size); looked up late, as the process group may be made late."""
        if self._process is not None:
            return self._process
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return _launched() or (0, 1)


def _addresses(uri: Uri | Sequence[Uri]) -> list[str]:
    try:
        return [fspath(u) for u in ([uri] if isinstance(uri, str | PathLike) else uri)]
    except TypeError as error:
        raise UsageError(
            f"uri {uri!r} is no dataset", remedy="give its folder or URI, or a list of them"
        ) from error


def _flag(name: str, value: Any) -> bool:
    """Return True or False, Python's or numpy's."""
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{name} {value!r} is neither True nor False")
    return bool(value)


def _launched() -> tuple[int, int] | None:
    """Return the rank and world size that a launcher such as torchrun has put into the environment."""
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or world_size is None:
        return None
    try:
        return _check_process(int(rank), int(world_size))
    except ValueError as error:
        raise UsageError(
            f"the environment says RANK={rank} and WORLD_SIZE={world_size}",
            remedy="mend them, or give rank and world_size",
        ) from error


def _check_process(rank: int | None, world_size: int | None) -> tuple[int, int] | None:
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise UsageError(
            f"rank is {rank} and world_size is {world_size}", remedy="give both or neither"
        )
    process = whole("rank", rank), whole("world_size", world_size)
    if process[0] >= process[1]:
        raise UsageError(f"rank {rank} is not below world_size {world_size}")
    return process


def _check_cache(folder: str | PathLike[str] | None, max_bytes: int | None) -> ShardCache | None:
    if folder is None and max_bytes is None:
        return None
    if folder is None or max_bytes is None:
        raise UsageError(
            f"cache_dir is {folder} and cache_bytes is {max_bytes}", remedy="give both or neither"
        )
    return ShardCache(folder=Path(folder), max_bytes=max_bytes)


def _can_pin(pin_memory: bool) -> bool:
    """Return whether memory can be pinned, with a warning where it was asked for and cannot."""
    if pin_memory and not torch.cuda.is_available():
        warnings.warn("pin_memory is left out: no CUDA device", stacklevel=3)
    return pin_memory and torch.cuda.is_available()
