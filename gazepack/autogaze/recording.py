"""Work recorded once and replayed with a single launch (a CUDA graph).

A step of gazing is some two hundred small operations, and an accelerator finishes them faster than Python can
name them. Recorded, they cost the host one call. That asks for tensors that stay where they are and shapes
that follow from the key alone, which is how groups are built. Elsewhere than on CUDA work is simply done.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Recorder:
    """Records the work of one group.

    Args:
        is_on: whether to record at all; only CUDA can.
    """

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._is_warm = False
        self._pool = torch.cuda.graph_pool_handle() if is_on else None
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}

    def warm(self) -> None:
        """Say that all work was done once, as libraries want before their calls are recorded."""
        self._is_warm = True

    def forget(self) -> None:
        """Forget what was recorded, since tensors have moved."""
        self._recorded.clear()

    def run(self, key: Hashable, work: Callable[[], T]) -> T:
        """Do `work`, or what was recorded under `key`.

        Args:
            key: decides every shape in `work`, and every number that the host puts into it.
            work: reads and writes tensors that stay in their places, and asks the device nothing. What it does
                on the host is done when it is recorded only.

        Returns:
            What `work` returned; recorded tensors are written to again by the next replay.
        """
        if not (self._is_on and self._is_warm):
            return work()
        if key not in self._recorded:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                result = work()
            self._recorded[key] = graph, result
        graph, result = self._recorded[key]
        graph.replay()
        return result
