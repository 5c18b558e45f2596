"""Keys and values of a group of clips that advance at different speeds.

One preallocated block per layer; each row writes behind its own end. What is written behind a row's
end and not counted (padding of a shorter row, a row that waits for the others) is overwritten later
and never looked at. How long each row is stays on the device; the host only keeps a bound, so that it
never has to ask. It gives up memory: a clip of 16 frames at ratio 0.1 keeps 23 MB in float32, twice that
at ratio 1.

    legend   B rows  A attention heads  M room for tokens  E numbers in a head  N tokens written now
"""

import torch
from torch import Tensor

from gazepack.autogaze.config import CELLS, DecoderConfig

ACCELERATOR_STRIDE = 256
"""An accelerator looks at a multiple of so many tokens: few shapes to record, and aligned."""


class KeyValueCache:
    """What a group of rows has seen.

    Args:
        config: the decoder's shape.
        num_rows: rows of the group.
        room: tokens to make room for at once; the cache grows when they are not enough.
        device: where it lives.
        dtype: of keys and values.
        stride: tokens are looked at in multiples of this.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        num_rows: int,
        room: int,
        device: torch.device,
        dtype: torch.dtype,
        stride: int = 1,
    ) -> None:
        self._stride = stride
        self._blocks_BAME = [
            torch.zeros(
                (num_rows, config.num_attention_heads, self._round(room), config.head_size),
                device=device,
                dtype=dtype,
            )
            for _ in range(2 * config.num_hidden_layers)
        ]
        self._rows_B1 = torch.arange(num_rows, device=device)[:, None]
        self.lengths_B: Tensor = torch.zeros(num_rows, dtype=torch.int64, device=device)
        """Tokens seen by each row; also the position of its next token."""
        self.bound: int = 0
        """No row has seen more."""
        self._most_new = CELLS + config.num_multi_token_pred
        self._mask_alone: Tensor | None = None

    @property
    def room(self) -> int:
        """Tokens a row can hold before the cache grows."""
        return self._blocks_BAME[0].shape[2]

    def clear(self) -> None:
        """Forget everything, keeping the room."""
        self.lengths_B.zero_()
        self.bound = 0

    def reserve(self, room: int) -> bool:
        """Make room for at least `room` tokens a row, keeping what is there; return whether it moved."""
        if room <= self.room:
            return False
        for number, old_BAME in enumerate(self._blocks_BAME):
            B, A, M, E = old_BAME.shape
            new_BAME = old_BAME.new_zeros((B, A, self._round(max(room, 2 * M)), E))
            new_BAME[:, :, :M] = old_BAME
            self._blocks_BAME[number] = new_BAME
        self._mask_alone = None
        return True

    @property
    def is_alone(self) -> bool:
        """Whether it is one row of which just what it has seen is looked at: the host knows its end."""
        return self._stride == 1 and len(self._rows_B1) == 1

    def write_alone(self, layer: int, first: int, keys_NAE: Tensor, values_NAE: Tensor) -> None:
        """Write a layer's keys and values of tokens from `first` on, of the only row."""
        at = slice(first, first + len(keys_NAE))
        keys_BAME, values_BAME = self._blocks_BAME[2 * layer : 2 * layer + 2]
        keys_BAME[0, :, at] = keys_NAE.transpose(0, 1)
        values_BAME[0, :, at] = values_NAE.transpose(0, 1)

    def seen_alone(self, layer: int, extent: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values of the only row up to `extent`, A x M x E each."""
        keys_BAME, values_BAME = self._blocks_BAME[2 * layer : 2 * layer + 2]
        return keys_BAME[0, :, :extent], values_BAME[0, :, :extent]

    def mask_alone(self, num_new: int, extent: int) -> Tensor:
        """Return what is added to scores, N x M, for the last N of the M tokens that the only row has seen.

        It is a view: every such mask is a part of one with a staircase behind enough zeros.
        """
        room = self.room
        if self._mask_alone is None:
            block = self._blocks_BAME[0]
            self._mask_alone = block.new_zeros((self._most_new, room + self._most_new))
            self._mask_alone[:, room:] = block.new_full((self._most_new,) * 2, -torch.inf).triu(1)
        first = room - (extent - num_new)
        return self._mask_alone[:num_new, first : first + extent]

    def extent(self, num_new: int) -> int:
        """Return how many tokens must be looked at once `num_new` are written to each row."""
        return self._round(self.bound + num_new)

    def write(
        self, layer: int, slots_BN: Tensor, extent: int, keys_BNAE: Tensor, values_BNAE: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values; return all up to `extent`, B x A x M x E each."""
        keys_BAME, values_BAME = self._blocks_BAME[2 * layer : 2 * layer + 2]
        keys_BAME[self._rows_B1, :, slots_BN] = keys_BNAE
        values_BAME[self._rows_B1, :, slots_BN] = values_BNAE
        return keys_BAME[:, :, :extent], values_BAME[:, :, :extent]

    def _round(self, tokens: int) -> int:
        return -(-tokens // self._stride) * self._stride
