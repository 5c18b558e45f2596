"""The record of where a loader stands."""

from typing import Any

import pytest

from gazepack.errors import UsageError
from gazepack.loader.state import LoaderState

GOOD: dict[str, Any] = {
    "version": 1,
    "epoch": 2,
    "consumed": 30,
    "samples": 45,
    "seed": 7,
    "shuffle": True,
    "fingerprint": "0123456789abcdef",
}


def test_a_state_survives_a_dictionary() -> None:
    """What went out comes back."""
    for good in (GOOD, GOOD | {"deferred": [3, 31]}, GOOD | {"worker_steps": 4}):
        assert LoaderState.from_dict(good).to_dict() == good


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the loader state is damaged"),
        (GOOD | {"version": 2}, "damaged: version"),
        (GOOD | {"epoch": -1}, "damaged: epoch"),
        (GOOD | {"consumed": "3"}, "damaged: consumed"),
        (GOOD | {"colour": 1}, "damaged: colour"),
        ({"version": 1}, "damaged: epoch: Field required; load what state_dict"),
        (GOOD | {"deferred": list(range(17))}, "damaged: deferred"),
        (GOOD | {"deferred": [4, 3]}, r"defers the places \[4, 3\]"),
        (GOOD | {"deferred": [31]}, r"defers the places \[31\]"),
        (GOOD | {"consumed": 45, "deferred": [3]}, "counts 45 of 45 samples as done"),
        (GOOD | {"consumed": 46}, "counts 46 of 45 samples as done"),
    ],
)
def test_a_damaged_state_is_refused(value: Any, message: str) -> None:
    """A state that was never saved is named as such."""
    with pytest.raises(UsageError, match=message):
        LoaderState.from_dict(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 8}, "seed 7 in the state, 8 here"),
        ({"samples": 46}, "samples 45 in the state, 46 here"),
        ({"shuffle": False}, "shuffle True in the state, False here"),
        ({"fingerprint": "x"}, "fingerprint 0123456789abcdef in the state, x here; use the dat"),
    ],
)
def test_a_state_of_another_order_is_refused(change: dict[str, Any], message: str) -> None:
    """A count of samples means nothing in another order."""
    ours = LoaderState.from_dict(GOOD | change)
    with pytest.raises(UsageError, match=message):
        LoaderState.from_dict(GOOD).check_same_order(ours)
