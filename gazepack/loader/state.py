"""Where a loader stands, in 150 to 300 bytes of JSON-able numbers.

An epoch's samples stand in one canonical order and every step takes a prefix of what remains, but
for a few that wait for the next step. So one count and these few places say what is done, on all
ranks and in all workers together. The state says nothing of ranks, workers or batch sizes: each may
be another one after a restart.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gazepack.errors import UsageError
from gazepack.formats.meta import describe
from gazepack.loader.plan import MAX_DEFERRED


class LoaderState(BaseModel):
    """A position in the training run.

    Raises:
        pydantic.ValidationError: a value is missing, unknown, of the wrong type or out of range.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    """Of this record."""
    epoch: int = Field(ge=0, lt=2**63)
    """The epoch, from 0."""
    consumed: int = Field(ge=0)
    """Samples of the epoch that were given out, on all ranks together."""
    deferred: list[int] = Field(default=[], max_length=MAX_DEFERRED)
    """Places in the epoch's order that were not given out although later ones were."""
    worker_steps: int | None = Field(default=None, ge=0)
    """Steps that one `DataLoader` worker gave out after this position; only in a worker's own
    state, as torchdata's StatefulDataLoader keeps it."""
    worker_turn: int | None = Field(default=None, ge=0)
    """Of the steps, that worker gives this one and every so-many-th; only where it is not its number."""
    samples: int = Field(ge=0)
    """Samples of the epoch."""
    seed: int = Field(ge=0, lt=2**63)
    """Of the shuffle."""
    shuffle: bool
    """Whether the epochs are shuffled."""
    fingerprint: str
    """Of the samples and their order in the index."""

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """Return the checked state of a dictionary.

        Raises:
            UsageError: it is not one that `state_dict` returned.
        """
        try:
            state = cls.model_validate(value)
        except ValidationError as error:
            raise UsageError(
                f"the loader state is damaged: {describe(error)}",
                remedy="load what state_dict() returned",
            ) from error
        frontier = state.consumed + len(state.deferred)
        if frontier > state.samples:
            raise UsageError(
                f"the loader state counts {state.consumed} of {state.samples} samples as done"
            )
        if sorted(set(state.deferred)) != state.deferred or not all(
            0 <= place < frontier for place in state.deferred
        ):
            raise UsageError(f"the loader state defers the places {state.deferred}")
        return state

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes: JSON, without what is empty."""
        return {"version": self.version} | self.model_dump(exclude_defaults=True)

    def check_same_order(self, ours: Self) -> None:
        """Refuse a state of another canonical order.

        Raises:
            UsageError: names what differs, the state's value and ours.
        """
        names = ("samples", "seed", "shuffle", "fingerprint")
        differing = [
            f"{name} {getattr(self, name)} in the state, {getattr(ours, name)} here"
            for name in names
            if getattr(self, name) != getattr(ours, name)
        ]
        if differing:
            raise UsageError(
                f"the loader state belongs to another order of samples: {'; '.join(differing)}",
                remedy="use the datasets, filter, seed and shuffle it was saved with",
            )
