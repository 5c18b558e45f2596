"""What greedy painting would choose, token by token: the teacher's answers.

For each frame the patch of largest drop in painting error, then the next, until the bound holds; these
are painted, and the next frame sees their canvas. The list goes on a little beyond the bound, since a
network that chooses ten tokens at once must also know what would come next and that it is not needed.

    legend   B  clips    T  frames    S  side of a tile in pixels    N  room for tokens of a frame
             I  choices (265)    E  errors: of the canvas, then of each scale painted (5)
             H  half patches of a tile (784)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.autogaze.canvas import LEAST_ERROR
from gazepack.autogaze.config import END
from gazepack.geometry import TILE_TOKENS
from gazepack.patches import MAX_PSNR, MID_GREY, max_sum_of_squares
from gazepack.selectors.lattice import Lattice, Whole
from gazepack.selectors.tiles import FrameTiles

BEYOND = 20
"""Tokens that a list goes on beyond the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Greedy's answers for a batch of clips of one tile."""

    ids_BTN: npt.NDArray[np.int64]
    """Tile ids in gaze order; 265 behind a list's end."""
    loss_BTN: npt.NDArray[np.float32]
    """Minus the PSNR in dB of the frame before that token was added; 0 behind a list's end."""
    gains_BTI: npt.NDArray[np.float32]
    """By how much each of the 265 choices would lower the error of a frame as it begins: the binary logarithm
    of 1 + gain, counted in errors of a finest patch at 30 dB; 0 where it would gain nothing."""
    log_errors_BTEH: npt.NDArray[np.float32]
    """Binary logarithm of the mean squared error of each half patch as a frame begins, in units of 255
    squared, at least that of 60 dB: of the canvas, and of each scale painted."""
    canvas_BT3SS: Tensor
    """uint8, what the canvas holds before each frame."""
    kept_BT: npt.NDArray[np.int64]
    """How many of a frame's ids meet the bound and are painted, at least 1; the rest is beyond."""


def label_clips(
    frames_BT3SS: Tensor,
    *,
    min_psnr_B: Sequence[float],
    max_tokens: int = TILE_TOKENS,
    beyond: int = BEYOND,
) -> Labels:
    """Choose greedily, all clips at once.

    Args:
        frames_BT3SS: uint8, one tile a clip.
        min_psnr_B: the bound of each clip, in dB.
        max_tokens: the most that is painted of a frame, 1..265.
        beyond: how many more to list.

    Returns:
        The labels, padded to the longest list.
    """
    B, T, _, S, _ = frames_BT3SS.shape
    num_values = 3 * S * S
    bounds_B = np.asarray([max_sum_of_squares(bound, num_values) for bound in min_psnr_B])
    canvas_B3SS = torch.full_like(frames_BT3SS[:, 0], MID_GREY)
    lists: list[_Lists] = []
    gains: list[npt.NDArray[np.float32]] = []
    errors: list[npt.NDArray[np.float32]] = []
    canvas_BT3SS = torch.empty_like(frames_BT3SS)
    for t in range(T):
        canvas_BT3SS[:, t] = canvas_B3SS
        tiles = FrameTiles.of(frames_BT3SS[:, t], canvas_B3SS, patch_size=S // 14, as_read=None)
        lattice = tiles.lattice(num_frames=B)
        gains.append(_log_gains(lattice.gains_BGI[:, 0], S))
        errors.append(_log_errors(lattice.errors_BGEYX[:, 0], S))
        found = _Lists(B)
        found.fill(lattice, bounds_B, max_tokens=max_tokens, beyond=beyond)
        tiles.cut_and_paint([ids[:kept] for ids, kept in zip(found.ids, found.kept, strict=True)])
        lists.append(found)
    ids_BTN, loss_BTN = _padded(lists, num_values)
    return Labels(
        ids_BTN=ids_BTN,
        loss_BTN=loss_BTN,
        gains_BTI=np.stack(gains, axis=1),
        log_errors_BTEH=np.stack(errors, axis=1),
        canvas_BT3SS=canvas_BT3SS,
        kept_BT=np.asarray([found.kept for found in lists], dtype=np.int64).T,
    )


class _Lists:
    """The growing lists of one frame of every clip."""

    def __init__(self, num_clips: int) -> None:
        self.ids: list[list[int]] = [[] for _ in range(num_clips)]
        self.squares: list[list[float]] = [[] for _ in range(num_clips)]
        self.kept = [0] * num_clips

    def fill(self, lattice: Lattice, bounds_B: Whole, *, max_tokens: int, beyond: int) -> None:
        """Choose until each list meets its bound and has gone on beyond it."""
        rows = np.arange(len(self.ids))
        while len(rows):
            choices, gains = lattice.best(rows)
            squares = lattice.sum_of_squares_B[rows]
            going = []
            for i, row in enumerate(rows.tolist()):
                num = len(self.ids[row])
                is_needed = squares[i] > bounds_B[row] and num < max_tokens
                if num == 0 or (is_needed and num == self.kept[row]):
                    self.kept[row] = num + 1
                elif num >= min(self.kept[row] + beyond, TILE_TOKENS) or gains[i] <= 0:
                    continue
                self.ids[row].append(int(choices[i]))
                self.squares[row].append(float(squares[i]))
                going.append(i)
            rows, choices = rows[going], choices[going]
            lattice.pick(rows, choices)


def _log_gains(gains_BI: Whole, side: int) -> npt.NDArray[np.float32]:
    """Return gains on a scale that a network can learn; see `Labels.gains_BTI`."""
    unit = max_sum_of_squares(30.0, 3 * (side // 14) ** 2)
    logs: npt.NDArray[np.float32] = np.log2(1 + np.maximum(gains_BI, 0) / unit).astype(np.float32)
    return logs


def _log_errors(errors_BEYX: Whole, side: int) -> npt.NDArray[np.float32]:
    """Return the errors of half patches on a scale that a network can learn; see `Labels.log_errors_BTEH`."""
    unit = 3 * (side // 28) ** 2 * 255.0**2
    logs = np.log2(np.maximum(errors_BEYX / unit, LEAST_ERROR)).astype(np.float32)
    return np.asarray(logs.reshape(*logs.shape[:2], -1))


def _padded(
    lists: Sequence[_Lists], num_values: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Put the frames' ids and losses into arrays, B x T x N each."""
    longest = max(len(ids) for found in lists for ids in found.ids)
    B, T = len(lists[0].ids), len(lists)
    ids_BTN = np.full((B, T, longest), END, dtype=np.int64)
    loss_BTN = np.zeros((B, T, longest), dtype=np.float32)
    for t, found in enumerate(lists):
        for b in range(B):
            ids_BTN[b, t, : len(found.ids[b])] = found.ids[b]
            loss_BTN[b, t, : len(found.ids[b])] = negative_psnr(found.squares[b], num_values)
    return ids_BTN, loss_BTN


def negative_psnr(squares: Sequence[float] | Whole, num_values: int) -> npt.NDArray[np.float32]:
    """Return minus the PSNR in dB of summed squared errors, float32, at least -100."""
    least = 255.0**2 * num_values * 10 ** (-MAX_PSNR / 10)
    mean = np.maximum(np.asarray(squares, dtype=np.float64), least) / num_values
    loss: npt.NDArray[np.float32] = (10 * np.log10(mean / 255.0**2)).astype(np.float32)
    return loss
