"""A soak: thousands of short videos through one worker, its memory and its decoders' watched all the while.

Prints a line every hundred videos, and at the end the growth of the median from the first quarter to the last.

    python benchmarks/soak.py [--videos 2000]
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from gazepack.jobs import PackSettings, Resources, VideoDone, open_run, run_serial
from gazepack.selectors import build
from gazepack.video import write_video


def resident_mib(pid: int) -> float:
    """Return the memory that a process holds, without what it shares with others."""
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(f.split()[1]) for f in fields if f.startswith("Private_")) / 1024


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = Path(f"/proc/{pid}/task").iterdir()
    for thread in threads:
        children += (thread / "children").read_text().split()
    return [pid, *(one for child in set(children) for one in family(int(child)))]


def main() -> None:
    """Pack, watch, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in range(10):
            noise = np.random.Generator(np.random.PCG64(kind)).integers(0, 256, (12, 16, 3))
            still = noise.repeat(20 + kind, 0).repeat(20 + kind, 1).astype(np.uint8)
            write_video(folder / f"{kind}.mp4", [np.roll(still, 5 * n, 1) for n in range(8)], fps=8)
        rows = "".join(f"{folder}/{n % 10}.mp4,v{n:06d}\n" for n in range(given.videos))
        (folder / "manifest.csv").write_text(f"path,id\n{rows}")
        values = {
            "fit": {"fit": "square"},
            "sampling": {"num_frames": 2},
            "selector": {"name": "greedy"},
        }
        settings = PackSettings.parse({**values, "shards": {"samples_per_shard": 100}})
        selector = build(settings.selector, device="cpu")
        run = open_run(
            [str(folder / "manifest.csv")],
            str(folder / "out"),
            settings=settings,
            selector=selector,
        )
        seen: list[float] = []
        done: list[str] = []

        def watch(video: VideoDone) -> None:
            done.append(video.id)
            if len(done) % 100 == 0:
                seen.append(sum(map(resident_mib, family(os.getpid()))))
                print(f"{len(done)} videos, {seen[-1]:.0f} MiB", flush=True)

        run_serial(run, resources=Resources(), report=watch)
    quarter = max(1, len(seen) // 4)
    first, last = np.median(seen[:quarter]), np.median(seen[-quarter:])
    print(f"first quarter {first:.0f} MiB, last {last:.0f} MiB: {100 * (last / first - 1):+.1f} %")


if __name__ == "__main__":
    main()
