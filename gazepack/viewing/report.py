"""A dataset as one page: what is in it, what it cost, what is best and worst, what failed.

Everything but the pictures and the use of scales comes from the index files, so the page takes one listing and
one small read a shard; its size is that of its pictures and does not grow with the dataset.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from gazepack.errors import GazepackError
from gazepack.formats import DatasetDirectory
from gazepack.geometry import CELLS_PER_PATCH, NUM_SCALES
from gazepack.jobs.metrics import REMEDIES, STAGES
from gazepack.jobs.runlog import RunLog, added_up, read_logs
from gazepack.jobs.status import what_is_missing
from gazepack.units import short, size
from gazepack.viewing.charts import Plot, Share, histogram, shares, spread_curve
from gazepack.viewing.examples import MAX_TEXT, Example, Examples
from gazepack.viewing.page import hex_colours
from gazepack.viewing.pictures import write_text
from gazepack.viewing.scene import spread
from gazepack.viewing.statistics import (
    PSNR_EDGES,
    REDUCTION_EDGES,
    Failures,
    Statistics,
    failures_of,
    gather,
)
from gazepack.viewing.templates import render

MAX_PAGE_BYTES = 1_500_000
"""A report is never larger, whatever the dataset."""
MAX_PICTURES = 8
"""The most samples shown of each kind."""
SCALE_SAMPLES = 24
"""Samples whose tokens are read to see which scales are used."""
MAX_CAUSES = 20


def write_report(
    directory: DatasetDirectory, out: Path, *, pictures: int, sources: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the page, and return its totals.

    Args:
        directory: the dataset, whole or still being packed.
        out: the file.
        pictures: samples shown of each kind, 0 to `MAX_PICTURES`.
        sources: where the videos are; where they were packed from if empty.

    Raises:
        DatasetError: an index is damaged.
        SourceError: the sources cannot be listed.
        StorageError: `out` cannot be written.
    """
    found = gather(directory, kept=max(1, pictures))
    videos = found.videos()
    failed = failures_of(directory, videos)
    totals = totals_of(directory, found, failed, videos)
    values = {
        "title": directory.uri,
        "facts": _facts(directory),
        "numbers": _numbers(totals),
        "plots": _plots(found),
        "bars": _bars(directory, found, totals),
        "groups": list(_groups(found, Examples(directory, sources), pictures)) if pictures else [],
        "failures": _causes(failed),
        "more_causes": max(0, len(failed.causes) - MAX_CAUSES),
        "work": _work(read_logs(directory)),
        "progress": what_is_missing(directory),
    }
    write_text(out, render("report.html", values=values))
    return totals


def totals_of(
    directory: DatasetDirectory, found: Statistics, failed: Failures, videos: Any
) -> dict[str, Any]:
    """Return the totals under the names of `gazepack info --json`."""
    sizes = videos.group_by("id").aggregate([("source_bytes", "max")])
    return {
        "samples": found.samples,
        "videos": sizes.num_rows,
        "failed": failed.videos,
        "frames": found.frames,
        "tokens": found.tokens,
        "dense_tokens": found.dense_tokens,
        "reduction": found.reduction,
        "bytes": found.bytes,
        "source_bytes": int(pc.sum(sizes["source_bytes_max"]).as_py() or 0),
        "shards": len(directory.committed()),
        "min_psnr": found.min_psnr,
    }


def _facts(directory: DatasetDirectory) -> str:
    """Return how it was packed, for people."""
    info = directory.info
    selector = info.provenance.get("selector")
    name = selector.get("name") if isinstance(selector, dict) else None
    bound = info.provenance.get("min_psnr")
    parts = [
        f"selector {name}" if name else "",
        f"every frame at {bound:g} dB or better" if isinstance(bound, int | float) else "",
        f"patches of {info.patch_size} px as {info.codec.get('name')}",
        f"{info.container} shards",
    ]
    return ", ".join(part for part in parts if part)


