"""The batch plan: pure functions of numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazepack.errors import UsageError
from gazepack.loader import BatchLimit, Plan, epoch_order, plan_steps
from gazepack.loader.plan import MAX_DEFERRED, deal


def plan(
    tokens: Any,
    *,
    world_size: int,
    consumed: int = 0,
    deferred: tuple[int, ...] = (),
    drop_last: bool = False,
    **limit: int,
) -> Plan:
    """Return the plan of the first epoch."""
    tokens = np.asarray(tokens, dtype=np.int64)
    return plan_steps(
        epoch_order(len(tokens), seed=0, epoch=0, shuffle=True),
        tokens,
        limit=BatchLimit(tokens=limit.get("batch_tokens"), samples=limit.get("batch_size")),
        world_size=world_size,
        consumed=consumed,
        deferred=deferred,
        drop_last=drop_last,
    )


def long_tailed(size: int, *, most: int = 30000) -> np.ndarray:
    """Return log-normal token counts, mean about 2,200, 99th percentile about 12,000."""
    rng = np.random.default_rng(5)
    return np.minimum(rng.lognormal(7.3, 0.9, size), most).astype(np.int64) + 16


any_limit = st.one_of(
    st.fixed_dictionaries({"batch_tokens": st.integers(1, 200)}),
    st.fixed_dictionaries({"batch_size": st.integers(1, 7)}),
)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 120), max_size=60), world_size=st.integers(1, 9), limit=any_limit
)
def test_nothing_twice_nothing_lost_within_limits(
    tokens: list[int], world_size: int, limit: dict[str, int]
) -> None:
    """Each sample is in one batch; batches keep their limit; only a too short last step has gaps."""
    made = plan(tokens, world_size=world_size, **limit)
    seen: list[int] = []
    for step in range(made.num_steps):
        batches = [made.samples(step, rank=rank).tolist() for rank in range(world_size)]
        seen += sorted(i for batch in batches for i in batch)
        run = made.order[made.bounds[step] : made.bounds[step + 1]]
        assert sorted(i for batch in batches for i in batch) == sorted(run.tolist())
        for batch in batches:
            assert len(batch) <= limit.get("batch_size", len(tokens))
            total = sum(tokens[i] for i in batch)
            holding = sum(
                tokens[i] > 0 for i in batch
            )  # empty samples beside a large one cost nothing
            assert holding <= 1 or total <= limit.get("batch_tokens", total)
        if not all(batches):
            assert step == made.num_steps - 1
            assert len(run) < world_size
    assert sorted(seen) == list(range(len(tokens)))


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 120), max_size=60), world_size=st.integers(1, 9), limit=any_limit
)
def test_a_plan_from_any_step_is_the_tail(
    tokens: list[int], world_size: int, limit: dict[str, int]
) -> None:
    """Planning from where a step ended gives the remaining steps, batch for batch."""
    whole = plan(tokens, world_size=world_size, **limit)
    for step in range(whole.num_steps + 1):
        consumed = int(whole.bounds[step])
        deferred = whole.deferred.get(consumed, ())
        tail = plan(tokens, world_size=world_size, consumed=consumed, deferred=deferred, **limit)
        assert tail.bounds.tolist() == whole.bounds[step:].tolist()
        assert tail.ranks[consumed:].tolist() == whole.ranks[consumed:].tolist()
        assert tail.order[consumed:].tolist() == whole.order[consumed:].tolist()


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.sampled_from([1, 3, 8, 40, 60]), min_size=20, max_size=80),
    worlds=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_deferred_samples_are_few_and_not_lost(tokens: list[int], worlds: tuple[int, int]) -> None:
    """What waits is named in the plan: the rest for other ranks is exactly what was not given out."""
    whole = plan(tokens, world_size=worlds[0], batch_tokens=70)
    canonical = epoch_order(len(tokens), seed=0, epoch=0, shuffle=True)
    for consumed in whole.bounds.tolist():
        deferred = whole.deferred.get(consumed, ())
        assert len(deferred) <= MAX_DEFERRED
        assert list(deferred) == sorted(deferred)
        frontier = consumed + len(deferred)
        done = set(canonical[:frontier]) - {canonical[place] for place in deferred}
        assert set(whole.order[:consumed]) == done
        rest = plan(
            tokens, world_size=worlds[1], consumed=consumed, deferred=deferred, batch_tokens=70
        )
        assert set(rest.order[consumed:]) == set(canonical) - done


def test_a_sample_that_does_not_fit_waits_for_one_step() -> None:
    """Two samples of 60 and one of 45 in a row on two ranks: the 45 waits for the next step."""
    tokens = np.array([60, 45, 60, *[5] * 12, 45, *[5] * 20])
    made = plan_steps(np.arange(len(tokens)), tokens, limit=BatchLimit(tokens=65), world_size=2)
    loads = made.loads(tokens, world_size=2)
    assert loads[0].tolist() == [60, 60]
    assert made.deferred[int(made.bounds[1])] == (1,)
    assert 1 in made.order[made.bounds[1] : made.bounds[2]]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("most", [30_000, 60_000])
def test_ranks_are_within_two_percent_on_a_long_tail(world_size: int, most: int) -> None:
    """At 65,536 tokens a batch, the largest rank is within 2 % of the mean at every step."""
    tokens = long_tailed(100_000, most=most)
    loads = plan(tokens, world_size=world_size, batch_tokens=65536).loads(
        tokens, world_size=world_size
    )
    assert (loads.max(axis=1) / loads.mean(axis=1)).max() <= 1.02
    assert loads.sum() == tokens.sum()
    assert loads.max() <= 65536
    assert loads[:-2].mean() >= 0.96 * 65536


def test_loads_are_sums_of_the_batches() -> None:
    """`loads` is what adding up each batch gives, also in the rest of an epoch."""
    tokens = long_tailed(500)
    made = plan(tokens, world_size=3, consumed=100, batch_tokens=40_000)
    expected = [
        [int(tokens[made.samples(step, rank=rank)].sum()) for rank in range(3)]
        for step in range(made.num_steps)
    ]
    assert made.loads(tokens, world_size=3).tolist() == expected


def test_the_last_two_steps_share_what_is_left() -> None:
    """31 samples of 1 token in batches of 10 end in two steps of 5 and 6, not in one of 1."""
    made = plan([1] * 31, world_size=1, batch_tokens=10)
    assert np.diff(made.bounds).tolist() == [10, 10, 5, 6]


def test_a_sample_above_the_budget_is_a_batch_of_its_own() -> None:
    """Nothing rides along with a sample that is too large by itself."""
    made = plan([5, 300, 5, 5], world_size=2, batch_tokens=20)
    batches = [made.samples(s, rank=r).tolist() for s in range(made.num_steps) for r in (0, 1)]
    assert [1] in batches


def test_fixed_sizes_fill_all_steps_but_the_last() -> None:
    """Ten samples, four a batch: 4, 4 and 2."""
    made = plan([1] * 10, world_size=1, batch_size=4)
    assert np.diff(made.bounds).tolist() == [4, 4, 2]


def test_no_rank_is_empty_while_the_epoch_has_enough_samples() -> None:
    """Nine samples of batch size 2 on 4 ranks: 5 and 4, where 8 and 1 would leave three without."""
    made = plan([1] * 9, world_size=4, batch_size=2)
    assert np.diff(made.bounds).tolist() == [5, 4]


def test_too_few_samples_leave_ranks_empty_or_are_dropped() -> None:
    """Three samples on 8 ranks are one step with five empty batches, or none with `drop_last`."""
    made = plan([1] * 3, world_size=8, batch_tokens=10)
    assert sorted(len(made.samples(0, rank=r)) for r in range(8)) == [0] * 5 + [1] * 3
    assert plan([1] * 3, world_size=8, batch_tokens=10, drop_last=True).num_steps == 0
    dropped = plan([1] * 11, world_size=8, batch_size=1, drop_last=True)
    assert dropped.num_steps == 1
    assert (dropped.ranks < 0).sum() == 3


@settings(max_examples=60, deadline=None)
@given(tokens=st.lists(st.integers(0, 50), max_size=40), world_size=st.integers(1, 8))
def test_dealing_is_longest_first(tokens: list[int], world_size: int) -> None:
    """The heap deals as a plain search for the least loaded rank does."""
    loads, counts = [0] * world_size, [0] * world_size
    expected = [0] * len(tokens)
    for i in sorted(range(len(tokens)), key=lambda i: (-tokens[i], i)):
        rank = min(range(world_size), key=lambda r: (loads[r], counts[r], r))
        expected[i] = rank
        loads[rank] += tokens[i]
        counts[rank] += 1
    assert deal(np.array(tokens, dtype=np.int64), world_size=world_size).tolist() == expected


def test_a_million_samples_are_planned() -> None:
    """A plan of a million samples for 8 ranks is exact; its arrays are all it keeps."""
    tokens = long_tailed(1_000_000)
    made = plan(tokens, world_size=8, batch_tokens=65536)
    loads = made.loads(tokens, world_size=8)
    assert loads.sum() == tokens.sum()
    assert (loads.max(axis=1) / loads.mean(axis=1)).max() <= 1.02
    assert made.order.nbytes + made.ranks.nbytes + made.bounds.nbytes < 13_000_000


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({}, "batch_tokens is None and batch_size is None; give one of the two"),
        ({"tokens": 1, "samples": 1}, "batch_tokens is 1 and batch_size is 1"),
        ({"tokens": 0}, "batch_tokens 0 is not a whole number above 0"),
        ({"samples": 2.0}, "batch_size 2.0 is not a whole number above 0"),
    ],
)
def test_impossible_limits_are_refused(limit: dict[str, Any], message: str) -> None:
    """A batch has one limit, of at least 1."""
    with pytest.raises(UsageError, match=message):
        BatchLimit(**limit)
