"""The network's weights laid out for decoding: what `engine` computes with.

Projections that read the same input lie side by side, the encoder works frame by frame (so that a
stream and a whole clip are the same computation), and the last layer is computed only for the
position that is read. It gives up training: the weights are copies and carry no gradient.

    legend   B rows  C cells of a frame (196)  N tokens now  M tokens seen  D width
             A attention heads  E numbers in a head  G side of the cell grid (14)
             K tokens at once  V vocabulary (266)
"""

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gazepack.autogaze.cache import KeyValueCache
from gazepack.autogaze.config import INPUT_SIDE, VOCABULARY, DecoderConfig
from gazepack.autogaze.network import (
    AutoGazeNetwork,
    GazeDecoder,
    Layer,
    rope_angles,
    rope_frequencies,
    rotate,
)
from gazepack.autogaze.threads import in_halves
from gazepack.geometry import TILE_SIDE

LEAST_HALVED_PRODUCTS = 2**16
LEAST_HALVED_ATTENTION = 2**13
"""From so many new tokens times tokens they see on, a row alone is divided there."""


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
        x_BDGG = _convolved(frame_B3HW, weight, bias, stride=weight.shape[-1])
        x_BGGD = functional.layer_norm(x_BDGG.movedim(1, -1), (weight.shape[0],), *self._norm)
        x_BDGG = x_BGGD.movedim(-1, 1)
        next_past = []
        for (kernel, kernel_bias), before in zip(self._convs, past, strict=True):
            seen = torch.cat((before, x_BDGG), dim=1)
            next_past.append(seen[:, x_BDGG.shape[1] :])
            x_BDGG = _convolved(seen, kernel, kernel_bias, padding=kernel.shape[-1] // 2)
            x_BDGG = x_BDGG.relu()
        x_BCD = x_BDGG.flatten(2).transpose(1, 2)
        cells_BCD = functional.linear(x_BCD, self._project_weight, self._project_bias)
        return cells_BCD + self._places_CD, next_past


def _convolved(
    x_BDHW: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int = 0
) -> Tensor:
    """Convolve; on the CPU, where a row is alone, in halves of the channels that come out."""
    if x_BDHW.device.type != "cpu" or len(weight) < 2:
        return functional.conv2d(x_BDHW, weight, bias, stride=stride, padding=padding)
    parts = _parts(len(weight), is_halved=True)
    found: list[Tensor | None] = [None, None]

    def work(half: int) -> None:
        at = parts[half]
        found[half] = functional.conv2d(
            x_BDHW, weight[at], None if bias is None else bias[at], stride=stride, padding=padding
        )

    in_halves(work)
    return torch.cat([part for part in found if part is not None], dim=1)


class _PackedLayer:
    """A layer's weights with the projections that read the same input laid side by side."""

    def __init__(self, layer: Layer) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norm_in: Tensor = layer.input_layernorm.weight
        self.norm_mlp: Tensor = layer.post_attention_layernorm.weight
        self.qkv: Tensor = torch.cat(
            (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
        )
        self.out: Tensor = attention.o_proj.weight
        self.gate_up: Tensor = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))
        self.down: Tensor = mlp.down_proj.weight


