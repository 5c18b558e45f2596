"""A report of many samples: `python benchmarks/report_size.py [SAMPLES] [SHARDS]`; one million by default.

Writes index files of made-up rows (no shards), then measures the report: CPU seconds, memory, bytes of the
page. Compare with reading the same index whole, as `info` does.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from gazepack.formats import INDEX_SCHEMA, DatasetDirectory, DatasetInfo
from gazepack.formats.index import table_to_bytes
from gazepack.viewing import write_report

FRAMES = 32


def index_of(shard: int, rows: int) -> bytes:
    """Return the index file of a shard that does not exist."""
    random = np.random.default_rng(shard)
    tokens_NF = random.geometric(0.02, (rows, FRAMES)).clip(0, 1568).astype(np.uint16)
    tokens = tokens_NF.sum(1, dtype=np.int64)
    member = [{"name": "json", "offset": 0, "size": 900}]
    psnr = (30 + random.exponential(2, rows)).astype(np.float32)
    keys = [f"video-{shard:06d}-{row:05d}" for row in range(rows)]
    offsets = pa.array(np.arange(0, rows * FRAMES + 1, FRAMES, dtype=np.int32))
    columns = {
        "key": keys,
        "id": [f"{key}.mp4" for key in keys],
        "window": np.zeros(rows, np.int32),
        "offset": np.arange(rows) * 10**6,
        "size": tokens * 200,
        "crc32": np.zeros(rows, np.uint32),
        "members": [member] * rows,
        "tokens": tokens,
        "frames": np.full(rows, FRAMES, np.int32),
        "tokens_per_frame": pa.ListArray.from_arrays(offsets, pa.array(tokens_NF.ravel())),
        "dense_tokens": np.full(rows, 1568 * FRAMES),
        "duration_seconds": np.full(rows, FRAMES / 2),
        "start_seconds": np.zeros(rows),
        "bytes": tokens * 200,
        "source_bytes": np.full(rows, 10**6),
        "min_psnr": psnr,
        "mean_psnr": psnr + 1,
    }
    table = pa.table(
        [pa.array(columns[field.name], field.type) for field in INDEX_SCHEMA], schema=INDEX_SCHEMA
    )
    facts = {
        "gazepack.format_version": "1",
        "gazepack.shard": f"shards/{shard:06d}.tar",
        "gazepack.shard_size": "0",
        "gazepack.shard_sha256": "0" * 64,
        "gazepack.failures": "0",
    }
    return table_to_bytes(table.replace_schema_metadata(facts))


def measured(samples: int, shards: int) -> None:
    """Write the indices, make the report and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        info = DatasetInfo(codec={"name": "jpeg", "quality": 95}, patch_size=16)
        directory = DatasetDirectory.create_or_open(f"{folder}/dataset", info)
        Path(folder, "dataset", "index").mkdir()
        for shard in range(shards):
            path = Path(folder, "dataset", directory.index_name(shard))
            path.write_bytes(index_of(shard, samples // shards))
        out = Path(folder, "report.html")
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        totals = write_report(directory, out, pictures=4)
        seconds = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{totals['samples']:,} samples in {totals['shards']:,} shards")
        print(f"page {out.stat().st_size:,} bytes, {seconds:.1f} CPU s")
        print(f"most memory {peak / 1000:,.0f} MB, {before / 1000:,.0f} MB before")
        began = time.process_time()
        directory.read_index()
        print(f"reading the index whole: {time.process_time() - began:.1f} CPU s")


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    measured(*(numbers + [1_000_000, 4_000][len(numbers) :]))
