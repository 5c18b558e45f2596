"""Ragged batches."""

import pickle
from collections.abc import Callable

import numpy as np
import torch

from gazepack.formats import Sample
from gazepack.loader.batch import Batch, Part, collate


def part_of(sample: Sample, kept: list[int] | None = None) -> Part:
    """Return a sample as a part, with some of its tokens."""
    return Part(
        tokens_N6=sample.tokens_N6,
        loss_N=sample.loss_N,
        patches_NPP3=sample.patches_NPP3,
        kept=None if kept is None else np.array(kept, dtype=np.int64),
        meta=sample.meta,
    )


def test_a_batch_is_the_samples_one_after_the_other(make_sample: Callable[..., Sample]) -> None:
    """Every patch, place and loss stands where a plain loop over samples and tokens puts it."""
    samples = [
        make_sample("a", tokens=[2, 3]),
        make_sample("b", tokens=[0]),
        make_sample("c", tokens=[4]),
    ]
    kept = [[0, 2, 4], [], [0, 1, 2, 3]]
    batch = collate([part_of(s, k) for s, k in zip(samples, kept, strict=True)], patch_size=4)
    assert batch.cu_seqlens.tolist() == [0, 3, 3, 7]
    assert (batch.num_samples, batch.num_tokens) == (3, 7)
    at = 0
    for sample, tokens in zip(samples, kept, strict=True):
        for token in tokens:
            expected = sample.patches_NPP3[token].transpose(2, 0, 1)
            assert np.array_equal(batch.patches[at].numpy(), expected)
            places = (batch.view, batch.frame, batch.scale, batch.row, batch.col, batch.rank)
            assert [int(p[at]) for p in places] == sample.tokens_N6[token].tolist()
            assert np.array_equal(
                float(batch.loss[at]), float(sample.loss_N[token]), equal_nan=True
            )
            at += 1


def test_types_are_those_that_training_takes(make_sample: Callable[..., Sample]) -> None:
    """Patches are uint8 N x 3 x P x P, places and bounds int32, losses float32."""
    batch = collate([part_of(make_sample("a", tokens=[5]))], patch_size=4)
    assert (batch.patches.dtype, batch.patches.shape) == (torch.uint8, (5, 3, 4, 4))
    assert batch.patches.is_contiguous()
    places = (batch.view, batch.frame, batch.scale, batch.row, batch.col, batch.rank)
    assert {p.dtype for p in places} == {torch.int32}
    assert (batch.cu_seqlens.dtype, batch.loss.dtype) == (torch.int32, torch.float32)


def test_an_empty_batch_has_all_its_parts() -> None:
    """No sample gives tensors of length 0 and the single bound 0."""
    batch = collate([], patch_size=16)
    assert batch.patches.shape == (0, 3, 16, 16)
    assert batch.cu_seqlens.tolist() == [0]
    assert (batch.num_samples, batch.num_tokens) == (0, 0)


def test_to_moves_every_tensor_and_nothing_else(make_sample: Callable[..., Sample]) -> None:
    """On the meta device only the shapes and the metadata are left."""
    batch = collate([part_of(make_sample("a", tokens=[5]))], patch_size=4, state={"epoch": 1})
    moved = batch.to("meta")
    tensors = [getattr(moved, name) for name in Batch.__slots__]
    assert {t.device.type for t in tensors if isinstance(t, torch.Tensor)} == {"meta"}
    assert moved.patches.shape == batch.patches.shape
    assert (moved.meta, moved.state) == (batch.meta, batch.state)
    assert batch.patches.device.type == "cpu"


def test_a_batch_survives_pickling(make_sample: Callable[..., Sample]) -> None:
    """Workers send batches to the main process."""
    batch = collate([part_of(make_sample("a", tokens=[5]))], patch_size=4, skipped=["x"])
    copy = pickle.loads(pickle.dumps(batch))  # noqa: S301 - our own bytes
    assert torch.equal(copy.patches, batch.patches)
    assert (copy.meta, copy.skipped) == (batch.meta, ("x",))
