"""What is painted in frames while they are gazed at, kept up to date choice by choice.

`CanvasNetwork.appeal` and `CanvasNetwork.loss_shown` answer for any set of choices and go through the whole
set to do so, which training wants. Decoding adds one choice at a time, and a choice changes only what lies
beneath it and above it. Half patches are counted in whole numbers, so the two agree to the bit. The tensors
stay in their places, so that work on them can be recorded.

    legend   N frames  I choices of a frame (265)  H half patches (784)  E errors (5)  K choices of a step
             L what is painted beneath a patch (4)
"""

import torch
from torch import Tensor

from gazepack.autogaze.canvas import DECIBELS_PER_DOUBLING, ERRORS, HALVES, CanvasNetwork, Look
from gazepack.geometry import NUM_SCALES, SCALE_SIDES, TILE_TOKENS


class Painted:
    """What is painted in N frames.

    Args:
        network: whose readings they are; on the device where this lives too.
        num_frames: N.

    Attributes:
        appeal_NI: what is added to the logits of choices, float32; minus infinity where they are painted.
    """

    def __init__(self, network: CanvasNetwork, num_frames: int) -> None:
        self._network = network
        device, shape = network.scale_I.device, (num_frames, TILE_TOKENS)
        self.appeal_NI: Tensor = torch.empty(shape, device=device)
        self._appeal_NLI = torch.empty((num_frames, NUM_SCALES, TILE_TOKENS), device=device)
        self._level_NI = torch.empty(shape, dtype=torch.int64, device=device)
        # what is left open depends on a count alone: a table, in which every choice has its place
        most = HALVES // SCALE_SIDES[0] ** 2
        counts_C1 = torch.arange(1 + most, device=device)[:, None]
        self._open_CI = network.openness(counts_C1.expand(-1, TILE_TOKENS).float())
        self._first_I = torch.arange(TILE_TOKENS, device=device)
        self._last_I = self._first_I + TILE_TOKENS * network.halves_I.long()
        self._step_II = TILE_TOKENS * network.over_II.long()
        self._open_at_NI = torch.empty(shape, dtype=torch.int64, device=device)
        self._errors_NEH = torch.empty((num_frames, ERRORS, HALVES), device=device)
        self._level_NH = torch.empty((num_frames, HALVES), dtype=torch.uint8, device=device)

    def begin(self, look: Look) -> None:
        """Begin frames in which nothing is painted."""
        self._appeal_NLI.copy_(self._network.appeal_scale.float() * look.appeal_NIL.mT)
        torch.exp2(look.known_log_errors(), out=self._errors_NEH)
        self._level_NI.zero_()
        self._open_at_NI.copy_(self._first_I.expand_as(self._open_at_NI))
        self._level_NH.zero_()
        self._update()

    def add(self, ids_N1: Tensor) -> None:
        """Paint one more choice in each frame, so that `appeal_NI` is as it is behind it."""
        ids_N, ids_NL1 = ids_N1[:, 0], ids_N1[:, None].expand(-1, NUM_SCALES, -1)
        torch.maximum(self._level_NI, self._network.level_II[ids_N], out=self._level_NI)
        self._open_at_NI += self._step_II[ids_N]
        torch.minimum(self._open_at_NI, self._last_I, out=self._open_at_NI)
        self._appeal_NLI.scatter_(2, ids_NL1, -torch.inf)
        self._update()

    def _update(self) -> None:
        read_NI = self._appeal_NLI.gather(1, self._level_NI[:, None])[:, 0]
        torch.add(read_NI, self._open_CI.take(self._open_at_NI), out=self.appeal_NI)

    def show(self, ids_NK: Tensor) -> Tensor:
        """Return minus the PSNR in dB that is read before each of the choices that were last added, N x K.

        To be asked once of every choice, in their order; what they leave is where the next ones begin.
        """
        given_NKH = self._network.level_IH[ids_NK]
        levels_NQH = torch.cat((self._level_NH[:, None], given_NKH), dim=1).cummax(1).values
        self._level_NH.copy_(levels_NQH[:, -1])
        shown_NKH = self._errors_NEH.gather(1, levels_NQH[:, :-1].long())
        return DECIBELS_PER_DOUBLING * torch.log2(shown_NKH.mean(-1))
