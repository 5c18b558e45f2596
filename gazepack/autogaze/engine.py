"""Gazing at many clips at once with a network that remembers tokens; every row gets what it would get alone.

What makes it faster than `reference`: the layout of `packed`, keys and values preallocated, and no question
to the device but one at the end of a frame (`stepping`), so that on CUDA a frame is a handful of recorded
launches. Rows of a group go through a frame together and through its steps at their own pace: a row that has
finished waits, its idle results neither kept nor looked at.

Which rows share a group decides the shapes of the matrix products, and those decide the last bit of
a float. On the CPU a group is therefore one row, which costs nothing there (the products are large
enough alone) and makes ids and losses equal to the bit in every batch. Larger groups are for
accelerators, which are idle with one row; there rows agree with their batch of one up to rounding.

    legend   B rows of a group  C cells of a frame (196)  N tokens now  D width  K tokens at once
             I choices (265)
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from gazepack.autogaze.config import CELLS, END
from gazepack.autogaze.network import AutoGazeNetwork
from gazepack.autogaze.packed import PackedDecoder, PackedEncoder, pack
from gazepack.autogaze.rounding import exact_convolutions
from gazepack.autogaze.stepping import Group, Stepper
from gazepack.autogaze.taking import FrameGaze


class ClipGroup(Group):
    """What a group of clips carries from frame to frame."""

    def __init__(
        self,
        encoder: PackedEncoder,
        decoder: PackedDecoder,
        *,
        num_rows: int,
        room: int,
        stride: int,
        graphs: bool,
        is_published: bool,
    ) -> None:
        super().__init__(decoder, num_rows=num_rows, room=room, stride=stride, graphs=graphs)
        self.past_features: list[Tensor] = encoder.start(num_rows)
        """What the encoder needs of the frames before."""
        self.frame_B3HW: Tensor = encoder.no_frame(num_rows)
        self.taken_BI: Tensor = torch.empty(
            (num_rows, END), dtype=torch.bool, device=decoder.device
        )
        """Which ids were chosen in the frame at hand."""
        if is_published:
            self.frozen_B: Tensor = torch.zeros_like(self.cache.lengths_B)
        self.num_frames: int = 0

    def clear(self) -> None:
        """Make it as before the first frame."""
        super().clear()
        for features in self.past_features:
            features.zero_()
        self.num_frames = 0


class Engine(Stepper):
    """Decodes a group of clips frame by frame.

    Args:
        network: where the weights come from; later changes to it are not seen.
        device: where to compute.
        dtype: of weights and activations; float32 for the recorded results.
        graphs: record the work on CUDA.
    """

    def __init__(
        self,
        network: AutoGazeNetwork,
        *,
        device: torch.device,
        dtype: torch.dtype,
        graphs: bool = True,
    ) -> None:
        self._encoder, decoder = pack(network, device=device, dtype=dtype)
        super().__init__(network.config, decoder, graphs=graphs)

    def start(self, num_rows: int, *, room: int) -> ClipGroup:
        """Return the state of clips before their first frame, with room for `room` tokens each."""
        return ClipGroup(
            self._encoder,
            self._decoder,
            num_rows=num_rows,
            room=room,
            is_published=self.config.decode_positions == "published",
            **self._memory,
        )

    def room(self, budgets: Sequence[int]) -> int:
        """Return how many tokens a clip comes to with these budgets of its frames."""
        return sum(budgets) + len(budgets) * CELLS + 2 * self.config.decoder.num_multi_token_pred

    @torch.inference_mode()
    def frame(
        self,
        group: ClipGroup,
        frame_B3HW: Tensor,
        *,
        budgets: Sequence[int],
        loss_threshold: float | None,
    ) -> list[FrameGaze]:
        """Gaze at the next frame of every row, and advance `group`.

        Args:
            group: of the rows, changed in place.
            frame_B3HW: normalised, on the engine's device.
            budgets: slots of each row's frame, dropped ones included, 1..265.
            loss_threshold: end a row's frame once a predicted loss is at or below it (in float32).

        Returns:
            One result per row.
        """
        cache, num_at_once = group.cache, self.config.decoder.num_multi_token_pred
        num_unfed = num_at_once
        if not self.is_accelerator:  # it can be asked, and need not work on padding
            num_unfed = int(group.taking.num_unfed_B.max())
        if cache.reserve(cache.bound + num_unfed + CELLS + max(budgets) + 2 * num_at_once):
            group.recorder.forget()
        # now: a copy waits for what is queued
        budgets_B = torch.tensor(budgets, device=self.device)
        extent = cache.extent(num_unfed + CELLS)
        group.frame_B3HW.copy_(frame_B3HW)
        with exact_convolutions(self.device):
            group.recorder.run(("frame", extent), partial(self._open, group, num_unfed, extent))
        cache.bound += num_unfed + CELLS
        group.taking.begin(budgets_B)
        rows = self._steps(group, budgets, loss_threshold)
        cache.bound = int(cache.lengths_B.max())
        group.num_frames += 1
        return rows

    def _open(self, group: ClipGroup, num_unfed: int, extent: int) -> None:
        """Feed each row's left-over tokens and its cells; rows with fewer than others are padded behind."""
        cache, taking = group.cache, group.taking
        cells_BCD, features = self._encoder.frame(group.frame_B3HW, group.past_features)
        for kept, new in zip(group.past_features, features, strict=True):
            kept.copy_(new)
        unfed_BND = functional.embedding(taking.unfed_BK[:, :num_unfed], self._decoder.embedding_VD)
        both_BND = torch.cat((unfed_BND, cells_BCD), dim=1)
        counts_B1 = taking.num_unfed_B[:, None]
        # a row's tokens, then its cells, then the last cell again where other rows are longer
        at_N = torch.arange(num_unfed + CELLS, device=self.device)
        order_BN = torch.where(at_N < counts_B1, at_N, at_N + num_unfed - counts_B1)
        order_BN = order_BN.clamp_(max=num_unfed + CELLS - 1)
        heads_B = self._decoder.feed(
            cache,
            both_BND.gather(1, order_BN[..., None].expand_as(both_BND)),
            cache.lengths_B[:, None] + at_N,
            taking.num_unfed_B + CELLS - 1,
            extent=extent,
        )
        group.heads_B.copy_(heads_B)
        group.taken_BI.fill_(False)
        cache.lengths_B += taking.num_unfed_B + CELLS
        if group.frozen_B is not None:
            group.frozen_B.copy_(cache.lengths_B - self.config.decoder.num_multi_token_pred)

    def _choose(self, group: Group) -> tuple[Tensor, Tensor]:
        """Take the best id of each slot that no slot before it has taken; never the end."""
        assert isinstance(group, ClipGroup)
        logits_BKV, losses_BK = self._decoder.split_heads(group.heads_B)
        taken_BI = group.taken_BI
        ids = []
        for logits_BI in logits_BKV[..., :END].unbind(1):
            ids_B1 = logits_BI.masked_fill(taken_BI, -torch.inf).argmax(dim=-1, keepdim=True)
            taken_BI.scatter_(1, ids_B1, True)
            ids.append(ids_B1)
        return torch.cat(ids, dim=1), losses_BK

    def _embed(self, group: Group, ids_BK: Tensor) -> Tensor:  # noqa: ARG002 (a token is its id)
        """Look the ids up."""
        return functional.embedding(ids_BK, self._decoder.embedding_VD)
