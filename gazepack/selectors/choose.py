"""Choose the tokens of a batch of clips: take the proposal, top up greedily to the bound, paint.

One loop serves every selector. Frame by frame (each canvas needs the one before), all clips of the
batch at once (no clip needs another), it measures the painting errors, asks for a proposal and takes it,
and where a frame misses the bound adds the patch of largest gain until it does not. With nothing proposed
this is greedy selection itself. A selector whose choices end at the bound is not asked about a frame that
meets it already: a still frame costs nothing.

The errors are those of the patches as a reader will get them: a lossy codec's own error is in the
bound.

    legend   B  clips    T  frames    G  tiles of the grid    S  side of a tile    K  tokens of a frame
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.autogaze.rounding import exact_products
from gazepack.autogaze.threads import map_single_threaded
from gazepack.geometry import TILE_TOKENS, Grid, Ints
from gazepack.patches import MID_GREY, max_sum_of_squares, psnr, split_tiles
from gazepack.selectors.base import NOTHING, ClipBatch, Proposal, Proposer, Selection, Selector
from gazepack.selectors.baselines import All
from gazepack.selectors.lattice import FrameLattice, Picks, rank_among_equals
from gazepack.selectors.tiles import AsRead, FrameTiles


@exact_products()
def choose(
    selector: Selector,
    clips: ClipBatch,
    *,
    min_psnr: float | None = None,
    as_read: AsRead | None = None,
) -> list[Selection]:
    """Choose the tokens of each clip.

    Args:
        selector: who proposes, unless the clips are kept whole.
        clips: the clips, on the device where the work is to be done.
        min_psnr: the bound in dB that every frame shall meet, topped up greedily; no bound if
            `None`. A frame is left below it only where a lossy `as_read` keeps every patch that
            could be added from lowering its error.
        as_read: the codec's round trip; identity if `None`.

    Returns:
        One selection for each clip, the same whatever clips it was batched with.
    """
    selector = All() if clips.whole else selector
    with torch.inference_mode():
        proposer = selector.begin(clips)

    def paint_group(rows: range) -> list[Selection]:
        with torch.inference_mode():
            return _paint_clips(
                clips.part(rows),
                proposer,
                first_row=rows.start,
                stops_at_bound=selector.stops_at_bound,
                min_psnr=min_psnr,
                as_read=as_read,
            )

    if clips.frames_BT3HW.device.type == "cpu":
        groups = map_single_threaded(paint_group, _shares(len(clips), torch.get_num_threads()))
    else:
        groups = [paint_group(range(len(clips)))]
    return [selection for group in groups for selection in group]


def _shares(num: int, num_shares: int) -> list[range]:
    """Divide 0..num-1 evenly into at most `num_shares` ranges, none empty."""
    borders = [num * i // num_shares for i in range(num_shares + 1)]
    return [range(a, b) for a, b in pairwise(borders) if a < b]


def _paint_clips(
    clips: ClipBatch,
    proposer: Proposer,
    *,
    first_row: int,
    stops_at_bound: bool,
    min_psnr: float | None,
    as_read: AsRead | None,
) -> list[Selection]:
    """Take the clips through their frames; the proposer counts them from `first_row`."""
    painting = _Painting(
        clips,
        proposer,
        first_row=first_row,
        stops_at_bound=stops_at_bound,
        min_psnr=min_psnr,
        as_read=as_read,
    )
    for number in range(max(clips.num_frames)):
        painting.add_frame(number, [b for b, num in enumerate(clips.num_frames) if num > number])
    return [_selection(parts, clips.grid) for parts in painting.parts]


@dataclass(frozen=True, slots=True, kw_only=True)
class _FramePart:
    """What was chosen of one frame of one clip."""

    number: int
    choices: Ints
    losses: npt.NDArray[np.float32]
    patches_KPP3: npt.NDArray[np.uint8]
    psnr: float
    l1: float


class _Choices:
    """The choices of each frame at hand, growing."""

    def __init__(self, num_rows: int, num_values: int) -> None:
        self.ids: list[list[int]] = [[] for _ in range(num_rows)]
        self.losses: list[list[float]] = [[] for _ in range(num_rows)]
        self._num_values = num_values

    def extend(self, row: int, proposal: Proposal) -> None:
        """Take a whole proposal."""
        self.ids[row] += proposal.choices.tolist()
        self.losses[row] += proposal.losses.tolist()

    def add(self, picks: Picks) -> None:
        """Take choices whose losses are minus the frame's PSNR in dB."""
        for row, choice, squares in zip(*(part.tolist() for part in picks), strict=True):
            self.ids[row].append(choice)
            self.losses[row].append(-psnr(squares, self._num_values))


