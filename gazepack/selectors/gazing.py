"""AutoGaze as a selector: each tile of a clip is gazed at alone, and a frame takes what its tiles chose.

The network knows one tile and 16 frames; a grid of R x C tiles is R x C clips to it. Tiles of all clips of one
length go to it in one batch. A frame's choices are dealt out by rank, first every tile's first choice, then
every tile's second, so that any prefix of a frame's tokens looks at the whole frame.

    legend   B  clips     T  frames     G  tiles of the grid     S  side of a tile in pixels     K  tokens
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.autogaze import AutoGaze, Gaze
from gazepack.geometry import TILE_TOKENS, Grid
from gazepack.patches import split_tiles
from gazepack.selectors.base import ClipBatch, GazingRatio, Proposal, ratio_at


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
            of caution need not be stored.
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

    def propose(self, clips: ClipBatch) -> list[list[Proposal]]:
        """Gaze at every tile of every clip."""
        proposals: list[list[Proposal]] = [[] for _ in range(len(clips))]
        for length in sorted(set(clips.num_frames)):
            rows = [b for b, num in enumerate(clips.num_frames) if num == length]
            gazes = self._gaze(clips.frames_BT3HW[rows, :length], clips.grid)
            for row, tiles in zip(rows, gazes, strict=True):
                proposals[row] = _deal([_by_frame(gaze) for gaze in tiles], length)
        return proposals

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


def _by_frame(gaze: Gaze) -> list[Chosen]:
    """Split the gaze of one tile into its frames."""
    borders = np.cumsum(gaze.num_each_frame)[:-1]
    ids = gaze.ids.astype(np.int64) % TILE_TOKENS  # they count on from frame to frame
    return list(zip(np.split(ids, borders), np.split(gaze.loss, borders), strict=True))


def _deal(chosen_GT: Sequence[Sequence[Chosen]], num_frames: int) -> list[Proposal]:
    """Put the choices of a clip's tiles together, frame by frame, in order of (rank, tile)."""
    proposals = []
    for t in range(num_frames):
        ids = [frames[t][0] for frames in chosen_GT]
        rank = np.concatenate([np.arange(len(part)) for part in ids])
        order = np.argsort(rank, kind="stable")
        choices = np.concatenate([tile * TILE_TOKENS + part for tile, part in enumerate(ids)])
        losses = np.concatenate([frames[t][1] for frames in chosen_GT]).astype(np.float32)
        proposals.append(Proposal(choices=choices[order], losses=losses[order]))
    return proposals
