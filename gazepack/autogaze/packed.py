"""The network's weights laid out for decoding: what `engine` computes with.

Projections that read the same input lie side by side, the encoder works frame by frame (so that a
stream and a whole clip are the same computation), and the last layer is computed only for the
position that is read. It gives up training: the weights are copies and carry no gradient.

    legend   B rows  C cells of a frame (196)  N tokens now  M tokens seen  D width
             A attention heads  E numbers in a head  G side of the cell grid (14)
             K tokens at once  V vocabulary (266)
"""

import copy
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gazepack.autogaze.cache import KeyValueCache
from gazepack.autogaze.config import INPUT_SIDE, VOCABULARY
from gazepack.autogaze.network import (
    AutoGazeNetwork,
    GazeDecoder,
    Layer,
    rope_angles,
    rope_frequencies,
    rotate,
)
from gazepack.geometry import TILE_SIDE


class PackedEncoder:
    """Frame by frame encoder.

    Args:
        network: the weights, already on the device and in the dtype to compute with.
    """

    def __init__(self, network: AutoGazeNetwork) -> None:
        vision = network.vision_model
        self._patch = vision.temporal_conv.weight.squeeze(2), vision.temporal_conv.bias
        self._norm = vision.norm.weight, vision.norm.bias
        # a convolution over t frames is one over t times the channels of a single frame
        convs = [module for module in vision.blocks.modules() if isinstance(module, nn.Conv3d)]
        self._convs = [
            (conv.weight.transpose(1, 2).flatten(1, 2).contiguous(), conv.bias) for conv in convs
        ]
        self._num_past = network.config.vision.trunk_temporal_kernel_size - 1
        self._project_weight = vision.out_proj.weight.flatten(1)
        self._project_bias = vision.out_proj.bias
        self._places_CD = network.connector.pos_embed

    def start(self, num_rows: int) -> list[Tensor]:
        """Return what precedes a first frame: zeros, per convolution B x past channels x G x G."""
        weight = self._patch[0]
        channels = self._num_past * weight.shape[0]
        shape = num_rows, channels, TILE_SIDE, TILE_SIDE
        return [weight.new_zeros(shape) for _ in self._convs]

    def no_frame(self, num_rows: int) -> Tensor:
        """Return room for a normalised frame."""
        return self._patch[0].new_empty((num_rows, 3, INPUT_SIDE, INPUT_SIDE))

    def frame(self, frame_B3HW: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return a normalised frame's cells, B x C x D, and what the next frame must be given."""
        weight, bias = self._patch
        x_BDGG = functional.conv2d(frame_B3HW, weight, bias, stride=weight.shape[-1])
        x_BGGD = functional.layer_norm(x_BDGG.movedim(1, -1), (weight.shape[0],), *self._norm)
        x_BDGG = x_BGGD.movedim(-1, 1)
        next_past = []
        for (kernel, kernel_bias), before in zip(self._convs, past, strict=True):
            seen = torch.cat((before, x_BDGG), dim=1)
            next_past.append(seen[:, x_BDGG.shape[1] :])
            x_BDGG = functional.conv2d(seen, kernel, kernel_bias, padding=kernel.shape[-1] // 2)
            x_BDGG = x_BDGG.relu()
        x_BCD = x_BDGG.flatten(2).transpose(1, 2)
        cells_BCD = functional.linear(x_BCD, self._project_weight, self._project_bias)
        return cells_BCD + self._places_CD, next_past


class _PackedLayer:
    """A layer's weights with the projections that read the same input laid side by side."""

    def __init__(self, layer: Layer) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norm_in = layer.input_layernorm.weight
        self.norm_mlp = layer.post_attention_layernorm.weight
        self.qkv = torch.cat(
            (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
        )
        self.out = attention.o_proj.weight
        self.gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))
        self.down = mlp.down_proj.weight


class PackedDecoder:
    """The Llama stack and its heads over a cache.

    Args:
        decoder: the weights, already on the device and in the dtype to compute with.
    """

    def __init__(self, decoder: GazeDecoder) -> None:
        self.config = decoder.model.config
        self.device = decoder.lm_head.weight.device
        self.dtype = decoder.lm_head.weight.dtype
        self.embedding_VD = decoder.model.embed_tokens.weight
        self._layers = [
            _PackedLayer(layer) for layer in decoder.model.modules() if isinstance(layer, Layer)
        ]
        self._norm = decoder.model.norm.weight
        self._heads = torch.cat((decoder.lm_head.weight, decoder.task_loss_prediction_head.weight))
        self._frequencies = rope_frequencies(self.config).to(self._heads.device)

    def no_heads(self, num_rows: int) -> Tensor:
        """Return room for what `feed` returns."""
        return self._heads.new_empty((num_rows, self._heads.shape[0]))

    def feed(
        self,
        cache: KeyValueCache,
        x_BND: Tensor,
        positions_BN: Tensor,
        last_B: Tensor,
        *,
        extent: int,
    ) -> Tensor:
        """Feed N tokens to every row, behind what the cache says it has seen.

        The cache's lengths are not advanced: how many of the N count is the caller's to say.

        Args:
            cache: with room for N more tokens in every row.
            x_BND: embeddings.
            positions_BN: their positions.
            last_B: per row, the index of the token whose outlook is wanted.
            extent: how many tokens of the cache to look at, see `KeyValueCache.extent`.

        Returns:
            The heads at that token, B x (K V + K).
        """
        slots_BN = cache.lengths_B[:, None] + torch.arange(x_BND.shape[1], device=x_BND.device)
        mask_B1NM = self._mask(slots_BN, extent, x_BND.dtype)
        cos_BN1E, sin_BN1E = (
            part[:, :, None].to(x_BND.dtype)
            for part in rope_angles(positions_BN, self._frequencies)
        )
        rows_B = torch.arange(len(last_B), device=x_BND.device)
        for number, layer in enumerate(self._layers):
            qkv = functional.linear(self._normed(x_BND, layer.norm_in), layer.qkv)
            qkv_BN3AE = qkv.reshape(*x_BND.shape[:2], 3, -1, self.config.head_size)
            q_BNAE, k_BNAE, v_BNAE = qkv_BN3AE.unbind(2)
            k_BAME, v_BAME = cache.write(
                number, slots_BN, extent, rotate(k_BNAE, cos_BN1E, sin_BN1E), v_BNAE
            )
            q_BNAE = rotate(q_BNAE, cos_BN1E, sin_BN1E)
            if layer is self._layers[-1]:
                x_BND, q_BNAE = x_BND[rows_B, last_B, None], q_BNAE[rows_B, last_B, None]
                mask_B1NM = mask_B1NM[rows_B, :, last_B, None]
            attended_BANE = functional.scaled_dot_product_attention(
                q_BNAE.transpose(1, 2), k_BAME, v_BAME, attn_mask=mask_B1NM
            )
            x_BND = x_BND + functional.linear(attended_BANE.transpose(1, 2).flatten(2), layer.out)
            gate, up = functional.linear(self._normed(x_BND, layer.norm_mlp), layer.gate_up).chunk(
                2, dim=-1
            )
            x_BND = x_BND + functional.linear(functional.silu(gate) * up, layer.down)
        return functional.linear(self._normed(x_BND[:, 0], self._norm), self._heads)

    def split_heads(self, heads_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, B x K x V, and predicted losses, B x K, both float32."""
        num_at_once = self.config.num_multi_token_pred
        heads_B = heads_B.float()
        logits, losses_BK = heads_B[:, :-num_at_once], heads_B[:, -num_at_once:]
        return logits.reshape(-1, num_at_once, VOCABULARY), losses_BK

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)

    @staticmethod
    def _mask(slots_BN: Tensor, extent: int, dtype: torch.dtype) -> Tensor:
        """Return what is added to scores: 0 where a token may look, minus infinity elsewhere."""
        hidden_BNM = torch.arange(extent, device=slots_BN.device) > slots_BN[..., None]
        zeros = torch.zeros(hidden_BNM.shape, device=slots_BN.device, dtype=dtype)
        return zeros.masked_fill_(hidden_BNM, -np.inf)[:, None]


def exact_convolutions(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which float32 convolutions on CUDA are not rounded to TF32.

    Torch rounds them by default, unlike its matrix products, and ids would differ.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def pack(
    network: AutoGazeNetwork, *, device: torch.device, dtype: torch.dtype
) -> tuple[PackedEncoder, PackedDecoder]:
    """Return the network's two halves, as copies on `device` in `dtype`."""
    with torch.no_grad():
        moved = copy.deepcopy(network).to(device=device, dtype=dtype).requires_grad_(False)
        return PackedEncoder(moved), PackedDecoder(moved.gaze_decoder)
