"""Encoders and models on a GPU that is pretended (`pretend_cuda`).

Flex attention is compiled there, which cannot be pretended: all of this is the other kernel, `sdpa`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gazepack.encoders import GazedEncoder, GazedMllm, Prompt
from gazepack.encoders.attention import Rule
from gazepack.geometry import Grid
from gazepack.loader import Batch


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("rule", ["frame", "block_causal", "bidirectional"])
@pytest.mark.parametrize("name", ["siglip", "dinov2"])
def test_features_are_those_of_the_cpu(
    make_model: Callable[[str], nn.Module], gazed: Batch, name: str, rule: Rule
) -> None:
    """A batch of the CPU goes to where the model is; layout, positions and attention are the same there."""
    with torch.no_grad():
        expected = GazedEncoder(make_model(name), attention=rule)(gazed)
        model = make_model(name).to("cuda")
        found = GazedEncoder(model, attention=rule, kernel="sdpa")(gazed)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("name", ["llava", "qwen2.5-vl", "qwen3-vl"])
def test_answers_are_those_of_the_cpu(
    little_llava: Any, little_qwen: Any, make_batch: Callable[..., Batch], name: str
) -> None:
    """A model of every layout says the same next word, with tokens made on the device."""
    frames = torch.arange(2 * 3 * 56 * 56).view(2, 3, 56, 56).mul(7).remainder(256).byte()
    grid = Grid(rows=1, cols=1, patch_size=4)
    batch = make_batch([(grid, frames)], lambda _: np.arange(4, 14))
    meta = [{"views": [v | {"times": [*range(9)]} for v in m["views"]]} for m in batch.meta]
    batch = dataclasses.replace(batch, meta=meta)
    logits = []
    for device in ("cpu", "cuda"):
        model, tokenizer = little_llava() if name == "llava" else little_qwen(name)
        options: dict[str, Any] = {}
        if name == "llava":
            options = {"kernel": "sdpa", "prompt": Prompt(template="Answer : {video} {question}")}
        mllm = GazedMllm(model.to(device), tokenizer=tokenizer, **options)
        assert mllm.device.type == device
        with torch.inference_mode():
            logits.append(mllm(batch, ["which one"]).cpu())
    torch.testing.assert_close(logits[1], logits[0], atol=1e-3, rtol=1e-3)
