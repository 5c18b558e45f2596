"""AutoGaze with the canvas as its memory: the network that gazepack trains and ships.

The published network remembers earlier frames by every token it was ever fed, and must work out for
itself what they left on the canvas. This one is shown the canvas. Each frame is then a question of its
own: here is the frame, here is what its painting shows so far; which patches next? Nothing is carried
but the canvas, so a clip may be of any length, memory does not grow, and frames of all clips share a
batch. Of AutoGaze it keeps the vocabulary, the decoder with its K choices and losses a step, and the
ways of stopping.

Two readings of the encoder join the decoder's answers. Both depend on what is painted already in this
frame, which is known exactly and need not be learned:

- **appeal**: how much a patch would gain, read from the cells it covers, one answer for each scale that
  may be painted beneath it, less where finer patches lie over it;
- **loss**: how wrong each half patch would be, painted at each scale; how wrong the canvas is, is known.
  The mean over what shows is the loss of the whole frame as it stands, before and after any choice.

    legend   N frames  C cells (196)  I choices of a frame (265)  H half patches (784)  S side in pixels
             E errors: of the canvas, then of each scale painted (5)  L what is painted beneath a patch:
             nothing, or scale 0, 1 or 2 (4)  J tokens given  Q any further axes  D width
             K tokens predicted at once  V vocabulary (266)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gazepack.autogaze.config import CELLS, END, INPUT_SIDE, AutoGazeConfig
from gazepack.autogaze.network import Connector, GazeDecoder
from gazepack.geometry import (
    CELLS_PER_TILE,
    FINEST,
    NUM_SCALES,
    SCALE_OFFSETS,
    SCALE_SIDES,
    TILE_SIDE,
    TILE_TOKENS,
    tile_places,
)
from gazepack.patches import cell_errors

HALVES = CELLS_PER_TILE * CELLS_PER_TILE
"""Half patches of a tile."""
ERRORS = 1 + NUM_SCALES
"""Errors of a half patch: of the canvas, and of each scale painted."""
LEAST_ERROR = 1e-6
"""The smallest mean squared error that is told from none, in units of 255 squared: 60 dB."""
DECIBELS_PER_DOUBLING = float(10 * np.log10(2))
_LOG_ERROR_ORIGIN = -10.0
"""What the network counts logarithms of errors from: 30 dB."""
_USUAL_LOG_ERRORS = (-8.0, -7.0, -8.0, -10.0, -19.93)
"""Of the canvas and of the four scales; the finest is exact, which counts as 60 dB."""
_BARE = 0.03
"""The share of a patch that counts as open even where finer patches cover all of it."""
_NUM_LEVELS = NUM_SCALES
"""What may lie beneath a patch: nothing, or one of the three coarser scales."""


def _geometry() -> dict[str, npt.NDArray[np.generic]]:
    """Return the fixed relations between choices, cells and half patches."""
    scale_I, row_I, col_I = tile_places(np.arange(TILE_TOKENS))
    half = np.arange(CELLS_PER_TILE)
    choice_EH = np.full((ERRORS, HALVES), END)
    for s, (start, side) in enumerate(zip(SCALE_OFFSETS, SCALE_SIDES, strict=True)):
        at = half * side // CELLS_PER_TILE
        choice_EH[1 + s] = (start + at[:, None] * side + at).ravel()
    covers_IH = choice_EH[1 + scale_I] == np.arange(TILE_TOKENS)[:, None]
    covers_IC = covers_IH.reshape(-1, TILE_SIDE, 2, TILE_SIDE, 2).sum((2, 4)).reshape(-1, CELLS)
    overlap_II = covers_IH.astype(np.float32) @ covers_IH.T.astype(np.float32)
    sides_I = np.asarray(SCALE_SIDES)[scale_I]
    beneath_IL = np.full((TILE_TOKENS, _NUM_LEVELS - 1), END)
    for s in range(FINEST):
        row, col = ((2 * x + 1) * SCALE_SIDES[s] // (2 * sides_I) for x in (row_I, col_I))
        is_coarser = scale_I > s
        beneath_IL[is_coarser, s] = (SCALE_OFFSETS[s] + row * SCALE_SIDES[s] + col)[is_coarser]
    is_beneath_II = (beneath_IL == np.arange(TILE_TOKENS)[:, None, None]).any(-1)
    return {
        "scale_I": scale_I,
        "choice_EH": choice_EH,
        "share_IC": (covers_IC / covers_IC.sum(1, keepdims=True)).astype(np.float32),
        "beneath_IL": beneath_IL,
        "halves_I": covers_IH.sum(1).astype(np.float32),
        "over_II": np.where(scale_I[:, None] > scale_I, overlap_II, 0),
        "level_II": np.where(is_beneath_II, 1 + scale_I[:, None], 0),
        "level_IH": np.where(covers_IH, 1 + scale_I[:, None], 0).astype(np.uint8),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the encoder found in N frames."""

    cells_NCD: Tensor
    """What the decoder is fed."""
    patches_NID: Tensor
    """Of each patch."""
    appeal_NIL: Tensor
    """Of each patch over what may lie beneath it; about the binary logarithm of its gain."""
    log_errors_NEH: Tensor
    """Binary logarithms of mean squared errors, in units of 255 squared. The canvas' own, the first, is read
    as well, since a network that knows where it is wrong knows where to look; but it counts as measured."""
    canvas_log_errors_NH: Tensor
    """The canvas' as measured."""

    def known_log_errors(self) -> Tensor:
        """Return the errors as they count, N x E x H: the canvas' as measured, the others as read."""
        return torch.cat((self.canvas_log_errors_NH[:, None], self.log_errors_NEH[:, 1:]), dim=1)

    def rows(self, rows: Tensor) -> "Look":
        """Return some of its frames."""
        return Look(
            cells_NCD=self.cells_NCD[rows],
            patches_NID=self.patches_NID[rows],
            appeal_NIL=self.appeal_NIL[rows],
            log_errors_NEH=self.log_errors_NEH[rows],
            canvas_log_errors_NH=self.canvas_log_errors_NH[rows],
        )


