"""AutoGaze as a selector: each tile of a clip is gazed at alone, and a frame takes what its tiles chose.

The network knows one tile; a grid of R x C tiles is R x C clips to it. A frame's choices are dealt out by rank,
first every tile's first choice, then every tile's second, so that any prefix of a frame's tokens looks at the
whole frame.

A network that remembers its tokens gazes at whole clips beforehand, and knows nothing of what is added to or
left out of its choices. One that remembers the canvas is asked frame by frame and shown what was really
painted; on the CPU the tiles of one clip then follow each other in one thread, so a batch keeps as many
cores busy as it has clips.

    legend   B  clips     T  frames     G  tiles of the grid     S  side of a tile in pixels     K  tokens
             N  tiles that are looked at
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.autogaze import AutoGaze, Gaze, frame_budgets
from gazepack.geometry import TILE_TOKENS, Grid
from gazepack.patches import cell_errors, max_sum_of_squares, split_tiles
from gazepack.selectors.base import ClipBatch, GazingRatio, Listed, Proposal, Proposer, ratio_at


class Gazing:
    """The `autogaze` selector.

    Args:
        model: a loaded network.
        gazing_ratio: the most tokens per tile and frame, as a share of 265; a sequence gives the ratio of each
            position in the clip, its last value going on to the end.
        loss_threshold: a tile's frame ends once the predicted loss is at or below this, in the unit the model
            was trained with; no such end if `None`.
        stops_at_bound: where there is a bound on the painting error, take a frame's choices one by one only
            until it is met, rather than all of them: the error is measured, so what the network would add out
            of caution need not be stored. Of a network that is shown the canvas and predicts dB, a tile that
            meets the threshold already is not looked at.
    """

    name = "autogaze"

    def __init__(
        self,
        model: AutoGaze,
        *,
        gazing_ratio: GazingRatio = 1.0,
        loss_threshold: float | None = None,
        stops_at_bound: bool = False,
    ) -> None:
        self.model = model
        self.stops_at_bound = stops_at_bound
        self.gazing_ratio = gazing_ratio
        self.loss_threshold = loss_threshold

    def settings(self) -> dict[str, Any]:
        """Return its provenance."""
        return {
            "name": self.name,
            "gazing_ratio": self.gazing_ratio,
            "loss_threshold": self.loss_threshold,
            "stops_at_bound": self.stops_at_bound,
            "model_sha256": self.model.sha256,
            "decode_positions": self.model.config.decode_positions,
            "loss_unit": self.model.config.loss_unit,
        }

    def begin(self, clips: ClipBatch) -> Proposer:
        """Gaze at every tile of every clip, or get ready to look at frames beside their canvases."""
        if self.model.config.memory == "canvas":
            return _Looking(self, clips)
        proposals: list[list[Proposal]] = [[] for _ in range(len(clips))]
        for length in sorted(set(clips.num_frames)):
            rows = [b for b, num in enumerate(clips.num_frames) if num == length]
            gazes = self._gaze(clips.frames_BT3HW[rows, :length], clips.grid)
            for row, tiles in zip(rows, gazes, strict=True):
                frames = zip(*(_by_frame(gaze) for gaze in tiles), strict=True)
                proposals[row] = [_deal(chosen_G) for chosen_G in frames]
        return Listed(proposals=proposals)

    def _gaze(self, frames_BT3HW: Tensor, grid: Grid) -> list[list[Gaze]]:
        """Return the gaze of each tile of clips of one length."""
        ratios = [ratio_at(self.gazing_ratio, t) for t in range(frames_BT3HW.shape[1])]
        tiles_BTG3SS = torch.unflatten(
            split_tiles(frames_BT3HW.flatten(0, 1), grid), 0, frames_BT3HW.shape[:2]
        )
        gazes = self.model.gaze(
            tiles_BTG3SS.transpose(1, 2).flatten(0, 1),
            gazing_ratio=ratios,
            loss_threshold=self.loss_threshold,
        )
        num = grid.num_tiles
        return [gazes[start : start + num] for start in range(0, len(gazes), num)]


Chosen = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Tile ids and losses of one tile and frame, in gaze order."""

_UNSEEN: Chosen = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))


def _by_frame(gaze: Gaze) -> list[Chosen]:
    """Split the gaze of one tile into its frames."""
    borders = np.cumsum(gaze.num_each_frame)[:-1]
    ids = gaze.ids.astype(np.int64) % TILE_TOKENS  # they count on from frame to frame
    return list(zip(np.split(ids, borders), np.split(gaze.loss, borders), strict=True))


def _deal(chosen_G: Sequence[Chosen]) -> Proposal:
    """Put the choices of a frame's tiles together, in order of (rank, tile)."""
    rank = np.concatenate([np.arange(len(ids)) for ids, _ in chosen_G])
    order = np.argsort(rank, kind="stable")
    choices = np.concatenate([tile * TILE_TOKENS + ids for tile, (ids, _) in enumerate(chosen_G)])
    losses = np.concatenate([losses for _, losses in chosen_G])
    return Proposal(choices=choices[order], losses=losses[order])


class _Looking:
    """The proposer of a network that is shown canvases."""

    def __init__(self, gazing: Gazing, clips: ClipBatch) -> None:
        self._gazing = gazing
        self._clips = clips

    def propose(self, number: int, *, rows: Sequence[int], canvas_BG3SS: Tensor) -> list[Proposal]:
        """Look at the tiles of a frame, each beside what its canvas holds."""
        gazing, grid = self._gazing, self._clips.grid
        tiles_BG3SS = split_tiles(self._clips.frames_BT3HW[list(rows), number], grid)
        at_N = self._looked_at(tiles_BG3SS, canvas_BG3SS)
        budgets = frame_budgets((ratio_at(gazing.gazing_ratio, number),), 1) * len(at_N)
        gazes = gazing.model.look(
            tiles_BG3SS.flatten(0, 1)[at_N],
            canvas_BG3SS.flatten(0, 1)[at_N],
            budgets=budgets,
            loss_threshold=gazing.loss_threshold,
        )
        chosen: list[Chosen] = [_UNSEEN] * (len(rows) * grid.num_tiles)
        for tile, gaze in zip(at_N.tolist(), gazes, strict=True):
            chosen[tile] = np.asarray(gaze.ids), np.asarray(gaze.loss, dtype=np.float32)
        num = grid.num_tiles
        return [_deal(chosen[start : start + num]) for start in range(0, len(chosen), num)]

    def _looked_at(self, tiles_BG3SS: Tensor, canvas_BG3SS: Tensor) -> Tensor:
        """Return which tiles to look at, counted over those of all rows."""
        gazing, side = self._gazing, tiles_BG3SS.shape[-1]
        threshold = gazing.loss_threshold if gazing.stops_at_bound else None
        tiles, canvas = tiles_BG3SS.flatten(0, 1), canvas_BG3SS.flatten(0, 1)
        if threshold is None or gazing.model.config.loss_unit != "negative_psnr":
            return torch.arange(len(tiles), device=tiles.device)
        squares_N = cell_errors(tiles, canvas, self._clips.grid.patch_size).sum((1, 2))
        return torch.nonzero(squares_N > max_sum_of_squares(-threshold, 3 * side * side)).squeeze(1)
