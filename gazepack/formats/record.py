"""One training record: the tokens of a segment, their pixels, and where they come from.

A `Sample` is checked when it is built, by writers and readers alike, so whoever holds one may rely
on it: shapes and types fit, every token lies in the grid of its view, the gaze order has no gaps,
and the counts of the metadata are the counts of the tokens. Half of the check is the price of asking numpy,
so a reader of many samples takes `LooseSample`s and asks once, `are_whole`, for the tokens of all.

    legend   N  tokens      P  side of a patch in pixels
             6  `TOKEN_FIELDS`      3  red, green, blue
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gazepack.errors import UsageError
from gazepack.formats.codecs.base import check_patches
from gazepack.formats.meta import SampleMeta, ViewMeta, check_meta
from gazepack.geometry import SCALE_SIDES

TOKEN_FIELDS = ("view", "frame", "scale", "row", "col", "rank")
"""The columns of `tokens_N6`."""

OWN_FIELDS = frozenset(("json", "tokens.npy", "loss.npy", "places.zst"))
"""Names of our members, beside those that begin with `patches.`."""

_KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")
_FIELD = re.compile(r"[a-z0-9][a-z0-9_]*(\.[a-z0-9_]+)*")
_MAX_FIELD = 60
_MOST_MARKS = 2**24
"""Bytes that are spent to mark the cells that have a token; beyond, tokens are sorted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LooseSample:
    """A sample of which all is checked but the tokens' places and gaze order.

    Raises:
        UsageError: another part that breaks a rule of `docs/format.md`, sections 3 and 4.
    """

    key: str
    """Unique in the dataset: 1 to 200 of `A-Z a-z 0-9 _ -`."""
    tokens_N6: npt.NDArray[np.uint16]
    """uint16 N x 6, columns `TOKEN_FIELDS`, sorted by view and frame, in a frame as they were chosen."""
    loss_N: npt.NDArray[np.float16]
    """float16 N: the selector's loss before the token was added; NaN where unknown."""
    patches_NPP3: npt.NDArray[np.uint8] | None
    """uint8 N x P x P x 3, RGB, in the order of the tokens; None where only their places are known."""
    meta: dict[str, Any]
    """JSON-able; `SampleMeta` says what it must hold."""
    fields: dict[str, bytes] = field(default_factory=dict)
    """The user's own members, such as `{"txt": b"a caption"}`."""
    pixels_crc32: int | None = None
    """Of the patches, by `codecs.places.pixels_crc32`; to be met by whoever cuts them, where they are None."""
    encoded: bytes | None = None
    """The patches as the dataset's codec already encoded them, for a copy that must not encode them twice."""
    views: list[ViewMeta] = field(init=False)
    """Those of `meta`, checked."""

    def __post_init__(self) -> None:
        check_key(self.key)
        for name, value in self.fields.items():
            check_field(name)
            if not isinstance(value, bytes):
                raise UsageError(f"field {name!r} is {type(value).__name__}, not bytes")
        meta = check_meta(self.meta)
        if meta.key != self.key:
            raise UsageError(f"metadata: key {meta.key!r} is not the sample's {self.key!r}")
        num_tokens = _check_tokens_array(self.tokens_N6)
        if self.loss_N.dtype != np.float16 or self.loss_N.shape != (num_tokens,):
            raise UsageError(
                f"loss must be float16 of shape ({num_tokens},), got {self.loss_N.dtype} "
                f"{self.loss_N.shape}"
            )
        self._check_patches(num_tokens, meta)
        object.__setattr__(self, "views", meta.views)

    def _check_patches(self, num_tokens: int, meta: SampleMeta) -> None:
        num_patches, patch_size = num_tokens, meta.views[0].patch_size
        if self.patches_NPP3 is not None:
            try:
                num_patches, patch_size = check_patches(self.patches_NPP3)
            except ValueError as error:
                raise UsageError(str(error)) from error
        elif self.pixels_crc32 is None:
            raise UsageError("a sample without patches needs their CRC-32")
        if num_patches != num_tokens:
            raise UsageError(f"{num_patches} patches for {num_tokens} tokens")
        for view in meta.views:
            if view.patch_size != patch_size:
                raise UsageError(
                    f"patches are {patch_size} px, view {view.name!r} says {view.patch_size} px"
                )

    @property
    def num_tokens(self) -> int:
        """Tokens of all views and frames (N)."""
        return int(self.tokens_N6.shape[0])

    @property
    def patch_size(self) -> int:
        """Side of every patch, in pixels (P)."""
        return int(self.meta["views"][0]["patch_size"])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample(LooseSample):
    """A segment, or a window of it, with all its tokens.

    Raises:
        UsageError: a part that breaks a rule of `docs/format.md`, sections 3 and 4.
    """

    def __post_init__(self) -> None:
        LooseSample.__post_init__(self)  # not `super()`, which a class with slots cannot ask
        check_tokens(self.tokens_N6, self.views)


