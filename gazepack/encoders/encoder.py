"""Gazed tokens into a vision transformer: one feature for each token of a batch.

The stored patches go through the model's own patch embedding, get the model's own positions interpolated to
the grid of their scale, and pass its own layers as ragged sequences. A coarse patch is thus what the model
would see at that place of a downsized image, as in the published SigLIP of AutoGaze, with which this agrees.
With all finest patches and attention `frame` the features are those of the dense model, frame by frame.

Class tokens and registers (CLIP, DINOv2, timm) stand before the tokens of every frame and belong to its block;
`encode` returns them too.

    legend   N  tokens     M  with the prefix of each block     D  width of the model
             B  blocks     F  tokens of a prefix                P  side of a patch
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gazepack.encoders.attention import Kernel, RaggedAttention, Rule, run_eagerly
from gazepack.encoders.backbone import Backbone, Colour
from gazepack.encoders.hub import HUB_FAMILIES
from gazepack.encoders.layout import Layout, Shape
from gazepack.encoders.timm_vit import TimmBackbone
from gazepack.errors import UsageError
from gazepack.geometry import SCALE_SIDES
from gazepack.loader import Batch, Normalise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """The features of a batch."""

    tokens_ND: Tensor
    """One for each token, in the order of the batch."""
    prefix_BFD: Tensor
    """Those of class token and registers of each block; F is 0 for models without."""
    layout: Layout
    """Which sample, view, window and frame each block is."""


class GazedEncoder(nn.Module):
    """A vision transformer that takes the loader's batches.

    Args:
        model: a `SiglipVisionModel`, `Siglip2VisionModel`, `CLIPVisionModel`, `Dinov2Model` or
            `Dinov2WithRegistersModel` of transformers, a model with one of them as `vision_model`, or a timm
            `VisionTransformer`. It is used, not copied; a transformers model gets another attention
            implementation, under which it takes dense images as before.
        attention: who sees whom; see `gazepack.encoders.attention`.
        window_tiles: side of the square of tiles that is one image to the model; the whole view where None.
        hidden_state: which of the model's `hidden_states` to return, such as -2 for the last but one, as many
            MLLMs take; its `last_hidden_state` where None.
        mean: of red, green and blue from 0 to 1, to be subtracted; what the family was trained with where None.
        std: what they are divided by; likewise.
        kernel: of attention; `auto` is flex attention on a GPU and scaled dot-product attention elsewhere.

    Raises:
        UsageError: a model of another kind, or a hidden state that it does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        attention: Rule = "block_causal",
        window_tiles: int | None = None,
        hidden_state: int | None = None,
        mean: Colour | None = None,
        std: Colour | None = None,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        if window_tiles is not None and window_tiles < 1:
            raise UsageError(
                f"window_tiles {window_tiles} is below 1", remedy="None is the whole view"
            )
        self._backbone = backbone_of(model)
        self.model: nn.Module = self._backbone.model
        self.attention: Rule = attention
        self.window_tiles = window_tiles
        self.mean: Colour = mean or self._backbone.mean
        self.std: Colour = std or self._backbone.std
        self.kernel: Kernel = kernel
        self._num_layers = _layers_up_to(hidden_state, len(self._backbone.layers))

    @property
    def patch_size(self) -> int:
        """Side of a patch, in pixels; the dataset's must be the same."""
        return self._backbone.patch_size

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def has_prefix(self) -> bool:
        """Whether the model puts class token or registers before each image."""
        return len(self._backbone.prefix()) > 0

    def forward(self, batch: Batch) -> Tensor:
        """Return one feature for each token, N x D, in the order of the batch."""
        return self.encode(batch).tokens_ND

    @run_eagerly
    def encode(self, batch: Batch) -> Encoded:
        """Return the features of tokens, and those of class tokens and registers.

        Args:
            batch: on any device; it goes to the model's. Patches of bytes are normalised, numbers are taken
                as they are.

        Raises:
            UsageError: the batch has patches of another size than the model's.
        """
        if batch.patches.shape[-1] != self.patch_size:
            raise UsageError(
                f"the batch has patches of {batch.patches.shape[-1]} px, the model takes {self.patch_size} px",
                remedy=f"pack with --patch-size {self.patch_size}, or take another model",
            )
        backbone = self._backbone
        weight = next(self.model.parameters())
        normalise = Normalise(mean=self.mean, std=self.std, dtype=weight.dtype)
        batch = batch.to(
            weight.device,
            non_blocking=True,
            normalise=None if batch.patches.is_floating_point() else normalise,
        )
        layout = Layout.of(batch, window_tiles=self.window_tiles)
        prefix_FD = backbone.prefix()
        if not batch.num_tokens:
            return self._encode_nothing(layout, prefix_FD)

        # 1. embed, and add positions
        embedded_ND = backbone.project(batch.patches[layout.order_N])
        embedded_ND = embedded_ND + self._positions(layout.shapes)[layout.position_N]
        # 2. put the prefix before every block, and run
        gather_M, place_N, place_BF = _with_prefix(layout, len(prefix_FD))
        tokens_MD = torch.cat((embedded_ND, prefix_FD.to(embedded_ND)))[gather_M]
        lengths = [len(prefix_FD) + length for length in layout.lengths_B]
        features_MD = self._run(tokens_MD, lengths, layout.blocks_of_sequence)
        # 3. back to the order of the batch
        at_N = torch.empty_like(place_N).scatter_(0, layout.order_N, place_N)
        return Encoded(tokens_ND=features_MD[at_N], prefix_BFD=features_MD[place_BF], layout=layout)

    def _encode_nothing(self, layout: Layout, prefix_FD: Tensor) -> Encoded:
        """Return no features; gradients of zero flow from them into every weight, as other ranks expect."""
        p = self.patch_size
        embedded_1D = self._backbone.project(prefix_FD.new_zeros(1, 3, p, p))
        tokens_MD = torch.cat((prefix_FD, embedded_1D + self._backbone.positions(1, 1)))
        features_MD = self._run(tokens_MD, [len(tokens_MD)], [1])
        prefix_BFD = features_MD[None, : len(prefix_FD)][:0]
        return Encoded(tokens_ND=features_MD[:0], prefix_BFD=prefix_BFD, layout=layout)

    def _run(
        self, tokens_MD: Tensor, lengths: Sequence[int], blocks_of_sequence: Sequence[int]
    ) -> Tensor:
        """Run the layers over blocks."""
        attention = RaggedAttention(
            self.attention,
            lengths=lengths,
            blocks_of_sequence=blocks_of_sequence,
            device=tokens_MD.device,
            kernel=self.kernel,
        )
        layers = self._backbone.layers[: self._num_layers]
        features_1MD = self._backbone.run(layers, self._backbone.start(tokens_MD[None]), attention)
        if self._num_layers is None:
            features_1MD = self._backbone.finish(features_1MD)
        return features_1MD[0]

    def _positions(self, shapes: tuple[Shape, ...]) -> Tensor:
        """Return the positions of all scales of windows of these shapes, one after the other."""
        tables = [
            self._backbone.positions(side * down, side * wide)
            for down, wide in shapes
            for side in SCALE_SIDES
        ]
        return torch.cat(tables)


