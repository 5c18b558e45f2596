"""A dataset in bounded numbers: sums, histograms and a few rows, added up shard by shard.

Memory and the size of what is made of them do not grow with the number of samples, but for the ids of videos,
which must be told apart. Of the index only the columns that are counted are kept, one shard at a time.
"""

import heapq
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gazepack.formats import DatasetDirectory, outstanding

Counts = npt.NDArray[np.int64]

REDUCTION_EDGES: tuple[float, ...] = (
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
    96,
    128,
    192,
    256,
    512,
    1024,
)
"""Bins of reductions; below the first and above the last is counted in the outermost bins."""
PSNR_EDGES: tuple[float, ...] = tuple(range(10, 61, 2))
"""Bins of PSNRs, in dB."""
_TOKEN_EDGES = np.unique(np.round(2 ** (np.arange(0, 16 * 8 + 1) / 8)).astype(np.int64))
"""Bins of tokens of a frame, each 9 % wide."""
_READERS, _READ_AHEAD = 8, 32
_ROW_COLUMNS = ["shard", "key", "id", "window", "tokens", "dense_tokens", "min_psnr"]


@dataclass(slots=True, kw_only=True)
class Statistics:
    """What a report says of samples; `add` takes one shard's index at a time."""

    clip_frames: int
    """Of the dataset."""
    kept: int
    """How many of the best and of the worst samples are remembered."""
    samples: int = 0
    frames: int = 0
    tokens: int = 0
    dense_tokens: int = 0
    bytes: int = 0
    min_psnr: float | None = None
    """Of the worst frame, in dB."""
    reductions: Counts = field(default_factory=lambda: np.zeros(len(REDUCTION_EDGES) - 1, np.int64))
    """Samples a bin of `REDUCTION_EDGES`."""
    psnrs: Counts = field(default_factory=lambda: np.zeros(len(PSNR_EDGES) - 1, np.int64))
    """Samples a bin of `PSNR_EDGES`, by their worst frame."""
    tokens_at: Counts = field(init=False)
    """Frames by their place in the clip and their tokens, a bin of `_TOKEN_EDGES`."""
    sums_at: Counts = field(init=False)
    """Tokens by the place of their frame in its clip."""
    best: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the largest reduction."""
    worst: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the smallest reduction."""
    faintest: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the lowest PSNR."""
    _videos: list[pa.Table] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens_at = np.zeros((self.clip_frames, len(_TOKEN_EDGES)), np.int64)
        self.sums_at = np.zeros(self.clip_frames, np.int64)

    def add(self, index: pa.Table) -> None:
        """Add the samples of one shard."""
        if not index.num_rows:
            return
        tokens, dense = (index[name].to_numpy() for name in ("tokens", "dense_tokens"))
        # 1. sums
        self.samples += index.num_rows
        self.frames += int(pc.sum(index["frames"]).as_py())
        self.tokens += int(tokens.sum())
        self.dense_tokens += int(dense.sum())
        self.bytes += int(pc.sum(index["bytes"]).as_py())
        worst = pc.min(index["min_psnr"]).as_py()
        if worst is not None:
            self.min_psnr = min(worst, worst if self.min_psnr is None else self.min_psnr)
        # 2. histograms
        reduction = dense / np.maximum(1, tokens)
        self.reductions += _counts(reduction, REDUCTION_EDGES)
        known = index["min_psnr"].drop_null().to_numpy()
        self.psnrs += _counts(known, PSNR_EDGES)
        self._add_clips(index)
        # 3. rows
        psnr = np.nan_to_num(index["min_psnr"].to_numpy().astype(float), nan=np.inf)
        self.best = self._extreme(self.best, index, -reduction)
        self.worst = self._extreme(self.worst, index, reduction)
        self.faintest = self._extreme(self.faintest, index, psnr)
        self._videos.append(index.select(["id", "window", "source_bytes"]))

    def _add_clips(self, index: pa.Table) -> None:
        """Count tokens of the main view's frames by their place in the clip."""
        lists = index["tokens_per_frame"].combine_chunks()
        counts = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        starts = np.cumsum(lengths) - lengths
        position = np.arange(len(counts)) - np.repeat(starts, lengths)
        main = position < np.repeat(index["frames"].to_numpy(), lengths)
        place, counts = position[main] % self.clip_frames, counts[main]
        bins = np.searchsorted(_TOKEN_EDGES, counts, side="right") - 1
        np.add.at(self.tokens_at, (place, np.maximum(0, bins)), 1)
        np.add.at(self.sums_at, place, counts)

    def _extreme(
        self, rows: list[dict[str, Any]], index: pa.Table, badness: npt.NDArray[np.float64]
    ) -> list[dict[str, Any]]:
        """Return the rows of least badness among those remembered and those of a shard."""
        first = np.argsort(badness, kind="stable")[: self.kept]
        table = index.select(_ROW_COLUMNS).take(pa.array(first))
        found = [
            {**row, "badness": float(bad)}
            for row, bad in zip(table.to_pylist(), badness[first], strict=True)
        ]
        return heapq.nsmallest(
            self.kept, [*rows, *found], key=lambda row: (row["badness"], row["key"])
        )

    @property
    def reduction(self) -> float | None:
        """Dense over gazed tokens; `None` without tokens."""
        return self.dense_tokens / self.tokens if self.tokens else None

    def videos(self) -> pa.Table:
        """Return id, window and source_bytes of every sample."""
        schema = pa.schema(
            [("id", pa.string()), ("window", pa.int32()), ("source_bytes", pa.int64())]
        )
        tables = [table.cast(schema) for table in self._videos]
        return pa.concat_tables([schema.empty_table(), *tables])

    def clip_curve(self) -> tuple[list[float], list[float], list[float]]:
        """Return the mean, the 10th and the 90th percentile of the tokens of a frame, by place in the clip."""
        numbers = self.tokens_at.sum(1)
        seen = numbers > 0
        mean = self.sums_at[seen] / numbers[seen]
        rising = np.cumsum(self.tokens_at[seen], axis=1) / numbers[seen, None]
        low, high = (
            _TOKEN_EDGES[(rising >= quantile).argmax(axis=1)].astype(float)
            for quantile in (0.1, 0.9)
        )
        return mean.tolist(), low.tolist(), high.tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """What could not be packed."""

    videos: int
    """Videos of which something is missing."""
    causes: tuple[tuple[str, str, int, str], ...]
    """Stage, error, number and one message, the most frequent first."""


