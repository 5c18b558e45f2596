"""The lattice on an accelerator: all tiles pick beside each other, and the host sorts out whose turn it was.

A launch takes longer than work on the 31 kB of a tile, so frames that pick one choice after the other would
leave an accelerator idle. But nothing crosses the border of a tile, so what a tile picks next depends only on
what it picked itself. Every tile therefore goes through its own best choices at once, a few steps without a
question to the device, and the order of the frame is found afterwards:

    A frame always picks the largest of its tiles' next gains. What a tile picks behind a smaller gain comes
    right behind it if it gains more, so the frame's order is that of the running minima of the gains in their
    tiles, from the largest down, equal ones tile by tile.

Where the bound is met in that order, the rest of what was tried is thrown away; a few more steps over small
tensors are the price. Errors are int64 here, so every sum is exact in any order of adding, and all choices are
those of `Lattice`, its slow twin. There on a CPU it is the slower one (docs/log.md).

    legend   B  frames, one of each clip in the batch    G  tiles of the grid    N  tiles of all frames, B x G
             E  errors: of the canvas, then of each scale painted (5)    S  the 4 scales    I  choices (265)
             Y, X  the 28 half patches down and across a tile    L  picks of a tile    J  picks of a frame
"""

import numpy as np
import torch
from torch import Tensor

from gazepack.geometry import (
    CELLS_PER_PATCH,
    CELLS_PER_TILE,
    NUM_SCALES,
    SCALE_OFFSETS,
    SCALE_SIDES,
    TILE_TOKENS,
    Ints,
)
from gazepack.selectors.lattice import (
    COVERED,
    NO_PICKS,
    SCALE,
    UNPAINTED,
    Flags,
    Picks,
    Whole,
    rank_among_equals,
)

STEPS_BETWEEN_QUESTIONS = 8
"""After so many picks of every tile the device is asked whether any frame goes on."""


