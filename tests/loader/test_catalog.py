"""The index of one or several datasets, as a loader holds it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gazepack.errors import DatasetError, UsageError
from gazepack.formats import DatasetDirectory
from gazepack.loader.catalog import open_catalog


def test_samples_stand_in_the_order_of_the_index(packed: str) -> None:
    """Rows are those of `read_index`, and each is enough to read its sample."""
    catalog, _ = open_catalog([packed])
    directory = DatasetDirectory.open(packed)
    expected = directory.read_index().to_pylist()
    rows = catalog.rows(np.arange(len(catalog)))
    assert [row["key"] for row in rows] == [row["key"] for row in expected]
    assert directory.read_sample(rows[9]).key == "s0009"
    assert catalog.position("s0009") == 9


def test_an_unknown_key_is_a_key_error(packed: str) -> None:
    """As in a dictionary."""
    with pytest.raises(KeyError, match="s9999"):
        open_catalog([packed])[0].position("s9999")


def test_a_filter_keeps_rows(packed: str) -> None:
    """Filtered rows are those for which the expression is true."""
    catalog, index = open_catalog([packed], filter=pc.field("frames") == 2)
    expected = [
        r for r in DatasetDirectory.open(packed).read_index().to_pylist() if r["frames"] == 2
    ]
    assert 0 < len(expected) < 45
    assert index["key"].to_pylist() == [row["key"] for row in expected]
    assert len(catalog) == len(expected)


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        (pc.field("colour") == 1, "does not fit the index.*its columns are dataset, shard, key"),
        (pc.field("key") > 3, "does not fit the index"),
        ("frames > 3", "filter 'frames > 3' is not a pyarrow expression"),
    ],
)
def test_a_filter_that_does_not_fit_is_refused(packed: str, filter: Any, message: str) -> None:
    """A wrong column, type or language is named."""
    with pytest.raises(UsageError, match=message):
        open_catalog([packed], filter=filter)


@pytest.mark.parametrize(("on", "form"), [("key", "{}"), ("id", "video of {}")])
def test_a_join_finds_each_samples_row(packed: str, on: str, form: str) -> None:
    """Rows are joined by key or id whatever their order; extra ones are left."""
    names = [f"s{i:04d}" for i in reversed(range(60))]
    join = pa.table({on: [form.format(n) for n in names], "answer": [f"to {n}" for n in names]})
    catalog, _ = open_catalog([packed], filter=pc.field("frames") > 1, join=join)
    for row in catalog.rows(np.arange(len(catalog))):
        assert row["joined"] == {"answer": f"to {row['key']}"}


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ({"key": ["s0000"], "x": [1]}, "no row for 44 of 45 samples, among them key 's0001'; add"),
        ({"name": ["s0000"]}, "join has the columns name; name one key"),
        ({"key": ["a", "a"]}, "join has a key that occurs twice"),
    ],
)
def test_a_join_that_does_not_fit_is_refused(
    packed: str, join: dict[str, Any], message: str
) -> None:
    """A sample without its row would be trained on without its caption."""
    with pytest.raises(UsageError, match=message):
        open_catalog([packed], join=pa.table(join))


def test_a_join_that_is_no_table_is_refused(packed: str) -> None:
    """Only Arrow tables are joined."""
    with pytest.raises(UsageError, match=r"join is dict, not a pyarrow\.Table"):
        open_catalog([packed], join={"key": ["a"]})  # type: ignore[arg-type] # what is refused


def test_several_datasets_follow_each_other(make_dataset: Callable[..., str]) -> None:
    """Each row says from which dataset it is."""
    uris = [make_dataset([[1]] * 3, name=n, prefix=n) for n in ("a", "b")]
    rows = open_catalog(uris)[0].rows(np.arange(6))
    assert [(row["dataset"], row["key"]) for row in rows] == [
        (d, f"{'ab'[d]}{i:04d}") for d in (0, 1) for i in range(3)
    ]


def test_one_key_in_two_datasets_is_refused(make_dataset: Callable[..., str]) -> None:
    """A sample that is named twice would be given out twice."""
    uris = [make_dataset([[1]] * 3, name=n) for n in ("a", "b")]
    with pytest.raises(UsageError, match=r"the key 's0000' occurs twice in .*/a, .*/b; name each"):
        open_catalog(uris)


def test_one_key_in_two_shards_is_damage(make_dataset: Callable[..., str]) -> None:
    """A key is unique in its dataset."""
    uri = make_dataset([[1]] * 3)
    directory = DatasetDirectory.open(uri)
    directory.write_shard(7, [directory.read_sample(directory.index(0).to_pylist()[1])])
    with pytest.raises(DatasetError, match="packed/index: the key 's0001' occurs twice"):
        open_catalog([uri])


def test_two_patch_sizes_are_refused(make_dataset: Callable[..., str]) -> None:
    """Their patches do not fit into one tensor."""
    uris = [make_dataset([[1]], name=f"p{p}", prefix=f"p{p}", patch_size=p) for p in (4, 6)]
    with pytest.raises(UsageError, match=r"p4 has 4 px, .*p6 has 6 px; load them one by one"):
        open_catalog(uris)


def test_fingerprints_tell_samples_and_their_order(make_dataset: Callable[..., str]) -> None:
    """The same keys in the same order, and nothing else, give the same fingerprint."""
    a, b = (make_dataset([[1]] * 3, name=n, prefix=n) for n in ("a", "b"))
    again = make_dataset([[2]] * 3, name="again", prefix="a", per_shard=2)
    prints = [open_catalog(uris)[0].fingerprint for uris in ([a], [again], [b], [a, b], [b, a])]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_nothing_to_load_is_refused(tmp_path: Path) -> None:
    """No URI, and a folder without a dataset."""
    with pytest.raises(UsageError, match="no dataset is named"):
        open_catalog([])
    with pytest.raises(DatasetError, match="is not a gazepack dataset"):
        open_catalog([str(tmp_path)])
