"""The decoder as it would be explained: one clip, one frame after the other, no speed.

The slow twin of `engine`: what is here is right when it reads like the method's description and gives
the recorded outputs of the published code; the engine is right when it gives the same as this. A gaze that
is known can also be scored in one pass over the clip (`score`), which decodes nothing.

    legend   B clips  T frames  C cells of a frame (196)  N tokens now  M tokens seen  D width
             K tokens at once  V vocabulary (266)
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from gazepack.autogaze.config import CELLS, END
from gazepack.autogaze.network import AutoGazeNetwork, KeyValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a network says about a gaze it is given, token by token.

    Entries of empty slots (id 265) carry no meaning.
    """

    logits: Tensor
    """B x T x N x V: scores each given token would have been chosen by, nothing masked out."""
    loss_before: Tensor
    """B x T x N: predicted loss before each token was added (what a loss threshold looks at)."""
    loss_after: Tensor
    """B x T x N: predicted loss after it was added (the published `task_loss_prediction`)."""


@dataclass(slots=True, kw_only=True)
class ReferenceDecoder:
    """Decodes one clip frame by frame, carrying what it has seen."""

    network: AutoGazeNetwork
    past: list[KeyValue] | None = None
    """Keys and values of every token fed so far."""
    num_seen: int = 0
    unfed: list[int] = field(default_factory=list)
    """Kept tokens of the frame before that were never fed."""

    @torch.inference_mode()
    def frame(
        self, cells_CD: Tensor, *, budget: int, loss_threshold: float | None
    ) -> tuple[list[int], list[float]]:
        """Gaze at the next frame.

        Args:
            cells_CD: its vision tokens.
            budget: slots of this frame, dropped ones included.
            loss_threshold: end the frame once a predicted loss is at or below it.

        Returns:
            The kept tile ids in gaze order, and the predicted loss before each was added.
        """
        config = self.network.config
        num_at_once = config.decoder.num_multi_token_pred
        # 1. what the frame before left over, then this frame's cells
        hidden_D = self._feed(torch.cat((self._embed(self.unfed), cells_CD)), self.num_seen)
        frozen_position = self.num_seen - num_at_once
        chosen: list[int] = []
        losses: list[float] = []
        num_slots = 0
        while True:
            # 2. one step: up to K slots from the last position
            logits_KV, loss_K = (part.float() for part in self.network.gaze_decoder.heads(hidden_D))
            step: list[int] = []
            kept: list[int] = []
            for slot in range(min(num_at_once, budget - num_slots)):
                logits_KV[slot, [END, *chosen, *step]] = -torch.inf
                step.append(int(logits_KV[slot].argmax()))
                is_first = num_slots == 0 and slot == 0
                if loss_threshold is None or is_first or bool(loss_K[slot] > loss_threshold):
                    kept.append(step[-1])
                    losses.append(float(loss_K[slot]))
            chosen += kept
            num_slots += len(step)
            # 3. the frame ends at a drop or at its budget; its last step is fed with the next frame
            if len(kept) < len(step) or num_slots == budget:
                self.unfed = kept
                return chosen, losses
            position = frozen_position if config.decode_positions == "published" else self.num_seen
            hidden_D = self._feed(self._embed(kept), position)

    def _embed(self, ids: list[int]) -> Tensor:
        embedding = self.network.gaze_decoder.model.embed_tokens.weight
        return embedding[torch.tensor(ids, dtype=torch.int64)]

    def _feed(self, x_ND: Tensor, first_position: int) -> Tensor:
        """Feed tokens at consecutive positions; return the hidden state of the last, D."""
        num_new, num_seen = len(x_ND), self.num_seen
        positions_1N = torch.arange(first_position, first_position + num_new)[None]
        mask_NM = torch.ones(num_new, num_seen + num_new, dtype=torch.bool).tril(num_seen)
        hidden_1ND: Tensor
        hidden_1ND, self.past = self.network.gaze_decoder.model(
            x_ND[None], positions_1N, mask_NM[None, None], self.past
        )
        self.num_seen += num_new
        return hidden_1ND[0, -1]


@torch.inference_mode()
def decode_clip(
    network: AutoGazeNetwork,
    frames_T3HW: Tensor,
    *,
    budgets_T: list[int],
    loss_threshold: float | None,
) -> list[tuple[list[int], list[float]]]:
    """Gaze at one clip of normalised frames; return (tile ids, losses) of each frame."""
    decoder = ReferenceDecoder(network=network)
    cells_TCD = network.cells(frames_T3HW[None])[0]
    assert cells_TCD.shape[1] == CELLS
    return [
        decoder.frame(cells_CD, budget=budget, loss_threshold=loss_threshold)
        for cells_CD, budget in zip(cells_TCD, budgets_T, strict=True)
    ]


def score(network: AutoGazeNetwork, frames_BT3HW: Tensor, ids_BTN: Tensor) -> Scores:
    """Score a gaze that is given, in one pass over the clip, at contiguous positions.

    Args:
        network: which is asked.
        frames_BT3HW: normalised frames, B x T x 3 x 224 x 224.
        ids_BTN: int64 tile ids in gaze order; 265 marks an empty slot, which nothing looks at.
            Slot n of a frame belongs to step n // K, so gaps must stay where they are.

    Returns:
        Scores and predicted losses per slot; differentiable.
    """
    cells_BTCD = network.cells(frames_BT3HW)
    tokens_BTND = network.gaze_decoder.model.embed_tokens(ids_BTN)
    x_BSD = torch.cat((cells_BTCD, tokens_BTND.to(cells_BTCD.dtype)), dim=2).flatten(1, 2)
    valid_BS = functional.pad(ids_BTN != END, (CELLS, 0), value=True).flatten(1)
    hidden_BSD, _ = network.gaze_decoder.model(x_BSD, valid_BS.cumsum(1) - 1, _seen(valid_BS))
    return _read_heads(network, hidden_BSD.unflatten(1, (ids_BTN.shape[1], -1)))


def _read_heads(network: AutoGazeNetwork, hidden_BTSD: Tensor) -> Scores:
    """Take each slot's scores and losses from the position and head that decoding would use."""
    num_at_once = network.config.decoder.num_multi_token_pred
    slots_N = torch.arange(hidden_BTSD.shape[2] - CELLS)
    heads_N = slots_N % num_at_once
    sources_N = CELLS - 1 + slots_N - heads_N
    logits_BTNKV, loss_BTNK = network.gaze_decoder.heads(hidden_BTSD[:, :, sources_N])
    # after a step's last token, the loss is the next step's first, read at that token itself
    next_heads_N = (heads_N + 1) % num_at_once
    next_sources_N = torch.where(next_heads_N == 0, slots_N + CELLS, sources_N)
    _, next_loss_BTNK = network.gaze_decoder.heads(hidden_BTSD[:, :, next_sources_N])
    return Scores(
        logits=logits_BTNKV[:, :, slots_N, heads_N],
        loss_before=loss_BTNK[:, :, slots_N, heads_N],
        loss_after=next_loss_BTNK[:, :, slots_N, next_heads_N],
    )


def _seen(valid_BS: Tensor) -> Tensor:
    """Return the causal mask without empty slots, bool B x 1 x S x S."""
    length = valid_BS.shape[1]
    return torch.ones(length, length, dtype=torch.bool).tril() & valid_BS[:, None, None, :]
