"""What gazing is measured against: frame difference, random patches, every patch.

With a gazing ratio each takes that many tokens a frame (and is topped up to a bound, if there is one); without,
`difference` and `random` take their tokens one by one until the frame meets the bound.
"""

import hashlib
from typing import Any

import numpy as np
import torch

from gazepack.geometry import DENSE_TILE_TOKENS, FINEST, SCALE_OFFSETS, TILE_TOKENS, Ints
from gazepack.patches import MID_GREY, to_patches
from gazepack.selectors.base import ClipBatch, GazingRatio, Listed, Proposal, ratio_at


def budget(gazing_ratio: float) -> int:
    """Return the tokens per tile and frame that a gazing ratio allows, as the published code counts them."""
    return max(1, int(np.float32(gazing_ratio) * np.float32(TILE_TOKENS)))


class Difference:
    """The `difference` selector: finest patches, those first that differ most from the frame before."""

    name = "difference"

    def __init__(self, *, gazing_ratio: GazingRatio | None = None) -> None:
        self.gazing_ratio = gazing_ratio
        self.stops_at_bound: bool = gazing_ratio is None

    def settings(self) -> dict[str, Any]:
        """Return its provenance."""
        return {"name": self.name, "gazing_ratio": self.gazing_ratio}

    def begin(self, clips: ClipBatch) -> Listed:
        """Order the finest patches by absolute difference in RGB; the first frame differs from mid-grey."""
        return Listed(
            proposals=[
                [Proposal.without_losses(self._order(clips, b, t)) for t in range(num)]
                for b, num in enumerate(clips.num_frames)
            ]
        )

    def _order(self, clips: ClipBatch, clip: int, number: int) -> Ints:
        """Return the choices of one frame."""
        grid = clips.grid
        frame_3HW = clips.frames_BT3HW[clip, number].to(torch.int16)
        before_3HW = clips.frames_BT3HW[clip, number - 1] if number else MID_GREY
        apart = to_patches((frame_3HW - before_3HW).abs()[None], grid.patch_size)[0]
        apart_IJ = apart.sum((2, 3, 4)).cpu().numpy()
        order = np.argsort(-apart_IJ.reshape(-1), kind="stable")
        row, col = np.divmod(order, apart_IJ.shape[1])
        tile, ids = grid.to_tile(np.full(len(order), FINEST), row, col)
        choices: Ints = tile * TILE_TOKENS + ids
        if self.gazing_ratio is None:
            return choices
        return choices[: budget(ratio_at(self.gazing_ratio, number)) * grid.num_tiles]


class Random:
    """The `random` selector: patches of all scales in an order drawn from (seed, clip, frame)."""

    name = "random"

    def __init__(self, *, gazing_ratio: GazingRatio | None = None, seed: int = 0) -> None:
        self.gazing_ratio = gazing_ratio
        self.seed = seed
        self.stops_at_bound: bool = gazing_ratio is None

    def settings(self) -> dict[str, Any]:
        """Return its provenance."""
        return {"name": self.name, "gazing_ratio": self.gazing_ratio, "seed": self.seed}

    def begin(self, clips: ClipBatch) -> Listed:
        """Draw an order for each frame."""
        return Listed(
            proposals=[
                [Proposal.without_losses(self._order(clips, name, t)) for t in range(num)]
                for name, num in zip(clips.names, clips.num_frames, strict=True)
            ]
        )

    def _order(self, clips: ClipBatch, name: str, number: int) -> Ints:
        """Return the choices of one frame."""
        words = f"{self.seed}\0{name}\0{number}".encode()
        key = int.from_bytes(hashlib.blake2b(words, digest_size=16).digest(), "little")
        order = np.random.Generator(np.random.Philox(key=key)).permutation(clips.grid.num_choices)
        if self.gazing_ratio is None:
            return order
        return order[: budget(ratio_at(self.gazing_ratio, number)) * clips.grid.num_tiles]


class All:
    """The `all` selector: every finest patch, which is the dense video in gazepack's format."""

    name = "all"
    stops_at_bound = False

    def settings(self) -> dict[str, Any]:
        """Return its provenance."""
        return {"name": self.name}

    def begin(self, clips: ClipBatch) -> Listed:
        """Propose the finest patches of each frame, tile by tile, row-major."""
        in_tile = SCALE_OFFSETS[FINEST] + np.arange(DENSE_TILE_TOKENS)
        tiles = np.arange(clips.grid.num_tiles) * TILE_TOKENS
        proposal = Proposal.without_losses((tiles[:, None] + in_tile).reshape(-1))
        return Listed(proposals=[[proposal] * num for num in clips.num_frames])
