"""Work recorded once and replayed with a single launch (a CUDA graph).

A step of gazing is some two hundred small operations, and an accelerator finishes them faster than Python can
name them. Recorded, they cost the host one call. That asks for tensors that stay where they are and shapes
that follow from the key alone, which is how groups are built. Elsewhere than on CUDA work is simply done.
"""

import threading
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeVar

import torch

T = TypeVar("T")

_recording = threading.Lock()
"""PyTorch takes one recording at a time in a process."""


class Recorder:
    """Records the work of one group.

    Args:
        device: where the work is done.
        is_on: whether to record at all; only CUDA can.
    """

    def __init__(self, device: torch.device, *, is_on: bool) -> None:
        self._is_on = is_on
        self._is_warm = False
        self._device = device
        self._done: set[Hashable] = set()
        self.forget()

    def warm(self) -> None:
        """Say that the group was used once: a group that is never used again need not be recorded."""
        self._is_warm = True

    def forget(self) -> None:
        """Forget what was recorded, since tensors have moved."""
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}
        # a new one: PyTorch asserts that a pool that is recorded into has a graph or never had one
        self._pool = torch.cuda.graph_pool_handle() if self._is_on else None

    def run(self, key: Hashable, work: Callable[[], T]) -> T:
        """Do `work`, or what was recorded under `key`.

        Args:
            key: decides every shape in `work`, and every number that the host puts into it.
            work: reads and writes tensors that stay in their places, and asks the device nothing. What it does
                on the host is done when it is recorded only.

        Returns:
            What `work` returned; recorded tensors are written to again by the next replay.
        """
        if not self._is_on:
            return work()
        if not self._is_warm or key not in self._done:  # libraries want to have done it before
            self._done.add(key)
            return work()
        if key not in self._recorded:
            self._recorded[key] = self._record(work)
        graph, recorded = self._recorded[key]
        graph.replay()
        result: T = recorded
        return result

    def _record(self, work: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
        """Note what `work` asks of the device, which does none of it; other threads may use the device."""
        graph = torch.cuda.CUDAGraph()
        with (
            _recording,
            torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=_stream_of(self._device),
                capture_error_mode="thread_local",
            ),
        ):
            result = work()
        return graph, result


@cache
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    """Return the stream to record in: one for each device, as libraries keep working memory for each stream.

    PyTorch's own lies on the device that is current, and work on another would not be recorded.
    """
    return torch.cuda.Stream(device)
