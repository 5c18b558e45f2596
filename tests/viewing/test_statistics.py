import numpy as np
import pyarrow as pa
import pytest

from gazepack.formats import INDEX_SCHEMA, DatasetDirectory, summarise
from gazepack.formats.index import SHARD_FIELD
from gazepack.viewing.report import totals_of
from gazepack.viewing.statistics import (
    PSNR_EDGES,
    REDUCTION_EDGES,
    Statistics,
    failures_of,
    gather,
)

CLIP = 4
FIELDS = pa.schema([SHARD_FIELD, *INDEX_SCHEMA])


def index(rng: np.random.Generator, *, shard: int, rows: int) -> pa.Table:
    """A shard's index of made-up samples of 1 to 9 frames, some with a second view."""
    made = []
    for number in range(rows):
        frames = int(rng.integers(1, 10))
        counts = rng.integers(0, 300, frames * int(rng.integers(1, 3))).tolist()
        made.append(
            {
                "shard": shard,
                "key": f"k{shard}-{number}",
                "id": f"v{shard}-{number // 2}",
                "window": number % 2,
                "offset": 0,
                "size": 1,
                "crc32": 0,
                "members": [],
                "tokens": sum(counts),
                "frames": frames,
                "tokens_per_frame": counts,
                "dense_tokens": 196 * len(counts),
                "duration_seconds": None,
                "start_seconds": 0.0,
                "bytes": 10 + number,
                "source_bytes": 100 + shard,
                "min_psnr": None if number == 3 else float(rng.uniform(20, 50)),
                "mean_psnr": None,
            }
        )
    return pa.Table.from_pylist(made, schema=FIELDS)


@pytest.fixture
def tables() -> list[pa.Table]:
    """Three shards, the middle one empty."""
    rng = np.random.default_rng(7)
    return [index(rng, shard=shard, rows=rows) for shard, rows in enumerate((40, 0, 25))]


def added(tables: list[pa.Table], *, kept: int = 3) -> Statistics:
    """All of them, one after the other."""
    found = Statistics(clip_frames=CLIP, kept=kept)
    for table in tables:
        found.add(table)
    return found


def test_sums_and_histograms_are_those_of_all_rows(tables: list[pa.Table]) -> None:
    """What is added shard by shard is what numpy counts over the rows together."""
    rows = [row for table in tables for row in table.to_pylist()]
    found = added(tables)
    assert found.samples == len(rows)
    for name in ("frames", "tokens", "dense_tokens", "bytes"):
        assert getattr(found, name) == sum(row[name] for row in rows)
    reduction = [row["dense_tokens"] / max(1, row["tokens"]) for row in rows]
    inside = np.clip(reduction, 1, 1023.9)
    assert found.reductions.tolist() == np.histogram(inside, REDUCTION_EDGES)[0].tolist()
    psnr = [row["min_psnr"] for row in rows if row["min_psnr"] is not None]
    assert found.psnrs.tolist() == np.histogram(psnr, PSNR_EDGES)[0].tolist()
    assert found.min_psnr == min(psnr)


def test_the_best_and_the_worst_are_found_across_shards(tables: list[pa.Table]) -> None:
    """The remembered rows are the first of all rows, sorted."""
    rows = [row for table in tables for row in table.to_pylist()]
    found = added(tables)

    def reduction(row: dict) -> float:
        return row["dense_tokens"] / max(1, row["tokens"])

    worst = sorted(rows, key=lambda row: (reduction(row), row["key"]))[:3]
    best = sorted(rows, key=lambda row: (-reduction(row), row["key"]))[:3]
    faint = sorted(rows, key=lambda row: (row["min_psnr"] or np.inf, row["key"]))[:3]
    for kept, expected in ((found.worst, worst), (found.best, best), (found.faintest, faint)):
        assert [row["key"] for row in kept] == [row["key"] for row in expected]


def test_tokens_over_a_clip_are_those_of_the_main_view(tables: list[pa.Table]) -> None:
    """Frames are grouped by their place in the clip; the second view's are left out."""
    groups: list[list[int]] = [[] for _ in range(CLIP)]
    for table in tables:
        for row in table.to_pylist():
            for frame, count in enumerate(row["tokens_per_frame"][: row["frames"]]):
                groups[frame % CLIP].append(count)
    mean, low, high = added(tables).clip_curve()
    assert mean == pytest.approx([np.mean(group) for group in groups])
    for group, below, above in zip(groups, low, high, strict=True):
        # bins are 9 % wide
        assert below <= np.quantile(group, 0.1, method="inverted_cdf") <= below * 1.1 + 1
        assert above <= np.quantile(group, 0.9, method="inverted_cdf") <= above * 1.1 + 1


def test_nothing_is_nothing() -> None:
    """A dataset without samples has no reduction, no PSNR and no curve."""
    found = added([])
    assert (found.samples, found.reduction, found.min_psnr) == (0, None, None)
    assert found.clip_curve() == ([], [], [])
    assert found.videos().num_rows == 0


def test_totals_are_those_of_info(packed: DatasetDirectory) -> None:
    """The report's totals are the numbers of `gazepack info`, counted another way."""
    found = gather(packed, kept=2)
    videos = found.videos()
    failed = failures_of(packed, videos)
    totals = totals_of(packed, found, failed, videos)
    assert totals == {name: summarise(packed)[name] for name in totals}
    assert failed.videos == 1
    ((stage, error, number, message),) = failed.causes
    assert (stage, error, number) == ("open", "VideoError", 1)
    assert "<b>gone</b>" in message
