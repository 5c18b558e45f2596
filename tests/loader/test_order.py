"""The canonical order of an epoch: mixtures and buckets."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazepack.errors import UsageError
from gazepack.loader import epoch_order
from gazepack.loader.order import Order, weighted_shares


def order(sizes: list[int], **options: Any) -> Order:
    """Return the orders of some datasets of samples of 1, 2, 3, ... tokens."""
    tokens = np.arange(1, sum(sizes) + 1)
    plain = {"weights": None, "seed": 3, "shuffle": True, "bucket_samples": None}
    return Order.of(sizes, tokens=tokens, **(plain | options))


def test_without_weights_an_epoch_is_every_sample_once() -> None:
    """The plain order is the shuffle of all samples, and states of it are known by the catalog."""
    plain = order([4, 6])
    expected = epoch_order(10, seed=3, epoch=2, shuffle=True)
    assert plain.epoch(2).tolist() == expected.tolist()
    assert plain.fingerprint("abc") == "abc"


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    weights=st.lists(st.integers(0, 9), min_size=4, max_size=4),
    shuffle=st.booleans(),
)
def test_samples_come_again_only_after_all_others(
    sizes: list[int], weights: list[int], shuffle: bool
) -> None:
    """Over any number of epochs, two samples of one dataset differ by at most one in their counts."""
    weights = [*weights[: len(sizes) - 1], 5]
    mixed = order(sizes, weights=weights, shuffle=shuffle)
    counts: Counter[int] = Counter()
    for epoch in range(5):
        given_out = mixed.epoch(epoch)
        assert len(given_out) == len(mixed) == sum(sizes)
        counts.update(given_out.tolist())
        first = 0
        for size, share in zip(sizes, mixed.shares, strict=True):
            own = range(first, first + size)
            assert sum(int(position) in own for position in given_out) == share
            seen = [counts[position] for position in own]
            assert max(seen) - min(seen) <= 1
            first += size


def test_shares_are_the_weights() -> None:
    """1,000 samples of a small and a large dataset, one to three, whatever their sizes."""
    assert weighted_shares([100, 900], [1, 3]) == (250, 750)
    assert weighted_shares([5, 5], [0.7, 0.3]) == (7, 3)
    assert weighted_shares([5, 5], np.array([7, 3], np.float32)) == (7, 3)
    assert weighted_shares([3, 3, 4], [1, 1, 1]) == (4, 3, 3)


def test_an_unshuffled_mixture_is_spread_evenly() -> None:
    """One to three: one of the first dataset among each four."""
    spread = order([10, 30], weights=[1, 3], shuffle=False).epoch(0)
    firsts = (spread < 10).reshape(-1, 4).sum(axis=1)
    assert firsts.tolist() == [1] * 10


@pytest.mark.parametrize(
    ("sizes", "weights", "message"),
    [
        ([1, 2], [1], "1 weights for 2 datasets"),
        ([1, 2], [1, -1], r"weights \[1, -1\] are not numbers from 0 up"),
        ([1, 2], [0, 0], "one above 0"),
        ([1, 2], [1, float("nan")], "are not numbers from 0 up"),
        ([1, 2], [1, "x"], "are not numbers from 0 up"),
        ([1, 2], [1e308, 1e308], "are not numbers from 0 up"),
        ([1, 2], 3, "weights 3 are no list; give a number for each dataset"),
        ([0, 2], [1, 1], "dataset 0 has weight 1 and no sample; give it weight 0"),
    ],
)
def test_impossible_weights_are_refused(sizes: list[int], weights: Any, message: str) -> None:
    """One number for each dataset, and nothing from an empty one."""
    with pytest.raises(UsageError, match=message):
        order(sizes, weights=weights)


def test_buckets_put_similar_lengths_side_by_side() -> None:
    """Each run of 64 spans a small part of the lengths; all samples are there; epochs differ."""
    bucketed = order([4096], bucket_samples=2048)
    epochs = [bucketed.epoch(number) for number in (0, 1)]
    for positions in epochs:
        assert sorted(positions) == list(range(4096))
        spans = [np.ptp(positions[i : i + 64]) for i in range(0, 4096, 64)]
        assert max(spans) < 400  # a random run spans about 4,000
    assert epochs[0].tolist() != epochs[1].tolist()


def test_buckets_change_the_fingerprint() -> None:
    """A count of samples means nothing in an order of other buckets, weights or lengths."""
    orders = [
        order([9]),
        order([9], bucket_samples=4),
        order([9], bucket_samples=5),
        order([4, 5], weights=[1, 1]),
        order([4, 5], weights=[1, 2]),
    ]
    assert len({o.fingerprint("abc") for o in orders}) == 5


@pytest.mark.parametrize("window", [1, 0, 2.5, True])
def test_impossible_buckets_are_refused(window: Any) -> None:
    """A window holds at least two samples."""
    with pytest.raises(UsageError, match=r"bucket_samples .* is not a whole number above 1"):
        order([9], bucket_samples=window)


def test_an_empty_epoch_has_an_order() -> None:
    """No sample, no order, no error."""
    assert order([0], bucket_samples=4).epoch(0).tolist() == []
