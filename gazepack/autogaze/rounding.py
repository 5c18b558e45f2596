"""Float32 that is float32: without the roundings that PyTorch may do to be faster.

They are settings of the process, so what is set here is set back.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch

_cudnn: Any = torch.backends.cudnn
_HAS_PRECISIONS = hasattr(_cudnn, "conv")
"""Since 2.9; the ways of before fail once somebody has used the new one."""


def exact_convolutions(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which convolutions on CUDA are not rounded to TF32.

    PyTorch rounds them by default, unlike its matrix products, and ids would differ.
    """
    if device.type != "cuda":
        return nullcontext()
    if not _HAS_PRECISIONS:
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return _set(_cudnn.conv, "fp32_precision", "ieee")


@contextmanager
def exact_products() -> Iterator[None]:
    """Within, matrix products are not rounded to TF32 or bfloat16, on no device.

    PyTorch does not round them by default, but scripts that train often ask it to.
    """
    with ExitStack() as stack:
        if _HAS_PRECISIONS:
            for backend in (torch.backends.cuda, torch.backends.mkldnn):
                stack.enter_context(_set(backend.matmul, "fp32_precision", "ieee"))
        else:
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        yield


@contextmanager
def _set(owner: Any, name: str, value: str) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
