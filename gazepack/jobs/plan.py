"""Which segments share a shard: consecutive rows of the sorted listing, and nothing else decides it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gazepack.jobs.frames import ShardSettings
from gazepack.jobs.segment import Segment

PIXELS_PER_BYTE = 80.0
"""Of a video that nobody looked into: H.264 at a tenth of a bit for a pixel."""


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

    def num_videos(self, numbers: Iterable[int]) -> int:
        """Return how many videos lie in some units with all their parts."""
        is_in = np.zeros(len(self), bool)
        is_in[np.fromiter(numbers, dtype=np.int64) - self.first] = True
        ids = self.listing["id"].combine_chunks()
        if not len(ids):
            return 0
        begins = np.concatenate([[True], pc.not_equal(ids[1:], ids[:-1]).to_numpy(False)])
        is_row_in = np.repeat(is_in, np.diff(self.starts))
        return int(np.logical_and.reduceat(is_row_in, np.flatnonzero(begins)).sum())

    def __len__(self) -> int:
        return len(self.starts) - 1

    def unit(self, number: int) -> Unit:
        """Return one unit."""
        start, end = self.starts[number - self.first], self.starts[number - self.first + 1]
        rows = self.listing.slice(start, end - start).to_pylist()
        return Unit(number=number, segments=tuple(Segment.from_row(row) for row in rows))

    def largest_first(self, numbers: Iterable[int]) -> list[int]:
        """Return some unit numbers by what packing them takes, the longest coming first."""
        if not len(self):
            return []
        sums = np.add.reduceat(costs(self.listing), self.starts[:-1])
        return sorted(numbers, key=lambda number: (-float(sums[number - self.first]), number))

    def units(self, numbers: Iterable[int]) -> Iterator[Unit]:
        """Yield some units, each made when it is asked for."""
        return (self.unit(number) for number in numbers)


def shares(listing: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return the source bytes of every row: of a part its share of the file; 0 if unknown."""
    column = pc.coalesce(listing["part_bytes"], listing["bytes"])
    return np.asarray(column.to_numpy(), dtype=np.int64)


def costs(listing: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return what packing every row takes: its pixels where they are known, else a guess from its bytes."""
    guess = np.maximum(1, shares(listing)) * PIXELS_PER_BYTE
    column = pc.coalesce(listing["pixels"], pa.array(guess))
    return np.asarray(column.to_numpy(), dtype=np.float64)


def make_plan(listing: pa.Table, settings: ShardSettings, *, first: int = 0) -> Plan:
    """Cut a listing into units, numbered from `first`, by number of segments and size of sources."""
    if not listing.num_rows:
        return Plan(listing=listing, starts=(0,), first=first)
    starts, size = [0], 0
    for row, num_bytes in enumerate(shares(listing)):
        full = row - starts[-1] >= settings.samples_per_shard
        if row > starts[-1] and (full or size + num_bytes > settings.shard_size):
            starts.append(row)
            size = 0
        size += int(num_bytes)
    return Plan(listing=listing, starts=(*starts, listing.num_rows), first=first)
