"""The vision transformers of the transformers library: SigLIP, SigLIP 2, CLIP, DINOv2.

They share one build: `embeddings`, a list of layers that take (tokens, attention mask), a norm. The ragged
attention travels through the layers in the place of the mask and is unpacked in the attention function
(`attention.register`), so it survives gradient checkpointing. A model that was adapted still takes dense
images: its attention is then transformers' own for `sdpa`.

    legend   N  tokens     P  side of a patch     D  width     F  prefix tokens of a frame
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gazepack.encoders.attention import IMPLEMENTATION, RaggedAttention, register
from gazepack.encoders.backbone import Colour

_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class HubBackbone:
    """SigLIP, and what the others share with it.

    Args:
        model: the vision model; its attention implementation is set.
    """

    mean: ClassVar[Colour] = _HALF
    std: ClassVar[Colour] = _HALF

    def __init__(self, model: Any) -> None:
        register()
        model.set_attn_implementation(IMPLEMENTATION)
        self.model: nn.Module = model
        self._parts = model
        self.patch_size = int(model.config.patch_size)

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The transformer's layers."""
        return list(self._parts.encoder.layers)

    def project(self, pixels_N3PP: Tensor) -> Tensor:
        """Embed patches by the model's convolution."""
        embedded: Tensor = self._parts.embeddings.patch_embedding(pixels_N3PP)
        return embedded.flatten(1)

    def positions(self, rows: int, cols: int) -> Tensor:
        """Ask the model for the positions of an image of so many patches."""
        return self._interpolated(rows, cols)

    def prefix(self) -> Tensor:
        """Return none: SigLIP has no class token."""
        return self._interpolated(1, 1)[:0]

    def start(self, tokens_1ND: Tensor) -> Tensor:
        """Return them as they are."""
        return tokens_1ND

    def run(
        self, layers: Sequence[nn.Module], tokens_1ND: Tensor, attention: RaggedAttention
    ) -> Tensor:
        """Call the layers with the attention in place of a mask."""
        for layer in layers:
            tokens_1ND = layer(tokens_1ND, attention)
        return tokens_1ND

    def finish(self, tokens_1ND: Tensor) -> Tensor:
        """Apply the model's last norm."""
        output: Tensor = self._parts.post_layernorm(tokens_1ND)
        return output

    def _interpolated(self, rows: int, cols: int, *, num_prefix: int = 0) -> Tensor:
        """Call the model's own interpolation, which looks only at the shape of its first argument."""
        embeddings, p = self._parts.embeddings, self.patch_size
        shape = (1, num_prefix + rows * cols, self._parts.config.hidden_size)
        like = torch.empty(shape, device="meta")
        positions: Tensor = embeddings.interpolate_pos_encoding(like, rows * p, cols * p)
        return positions[0]


class Siglip2Backbone(HubBackbone):
    """SigLIP 2 with native aspect ratios (NaFlex); the fixed-size SigLIP 2 checkpoints are SigLIP models."""

    def project(self, pixels_N3PP: Tensor) -> Tensor:
        """Embed patches by the model's linear layer, which takes colours last."""
        flat = pixels_N3PP.permute(0, 2, 3, 1).flatten(1)
        embedded: Tensor = self._parts.embeddings.patch_embedding(flat)
        return embedded

    def positions(self, rows: int, cols: int) -> Tensor:
        """Ask the model for the positions of an image of so many patches."""
        embeddings = self._parts.embeddings
        side = embeddings.position_embedding_size
        table = embeddings.position_embedding.weight.reshape(side, side, -1)
        shape = torch.tensor([[rows, cols]])
        resized: Tensor = embeddings.resize_positional_embeddings(table, shape, rows * cols)
        return resized[0]

    def prefix(self) -> Tensor:
        """Return none: SigLIP 2 has no class token."""
        weight: Tensor = self._parts.embeddings.position_embedding.weight
        return weight[:0]


class ClipBackbone(HubBackbone):
    """CLIP: one class token, a norm before the layers and none after them."""

    mean: ClassVar[Colour] = _CLIP_MEAN
    std: ClassVar[Colour] = _CLIP_STD

    def positions(self, rows: int, cols: int) -> Tensor:
        """Ask the model, and leave out the class token's."""
        return self._interpolated(rows, cols, num_prefix=1)[1:]

    def prefix(self) -> Tensor:
        """Return the class token."""
        embeddings = self._parts.embeddings
        token: Tensor = embeddings.class_embedding + embeddings.position_embedding.weight[0]
        return token[None]

    def start(self, tokens_1ND: Tensor) -> Tensor:
        """Apply the norm before the layers."""
        output: Tensor = self._parts.pre_layrnorm(tokens_1ND)
        return output

    def finish(self, tokens_1ND: Tensor) -> Tensor:
        """Return them as they are; CLIP norms only its pooled token."""
        return tokens_1ND


class Dinov2Backbone(HubBackbone):
    """DINOv2: a class token and, with registers, four more after it."""

    mean: ClassVar[Colour] = _IMAGENET_MEAN
    std: ClassVar[Colour] = _IMAGENET_STD

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The transformer's layers."""
        return list(self._parts.encoder.layer)

    def project(self, pixels_N3PP: Tensor) -> Tensor:
        """Embed patches by the model's patch embedding: each is an image of one patch."""
        embedded: Tensor = self._parts.embeddings.patch_embeddings(pixels_N3PP)
        return embedded[:, 0]

    def positions(self, rows: int, cols: int) -> Tensor:
        """Ask the model, and leave out the class token's."""
        return self._interpolated(rows, cols, num_prefix=1)[1:]

    def prefix(self) -> Tensor:
        """Return the class token and the registers, which have no position."""
        embeddings = self._parts.embeddings
        tokens: Tensor = embeddings.cls_token[0] + embeddings.position_embeddings[0, :1]
        if hasattr(embeddings, "register_tokens"):
            tokens = torch.cat((tokens, embeddings.register_tokens[0]))
        return tokens

    def start(self, tokens_1ND: Tensor) -> Tensor:
        """Apply the dropout of the embeddings."""
        output: Tensor = self._parts.embeddings.dropout(tokens_1ND)
        return output

    def finish(self, tokens_1ND: Tensor) -> Tensor:
        """Apply the model's last norm."""
        output: Tensor = self._parts.layernorm(tokens_1ND)
        return output


HUB_FAMILIES: dict[str, type[HubBackbone]] = {
    "siglip_vision_model": HubBackbone,
    "siglip2_vision_model": Siglip2Backbone,
    "clip_vision_model": ClipBackbone,
    "dinov2": Dinov2Backbone,
    "dinov2_with_registers": Dinov2Backbone,
}
"""By the `model_type` of the configuration."""