def _numbers(totals: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of the large figures on top."""
    reduction, psnr = totals["reduction"], totals["min_psnr"]
    return [
        ("below dense", "–" if reduction is None else f"{reduction:.1f}x"),
        ("videos packed", f"{totals['videos']:,}"),
        ("videos failed", f"{totals['failed']:,}"),
        ("samples", f"{totals['samples']:,}"),
        ("frames", short(totals["frames"])),
        ("tokens", short(totals["tokens"])),
        ("worst frame", "–" if psnr is None else f"{psnr:.1f} dB"),
        ("stored", size(totals["bytes"])),
    ]


def _plots(found: Statistics) -> list[Plot]:
    """Return the distributions."""
    if not found.samples:
        return []
    reductions = _histogram(
        found.reductions, REDUCTION_EDGES, "x", title="Reduction, sample by sample"
    )
    psnrs = _histogram(found.psnrs, PSNR_EDGES, " dB", title="PSNR of each sample's worst frame")
    mean, low, high = found.clip_curve()
    if not mean:
        return [reductions, psnrs]
    over_time = spread_curve(
        mean,
        low,
        high,
        title="Tokens of a frame over a clip: mean, and the middle 80 %",
        unit="tokens",
        ticks=("frame 1", f"frame {len(mean)}"),
    )
    return [reductions, psnrs, over_time]


def _histogram(counts: Any, edges: Sequence[float], unit: str, *, title: str) -> Plot:
    """Return a histogram without its empty ends."""
    used = np.flatnonzero(counts)
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, len(counts) - 1)
    first, last = max(0, first - 1), min(len(counts) - 1, last + 1)
    names = [f"{edge:g}{unit}" for edge in edges[first : last + 2]]
    return histogram(counts[first : last + 1].tolist(), names, title=title, noun="sample")


def _bars(
    directory: DatasetDirectory, found: Statistics, totals: dict[str, Any]
) -> list[tuple[str, tuple[Share, ...], str]]:
    """Return the bar tables: title, rows and a note."""
    patch_size = directory.info.patch_size
    raw = found.dense_tokens * patch_size * patch_size * 3
    storage = [
        ("this dataset", totals["bytes"]),
        ("the sources", totals["source_bytes"]),
        ("fitted frames, raw", raw),
    ]
    tables = [
        (
            "Storage",
            shares([(name, float(amount), size(amount)) for name, amount in storage]),
            "Bars are to scale.",
        )
    ]
    counts, num_samples = scales_used(directory)
    if counts.sum():
        sides = [cells * patch_size // 2 for cells in CELLS_PER_PATCH]
        rows = [
            (f"{side} px", float(count), f"{count / counts.sum():.0%}")
            for side, count in zip(sides, counts, strict=True)
        ]
        note = f"Share of tokens; samples read: {num_samples}, spread evenly over the shards."
        tables.append(("Scales", shares(rows, hex_colours()), note))
    return tables


def scales_used(directory: DatasetDirectory) -> tuple[Any, int]:
    """Return tokens by scale, and of how many samples; those that cannot be read are passed over."""
    numbers = directory.committed()
    shards = np.unique(np.linspace(0, len(numbers) - 1, SCALE_SAMPLES).round().astype(int))
    counts, num_samples = np.zeros(NUM_SCALES, np.int64), 0
    for number in [numbers[at] for at in shards] if numbers else []:
        index = directory.index(number)
        for at in spread(index.num_rows, -(-SCALE_SAMPLES // len(shards))):
            try:
                sample = directory.read_sample(index.slice(at, 1).to_pylist()[0])
            except GazepackError:
                continue
            counts += np.bincount(sample.tokens_N6[:, 2], minlength=NUM_SCALES)
            num_samples += 1
    return counts, num_samples


def _groups(
    found: Statistics, examples: Examples, pictures: int
) -> Iterator[tuple[str, list[Example]]]:
    """Yield the kinds of samples that are shown."""
    kinds = [("Most tokens for their length", found.worst)]
    if found.samples > pictures:  # else these are all samples
        kinds += [("Fewest tokens for their length", found.best), ("Lowest PSNR", found.faintest)]
    for title, rows in kinds:
        if rows:
            yield title, [examples.draw(row) for row in rows]


def _causes(failed: Failures) -> list[tuple[str, str, int, str]]:
    """Return the most frequent causes."""
    return [
        (stage, error, number, message[:MAX_TEXT])
        for stage, error, number, message in failed.causes[:MAX_CAUSES]
    ]


def _work(logs: list[RunLog]) -> dict[str, Any] | None:
    """Return where the time went, if any run has kept its log."""
    if not logs:
        return None
    log = added_up(logs)
    worst = max(STAGES, key=lambda stage: log.seconds[stage])
    whole = max(1e-9, log.worker_seconds)
    rows = [
        (
            stage,
            log.seconds[stage],
            f"{log.seconds[stage]:,.1f} s, {log.seconds[stage] / whole:.0%}",
        )
        for stage in STAGES
    ]
    starts = "one start" if len(logs) == 1 else f"{len(logs)} starts"
    return {
        "rows": shares(rows),
        "note": f"{log.worker_seconds:,.1f} worker seconds in {log.wall_seconds:,.1f} s, {starts}. "
        f"The bottleneck is {worst}: {REMEDIES[worst]}.",
    }
