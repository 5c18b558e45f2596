"""How many rows go through an accelerator together: as many as its memory holds, fewer once it ran out.

Sizes are powers of two, so that few groups are made and what was recorded for one is used again; the last
group of a batch is filled up with repeats of its last row, whose results are thrown away.
"""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from gazepack.errors import UsageError

T = TypeVar("T")

MOST_ROWS = 512
"""More would only take longer to fill."""


class Memory:
    """What gazing may use of an accelerator.

    Args:
        device: the accelerator.
        num_bytes: how much; half of what is free now if `None`.
    """

    def __init__(self, device: torch.device, num_bytes: int | None = None) -> None:
        self.device = device
        self.num_bytes: int = _free(device) // 2 if num_bytes is None else num_bytes

    def rows(self, bytes_per_row: int) -> int:
        """Return how many rows go together, a power of two."""
        fitting = max(1, min(self.num_bytes // bytes_per_row, MOST_ROWS))
        return 1 << (fitting.bit_length() - 1)

    def map(
        self,
        work: Callable[[list[int]], list[T]],
        num: int,
        *,
        bytes_per_row: int,
        forget: Callable[[], None],
    ) -> list[T]:
        """Return the results of `num` rows, worked on in groups.

        When the device runs out of memory, the group is tried again with half of its rows, and so are all
        groups from then on.

        Args:
            work: is given the rows of a group, the last perhaps several times; returns a result for each.
            num: how many rows there are.
            bytes_per_row: what a row takes, about.
            forget: gives back what is kept from group to group.

        Raises:
            UsageError: there is too little memory for a single row.
        """
        results: list[T] = []
        while len(results) < num:
            left = num - len(results)
            size = min(self.rows(bytes_per_row), 1 << (left - 1).bit_length())
            rows = [min(len(results) + i, num - 1) for i in range(size)]
            try:
                results += work(rows)[:left]
                continue
            except torch.OutOfMemoryError as error:
                problem = str(error).split(".")[0]
            forget()
            if size == 1:
                raise UsageError(
                    f"{self.device} has too little memory to gaze at one tile: {problem}",
                    remedy="free some of it, lower --gazing-ratio or use --device cpu",
                )
            self.num_bytes = bytes_per_row * size // 2
            warnings.warn(
                f"{self.device} ran out of memory with {size} tiles at once; going on with {size // 2}",
                RuntimeWarning,
                stacklevel=2,
            )
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return results


def _free(device: torch.device) -> int:
    """Return the bytes that a device has left, those included that PyTorch keeps for what comes."""
    if device.type != "cuda":
        return 2**31
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
