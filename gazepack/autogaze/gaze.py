"""What the rest of gazepack sees of AutoGaze: pixels in, gazes out.

    legend   B clips  T frames  3 RGB  S side of a tile in pixels  N tokens of a clip

A network of either memory gazes (`AutoGazeConfig.memory`). With tokens as memory, what is carried grows
with the tokens seen, 23 MB a clip of 16 frames at ratio 0.1 in float32, so a stream that never ends needs
a new start now and then (packing starts anew at each clip of 16 frames). With the canvas as memory, the
canvas is all that is carried: here it shows the network's own choices, and in packing, where greedy may
add to them, what is really painted (`AutoGaze.look`).
"""

import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gazepack.autogaze.canvas import CanvasNetwork
from gazepack.autogaze.canvas_engine import CanvasEngine, FrameGroup
from gazepack.autogaze.config import AutoGazeConfig
from gazepack.autogaze.devices import find_device
from gazepack.autogaze.engine import ClipGroup, Engine
from gazepack.autogaze.memory import Memory
from gazepack.autogaze.pixels import check_pixels, normalise
from gazepack.autogaze.stepping import Group
from gazepack.autogaze.taking import FrameGaze
from gazepack.autogaze.threads import map_single_threaded
from gazepack.autogaze.weights import BUNDLED, Network, load_checkpoint
from gazepack.errors import UsageError
from gazepack.geometry import CLIP_FRAMES, TILE_SIDE, TILE_TOKENS, tile_places
from gazepack.patches import MID_GREY, cut, paint, pyramid

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaze:
    """The tokens chosen in one clip of one tile."""

    ids: npt.NDArray[np.int32]
    """Chosen tokens, N of `frame * 265 + tile id`: frame by frame, inside a frame in gaze order."""
    num_each_frame: npt.NDArray[np.int32]
    """Tokens of each frame, T; at least one each."""
    loss: npt.NDArray[np.float32]
    """The predicted loss before each token was added, N, in the model's `loss_unit`."""


def frame_budgets(gazing_ratio: float | Sequence[float], num_frames: int) -> tuple[int, ...]:
    """Return the most tokens each frame may use: max(1, floor(ratio x 265)), product in float32.

    Raises:
        UsageError: a ratio outside 0..1 (0 excluded), or not one for each frame.
    """
    ratios = (
        [gazing_ratio] * num_frames if isinstance(gazing_ratio, int | float) else list(gazing_ratio)
    )
    if len(ratios) != num_frames:
        raise UsageError(
            f"{len(ratios)} gazing ratios for {num_frames} frames",
            remedy="give one number, or one for each frame",
        )
    for ratio in ratios:
        if not 0 < ratio <= 1:
            raise UsageError(
                f"gazing ratio {ratio} is not above 0 and at most 1",
                remedy="0.1 keeps up to a tenth of the 265 patches of a frame",
            )
    return tuple(max(1, int(np.float32(ratio) * np.float32(TILE_TOKENS))) for ratio in ratios)


