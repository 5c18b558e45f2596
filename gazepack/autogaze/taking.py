"""What a group of rows chooses of one frame: the rules of keeping, dropping and ending, on the device.

A step offers K slots to every row. A slot whose predicted loss is at or below the threshold is dropped, but
never the first of a frame; a drop ends the row's frame after that step, as does its budget. Rows that have
ended are offered slots like all others and keep none, so the host need not know which they are: every step
of every group is the same sequence of operations on tensors of the same shape, without a question to the
device. The answers are fetched once, when the frame is over.

    legend   B rows  K slots of a step  J slots of all steps
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gazepack.autogaze.config import END


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameGaze:
    """What one row chose in one frame."""

    ids: list[int]
    """Kept tile ids, 0..264, in gaze order."""
    loss: list[float]
    """The predicted loss before each was added."""


class Taking:
    """The state of a frame in all rows of a group; the tensors stay in their places from frame to frame.

    Args:
        num_rows: rows of the group.
        num_at_once: slots of a step.
        device: where it lives.

    Attributes:
        is_open_B: bool, which rows go on.
        slots_K: which slots of the frame the step at hand offers.
        unfed_BK: the ids that each row kept in its last step, `END` behind them.
        num_unfed_B: how many they are.
    """

    def __init__(self, num_rows: int, num_at_once: int, *, device: torch.device) -> None:
        self._num_at_once = num_at_once
        self.is_open_B: Tensor = torch.empty(num_rows, dtype=torch.bool, device=device)
        self.unfed_BK: Tensor = torch.full((num_rows, num_at_once), END, device=device)
        self.num_unfed_B: Tensor = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self._budgets_B1 = torch.empty((num_rows, 1), dtype=torch.int64, device=device)
        self.slots_K: Tensor = torch.empty(num_at_once, dtype=torch.int64, device=device)
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def clear(self) -> None:
        """Forget what was kept before."""
        self.unfed_BK.fill_(END)
        self.num_unfed_B.zero_()

    def begin(self, budgets_B: Tensor) -> None:
        """Begin a frame.

        Args:
            budgets_B: slots of each row, dropped ones included, 1..265.
        """
        self.is_open_B.fill_(True)
        self._budgets_B1.copy_(budgets_B[:, None])
        torch.arange(self._num_at_once, out=self.slots_K)
        self._steps = []

    def offer(self, ids_BK: Tensor, losses_BK: Tensor, *, loss_threshold: float | None) -> Tensor:
        """Offer the slots of one step; return which are kept, B x K, and close the rows that end with it."""
        is_mine_BK = self.is_open_B[:, None] & (self.slots_K < self._budgets_B1)
        is_kept_BK = is_mine_BK
        if loss_threshold is not None:
            is_kept_BK = is_mine_BK & ((losses_BK > loss_threshold) | (self.slots_K == 0))
        self.unfed_BK.copy_(
            torch.where(self.is_open_B[:, None], _packed(ids_BK, is_kept_BK), self.unfed_BK)
        )
        self.num_unfed_B.copy_(torch.where(self.is_open_B, is_kept_BK.sum(1), self.num_unfed_B))
        self.slots_K += self._num_at_once
        self.is_open_B &= is_kept_BK.all(1) & (self.slots_K[0] < self._budgets_B1[:, 0])
        return is_kept_BK

    def note(self, ids_BK: Tensor, losses_BK: Tensor, is_kept_BK: Tensor) -> None:
        """Keep a copy of a step, since its tensors may be written to again."""
        self._steps.append((ids_BK.clone(), losses_BK.clone(), is_kept_BK.clone()))

    def rows(self) -> list[FrameGaze]:
        """Fetch what each row kept; waits for the device."""
        ids_BJ, losses_BJ, is_kept_BJ = (
            torch.cat(parts, dim=1).cpu().numpy() for parts in zip(*self._steps, strict=True)
        )
        return [
            FrameGaze(ids=ids[kept].tolist(), loss=losses[kept].tolist())
            for ids, losses, kept in zip(ids_BJ, losses_BJ, is_kept_BJ, strict=True)
        ]


def _packed(ids_BK: Tensor, is_kept_BK: Tensor) -> Tensor:
    """Return the kept ids of each row, `END` behind them."""
    num_at_once = ids_BK.shape[1]
    place_BK = torch.where(is_kept_BK, is_kept_BK.cumsum(1) - 1, num_at_once)  # one past the end
    packed = torch.full_like(ids_BK[:, :1], END).repeat(1, num_at_once + 1)
    return packed.scatter_(1, place_BK, ids_BK)[:, :num_at_once]
