"""Labelled batches of clips: a function of (settings, step), computed ahead in another process.

A round of `ROUND_STEPS` steps shares `LANES` windows, so that decoding costs a tenth of training. A
step draws how long its clips are, cuts them out of the round's windows, and has greedy label them at
a bound drawn for each clip. Nothing is remembered from step to step but the windows of the round,
which are read again after an interruption.

    legend   B clips  T frames  S side of a tile (224 px)  N room for tokens of a frame
"""

import multiprocessing
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from gazepack.training.clips import Pixels, Video, draw_clip, generator, read_window
from gazepack.training.labels import Labels, label_clips

LANES = 8
"""Windows of a round."""
ROUND_STEPS = 8
"""Steps that share them."""
AHEAD = 4
"""Batches computed before they are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """What decides every batch, beside the videos."""

    seed: int = 0
    frames_per_batch: int = 32
    """Frames of a batch: few long clips or many short ones."""
    lengths: tuple[int, ...] = (1, 2, 2, 4, 4, 8, 16)
    """Lengths of clips, in frames, each as likely as the others."""
    min_psnr_range: tuple[float, float] = (24.0, 37.0)
    """The bounds that labels are made at, in dB."""
    max_tokens: int = 200
    """The most tokens of a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBatch:
    """Clips and greedy's answers."""

    frames_BT3SS: npt.NDArray[np.uint8]
    labels: Labels
    min_psnr_B: npt.NDArray[np.float64]
    """The bound that each clip was labelled at, in dB."""


@dataclass(slots=True)
class BatchMaker:
    """Computes batches; the windows of the latest round are kept."""

    videos: Sequence[Video]
    settings: BatchSettings
    _round: int = -1
    _windows: list[Pixels] = field(default_factory=list)

    def __call__(self, step: int) -> LabelledBatch:
        """Compute the batch of a step."""
        settings = self.settings
        random = generator(settings.seed, 2, step)
        num_frames = int(random.choice(settings.lengths))
        num_clips = max(1, settings.frames_per_batch // num_frames)
        windows = self._windows_of(step // ROUND_STEPS)
        first = int(random.integers(LANES))
        clips = [
            draw_clip(windows[(first + i) % LANES], num_frames, random) for i in range(num_clips)
        ]
        frames_BT3SS = np.ascontiguousarray(np.stack(clips).transpose(0, 1, 4, 2, 3))
        min_psnr_B = random.uniform(*settings.min_psnr_range, num_clips)
        labels = label_clips(
            torch.from_numpy(frames_BT3SS),
            min_psnr_B=min_psnr_B.tolist(),
            max_tokens=settings.max_tokens,
        )
        return LabelledBatch(frames_BT3SS=frames_BT3SS, labels=labels, min_psnr_B=min_psnr_B)

    def _windows_of(self, number: int) -> list[Pixels]:
        if number != self._round:
            seed = self.settings.seed
            self._windows = [
                read_window(self.videos, generator(seed, 1, number, lane)) for lane in range(LANES)
            ]
            self._round = number
        return self._windows


_maker: BatchMaker | None = None


def _begin(videos: Sequence[Video], settings: BatchSettings) -> None:
    """Make the worker process ready; it has one thread, the trainer needs the others."""
    global _maker
    torch.set_num_threads(1)
    _maker = BatchMaker(videos, settings)


def _make(step: int) -> LabelledBatch:
    assert _maker is not None
    return _maker(step)


def batches(
    videos: Sequence[Video], settings: BatchSettings, *, first_step: int, num_workers: int = 1
) -> Generator[LabelledBatch, None, None]:
    """Yield the batches from a step on, without end.

    Args:
        videos: what to train on.
        settings: what decides the batches.
        first_step: the step to begin with.
        num_workers: processes that compute ahead; with 0, nothing is computed ahead.
    """
    if num_workers == 0:
        maker = BatchMaker(videos, settings)
        while True:
            yield maker(first_step)
            first_step += 1
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        num_workers, mp_context=context, initializer=_begin, initargs=(videos, settings)
    ) as pool:
        waiting: deque[Future[LabelledBatch]] = deque()
        try:
            while True:
                while len(waiting) < AHEAD * num_workers:
                    waiting.append(pool.submit(_make, first_step))
                    first_step += 1
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
