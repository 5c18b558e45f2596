"""An untrained network that already knows what places are: where pre-training begins.

A random network spends most of a small budget on finding out that cell 17 of the input and choice 17 of
the output are the same place. Here this is laid in by hand, in weights like any others, free to change:

- the patch embedding is a cosine transform of the patch; two large constant channels make the layer
  norm behind it nearly linear, so that differences in time are differences of features;
- the first convolution holds such differences and the features themselves;
- cells, tokens and heads share one code of places, a cosine transform of each scale's grid, every
  scale in its own attention heads;
- the last layer looks at the frame just seen and passes on the codes of what it looks at; which cells
  deserve the look is left to training, and so is all the rest.

    legend   D width  C cells of a frame (196)  E numbers in a head  V vocabulary (266)
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.autogaze import AutoGazeConfig, AutoGazeNetwork, fresh_network
from gazepack.autogaze.network import Attention, CausalConv, Layer, VisionModel, rope_frequencies
from gazepack.autogaze.pixels import MEAN, STD
from gazepack.geometry import SCALE_SIDES, TILE_SIDE, TILE_TOKENS, tile_places

Floats = npt.NDArray[np.float64]

_CONSTANT = 40.0
"""The size of the two channels that dominate the layer norm."""
_FIRST_PSNR = 28.0
_SIDES_CODED = (2, 4, 7, 9)
"""Cosine frequencies a side in the code of each scale; the finest is a little blurred."""


def informed_network(config: AutoGazeConfig, *, seed: int) -> AutoGazeNetwork:
    """Return a network to begin pre-training with; equal seeds give equal weights.

    Args:
        config: its shape; a width that cannot hold the code of places gets a plain random start.
        seed: of the random part.
    """
    network = fresh_network(config, seed=seed)
    places = _place_code(config.decoder.hidden_size, config.decoder.head_size)
    if places is None or config.vision.hidden_dim < 64:
        return network
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        _transform_patches(network.vision_model)
        for block in network.vision_model.blocks.modules():
            if isinstance(block, CausalConv):
                _compare_in_time(block, generator)
        _share_places(network, places, generator)
        layers = [x for x in network.gaze_decoder.model.modules() if isinstance(x, Layer)]
        for layer in layers[:-1]:
            _look_at_same_place(layer.self_attn)
        _look_at_this_frame(layers[-1].self_attn, config, constant=int(places[1]))
    return network


def cosines(side: int, num: int) -> Floats:
    """Return the first `num` orthonormal cosines of a side, num x side."""
    at = np.arange(side) + 0.5
    waves = np.cos(np.pi / side * np.arange(num)[:, None] * at)
    return np.asarray(waves / np.linalg.norm(waves, axis=1, keepdims=True))


def _plane_waves(side: int, num: int) -> Floats:
    """Return the products of cosines down and across, lowest first: num * num x side * side."""
    waves = cosines(side, num)
    planes = np.einsum("ay,bx->abyx", waves, waves).reshape(num * num, side * side)
    down, across = np.divmod(np.arange(num * num), num)
    return np.asarray(planes[np.argsort(down + across, kind="stable")])


def _place_code(width: int, head_size: int) -> tuple[Floats, int] | None:
    """Return the code of each cell at each scale, 4 x C x D, and a channel left free; None if too narrow.

    Scales take whole heads where they can, from the finest down; the channel is the last but one.
    """
    code = np.zeros((len(SCALE_SIDES), TILE_SIDE**2, width))
    row, col = np.divmod(np.arange(TILE_SIDE**2), TILE_SIDE)
    first = 0
    for scale in reversed(range(len(SCALE_SIDES))):
        side, num = SCALE_SIDES[scale], _SIDES_CODED[scale]
        waves = _plane_waves(side, num) * side
        if first + len(waves) > width - 2:
            return None
        parent = (row * side // TILE_SIDE) * side + col * side // TILE_SIDE
        code[scale, :, first : first + len(waves)] = waves[:, parent].T
        first += len(waves)
        if scale > 1:  # the two coarsest share heads
            first = -(-first // head_size) * head_size
    return code * 0.7, width - 2


def _transform_patches(vision: VisionModel) -> None:
    """Make the patch embedding a cosine transform of brightness and two colour differences."""
    weight = vision.temporal_conv.weight
    side, width = weight.shape[-1], weight.shape[0]
    colours = np.asarray(((1, 1, 1), (1, -1, 0), (1, 1, -2)), dtype=np.float64)
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    waves = _plane_waves(side, side)
    num_colour = (width - 2) // 6
    counts = (width - 2 - 2 * num_colour, num_colour, num_colour)
    filters = np.concatenate(
        [
            np.einsum("c,nk->nck", colour, waves[:count])
            for colour, count in zip(colours, counts, strict=True)
        ]
    )
    firsts = [0, counts[0], counts[0] + counts[1]]
    filters[firsts] /= side / 2  # the mean is much larger than the rest
    weight.zero_()
    weight[: width - 2, :, 0] = _tensor(filters.reshape(width - 2, 3, side, side))
    # mid-grey, an untouched canvas, becomes zero
    grey = (128 / 127.5 - 1 - np.asarray(MEAN)) / np.asarray(STD)
    bias = vision.temporal_conv.bias
    assert bias is not None
    bias.copy_(-torch.einsum("ncyx,c->n", weight[:, :, 0], _tensor(grey)))
    bias[-2:] = torch.tensor([_CONSTANT, -_CONSTANT])
    vision.norm.weight.fill_(4.0)


def _compare_in_time(block: CausalConv, generator: torch.Generator) -> None:
    """Give half of the units a difference between the last two frames, in random mixtures."""
    weight, bias = block.conv3d.weight, block.conv3d.bias
    width, middle = weight.shape[0], weight.shape[-1] // 2
    mixtures = torch.randn(width // 2, width, generator=generator)
    decay = 1 / (1 + 0.05 * torch.arange(width, dtype=torch.float32))
    mixtures = mixtures * decay
    mixtures[:, -2:] = 0
    mixtures /= mixtures.norm(dim=1, keepdim=True)
    half = width // 2
    now, before = weight[:, :, -1, middle, middle], weight[:, :, -2, middle, middle]
    weight.mul_(0.1)
    now[:half] += mixtures
    before[:half] -= mixtures
    now[half : 2 * half] += mixtures
    assert bias is not None
    bias.zero_()


def _share_places(
    network: AutoGazeNetwork, places: tuple[Floats, int], generator: torch.Generator
) -> None:
    """Write the code of places into the cells, the tokens and the heads."""
    code_SCD, constant = places
    network.connector.pos_embed.copy_(_tensor(code_SCD.sum(0)))
    network.connector.pos_embed[:, constant] = 3.0
    scale, row, col = tile_places(np.arange(TILE_TOKENS))
    cell_row, cell_col = np.divmod(np.arange(TILE_SIDE**2), TILE_SIDE)
    sides = np.asarray(SCALE_SIDES)[scale][:, None]
    covers = (cell_row * sides // TILE_SIDE == row[:, None]) & (
        cell_col * sides // TILE_SIDE == col[:, None]
    )
    covers_IC = covers / covers.sum(1, keepdims=True)
    decoder = network.gaze_decoder
    tokens = decoder.model.embed_tokens.weight
    kinds = torch.randn(len(SCALE_SIDES), tokens.shape[1], generator=generator) * 0.5
    tokens[:TILE_TOKENS] = _tensor(covers_IC @ code_SCD.sum(0)) + kinds[torch.from_numpy(scale)]
    tokens[:TILE_TOKENS, constant] = 3.0
    tokens[:TILE_TOKENS, constant + 1] = 3.0
    own_ID = np.stack([covers_IC[i] @ code_SCD[s] for i, s in enumerate(scale)])
    norms = np.square(own_ID).sum(1, keepdims=True)
    heads = decoder.lm_head.weight.view(decoder.num_at_once, -1, own_ID.shape[1])
    heads[:, :TILE_TOKENS] += _tensor(own_ID * (4.0 / norms))
    # the constant's share of the loss that is predicted: about 28 dB to begin with
    decoder.task_loss_prediction_head.weight[:, constant] = -_FIRST_PSNR / 3.0


def _look_at_same_place(attention: Attention) -> None:
    """Let every position look for its own code of places."""
    width = attention.q_proj.weight.shape[0]
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight += 1.2 * torch.eye(width)
    for projection in (attention.v_proj, attention.o_proj):
        projection.weight *= 2.5


def _look_at_this_frame(attention: Attention, config: AutoGazeConfig, *, constant: int) -> None:
    """Let every position look at what is near in time, and pass on the codes it finds there."""
    width, E = config.decoder.hidden_size, config.decoder.head_size
    for projection in (attention.v_proj, attention.o_proj):
        projection.weight += torch.eye(width)
    frequencies = rope_frequencies(config.decoder)
    slow = [i for i, f in enumerate(frequencies.tolist()) if 1e-3 < f < 1e-2]
    for head in range(config.decoder.num_attention_heads):
        for i in slow:
            attention.q_proj.weight[head * E + i, constant] += 1.0
            attention.k_proj.weight[head * E + i, constant] += 1.0


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()
