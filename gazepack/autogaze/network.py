"""The published AutoGaze as plain torch modules: encoder, Llama decoder, heads.

Attribute names are the published ones, so `state_dict` keys are the published tensor names without
their leading `gazing_model.`. How they are put to use is the work of `reference` (clear) and `engine`
(fast). `canvas` shares the decoder.

    legend   B clips  T frames  C cells of a frame (196)  N tokens now  M tokens seen  D width
             A attention heads  E numbers in a head  K tokens predicted at once  V vocabulary (266)

Published: NVlabs/AutoGaze, arXiv 2603.12254; the stack is Llama 3 as in transformers 4.51.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gazepack.autogaze.config import (
    CELLS,
    VOCABULARY,
    AutoGazeConfig,
    DecoderConfig,
    VisionConfig,
)

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of one layer, each B x A x M x E."""


class RMSNorm(nn.Module):
    """Root-mean-square normalisation, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x scaled to unit root mean square along its last axis, times the weight."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rope_frequencies(config: DecoderConfig) -> Tensor:
    """Return the llama3-scaled rotary frequencies in radians per position, E/2 of float32.

    Waves longer than the original context over `low_freq_factor` are slowed by `factor`, waves
    shorter than it over `high_freq_factor` are kept, and those between are blended.
    """
    scaling = config.rope_scaling
    exponents = torch.arange(0, config.head_size, 2, dtype=torch.int64).float() / config.head_size
    frequencies = 1.0 / (config.rope_theta**exponents)
    wavelengths = 2 * math.pi / frequencies
    context = scaling.original_max_position_embeddings
    slowed = torch.where(
        wavelengths > context / scaling.low_freq_factor, frequencies / scaling.factor, frequencies
    )
    blend = (context / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    blended = (1 - blend) * slowed / scaling.factor + blend * slowed
    is_long = wavelengths > context / scaling.low_freq_factor
    is_short = wavelengths < context / scaling.high_freq_factor
    return torch.where(is_long | is_short, slowed, blended)


def rope_angles(positions: Tensor, frequencies: Tensor) -> KeyValue:
    """Return cos and sin of positions, each of the shape of `positions` plus E, float32."""
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + E/2) of the last axis of x by the angles of `rope_angles`."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class Attention(nn.Module):
    """Multi-head attention with rotary positions, over what was seen before and what comes now."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads: int = config.num_attention_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x_BND: Tensor, rope: KeyValue, mask_B1NM: Tensor | None, past: KeyValue | None
    ) -> tuple[Tensor, KeyValue]:
        """Return the attended B x N x D and the keys and values of all M tokens."""
        cos_B1NE, sin_B1NE = (part[:, None].to(x_BND.dtype) for part in rope)
        q_BANE, k_BANE, v_BANE = (
            projection(x_BND).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q_BANE = rotate(q_BANE, cos_B1NE, sin_B1NE)
        k_BAME, v_BAME = rotate(k_BANE, cos_B1NE, sin_B1NE), v_BANE
        if past is not None:
            k_BAME = torch.cat((past[0], k_BAME), dim=2)
            v_BAME = torch.cat((past[1], v_BAME), dim=2)
        out_BANE = functional.scaled_dot_product_attention(
            q_BANE, k_BAME, v_BAME, attn_mask=mask_B1NM, is_causal=mask_B1NM is None
        )
        return self.o_proj(out_BANE.transpose(1, 2).flatten(2)), (k_BAME, v_BAME)


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated projection, of the shape of x."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One Llama layer: attention and MLP, each normalised before and added to the stream."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, x_BND: Tensor, rope: KeyValue, mask_B1NM: Tensor | None, past: KeyValue | None
    ) -> tuple[Tensor, KeyValue]:
        """Return the stream after this layer and the keys and values of all M tokens."""
        attended, present = self.self_attn(self.input_layernorm(x_BND), rope, mask_B1NM, past)
        x_BND = x_BND + attended
        return x_BND + self.mlp(self.post_attention_layernorm(x_BND)), present