class PackedDecoder:
    """The Llama stack and its heads over a cache.

    Args:
        decoder: the weights, already on the device and in the dtype to compute with.
    """

    def __init__(self, decoder: GazeDecoder) -> None:
        self.config: DecoderConfig = decoder.model.config
        self.device: torch.device = decoder.lm_head.weight.device
        self.dtype: torch.dtype = decoder.lm_head.weight.dtype
        self.embedding_VD: Tensor = decoder.model.embed_tokens.weight
        self.layers: list[_PackedLayer] = [
            _PackedLayer(layer) for layer in decoder.model.modules() if isinstance(layer, Layer)
        ]
        self.norm: Tensor = decoder.model.norm.weight
        self.head_weights: Tensor = torch.cat(
            (decoder.lm_head.weight, decoder.task_loss_prediction_head.weight)
        )
        self.frequencies: Tensor = rope_frequencies(self.config).to(self.head_weights.device)

    def no_heads(self, num_rows: int) -> Tensor:
        """Return room for what `feed` returns."""
        return self.head_weights.new_empty((num_rows, self.head_weights.shape[0]))

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
        if cache.is_alone:
            return _FeedAlone(self, cache, x_BND[0], positions_BN[0], extent).heads()[None]
        slots_BN = cache.lengths_B[:, None] + torch.arange(x_BND.shape[1], device=x_BND.device)
        mask_B1NM = self._mask(slots_BN, extent, x_BND.dtype)
        cos_BN11E, sin_BN11E = (
            part[:, :, None, None].to(x_BND.dtype)
            for part in rope_angles(positions_BN, self.frequencies)
        )
        rows_B = torch.arange(len(last_B), device=x_BND.device)
        for number, layer in enumerate(self.layers):
            normed_BND = self.normed(x_BND, layer.norm_in)
            qk_BN2AE, v_BNAE = self.projected(layer.qkv, normed_BND, cos_BN11E, sin_BN11E)
            q_BNAE, k_BNAE = qk_BN2AE.unbind(2)
            k_BAME, v_BAME = cache.write(number, slots_BN, extent, k_BNAE, v_BNAE)
            if layer is self.layers[-1]:
                x_BND, q_BNAE = x_BND[rows_B, last_B, None], q_BNAE[rows_B, last_B, None]
                mask_B1NM = mask_B1NM[rows_B, :, last_B, None]
            attended_BANE = functional.scaled_dot_product_attention(
                q_BNAE.transpose(1, 2), k_BAME, v_BAME, attn_mask=mask_B1NM
            )
            x_BND = self.after(layer, x_BND, attended_BANE.transpose(1, 2).flatten(2))
        return functional.linear(self.normed(x_BND[:, 0], self.norm), self.head_weights)

    def projected(
        self, weight: Tensor, normed: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return queries and keys of tokens, ... x 2 x A x E, or keys alone, rotated, and the values."""
        num_heads, size = self.config.num_attention_heads, self.config.head_size
        parts = functional.linear(normed, weight).unflatten(-1, (-1, num_heads, size))
        return rotate(parts[..., :-1, :, :], cos, sin), parts[..., -1, :, :]

    def after(self, layer: _PackedLayer, x: Tensor, attended: Tensor) -> Tensor:
        """Return the stream behind a layer, given what its heads attended to."""
        x = x + functional.linear(attended, layer.out)
        gate, up = functional.linear(self.normed(x, layer.norm_mlp), layer.gate_up).chunk(2, -1)
        return x + functional.linear(functional.silu(gate) * up, layer.down)

    def split_heads(self, heads_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, B x K x V, and predicted losses, B x K, both float32."""
        num_at_once = self.config.num_multi_token_pred
        heads_B = heads_B.float()
        logits, losses_BK = heads_B[:, :-num_at_once], heads_B[:, -num_at_once:]
        return logits.reshape(-1, num_at_once, VOCABULARY), losses_BK

    def normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return tokens of unit root mean square, times a weight."""
        return functional.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)

    @staticmethod
    def _mask(slots_BN: Tensor, extent: int, dtype: torch.dtype) -> Tensor:
        """Return what is added to scores: 0 where a token may look, minus infinity elsewhere."""
        hidden_BNM = torch.arange(extent, device=slots_BN.device) > slots_BN[..., None]
        zeros = torch.zeros(hidden_BNM.shape, device=slots_BN.device, dtype=dtype)
        return zeros.masked_fill_(hidden_BNM, -np.inf)[:, None]


class _FeedAlone:
    """One call of `feed` for a row alone, whose last token is read; in halves where there is enough to do.

    Half of the tokens go through a layer's products, then half of the heads attend for all tokens (of fewer
    tokens the attention would be slower). What is divided follows from its shape, never from the number of
    threads.
    """

    def __init__(
        self,
        decoder: PackedDecoder,
        cache: KeyValueCache,
        x_ND: Tensor,
        positions_N: Tensor,
        extent: int,
    ) -> None:
        num_new, num_heads = len(x_ND), decoder.config.num_attention_heads
        self._decoder, self._cache, self._extent = decoder, cache, extent
        self._tokens = _parts(num_new, is_halved=num_new * extent >= LEAST_HALVED_PRODUCTS)
        is_halved = num_heads > 1 and num_new * extent >= LEAST_HALVED_ATTENTION
        self._heads = _parts(num_heads, is_halved=is_halved)
        self._mask_NM = cache.mask_alone(num_new, extent)
        self._cos_N11E, self._sin_N11E = (
            part[:, None, None].to(x_ND.dtype)
            for part in rope_angles(positions_N, decoder.frequencies)
        )
        self._x_ND = x_ND.clone()
        self._q_NAE = x_ND.new_empty((num_new, num_heads, decoder.config.head_size))
        self._attended_NAE = torch.empty_like(self._q_NAE)
        self._last = len(decoder.layers) - 1

    def heads(self) -> Tensor:
        """Feed; return what the heads say behind the last token."""
        for number in range(self._last):
            _each(self._tokens, partial(self._products, number))
            _each(self._heads, partial(self._attend, number))
        _each(self._tokens, partial(self._products, self._last))
        decoder, layer = self._decoder, self._decoder.layers[self._last]
        # of the last layer one token is read, which sees all
        keys_AME, values_AME = self._cache.seen_alone(self._last, self._extent)
        normed_1D = decoder.normed(self._x_ND[-1:], layer.norm_in)
        q_1D = functional.linear(normed_1D, layer.qkv[: normed_1D.shape[1]])
        q_11AE = q_1D.view(1, 1, *self._q_NAE.shape[1:])
        q_1A1E = rotate(q_11AE, self._cos_N11E[-1:], self._sin_N11E[-1:]).transpose(1, 2)
        attended = functional.scaled_dot_product_attention(q_1A1E, keys_AME[None], values_AME[None])
        x_1D = decoder.after(layer, self._x_ND[-1:], attended.reshape(1, -1))
        return functional.linear(decoder.normed(x_1D[0], decoder.norm), decoder.head_weights)

    def _products(self, number: int, half: int) -> None:
        """Finish the layer before for some tokens, and ask, offer and say what this layer does."""
        at, decoder, layers = self._tokens[half], self._decoder, self._decoder.layers
        if number:
            attended = self._attended_NAE[at].flatten(1)
            self._x_ND[at] = decoder.after(layers[number - 1], self._x_ND[at], attended)
        layer, x = layers[number], self._x_ND[at]
        is_last = number == self._last
        turned, values = decoder.projected(
            layer.qkv[x.shape[1] :] if is_last else layer.qkv,  # no query but one
            decoder.normed(x, layer.norm_in),
            self._cos_N11E[at],
            self._sin_N11E[at],
        )
        first = self._extent - len(self._x_ND) + at.start
        self._cache.write_alone(number, first, turned[:, -1], values)
        if not is_last:
            self._q_NAE[at] = turned[:, 0]

    def _attend(self, number: int, half: int) -> None:
        """Let some heads attend for all tokens."""
        at = self._heads[half]
        keys_AME, values_AME = self._cache.seen_alone(number, self._extent)
        self._attended_NAE[:, at] = functional.scaled_dot_product_attention(
            self._q_NAE[None, :, at].transpose(1, 2),
            keys_AME[None, at],
            values_AME[None, at],
            attn_mask=self._mask_NM,
        )[0].transpose(0, 1)


def _parts(num: int, *, is_halved: bool) -> list[slice]:
    return [slice(0, num // 2), slice(num // 2, num)] if is_halved else [slice(0, num)]


def _each(parts: list[slice], work: Callable[[int], None]) -> None:
    if len(parts) == 1:
        work(0)
    else:
        in_halves(work)


def pack(
    network: AutoGazeNetwork, *, device: torch.device, dtype: torch.dtype
) -> tuple[PackedEncoder, PackedDecoder]:
    """Return the network's two halves, as copies on `device` in `dtype`."""
    with torch.no_grad():
        moved = copy.deepcopy(network).to(device=device, dtype=dtype).requires_grad_(False)
        return PackedEncoder(moved), PackedDecoder(moved.gaze_decoder)