def check_key(key: str) -> None:
    """Refuse a key that could not be the stem of a member's name.

    Raises:
        UsageError: it is not 1 to 200 of `A-Z a-z 0-9 _ -`.
    """
    if not _KEY.fullmatch(key):
        raise UsageError(f"key {key[:210]!r} is not 1 to 200 of the characters A-Z a-z 0-9 _ -")


def check_field(name: str) -> None:
    """Refuse a name for a user's own member that is unsafe or taken.

    Raises:
        UsageError: wrong characters, too long, or one of gazepack's own names.
    """
    if not _FIELD.fullmatch(name) or len(name) > _MAX_FIELD:
        raise UsageError(
            f"field {name[:70]!r} is not 1 to {_MAX_FIELD} of the characters a-z 0-9 _ in parts "
            "joined by dots"
        )
    if name in OWN_FIELDS or name.split(".")[0] == "patches":
        raise UsageError(f"field {name!r} is one of gazepack's own names", remedy="rename it")


def _check_tokens_array(tokens_N6: npt.NDArray[np.uint16]) -> int:
    shape = tokens_N6.shape
    if tokens_N6.dtype != np.uint16 or len(shape) != 2 or shape[1] != len(TOKEN_FIELDS):
        raise UsageError(f"tokens must be uint16 of shape N x 6, got {tokens_N6.dtype} {shape}")
    return int(shape[0])


def check_tokens(tokens_N6: npt.NDArray[np.uint16], views: list[ViewMeta]) -> None:
    """Refuse tokens that the views cannot have.

    Whole tokens are told by a few passes over all of them; only others are looked at rule by rule, three
    times as slowly, to say what is wrong.

    Raises:
        UsageError: a view, frame, scale or place that does not exist or occurs twice, counts that
            differ from the views' own, or a gaze order that is unsorted or has a gap.
    """
    if not _keep_all_rules([tokens_N6], [views]):
        refuse_tokens(tokens_N6, views)


def are_whole(samples: Sequence[LooseSample]) -> bool:
    """Return whether all tokens of some samples keep every rule, so that each could be a `Sample`."""
    return not samples or _keep_all_rules(
        [s.tokens_N6 for s in samples], [s.views for s in samples]
    )


