"""The `VisionTransformer` of the timm library, with or without class token and registers.

Its blocks call `scaled_dot_product_attention`, which is rerouted while they run; a block that computes
attention by itself (timm's `fused_attn` off) is noticed and refused. timm's own gradient checkpointing is not
used.

    legend   N  tokens     P  side of a patch     D  width     F  prefix tokens of a frame
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gazepack.encoders.attention import RaggedAttention, Rerouted
from gazepack.encoders.backbone import Colour
from gazepack.errors import UsageError


class TimmBackbone:
    """timm's vision transformer.

    Args:
        model: a `timm.models.vision_transformer.VisionTransformer`.

    Raises:
        UsageError: its patches are not square, or it has no learned positions.
    """

    def __init__(self, model: Any) -> None:
        height, width = model.patch_embed.patch_size
        if height != width or model.pos_embed is None:
            raise UsageError(
                f"a timm model of {height} x {width} patches and "
                f"{'no ' if model.pos_embed is None else ''}learned positions cannot take gazed tokens",
                remedy="take one of square patches with a pos_embed, such as vit_base_patch16_224",
            )
        self.model: nn.Module = model
        self._parts = model
        self.patch_size = int(height)
        config = model.pretrained_cfg if hasattr(model, "pretrained_cfg") else {}
        self.mean: Colour = tuple(config.get("mean", (0.5, 0.5, 0.5)))
        self.std: Colour = tuple(config.get("std", (0.5, 0.5, 0.5)))

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The transformer's blocks."""
        return list(self._parts.blocks)

    def project(self, pixels_N3PP: Tensor) -> Tensor:
        """Embed patches by the model's convolution and the norm that may follow it."""
        embed = self._parts.patch_embed
        embedded: Tensor = embed.norm(embed.proj(pixels_N3PP).flatten(1))
        return embedded

    def positions(self, rows: int, cols: int) -> Tensor:
        """Resample the model's positions as timm does for images of another size."""
        from timm.layers.pos_embed import resample_abs_pos_embed

        patches = self._parts.pos_embed[:, self._num_in_table :]
        resampled: Tensor = resample_abs_pos_embed(
            patches,
            new_size=[rows, cols],
            old_size=list(self._parts.patch_embed.grid_size),
            num_prefix_tokens=0,
        )
        return resampled[0]

    def prefix(self) -> Tensor:
        """Return class token and registers, with positions where the model gives them any."""
        table: Tensor = self._parts.pos_embed[0]
        tokens = [x[0] for x in (self._parts.cls_token, self._parts.reg_token) if x is not None]
        prefix = torch.cat(tokens) if tokens else table[:0]
        return prefix + table[: len(prefix)] if self._num_in_table else prefix

    def start(self, tokens_1ND: Tensor) -> Tensor:
        """Apply the dropout of the embeddings and the norm before the blocks."""
        output: Tensor = self._parts.norm_pre(self._parts.pos_drop(tokens_1ND))
        return output

    def run(
        self, layers: Sequence[nn.Module], tokens_1ND: Tensor, attention: RaggedAttention
    ) -> Tensor:
        """Run blocks with their attention rerouted.

        Raises:
            UsageError: a block did not ask for scaled dot-product attention once.
        """
        for number, layer in enumerate(layers):
            with Rerouted(attention) as rerouted:
                tokens_1ND = layer(tokens_1ND)
            if rerouted.calls != 1:
                raise UsageError(
                    f"block {number} of the timm model called scaled_dot_product_attention "
                    f"{rerouted.calls} times, not once",
                    remedy="build it with fused attention: timm.layers.set_fused_attn(True)",
                )
        return tokens_1ND

    def finish(self, tokens_1ND: Tensor) -> Tensor:
        """Apply the model's last norm."""
        output: Tensor = self._parts.norm(tokens_1ND)
        return output

    @property
    def _num_in_table(self) -> int:
        """Prefix tokens that have a row in the table of positions."""
        return 0 if self._parts.no_embed_class else int(self._parts.num_prefix_tokens)
