"""A dataset in numbers, from its index files alone."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gazepack.formats.dataset import DatasetDirectory


def summarise(directory: DatasetDirectory) -> dict[str, Any]:
    """Count what a dataset holds.

    Returns:
        JSON: format_version, samples, videos, failed, frames, tokens, dense_tokens, reduction (dense over
        gazed tokens; None without tokens), store (patches or places), bytes, source_bytes (of packed videos),
        shards, selector, model_sha256, min_psnr (dB, the worst frame; None without frames).

    Raises:
        DatasetError: an index is damaged.
    """
    index, info = directory.read_index(), directory.info
    videos = index.group_by("id").aggregate([("source_bytes", "max")])
    tokens, dense = _sum(index, "tokens"), _sum(index, "dense_tokens")
    selector = info.provenance.get("selector")
    return {
        "format_version": info.format_version,
        "samples": index.num_rows,
        "videos": videos.num_rows,
        "failed": pc.count_distinct(outstanding(directory, index)["id"]).as_py(),
        "frames": _sum(index, "frames"),
        "tokens": tokens,
        "dense_tokens": dense,
        "reduction": dense / tokens if tokens else None,
        "store": "patches" if info.stores_patches else "places",
        "bytes": _sum(index, "bytes"),
        "source_bytes": _sum(videos, "source_bytes_max"),
        "shards": len(directory.committed()),
        "selector": selector.get("name") if isinstance(selector, dict) else None,
        "model_sha256": info.provenance.get("model_sha256"),
        "min_psnr": pc.min(index["min_psnr"]).as_py(),
    }


def outstanding(directory: DatasetDirectory, index: pa.Table | None = None) -> pa.Table:
    """Return the last failure of every video, or part of one, that no shard holds.

    A retried video may be in a later shard. A part is known by its first window.

    Args:
        directory: the dataset.
        index: its whole index, when it has been read already.

    Raises:
        DatasetError: an index or failures file is damaged.
    """
    failures = directory.failures()
    if not failures.num_rows:
        return failures
    index = directory.read_index() if index is None else index
    named = index.filter(pc.is_in(index["id"], value_set=failures["id"].combine_chunks()))
    packed = set(_parts(named))
    failed = list(_parts(failures))
    last = {part: row for row, part in enumerate(failed)}
    kept = [part not in packed and last[part] == row for row, part in enumerate(failed)]
    return failures.filter(pa.array(kept, pa.bool_()))


def _parts(table: pa.Table) -> Iterator[tuple[str, int]]:
    """Yield the id and the window of every row."""
    return zip(table["id"].to_pylist(), table["window"].to_pylist(), strict=True)


def _sum(table: pa.Table, column: str) -> int:
    """Return the sum of a column, 0 when it is empty."""
    return int(pc.sum(table[column]).as_py() or 0)
