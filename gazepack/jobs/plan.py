"""Which segments share a shard: consecutive rows of the sorted listing, and nothing else decides it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gazepack.jobs.settings import ShardSettings
from gazepack.jobs.sources import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What one worker does: the segments of one shard. The same unit always gives the same bytes."""

    number: int
    """Of the shard."""
    segments: tuple[Segment, ...]
    """In the order of the listing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All units of a run, kept as the listing and the row at which each unit starts."""

    listing: pa.Table
    """What `list_sources` returned."""
    starts: tuple[int, ...]
    """The first row of each unit, and at the end the number of rows."""
    first: int = 0
    """Number of the first unit; the others follow."""

    @property
    def numbers(self) -> range:
        """The numbers of all units, which are those of their shards."""
        return range(self.first, self.first + len(self))

    def num_segments(self, numbers: Iterable[int]) -> int:
        """Return how many segments some units have together."""
        at = np.fromiter(numbers, dtype=np.int64) - self.first
        return int(np.diff(self.starts)[at].sum())

    def __len__(self) -> int:
        return len(self.starts) - 1

    def unit(self, number: int) -> Unit:
        """Return one unit."""
        start, end = self.starts[number - self.first], self.starts[number - self.first + 1]
        rows = self.listing.slice(start, end - start).to_pylist()
        return Unit(number=number, segments=tuple(Segment.from_row(row) for row in rows))

    def largest_first(self, numbers: Iterable[int]) -> list[int]:
        """Return some unit numbers by the size of their sources, the longest to pack coming first."""
        sums = np.add.reduceat(self.listing["bytes"].to_numpy(), self.starts[:-1])
        return sorted(numbers, key=lambda number: (-int(sums[number - self.first]), number))

    def units(self, numbers: Iterable[int]) -> Iterator[Unit]:
        """Yield some units, each made when it is asked for."""
        return (self.unit(number) for number in numbers)


def make_plan(listing: pa.Table, settings: ShardSettings, *, first: int = 0) -> Plan:
    """Cut a listing into units, numbered from `first`, by number of segments and size of sources."""
    if not listing.num_rows:
        return Plan(listing=listing, starts=(0,), first=first)
    starts, size = [0], 0
    for row, num_bytes in enumerate(listing["bytes"].to_numpy()):
        full = row - starts[-1] >= settings.samples_per_shard
        if row > starts[-1] and (full or size + num_bytes > settings.shard_size):
            starts.append(row)
            size = 0
        size += int(num_bytes)
    return Plan(listing=listing, starts=(*starts, listing.num_rows), first=first)
