"""The towers of Qwen2.5-VL and Qwen3-VL: dense is a special case, ragged is one by one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gazepack.encoders import GazedQwenTower
from gazepack.encoders.qwen import _centres
from gazepack.errors import UsageError
from gazepack.geometry import SCALE_SIDES, Grid
from gazepack.loader import Batch

Videos = list[tuple[Grid, Tensor]]


def tower(name: str) -> Any:
    """Return a small tower of random weights whose merged token has 4 px."""
    transformers = pytest.importorskip(
        "transformers", reason="encoders are not installed: pip install gazepack[encoders]"
    )
    sizes = {"depth": 4, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48}
    sizes |= {"patch_size": 2, "out_hidden_size": 24}
    torch.manual_seed(0)
    model: nn.Module
    if name == "qwen2.5-vl":
        from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen25

        settings = {"window_size": 16, "fullatt_block_indexes": [1, 3]}
        config = qwen25.Qwen2_5_VLConfig(vision_config=sizes | settings).vision_config
        model = qwen25.Qwen2_5_VisionTransformerPretrainedModel._from_config(config)
    else:
        settings = {"num_position_embeddings": 81, "deepstack_visual_indexes": [0, 2]}
        config = transformers.Qwen3VLConfig(vision_config=sizes | settings).vision_config
        model = transformers.Qwen3VLVisionModel._from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model.eval()


@pytest.fixture(scope="module", params=["qwen2.5-vl", "qwen3-vl"])
def qwen(request: pytest.FixtureRequest) -> Any:
    """Each tower in turn."""
    return tower(request.param)


def close(actual: Tensor, expected: Tensor) -> None:
    """Compare float32 features of order 1: sums are taken in another order, in four layers."""
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def one(batch: Batch, sample: int) -> Batch:
    """Return a batch of one sample."""
    a, b = batch.cu_seqlens[sample : sample + 2].tolist()
    names = ("patches", "view", "frame", "scale", "row", "col", "rank", "loss")
    return Batch(
        **{name: getattr(batch, name)[a:b] for name in names},
        cu_seqlens=torch.tensor([0, b - a], dtype=torch.int32),
        meta=[batch.meta[sample]],
    )


def test_dense_is_a_special_case(
    qwen: Any, all_finest: Batch, videos: Videos, as_pictures: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """With all finest patches the features, those of inner layers too, are the tower's for every frame."""
    encoder = GazedQwenTower(qwen)
    with torch.no_grad():
        features = encoder.encode(all_finest)
        given = [qwen(*as_pictures(frames, encoder)) for _, frames in videos]
    close(features.tokens_ND, torch.cat([x.pooler_output for x in given]))
    inner = [getattr(x, "deepstack_features", []) for x in given]
    assert len(features.deepstack) == len(inner[0])
    for number, layer in enumerate(features.deepstack):
        close(layer, torch.cat([x[number] for x in inner]))


def test_ragged_is_one_by_one(qwen: Any, gazed: Batch) -> None:
    """The features of a sample do not depend on the samples beside it."""
    encoder = GazedQwenTower(qwen)
    with torch.no_grad():
        together = encoder(gazed)
        alone = torch.cat([encoder(one(gazed, sample)) for sample in range(gazed.num_samples)])
    assert len(together) == gazed.num_tokens > 50
    close(together, alone)


def test_frames_are_independent_and_scales_are_not(
    qwen: Any, make_batch: Callable[..., Batch], videos: Videos
) -> None:
    """A token's feature depends on the other tokens of its frame, of any scale, and on no other frame."""
    encoder = GazedQwenTower(qwen)
    grid, frames = videos[0]

    ids = np.array([0, 4, 20, 69, 70, 264])
    changed = frames.clone()
    changed[1] = 255 - changed[1]
    with torch.no_grad():
        before, after = (encoder(make_batch([(grid, x)], lambda _: ids)) for x in (frames, changed))
        fewer = encoder(make_batch([(grid, frames[:1])], lambda _: ids[1:]))
    assert torch.equal(before[:6], after[:6])
    assert not torch.isclose(before[6:12], after[6:12]).all(1).any()
    torch.testing.assert_close(before[12:], after[12:])
    assert not torch.isclose(before[1:4], fewer[:3], atol=1e-3).all(1).any()


def test_parts_stand_at_their_centres(gazed: Batch) -> None:
    """On the finest grid of parts, 28 a tile: what a loop over tokens says; finest parts are whole numbers."""
    for n, centres in enumerate(_centres(gazed).tolist()):
        side = SCALE_SIDES[int(gazed.scale[n])]
        for k, centre in enumerate(centres):
            places = (2 * int(gazed.row[n]) + k // 2, 2 * int(gazed.col[n]) + k % 2)
            expected = [(place + 0.5) / (2 * side) * 28 - 0.5 for place in places]
            assert centre == pytest.approx(expected, abs=1e-4)
            if side == 14:
                assert tuple(centre) == places


def test_an_empty_batch_has_no_features_and_zero_gradients(
    qwen: Any, make_batch: Callable[..., Batch]
) -> None:
    """A rank that gets no sample takes part in the step, and gradients reach what they reach otherwise."""
    encoder = GazedQwenTower(qwen)
    empty = make_batch([], lambda _: np.zeros(0, dtype=np.int64))
    features = encoder.encode(empty)
    assert features.tokens_ND.shape == (0, 24)
    sum((layer.sum() for layer in features.deepstack), features.tokens_ND.sum()).backward()
    missing = {name for name, p in qwen.named_parameters() if p.grad is None}
    qwen.zero_grad(set_to_none=True)
    assert not missing


def test_what_is_not_a_tower_of_qwen_is_refused(gazed: Batch) -> None:
    """Another model, a merger of another size, and patches of another size."""
    with pytest.raises(UsageError, match=r"Linear is no vision tower of Qwen2\.5-VL"):
        GazedQwenTower(nn.Linear(2, 2))
    other = tower("qwen2.5-vl")
    other.config.patch_size = 4
    with pytest.raises(UsageError, match=r"of 4 px, a token of the model has 8 px; pack .* 8"):
        GazedQwenTower(other)(gazed)
    other.config.spatial_merge_size = 3
    with pytest.raises(UsageError, match="merges 3 patches a side and 2 frames"):
        GazedQwenTower(other)
