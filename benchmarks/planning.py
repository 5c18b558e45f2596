"""Planning, resuming and `status` of a corpus of a million segments: CPU seconds and memory, at growing sizes.

The manifest is a real Parquet file. The index listing is simulated: as many empty files in `index/` as there
would be committed shards, half of the plan, since only their names are looked at. Each size runs in a process
of its own, so that its peak of memory is its own.

    python benchmarks/planning.py [--out docs/images/planning.png]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gazepack.formats import DatasetDirectory
from gazepack.jobs import PackSettings, open_run
from gazepack.jobs.ledger import plans
from gazepack.jobs.status import status_of
from gazepack.selectors import build

SIZES = (62_500, 125_000, 250_000, 500_000, 1_000_000)
SEGMENTS_PER_SHARD = 5


def measure(num_segments: int) -> dict[str, float]:
    """Plan, resume and ask for the status of one corpus."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, out = Path(folder) / "manifest.parquet", Path(folder) / "out"
        numbers = np.arange(num_segments)
        columns = {
            "path": pa.array([f"s3://corpus/{number:08d}.mp4" for number in numbers]),
            "caption": pa.array([f"what is seen in video {number}" for number in numbers]),
        }
        pq.write_table(pa.table(columns), manifest)
        del columns
        settings = PackSettings.parse(
            {"shards": {"samples_per_shard": SEGMENTS_PER_SHARD}, "selector": {"name": "greedy"}}
        )
        selector = build(settings.selector, device="cpu")

        began = time.process_time()
        run = open_run([str(manifest)], str(out), settings=settings, selector=selector)
        run.plan.largest_first(run.pending)
        planned = time.process_time() - began

        (out / "index").mkdir()
        for number in range(len(run.plan) // 2):
            (out / "index" / f"{number:06d}.parquet").touch()
        pending = len(run.pending)
        del run
        began = time.process_time()
        run = open_run([], str(out), settings=settings, selector=selector)
        resumed = time.process_time() - began
        assert len(run.pending) == pending - pending // 2
        del run

        began = time.process_time()
        directory = DatasetDirectory.open(str(out))
        status = status_of(directory)
        asked = time.process_time() - began
        assert status.shards == sum(map(len, plans(directory))) // 2
    return {
        "segments": num_segments,
        "committed_shards": status.shards,
        "plan_seconds": round(planned, 2),
        "resume_seconds": round(resumed, 2),
        "status_seconds": round(asked, 2),
        "peak_GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Draw seconds over segments; one line each for planning, resuming and status."""
    from PIL import Image, ImageDraw

    width, height, margin = 720, 400, 56
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    most = max(row["plan_seconds"] for row in rows) * 1.1
    span = max(row["segments"] for row in rows)

    def place(segments: float, seconds: float) -> tuple[float, float]:
        x = margin + segments / span * (width - 2 * margin)
        return x, height - margin - seconds / most * (height - 2 * margin)

    pen.line([place(0, most), place(0, 0), place(span, 0)], fill="black")
    for row in rows:
        x, y = place(row["segments"], 0)
        pen.text((x - 18, y + 8), f"{row['segments'] / 1000:g}k", fill="black")
    for share in (0.25, 0.5, 0.75, 1.0):
        x, y = place(0, most * share)
        pen.text((8, y - 6), f"{most * share:.1f} s", fill="black")
    for name, colour in (("plan", "#1f77b4"), ("resume", "#d62728"), ("status", "#2ca02c")):
        points = [place(row["segments"], row[f"{name}_seconds"]) for row in rows]
        pen.line(points, fill=colour, width=2)
        for x, y in points:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        pen.text((points[-1][0] - 8, points[-1][1] - 18), name, fill=colour)
    pen.text((margin, 8), "CPU seconds over segments, half of the shards committed", fill="black")
    picture.save(path)


def main() -> None:
    """Measure every size, print a table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int, help="measure this size only, in this process")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    rows = []
    for size in SIZES:
        line = [sys.executable, __file__, "--one", str(size)]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        print(" | ".join(f"{name} {value:,}" for name, value in rows[-1].items()))
    if given.out:
        draw(rows, given.out)


if __name__ == "__main__":
    main()