class ResidualBlock(nn.Module):
    """Normalise, 3 x 3 convolution, GELU, projection, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.out_proj = nn.Conv2d(width, width, 1)

    def forward(self, x_NDGG: Tensor) -> Tensor:
        """Return the stream after this block."""
        normed_NDGG = self.norm(x_NDGG.movedim(1, -1)).movedim(-1, 1)
        added_NDGG: Tensor = self.out_proj(functional.gelu(self.conv(normed_NDGG)))
        return x_NDGG + added_NDGG


class CanvasEncoder(nn.Module):
    """Frame and difference from the canvas, down to 14 x 14 cells in three steps, then blocks."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        widths = (6, width // 4, width // 2, width)
        self.steps = nn.ModuleList(
            nn.Conv2d(before, after, side, stride=side)
            for before, after, side in zip(widths, widths[1:], (4, 2, 2), strict=False)
        )
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels_N6SS: Tensor) -> Tensor:
        """Return the cells, N x C x D."""
        x = pixels_N6SS
        for number, step in enumerate(self.steps):
            x = step(functional.gelu(x) if number else x)
        for block in self.blocks:
            x = block(x)
        cells: Tensor = self.norm(x.flatten(2).transpose(1, 2))
        return cells


class CanvasNetwork(nn.Module):
    """The whole network, for training and for the engine to take its weights from.

    Args:
        config: with `memory` canvas.
    """

    scale_I: Tensor
    choice_EH: Tensor
    share_IC: Tensor
    beneath_IL: Tensor
    """Which patch of each coarser scale lies beneath a choice, the end if none."""
    halves_I: Tensor
    """Half patches of a choice, float32."""
    over_II: Tensor
    """How many half patches of the second choice the first lies over, as it is finer; float32."""
    level_II: Tensor
    """The level that the first choice gives the second, to be painted on it; 0 where it lies elsewhere."""
    level_IH: Tensor
    """The row of the errors that a choice makes a half patch show; 0 where it does not cover it."""

    def __init__(self, config: AutoGazeConfig) -> None:
        super().__init__()
        self.config = config
        width, num_at_once = config.decoder.hidden_size, config.decoder.num_multi_token_pred
        self.encoder = CanvasEncoder(width, config.vision.depth)
        self.patch_proj = nn.Linear(width, width)
        self.patch_kind = nn.Embedding(NUM_SCALES, width)
        self.appeal_proj = nn.Linear(width, NUM_SCALES * _NUM_LEVELS)
        self.appeal_scale = nn.Parameter(torch.tensor(1.5))
        self.open_weight = nn.Parameter(torch.ones(NUM_SCALES))
        self.error_proj = nn.Linear(width, ERRORS * 4)
        self.token_proj = nn.Linear(width, width)
        self.connector = Connector(width)
        self.gaze_decoder = GazeDecoder(config.decoder)
        self.loss_bias = nn.Parameter(torch.zeros(num_at_once))
        for name, values in _geometry().items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    # ------------------------------------------------------------------------------------ seeing

    def look(self, frames_N3SS: Tensor, canvas_N3SS: Tensor) -> Look:
        """Look at frames and at what their canvases hold before them.

        Args:
            frames_N3SS: uint8; sides other than 224 are resized, bicubic without antialiasing.
            canvas_N3SS: uint8, of the same shape.
        """
        dtype = self.patch_proj.weight.dtype
        cells_NCD = self.encoder(as_input(frames_N3SS, canvas_N3SS).to(dtype))
        patches_NID = self.patch_proj(self.share_IC.to(dtype) @ cells_NCD)
        patches_NID = functional.gelu(patches_NID + self.patch_kind(self.scale_I))
        appeal_NISL = self.appeal_proj(patches_NID).unflatten(-1, (NUM_SCALES, _NUM_LEVELS))
        choices_I = torch.arange(TILE_TOKENS, device=cells_NCD.device)
        errors_NEH = self.error_proj(cells_NCD).unflatten(1, (TILE_SIDE, TILE_SIDE))
        errors_NEH = errors_NEH.unflatten(-1, (ERRORS, 2, 2)).permute(0, 3, 1, 4, 2, 5).flatten(2)
        return Look(
            cells_NCD=self.connector(cells_NCD),
            patches_NID=patches_NID,
            appeal_NIL=appeal_NISL[:, choices_I, self.scale_I].float(),
            log_errors_NEH=errors_NEH.float() + _LOG_ERROR_ORIGIN,
            canvas_log_errors_NH=measured(frames_N3SS, canvas_N3SS),
        )

    def appeal(self, look: Look, taken_NQV: Tensor) -> Tensor:
        """Return what is added to the logits of choices, N x Q x I, given what is painted already.

        Args:
            look: of N frames.
            taken_NQV: bool, which ids are painted in this frame; the last, the end, never is.
        """
        levels_L = torch.arange(1, _NUM_LEVELS, device=taken_NQV.device, dtype=torch.uint8)
        level_NQI = (taken_NQV[..., self.beneath_IL] * levels_L).amax(-1).long()
        appeal_NIL = look.appeal_NIL.view(
            len(look.appeal_NIL), *(1,) * (taken_NQV.ndim - 2), *look.appeal_NIL.shape[1:]
        )
        appeal_NQIL = appeal_NIL.expand(*level_NQI.shape, -1)
        appeal_NQI = appeal_NQIL.gather(-1, level_NQI[..., None])[..., 0]
        covered_NQI = taken_NQV[..., :TILE_TOKENS].float() @ self.over_II
        return self.appeal_scale.float() * appeal_NQI + self.openness(covered_NQI)

    def openness(self, covered_NQI: Tensor) -> Tensor:
        """Return what finer patches leave of the appeal of patches.

        Args:
            covered_NQI: float32, half patches under finer ones, counted once for each that lies over them.
        """
        share_NQI = (covered_NQI / self.halves_I).clamp(max=1)
        return torch.log(1 + _BARE - share_NQI) * self.open_weight[self.scale_I].float()

    def loss_shown(self, look: Look, taken_NQV: Tensor) -> Tensor:
        """Return minus the PSNR in dB of frames as they are painted, N x Q, read from the errors.

        Args:
            look: of N frames.
            taken_NQV: bool, which ids are painted in this frame.
        """
        levels_E = torch.arange(ERRORS, device=taken_NQV.device, dtype=torch.uint8)
        level_NQH = (taken_NQV[..., self.choice_EH] * levels_E[:, None]).amax(-2).long()
        errors_NEH = look.known_log_errors().view(
            len(taken_NQV), *(1,) * (taken_NQV.ndim - 2), ERRORS, HALVES
        )
        errors_NQEH = errors_NEH.expand(*taken_NQV.shape[:-1], -1, -1)
        shown_NQH = errors_NQEH.gather(-2, level_NQH[..., None, :])[..., 0, :]
        return DECIBELS_PER_DOUBLING * torch.log2(torch.exp2(shown_NQH).mean(-1))

    # ---------------------------------------------------------------------------------- choosing

    def embed(self, look: Look, ids_NJ: Tensor) -> Tensor:
        """Return what the decoder is fed for chosen tokens, N x J x D: which they are and what they show."""
        ends_N1D = look.patches_NID.new_zeros((len(ids_NJ), 1, look.patches_NID.shape[2]))
        patches_NVD = torch.cat((look.patches_NID, ends_N1D), dim=1)
        shown_NJD = patches_NVD.gather(1, ids_NJ[..., None].expand(-1, -1, patches_NVD.shape[2]))
        tokens_NJD: Tensor = self.gaze_decoder.model.embed_tokens(ids_NJ)
        patches_NJD: Tensor = self.token_proj(shown_NJD)
        return tokens_NJD + patches_NJD

    def forward(self, look: Look, ids_NJ: Tensor) -> tuple[Tensor, Tensor]:
        """Feed the decoder a frame's cells and then tokens that are given.

        Args:
            look: of N frames.
            ids_NJ: int64 tile ids in gaze order; 265 behind a list's end.

        Returns:
            Corrections of the logits, N x (J + 1) x K x V, and of the losses in dB, N x (J + 1) x K, float32,
            as they stand before the first token and after each. Decoding reads the first and then every Kth.
            What the frame's loss is before anything is painted is known, so there is nothing to correct.
        """
        x_NMD = torch.cat((look.cells_NCD, self.embed(look, ids_NJ)), dim=1)
        positions_NM = torch.arange(x_NMD.shape[1], device=x_NMD.device).expand(len(x_NMD), -1)
        hidden_NMD, _ = self.gaze_decoder.model(x_NMD, positions_NM)
        logits, losses = self.gaze_decoder.heads(hidden_NMD[:, CELLS - 1 :])
        losses_NQK = losses.float() + self.loss_bias.float()
        is_known_QK = torch.zeros_like(losses_NQK[0], dtype=torch.bool)
        is_known_QK[0, 0] = True
        return logits.float(), losses_NQK.masked_fill(is_known_QK, 0)


