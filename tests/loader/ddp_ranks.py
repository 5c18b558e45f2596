"""A gloo group of processes that train on a dataset: run by `test_workers.py`, writes a file each."""

import json
from pathlib import Path

import torch
import torch.distributed
from torch.utils.data import DataLoader

from gazepack.loader import GazeDataset


def train(rank: int, world_size: int, uri: str, folder: str, num_workers: str) -> None:
    """Read an epoch with an all-reduce at each step, as gradients have, and tell what was read."""
    torch.set_num_threads(1)
    dataset = GazeDataset(uri, batch_tokens=60)  # made before the group, as users do
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size
    )
    planned, steps, keys = len(dataset), 0, []
    for batch in DataLoader(dataset, batch_size=None, num_workers=int(num_workers)):
        torch.distributed.all_reduce(torch.tensor([batch.num_tokens]))
        steps += 1
        keys += [meta["key"] for meta in batch.meta]
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    told = json.dumps({"steps": steps, "planned": planned, "keys": keys})
    Path(folder, f"{rank}.json").write_text(told)