def _keep_all_rules(
    tokens_SN6: Sequence[npt.NDArray[np.uint16]], views_of_all: Sequence[Sequence[ViewMeta]]
) -> bool:
    """Return whether the tokens of samples keep every rule; equal to `refuse_tokens` not raising for any.

    The frames of all views of all samples are numbered through, so that no rule mixes two samples.
    """
    views = [v for own in views_of_all for v in own]
    num_tokens = [len(tokens_N6) for tokens_N6 in tokens_SN6]
    if [sum(sum(v.tokens) for v in own) for own in views_of_all] != num_tokens:
        return False
    tokens_6N = np.ascontiguousarray(np.concatenate(tokens_SN6).T)
    view, frame, scale, row, col, rank = tokens_6N
    # 1. views and frames are just what the counts say, in their order
    num_frames = [len(v.times) for v in views]
    counts = np.array([count for v in views for count in v.tokens], dtype=np.int64)
    number_of_view = [number for own in views_of_all for number in range(len(own))]
    views_of_frames = np.repeat(number_of_view, num_frames)
    frames = np.arange(len(counts)) - np.repeat(np.cumsum(num_frames) - num_frames, num_frames)
    if (view != np.repeat(views_of_frames, counts)).any():
        return False
    if (frame != np.repeat(frames, counts)).any():
        return False
    # 2. places lie in their grids, each once
    if scale.max(initial=0) >= len(SCALE_SIDES):
        return False
    sides_4 = np.array(SCALE_SIDES, dtype=np.int64)
    heights = np.repeat([v.rows for v in views], num_frames)
    widths = np.repeat([v.cols for v in views], num_frames)
    rows_F4, cols_F4 = heights[:, None] * sides_4, widths[:, None] * sides_4
    frame_of_all = np.repeat(np.arange(len(counts)), counts)
    at = frame_of_all * len(SCALE_SIDES) + scale
    cols = cols_F4.ravel()[at]
    if (row >= rows_F4.ravel()[at]).any() or (col >= cols).any():
        return False
    cells_F4 = rows_F4 * cols_F4
    ends = np.cumsum(cells_F4)  # the cells of all frames and scales are numbered through
    cells = (ends - cells_F4.ravel())[at] + row * cols + col
    if not _are_distinct(cells, below=int(ends[-1]) if len(ends) else 0):
        return False
    # 3. ranks count the tokens of each tile of a frame; with one tile these stand side by side
    if all(v.rows * v.cols == 1 for v in views):
        firsts = np.cumsum(counts) - counts
        return bool((rank == np.arange(len(rank)) - np.repeat(firsts, counts)).all())
    sides = sides_4[scale]
    tile = (row // sides) * widths[frame_of_all] + col // sides
    return _count_up(rank, groups=frame_of_all * (1 + int(tile.max(initial=0))) + tile)


def _are_distinct(cells: npt.NDArray[np.int64], *, below: int) -> bool:
    """Return whether no cell occurs twice."""
    if below <= _MOST_MARKS:
        is_taken = np.zeros(below, dtype=bool)
        is_taken[cells] = True
        return bool(np.count_nonzero(is_taken) == len(cells))
    ordered = np.sort(cells)  # `np.unique` hashes, which takes ten times as long
    return bool((ordered[1:] != ordered[:-1]).all())


def _count_up(rank: npt.NDArray[np.uint16], *, groups: npt.NDArray[np.int64]) -> bool:
    """Return whether the ranks of every group are 0, 1, 2, ... in their order."""
    order = np.argsort(groups, kind="stable")
    groups = groups[order]
    positions = np.arange(len(groups))
    starts = np.zeros(len(groups), dtype=np.int64)
    starts[1:] = positions[1:] * (groups[1:] != groups[:-1])
    return bool((rank[order] == positions - np.maximum.accumulate(starts)).all())


def refuse_tokens(tokens_N6: npt.NDArray[np.uint16], views: list[ViewMeta]) -> None:
    """Go through the rules of `check_tokens` one by one and name the first token that breaks one.

    Raises:
        UsageError: as `check_tokens`.
    """
    view, frame, scale, row, col, rank = tokens_N6.astype(np.int64).T
    _check_below("view", view, np.int64(len(views)))
    num_frames = np.array([len(v.times) for v in views])
    _check_below("frame", frame, num_frames[view])
    _check_below("scale", scale, np.int64(len(SCALE_SIDES)))
    sides = np.asarray(SCALE_SIDES, dtype=np.int64)[scale]
    _check_below("row", row, sides * np.array([v.rows for v in views])[view])
    _check_below("col", col, sides * np.array([v.cols for v in views])[view])
    first_frames = np.concatenate([[0], np.cumsum(num_frames)])
    frame_of_all = first_frames[view] + frame
    _check_counts(frame_of_all, np.array([n for v in views for n in v.tokens], dtype=np.int64))
    tile = (row // sides) * np.array([v.cols for v in views])[view] + col // sides
    _check_order(frame_of_all, tile, rank)
    place = ((frame_of_all * len(SCALE_SIDES) + scale) << 32) + (row << 16) + col
    if len(np.unique(place)) < len(place):
        raise UsageError("a place (view, frame, scale, row, col) occurs twice")


def _check_below(
    name: str, values: npt.NDArray[np.int64], limits: npt.NDArray[np.int64] | np.int64
) -> None:
    outside = values >= limits
    if outside.any():
        token = int(outside.argmax())
        limit = int(np.broadcast_to(limits, values.shape)[token])
        raise UsageError(f"token {token} has {name} {values[token]}, which must be below {limit}")


def _check_counts(frames: npt.NDArray[np.int64], expected: npt.NDArray[np.int64]) -> None:
    counts = np.bincount(frames, minlength=expected.size)
    different = counts != expected
    if different.any():
        frame = int(different.argmax())
        raise UsageError(
            f"metadata counts {expected[frame]} tokens in frame {frame} (of all views), "
            f"there are {counts[frame]}"
        )


def _check_order(
    frames: npt.NDArray[np.int64], tiles: npt.NDArray[np.int64], ranks: npt.NDArray[np.int64]
) -> None:
    """Sorted by view and frame; the tokens of each tile of a frame counted 0, 1, 2, ... as they stand."""
    falls = np.diff(frames, prepend=-1) < 0
    if falls.any():
        raise UsageError(f"token {int(falls.argmax())} is not sorted by view and frame")
    groups = frames * (1 + tiles.max(initial=0)) + tiles
    order = np.argsort(groups, kind="stable")
    first = np.searchsorted(groups[order], groups[order], side="left")
    expected = np.empty(len(ranks), dtype=np.int64)
    expected[order] = np.arange(len(ranks)) - first
    wrong = ranks != expected
    if wrong.any():
        token = int(wrong.argmax())
        raise UsageError(
            f"token {token} has rank {ranks[token]}, it is number {expected[token]} of its tile and frame"
        )
