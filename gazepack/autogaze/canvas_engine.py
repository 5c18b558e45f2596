"""Gazing with a canvas network, fast: many frames at once, each with the result it would get alone.

Frames go through their steps at their own pace; a frame that has ended waits, its idle results neither
kept nor looked at. As in `engine`, a group on the CPU is one frame, which makes ids and losses equal to
the bit in every batch; on an accelerator they agree with a batch of one up to rounding.

    legend   N frames  S side in pixels  D width  K tokens at once  V vocabulary (266)
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gazepack.autogaze.cache import KeyValueCache
from gazepack.autogaze.canvas import CanvasNetwork, Look
from gazepack.autogaze.config import CELLS, END, VOCABULARY
from gazepack.autogaze.engine import FrameGaze
from gazepack.autogaze.packed import PackedDecoder
from gazepack.geometry import TILE_TOKENS


class CanvasEngine:
    """Decodes groups of frames.

    Args:
        network: where the weights come from; later changes to it are not seen.
        device: where to compute.
        dtype: of weights and activations; logits, losses and their readings are float32.
    """

    def __init__(self, network: CanvasNetwork, *, device: torch.device, dtype: torch.dtype) -> None:
        self.config = network.config
        self.device = device
        moved = copy.deepcopy(network).to(device).requires_grad_(False).eval()
        for weight in moved.parameters():  # not the buffers, which are geometry
            weight.data = weight.data.to(dtype)
        self._network = moved
        self._decoder = PackedDecoder(moved.gaze_decoder)
        self._dtype = dtype

    @torch.inference_mode()
    def look(
        self,
        frames_N3SS: Tensor,
        canvas_N3SS: Tensor,
        *,
        budgets: Sequence[int],
        loss_threshold: float | None,
    ) -> list[FrameGaze]:
        """Gaze at frames, in the calling thread and as one group.

        Args:
            frames_N3SS: uint8, on the engine's device.
            canvas_N3SS: uint8, what each canvas holds before its frame.
            budgets: slots of each frame, dropped ones included, 1..265.
            loss_threshold: end a frame once a predicted loss is at or below it (in float32).

        Returns:
            One result for each frame.
        """
        num, num_at_once = len(frames_N3SS), self.config.decoder.num_multi_token_pred
        look = self._network.look(frames_N3SS, canvas_N3SS)
        cache = KeyValueCache(
            self.config.decoder,
            num_rows=num,
            room=CELLS + max(budgets) + num_at_once,
            device=self.device,
            dtype=self._dtype,
        )
        taken_NV = torch.zeros(num, VOCABULARY, dtype=torch.bool, device=self.device)
        frames = [FrameGaze(ids=[], loss=[]) for _ in range(num)]
        is_open_N = np.ones(num, dtype=bool)
        heads_N = self._feed(cache, look.cells_NCD)
        for start in range(0, max(budgets), num_at_once):
            ids_NK, losses_NK = self._choose(look, heads_N, taken_NV)
            host_ids_NK, host_losses_NK = ids_NK.cpu().numpy(), losses_NK.cpu().numpy()
            for n in np.flatnonzero(is_open_N).tolist():
                num_slots = min(num_at_once, budgets[n] - start)
                kept = np.ones(num_slots, dtype=bool)
                if loss_threshold is not None:
                    kept = host_losses_NK[n, :num_slots] > np.float32(loss_threshold)
                    kept[0] |= start == 0
                frames[n].ids.extend(host_ids_NK[n, :num_slots][kept].tolist())
                frames[n].loss.extend(host_losses_NK[n, :num_slots][kept].tolist())
                is_open_N[n] = bool(kept.all()) and start + num_slots < budgets[n]
            if not is_open_N.any():
                break
            heads_N = self._feed(cache, self._network.embed(look, ids_NK))
        return frames

    def _feed(self, cache: KeyValueCache, x_NJD: Tensor) -> Tensor:
        """Feed J tokens to every row; return the heads at the last."""
        num, num_new = x_NJD.shape[:2]
        first = int(cache.lengths_B[0])
        positions_NJ = torch.arange(first, first + num_new, device=self.device).expand(num, -1)
        last_N = torch.full((num,), num_new - 1, device=self.device)
        heads_N = self._decoder.feed(cache, x_NJD, positions_NJ, last_N)
        cache.lengths_B += num_new
        return heads_N

    def _choose(self, look: Look, heads_N: Tensor, taken_NV: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ids of a step's slots, each the best not taken, and the loss before each.

        A last step may run out of ids; what it then repeats is beyond every budget.
        """
        logits_NKV, corrections_NK = self._decoder.split_heads(heads_N)
        corrections_NK = corrections_NK + self._network.loss_bias.float()
        ids, losses = [], []
        for slot in range(logits_NKV.shape[1]):
            losses.append(self._network.loss_shown(look, taken_NV) + corrections_NK[:, slot])
            scores_NI = logits_NKV[:, slot, :TILE_TOKENS] + self._network.appeal(look, taken_NV)
            id_N1 = self._pick(scores_NI.masked_fill(taken_NV[:, :END], -torch.inf))
            taken_NV.scatter_(1, id_N1, True)
            ids.append(id_N1)
        return torch.cat(ids, dim=1), torch.stack(losses, dim=1)

    def _pick(self, scores_NI: Tensor) -> Tensor:
        """Return one choice of each frame, N x 1."""
        return scores_NI.argmax(dim=-1, keepdim=True)
