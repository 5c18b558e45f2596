"""Which segments share a shard."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepack.jobs.plan import make_plan
from gazepack.jobs.settings import ShardSettings
from gazepack.jobs.sources import SCHEMA


def listing(sizes: list[int]) -> pa.Table:
    rows = [
        {"id": f"{n}", "key": f"{n}", "uri": f"{n}.mp4", "bytes": size, "user": "{}"}
        for n, size in enumerate(sizes)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@given(
    sizes=st.lists(st.integers(0, 100), min_size=1, max_size=50),
    most=st.integers(1, 10),
    size=st.integers(1, 200),
)
def test_units_are_the_listing_cut_in_order(sizes: list[int], most: int, size: int) -> None:
    """Every segment is in exactly one unit; no unit passes either limit, but for a single large segment."""
    plan = make_plan(listing(sizes), ShardSettings(samples_per_shard=most, shard_size=size))
    units = list(plan.units(range(len(plan))))
    assert [unit.number for unit in units] == list(range(len(units)))
    assert [s.id for unit in units for s in unit.segments] == [f"{n}" for n in range(len(sizes))]
    for unit in units:
        assert 1 <= len(unit.segments) <= most
        assert len(unit.segments) == 1 or sum(s.bytes for s in unit.segments) <= size


@pytest.mark.parametrize("last", range(1, 5))
def test_plan_is_made_from_the_front(last: int) -> None:
    """More videos at the end leave the earlier full units as they are."""
    settings = ShardSettings(samples_per_shard=3)
    short, long = (
        make_plan(listing([1] * 6), settings),
        make_plan(listing([1] * (6 + last)), settings),
    )
    assert [short.unit(n) for n in range(2)] == [long.unit(n) for n in range(2)]
