"""Ragged batches."""

import dataclasses
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from gazepack.errors import DatasetError, UsageError
from gazepack.formats import Sample
from gazepack.loader.batch import Batch, BatchBuilder, Normalise


def batch_of(
    samples: Sequence[Sample],
    kept: Sequence[list[int]] | None = None,
    *,
    capacity: int = 20,
    **rest: Any,
) -> Batch:
    """Return the batch of some samples, with some of their tokens."""
    builder = BatchBuilder(capacity, patch_size=4)
    for i, sample in enumerate(samples):
        chosen = None if kept is None else np.array(kept[i], dtype=np.int64)
        builder.add(sample, meta=sample.meta, kept=chosen)
    return builder.finish(**rest)


def test_a_batch_is_the_samples_one_after_the_other(make_sample: Callable[..., Sample]) -> None:
    """Every patch, place and loss stands where a plain loop over samples and tokens puts it."""
    samples = [
        make_sample("a", tokens=[2, 3]),
        make_sample("b", tokens=[0]),
        make_sample("c", tokens=[4]),
    ]
    kept = [[0, 2, 4], [], [0, 1, 2, 3]]
    batch = batch_of(samples, kept)
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
    """Patches are uint8 N x 3 x P x P, pixel by pixel; places and bounds int32, losses float32."""
    batch = batch_of([make_sample("a", tokens=[5])])
    assert (batch.patches.dtype, batch.patches.shape) == (torch.uint8, (5, 3, 4, 4))
    assert batch.patches.is_contiguous(memory_format=torch.channels_last)
    places = (batch.view, batch.frame, batch.scale, batch.row, batch.col, batch.rank)
    assert {p.dtype for p in places} == {torch.int32}
    assert (batch.cu_seqlens.dtype, batch.loss.dtype) == (torch.int32, torch.float32)


def test_an_empty_batch_has_all_its_parts() -> None:
    """No sample gives tensors of length 0 and the single bound 0."""
    batch = BatchBuilder(0, patch_size=16).finish()
    assert batch.patches.shape == (0, 3, 16, 16)
    assert batch.cu_seqlens.tolist() == [0]
    assert (batch.num_samples, batch.num_tokens) == (0, 0)


def test_to_moves_every_tensor_and_nothing_else(make_sample: Callable[..., Sample]) -> None:
    """On the meta device only the shapes and the metadata are left."""
    batch = batch_of([make_sample("a", tokens=[5])], state={"epoch": 1})
    moved = batch.to("meta")
    tensors = [getattr(moved, name) for name in Batch.__slots__]
    assert {t.device.type for t in tensors if isinstance(t, torch.Tensor)} == {"meta"}
    assert moved.patches.shape == batch.patches.shape
    assert (moved.meta, moved.state) == (batch.meta, batch.state)
    assert batch.patches.device.type == "cpu"


def test_a_batch_survives_pickling(make_sample: Callable[..., Sample]) -> None:
    """Workers send batches to the main process."""
    batch = batch_of([make_sample("a", tokens=[5])], skipped=["x"])
    copy = pickle.loads(pickle.dumps(batch))  # noqa: S301 - our own bytes
    assert torch.equal(copy.patches, batch.patches)
    assert (copy.meta, copy.skipped) == (batch.meta, ("x",))


def test_more_tokens_than_planned_are_damage(make_sample: Callable[..., Sample]) -> None:
    """An index that counts fewer tokens than its sample has never makes a batch overflow."""
    samples = [make_sample("a", tokens=[5]), make_sample("b", tokens=[4])]
    assert batch_of(samples, capacity=9).num_tokens == 9
    with pytest.raises(DatasetError, match="it has 4 tokens where the index counts at most 3"):
        batch_of(samples, capacity=8)


def test_what_is_decoded_in_place_is_not_copied(make_sample: Callable[..., Sample]) -> None:
    """Patches in the memory that `room` gave are the batch's own; others are copied to the same place."""
    samples = [make_sample("a", tokens=[5]), make_sample("b", tokens=[4])]
    builder = BatchBuilder(9, patch_size=4)
    rooms = []
    for sample in samples:
        rooms.append(builder.room(sample.num_tokens))
        rooms[-1][...] = sample.patches_NPP3
        builder.add(dataclasses.replace(sample, patches_NPP3=rooms[-1]), meta=sample.meta)
    batch = builder.finish()
    assert batch.patches.equal(batch_of(samples).patches)
    rooms[1][...] = 9
    assert (batch.patches[5:] == 9).all()
    assert not (batch.patches[:5] == 9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalised_patches_are_numbers_on_the_device(
    make_sample: Callable[..., Sample], dtype: torch.dtype
) -> None:
    """`to(..., normalise=...)` is the formula of every vision model, value by value, in one step."""
    batch = batch_of([make_sample("a", tokens=[5])])
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalise = Normalise(mean=mean, std=std, dtype=dtype)
    moved = batch.to("cpu", normalise=normalise)
    expected = (batch.patches.numpy() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(
        std, (3, 1, 1)
    )
    assert moved.patches.dtype == dtype
    assert moved.patches.is_contiguous()
    tolerance = 1e-6 if dtype == torch.float32 else 0.01  # bfloat16 has 8 bits; values below 3
    assert np.abs(moved.patches.double().numpy() - expected).max() < tolerance
    assert batch.patches.dtype == torch.uint8
    assert moved.view.equal(batch.view)
    assert batch.to("meta", normalise=normalise).patches.device.type == "meta"


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (1, 1, 1)), ((0, 0, 0), (1, 1)), ((0, 0, 0), (1, 0, 1))]
)
def test_impossible_normalisation_is_refused(mean: Any, std: Any) -> None:
    """Three means, three deviations above 0, and a type that has fractions."""
    with pytest.raises(UsageError, match="are not three numbers each"):
        Normalise(mean=mean, std=std)
    with pytest.raises(UsageError, match=r"torch\.uint8 is no floating type"):
        Normalise(mean=(0, 0, 0), std=(1, 1, 1), dtype=torch.uint8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device to pin memory for")
def test_pinned_batches_go_to_the_device_as_they_are(make_sample: Callable[..., Sample]) -> None:
    """Memory is page-locked from the start, and bytes, layout and numbers survive the way."""
    sample = make_sample("a", tokens=[5])
    builder = BatchBuilder(5, patch_size=4, pin_memory=True)
    builder.room(5)[...] = sample.patches_NPP3
    builder.add(dataclasses.replace(sample, patches_NPP3=builder.room(5)), meta=sample.meta)
    batch = builder.finish()
    assert batch.patches.is_pinned()
    assert batch.cu_seqlens.is_pinned()
    normalise = Normalise(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    moved = batch.to("cuda", non_blocking=True, normalise=normalise)
    expected = batch.to("cpu", normalise=normalise).patches
    assert moved.patches.is_contiguous()
    assert (moved.patches.cpu() - expected).abs().max() < 1e-6
    assert batch.to("cuda").patches.cpu().equal(batch.patches)
