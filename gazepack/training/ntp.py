"""Next-token pre-training: the network learns to choose what greedy painting chooses.

A step is a labelled batch or several, the losses of `forced`, and AdamW. The data are made ahead by other
processes; with greedy's labels they cost a tenth of the training itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from pydantic import Field
from torch import Tensor

from gazepack.training.batches import BatchSettings, LabelledBatch, batches
from gazepack.training.clips import Video
from gazepack.training.forced import Lessons, lesson_loss
from gazepack.training.loop import Means, Report, RunSettings, check_finite, run_steps
from gazepack.training.store import Store, TrainingState


class NtpSettings(RunSettings):
    """What a user may say about pre-training."""

    frames_per_step: int = Field(default=16, ge=1)
    """Frames of a step: few long clips or many short ones."""
    accumulate: int = Field(default=1, ge=1)
    """Batches that a step is divided into."""

    def spread(self, state: TrainingState) -> float:
        """Return over how many places of the list the next target is spread: 4 falling to 1."""
        return 4.0 - 3.0 * self.progress(state)

    @property
    def batches(self) -> BatchSettings:
        """What decides the batches."""
        return BatchSettings(
            seed=self.seed, frames_per_batch=max(1, self.frames_per_step // self.accumulate)
        )


def pretrain(
    state: TrainingState,
    videos: Sequence[Video],
    settings: NtpSettings,
    *,
    store: Store,
    report: Report,
    device: torch.device,
    num_workers: int = 1,
) -> None:
    """Train until the run's length is reached.

    Args:
        state: where to go on; changed in place.
        videos: what to train on.
        settings: of the run.
        store: where checkpoints and the log go.
        report: told what the log is told.
        device: where to compute; the state's network must be there.
        num_workers: processes that cut and label clips ahead.

    Raises:
        DivergedError: a loss is not a number; the last checkpoint stands.
        SourceError: the videos cannot be decoded.
        StorageError: the folder cannot be written.
        UsageError: out of memory.
    """
    first = state.step * settings.accumulate
    stream = batches(videos, settings.batches, first_step=first, num_workers=num_workers)

    def gradients() -> dict[str, float]:
        return _gradients(state, stream, settings, device)

    try:
        run_steps(
            state,
            settings,
            gradients,
            store=store,
            report=report,
            memory_option="--frames-per-step, or raise --accumulate",
        )
    finally:
        stream.close()


def _gradients(
    state: TrainingState,
    stream: Iterator[LabelledBatch],
    settings: NtpSettings,
    device: torch.device,
) -> dict[str, float]:
    """Add up the gradients of a step's batches; return its numbers."""
    means = Means()
    for number in range(settings.accumulate):
        batch = next(stream)
        loss, numbers = ntp_loss(state, batch, spread=settings.spread(state), device=device)
        check_finite(loss, f"loss of batch {state.step * settings.accumulate + number}")
        (loss / settings.accumulate).backward()
        means.add(**numbers)
    return means.take()


def ntp_loss(
    state: TrainingState, batch: LabelledBatch, *, spread: float, device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch, and its parts; in bfloat16 where the device is a GPU."""
    lessons = Lessons.of(torch.from_numpy(batch.frames_BT3SS), batch.labels, device=device)
    with precision(device):
        loss = lesson_loss(state.network, lessons, spread=spread)
    return loss.total, loss.numbers()


def precision(device: torch.device) -> AbstractContextManager[None]:
    """Return what makes matrix products bfloat16 on a GPU."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
