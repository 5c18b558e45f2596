"""Gazing with a canvas network, fast: many frames at once, each with the result it would get alone.

Frames go through their steps at their own pace; a frame that has ended waits, its idle results neither
kept nor looked at. As in `engine`, a group on the CPU is one frame, which makes ids and losses equal to
the bit in every batch; on an accelerator they agree with a batch of one up to rounding.

    legend   N frames  S side in pixels  D width  K tokens at once  V vocabulary (266)
"""

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gazepack.autogaze.canvas import CanvasNetwork, Look
from gazepack.autogaze.config import CELLS
from gazepack.autogaze.packed import PackedDecoder
from gazepack.autogaze.painted import Painted
from gazepack.autogaze.rounding import exact_convolutions
from gazepack.autogaze.stepping import Group, Stepper
from gazepack.autogaze.taking import FrameGaze
from gazepack.geometry import TILE_TOKENS


class FrameGroup(Group):
    """Frames that are looked at together; between two calls it holds nothing but memory."""

    look: Look
    """What the encoder found in them."""
    painted: Painted
    frames_N3SS: Tensor | None = None
    canvas_N3SS: Tensor | None = None


class CanvasEngine(Stepper):
    """Decodes groups of frames.

    Args:
        network: where the weights come from; later changes to it are not seen.
        device: where to compute.
        dtype: of weights and activations; logits, losses and their readings are float32.
        graphs: record the work on CUDA.
    """

    def __init__(
        self,
        network: CanvasNetwork,
        *,
        device: torch.device,
        dtype: torch.dtype,
        graphs: bool = True,
    ) -> None:
        moved = copy.deepcopy(network).to(device).requires_grad_(False).eval()
        for weight in moved.parameters():  # not the buffers, which are geometry
            weight.data = weight.data.to(dtype)
            if weight.ndim == 4:  # as pixels lie behind a normalisation
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self._network = moved
        super().__init__(network.config, PackedDecoder(moved.gaze_decoder), graphs=graphs)

    def start(self, num_frames: int, *, room: int) -> FrameGroup:
        """Return the memory for so many frames at once, with room for `room` tokens each."""
        group = FrameGroup(self._decoder, num_rows=num_frames, room=room, **self._memory)
        group.painted = Painted(self._network, num_frames)
        return group

    def room(self, budgets: Sequence[int]) -> int:
        """Return how many tokens a frame comes to with the largest of these budgets."""
        return CELLS + max(budgets, default=0) + self.config.decoder.num_multi_token_pred

    @torch.inference_mode()
    def look(
        self,
        frames_N3SS: Tensor,
        canvas_N3SS: Tensor,
        *,
        budgets: Sequence[int],
        loss_threshold: float | None,
        group: FrameGroup | None = None,
    ) -> list[FrameGaze]:
        """Gaze at frames, in the calling thread and as one group.

        Args:
            frames_N3SS: uint8, on the engine's device.
            canvas_N3SS: uint8, what each canvas holds before its frame.
            budgets: slots of each frame, dropped ones included, 1..265.
            loss_threshold: end a frame once a predicted loss is at or below it (in float32).
            group: memory for just so many frames of one size, from `start`; made for the call if `None`.

        Returns:
            One result for each frame.
        """
        room = self.room(budgets)
        group = self.start(len(frames_N3SS), room=room) if group is None else group
        group.clear()
        if group.cache.reserve(room):
            group.recorder.forget()
        if group.frames_N3SS is None or group.canvas_N3SS is None:
            group.frames_N3SS = torch.empty_like(frames_N3SS, memory_format=torch.contiguous_format)
            group.canvas_N3SS = torch.empty_like(group.frames_N3SS)
        group.frames_N3SS.copy_(frames_N3SS)
        group.canvas_N3SS.copy_(canvas_N3SS)
        # now: a copy waits for what is queued
        budgets_N = torch.tensor(budgets, device=self.device)
        extent = group.cache.extent(CELLS)
        with exact_convolutions(self.device):
            group.look = group.recorder.run("look", partial(self._open, group, extent))
        group.cache.bound += CELLS
        group.taking.begin(budgets_N)
        return self._steps(group, budgets, loss_threshold)

    def _open(self, group: FrameGroup, extent: int) -> Look:
        """Look at the frames and feed their cells."""
        assert group.frames_N3SS is not None
        assert group.canvas_N3SS is not None
        look = self._network.look(group.frames_N3SS, group.canvas_N3SS)
        group.painted.begin(look)
        cells_C = torch.arange(CELLS, device=self.device)
        heads_N = self._decoder.feed(
            group.cache,
            look.cells_NCD,
            cells_C.expand(group.num_rows, -1),
            torch.full((group.num_rows,), CELLS - 1, device=self.device),
            extent=extent,
        )
        group.heads_B.copy_(heads_N)
        group.cache.lengths_B += CELLS
        return look

    def _choose(self, group: Group) -> tuple[Tensor, Tensor]:
        """Take the best id of each slot that no slot before it has taken, and read the loss before it.

        The loss before a frame's first slot is known. A last step may run out of ids; what it then repeats is
        beyond every budget.
        """
        assert isinstance(group, FrameGroup)
        logits_NKV, corrections_NK = self._decoder.split_heads(group.heads_B)
        ids = []
        for logits_NV in logits_NKV.unbind(1):
            id_N1 = self._pick(logits_NV[:, :TILE_TOKENS] + group.painted.appeal_NI)
            group.painted.add(id_N1)
            ids.append(id_N1)
        ids_NK = torch.cat(ids, dim=1)
        corrections_NK = corrections_NK + self._network.loss_bias.float()
        corrections_NK.masked_fill_(group.taking.slots_K == 0, 0)
        return ids_NK, group.painted.show(ids_NK) + corrections_NK

    def _pick(self, scores_NI: Tensor) -> Tensor:
        """Return one choice of each frame, N x 1."""
        return scores_NI.argmax(dim=-1, keepdim=True)

    def _embed(self, group: Group, ids_BK: Tensor) -> Tensor:
        """Say which tokens were chosen and what they show."""
        assert isinstance(group, FrameGroup)
        return self._network.embed(group.look, ids_BK)
