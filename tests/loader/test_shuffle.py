"""The canonical order of an epoch."""

import numpy as np
import pytest

from gazepack.loader import epoch_order
from gazepack.loader.order import Order


def plain_splitmix(seed: int, count: int) -> list[int]:
    """The published generator, in Python integers: the slow, obviously right twin."""
    state, numbers = seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        numbers.append(z ^ (z >> 31))
    return numbers


def test_plain_splitmix_is_the_published_generator() -> None:
    """The first numbers for seed 1234567 are those that other implementations list."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert plain_splitmix(1234567, 3) == expected


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**63 - 1, 2**40)])
def test_the_order_is_that_of_splitmix_numbers(seed: int, epoch: int) -> None:
    """Position i is sorted by number i + 1 of the SplitMix64 stream of (seed, epoch)."""
    key = plain_splitmix(plain_splitmix(seed, 1)[0] ^ epoch, 1)[0]
    numbers = plain_splitmix(key, 50)
    expected = sorted(range(50), key=lambda i: numbers[i])
    assert epoch_order(50, seed=seed, epoch=epoch, shuffle=True).tolist() == expected


def test_each_epoch_and_seed_has_an_order_of_its_own() -> None:
    """Orders of other seeds or epochs differ, and are permutations."""
    orders = {
        tuple(epoch_order(20, seed=seed, epoch=epoch, shuffle=True).tolist())
        for seed in range(10)
        for epoch in range(10)
    }
    assert len(orders) == 100
    assert all(sorted(order) == list(range(20)) for order in orders)


def test_without_shuffle_the_order_is_the_index() -> None:
    """Unshuffled epochs are all alike."""
    for epoch in (0, 5):
        assert epoch_order(9, seed=1, epoch=epoch, shuffle=False).tolist() == list(range(9))


@pytest.mark.parametrize("size", [0, 1])
def test_orders_of_nothing_and_one(size: int) -> None:
    """Empty and single orders exist."""
    assert epoch_order(size, seed=0, epoch=0, shuffle=True).tolist() == list(range(size))


def test_the_shuffle_is_uniform() -> None:
    """Neighbours are strangers, and every sample is as likely in any tenth of the epoch."""
    size, epochs = 1000, 200
    orders = np.stack([epoch_order(size, seed=3, epoch=e, shuffle=True) for e in range(epochs)])
    gaps = np.abs(np.diff(orders, axis=1)).mean()
    assert abs(gaps - size / 3) < size / 100  # of independent uniform numbers: a third
    places = np.argsort(orders, axis=1) // (size // 10)
    for sample in range(0, size, 97):
        counts = np.bincount(places[:, sample], minlength=10)
        chi_square = ((counts - epochs / 10) ** 2 / (epochs / 10)).sum()
        assert chi_square < 33.7  # 9 degrees of freedom: exceeded once in 10,000
    two_epochs = np.corrcoef(np.argsort(orders[0]), np.argsort(orders[1]))[0, 1]
    assert abs(two_epochs) < 0.13  # four standard deviations


def shards_of(order: np.ndarray, per_shard: int) -> tuple[float, float]:
    """Return how many neighbours are of one shard, and how far the samples of a shard lie apart.

    Both over what they are in the mean of all orders.
    """
    shards = order // per_shard
    neighbours = (shards[1:] == shards[:-1]).mean() / ((per_shard - 1) / (len(order) - 1))
    places = np.argsort(order).reshape(-1, per_shard)
    return float(neighbours), float(places.std(axis=1).mean() / (len(order) / 12**0.5))


@pytest.mark.parametrize("bucket_samples", [None, 1024])
def test_the_samples_of_a_shard_are_everywhere(bucket_samples: int | None) -> None:
    """They meet as often as strangers do, and lie all over the epoch; shards in turn do neither."""
    size, per_shard = 2**14, 64
    tokens = np.random.default_rng(0).integers(1, 3000, size)
    order = Order.of(
        [size], weights=None, seed=1, shuffle=True, bucket_samples=bucket_samples, tokens=tokens
    )
    figures = np.array([shards_of(order.epoch(epoch), per_shard) for epoch in range(8)])
    neighbours, spread = figures.mean(axis=0)
    assert abs(neighbours - 1) < 0.2  # some 504 pairs in all: four standard deviations are 0.18
    assert abs(spread - 1) < 0.02  # 2,048 shards, each known to 4 %
    by_shards = np.random.default_rng(0).permutation(size // per_shard)[:, None] * per_shard
    neighbours, spread = shards_of((by_shards + np.arange(per_shard)).ravel(), per_shard)
    assert neighbours > 200
    assert spread < 0.01
