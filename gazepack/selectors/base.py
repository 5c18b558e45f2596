"""What a selector is given and what it answers.

A selector is asked frame by frame, and told what each canvas holds by then: some choose by it. Those that
know everything beforehand answer from a list.

    legend   B  clips in the batch     T  frames of the longest clip (at most 16)     K  tokens
             G  tiles of the grid      S  side of a tile in pixels
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gazepack.geometry import Grid, Ints

GazingRatio = float | tuple[float, ...]
"""The most tokens per tile and frame as a share of 265: for every frame, or for each position in a clip."""


def ratio_at(gazing_ratio: GazingRatio, number: int) -> float:
    """Return the ratio of frame `number` of a clip; the last of several ratios goes on to the clip's end."""
    if isinstance(gazing_ratio, tuple):
        return gazing_ratio[min(number, len(gazing_ratio) - 1)]
    return gazing_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipBatch:
    """Clips of one grid, of any videos."""

    frames_BT3HW: Tensor
    """uint8, fitted to the grid; what lies past a clip's own length is ignored."""
    num_frames: tuple[int, ...]
    """How many frames each clip has, 1..16."""
    names: tuple[str, ...]
    """A name for each clip that does not depend on its neighbours; seeds randomness."""
    grid: Grid
    whole: bool = False
    """Whether every finest patch is kept, whoever chooses."""

    def __len__(self) -> int:
        return len(self.num_frames)

    def part(self, rows: range) -> "ClipBatch":
        """Return some clips, one after the other."""
        at = slice(rows.start, rows.stop)
        return ClipBatch(
            frames_BT3HW=self.frames_BT3HW[at],
            num_frames=self.num_frames[at],
            names=self.names[at],
            grid=self.grid,
            whole=self.whole,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a selector wants to see of one frame, in order."""

    choices: Ints
    """K choices, each tile * 265 + tile id, none twice."""
    losses: npt.NDArray[np.float32]
    """K losses, predicted before that token was added, in the selector's unit; NaN where unknown."""

    @classmethod
    def without_losses(cls, choices: Ints) -> "Proposal":
        """Propose choices whose loss is unknown."""
        return cls(choices=choices, losses=np.full(len(choices), np.nan, dtype=np.float32))


NOTHING = Proposal.without_losses(np.zeros(0, dtype=np.int64))


class Proposer(Protocol):
    """A selector at work on one batch of clips."""

    def propose(
        self, number: int, *, rows: Sequence[int], canvas_BG3SS: Tensor
    ) -> Sequence[Proposal]:
        """Return a proposal for one frame of some clips.

        Called from several threads at once, each with clips of its own, whose frames come in order; a clip
        may be left out of a frame that needs nothing. The answer for a clip must not depend on the clips
        beside it.

        Args:
            number: the frame, counted from the beginning of each clip.
            rows: which clips of the batch, each longer than `number`.
            canvas_BG3SS: uint8, what the canvases of just these clips hold before the frame.

        Returns:
            One proposal for each of `rows`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The proposer of a selector that needs no canvas: all is decided beforehand."""

    proposals: Sequence[Sequence[Proposal]]
    """Of each clip, one for each frame."""

    def propose(
        self,
        number: int,
        *,
        rows: Sequence[int],
        canvas_BG3SS: Tensor,  # noqa: ARG002 (all is decided)
    ) -> Sequence[Proposal]:
        """Look up the frame; the canvas is not looked at."""
        return [self.proposals[row][number] for row in rows]


class Selector(Protocol):
    """Who chooses."""

    @property
    def name(self) -> str:
        """One of the names in DESIGN: autogaze, greedy, difference, random, all."""

    @property
    def stops_at_bound(self) -> bool:
        """Whether choices are taken one by one only until the frame meets the bound."""

    def settings(self) -> dict[str, Any]:
        """Return what decides its choices, as JSON: part of a dataset's provenance."""

    def begin(self, clips: ClipBatch) -> Proposer:
        """Return who is asked for the frames of these clips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The tokens chosen for one clip of one view, frame by frame, in gaze order."""

    frame: npt.NDArray[np.uint16]
    """K, counted from the first frame of the clip; never falls."""
    scale: npt.NDArray[np.uint16]
    """K, 0 (coarse) to 3."""
    row: npt.NDArray[np.uint16]
    """K, over the whole grid at that scale."""
    col: npt.NDArray[np.uint16]
    """K, over the whole grid at that scale."""
    rank: npt.NDArray[np.uint16]
    """K, the position in the gaze order of its own tile and frame."""
    loss: npt.NDArray[np.float32]
    """K, the loss before the token was added; NaN where unknown."""
    patches_KPP3: npt.NDArray[np.uint8]
    """The patches themselves, RGB."""
    tokens_T: npt.NDArray[np.int64]
    """Tokens of each frame."""
    psnr_T: npt.NDArray[np.float64]
    """Painting error of each frame against the fitted frame, in dB, at most 100."""
    l1_T: npt.NDArray[np.float64]
    """Mean absolute painting error of each frame, in 8-bit steps."""