class _Painting:
    """The canvases of a batch of clips, and what has been chosen so far."""

    def __init__(
        self,
        clips: ClipBatch,
        proposer: Proposer,
        *,
        first_row: int,
        stops_at_bound: bool,
        min_psnr: float | None,
        as_read: AsRead | None,
    ) -> None:
        grid = clips.grid
        self.clips, self.as_read = clips, as_read
        self.proposer, self.first_row = proposer, first_row
        self.canvas_BG3SS = split_tiles(torch.full_like(clips.frames_BT3HW[:, 0], MID_GREY), grid)
        self.num_values = 3 * grid.height * grid.width
        self.bound = None if min_psnr is None else max_sum_of_squares(min_psnr, self.num_values)
        self.until = self.bound if stops_at_bound else None
        self.parts: list[list[_FramePart]] = [[] for _ in range(len(clips))]

    def add_frame(self, number: int, rows: list[int]) -> None:
        """Choose and paint frame `number` of the clips `rows`."""
        grid = self.clips.grid
        # 1. what each scale would show, and how wrong it would be
        at = torch.tensor(rows, device=self.canvas_BG3SS.device)
        canvas_BG3SS = self.canvas_BG3SS.index_select(0, at)
        frames_B3HW = self.clips.frames_BT3HW[:, number].index_select(0, at)
        tiles = FrameTiles.of(
            split_tiles(frames_B3HW, grid).flatten(0, 1),
            canvas_BG3SS.flatten(0, 1),
            patch_size=grid.patch_size,
            as_read=self.as_read,
        )
        lattice = tiles.lattice_there(num_frames=len(rows))
        # 2. choose
        chosen = _Choices(len(rows), self.num_values)
        proposals = self._ask(number, rows, canvas_BG3SS, lattice)
        if self.until is not None:
            _take_until(lattice, proposals, self.until, chosen)
        else:
            _take_all(lattice, proposals, chosen, num_tiles=grid.num_tiles)
        if self.bound is not None:
            chosen.add(lattice.top_up(self.bound))
        # 3. cut, paint, measure
        patches = tiles.cut_and_paint(chosen.ids)
        self.canvas_BG3SS.index_copy_(0, at, canvas_BG3SS)
        l1 = tiles.absolute_errors(num_frames=len(rows)) / self.num_values
        squares = lattice.sum_of_squares_B.tolist()
        for i, row in enumerate(rows):
            part = _FramePart(
                number=number,
                choices=np.asarray(chosen.ids[i], dtype=np.int64),
                losses=np.asarray(chosen.losses[i], dtype=np.float32),
                patches_KPP3=patches[i],
                psnr=psnr(squares[i], self.num_values),
                l1=float(l1[i]),
            )
            self.parts[row].append(part)

    def _ask(
        self, number: int, rows: list[int], canvas_BG3SS: Tensor, lattice: FrameLattice
    ) -> list[Proposal]:
        """Return a proposal for frame `number` of each of `rows`; not asked for where none would be taken."""
        proposals = [NOTHING] * len(rows)
        asked = list(range(len(rows)))
        if self.until is not None:
            asked = np.flatnonzero(lattice.sum_of_squares_B > self.until).tolist()
        if asked:
            found = self.proposer.propose(
                number,
                rows=[self.first_row + rows[i] for i in asked],
                canvas_BG3SS=canvas_BG3SS[asked],
            )
            for i, proposal in zip(asked, found, strict=True):
                proposals[i] = proposal
        return proposals


def _take_all(
    lattice: FrameLattice, proposals: Sequence[Proposal], chosen: _Choices, *, num_tiles: int
) -> None:
    """Take every proposal whole."""
    flags = np.zeros((len(proposals), num_tiles * TILE_TOKENS), dtype=bool)
    for row, proposal in enumerate(proposals):
        flags[row, proposal.choices] = True
        chosen.extend(row, proposal)
    if flags.any():
        lattice.pick_all(flags.reshape(len(proposals), num_tiles, TILE_TOKENS))


def _take_until(
    lattice: FrameLattice, proposals: Sequence[Proposal], bound: int, chosen: _Choices
) -> None:
    """Take proposals one choice after the other, each frame until it meets the bound."""
    longest = max(len(proposal.choices) for proposal in proposals)
    order_BJ = np.full((len(proposals), longest), -1)
    for row, proposal in enumerate(proposals):
        order_BJ[row, : len(proposal.choices)] = proposal.choices
    chosen.add(lattice.pick_until(order_BJ, bound))


def _selection(parts: Sequence[_FramePart], grid: Grid) -> Selection:
    """Put the frames of one clip together."""
    tokens = np.asarray([len(part.choices) for part in parts], dtype=np.int64)
    choices = np.concatenate([part.choices for part in parts])
    scale, row, col = grid.from_tile(choices // TILE_TOKENS, choices % TILE_TOKENS)
    numbers = np.asarray([part.number for part in parts])
    return Selection(
        frame=np.repeat(numbers, tokens).astype(np.uint16),
        scale=scale.astype(np.uint16),
        row=row.astype(np.uint16),
        col=col.astype(np.uint16),
        rank=np.concatenate(
            [rank_among_equals(part.choices // TILE_TOKENS) for part in parts]
        ).astype(np.uint16),
        loss=np.concatenate([part.losses for part in parts]),
        patches_KPP3=np.concatenate([part.patches_KPP3 for part in parts]),
        tokens_T=tokens,
        psnr_T=np.asarray([part.psnr for part in parts]),
        l1_T=np.asarray([part.l1 for part in parts]),
    )
