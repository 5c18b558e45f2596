"""Choosing on a GPU that is pretended (`pretend_cuda`): selections equal to the bit, whoever proposes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pretend_cuda import PretendedCuda

from gazepack.autogaze import AutoGaze, AutoGazeConfig, fresh_canvas_network
from gazepack.geometry import Grid
from gazepack.selectors import ClipBatch, Gazing, Greedy, Selection, choose
from gazepack.selectors.baselines import All, Difference, Random

MakeClips = Callable[..., ClipBatch]


@pytest.fixture
def clips(make_clips: MakeClips) -> ClipBatch:
    """Two clips of two frames and one of two small tiles."""
    return make_clips(Grid(rows=1, cols=2, patch_size=4), (2, 1))


def on_device(clips: ClipBatch) -> ClipBatch:
    return replace(clips, frames_BT3HW=clips.frames_BT3HW.to("cuda"))


def assert_equal(found: list[Selection], expected: list[Selection]) -> None:
    """Compare every field but the predicted losses, which are close."""
    for a, b in zip(found, expected, strict=True):
        for name in Selection.__dataclass_fields__:
            if name == "loss":
                np.testing.assert_allclose(a.loss, b.loss, atol=1e-4)
            else:
                assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    ("selector", "min_psnr"),
    [
        (Greedy(), 25.0),
        (Difference(gazing_ratio=0.02), 23.0),
        (Difference(), 15.0),
        (Random(), 15.0),
        (All(), None),
    ],
    ids=lambda x: getattr(x, "name", x),
)
@pytest.mark.parametrize("is_lossy", [False, True], ids=["lossless", "lossy"])
def test_choices_are_those_of_the_cpu(
    clips: ClipBatch, selector: Any, min_psnr: float | None, is_lossy: bool
) -> None:
    """Proposed and topped up on the device, with patches as they are and as a codec returns them."""
    as_read = (lambda level: level // 8 * 8) if is_lossy else None
    found, expected = (
        choose(selector, batch, min_psnr=min_psnr, as_read=as_read)
        for batch in (on_device(clips), clips)
    )
    assert_equal(found, expected)


@pytest.mark.usefixtures("cuda")
def test_gazing_is_that_of_the_cpu(clips: ClipBatch, canvas_config: AutoGazeConfig) -> None:
    """A network that is shown the canvas, its choices taken until the bound and topped up: three times over."""
    network = fresh_canvas_network(canvas_config, seed=1)
    settings: dict[str, Any] = {
        "gazing_ratio": 0.06,
        "loss_threshold": -21.0,
        "stops_at_bound": True,
    }
    clips = clips.part(range(1, 2))
    expected = choose(Gazing(AutoGaze(network), **settings), clips, min_psnr=22.0)
    there = Gazing(AutoGaze(network, device="cuda"), **settings)
    for _ in range(3):
        assert_equal(choose(there, on_device(clips), min_psnr=22.0), expected)


def test_greedy_asks_little(clips: ClipBatch, cuda: PretendedCuda) -> None:
    """Questions grow by two in eight picks of the busiest tile, not with every pick."""
    asked, picked = [], []
    for min_psnr in (20.0, 28.0):
        cuda.questions = 0
        (selection,) = choose(Greedy(), on_device(clips.part(range(1, 2))), min_psnr=min_psnr)
        asked.append(cuda.questions)
        picked.append(len(selection.frame))
    assert picked[1] - picked[0] > 3 * (asked[1] - asked[0])
    assert asked[0] < 40


@pytest.mark.parametrize("asked_for", ["high", "medium"])
def test_products_are_exact_whatever_a_script_has_asked_for(
    clips: ClipBatch, asked_for: str
) -> None:
    """While choosing, float32 products are not rounded; afterwards PyTorch is as it was."""
    seen: list[str] = []

    class Looking(Greedy):
        def begin(self, clips: ClipBatch) -> Any:
            seen.append(torch.backends.cuda.matmul.fp32_precision)
            seen.append(torch.backends.mkldnn.matmul.fp32_precision)
            return super().begin(clips)

    torch.set_float32_matmul_precision(asked_for)
    try:
        before = torch.backends.mkldnn.matmul.fp32_precision
        choose(Looking(), clips, min_psnr=10.0)
        assert seen == ["ieee", "ieee"]
        assert torch.get_float32_matmul_precision() == asked_for
        assert torch.backends.mkldnn.matmul.fp32_precision == before
    finally:
        torch.set_float32_matmul_precision("highest")
