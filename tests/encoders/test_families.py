"""Qwen2.5-VL and Qwen3-VL as wholes: dense is the model itself, and samples of one video are one video."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gazepack.encoders import GazedMllm, GazedQwenTower, Prompt
from gazepack.errors import UsageError
from gazepack.geometry import Grid
from gazepack.loader import Batch

Qwen = Callable[[str], tuple[Any, Any]]
Make = Callable[..., Batch]
Pictures = Callable[[Tensor, GazedQwenTower], tuple[Tensor, Tensor]]
BOTH = pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl"])


def close(actual: Tensor, expected: Tensor) -> None:
    """Compare float32 logits of order 10: sums are taken in another order, in seven layers."""
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-4)


def square(num_frames: int) -> tuple[Grid, Tensor]:
    """Return random frames of one tile."""
    generator = torch.Generator().manual_seed(num_frames)
    frames = torch.randint(0, 256, (num_frames, 3, 56, 56), dtype=torch.uint8, generator=generator)
    return Grid(rows=1, cols=1, patch_size=4), frames


def some(grid: Grid) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Choose 7 patches."""
    return np.random.default_rng(0).permutation(grid.num_choices)[:7]


def timed(batch: Batch, *, first: int = 0) -> Batch:
    """Give the frames their times, one a second."""
    meta = [
        {"views": [v | {"times": [*range(first, first + 9)]} for v in m["views"]]}
        for m in batch.meta
    ]
    return dataclasses.replace(batch, meta=meta)


def test_dense_is_the_model_itself(
    little_qwen: Qwen, make_batch: Make, as_pictures: Pictures
) -> None:
    """With all finest patches the logits are the model's own for the video, each frame doubled in time.

    Qwen2.5-VL has one box of tokens, whose time moves on by 2 a second; Qwen3-VL a box for each frame.
    """
    grid, frames = square(3)
    for name in ("qwen2.5-vl", "qwen3-vl"):
        model, tokenizer = little_qwen(name)
        mllm = GazedMllm(model, tokenizer=tokenizer)
        finest = timed(make_batch([(grid, frames)], lambda g: np.arange(69, g.num_choices)))
        pixels, _ = as_pictures(frames, mllm.encoder)
        boxes = [3 * 196] if name == "qwen2.5-vl" else [196] * 3
        times = [""] if name == "qwen2.5-vl" else [f"<{t}.0 seconds>" for t in range(3)]
        ids, kinds = [], []
        for time, box in zip(times, boxes, strict=True):
            start = tokenizer(f"{time}<in>")["input_ids"]
            ids += [*start, *[model.config.video_token_id] * box, *tokenizer("<out>")["input_ids"]]
            kinds += [*[0] * len(start), *[2] * box, 0]
        asked = tokenizer(" which one Answer : ")["input_ids"]
        with torch.inference_mode():
            actual = mllm(finest, ["which one"])
            expected = model(
                input_ids=torch.tensor([ids + asked]),
                mm_token_type_ids=torch.tensor([kinds + [0] * len(asked)]),
                pixel_values_videos=pixels,
                video_grid_thw=torch.tensor([[3, 28, 28]]),
                **({"second_per_grid_ts": torch.tensor([1.0])} if len(boxes) == 1 else {}),
            ).logits[:, -1]
        close(actual, expected)


@BOTH
def test_samples_do_not_depend_on_their_neighbours(
    little_qwen: Qwen, make_batch: Make, name: str
) -> None:
    """A batch of videos and questions of different length, one of no tokens, gives what each gives alone."""
    model, tokenizer = little_qwen(name)
    mllm = GazedMllm(model, tokenizer=tokenizer)
    videos = [square(4), square(1), (square(1)[0], square(1)[1][:0])]
    questions = ["which one", "then which red one", "blue"]
    with torch.inference_mode():
        together = mllm(timed(make_batch(videos, some)), questions)
        alone = [
            mllm(timed(make_batch([v], some)), [q]) for v, q in zip(videos, questions, strict=True)
        ]
    close(together, torch.cat(alone))


@BOTH
def test_samples_of_one_video_are_one_video(little_qwen: Qwen, make_batch: Make, name: str) -> None:
    """A video that was packed in two samples is read as if it were packed in one; its time goes on."""
    model, tokenizer = little_qwen(name)
    mllm = GazedMllm(model, tokenizer=tokenizer)
    grid, frames = square(5)
    parts = [timed(make_batch([(grid, frames[:2])], some))]
    parts.append(timed(make_batch([(grid, frames[2:])], some), first=2))
    with torch.inference_mode():
        apart, whole = (
            mllm.next_token([mllm.row(mllm.video(samples), "which one")])
            for samples in (parts, [timed(make_batch([(grid, frames)], some))])
        )
        early = timed(make_batch([(grid, frames[2:])], some))
        wrong = mllm.next_token([mllm.row(mllm.video([parts[0], early]), "which one")])
    close(apart, whole)
    assert not torch.allclose(wrong, whole, atol=1e-3)


@BOTH
def test_a_step_trains_all_of_it(little_qwen: Qwen, make_batch: Make, name: str) -> None:
    """Gradients reach the tower, the merger and the language model."""
    model, tokenizer = little_qwen(name)
    mllm = GazedMllm(model, tokenizer=tokenizer)
    mllm(timed(make_batch([square(2)], some)), ["which one"]).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_attention_of_qwen_is_its_own(little_qwen: Qwen) -> None:
    """What its tower cannot do is refused; pixels may be normalised in another way."""
    model, tokenizer = little_qwen("qwen2.5-vl")
    with pytest.raises(UsageError, match="sees frame by frame, in windows of its own; leave out"):
        GazedMllm(model, tokenizer=tokenizer, attention="causal")
    mllm = GazedMllm(model, tokenizer=tokenizer, mean=(0.1, 0.2, 0.3))
    assert mllm.encoder.mean == (0.1, 0.2, 0.3)


def test_prompts_are_those_of_the_families(little_qwen: Qwen) -> None:
    """Marks stand around the video, or around each frame with its time; a prompt of one's own goes first."""
    for name, expected in {
        "qwen2.5-vl": Prompt(template="<in>{video}<out> {question} Answer : "),
        "qwen3-vl": Prompt(
            template="{video} {question} Answer : ",
            frame="<{seconds} seconds><in>",
            frame_end="<out>",
        ),
    }.items():
        model, tokenizer = little_qwen(name)
        assert GazedMllm(model, tokenizer=tokenizer).prompt == expected
        own = Prompt(template="{video} {question}")
        assert GazedMllm(model, tokenizer=tokenizer, prompt=own).prompt == own
