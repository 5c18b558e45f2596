"""Does the loader's memory stay flat: epoch after epoch, far more than a run of 8 hours sees.

    python benchmarks/loader_memory.py PACKED [--epochs 2000] [--threads 2]

Reads epochs in one process, a new shuffle each, and prints the resident memory after every tenth of them. 13
clips at 300 samples a second are an epoch in 0.04 s, so 2,000 epochs plan, read and free as often as 8 hours of
epochs of 15 s. Ends with 1 if the last tenth is more than 5 % above the second.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from gazepack.loader import GazeDataset


def main() -> int:
    """Read, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packed")
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = GazeDataset(arguments.packed, batch_tokens=2048, num_threads=arguments.threads)
    tenth, seen, samples = max(1, arguments.epochs // 10), [], 0
    for epoch in range(10 * tenth):
        samples += sum(batch.num_samples for batch in dataset)
        if (epoch + 1) % tenth == 0:
            seen.append(resident_bytes())
            print(f"{epoch + 1:6d} epochs, {samples:8d} samples: {seen[-1] / 2**20:7.1f} MiB")
    return int(seen[-1] > 1.05 * seen[1])


def resident_bytes() -> int:
    """Return the memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
