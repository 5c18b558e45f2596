"""Gazing at many clips at once, fast; every row gets the result it would get alone.

What makes it faster than `reference`: the layout of `packed`, keys and values preallocated, one
exchange with the host a step. Rows of a group go through a frame together and through its steps at
their own pace: a row that has finished waits, its idle results neither kept nor looked at.

Which rows share a group decides the shapes of the matrix products, and those decide the last bit of
a float. On the CPU a group is therefore one row, which costs nothing there (the products are large
enough alone) and makes ids and losses equal to the bit in every batch. Larger groups are for
accelerators, which are idle with one row; there rows agree with their batch of one up to rounding.

    legend   B rows of a group  C cells of a frame (196)  N tokens now  D width
             K tokens at once  V vocabulary (266)
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gazepack.autogaze.cache import KeyValueCache
from gazepack.autogaze.config import CELLS, END, VOCABULARY
from gazepack.autogaze.network import AutoGazeNetwork
from gazepack.autogaze.packed import pack


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameGaze:
    """What one row chose in one frame."""

    ids: list[int]
    """Kept tile ids, 0..264, in gaze order."""
    loss: list[float]
    """The predicted loss before each was added."""


@dataclass(slots=True, kw_only=True)
class GroupState:
    """What a group of rows carries from frame to frame."""

    cache: KeyValueCache
    past_features: list[Tensor]
    """What the encoder needs of the frames before."""
    unfed: list[list[int]]
    """Per row, kept tokens of the frame before that were never fed."""
    num_frames: int = 0


@dataclass(slots=True, kw_only=True)
class _OpenFrame:
    """The bookkeeping of one frame for a group, on the host."""

    budget: int
    loss_threshold: float | None
    rows: list[FrameGaze]
    unfed: list[list[int]]
    open_rows: list[int]
    """Rows that go on gazing at this frame."""
    num_slots: int = field(default=0)
    """Slots used so far; equal for all rows that go on."""

    def take(self, ids_BK: npt.NDArray[np.int64], losses_BK: npt.NDArray[np.float32]) -> None:
        """Keep or drop the slots of one step, and close the rows whose frame ends with it."""
        still_open = []
        for row in self.open_rows:
            kept = np.ones(ids_BK.shape[1], dtype=bool)
            if self.loss_threshold is not None:
                kept = losses_BK[row] > np.float32(self.loss_threshold)
                kept[0] |= self.num_slots == 0
            self.unfed[row] = ids_BK[row][kept].tolist()
            self.rows[row].ids.extend(self.unfed[row])
            self.rows[row].loss.extend(losses_BK[row][kept].tolist())
            if kept.all():
                still_open.append(row)
        self.num_slots += ids_BK.shape[1]
        self.open_rows = still_open if self.num_slots < self.budget else []


class Engine:
    """Decodes a group of clips frame by frame.

    Args:
        network: where the weights come from; later changes to it are not seen.
        device: where to compute.
        dtype: of weights and activations; float32 for the recorded results.
    """

    def __init__(
        self, network: AutoGazeNetwork, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.config = network.config
        self.device = device
        self.dtype = dtype
        self._encoder, self._decoder = pack(network, device=device, dtype=dtype)

    def start(self, num_rows: int, *, room: int) -> GroupState:
        """Return the state of clips before their first frame, with room for `room` tokens each."""
        cache = KeyValueCache(
            self.config.decoder,
            num_rows=num_rows,
            room=room,
            device=self.device,
            dtype=self.dtype,
        )
        return GroupState(
            cache=cache,
            past_features=self._encoder.start(num_rows),
            unfed=[[] for _ in range(num_rows)],
        )

    @torch.inference_mode()
    def frame(
        self,
        state: GroupState,
        frame_B3HW: Tensor,
        *,
        budget: int,
        loss_threshold: float | None,
    ) -> list[FrameGaze]:
        """Gaze at the next frame of every row, and advance `state`.

        Args:
            state: of the rows, changed in place.
            frame_B3HW: normalised, on the engine's device.
            budget: slots of this frame, dropped ones included, 1..265.
            loss_threshold: end a row's frame once a predicted loss is at or below it (in float32).

        Returns:
            One result per row.
        """
        num_rows, num_at_once = len(frame_B3HW), self.config.decoder.num_multi_token_pred
        state.cache.reserve(int(state.cache.lengths_B.max()) + CELLS + budget + 2 * num_at_once)
        cells_BCD, state.past_features = self._encoder.frame(frame_B3HW, state.past_features)
        heads_B = self._feed_frame(state, cells_BCD)
        frozen_B = state.cache.lengths_B - num_at_once
        frame = _OpenFrame(
            budget=budget,
            loss_threshold=loss_threshold,
            rows=[FrameGaze(ids=[], loss=[]) for _ in range(num_rows)],
            unfed=state.unfed,
            open_rows=list(range(num_rows)),
        )
        taken_BV = torch.zeros(num_rows, VOCABULARY, dtype=torch.bool, device=self.device)
        taken_BV[:, END] = True
        while True:
            num_slots = min(num_at_once, budget - frame.num_slots)
            ids_BK, losses_BK = self._choose(heads_B, taken_BV, num_slots)
            frame.take(ids_BK.cpu().numpy(), losses_BK.cpu().numpy())
            if not frame.open_rows:
                break
            heads_B = self._feed_step(state, ids_BK, frozen_B, frame.open_rows)
        state.num_frames += 1
        return frame.rows

    def _feed_frame(self, state: GroupState, cells_BCD: Tensor) -> Tensor:
        """Feed each row's left-over tokens and its cells; rows with fewer are padded behind."""
        cache, num_rows = state.cache, len(cells_BCD)
        counts_B = np.array([len(ids) for ids in state.unfed])
        width = int(counts_B.max())
        ids_BN = np.array([ids + [END] * (width - len(ids)) for ids in state.unfed], dtype=np.int64)
        tokens_BND = functional.embedding(self._to_device(ids_BN), self._decoder.embedding_VD)
        # a row's tokens, then its cells, then cells again where other rows are longer
        order_BN = np.arange(width + CELLS) + np.zeros((num_rows, 1), dtype=np.int64)
        order_BN += np.where(order_BN >= counts_B[:, None], width - counts_B[:, None], 0)
        order_BN = np.minimum(order_BN, width + CELLS - 1)
        rows_B1 = torch.arange(num_rows, device=self.device)[:, None]
        x_BND = torch.cat((tokens_BND, cells_BCD), dim=1)[rows_B1, self._to_device(order_BN)]
        heads_B = self._decoder.feed(
            cache,
            x_BND,
            self._to_device(cache.lengths_B[:, None] + np.arange(width + CELLS)),
            self._to_device(counts_B + CELLS - 1),
        )
        cache.lengths_B += counts_B + CELLS
        return heads_B

    def _feed_step(
        self,
        state: GroupState,
        ids_BK: Tensor,
        frozen_B: npt.NDArray[np.int64],
        open_rows: list[int],
    ) -> Tensor:
        """Feed a step's K tokens to every row; only those of open rows stay in the cache."""
        num_rows, num_new = ids_BK.shape
        is_published = self.config.decode_positions == "published"
        first_B = frozen_B if is_published else state.cache.lengths_B
        heads_B = self._decoder.feed(
            state.cache,
            functional.embedding(ids_BK, self._decoder.embedding_VD),
            self._to_device(first_B[:, None] + np.arange(num_new)),
            torch.full((num_rows,), num_new - 1, device=self.device),
        )
        state.cache.lengths_B[open_rows] += num_new
        return heads_B

    def _choose(self, heads_B: Tensor, taken_BV: Tensor, num_slots: int) -> tuple[Tensor, Tensor]:
        """Return the ids of a step's slots, each the best not taken, and their predicted losses."""
        logits_BKV, losses_BK = self._decoder.split_heads(heads_B)
        ids = []
        for slot in range(num_slots):
            ids_B1 = logits_BKV[:, slot].masked_fill(taken_BV, -np.inf).argmax(dim=-1, keepdim=True)
            taken_BV.scatter_(1, ids_B1, True)
            ids.append(ids_B1)
        return torch.cat(ids, dim=1), losses_BK[:, :num_slots]

    def _to_device(self, values: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(self.device)
