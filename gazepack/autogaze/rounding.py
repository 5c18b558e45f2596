"""Float32 that is float32: without the roundings that PyTorch may do to be faster.

They are settings of the process, so what is set here is set back.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_cudnn: Any = torch.backends.cudnn
_HAS_PRECISIONS = hasattr(_cudnn, "conv")
"""Since 2.9; the ways of before fail once somebody has used the new one."""


@contextmanager
def exact_convolutions(device: torch.device) -> Iterator[None]:
    """Within, convolutions on CUDA are not rounded to TF32, and how they are done is not found out by a race.

    PyTorch rounds them by default, unlike its matrix products, and ids would differ.
    """
    with ExitStack() as stack:
        if device.type == "cuda" and _HAS_PRECISIONS:
            stack.enter_context(_set(_cudnn, "benchmark", value=False))
            stack.enter_context(_set(_cudnn.conv, "fp32_precision", value="ieee"))
        elif device.type == "cuda":
            stack.enter_context(_cudnn.flags(enabled=True, allow_tf32=False))
        yield


@contextmanager
def exact_products() -> Iterator[None]:
    """Within, matrix products are not rounded to TF32 or bfloat16, on no device.

    PyTorch does not round them by default, but scripts that train often ask it to.
    """
    with ExitStack() as stack:
        if _HAS_PRECISIONS:
            for backend in (torch.backends.cuda, torch.backends.mkldnn):
                stack.enter_context(_set(backend.matmul, "fp32_precision", value="ieee"))
        else:
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        yield


@contextmanager
def _set(owner: Any, name: str, *, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
