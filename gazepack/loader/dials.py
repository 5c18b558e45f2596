"""Dials: cutting every sample to a smaller budget at load time.

Tokens are stored in the order in which they were chosen, so one dataset serves every smaller
budget. The dials work in a fixed order: `frame_step` and `max_frames` say which frames may stay,
`scales` and `max_loss` which of their tokens, then `max_tokens_per_frame` keeps the first of every
frame, then `max_tokens` the first of the sample. A frame's tokens were chosen over what earlier
frames had shown, so a model that sees fewer frames also misses what only these showed.

The frames and the two budgets are known from the index before a byte is read. How many tokens `scales` and
`max_loss` remove is not, so with these a batch plan counts an upper bound (`is_exact`): batches
never exceed their budget, but fill it less well.

    legend   N  tokens of a sample      6  `gazepack.formats.TOKEN_FIELDS`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gazepack.errors import UsageError
from gazepack.formats import TOKEN_FIELDS
from gazepack.geometry import NUM_SCALES
from gazepack.loader.whole import whole

_VIEW, _FRAME, _SCALE, _RANK = (
    TOKEN_FIELDS.index(name) for name in ("view", "frame", "scale", "rank")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dials:
    """What to keep of every sample; None turns a dial off.

    Raises:
        UsageError: a budget below 1, no scale or one that does not exist, a loss that is no number.
    """

    max_tokens_per_frame: int | None = None
    """Keep at most so many tokens of each frame of each view: the first in gaze order."""
    max_tokens: int | None = None
    """Keep at most so many tokens of the sample: all frames' first ones, then all frames' second
    ones, and so on; the frames are shortened evenly from their ends."""
    max_loss: float | None = None
    """Keep tokens that were added while the loss was above this. Rank 0 of a frame always stays, as
    in AutoGaze, and so do tokens of unknown loss (NaN)."""
    scales: Sequence[int] | None = None
    """Keep tokens of these scales only; held ascending, each once."""
    frame_step: int | None = None
    """Keep every so-many-th frame of each view, from its first."""
    max_frames: int | None = None
    """Keep at most so many frames of each view: the first of those that `frame_step` left."""

    def __post_init__(self) -> None:
        for name in ("max_tokens_per_frame", "max_tokens", "frame_step", "max_frames"):
            value = getattr(self, name)
            if value is not None:
                number = whole(name, value, least=1, remedy="leave it out for all")
                object.__setattr__(self, name, number)
        if self.max_loss is not None and not _is_finite(self.max_loss):
            raise UsageError(f"max_loss {self.max_loss!r} is not a number")
        if self.scales is not None:
            object.__setattr__(self, "scales", known_scales(self.scales))

    @property
    def is_exact(self) -> bool:
        """Whether `planned_tokens` is the number of tokens, not only an upper bound."""
        return self.max_loss is None and self.scales is None

    @property
    def is_off(self) -> bool:
        """Whether every token stays."""
        return self == Dials()

    def planned_tokens(self, index: pa.Table) -> npt.NDArray[np.int64]:
        """Return how many tokens each row of an index keeps at most, int64 of shape (rows,).

        Args:
            index: has the columns `tokens`, `frames` and `tokens_per_frame`.
        """
        tokens: npt.NDArray[np.int64] = index["tokens"].to_numpy().astype(np.int64)
        cuts = (self.max_tokens_per_frame, self.frame_step, self.max_frames)
        if any(cut is not None for cut in cuts):
            tokens = self._frame_sums(index)
        return tokens if self.max_tokens is None else np.minimum(tokens, self.max_tokens)

    def _frame_sums(self, index: pa.Table) -> npt.NDArray[np.int64]:
        """Return for each row the tokens of the frames that stay, each frame's number capped."""
        lists = index["tokens_per_frame"].combine_chunks()
        values = lists.flatten().to_numpy().astype(np.int64)
        lengths = lists.value_lengths().to_numpy().astype(np.int64)
        ends = np.cumsum(lengths)
        if self.max_tokens_per_frame is not None:
            values = np.minimum(values, self.max_tokens_per_frame)
        place = np.arange(len(values)) - np.repeat(ends - lengths, lengths)
        frames = np.maximum(index["frames"].to_numpy().astype(np.int64), 1)  # of one view
        values = values * self._keeps_frame(place % np.repeat(frames, lengths))
        sums = np.concatenate([[0], np.cumsum(values)])
        counted: npt.NDArray[np.int64] = sums[ends] - sums[ends - lengths]
        return counted

    def _keeps_frame(self, frame_N: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which of some frame numbers stay."""
        step = self.frame_step or 1
        keeps: npt.NDArray[np.bool_] = frame_N % step == 0
        return keeps if self.max_frames is None else keeps & (frame_N // step < self.max_frames)

    def keep(
        self, tokens_N6: npt.NDArray[np.uint16], loss_N: npt.NDArray[np.float16]
    ) -> npt.NDArray[np.int64]:
        """Return which tokens of a sample stay: ascending positions, int64.

        Args:
            tokens_N6: columns `TOKEN_FIELDS`, sorted by view and frame, in a frame as they were chosen.
            loss_N: the loss before each token was added; NaN where unknown.
        """
        keep = self._keeps_frame(tokens_N6[:, _FRAME])
        if self.scales is not None:
            keep &= np.isin(tokens_N6[:, _SCALE], self.scales)
        if self.max_loss is not None:
            below = loss_N.astype(np.float64) <= self.max_loss  # False where NaN
            keep &= ~below | (tokens_N6[:, _RANK] == 0)
        kept = np.flatnonzero(keep)
        if self.max_tokens_per_frame is not None:
            kept = kept[place_in_frame(tokens_N6[kept]) < self.max_tokens_per_frame]
        if self.max_tokens is not None and len(kept) > self.max_tokens:
            by_place = np.argsort(place_in_frame(tokens_N6[kept]), kind="stable")
            kept = np.sort(kept[by_place[: self.max_tokens]])
        return kept


def place_in_frame(tokens_N6: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Return each token's place among those of its view and frame: 0, 1, 2, ..., int64 N."""
    if not len(tokens_N6):
        return np.zeros(0, dtype=np.int64)
    view_frame = tokens_N6[:, [_VIEW, _FRAME]]
    starts_frame = np.ones(len(tokens_N6), dtype=bool)
    starts_frame[1:] = (view_frame[1:] != view_frame[:-1]).any(axis=1)
    positions = np.arange(len(tokens_N6))
    return positions - np.maximum.accumulate(np.where(starts_frame, positions, 0))


def _is_finite(value: Any) -> bool:
    """Return whether this is a number, and a finite one."""
    try:
        return bool(np.isfinite(value))
    except (TypeError, ValueError):
        return False


def known_scales(scales: Sequence[int]) -> tuple[int, ...]:
    """Return scales ascending, each once.

    Raises:
        UsageError: they are no sequence of scales that exist, or none.
    """
    known = range(NUM_SCALES)
    try:
        found = {whole("scale", scale) for scale in scales}
    except (TypeError, UsageError):
        found = set()
    if not found or not found.issubset(known):
        raise UsageError(
            f"scales {scales!r} are not some of {list(known)}",
            remedy="give a list, with 0 for the coarsest scale; leave it out for all",
        )
    return tuple(sorted(found))
