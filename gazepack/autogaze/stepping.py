"""The loop of both engines: choose a step's slots, take them by the rules, feed them, and again.

Rows of a group go through a frame together. Nothing in the loop depends on what the device found, but for one
question: with a threshold, frames may end before their budgets, so every few steps the host asks whether
any row goes on. On the CPU asking is free and is done at every step.

    legend   B rows  K tokens at once  D width  V vocabulary (266)
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor

from gazepack.autogaze.cache import ACCELERATOR_STRIDE, KeyValueCache
from gazepack.autogaze.config import CELLS, INPUT_SIDE, AutoGazeConfig
from gazepack.autogaze.packed import PackedDecoder
from gazepack.autogaze.recording import Recorder
from gazepack.autogaze.taking import FrameGaze, Taking

STEPS_BETWEEN_QUESTIONS = 4
"""After so many steps an accelerator is asked whether any row goes on."""


class _Memory(TypedDict):
    stride: int
    graphs: bool


class Group:
    """Rows that go through a device together, and the memory that stays in its place for them.

    Args:
        decoder: what they are decoded with.
        num_rows: how many.
        room: tokens to make room for in each.
        stride: tokens are looked at in multiples of this.
        graphs: record the work where that can be done.
    """

    def __init__(
        self, decoder: PackedDecoder, *, num_rows: int, room: int, stride: int, graphs: bool
    ) -> None:
        config, device = decoder.config, decoder.device
        self.num_rows = num_rows
        self.cache = KeyValueCache(
            config,
            num_rows=num_rows,
            room=room,
            device=device,
            dtype=decoder.dtype,
            stride=stride,
        )
        self.taking = Taking(num_rows, config.num_multi_token_pred, device=device)
        self.recorder = Recorder(device, is_on=graphs and device.type == "cuda")
        self.heads_B: Tensor = decoder.no_heads(num_rows)
        """What the network says behind the last token of each row."""
        self.frozen_B: Tensor | None = None
        """Where every later step of a frame is placed; where it comes to lie if `None`."""

    def clear(self) -> None:
        """Make it as new."""
        self.cache.clear()
        self.taking.clear()


class Stepper(ABC):
    """An engine's steps; how slots are scored and tokens embedded is the engine's own.

    Args:
        config: of the network.
        decoder: its weights.
        graphs: record work on CUDA.
    """

    def __init__(self, config: AutoGazeConfig, decoder: PackedDecoder, *, graphs: bool) -> None:
        self.config = config
        self.device: torch.device = decoder.device
        self.dtype: torch.dtype = decoder.dtype
        self._decoder = decoder
        self._graphs = graphs

    @property
    def is_accelerator(self) -> bool:
        """Whether rows go together, in shapes that follow from little, and questions are dear."""
        return self.device.type != "cpu"

    @property
    def _memory(self) -> "_Memory":
        """How the memory of a group is laid out."""
        return {"stride": ACCELERATOR_STRIDE if self.is_accelerator else 1, "graphs": self._graphs}

    def bytes_per_row(self, room: int) -> int:
        """Return what a row of a group takes, about: keys, values, its pixels, and one layer's scores."""
        shape = self.config.decoder
        queries = CELLS + shape.num_multi_token_pred
        values = 2 * shape.num_hidden_layers * shape.hidden_size * room
        values += 2 * shape.num_attention_heads * queries * room
        values += 6 * 4 * INPUT_SIDE * INPUT_SIDE
        return values * self.dtype.itemsize

    @abstractmethod
    def _choose(self, group: Group) -> tuple[Tensor, Tensor]:
        """Return the ids of a step's slots, each the best not taken, and their losses, B x K each."""

    @abstractmethod
    def _embed(self, group: Group, ids_BK: Tensor) -> Tensor:
        """Return what the decoder is fed for chosen ids, B x K x D."""

    def _steps(
        self, group: Group, budgets: Sequence[int], loss_threshold: float | None
    ) -> list[FrameGaze]:
        """Go through the steps of a frame whose cells were fed and whose `taking` has begun."""
        num_at_once = self.config.decoder.num_multi_token_pred
        num_steps = -(-max(budgets) // num_at_once)
        patience = STEPS_BETWEEN_QUESTIONS if self.is_accelerator else 1
        offer = partial(self._offer, group, loss_threshold)
        for step in range(1, num_steps + 1):
            group.taking.note(*group.recorder.run(("offer", loss_threshold), offer))
            may_end = loss_threshold is not None and step % patience == 0
            if step == num_steps or (may_end and not group.taking.is_open_B.any()):
                break
            extent = group.cache.extent(num_at_once)
            group.recorder.run(("feed", extent), partial(self._feed, group, extent))
            group.cache.bound += num_at_once
        return group.taking.rows()

    def _offer(self, group: Group, loss_threshold: float | None) -> tuple[Tensor, Tensor, Tensor]:
        """Choose one step's slots and take them; return ids, losses and which were kept."""
        ids_BK, losses_BK = self._choose(group)
        kept_BK = group.taking.offer(ids_BK, losses_BK, loss_threshold=loss_threshold)
        return ids_BK, losses_BK, kept_BK

    def _feed(self, group: Group, extent: int) -> None:
        """Feed what was kept to every row; only the tokens of open rows, which kept all K, come to stay."""
        cache, taking = group.cache, group.taking
        num_new = self.config.decoder.num_multi_token_pred
        first_B = cache.lengths_B if group.frozen_B is None else group.frozen_B
        heads_B = self._decoder.feed(
            cache,
            self._embed(group, taking.unfed_BK),
            first_B[:, None] + torch.arange(num_new, device=self.device),
            torch.full((group.num_rows,), num_new - 1, device=self.device),
            extent=extent,
        )
        group.heads_B.copy_(heads_B)
        cache.lengths_B += num_new * taking.is_open_B
