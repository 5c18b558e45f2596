"""Float32 is float32 whatever a script has set, by either of PyTorch's two ways; then all is as it was."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from gazepack.autogaze.rounding import exact_convolutions, exact_products

cudnn: Any = torch.backends.cudnn
CUDA = torch.device("cuda")


def state() -> list[Any]:
    owners = (cudnn.conv, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    return [cudnn.benchmark, *(owner.fp32_precision for owner in owners)]


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    """Leave PyTorch as it is for the other tests."""
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32, cudnn.benchmark = True, False


def older() -> None:
    torch.set_float32_matmul_precision("medium")
    cudnn.benchmark = True


def newer() -> None:
    torch.backends.fp32_precision = "tf32"


@pytest.mark.parametrize("ask", [older, newer, lambda: None], ids=["older", "newer", "nothing"])
def test_nothing_is_rounded_within(ask: Callable[[], None]) -> None:
    """Convolutions on CUDA and products anywhere are exact, also both at once, and work."""
    ask()
    before = state()
    image, weight = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)
    with exact_convolutions(CUDA):
        assert state() == [False, "ieee", *before[2:]]
        with exact_products():
            assert state() == [False, "ieee", "ieee", "ieee"]
            torch.nn.functional.conv2d(image, weight)
            image[0, 0] @ image[0, 0]
    assert state() == before
    with exact_convolutions(torch.device("cpu")):
        assert state() == before
