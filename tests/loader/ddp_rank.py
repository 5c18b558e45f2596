"""One process of a gloo group that trains on a dataset: run by `test_workers.py`, prints JSON."""

import json
import sys

import torch
import torch.distributed
from torch.utils.data import DataLoader

from gazepack.loader import GazeDataset


def main(uri: str, meeting: str, rank: int, world_size: int, num_workers: int) -> None:
    """Read an epoch with an all-reduce at each step, as gradients have, and tell what was read."""
    torch.set_num_threads(1)
    dataset = GazeDataset(uri, batch_tokens=60)  # made before the group, as users do
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size
    )
    steps, keys = 0, []
    for batch in DataLoader(dataset, batch_size=None, num_workers=num_workers):
        total = torch.tensor([batch.num_tokens])
        torch.distributed.all_reduce(total)
        steps += 1
        keys += [meta["key"] for meta in batch.meta]
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    print(json.dumps({"steps": steps, "planned": len(dataset), "keys": keys}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(argument) for argument in sys.argv[3:]))
