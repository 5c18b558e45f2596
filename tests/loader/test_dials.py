"""Cutting samples at load time."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepack.errors import UsageError
from gazepack.formats import Sample
from gazepack.loader.dials import Dials, known_scales, place_in_frame


def index_of(counts: Sequence[Sequence[int]], *, chunks: int = 1) -> pa.Table:
    """Return the columns of an index that planning needs, in some chunks."""
    tables = []
    for chunk in range(chunks):
        part = list(counts[chunk::chunks])
        tables.append(
            pa.table(
                {
                    "tokens": pa.array([sum(c) for c in part], pa.int64()),
                    "frames": pa.array([len(c) for c in part], pa.int32()),
                    "tokens_per_frame": pa.array(part, pa.list_(pa.uint16())),
                }
            )
        )
    return pa.concat_tables(tables)


def plain_keep(dials: Dials, sample: Sample) -> list[int]:
    """What stays, token by token: the slow, obviously right twin."""
    kept = []
    for i, (token, loss) in enumerate(zip(sample.tokens_N6, sample.loss_N, strict=True)):
        _, frame, scale, _, _, rank = token.tolist()
        frames = range(0, 99, dials.frame_step or 1)[: dials.max_frames]
        if frame not in frames:
            continue
        if dials.scales is not None and scale not in dials.scales:
            continue
        if dials.max_loss is not None and float(loss) <= dials.max_loss and rank != 0:
            continue
        kept.append(i)
    places: dict[tuple[int, int], int] = {}
    numbered = []
    for i in kept:
        of_frame = (int(sample.tokens_N6[i, 0]), int(sample.tokens_N6[i, 1]))
        numbered.append((places.get(of_frame, 0), i))
        places[of_frame] = places.get(of_frame, 0) + 1
    if dials.max_tokens_per_frame is not None:
        numbered = [(place, i) for place, i in numbered if place < dials.max_tokens_per_frame]
    if dials.max_tokens is not None:
        numbered = sorted(numbered)[: dials.max_tokens]
    return sorted(i for _, i in numbered)


options = st.fixed_dictionaries(
    {
        "max_tokens_per_frame": st.none() | st.integers(1, 12),
        "max_tokens": st.none() | st.integers(1, 25),
        "max_loss": st.none() | st.floats(0, 1),
        "frame_step": st.none() | st.integers(1, 3),
        "max_frames": st.none() | st.integers(1, 3),
        "scales": st.none() | st.sets(st.integers(0, 3), min_size=1).map(known_scales),
    }
)
counts = st.lists(st.integers(0, 15), max_size=5)


@given(options=options, counts=counts)
def test_dials_keep_what_a_plain_loop_keeps(
    make_sample: Callable[..., Sample], options: dict[str, Any], counts: list[int]
) -> None:
    """`keep` is the loop over tokens, and never more than was planned; equal where exact."""
    dials, sample = Dials(**options), make_sample("k", tokens=counts)
    kept = dials.keep(sample.tokens_N6, sample.loss_N)
    assert kept.tolist() == plain_keep(dials, sample)
    planned = dials.planned_tokens(index_of([counts]))[0]
    assert len(kept) <= planned
    assert not dials.is_exact or len(kept) == planned
    assert not dials.is_off or len(kept) == sample.num_tokens


def test_tokens_of_equal_rank_are_cut_in_storage_order() -> None:
    """A budget holds per frame also where several tiles give tokens of one rank."""
    tokens_N6 = np.array([(0, 0, 3, 0, c, rank) for rank in (0, 1) for c in (0, 14)], np.uint16)
    dials = Dials(max_tokens_per_frame=3)
    assert dials.keep(tokens_N6, np.zeros(4, np.float16)).tolist() == [0, 1, 2]


def test_max_loss_keeps_the_first_of_every_frame_and_unknown_losses() -> None:
    """Rank 0 and NaN stay under the strictest bound."""
    tokens_N6 = np.array([(0, f, 3, 0, r, r) for f in (0, 1) for r in (0, 1, 2)], np.uint16)
    loss_N = np.array([0.5, 0.4, np.nan, 0.2, 0.9, 0.1], np.float16)
    assert Dials(max_loss=0.6).keep(tokens_N6, loss_N).tolist() == [0, 2, 3, 4]


def test_max_tokens_shortens_frames_evenly() -> None:
    """Seven tokens of frames of 1, 5 and 5 leave 1, 3 and 3."""
    counts = [1, 5, 5]
    tokens_N6 = np.array(
        [(0, f, 3, 0, r, r) for f, n in enumerate(counts) for r in range(n)], np.uint16
    )
    kept = Dials(max_tokens=7).keep(tokens_N6, np.zeros(11, np.float16))
    assert np.bincount(tokens_N6[kept, 1]).tolist() == [1, 3, 3]
    assert kept.tolist() == sorted(kept.tolist())


@given(counts=st.lists(counts, max_size=12), chunks=st.integers(1, 3), cap=st.integers(1, 20))
def test_planned_tokens_are_sums_of_capped_frames(
    counts: list[list[int]], chunks: int, cap: int
) -> None:
    """The index alone tells the exact count under a budget a frame, in any chunking."""
    index = index_of(counts, chunks=chunks)
    expected = [sum(min(n, cap) for n in c) for c in index["tokens_per_frame"].to_pylist()]
    assert Dials(max_tokens_per_frame=cap).planned_tokens(index).tolist() == expected


def test_planned_frames_are_those_of_every_view() -> None:
    """Two views of three frames: every second frame of both is counted, and no more than two."""
    index = pa.table(
        {
            "tokens": [63],
            "frames": pa.array([3], pa.int32()),
            "tokens_per_frame": pa.array([[1, 2, 4, 8, 16, 32]], pa.list_(pa.uint16())),
        }
    )
    assert Dials(frame_step=2).planned_tokens(index).tolist() == [1 + 4 + 8 + 32]
    assert Dials(max_frames=2).planned_tokens(index).tolist() == [1 + 2 + 8 + 16]


def test_planned_frames_of_a_view_of_fewer_frames_are_counted_from_its_first() -> None:
    """Three frames, then two of a last view that shows every second frame: as `keep` keeps them."""
    counts = [1, 2, 4, 8, 16]
    index = pa.table(
        {
            "tokens": [31],
            "frames": pa.array([3], pa.int32()),
            "tokens_per_frame": pa.array([counts], pa.list_(pa.uint16())),
        }
    )
    tokens_N6 = np.zeros((31, 6), np.uint16)
    tokens_N6[:, :2] = np.repeat([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)], counts, axis=0)
    for dials, kept in (
        (Dials(frame_step=2), 1 + 4 + 8),
        (Dials(max_frames=1), 1 + 8),
        (Dials(max_frames=2), 1 + 2 + 8 + 16),
    ):
        assert dials.planned_tokens(index).tolist() == [kept]
        assert len(dials.keep(tokens_N6, np.zeros(31, np.float16))) == kept


def test_place_in_frame_starts_anew_in_each_view_and_frame() -> None:
    """Frame 0 of another view is another frame."""
    tokens_N6 = np.array([(0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (1, 2)], np.uint16)
    tokens_N6 = np.hstack([tokens_N6, np.zeros((6, 4), np.uint16)])
    assert place_in_frame(tokens_N6).tolist() == [0, 1, 0, 0, 1, 0]


def test_dials_take_the_whole_numbers_of_numpy() -> None:
    """They are the same dials as with Python's own."""
    numbers = np.array([3, 1, 1])
    assert Dials(max_tokens=numbers[0], scales=numbers) == Dials(max_tokens=3, scales=(1, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens 0 is not a whole number above 0"),
        ({"max_tokens_per_frame": 1.5}, "max_tokens_per_frame 1.5 is not a whole number"),
        ({"frame_step": 0}, "frame_step 0 is not a whole number above 0"),
        ({"max_frames": -1}, "max_frames -1 is not a whole number above 0"),
        ({"max_loss": float("nan")}, "max_loss nan is not a number"),
        ({"max_loss": "low"}, "max_loss 'low' is not a number"),
        ({"max_tokens": True}, "max_tokens True is not a whole number"),
        ({"scales": (4,)}, r"scales \(4,\) are not some of \[0, 1, 2, 3\]"),
        ({"scales": ()}, r"scales \(\) are not some of"),
        ({"scales": 3}, r"scales 3 are not some of \[0, 1, 2, 3\]; give a list"),
        ({"scales": "0"}, r"scales '0' are not some of"),
    ],
)
def test_impossible_dials_are_refused(options: dict[str, Any], message: str) -> None:
    """A dial that can keep nothing, or that does not exist, is refused."""
    with pytest.raises(UsageError, match=message):
        Dials(**options)