def gather(directory: DatasetDirectory, *, kept: int) -> Statistics:
    """Count every committed shard.

    Args:
        directory: the dataset.
        kept: how many of the best and of the worst samples to remember.

    Raises:
        DatasetError: an index is damaged.
    """
    found = Statistics(clip_frames=directory.info.clip_frames, kept=kept)
    for index in _indices(directory):
        found.add(index)
    return found


def _indices(directory: DatasetDirectory) -> Iterator[pa.Table]:
    """Yield the index of every shard in turn; some are read ahead, to hide the latency of a store."""
    with ThreadPoolExecutor(_READERS) as pool:
        numbers = directory.committed()
        for first in range(0, len(numbers), _READ_AHEAD):
            yield from pool.map(directory.index, numbers[first : first + _READ_AHEAD])


def failures_of(directory: DatasetDirectory, videos: pa.Table) -> Failures:
    """Count what failed and is still missing.

    Args:
        directory: the dataset.
        videos: id and window of every sample.
    """
    failed = outstanding(directory, videos)
    causes: dict[tuple[str, str], tuple[int, str]] = {}
    columns = (failed[name].to_pylist() for name in ("stage", "error", "message"))
    for stage, error, message in zip(*columns, strict=True):
        number, first = causes.get((stage, error), (0, message))
        causes[stage, error] = number + 1, first
    rows = [(*cause, *found) for cause, found in causes.items()]
    rows.sort(key=lambda row: (-row[2], row[0], row[1]))
    return Failures(videos=pc.count_distinct(failed["id"]).as_py(), causes=tuple(rows))


def _counts(values: npt.NDArray[np.float64], edges: tuple[float, ...]) -> Counts:
    """Count values by bins; what lies outside is counted in the outermost."""
    inside = np.clip(values, edges[0], np.nextafter(edges[-1], 0))
    return np.histogram(inside, bins=np.asarray(edges, float))[0].astype(np.int64)