def measured(frames_N3SS: Tensor, canvas_N3SS: Tensor) -> Tensor:
    """Return the binary logarithm of the mean squared error of each half patch of canvases, float32 N x H.

    Args:
        frames_N3SS: uint8.
        canvas_N3SS: uint8.
    """
    patch_size = frames_N3SS.shape[-1] // TILE_SIDE
    squares_NYX = cell_errors(frames_N3SS, canvas_N3SS, patch_size)
    means_NH = squares_NYX.flatten(1) / (3 * (patch_size // 2) ** 2 * 255.0**2)
    return torch.log2(means_NH.clamp(min=LEAST_ERROR)).float()


def as_input(frames_N3SS: Tensor, canvas_N3SS: Tensor) -> Tensor:
    """Return frame and difference from the canvas as the network reads them, N x 6 x 224 x 224, float32."""
    frames, canvas = (x.contiguous().float() for x in (frames_N3SS, canvas_N3SS))
    x_N6SS = torch.cat((frames / 64 - 2, (frames - canvas) / 16), dim=1)
    if x_N6SS.shape[-1] != INPUT_SIDE:
        x_N6SS = functional.interpolate(
            x_N6SS, size=(INPUT_SIDE, INPUT_SIDE), mode="bicubic", align_corners=False
        )
    return x_N6SS


def fresh_canvas_network(config: AutoGazeConfig, *, seed: int) -> CanvasNetwork:
    """Return an untrained float32 network on the CPU; equal seeds give equal weights.

    The decoder's heads begin at zero: until it has something to add, the two readings decide alone. Errors
    begin near what they usually are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CanvasNetwork(config)
        nn.init.normal_(network.connector.pos_embed, std=0.3)
        nn.init.normal_(network.gaze_decoder.model.embed_tokens.weight, std=0.3)
    nn.init.zeros_(network.gaze_decoder.lm_head.weight)
    nn.init.zeros_(network.gaze_decoder.task_loss_prediction_head.weight)
    usual_E = torch.tensor(_USUAL_LOG_ERRORS) - _LOG_ERROR_ORIGIN
    network.error_proj.bias.data.copy_(usual_E.repeat_interleave(4))
    return network