def backbone_of(model: nn.Module) -> Backbone:
    """Find out how to take a model apart.

    Raises:
        UsageError: nobody knows.
    """
    model = getattr(model, "vision_model", model)
    family = getattr(getattr(model, "config", None), "model_type", None)
    if family in HUB_FAMILIES:
        return HUB_FAMILIES[family](model)
    kind = type(model)
    if kind.__module__.startswith("timm.") and kind.__name__ == "VisionTransformer":
        return TimmBackbone(model)
    raise UsageError(
        f"{kind.__module__}.{kind.__name__} is no vision transformer that takes gazed tokens",
        remedy=f"give one of {', '.join(HUB_FAMILIES)} of transformers, or timm's VisionTransformer",
    )


def _layers_up_to(hidden_state: int | None, num_layers: int) -> int | None:
    """Return how many layers to run for one of the hidden states; None for all and the last norm.

    Raises:
        UsageError: there is no such hidden state.
    """
    if hidden_state is None:
        return None
    if not -num_layers - 1 <= hidden_state <= num_layers:
        raise UsageError(
            f"the model has no hidden state {hidden_state}",
            remedy=f"it has {num_layers + 1}: 0 is the embedding, -1 the last layer's, before the last norm",
        )
    return hidden_state % (num_layers + 1)


def _with_prefix(layout: Layout, num_prefix: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the places of M tokens when each block gets a prefix.

    Returns:
        int64: M, which of the N tokens, then F prefix tokens, stands at each place; N, the place of each token
        of the layout; B x F, the places of the prefix.
    """
    device = layout.order_N.device
    lengths_B = torch.tensor(layout.lengths_B, dtype=torch.int64, device=device)
    num_blocks, num_tokens = len(lengths_B), len(layout.order_N)
    block_N = torch.arange(num_blocks, device=device).repeat_interleave(lengths_B)
    token_N, prefix_F = (torch.arange(n, device=device) for n in (num_tokens, num_prefix))
    place_N = token_N + (block_N + 1) * num_prefix
    first_B = lengths_B.cumsum(0) - lengths_B + torch.arange(num_blocks, device=device) * num_prefix
    place_BF = first_B[:, None] + prefix_F
    gather_M = torch.empty(num_tokens + num_blocks * num_prefix, dtype=torch.int64, device=device)
    gather_M[place_N] = token_N
    gather_M[place_BF] = num_tokens + prefix_F
    return gather_M, place_N, place_BF
