"""Which segments share a shard."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gazepack.jobs.frames import ShardSettings
from gazepack.jobs.plan import make_plan
from gazepack.jobs.segment import SCHEMA


def listing(sizes: list[int]) -> pa.Table:
    rows = [
        {"id": f"{n}", "key": f"{n}", "uri": f"{n}.mp4", "bytes": size, "user": "{}"}
        for n, size in enumerate(sizes)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@hypothesis_settings(deadline=None)  # the first one waits for pyarrow to load its functions
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


def probed(sizes: list[int], pixels: list[float | None], parts: list[int | None]) -> pa.Table:
    """A listing of which some rows were looked into."""
    table = listing(sizes)
    for name, values in (("pixels", pixels), ("part_bytes", parts)):
        at = SCHEMA.get_field_index(name)
        table = table.set_column(at, SCHEMA.field(at), pa.array(values, SCHEMA.field(at).type))
    return table


def test_the_longest_to_pack_is_begun_first() -> None:
    """Pixels count where a file was looked into, else bytes; equals go by number."""
    settings = ShardSettings(samples_per_shard=1)
    table = probed([10**6, 10**6, 10**3, 10**5], [1e6, None, 9e9, None], [None] * 4)
    plan = make_plan(table, settings)
    assert plan.largest_first(plan.numbers) == [2, 1, 3, 0]
    assert plan.largest_first([0, 3]) == [3, 0]
    plain = make_plan(listing([10**6, 10**6, 10**3, 10**5]), settings)
    assert plain.largest_first(plain.numbers) == [0, 1, 3, 2]
    assert make_plan(listing([]), settings).largest_first([]) == []


def test_a_part_fills_a_unit_with_its_share() -> None:
    """Parts of one file count with their bytes, not with those of the whole file."""
    settings = ShardSettings(shard_size=100)
    plan = make_plan(probed([120] * 4, [None] * 4, [30, 30, 30, 30]), settings)
    assert [len(unit.segments) for unit in plan.units(plan.numbers)] == [3, 1]
    whole = make_plan(listing([120] * 4), settings)
    assert [len(unit.segments) for unit in whole.units(whole.numbers)] == [1] * 4


def test_a_video_counts_with_all_its_parts() -> None:
    """Rows of one id are one video, which lies in some units only if all of them do."""
    table = listing([1] * 4)
    table = table.set_column(0, SCHEMA.field("id"), pa.array(["a", "b", "b", "b"]))
    plan = make_plan(table, ShardSettings(samples_per_shard=2), first=7)
    assert plan.num_videos(plan.numbers) == 2
    assert (plan.num_videos([7]), plan.num_videos([8]), plan.num_videos([])) == (1, 0, 0)
