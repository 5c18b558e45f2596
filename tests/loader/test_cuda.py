"""Batches on their way to a GPU that is pretended (`pretend_cuda`)."""

import dataclasses
from collections.abc import Callable

import pytest
from pretend_cuda import PretendedCuda

from gazepack.formats import Sample
from gazepack.loader import Normalise
from gazepack.loader.batch import BatchBuilder


@pytest.mark.parametrize("pin_memory", [False, True])
def test_batches_go_to_the_device_as_they_are(
    make_sample: Callable[..., Sample], cuda: PretendedCuda, pin_memory: bool
) -> None:
    """Memory is page-locked where it was asked for, and bytes and numbers survive the way."""
    sample = make_sample("a", tokens=[5])
    builder = BatchBuilder(5, patch_size=4, pin_memory=pin_memory)
    builder.add(dataclasses.replace(sample, patches_NPP3=sample.patches_NPP3), meta=sample.meta)
    batch = builder.finish()
    assert {batch.patches.is_pinned(), batch.cu_seqlens.is_pinned()} == {pin_memory}
    assert batch.pin_memory().patches.is_pinned()
    normalise = Normalise(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    moved = batch.to("cuda", non_blocking=True, normalise=normalise)
    assert moved.patches.cpu().equal(batch.to("cpu", normalise=normalise).patches)
    assert batch.to("cuda").patches.cpu().equal(batch.patches)
    assert moved.scale.device == cuda.device
