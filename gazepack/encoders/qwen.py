"""Gazed tokens into the vision towers of Qwen2.5-VL and Qwen3-VL: one token of the language model for each.

These towers read patches of 14 or 16 px and merge 2 x 2 of them into one token, so a dataset for them has
patches of a whole merged token, 28 or 32 px. Here a stored patch is cut into its four, which pass the tower's
own patch embedding, blocks and merger. Frames are independent, as the tower takes them, and each is doubled in
time, as a picture is: a frame has tokens of its own, where the tower joins two frames of a dense video. With
all finest patches the features are the tower's own for every frame as a picture.

Places are rotary angles there, which need not be whole: the four parts of a coarse patch stand at their centres
on the finest grid. Qwen3-VL adds a learned position, interpolated by the tower to the grid of each scale, and
gives features of inner layers too (`deepstack`). Blocks of Qwen2.5-VL that look at windows of 112 px take a
coarse patch into the window where its centre lies.

Attention is the tower's own, over the lengths of frames and windows: one call for all where the model is set to
flash attention, a call for each otherwise.

    legend   N  tokens     M  their parts, 4 of each     S  side of a patch of the dataset
             C  width of the tower       D  width of the language model
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gazepack.encoders.attention import run_eagerly
from gazepack.encoders.backbone import Colour
from gazepack.encoders.layout import Layout
from gazepack.errors import UsageError
from gazepack.geometry import SCALE_SIDES, TILE_SIDE
from gazepack.loader import Batch, Normalise

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)
MERGE = 2
"""Parts along one side of a token."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """What a multimodal model has of the tokens of a batch."""

    tokens_ND: Tensor
    """One for each token, in the order of the batch."""
    deepstack: tuple[Tensor, ...]
    """Those of inner layers, N x D each, which Qwen3-VL adds in its first layers; none for Qwen2.5-VL."""


class GazedQwenTower(nn.Module):
    """The vision tower of a Qwen2.5-VL or a Qwen3-VL that takes the loader's batches.

    Args:
        tower: `model.visual` of either, of transformers; it is used, not copied.
        mean: subtracted from colours of 0 to 1; the family's own if None.
        std: they are divided by it then; likewise.

    Raises:
        UsageError: a model of another kind, or one that merges other than 2 x 2 patches of 2 frames.
    """

    def __init__(
        self, tower: Any, *, mean: Colour | None = None, std: Colour | None = None
    ) -> None:
        super().__init__()
        config = getattr(tower, "config", None)
        family = getattr(config, "model_type", type(tower).__name__)
        if config is None or family not in ("qwen2_5_vl_vision", "qwen3_vl_vision"):
            raise UsageError(
                f"{family} is no vision tower of Qwen2.5-VL or Qwen3-VL",
                remedy="give model.visual of one, or take GazedEncoder for other vision transformers",
            )
        if (config.spatial_merge_size, config.temporal_patch_size) != (MERGE, 2):
            raise UsageError(
                f"the tower merges {config.spatial_merge_size} patches a side and "
                f"{config.temporal_patch_size} frames",
                remedy="only towers that merge 2 x 2 patches of 2 frames are taken",
            )
        self.tower = tower
        self._is_qwen3 = family == "qwen3_vl_vision"
        self.mean: Colour = mean or (_HALF if self._is_qwen3 else _CLIP_MEAN)
        self.std: Colour = std or (_HALF if self._is_qwen3 else _CLIP_STD)

    @property
    def patch_size(self) -> int:
        """Side of a patch of the dataset, in pixels: that of a merged token."""
        return MERGE * int(self.tower.config.patch_size)

    def forward(self, batch: Batch) -> Tensor:
        """Return one feature for each token, N x D, in the order of the batch."""
        return self.encode(batch).tokens_ND

    @run_eagerly
    def encode(self, batch: Batch) -> Features:
        """Return the features of tokens, and those of inner layers.

        Raises:
            UsageError: the batch has patches of another size than a merged token.
        """
        if batch.patches.shape[-1] != self.patch_size:
            raise UsageError(
                f"the batch has patches of {batch.patches.shape[-1]} px, a token of the model has "
                f"{self.patch_size} px",
                remedy=f"pack with --patch-size {self.patch_size}, or take another model",
            )
        weight = next(self.tower.parameters())
        normalise = Normalise(mean=self.mean, std=self.std, dtype=weight.dtype)
        batch = batch.to(
            weight.device,
            non_blocking=True,
            normalise=None if batch.patches.is_floating_point() else normalise,
        )
        if not batch.num_tokens:
            return self._encode_nothing(weight)
        # 1. the tokens of a frame stand together, and of a frame those of a window of attention
        layout = Layout.of(batch, window_tiles=None)
        order_N, window_N = self._by_window(batch, layout)
        frames = [len(_PARTS) * length for length in layout.lengths_B]
        windows = [
            len(_PARTS) * n for n in window_N.unique_consecutive(return_counts=True)[1].tolist()
        ]
        # 2. embed the parts of each token
        at_N = layout.order_N[order_N]
        hidden_MC = self.tower.patch_embed(_parts(batch.patches[at_N]))
        if self._is_qwen3:
            hidden_MC = hidden_MC + self._positions(layout)[layout.position_N[order_N]].flatten(
                0, 1
            )
        rotary = self.tower.rotary_pos_emb(hidden_MC, _centres(batch)[at_N].flatten(0, 1))
        # 3. run, merge, and go back to the order of the batch
        merged, inner = self._run(hidden_MC, rotary, frames, windows)
        back_N = torch.empty_like(at_N).scatter_(
            0, at_N, torch.arange(len(at_N), device=at_N.device)
        )
        return Features(tokens_ND=merged[back_N], deepstack=tuple(x[back_N] for x in inner))

    def _encode_nothing(self, like: Tensor) -> Features:
        """Return no features; gradients of zero flow from them into every weight, as other ranks expect."""
        pixels = like.new_zeros(len(_PARTS), 3 * 2 * int(self.tower.config.patch_size) ** 2)
        given = self.tower(pixels, grid_thw=torch.tensor([[1, MERGE, MERGE]], device=like.device))
        inner = given.deepstack_features if self._is_qwen3 else ()
        return Features(tokens_ND=given.pooler_output[:0], deepstack=tuple(x[:0] for x in inner))

    def _by_window(self, batch: Batch, layout: Layout) -> tuple[Tensor, Tensor]:
        """Sort the tokens of each frame by the window that the tower's blocks look at.

        Returns:
            int64: N, which token of the layout stands at each place; N, the number of its window, there.
        """
        lengths_B = torch.tensor(layout.lengths_B, device=layout.order_N.device)
        frame_N = torch.arange(len(lengths_B), device=lengths_B.device).repeat_interleave(lengths_B)
        if self._is_qwen3:
            return torch.arange(len(frame_N), device=frame_N.device), frame_N
        side = self.tower.config.window_size // self.patch_size
        # the cell of the finest grid at the centre of the token's four parts
        cell_N2 = _centres(batch).mean(1)[layout.order_N] / MERGE + 0.5 / MERGE
        row_N, col_N = (cell_N2.long() // side).unbind(1)
        across = int(col_N.max()) + 1
        key_N = (frame_N * (int(row_N.max()) + 1) + row_N) * across + col_N
        order_N = key_N.argsort(stable=True)
        return order_N, key_N[order_N]

    def _positions(self, layout: Layout) -> Tensor:
        """Return the learned positions of the parts of every place of the layout, places x 4 x C."""
        from transformers.vision_utils import get_vision_interpolation_indices_and_weights

        grids = [
            [1, MERGE * side * down, MERGE * side * wide]
            for down, wide in layout.shapes
            for side in SCALE_SIDES
        ]
        indices, weights = get_vision_interpolation_indices_and_weights(
            torch.tensor(grids, device=layout.order_N.device),
            num_grid_per_side=self.tower.num_grid_per_side,
            mode=self.tower.interpolation_mode,
            align_corners=self.tower.interpolation_align_corners,
            spatial_merge_size=MERGE,
        )
        table = self.tower.pos_embed
        positions = (table(indices) * weights[..., None]).sum(1).to(table.weight.dtype)
        by_part: Tensor = positions.unflatten(0, (-1, len(_PARTS)))
        return by_part

    def _run(
        self,
        hidden_MC: Tensor,
        rotary: tuple[Tensor, Tensor],
        frames: Sequence[int],
        windows: Sequence[int],
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks over frames, some of Qwen2.5-VL's over windows; merge the last and inner layers."""
        tower, device = self.tower, hidden_MC.device
        bounds = {}
        for name, lengths in {"frames": frames, "windows": windows}.items():
            ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
            bounds[name] = {"cu_seqlens": ends.to(device), "max_seqlen": max(lengths)}
        whole = range(len(tower.blocks)) if self._is_qwen3 else tower.fullatt_block_indexes
        inner_at = list(tower.deepstack_visual_indexes) if self._is_qwen3 else []
        inner = []
        for number, block in enumerate(tower.blocks):
            over = bounds["frames" if number in whole else "windows"]
            hidden_MC = block(hidden_MC, position_embeddings=rotary, **over)
            if number in inner_at:
                inner.append(tower.deepstack_merger_list[inner_at.index(number)](hidden_MC))
        return tower.merger(hidden_MC), inner


