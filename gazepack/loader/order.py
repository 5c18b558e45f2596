"""The canonical order of an epoch: which samples it has, mixed from the datasets, and in which order.

Without weights an epoch is every sample once. With weights it has as many samples, of which each
dataset gives its share: a window of a stream that goes through that dataset again and again, each
time in another order. So a sample comes again only after all others of its dataset have come, also
across epochs, and an epoch is still a function of its number alone.

Buckets put samples of similar length side by side: windows of the order are sorted by length, cut
into runs and the runs shuffled. It costs randomness inside a window, and serves models that pad or
whose attention is quadratic; ragged batches need it for neither memory nor balance.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from gazepack.errors import UsageError
from gazepack.loader.shuffle import epoch_order
from gazepack.loader.whole import whole

Ints = npt.NDArray[np.int64]

RUN_SAMPLES = 64
"""Samples of similar length that stand side by side in a bucketed order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Order:
    """The orders of all epochs.

    Raises:
        UsageError: a bucket window that is no number of samples.
    """

    sizes: tuple[int, ...]
    """Samples of each dataset; in the catalog they follow each other."""
    shares: tuple[int, ...]
    """Samples of each dataset in an epoch."""
    seed: int
    """Of the shuffle."""
    shuffle: bool
    """Whether each epoch has an order of its own."""
    is_weighted: bool
    """Whether the shares are others than the sizes."""
    bucket_samples: int | None
    """Samples of a window that is sorted by length; None for no buckets."""
    tokens: Ints
    """Of every sample of the catalog; the lengths that buckets sort by."""

    def __post_init__(self) -> None:
        window = self.bucket_samples
        if window is not None:
            remedy = f"give the samples of a window, some {RUN_SAMPLES * 64}"
            number = whole("bucket_samples", window, least=2, remedy=remedy)
            object.__setattr__(self, "bucket_samples", number)

    @classmethod
    def of(
        cls,
        sizes: Sequence[int],
        *,
        weights: Sequence[float] | None,
        seed: int,
        shuffle: bool,
        bucket_samples: int | None,
        tokens: Ints,
    ) -> Self:
        """Return the orders for weights as users write them.

        Raises:
            UsageError: weights that are not one number above 0 for each dataset, or weight on a
                dataset without samples.
        """
        shares = tuple(sizes) if weights is None else weighted_shares(sizes, weights)
        return cls(
            sizes=tuple(sizes),
            shares=shares,
            seed=seed,
            shuffle=shuffle,
            is_weighted=weights is not None,
            bucket_samples=bucket_samples,
            tokens=tokens,
        )

    def __len__(self) -> int:
        return sum(self.shares)

    def fingerprint(self, catalog: str) -> str:
        """Return what a state must agree with, 16 hexadecimal digits; the catalog's own if plain."""
        if not self.is_weighted and self.bucket_samples is None:
            return catalog
        digest = hashlib.sha256(f"{catalog} {self.shares} {self.bucket_samples}".encode())
        if self.bucket_samples is not None:
            digest.update(self.tokens.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def epoch(self, number: int) -> Ints:
        """Return the positions in the catalog in the order of an epoch, int64 of shape (len,)."""
        if self.is_weighted:
            order = self._mixed(number)
        else:
            order = epoch_order(sum(self.sizes), seed=self.seed, epoch=number, shuffle=self.shuffle)
        return order if self.bucket_samples is None else self._bucketed(order, number)

    def _mixed(self, number: int) -> Ints:
        """Return the shares of all datasets, shuffled, or else evenly spread."""
        firsts = np.concatenate([[0], np.cumsum(self.sizes)])
        parts = [
            firsts[i] + self._window(i, number * share, share)
            for i, share in enumerate(self.shares)
        ]
        mixed = np.concatenate(parts).astype(np.int64)
        if self.shuffle:
            return mixed[epoch_order(len(mixed), seed=self.seed, epoch=number, shuffle=True)]
        places = [(2 * np.arange(share) + 1) / max(share, 1) for share in self.shares]
        return mixed[np.argsort(np.concatenate(places), kind="stable")]

    def _window(self, dataset: int, start: int, length: int) -> Ints:
        """Return a stretch of a dataset's endless stream of passes."""
        size = self.sizes[dataset]
        if not length:
            return np.zeros(0, dtype=np.int64)
        first, last = start // size, (start + length - 1) // size
        seed = (self.seed + dataset + 1) % 2**63
        passes = [
            epoch_order(size, seed=seed, epoch=p, shuffle=self.shuffle)
            for p in range(first, last + 1)
        ]
        return np.concatenate(passes)[start - first * size :][:length]

    def _bucketed(self, order: Ints, number: int) -> Ints:
        """Return the order with each window sorted by length and its runs shuffled."""
        window = self.bucket_samples
        assert window is not None
        runs = []
        for start in range(0, len(order), window):
            part = order[start : start + window]
            part = part[np.argsort(self.tokens[part], kind="stable")]
            cuts = [part[i : i + RUN_SAMPLES] for i in range(0, len(part), RUN_SAMPLES)]
            seed = (self.seed + start) % 2**63
            turns = epoch_order(len(cuts), seed=seed, epoch=number, shuffle=self.shuffle)
            runs += [cuts[turn] for turn in turns]
        return np.concatenate(runs) if runs else order


def weighted_shares(sizes: Sequence[int], weights: Sequence[float]) -> tuple[int, ...]:
    """Return how many samples of an epoch each dataset gives; together all samples there are.

    Shares are rounded down, and what is missing goes to the largest remainders.

    Raises:
        UsageError: as `Order.of`.
    """
    if not isinstance(weights, Sequence | np.ndarray):
        raise UsageError(
            f"weights {weights!r} are no list", remedy="give a number for each dataset"
        )
    if len(weights) != len(sizes):
        raise UsageError(
            f"{len(weights)} weights for {len(sizes)} datasets", remedy="give each one"
        )
    wrong = [
        w
        for w in weights
        if not isinstance(w, int | float | np.number) or not 0 <= w < float("inf")
    ]
    if wrong or not 0 < sum(weights) < float("inf"):
        raise UsageError(f"weights {list(weights)} are not numbers from 0 up, one above 0")
    # numpy's float32 would round the sums
    weights = [w if isinstance(w, int | float) else float(w) for w in weights]
    for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        if weight and not size:
            raise UsageError(
                f"dataset {number} has weight {weight} and no sample", remedy="give it weight 0"
            )
    exact = [sum(sizes) * weight / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: sum(sizes) - sum(shares)]:
        shares[i] += 1
    return tuple(shares)
