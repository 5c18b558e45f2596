"""Damaged samples: told with their place, or left out and counted."""

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

from gazepack.errors import DatasetError
from gazepack.formats import DatasetDirectory, Sample
from gazepack.loader import Batch, GazeDataset

Keys = Callable[[list[Batch]], list[str]]


def damage(uri: str, key: str) -> None:
    """Turn one byte of a sample's patches."""
    directory = DatasetDirectory.open(uri)
    row = next(r for r in directory.read_index().to_pylist() if r["key"] == key)
    path = Path(uri) / directory.shard_name(row["shard"])
    data = bytearray(path.read_bytes())
    data[row["offset"] + row["size"] - 600] ^= 255
    path.write_bytes(data)


def test_a_damaged_sample_raises_with_its_place(packed: str) -> None:
    """The error names shard and sample."""
    damage(packed, "s0010")
    with pytest.raises(DatasetError, match=r"shards/000001\.tar: sample s0010: the checksum"):
        list(GazeDataset(packed, batch_size=4))


@pytest.mark.parametrize("dials", [{}, {"max_tokens": 1000}])
def test_more_tokens_than_the_index_counts_are_damage(packed: str, dials: dict[str, int]) -> None:
    """They never overflow a batch; the error names shard and sample, and skipping leaves the others whole."""
    dataset = GazeDataset(packed, batch_size=1, on_error="skip", **dials)
    expected = {batch.meta[0]["key"]: batch.patches for batch in dataset}
    dataset._tokens[10] -= 1
    with pytest.warns(UserWarning, match="tokens where the index counts at most"):
        left = {b.meta[0]["key"]: b.patches for b in dataset if b.num_samples}
    assert set(expected) - set(left) == {"s0010"}
    assert all(left[key].equal(expected[key]) for key in left)
    strict = GazeDataset(packed, batch_size=1, **dials)
    strict._tokens[10] -= 1
    with pytest.raises(DatasetError, match=r"sample s0010: it has \d+ tokens where the index"):
        list(strict)


def test_a_damaged_sample_is_skipped_and_counted(packed: str, keys: Keys) -> None:
    """The rest of its batch is given out, with a line on what is missing; steps stay equal."""
    damage(packed, "s0010")
    dataset = GazeDataset(packed, batch_size=4, on_error="skip")
    with pytest.warns(UserWarning, match="skipped a damaged sample: .*s0010"):
        batches = list(dataset)
    assert len(batches) == 12
    assert sorted([*keys(batches), "s0010"]) == [f"s{i:04d}" for i in range(45)]
    skipped = [line for batch in batches for line in batch.skipped]
    assert len(skipped) == 1
    assert re.match(rf"{packed}/shards/00000\d\.tar: sample s0010: ", skipped[0])


def test_a_sample_that_was_written_wrong_is_damage(
    make_dataset: Callable[..., str], make_sample: Callable[..., Sample], keys: Keys
) -> None:
    """A gaze order with a gap under a right checksum is named or skipped, and the others are whole."""
    uri = make_dataset([[3], [4]])
    wrong, right = make_sample("w", tokens=[5]), make_sample("x", tokens=[6])
    wrong.tokens_N6[2, 5] = 9
    DatasetDirectory.open(uri).write_shard(1, [wrong, right])
    with pytest.raises(DatasetError, match=r"000001\.tar: sample w: token 2 has rank 9"):
        list(GazeDataset(uri, batch_size=4))
    with pytest.warns(UserWarning, match="skipped a damaged sample: .*sample w"):
        (batch,) = GazeDataset(uri, batch_size=4, on_error="skip", shuffle=False)
    assert keys([batch]) == ["s0000", "s0001", "x"]
    assert len(batch.skipped) == 1
    assert batch.patches[-6:].permute(0, 2, 3, 1).numpy().tolist() == right.patches_NPP3.tolist()


def test_a_batch_of_damaged_samples_is_empty(packed: str) -> None:
    """A rank whose batch is lost still takes the step."""
    damage(packed, "s0010")
    dataset = GazeDataset(packed, batch_size=1, on_error="skip", filter=pc.field("key") == "s0010")
    with pytest.warns(UserWarning, match="s0010"):
        (batch,) = dataset
    assert (batch.num_samples, batch.num_tokens, len(batch.skipped)) == (0, 0, 1)