class AutoGaze:
    """AutoGaze, ready to gaze.

    Args:
        network: the weights; later changes to it are not seen.
        sha256: of the file they came from; empty for weights that are in no file.
        device: where to compute, `cpu` or `cuda`.
        dtype: of weights and activations; float32 gives the recorded results.
        memory_bytes: what gazing may use of an accelerator beside the weights; half of what is free if
            `None`. It decides how many tiles go together, one at least.

    Raises:
        UsageError: a device that is not there.
    """

    def __init__(
        self,
        network: Network,
        *,
        sha256: str = "",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        memory_bytes: int | None = None,
    ) -> None:
        self.config: AutoGazeConfig = network.config
        self.sha256 = sha256
        self.device: torch.device = find_device(device)
        self._memory = Memory(self.device, memory_bytes)
        self._groups: dict[tuple[int, int], Group] = {}
        self._turn = threading.Lock()
        """Of the thread whose rows are in the groups."""
        self._engine: Engine | CanvasEngine
        if isinstance(network, CanvasNetwork):
            self._engine = CanvasEngine(network, device=self.device, dtype=dtype)
        else:
            self._engine = Engine(network, device=self.device, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | os.PathLike[str],
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Load a checkpoint of the published layout; see `weights.load_checkpoint`.

        Raises:
            CheckpointError: the checkpoint is missing, unreachable or does not fit.
            UsageError: a device that is not there.
        """
        device = find_device(device)
        checkpoint = load_checkpoint(path_or_hub_id)
        return cls(checkpoint.network, sha256=checkpoint.sha256, device=device, dtype=dtype)

    @classmethod
    def bundled(
        cls, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Self:
        """Load the network that comes with the package; docs/model-card.md says what it is.

        Raises:
            UsageError: a device that is not there.
        """
        return cls.from_pretrained(BUNDLED, device=device, dtype=dtype)

    def gaze(
        self,
        pixels_BT3SS: Tensor,
        *,
        gazing_ratio: float | Sequence[float] = 1.0,
        loss_threshold: float | None = None,
    ) -> list[Gaze]:
        """Choose the tokens of each clip; a clip's result does not depend on the others.

        Args:
            pixels_BT3SS: uint8 RGB, a square tile a clip, any T; sides other than 224 are resized.
            gazing_ratio: upper bound on tokens per frame as a share of 265; one, or one a frame.
            loss_threshold: stop gazing at a frame when the predicted loss is at or below it.

        Returns:
            One `Gaze` for each clip, in order; none for no clips.

        Raises:
            UsageError: pixels, ratio or threshold that cannot be.
        """
        check_pixels(pixels_BT3SS)
        budgets = frame_budgets(gazing_ratio, pixels_BT3SS.shape[1])
        check_threshold(loss_threshold)
        room = self._engine.room(budgets)

        def gaze_rows(rows: list[int]) -> list[Gaze]:
            group = self._group(len(rows), pixels_BT3SS.shape[-1], room)
            group.clear()
            gazes = _stream(self._engine, group).advance(
                pixels_BT3SS[rows], budgets=budgets, loss_threshold=loss_threshold
            )
            group.recorder.warm()
            return gazes

        if not self._engine.is_accelerator:
            alone = map_single_threaded(gaze_rows, [[row] for row in range(len(pixels_BT3SS))])
            return [gaze for gazes in alone for gaze in gazes]
        return self._in_groups(gaze_rows, len(pixels_BT3SS), room)

    def look(
        self,
        frames_N3SS: Tensor,
        canvas_N3SS: Tensor,
        *,
        budgets: Sequence[int],
        loss_threshold: float | None,
    ) -> list[FrameGaze]:
        """Gaze at frames whose canvases are given; only for networks with the canvas as memory.

        Runs in the calling thread; on the CPU frame by frame, so that each is equal to the bit whatever
        frames are beside it (given one thread: see `threads`).

        Args:
            frames_N3SS: uint8 RGB, a square tile each; sides other than 224 are resized.
            canvas_N3SS: uint8, what each canvas holds before its frame.
            budgets: the most tokens of each frame, 1..265.
            loss_threshold: stop gazing at a frame when the predicted loss is at or below it.

        Returns:
            One result for each frame.

        Raises:
            UsageError: the network remembers tokens, not the canvas.
        """
        engine = self._engine
        if not isinstance(engine, CanvasEngine):
            raise UsageError(
                "this network remembers tokens, so it cannot be shown a canvas",
                remedy="let it gaze at whole clips",
            )
        room = engine.room(budgets)

        def look_at(rows: list[int]) -> list[FrameGaze]:
            group = self._group(len(rows), frames_N3SS.shape[-1], room)
            assert isinstance(group, FrameGroup)
            frames = engine.look(
                frames_N3SS[rows].to(self.device),
                canvas_N3SS[rows].to(self.device),
                budgets=[budgets[row] for row in rows],
                loss_threshold=loss_threshold,
                group=group,
            )
            group.recorder.warm()
            return frames

        if not self._engine.is_accelerator:
            return [frame for row in range(len(frames_N3SS)) for frame in look_at([row])]
        return self._in_groups(look_at, len(frames_N3SS), room)

    def stream(self) -> "Stream":
        """Return the state of a clip that arrives frame by frame."""
        room = self._engine.room([TILE_TOKENS] * CLIP_FRAMES)
        return _stream(self._engine, self._engine.start(1, room=room))

    def _group(self, num_rows: int, side: int, room: int) -> Group:
        """Return memory for rows that go together: on an accelerator that of the time before."""
        if not self._engine.is_accelerator:
            return self._engine.start(num_rows, room=room)
        key = num_rows, side
        if key not in self._groups:
            self._groups[key] = self._engine.start(num_rows, room=room)
        return self._groups[key]

    def _in_groups(self, work: Callable[[list[int]], list[T]], num: int, room: int) -> list[T]:
        """Work on rows in groups that an accelerator has memory for."""
        bytes_per_row = self._engine.bytes_per_row(room)
        with self._turn:
            return self._memory.map(
                work, num, bytes_per_row=bytes_per_row, forget=self._groups.clear
            )


class Stream(ABC):
    """A clip that arrives a few frames at a time; made by `AutoGaze.stream`.

    However the frames are cut into calls, ids and losses are those of the whole clip.
    """

    device: torch.device

    def push(
        self,
        pixels_T3SS: Tensor,
        *,
        gazing_ratio: float | Sequence[float] = 1.0,
        loss_threshold: float | None = None,
    ) -> Gaze:
        """Gaze at the next T frames; arguments as in `AutoGaze.gaze`, for one clip.

        Returns:
            The gaze at these T frames; ids count frames from the stream's start.

        Raises:
            UsageError: pixels, ratio or threshold that cannot be.
        """
        pixels_1T3SS = pixels_T3SS[None]
        check_pixels(pixels_1T3SS)
        budgets = frame_budgets(gazing_ratio, len(pixels_T3SS))
        check_threshold(loss_threshold)

        def advance(pixels_1T3SS: Tensor) -> list[Gaze]:
            return self.advance(pixels_1T3SS, budgets=budgets, loss_threshold=loss_threshold)

        if self.device.type == "cpu":
            return map_single_threaded(advance, [pixels_1T3SS])[0][0]
        return advance(pixels_1T3SS)[0]

    def advance(
        self,
        pixels_BT3SS: Tensor,
        *,
        budgets: tuple[int, ...],
        loss_threshold: float | None,
    ) -> list[Gaze]:
        """Gaze at the next T frames of a group of clips, in the calling thread, arguments unchecked.

        Returns:
            One `Gaze` of these T frames for each row of the group.
        """
        first_frame = self.num_frames
        frames = [
            self._frame(pixels_BT3SS[:, t].to(self.device), budget, loss_threshold)
            for t, budget in enumerate(budgets)
        ]
        return [
            _join([rows[row] for rows in frames], first_frame) for row in range(len(pixels_BT3SS))
        ]

    @property
    @abstractmethod
    def num_frames(self) -> int:
        """Frames gazed at so far."""

    @abstractmethod
    def _frame(
        self, pixels_B3SS: Tensor, budget: int, loss_threshold: float | None
    ) -> list[FrameGaze]:
        """Gaze at the next frame of each row."""


class GazeStream(Stream):
    """The stream of a network that remembers tokens."""

    def __init__(self, engine: Engine, group: ClipGroup) -> None:
        self.device: torch.device = engine.device
        self._engine = engine
        self._group = group

    @property
    def num_frames(self) -> int:
        """Frames gazed at so far."""
        return self._group.num_frames

    def _frame(
        self, pixels_B3SS: Tensor, budget: int, loss_threshold: float | None
    ) -> list[FrameGaze]:
        frame_B3HW = normalise(pixels_B3SS[:, None], dtype=self._engine.dtype)[:, 0]
        return self._engine.frame(
            self._group,
            frame_B3HW,
            budgets=[budget] * self._group.num_rows,
            loss_threshold=loss_threshold,
        )


class CanvasStream(Stream):
    """The stream of a network that remembers the canvas; it paints what the network chooses.

    Tiles must be 14 patches of an even number of pixels wide, as all tiles of a grid are.
    """

    def __init__(self, engine: CanvasEngine, group: FrameGroup) -> None:
        self.device: torch.device = engine.device
        self._engine = engine
        self._group = group
        self._num_frames = 0
        self._canvas_B3SS: Tensor | None = None

    @property
    def num_frames(self) -> int:
        """Frames gazed at so far."""
        return self._num_frames

    def _frame(
        self, pixels_B3SS: Tensor, budget: int, loss_threshold: float | None
    ) -> list[FrameGaze]:
        side = pixels_B3SS.shape[-1]
        if side % (2 * TILE_SIDE):
            raise UsageError(
                f"a tile of {side} px does not divide into {TILE_SIDE} patches of even size",
                remedy=f"give tiles of a multiple of {2 * TILE_SIDE} px, such as 196 or 224",
            )
        if self._canvas_B3SS is None:
            self._canvas_B3SS = torch.full_like(pixels_B3SS, MID_GREY)
        rows = self._engine.look(
            pixels_B3SS,
            self._canvas_B3SS,
            budgets=[budget] * self._group.num_rows,
            loss_threshold=loss_threshold,
            group=self._group,
        )
        _paint_rows(self._canvas_B3SS, pixels_B3SS, rows)
        self._num_frames += 1
        return rows


def _stream(engine: Engine | CanvasEngine, group: Group) -> Stream:
    """Return the state of the clips of a group before their first frame."""
    if isinstance(engine, CanvasEngine):
        assert isinstance(group, FrameGroup)
        return CanvasStream(engine, group)
    assert isinstance(group, ClipGroup)
    return GazeStream(engine, group)


def _paint_rows(canvas_B3SS: Tensor, pixels_B3SS: Tensor, rows: list[FrameGaze]) -> None:
    """Paint what each row chose."""
    counts = [len(row.ids) for row in rows]
    frame = np.repeat(np.arange(len(rows)), counts)
    ids = np.concatenate([np.asarray(row.ids, dtype=np.int64) for row in rows])
    columns = zip(("frame", "scale", "row", "col"), (frame, *tile_places(ids)), strict=True)
    at = {name: torch.from_numpy(values).to(canvas_B3SS.device) for name, values in columns}
    levels = pyramid(pixels_B3SS)
    paint(canvas_B3SS, cut(levels, **at, patch_size=pixels_B3SS.shape[-1] // TILE_SIDE), **at)


def check_threshold(loss_threshold: float | None) -> None:
    """Refuse a loss threshold that no loss can be compared with.

    Raises:
        UsageError: it is not a finite number.
    """
    if loss_threshold is not None and not math.isfinite(loss_threshold):
        raise UsageError(
            f"loss threshold {loss_threshold} is not a finite number",
            remedy="leave it out to stop at the gazing ratio alone",
        )


def _join(frames: list[FrameGaze], first_frame: int) -> Gaze:
    """Put the frames of one row together."""
    ids = [
        (first_frame + number) * TILE_TOKENS + tile_id
        for number, frame in enumerate(frames)
        for tile_id in frame.ids
    ]
    return Gaze(
        ids=np.array(ids, dtype=np.int32),
        num_each_frame=np.array([len(frame.ids) for frame in frames], dtype=np.int32),
        loss=np.array([loss for frame in frames for loss in frame.loss], dtype=np.float32),
    )
