"""How good is the shuffle: GazeDataset's orders of an epoch against webdataset's buffer.

    python benchmarks/shuffle.py [--samples 100000] [--per-shard 256]

Only orders are made, no byte is read. Three numbers, each a mean over EPOCHS epochs:

    neighbours   share of samples whose predecessor comes from the same shard
    correlation  rank correlation of the places that neighbours have in the index
    spread       standard deviation of the places that a shard's samples have in the epoch, mean over shards,
                 over that of uniform places; 1 is a shard that is everywhere, 0 one that is in one place

Samples of a shard were packed from neighbouring videos, so what is together in the index is alike. Webdataset
is its own code: shards in random order, then its `shuffle` with a buffer of 1,000 or 10,000 samples.
"""

import argparse
import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from webdataset.filters import _shuffle as buffer_shuffle

from gazepack.loader.order import Order

Ints = npt.NDArray[np.int64]
EPOCHS = 5


def main() -> None:
    """Measure every way and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--per-shard", type=int, default=256)
    arguments = parser.parse_args()
    num_samples, per_shard = arguments.samples, arguments.per_shard
    rng = np.random.default_rng(0)
    tokens = np.minimum(rng.lognormal(7.2, 1.0, num_samples), 60_000).astype(np.int64)

    def planned(bucket_samples: int | None) -> Callable[[int], Ints]:
        return Order.of(
            [num_samples],
            weights=None,
            seed=0,
            shuffle=True,
            bucket_samples=bucket_samples,
            tokens=tokens,
        ).epoch

    ways: dict[str, Callable[[int], Ints]] = {
        "`GazeDataset`": planned(None),
        "with `bucket_samples=4096`": planned(4096),
    }
    for size in (1_000, 10_000):
        ways[f"webdataset: shards shuffled, buffer of {size:,}"] = lambda epoch, size=size: (
            buffered(num_samples, per_shard, size, epoch)
        )
    ways["shards shuffled, no buffer"] = lambda epoch: by_shards(num_samples, per_shard, epoch)
    print(f"{num_samples:,} samples in shards of {per_shard}\n")
    print("| order | neighbours from one shard | correlation | spread |\n|---|---|---|---|")
    for name, way in ways.items():
        figures = np.mean([quality(way(epoch), per_shard) for epoch in range(EPOCHS)], axis=0)
        print(f"| {name} | {100 * figures[0]:.2f} % | {figures[1]:.3f} | {figures[2]:.3f} |")


def by_shards(num_samples: int, per_shard: int, epoch: int) -> Ints:
    """Return all samples, shard by shard, the shards in random order."""
    shards = np.array_split(np.arange(num_samples), range(per_shard, num_samples, per_shard))
    random.Random(epoch).shuffle(shards)
    return np.concatenate(shards)


def buffered(num_samples: int, per_shard: int, buffer_samples: int, epoch: int) -> Ints:
    """Return the order that webdataset's buffer makes of that."""
    stream = iter(by_shards(num_samples, per_shard, epoch).tolist())
    given = buffer_shuffle(stream, buffer_samples, buffer_samples, rng=random.Random(epoch))
    return np.fromiter(given, np.int64)


def quality(order: Ints, per_shard: int) -> tuple[float, float, float]:
    """Return the three numbers of an order."""
    shards = order // per_shard
    neighbours = float((shards[1:] == shards[:-1]).mean())
    correlation = float(np.corrcoef(order[1:], order[:-1])[0, 1])
    places = np.argsort(order)
    cuts = range(per_shard, len(order), per_shard)
    spreads = [np.std(part) for part in np.split(places, cuts) if len(part) == per_shard]
    return neighbours, correlation, float(np.mean(spreads)) / (len(order) / 12**0.5)


if __name__ == "__main__":
    main()
