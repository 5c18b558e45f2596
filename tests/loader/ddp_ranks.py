"""A gloo group of processes that train on a dataset: run by `test_workers.py`, writes a file each.

The processes are forked after the imports, which take longest, and before anything has a thread.
"""

import json
import multiprocessing
import sys
from pathlib import Path

import torch
import torch.distributed
from torch.utils.data import DataLoader

from gazepack.loader import GazeDataset


def train(uri: str, folder: str, rank: int, world_size: int, num_workers: int) -> None:
    """Read an epoch with an all-reduce at each step, as gradients have, and tell what was read."""
    torch.set_num_threads(1)
    dataset = GazeDataset(uri, batch_tokens=60)  # made before the group, as users do
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size
    )
    planned, steps, keys = len(dataset), 0, []
    for batch in DataLoader(dataset, batch_size=None, num_workers=num_workers):
        torch.distributed.all_reduce(torch.tensor([batch.num_tokens]))
        steps += 1
        keys += [meta["key"] for meta in batch.meta]
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    told = json.dumps({"steps": steps, "planned": planned, "keys": keys})
    Path(folder, f"{rank}.json").write_text(told)


def main(uri: str, folder: str, world_size: int, num_workers: int) -> int:
    """Run all ranks and return the number of those that failed."""
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=train, args=(uri, folder, rank, world_size, num_workers))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return sum(process.exitcode != 0 for process in ranks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], *(int(argument) for argument in sys.argv[3:])))
