"""Memory that batches use one after the other.

The system hands out new memory page by page and zeroed: for patches stored raw that is a sixth of the time of
a batch. So the memory of a batch that nobody holds any more serves the next one, as PyTorch does with
page-locked memory. What it gives up: a dataset keeps the memory of one or two batches until it goes itself.
"""

import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_MOST_IDLE = 2
"""Pieces of memory that wait for a batch; a loop that drops each batch for the next has one or none."""
_SLACK = 8
"""Memory is an eighth larger than asked for at most, so that batches of nearly one size share it."""


class BatchMemory:
    """Lends bytes to batches; any thread may take and give back."""

    def __init__(self) -> None:
        self._idle: deque[npt.NDArray[np.uint8]] = deque(maxlen=_MOST_IDLE)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process begins with no memory."""
        return BatchMemory, ()

    def take(self, num_bytes: int) -> torch.Tensor:
        """Return uninitialised memory, uint8 of shape (num_bytes,).

        It comes back by itself when the last tensor or array that shows any of it is gone.
        """
        whole = self._fitting(num_bytes)
        lent = whole[:num_bytes]
        tensor = torch.from_numpy(lent)  # holds `lent` itself until its storage is freed
        weakref.finalize(lent, self._idle.append, whole).atexit = False
        return tensor

    def _fitting(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        """Return idle memory of about this size, or new; idle memory of another size is let go."""
        while self._idle:
            try:
                whole = self._idle.popleft()
            except IndexError:  # another thread was faster
                break
            if num_bytes <= len(whole) <= 2 * num_bytes:
                return whole
        step = 1 << max(0, num_bytes.bit_length() - _SLACK.bit_length())
        # numpy asks for large pages, which are had in a fraction of the time
        return np.empty(-(-num_bytes // step) * step, dtype=np.uint8)
