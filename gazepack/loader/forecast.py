"""What an epoch will cost, told from its plan: nothing is read and no GPU is needed.

The forecast of bytes counts what a loader asks the storage for, sample by sample or, with a cache,
shard by shard in the order in which each machine first meets them. What it cannot tell is time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gazepack.loader.plan import Plan
from gazepack.loader.whole import whole

Ints = npt.NDArray[np.int64]

WITHIN = 1.02
"""The largest rank over the mean, as it should be at every step."""
BATCHES_AHEAD = 2
"""PyTorch's `prefetch_factor`: finished batches that each `DataLoader` worker may have waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """An epoch in numbers."""

    ranks: int
    """Processes that read."""
    workers: int
    """`DataLoader` workers of each; 0 reads in the process itself."""
    nodes: int
    """Machines, each with a cache of its own."""
    steps: int
    """Steps of every rank."""
    samples: int
    """Samples of the epoch."""
    tokens: int
    """Tokens of the epoch; an upper bound with the dials `scales` and `max_loss`."""
    tokens_per_batch: float
    """On average."""
    samples_per_batch: float
    """On average."""
    empty_batches: int
    """Batches without a sample, at the end of the epoch."""
    imbalance_mean: float
    """The largest rank's tokens over the mean rank's, averaged over the steps: the share of time for
    which the other ranks wait is this less 1."""
    imbalance_max: float
    """Likewise, at the worst step."""
    steps_above_two_percent: int
    """Steps at which the largest rank is more than 2 % above the mean."""
    padded_tokens: int
    """Tokens if every sample were padded to the longest of its batch."""
    padding_avoided: float
    """The share of those that is padding."""
    sample_bytes: int
    """Stored bytes of all samples of the epoch."""
    read_bytes: int
    """Bytes asked of the storage, by all machines together."""
    requests: int
    """Range reads, a cached shard counted once."""
    cached_bytes: int
    """Bytes in the caches of all machines after the epoch."""
    cache_hits: float
    """The share of samples that is read from a cache."""
    next_epoch_cache_hits: float
    """Likewise if the next epoch begins with these caches."""
    ahead_bytes: int
    """Most bytes of pixels that one rank's workers hold finished and waiting."""


def forecast(
    plan: Plan,
    *,
    tokens: Ints,
    addresses: pa.Table,
    patch_size: int,
    ranks: int,
    workers: int = 0,
    ranks_per_node: int = 8,
    cache_bytes: int = 0,
) -> Forecast:
    """Return what the epoch of a plan costs.

    Args:
        plan: of `ranks` ranks, from the start of an epoch.
        tokens: of every sample of the index, int64 of shape (samples,).
        addresses: one row a sample with dataset, shard, offset and size.
        patch_size: side of every patch, in pixels.
        ranks: processes that read.
        workers: `DataLoader` workers of each.
        ranks_per_node: ranks that share a machine and its cache.
        cache_bytes: size of that cache; 0 for none.

    Raises:
        UsageError: a number below its least.
    """
    workers, cache_bytes = whole("workers", workers), whole("cache_bytes", cache_bytes)
    ranks_per_node = whole("ranks_per_node", ranks_per_node, least=1)
    # 1. what each rank is handed
    run = slice(int(plan.bounds[0]), int(plan.bounds[-1]))
    order, dealt = plan.order[run], plan.ranks[run]
    sizes = addresses["size"].to_numpy()[order]
    loads = plan.loads(tokens, world_size=ranks)
    ratios = loads.max(axis=1, initial=0) / np.maximum(loads.mean(axis=1), 1e-9)
    counts, padded = _batches(plan, tokens, ranks)
    # 2. what each machine reads
    nodes = -(-ranks // ranks_per_node)
    shards, shard_sizes = _shards(addresses)
    machines = [
        _read_by_machine(
            shards[order][dealt // ranks_per_node == node],
            sizes[dealt // ranks_per_node == node],
            shard_sizes,
            cache_bytes,
        )
        for node in range(nodes)
    ]
    # 3. both together
    num_samples, total = len(order), int(loads.sum())
    pixels = 3 * patch_size**2 * int(loads.max(initial=0))
    share = 1 / max(num_samples, 1)
    return Forecast(
        ranks=ranks,
        workers=workers,
        nodes=nodes,
        steps=plan.num_steps,
        samples=num_samples,
        tokens=total,
        tokens_per_batch=float(loads.mean()) if loads.size else 0.0,
        samples_per_batch=float(counts.mean()) if counts.size else 0.0,
        empty_batches=int((counts == 0).sum()),
        imbalance_mean=float(ratios.mean()) if ratios.size else 1.0,
        imbalance_max=float(ratios.max(initial=1.0)),
        steps_above_two_percent=int((ratios > WITHIN).sum()),
        padded_tokens=padded,
        padding_avoided=1 - total / padded if padded else 0.0,
        sample_bytes=int(sizes.sum()),
        read_bytes=sum(m.read_bytes for m in machines),
        requests=sum(m.requests for m in machines),
        cached_bytes=sum(m.cached_bytes for m in machines),
        cache_hits=sum(m.hits for m in machines) * share,
        next_epoch_cache_hits=sum(m.samples_cached for m in machines) * share,
        ahead_bytes=workers * BATCHES_AHEAD * pixels,
    )


def _batches(plan: Plan, tokens: Ints, ranks: int) -> tuple[Ints, int]:
    """Return the samples of every batch, int64 steps x ranks, and the tokens of padded ones."""
    run = slice(int(plan.bounds[0]), int(plan.bounds[-1]))
    step = np.repeat(np.arange(plan.num_steps), np.diff(plan.bounds))
    cell = step * ranks + plan.ranks[run]
    counts = np.bincount(cell, minlength=plan.num_steps * ranks)
    longest = np.zeros(plan.num_steps * ranks, dtype=np.int64)
    np.maximum.at(longest, cell, tokens[plan.order[run]])
    return counts.reshape(plan.num_steps, ranks), int((counts * longest).sum())


def _shards(addresses: pa.Table) -> tuple[Ints, Ints]:
    """Return the number of every sample's shard, counted over all datasets, and the shards' bytes."""
    dataset = addresses["dataset"].to_numpy().astype(np.int64)
    names = (dataset << 32) + addresses["shard"].to_numpy()
    _, numbers = np.unique(names, return_inverse=True)
    ends = addresses["offset"].to_numpy() + addresses["size"].to_numpy()
    sizes = np.zeros(int(numbers.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(sizes, numbers, ends)
    return numbers.astype(np.int64), sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """What the ranks of one machine read."""

    read_bytes: int
    requests: int
    cached_bytes: int
    hits: int
    samples_cached: int


def _read_by_machine(shards: Ints, sizes: Ints, shard_sizes: Ints, cache_bytes: int) -> _Machine:
    """Follow one machine's reads; a shard that finds room is copied, and nothing is thrown out."""
    met, first = np.unique(shards, return_index=True)
    is_cached = np.zeros(len(shard_sizes), dtype=bool)
    used = 0
    for shard in met[np.argsort(first)].tolist():
        if used + int(shard_sizes[shard]) <= cache_bytes:
            is_cached[shard] = True
            used += int(shard_sizes[shard])
    from_cache = is_cached[shards]
    copied = int(is_cached.sum())
    return _Machine(
        read_bytes=used + int(sizes[~from_cache].sum()),
        requests=copied + int((~from_cache).sum()),
        cached_bytes=used,
        hits=int(from_cache.sum()) - copied,
        samples_cached=int(from_cache.sum()),
    )