_PARTS = tuple((a, b) for a in range(MERGE) for b in range(MERGE))
"""The parts of a token, row by row."""


def _parts(pixels_N3SS: Tensor) -> Tensor:
    """Cut each patch into its parts and double them in time, as the tower's patch embedding takes them."""
    p = pixels_N3SS.shape[-1] // MERGE
    cut = pixels_N3SS.unflatten(3, (MERGE, p)).unflatten(2, (MERGE, p))  # N 3 a p b p
    flat = cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, 1, p, p)
    doubled: Tensor = flat.expand(-1, -1, 2, -1, -1).reshape(len(flat), -1)
    return doubled


def _centres(batch: Batch) -> Tensor:
    """Return the row and column of the parts of each token on the finest grid of parts, float32 N x 4 x 2."""
    device = batch.scale.device
    side_N = torch.tensor(SCALE_SIDES, device=device)[batch.scale.long()]
    first_N2 = MERGE * torch.stack((batch.row, batch.col), dim=1)
    part_N42 = first_N2[:, None] + torch.tensor(_PARTS, device=device)
    # a finest part has the whole number of its place, which is where its centre lies
    centre_N42: Tensor = (part_N42 + 0.5) * (TILE_SIDE / side_N)[:, None, None] - 0.5
    return centre_N42
