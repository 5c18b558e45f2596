"""A gloo group of processes that train an encoder on a dataset: run by `test_ddp.py`, writes a file each."""

from pathlib import Path

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel
from transformers import SiglipVisionConfig, SiglipVisionModel

from gazepack.encoders import GazedEncoder
from gazepack.loader import GazeDataset

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}


def train(rank: int, world_size: int, uri: str, folder: str) -> None:
    """Train for two epochs as docs/encoders.md says, and keep the weights and the samples of each step."""
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size
    )
    config = SiglipVisionConfig(**SMALL, num_attention_heads=1, image_size=56, patch_size=4)
    encoder = GazedEncoder(SiglipVisionModel(config))
    wrapped = DistributedDataParallel(encoder, find_unused_parameters=True)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    counts = []
    dataset = GazeDataset(uri, batch_size=1)
    for _ in range(2):
        for batch in dataset:
            wrapped(batch).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            counts.append(batch.num_samples)
    torch.distributed.destroy_process_group()
    weights = torch.cat([weight.detach().flatten() for weight in encoder.parameters()])
    torch.save({"weights": weights, "samples": counts}, Path(folder, f"{rank}.pt"))
