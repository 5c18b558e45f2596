"""Tokens at equal painting error: is the network worth more than a rule of thumb?

Every selector is brought to the same bound on the same clips, each frame of them: `autogaze` as packing
uses it (the bound is its loss threshold, its choices end where the bound is met in truth, and greedy tops up
where it stopped early), `greedy`, which is what it learned from, and `difference` and `random`, taken one by
one until the bound holds. Beside the counts: what the network needs without greedy's help, how well it
knows its own error, which scales it uses, what a repeated frame costs, where it looks.

What this gives up: greedy is no lower limit, only a good rule; and a top-up hides a network that stops far
too early, so with every count stands the share that the network chose itself.

    legend   T  frames    S  side of the square that is looked at, in pixels    G  side of the cell grid
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from gazepack.autogaze import AutoGaze
from gazepack.errors import SourceError, UsageError, VideoError
from gazepack.geometry import (
    CLIP_FRAMES,
    NUM_SCALES,
    SCALE_SIDES,
    TILE_SIDE,
    TILE_TOKENS,
    Grid,
)
from gazepack.patches import MAX_PSNR
from gazepack.selectors import (
    ClipBatch,
    Difference,
    Gazing,
    Greedy,
    Proposal,
    Proposer,
    Random,
    Selection,
    Selector,
    choose,
)
from gazepack.selectors.base import NOTHING
from gazepack.training.clips import Pixels, Video
from gazepack.video import Sampling, decode

BOUNDS = (26.0, 30.0, 34.0)
"""The bounds that are compared at unless others are asked for, in dB."""
PATCH_SIZE = 16
NAMES = ("autogaze", "greedy", "difference", "random")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One way of looking at the videos."""

    side: int = 224
    """Side of the centre crop, in pixels; a multiple of 224."""
    fps: float | None = None
    """Frames per second of video time; every frame if `None`."""

    def __post_init__(self) -> None:
        tile = TILE_SIDE * PATCH_SIZE
        if self.side < tile or self.side % tile:
            raise UsageError(f"side {self.side} is not a multiple of {tile} pixels")

    @property
    def grid(self) -> Grid:
        """The grid of tiles over the crop."""
        num = self.side // (TILE_SIDE * PATCH_SIZE)
        return Grid(rows=num, cols=num, patch_size=PATCH_SIZE)

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.side} px, {'every frame' if self.fps is None else f'{self.fps:g} fps'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All selectors at one bound in one view."""

    view: View
    min_psnr: float
    """The bound of every frame, in dB."""
    tokens: dict[str, tuple[int, ...]]
    """Per selector, the tokens of each clip."""
    dense: int
    """What a plain ViT would read of all clips."""
    own: int
    """Tokens of autogaze that the network chose itself; greedy added the rest."""
    own_order: int | None
    """Tokens when the network goes on by itself until the bound holds in truth, each tile of a frame in turn;
    `None` for a network that remembers tokens, which cannot go on without taking all of it for seen."""
    alone: int
    """Tokens that the network would take by itself, no error measured, asked for the bound."""
    measured_psnr: float
    """Where the network alone stopped when asked for the bound: mean over frames, in dB."""
    missed_db: float
    """Mean distance of a frame's PSNR from the bound, in dB, the network alone."""

    @property
    def off_db(self) -> float:
        """By how much the network alone ends above the bound on average, in dB; below 0 if it stops early."""
        return self.measured_psnr - self.min_psnr

    def times_greedy(self, name: str) -> float:
        """Return how many times greedy's tokens a selector needs, all clips together."""
        return sum(self.tokens[name]) / max(1, sum(self.tokens["greedy"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that was measured."""

    model: str
    model_sha256: str
    clips: tuple[str, ...]
    comparisons: list[Comparison]
    repeat_tokens: float
    """Mean tokens of a frame that repeats the one before, as packing uses the network at 30 dB, 224 px."""
    repeat_alone: float
    """The same for the network alone, no error measured; at least 1, as a frame's first slot is always kept."""
    scales: dict[str, tuple[float, ...]]
    """Per selector, the share of its tokens at each scale, at the first bound of the first view."""
    heat_GG: npt.NDArray[np.float64] = field(repr=False)
    """Where the network looks: tokens over each cell of a tile, a coarse token spread over its cells."""


def read_clip(video: Video, view: View) -> Pixels:
    """Decode up to 16 frames from the beginning and crop their centre.

    Returns:
        uint8 T x S x S x 3; a frame smaller than the square is enlarged first.
    """
    frames = decode(
        video.uri,
        Sampling(fps=view.fps),
        start_seconds=video.start_seconds,
        end_seconds=video.end_seconds,
    )
    return np.stack([_centre(frame.rgb_HW3, view.side) for frame in islice(frames, CLIP_FRAMES)])


def _centre(rgb_HW3: Pixels, side: int) -> Pixels:
    image = Image.fromarray(rgb_HW3)
    ratio = side / min(image.size)
    if ratio > 1:
        size = (round(image.width * ratio), round(image.height * ratio))
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def evaluate(
    model: AutoGaze,
    videos: Sequence[Video],
    *,
    name: str,
    bounds: Sequence[float] = BOUNDS,
    views: Sequence[View] = (View(),),
    progress: Progress,
) -> Evaluation:
    """Compare a network with greedy, difference and random.

    Args:
        model: the network; it must predict dB.
        videos: up to 16 frames of each are looked at.
        name: what the report calls the model.
        bounds: in dB.
        views: the crops and rates.
        progress: told what is being measured.

    Raises:
        UsageError: the network does not predict dB.
        SourceError: no video could be decoded.
    """
    if model.config.loss_unit != "negative_psnr":
        raise UsageError(
            f"the model {name} does not predict dB, so a bound is no threshold to it",
            remedy="evaluate a model that `gazepack train` made",
        )
    comparisons: list[Comparison] = []
    first: dict[str, list[Selection]] = {}
    for view in views:
        clips = load_clips(videos, view, progress, device=model.device)
        for bound in bounds:
            progress(f"{view.name}, {bound:g} dB")
            comparison, selections = _compare(model, clips, view, bound)
            comparisons.append(comparison)
            first = first or selections
    progress("repeated frames")
    twice = shown_twice(load_clips(videos, View(), progress, device=model.device))
    packing = Gazing(model, loss_threshold=-30.0, stops_at_bound=True)
    return Evaluation(
        model=name,
        model_sha256=model.sha256,
        clips=twice.names,
        comparisons=comparisons,
        repeat_tokens=_repeat_tokens(choose(packing, twice, min_psnr=30.0)),
        repeat_alone=_repeat_tokens(choose(Gazing(model, loss_threshold=-30.0), twice)),
        scales={name: _scales(selections) for name, selections in first.items()},
        heat_GG=_heat(first["autogaze"]),
    )


def load_clips(
    videos: Sequence[Video],
    view: View,
    progress: Progress,
    *,
    device: torch.device | str = "cpu",
) -> ClipBatch:
    """Read up to 16 frames from the beginning of each video.

    Args:
        videos: what to read.
        view: the crop and the rate.
        progress: told what cannot be read and is left out.
        device: where choosing is to be done.

    Raises:
        SourceError: no video can be decoded.
    """
    clips: list[Pixels] = []
    names: list[str] = []
    for video in videos:
        try:
            clips.append(read_clip(video, view))
            names.append(video.uri.rpartition("/")[2])
        except VideoError as error:
            progress(f"left out: {error}")
    if not clips:
        raise SourceError("no video can be decoded", remedy="name others")
    padded = [np.concatenate((c, c[-1:].repeat(CLIP_FRAMES - len(c), 0))) for c in clips]
    frames_BTHW3 = torch.from_numpy(np.stack(padded)).to(device)
    return ClipBatch(
        frames_BT3HW=frames_BTHW3.permute(0, 1, 4, 2, 3).contiguous(),
        num_frames=tuple(len(clip) for clip in clips),
        names=tuple(names),
        grid=view.grid,
    )


def _compare(
    model: AutoGaze, clips: ClipBatch, view: View, bound: float
) -> tuple[Comparison, dict[str, list[Selection]]]:
    """Bring every selector to one bound."""
    gazing = _Remembering(Gazing(model, loss_threshold=-bound, stops_at_bound=True))
    selectors: dict[str, Selector] = {
        "autogaze": gazing,
        "greedy": Greedy(),
        "difference": Difference(),
        "random": Random(),
    }
    selections = {name: choose(x, clips, min_psnr=bound) for name, x in selectors.items()}
    alone = choose(Gazing(model, loss_threshold=-bound), clips)
    psnr = np.concatenate([selection.psnr_T for selection in alone])
    comparison = Comparison(
        view=view,
        min_psnr=bound,
        tokens={
            name: tuple(int(s.tokens_T.sum()) for s in found) for name, found in selections.items()
        },
        dense=clips.grid.num_dense * sum(clips.num_frames),
        own=_own(gazing.proposals, selections["autogaze"], clips.grid),
        own_order=_own_order(model, clips, bound),
        alone=sum(int(s.tokens_T.sum()) for s in alone),
        measured_psnr=float(np.minimum(psnr, MAX_PSNR).mean()),
        missed_db=float(np.abs(psnr - bound).mean()),
    )
    return comparison, selections


class _Remembering:
    """A gazing selector whose proposals for a batch of clips can be looked at afterwards."""

    def __init__(self, gazing: Gazing) -> None:
        self._gazing = gazing
        self.name = gazing.name
        self.stops_at_bound = gazing.stops_at_bound
        self.settings = gazing.settings
        self.proposals: dict[tuple[int, int], Proposal] = {}
        """Of (clip, frame), those that were asked for."""

    def begin(self, clips: ClipBatch) -> Proposer:
        """Begin anew."""
        self._proposer = self._gazing.begin(clips)
        self.proposals.clear()
        return self

    def propose(
        self, number: int, *, rows: Sequence[int], canvas_BG3SS: Tensor
    ) -> Sequence[Proposal]:
        """Ask, and remember."""
        found = self._proposer.propose(number, rows=rows, canvas_BG3SS=canvas_BG3SS)
        self.proposals.update({(row, number): p for row, p in zip(rows, found, strict=True)})
        return found


def _own(
    proposals: dict[tuple[int, int], Proposal], selections: Sequence[Selection], grid: Grid
) -> int:
    """Count the chosen tokens that were proposed: in each frame, those that it begins with."""
    own = 0
    for clip, selection in enumerate(selections):
        places = (x.astype(np.int64) for x in (selection.scale, selection.row, selection.col))
        tile, tile_id = grid.to_tile(*places)
        borders = np.cumsum(selection.tokens_T)[:-1]
        for t, choices in enumerate(np.split(tile * TILE_TOKENS + tile_id, borders)):
            proposed = proposals.get((clip, t), NOTHING).choices
            num = min(len(choices), len(proposed))
            own += int(np.cumprod(choices[:num] == proposed[:num]).sum())
    return own


def _own_order(model: AutoGaze, clips: ClipBatch, bound: float) -> int | None:
    """Count the tokens of a network that goes on to the bound; with all its tokens a frame has no error."""
    if model.config.memory != "canvas":
        return None
    selections = choose(Gazing(model, stops_at_bound=True), clips, min_psnr=bound)
    return sum(int(s.tokens_T.sum()) for s in selections)


def shown_twice(clips: ClipBatch) -> ClipBatch:
    """Return clips that show each of the first frames twice."""
    return ClipBatch(
        frames_BT3HW=clips.frames_BT3HW[:, : CLIP_FRAMES // 2].repeat_interleave(2, 1),
        num_frames=tuple(min(2 * num, CLIP_FRAMES) for num in clips.num_frames),
        names=clips.names,
        grid=clips.grid,
    )


def _repeat_tokens(selections: Sequence[Selection]) -> float:
    """Return the mean tokens of the second showings."""
    return float(np.concatenate([s.tokens_T[1::2] for s in selections]).mean())


def _scales(selections: Sequence[Selection]) -> tuple[float, ...]:
    """Return the share of tokens at each scale."""
    counts = np.sum([np.bincount(s.scale, minlength=NUM_SCALES) for s in selections], axis=0)
    return tuple((counts / counts.sum()).tolist())


def _heat(selections: Sequence[Selection]) -> npt.NDArray[np.float64]:
    """Count tokens over the cells of a tile, as a share of all."""
    heat_GG = np.zeros((TILE_SIDE, TILE_SIDE))
    for scale, row, col in _places(selections):
        side = SCALE_SIDES[scale]
        top, left = (at % side * TILE_SIDE // side for at in (row, col))
        bottom, right = (
            int(-(-((row % side) + 1) * TILE_SIDE // side)),
            int(-(-((col % side) + 1) * TILE_SIDE // side)),
        )
        heat_GG[top:bottom, left:right] += 1 / ((bottom - top) * (right - left))
    return np.asarray(heat_GG / heat_GG.sum())


def _places(selections: Sequence[Selection]) -> Iterator[tuple[int, int, int]]:
    for s in selections:
        yield from zip(s.scale.tolist(), s.row.tolist(), s.col.tolist(), strict=True)
