"""A dataset in numbers, from its index files alone."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gazepack.formats.dataset import DatasetDirectory


def summarise(directory: DatasetDirectory) -> dict[str, Any]:
    """Count what a dataset holds.

    Returns:
        JSON: format_version, samples, videos, failed, frames, tokens, dense_tokens, reduction (dense over
        gazed tokens; None without tokens), bytes, source_bytes (of packed videos), shards, selector,
        model_sha256, min_psnr (dB, the worst frame; None without frames).

    Raises:
        DatasetError: an index is damaged.
    """
    index, info = directory.read_index(), directory.info
    tokens, dense = _sum(index, "tokens"), _sum(index, "dense_tokens")
    selector = info.provenance.get("selector")
    return {
        "format_version": info.format_version,
        "samples": index.num_rows,
        "videos": pc.count_distinct(index["id"]).as_py(),
        "failed": outstanding(directory, index).num_rows,
        "frames": _sum(index, "frames"),
        "tokens": tokens,
        "dense_tokens": dense,
        "reduction": dense / tokens if tokens else None,
        "bytes": _sum(index, "bytes"),
        "source_bytes": _sum(index.filter(pc.equal(index["window"], 0)), "source_bytes"),
        "shards": len(directory.committed()),
        "selector": selector.get("name") if isinstance(selector, dict) else None,
        "model_sha256": info.provenance.get("model_sha256"),
        "min_psnr": pc.min(index["min_psnr"]).as_py(),
    }


def outstanding(directory: DatasetDirectory, index: pa.Table | None = None) -> pa.Table:
    """Return the last failure of every video that no shard holds: a retried video may be in a later shard.

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
    missing = pc.invert(pc.is_in(failures["id"], value_set=index["id"].combine_chunks()))
    last = {video: row for row, video in enumerate(failures["id"].to_pylist())}
    is_last = pa.array([last[video] == row for row, video in enumerate(failures["id"].to_pylist())])
    return failures.filter(pc.and_(missing, is_last))


def _sum(table: pa.Table, column: str) -> int:
    """Return the sum of a column, 0 when it is empty."""
    return int(pc.sum(table[column]).as_py() or 0)
