"""Tries: what the network chooses when it throws dice instead of taking the best, and what comes of it.

The engine that packs is the engine that tries; only the choice of a slot is drawn from its probabilities
(the largest of logit plus Gumbel noise). What was tried is then painted token by token, which gives the
true loss before each.

    legend   R rollouts    T frames    N slots of a frame    S side of a tile    K tokens at once
             V vocabulary (266)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.autogaze import AutoGazeNetwork
from gazepack.autogaze.config import CELLS, END
from gazepack.autogaze.engine import Engine
from gazepack.autogaze.pixels import normalise
from gazepack.patches import MID_GREY
from gazepack.selectors.tiles import FrameTiles
from gazepack.training.labels import negative_psnr


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """What was tried."""

    slots_RTN: npt.NDArray[np.int64]
    """The tile id drawn in each slot; 265 where the frame had ended."""
    kept_RTN: npt.NDArray[np.bool_]
    """Whether a slot was kept; those at or below the loss threshold are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Painted:
    """What came of it."""

    loss_RTN: npt.NDArray[np.float32]
    """Minus the PSNR in dB before each kept token; 0 elsewhere."""
    canvas_RT3SS: Tensor
    """uint8, the canvas after each frame."""


class DiceEngine(Engine):
    """An engine that draws its choices, and remembers the slots of the frame at hand.

    Args:
        network: where the weights come from; later changes to it are not seen.
        device: where to compute.
        generator: throws the dice; of the same device.
    """

    def __init__(
        self, network: AutoGazeNetwork, *, device: torch.device, generator: torch.Generator
    ) -> None:
        super().__init__(network, device=device, dtype=torch.float32)
        self._generator = generator
        self.steps: list[npt.NDArray[np.int64]] = []
        """Ids of each step of the frame at hand, R x up to K."""

    def _choose(self, heads_B: Tensor, taken_BV: Tensor, num_slots: int) -> tuple[Tensor, Tensor]:
        """Draw the ids of a step's slots, none twice."""
        logits_BKV, losses_BK = self._decoder.split_heads(heads_B)
        noise_BKV = torch.empty_like(logits_BKV).exponential_(generator=self._generator)
        drawn_BKV = logits_BKV - noise_BKV.clamp(min=1e-20).log()
        ids = []
        for slot in range(num_slots):
            ids_B1 = drawn_BKV[:, slot].masked_fill(taken_BV, -np.inf).argmax(-1, keepdim=True)
            taken_BV.scatter_(1, ids_B1, True)
            ids.append(ids_B1)
        ids_BK = torch.cat(ids, dim=1)
        self.steps.append(ids_BK.cpu().numpy())
        return ids_BK, losses_BK[:, :num_slots]


def roll_out(
    engine: DiceEngine, frames_RT3SS: Tensor, *, budget: int, loss_threshold: float | None
) -> Rollouts:
    """Try every row once.

    Args:
        engine: which throws the dice.
        frames_RT3SS: uint8, on the engine's device; equal rows are tries of one clip.
        budget: the most tokens of a frame, 1..265.
        loss_threshold: where a frame ends; no such end if `None`.
    """
    R, T = frames_RT3SS.shape[:2]
    state = engine.start(R, room=T * (CELLS + budget))
    slots_RTN = np.full((R, T, budget), END, dtype=np.int64)
    kept_RTN = np.zeros((R, T, budget), dtype=bool)
    for t in range(T):
        engine.steps.clear()
        frame_R3SS = normalise(frames_RT3SS[:, t : t + 1])[:, 0]
        rows = engine.frame(state, frame_R3SS, budget=budget, loss_threshold=loss_threshold)
        drawn_RN = np.concatenate(engine.steps, axis=1)
        for r, row in enumerate(rows):
            is_kept_N = np.isin(drawn_RN[r], row.ids)
            # a row's last step is its last with a kept slot, or the one behind if that was all kept
            num = _slots_used(is_kept_N, engine.config.decoder.num_multi_token_pred)
            slots_RTN[r, t, :num] = drawn_RN[r, :num]
            kept_RTN[r, t, :num] = is_kept_N[:num]
    return Rollouts(slots_RTN=slots_RTN, kept_RTN=kept_RTN)


def _slots_used(is_kept_N: npt.NDArray[np.bool_], num_at_once: int) -> int:
    """Return how many slots of a frame a row drew before it ended: whole steps, up to a drop."""
    for start in range(0, len(is_kept_N), num_at_once):
        if not is_kept_N[start : start + num_at_once].all():
            return min(start + num_at_once, len(is_kept_N))
    return len(is_kept_N)


def paint_rollouts(frames_RT3SS: Tensor, rollouts: Rollouts) -> Painted:
    """Paint what was kept, token by token.

    Args:
        frames_RT3SS: uint8.
        rollouts: of these rows.
    """
    R, T, _, S, _ = frames_RT3SS.shape
    num_values = 3 * S * S
    canvas_R3SS = torch.full_like(frames_RT3SS[:, 0], MID_GREY)
    canvas_RT3SS = torch.empty_like(frames_RT3SS)
    loss_RTN = np.zeros(rollouts.slots_RTN.shape, dtype=np.float32)
    for t in range(T):
        tiles = FrameTiles.of(frames_RT3SS[:, t], canvas_R3SS, patch_size=S // 14, as_read=None)
        lattice = tiles.lattice(num_frames=R)
        ids_RN, kept_RN = rollouts.slots_RTN[:, t], rollouts.kept_RTN[:, t]
        for n in range(ids_RN.shape[1]):
            rows = np.flatnonzero(kept_RN[:, n])
            if len(rows):
                squares = lattice.sum_of_squares_B[rows]
                loss_RTN[rows, t, n] = negative_psnr(squares, num_values)
                lattice.pick(rows, ids_RN[rows, n])
        tiles.cut_and_paint([ids_RN[r][kept_RN[r]].tolist() for r in range(R)])
        canvas_RT3SS[:, t] = canvas_R3SS
    return Painted(loss_RTN=loss_RTN, canvas_RT3SS=canvas_RT3SS)
