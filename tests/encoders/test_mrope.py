"""M-RoPE indices against those of transformers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gazepack.encoders import mrope_positions
from gazepack.geometry import Grid
from gazepack.loader import Batch


def timed(batch: Batch, fps: float, start: float = 0.0) -> Batch:
    """Give the frames of each view their times."""
    times = [start + k / fps for k in range(8)]
    meta: list[dict[str, Any]] = [
        {"views": [{**view, "times": times} for view in sample["views"]]} for sample in batch.meta
    ]
    return dataclasses.replace(batch, meta=meta)


@pytest.mark.parametrize("fps", [1.0, 2.0, 4.0])
def test_finest_patches_stand_where_qwen_puts_them(
    all_finest: Batch, videos: list[tuple[Grid, Tensor]], fps: float
) -> None:
    """With all finest patches the indices are those of transformers' Qwen2.5-VL for the same grid."""
    qwen = pytest.importorskip("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl")
    expected = []
    for grid, frames in videos:
        rows, cols = grid.patches(3)
        grid_thw = torch.tensor([len(frames), 2 * rows, 2 * cols])
        expected.append(
            qwen.Qwen2_5_VLModel.get_vision_position_ids(None, 0, grid_thw, 1, 2, 2.0 / fps).T
        )
    actual = mrope_positions(timed(all_finest, fps, start=7.0), tokens_per_second=2.0)
    assert torch.equal(actual, torch.cat(expected))


def test_a_coarse_patch_stands_at_its_centre(make_batch: Callable[..., Batch]) -> None:
    """Of the four coarsest patches of a tile of 14 x 14 the centres are at 3.5 and 10.5, in cells 3 and 10."""
    grid = Grid(rows=1, cols=1, patch_size=4)
    frames = torch.zeros(1, 3, grid.height, grid.width, dtype=torch.uint8)
    batch = timed(make_batch([(grid, frames)], lambda _: np.arange(4)), fps=1.0)
    actual = mrope_positions(batch, tokens_per_second=None)
    assert actual.tolist() == [[0, 3, 3], [0, 3, 10], [0, 10, 3], [0, 10, 10]]


def test_without_seconds_time_stands_still(gazed: Batch) -> None:
    """Where the text tells the time, t is 0 for all tokens and no times are needed."""
    assert not mrope_positions(gazed, tokens_per_second=None)[:, 0].any()