class Llama(nn.Module):
    """Embedding, layers and the last normalisation."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(VOCABULARY, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x_BND: Tensor,
        positions_BN: Tensor,
        mask_B1NM: Tensor | None = None,
        past: list[KeyValue] | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Run the stack over N new tokens.

        Args:
            x_BND: their embeddings.
            positions_BN: their positions, int64.
            mask_B1NM: bool, true where a new token may look; causal over the new tokens if none.
            past: keys and values of each layer from the calls before, if any.

        Returns:
            The normalised hidden states, B x N x D, and the keys and values of each layer.
        """
        rope = rope_angles(positions_BN, rope_frequencies(self.config).to(x_BND.device))
        present = []
        for number, layer in enumerate(self.layers):
            x_BND, keys_values = layer(x_BND, rope, mask_B1NM, past[number] if past else None)
            present.append(keys_values)
        return self.norm(x_BND), present


class GazeDecoder(nn.Module):
    """The Llama stack with its two heads."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.num_at_once: int = config.num_multi_token_pred
        self.model = Llama(config)
        self.lm_head = nn.Linear(config.hidden_size, VOCABULARY * self.num_at_once, bias=False)
        self.task_loss_prediction_head = nn.Linear(config.hidden_size, self.num_at_once, bias=False)

    def heads(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, ... x K x V, and predicted losses, ... x K, of hidden states, ... x D."""
        logits: Tensor = self.lm_head(hidden).unflatten(-1, (self.num_at_once, VOCABULARY))
        return logits, self.task_loss_prediction_head(hidden)


class CausalConv(nn.Module):
    """A 3-D convolution that sees the present and the past, then ReLU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, time = config.hidden_dim, config.trunk_temporal_kernel_size
        side = config.trunk_spatial_kernel_size
        self.num_past: int = time - 1
        self.conv3d = nn.Conv3d(width, width, (time, side, side), padding=(0, side // 2, side // 2))

    def forward(self, x_BDTHW: Tensor) -> Tensor:
        """Return the convolved clip; frames before the first count as zero."""
        return functional.relu(self.conv3d(functional.pad(x_BDTHW, (0, 0, 0, 0, self.num_past, 0))))


class VisionModel(nn.Module):
    """Patch embedding, layer norm, causal convolutions, projection."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, side = config.hidden_dim, config.kernel_size
        self.temporal_conv = nn.Conv3d(3, width, (1, side, side), stride=(1, side, side))
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(CausalConv(config) for _ in range(config.depth))
        self.out_proj = nn.Conv3d(width, config.out_dim, 1)

    def forward(self, frames_BT3HW: Tensor) -> Tensor:
        """Return the cells of normalised frames, B x T x 196 x D."""
        x_BDTHW = self.temporal_conv(frames_BT3HW.transpose(1, 2))
        x_BDTHW = self.norm(x_BDTHW.movedim(1, -1)).movedim(-1, 1)
        for block in self.blocks:
            x_BDTHW = block(x_BDTHW)
        cells: Tensor = self.out_proj(x_BDTHW).flatten(3).movedim(1, -1)
        return cells


class Connector(nn.Module):
    """The learned position of each cell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(CELLS, width))

    def forward(self, cells_BTCD: Tensor) -> Tensor:
        """Return the cells with their positions added."""
        return cells_BTCD + self.pos_embed


class AutoGazeNetwork(nn.Module):
    """The whole network, from which the decoders take their weights."""

    def __init__(self, config: AutoGazeConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionModel(config.vision)
        self.connector = Connector(config.gaze_model_config.connector_config.hidden_dim)
        self.gaze_decoder = GazeDecoder(config.decoder)

    def cells(self, frames_BT3HW: Tensor) -> Tensor:
        """Return the vision tokens of normalised frames (`pixels.normalise`), B x T x 196 x D."""
        cells: Tensor = self.connector(self.vision_model(frames_BT3HW))
        return cells


def fresh_network(config: AutoGazeConfig, *, seed: int) -> AutoGazeNetwork:
    """Return an untrained float32 network on the CPU; equal seeds give equal weights.

    The distributions are those of the published code: normal with the config's deviation for linear
    layers and embeddings, torch's own uniform one for convolutions, standard normal cell positions.
    """
    network = AutoGazeNetwork(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            module = network.get_submodule(name.rpartition(".")[0])
            if isinstance(module, nn.Conv3d):
                bound = 1 / math.sqrt(module.weight[0].numel())
                parameter.uniform_(-bound, bound, generator=generator)
            elif isinstance(module, nn.Linear | nn.Embedding):
                parameter.normal_(0, config.decoder.initializer_range, generator=generator)
            elif isinstance(module, Connector):
                parameter.normal_(0, 1, generator=generator)
    return network
