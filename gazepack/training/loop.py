"""What pre-training and post-training share: the length of a run, its schedule, its steps, its ends.

The schedule follows the share of the run that is done, counted in steps or in minutes. A run counted in
steps is the same to the bit wherever it was interrupted (on one CPU with one thread); one counted in minutes
is not, as no clock is.
"""

import math
import time
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from gazepack.errors import DivergedError, UsageError
from gazepack.formats.meta import describe
from gazepack.training.store import Store, TrainingState

Report = Callable[[int, float, dict[str, float]], None]
"""Told the step, the share of the run that is done, and the numbers of the log."""
REPORT_STEPS = 10
SAVE_STEPS = 20


class RunSettings(BaseModel):
    """What a user may say about any run."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False
    )

    steps: int | None = Field(default=None, ge=1)
    """Length of the run in steps."""
    minutes: float | None = Field(default=None, gt=0)
    """Length of the run in minutes of this machine."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """At the top of the schedule."""
    warmup_steps: int = Field(default=50, ge=1)
    """Steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of matrices."""
    average_decay: float = Field(default=0.995, ge=0, lt=1)
    """Decay of the running average of the weights, which is what is saved as the model."""
    seed: int = Field(default=0, ge=0)
    """Of the weights, the clips and the tries."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError(
                f"the run has {'no length' if self.steps is None else 'two lengths'}; "
                "give --steps or --minutes"
            )
        return self

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return checked settings.

        Raises:
            UsageError: one line naming the setting, the value and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UsageError(describe(error)) from None

    def progress(self, state: TrainingState) -> float:
        """Return the share of the run that is done, 0..1."""
        if self.steps is not None:
            return min(1.0, state.step / self.steps)
        assert self.minutes is not None
        return min(1.0, state.seconds / (60 * self.minutes))

    def rate(self, state: TrainingState) -> float:
        """Return the learning rate of the next step: warm-up, then a cosine down to a fiftieth."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(state)))
        warm = min(1.0, (state.step + 1) / self.warmup_steps)
        return self.learning_rate * warm * (0.02 + 0.98 * cosine)


class Means:
    """Means of named numbers since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, **numbers: float) -> None:
        """Count some numbers in."""
        self._count += 1
        for name, value in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Return the means to five digits, and begin anew."""
        means = {name: float(f"{x / self._count:.5g}") for name, x in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def check_finite(value: Tensor, what: str) -> None:
    """Refuse a loss or a gradient that is no number.

    Args:
        value: a scalar.
        what: which it is, and the batch or step it belongs to.

    Raises:
        DivergedError: naming it.
    """
    if not bool(torch.isfinite(value)):
        raise DivergedError(
            f"the {what} is not a number",
            remedy="the last checkpoint stands; begin from it with --init and a lower --learning-rate",
        )


def run_steps(
    state: TrainingState,
    settings: RunSettings,
    gradients: Callable[[], dict[str, float]],
    *,
    store: Store,
    report: Report,
    memory_option: str,
) -> None:
    """Do steps until the run's length is reached.

    Args:
        state: where to go on; changed in place.
        settings: of the run.
        gradients: computes the gradients of the next step, and returns its numbers.
        store: where checkpoints and the log go.
        report: told what the log is told.
        memory_option: what to lower when memory runs out.

    Raises:
        DivergedError: a loss or a gradient is not a number; the last checkpoint stands.
        StorageError: the folder cannot be written.
        UsageError: out of memory.
    """
    means = Means()
    while settings.progress(state) < 1:
        begun = time.monotonic()
        try:
            means.add(**_step(state, settings, gradients))
        except torch.OutOfMemoryError as error:
            raise UsageError(
                f"out of memory in step {state.step}", remedy=f"lower {memory_option}"
            ) from error
        state.seconds += time.monotonic() - begun
        is_last = settings.progress(state) >= 1
        if state.step % REPORT_STEPS == 0 or is_last:
            numbers = means.take()
            store.log(step=state.step, seconds=round(state.seconds, 1), **numbers)
            report(state.step, settings.progress(state), numbers)
        if state.step % SAVE_STEPS == 0 or is_last:
            store.save(state)


def _step(
    state: TrainingState, settings: RunSettings, gradients: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Do one step; return its numbers."""
    rate = settings.rate(state)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.zero_grad(set_to_none=True)
    numbers = gradients()
    norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    check_finite(norm, f"gradient of step {state.step}")
    state.optimiser.step()
    state.step += 1
    state.update_average(settings.average_decay)
    return {**numbers, "gradient": float(norm), "rate": rate}
