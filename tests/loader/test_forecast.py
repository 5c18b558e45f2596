"""What an epoch costs, told from its plan."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gazepack.errors import UsageError
from gazepack.loader import BatchLimit, Forecast, GazeDataset, Plan, epoch_order, plan_steps
from gazepack.loader.forecast import forecast

MakeDataset = Callable[..., str]


def planned(tokens: np.ndarray, ranks: int) -> Plan:
    """Return the plan of an epoch of batches of 100 tokens."""
    order = epoch_order(len(tokens), seed=0, epoch=0, shuffle=True)
    return plan_steps(order, tokens, limit=BatchLimit(tokens=100), world_size=ranks)


def told(tokens: np.ndarray, *, ranks: int, **options: Any) -> Forecast:
    """Return the forecast for shards of 4 samples of 10 bytes a token."""
    sizes = tokens * 10
    shard = np.arange(len(tokens)) // 4
    offset = np.concatenate([np.cumsum(sizes[s : s + 4]) for s in range(0, len(sizes), 4)]) - sizes
    columns = {"dataset": 0 * shard, "shard": shard, "offset": offset, "size": sizes}
    return forecast(
        planned(tokens, ranks),
        tokens=tokens,
        addresses=pa.table(columns),
        patch_size=16,
        ranks=ranks,
        **options,
    )


TOKENS = np.random.default_rng(1).integers(1, 40, 203)


def test_balance_and_padding_are_those_of_the_batches() -> None:
    """Every number is what adding up the batches one by one gives."""
    plan = planned(TOKENS, 3)
    batches = [
        [TOKENS[plan.samples(step, rank=rank)] for rank in range(3)]
        for step in range(plan.num_steps)
    ]
    found = told(TOKENS, ranks=3, workers=2)
    loads = [[int(batch.sum()) for batch in step] for step in batches]
    ratios = [max(step) * 3 / sum(step) for step in loads]
    assert found.imbalance_max == pytest.approx(max(ratios))
    assert found.imbalance_mean == pytest.approx(np.mean(ratios))
    assert found.steps_above_two_percent == sum(ratio > 1.02 for ratio in ratios)
    padded = sum(len(batch) * int(batch.max()) for step in batches for batch in step if len(batch))
    assert found.padded_tokens == padded
    assert found.padding_avoided == pytest.approx(1 - TOKENS.sum() / padded)
    assert found.ahead_bytes == 2 * 2 * 768 * max(max(step) for step in loads)


@pytest.mark.parametrize("cache_bytes", [0, 3000, 20_000, 10**9])
def test_bytes_and_hits_are_those_of_a_plain_walk(cache_bytes: int) -> None:
    """Two machines read step after step; each keeps whole shards while there is room."""
    plan = planned(TOKENS, 4)
    shard_bytes = [int(TOKENS[s : s + 4].sum()) * 10 for s in range(0, len(TOKENS), 4)]
    caches: list[set[int]] = [set(), set()]
    read = requests = hits = 0
    for position, rank in zip(plan.order.tolist(), plan.ranks.tolist(), strict=True):
        cache, shard = caches[rank // 2], position // 4
        if shard in cache:
            hits += 1
            continue
        requests += 1
        if sum(shard_bytes[s] for s in cache) + shard_bytes[shard] <= cache_bytes:
            cache.add(shard)
            read += shard_bytes[shard]
        else:
            read += int(TOKENS[position]) * 10
    found = told(TOKENS, ranks=4, ranks_per_node=2, cache_bytes=cache_bytes)
    assert (found.nodes, found.read_bytes, found.requests) == (2, read, requests)
    assert found.cache_hits == pytest.approx(hits / len(TOKENS))
    assert found.cached_bytes == sum(shard_bytes[s] for cache in caches for s in cache)


def test_an_empty_dataset_costs_nothing(make_dataset: MakeDataset) -> None:
    """No sample is no step, no byte and no error."""
    found = GazeDataset(make_dataset([]), batch_size=4).forecast(cache_bytes=10)
    assert (found.steps, found.read_bytes, found.padded_tokens) == (0, 0, 0)
    assert (found.imbalance_max, found.cache_hits) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers -1 is not a whole number"),
        ({"ranks_per_node": 0}, "ranks_per_node 0 is not a whole number above 0"),
        ({"cache_bytes": -5}, "cache_bytes -5 is not a whole number"),
    ],
)
def test_impossible_machines_are_refused(options: dict[str, int], message: str) -> None:
    """In one line."""
    with pytest.raises(UsageError, match=message):
        told(TOKENS, ranks=2, **options)