class DeviceLattice:
    """One frame of each of B clips of one grid; a `FrameLattice`.

    Args:
        errors_NEYX: whole numbers, squared errors of the canvas and of each scale painted everywhere.
        num_frames: B.
    """

    def __init__(self, errors_NEYX: Tensor, *, num_frames: int) -> None:
        device = errors_NEYX.device
        errors_NEYX = errors_NEYX.to(torch.int64)
        self._num_frames = num_frames
        self._shown_NYX, self._painted_NSYX = errors_NEYX[:, 0], errors_NEYX[:, 1:]
        self._level_NYX = torch.full_like(self._shown_NYX, UNPAINTED, dtype=torch.int8)
        self._covered_IYX = torch.from_numpy(COVERED).to(device)
        self._scale_I = torch.from_numpy(SCALE).to(device)
        self._scales_S11 = torch.arange(NUM_SCALES, dtype=torch.int8, device=device)[:, None, None]
        self._refresh()

    @property
    def sum_of_squares_B(self) -> Whole:
        """The error of each whole frame as it is painted so far."""
        return self._squares_B.copy()

    def pick_all(self, chosen_BGI: Flags) -> None:
        """Paint many choices at once; see `FrameLattice`."""
        flags_NI = torch.from_numpy(chosen_BGI.reshape(-1, TILE_TOKENS)).to(self._shown_NYX.device)
        for s, (start, side) in enumerate(zip(SCALE_OFFSETS, SCALE_SIDES, strict=True)):
            covered_NYX = flags_NI[:, start : start + side * side].unflatten(1, (side, side))
            for axis in (1, 2):
                covered_NYX = covered_NYX.repeat_interleave(CELLS_PER_PATCH[s], dim=axis)
            self._level_NYX = self._level_NYX.masked_fill(covered_NYX, s)
            self._shown_NYX = torch.where(covered_NYX, self._painted_NSYX[:, s], self._shown_NYX)
        self._refresh()

    def pick_until(self, order_BJ: Ints, bound: int) -> Picks:
        """Paint given choices until the bound is met; see `FrameLattice`."""
        # 1. try all of them
        before = self._shown_NYX, self._level_NYX
        squares_BJ = self._squares_B[:, None] - _sums_before(self._gains_of(order_BJ))
        self._shown_NYX, self._level_NYX = before
        # 2. keep those before which the bound was not met
        is_open_BJ = np.logical_and.accumulate(squares_BJ > bound, axis=1) & (order_BJ >= 0)
        frames, at_J = np.nonzero(is_open_BJ)
        choices = order_BJ[frames, at_J]
        chosen_BC = np.zeros((self._num_frames, self._num_tiles * TILE_TOKENS), dtype=bool)
        chosen_BC[frames, choices] = True
        self.pick_all(chosen_BC.reshape(self._num_frames, self._num_tiles, TILE_TOKENS))
        return Picks(frames, choices, squares_BJ[frames, at_J])

    def top_up(self, bound: int) -> Picks:
        """Paint the best choices until the bound is met; see `FrameLattice`."""
        if (self._squares_B <= bound).all():
            return NO_PICKS
        squares_B = torch.from_numpy(self._squares_B).to(self._gains_NI)
        steps: list[Tensor] = []
        while True:
            steps += [self._pick_best() for _ in range(STEPS_BETWEEN_QUESTIONS)]
            ids_BGL, gains_BGL = (
                part_NL.unflatten(0, (self._num_frames, -1))
                for part_NL in torch.stack(steps, dim=2).unbind(0)
            )
            if not _goes_on(gains_BGL, squares_B, bound):
                return self._in_order(ids_BGL.cpu().numpy(), gains_BGL.cpu().numpy(), bound)

    @property
    def _num_tiles(self) -> int:
        return len(self._shown_NYX) // self._num_frames

    def _gains_of(self, order_BJ: Ints) -> Ints:
        """Paint given choices one after the other; return by how much each lowered the error, B x J."""
        frames, at_J = np.nonzero(order_BJ >= 0)
        tile, tile_id = np.divmod(order_BJ[frames, at_J], TILE_TOKENS)
        tile += frames * self._num_tiles
        rank = rank_among_equals(tile)
        ids_LN = np.full((int(rank.max(initial=-1)) + 1, len(self._shown_NYX)), -1)
        ids_LN[rank, tile] = tile_id
        gains_BJ = np.zeros(order_BJ.shape, dtype=np.int64)
        if len(ids_LN):
            given_LN = torch.from_numpy(ids_LN).to(self._shown_NYX.device)
            gains_LN = torch.stack([self._pick(ids_N, ids_N >= 0) for ids_N in given_LN])
            gains_BJ[frames, at_J] = gains_LN.cpu().numpy()[rank, tile]
        return gains_BJ

    def _in_order(self, ids_BGL: Ints, gains_BGL: Ints, bound: int) -> Picks:
        """Return what each frame picks until its bound is met, and count its error."""
        least_BGL = np.minimum.accumulate(gains_BGL, axis=2)
        parts = []
        for b, squares in enumerate(self._squares_B.tolist()):
            tile, step = np.nonzero(least_BGL[b] > 0)
            order = np.argsort(-least_BGL[b, tile, step], kind="stable")
            tile, step = tile[order], step[order]
            gains = gains_BGL[b, tile, step]
            before: Whole = squares - _sums_before(gains)
            num = int(np.count_nonzero(before > bound))  # it only falls
            self._squares_B[b] -= gains[:num].sum()
            choices = tile[:num] * TILE_TOKENS + ids_BGL[b, tile[:num], step[:num]]
            parts.append(Picks(np.full(num, b), choices, before[:num]))
        return Picks(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    # ------------------------------------------------------------- steps, which ask the device nothing

    def _pick_best(self) -> Tensor:
        """Paint into each tile what gains most, if it gains; return ids and gains, 2 x N."""
        gains_N, ids_N = self._gains_NI.max(1)  # the first of equals
        self._pick(ids_N, gains_N > 0)
        return torch.stack((ids_N, gains_N))

    def _pick(self, ids_N: Tensor, is_picked_N: Tensor) -> Tensor:
        """Paint a choice into each tile that picks one; return what the choices gain, N."""
        ids_N = ids_N.clamp(min=0)
        gains_N = self._gains_NI.gather(1, ids_N[:, None])[:, 0]
        scale_N11 = self._scale_I[ids_N][:, None, None]
        is_changed_NYX = self._covered_IYX[ids_N] & (self._level_NYX < scale_N11)
        is_changed_NYX &= is_picked_N[:, None, None]
        at_N1YX = scale_N11[:, None].expand(-1, -1, CELLS_PER_TILE, CELLS_PER_TILE)
        painted_NYX = self._painted_NSYX.gather(1, at_N1YX)[:, 0]
        self._shown_NYX = torch.where(is_changed_NYX, painted_NYX, self._shown_NYX)
        self._level_NYX = torch.where(is_changed_NYX, scale_N11.to(torch.int8), self._level_NYX)
        self._count_gains()
        return gains_N

    def _count_gains(self) -> None:
        """Count by how much each choice would lower the error of its tile."""
        drop_NSYX = self._shown_NYX[:, None] - self._painted_NSYX
        drop_NSYX *= self._level_NYX[:, None] < self._scales_S11
        gains = []
        for s, side in enumerate(SCALE_SIDES):
            blocks = drop_NSYX[:, s].unflatten(2, (side, -1)).unflatten(1, (side, -1))
            gains.append(blocks.sum((2, 4)).flatten(1))
        self._gains_NI = torch.cat(gains, dim=1)

    def _refresh(self) -> None:
        """Count everything anew."""
        self._count_gains()
        squares_B = self._shown_NYX.unflatten(0, (self._num_frames, -1)).sum((1, 2, 3))
        self._squares_B: Whole = squares_B.cpu().numpy().astype(np.float64)


def _goes_on(gains_BGL: Tensor, squares_B: Tensor, bound: int) -> bool:
    """Return whether any frame may need picks that no tile has come to; waits for the device.

    Those come behind the least gain so far of some tile that still gains. What comes before all of them in the
    frame's order is certain, and enough if it meets the bound.
    """
    least_BGL = gains_BGL.cummin(2).values
    next_B = least_BGL[..., -1].amax(1).clamp(min=0)  # a tile that is done gains nothing
    is_certain_BGL = least_BGL > next_B[:, None, None]
    certain_B = (gains_BGL * is_certain_BGL).sum((1, 2))
    return bool(((squares_B - certain_B > bound) & (next_B > 0)).any())


def _sums_before(gains: Ints) -> Ints:
    """Return the sum of the gains before each, along the last axis."""
    sums: Ints = np.cumsum(gains, axis=-1) - gains
    return sums
