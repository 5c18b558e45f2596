"""The memory of batches."""

import pickle
from collections.abc import Callable

import pytest
import torch

from gazepack.loader import GazeDataset
from gazepack.loader.memory import BatchMemory


def test_memory_that_nobody_holds_is_lent_again() -> None:
    """The next batch of about the size lies where the last one lay; one of another size does not."""
    memory = BatchMemory()
    first = memory.take(10_000)
    address = first.data_ptr()
    del first
    second = memory.take(9_000)
    assert (second.data_ptr(), second.shape, second.dtype) == (address, (9_000,), torch.uint8)
    del second
    assert memory.take(4_000).data_ptr() != address


@pytest.mark.parametrize(
    "part",
    [
        lambda tensor: tensor[5:6],
        lambda tensor: tensor.view(10, 100).permute(1, 0),
        lambda tensor: tensor.numpy()[::7],
        lambda tensor: memoryview(tensor.numpy()),
        lambda tensor: tensor.untyped_storage(),
    ],
    ids=["slice", "view", "array", "buffer", "storage"],
)
def test_memory_of_which_anybody_holds_a_part_is_not_lent(
    part: Callable[[torch.Tensor], object],
) -> None:
    """Whatever shows a byte of it keeps all of it."""
    memory = BatchMemory()
    tensor = memory.take(1000)
    address, held = tensor.data_ptr(), part(tensor)
    del tensor
    others = [memory.take(1000) for _ in range(3)]
    assert address not in {other.data_ptr() for other in others}
    del held
    assert memory.take(1000).data_ptr() == address


def test_little_memory_waits_for_a_batch() -> None:
    """Of many batches that go at once, the memory of two is kept; a copy elsewhere has none."""
    memory = BatchMemory()
    batches = [memory.take(1000) for _ in range(5)]
    batches.clear()
    assert len(memory._idle) == 2
    assert not pickle.loads(pickle.dumps(memory))._idle  # noqa: S301 - our own bytes
    assert memory.take(0).shape == (0,)


@pytest.mark.parametrize("num_threads", [0, 2])
def test_batches_that_are_held_keep_their_pixels(packed: str, num_threads: int) -> None:
    """What one batch shows never changes while later ones are read, and a loop uses memory again."""
    dataset = GazeDataset(packed, batch_size=4, shuffle=False, num_threads=num_threads)
    held = [(batch.patches, batch.patches.clone()) for batch in dataset]
    assert all(patches.equal(copy) for patches, copy in held)
    held.clear()
    addresses = [batch.patches.data_ptr() for _ in range(4) for batch in dataset]
    assert len(set(addresses)) < len(addresses)
