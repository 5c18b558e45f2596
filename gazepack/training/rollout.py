"""Tries: what the network chooses when it throws dice instead of taking the best, and what comes of it.

The engine that packs is the engine that tries; only the choice of a slot is drawn from its probabilities
(the largest of score plus Gumbel noise). What a frame's try chose is painted, and its next frame sees that
canvas: the network works from its own paintings, good and bad, not from greedy's.

    legend   R rollouts    T frames    J slots of a frame    S side of a tile    K tokens at once
             I choices (265)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.autogaze import CanvasNetwork
from gazepack.autogaze.canvas_engine import CanvasEngine
from gazepack.autogaze.config import END
from gazepack.patches import MID_GREY
from gazepack.selectors.tiles import FrameTiles
from gazepack.training.labels import negative_psnr


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """What was tried, and what came of it."""

    slots_RTJ: npt.NDArray[np.int64]
    """The tile id drawn in each slot; 265 where the frame had ended."""
    kept_RTJ: npt.NDArray[np.bool_]
    """Whether a slot was kept and painted; those at or below the loss threshold are dropped."""
    loss_RTJ: npt.NDArray[np.float32]
    """Minus the PSNR in dB of the painting before each kept slot; 0 elsewhere."""
    before_RT3SS: Tensor
    """uint8, the canvas before each frame."""
    after_RT3SS: Tensor
    """uint8, the canvas after it."""


class DiceEngine(CanvasEngine):
    """An engine that draws its choices, and remembers the slots of the frames at hand.

    Args:
        network: where the weights come from; later changes to it are not seen.
        device: where to compute.
        generator: throws the dice; of the same device.
        temperature: what scores are divided by before they are probabilities.
    """

    def __init__(
        self,
        network: CanvasNetwork,
        *,
        device: torch.device,
        generator: torch.Generator,
        temperature: float,
    ) -> None:
        super().__init__(
            network, device=device, dtype=torch.float32, graphs=False
        )  # dice are not replayed
        self._generator = generator
        self._temperature = temperature
        self.slots: list[npt.NDArray[np.int64]] = []
        """Ids of each slot of the frames at hand, R each."""

    def _pick(self, scores_NI: Tensor) -> Tensor:
        """Draw one choice of each frame, N x 1."""
        noise_NI = torch.empty_like(scores_NI).exponential_(generator=self._generator)
        gumbel_NI = -noise_NI.clamp(min=1e-20).log()
        drawn_N1 = (scores_NI + self._temperature * gumbel_NI).argmax(-1, keepdim=True)
        self.slots.append(drawn_N1[:, 0].cpu().numpy())
        return drawn_N1


def roll_out(
    engine: DiceEngine, frames_RT3SS: Tensor, *, budget: int, loss_threshold: float | None
) -> Rollouts:
    """Try every row once, and paint it.

    Args:
        engine: which throws the dice.
        frames_RT3SS: uint8, on the engine's device; equal rows are tries of one clip.
        budget: the most tokens of a frame, 1..265.
        loss_threshold: where a frame ends; no such end if `None`.
    """
    R, T, _, S, _ = frames_RT3SS.shape
    slots_RTJ = np.full((R, T, budget), END, dtype=np.int64)
    kept_RTJ = np.zeros((R, T, budget), dtype=bool)
    loss_RTJ = np.zeros((R, T, budget), dtype=np.float32)
    before_RT3SS, after_RT3SS = torch.empty_like(frames_RT3SS), torch.empty_like(frames_RT3SS)
    canvas_R3SS = torch.full_like(frames_RT3SS[:, 0], MID_GREY)
    for t in range(T):
        before_RT3SS[:, t] = canvas_R3SS
        engine.slots.clear()
        gazes = engine.look(
            frames_RT3SS[:, t], canvas_R3SS, budgets=[budget] * R, loss_threshold=loss_threshold
        )
        drawn_RJ = np.stack(engine.slots, axis=1)[:, :budget]
        num_at_once = engine.config.decoder.num_multi_token_pred
        for r, gaze in enumerate(gazes):
            is_kept_J = np.isin(drawn_RJ[r], gaze.ids)
            num = _slots_used(is_kept_J, num_at_once)
            slots_RTJ[r, t, :num], kept_RTJ[r, t, :num] = drawn_RJ[r, :num], is_kept_J[:num]
        tiles = FrameTiles.of(frames_RT3SS[:, t], canvas_R3SS, patch_size=S // 14, as_read=None)
        loss_RTJ[:, t] = _losses(tiles, slots_RTJ[:, t], kept_RTJ[:, t])
        tiles.cut_and_paint([gaze.ids for gaze in gazes])
        after_RT3SS[:, t] = canvas_R3SS
    return Rollouts(
        slots_RTJ=slots_RTJ,
        kept_RTJ=kept_RTJ,
        loss_RTJ=loss_RTJ,
        before_RT3SS=before_RT3SS,
        after_RT3SS=after_RT3SS,
    )


def _slots_used(is_kept_J: npt.NDArray[np.bool_], num_at_once: int) -> int:
    """Return how many slots of a frame a row drew before it ended: whole steps, up to a drop."""
    for start in range(0, len(is_kept_J), num_at_once):
        if not is_kept_J[start : start + num_at_once].all():
            return min(start + num_at_once, len(is_kept_J))
    return len(is_kept_J)


def _losses(
    tiles: FrameTiles, slots_RJ: npt.NDArray[np.int64], kept_RJ: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Return minus the PSNR in dB before each kept slot, R x J; 0 elsewhere."""
    num_values = tiles.target_N3SS[0].numel()
    lattice = tiles.lattice(num_frames=len(slots_RJ))
    loss_RJ = np.zeros(slots_RJ.shape, dtype=np.float32)
    for j in range(slots_RJ.shape[1]):
        rows = np.flatnonzero(kept_RJ[:, j])
        if len(rows):
            loss_RJ[rows, j] = negative_psnr(lattice.sum_of_squares_B[rows], num_values)
            lattice.pick(rows, slots_RJ[rows, j])
    return loss_RJ
