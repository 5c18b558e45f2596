"""`GazeDataset` in one process: epochs, ranks, state, dials."""

import itertools
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from gazepack.errors import UsageError
from gazepack.formats import DatasetDirectory, Sample
from gazepack.loader import Batch, GazeDataset

Keys = Callable[[list[Batch]], list[str]]
ALL_KEYS = [f"s{i:04d}" for i in range(45)]


def test_an_epoch_gives_every_sample_once(packed: str, keys: Keys) -> None:
    """Nothing twice, nothing lost, in an order that the seed decides."""
    epoch = list(GazeDataset(packed, batch_tokens=100, seed=1))
    assert sorted(keys(epoch)) == ALL_KEYS
    assert keys(epoch) != ALL_KEYS
    assert keys(list(GazeDataset(packed, batch_tokens=100, seed=1))) == keys(epoch)
    assert keys(list(GazeDataset(packed, batch_tokens=100, seed=2))) != keys(epoch)


def test_batches_hold_what_the_shards_hold(packed: str) -> None:
    """Patches, places, losses and metadata are those that `read_sample` gives."""
    directory = DatasetDirectory.open(packed)
    samples = {s.key: s for n in directory.committed() for s in directory.iter_samples(n)}
    for batch in GazeDataset(packed, batch_size=4):
        bounds = batch.cu_seqlens.tolist()
        for meta, start, end in zip(batch.meta, bounds[:-1], bounds[1:], strict=True):
            sample = samples[meta["key"]]
            patches = batch.patches[start:end].numpy().transpose(0, 2, 3, 1)
            assert np.array_equal(patches, sample.patches_NPP3)
            columns = [batch.view, batch.frame, batch.scale, batch.row, batch.col, batch.rank]
            tokens = np.stack([c[start:end].numpy() for c in columns], axis=1)
            assert np.array_equal(tokens, sample.tokens_N6)
            loss = sample.loss_N.astype(np.float32)
            assert np.array_equal(batch.loss[start:end].numpy(), loss, equal_nan=True)
            assert meta == sample.meta | {"fields": {"txt": f"caption of {sample.key}".encode()}}


def test_batches_keep_their_budget(packed: str) -> None:
    """No batch of several samples is above `batch_tokens`, and its count was planned."""
    dataset = GazeDataset(packed, batch_tokens=100)
    planned = dataset.plan().loads(dataset._tokens, world_size=1)[:, 0].tolist()
    batches = list(dataset)
    assert [b.num_tokens for b in batches] == planned
    assert all(b.num_tokens <= 100 or b.num_samples == 1 for b in batches)
    assert sum(planned) == dataset.num_tokens
    assert max(b.num_samples for b in batches) > 1


def test_iterating_again_goes_on_with_the_next_epoch(packed: str, keys: Keys) -> None:
    """Two passes have two orders; `set_epoch` gives each of them again."""
    dataset = GazeDataset(packed, batch_size=4)
    first, second = keys(list(dataset)), keys(list(dataset))
    assert sorted(first) == sorted(second) == ALL_KEYS
    assert first != second
    assert dataset.epoch == 2
    for epoch, expected in ((1, second), (0, first)):
        dataset.set_epoch(epoch)
        assert keys(list(dataset)) == expected


def test_an_iteration_that_was_left_starts_over(packed: str, keys: Keys) -> None:
    """Leaving a loop early does not move the dataset; its state is where the loop was left."""
    dataset = GazeDataset(packed, batch_size=4)
    for batch in dataset:
        left = batch
        break
    assert dataset.state_dict() == left.state
    assert keys(list(dataset))[:4] == keys([left])


def test_an_epoch_ends_with_its_last_batch(packed: str, keys: Keys) -> None:
    """A trainer that counts the batches and never asks for one more gets another epoch next time."""
    dataset = GazeDataset(packed, batch_size=4)
    epochs = [keys(list(itertools.islice(dataset, len(dataset)))) for _ in range(3)]
    whole = GazeDataset(packed, batch_size=4)
    assert epochs == [keys(list(whole)) for _ in range(3)]
    assert dataset.epoch == 3


def test_unshuffled_epochs_are_the_index(packed: str, keys: Keys) -> None:
    """Evaluation sees the samples in the order of the index, every time."""
    dataset = GazeDataset(packed, batch_size=4, shuffle=False)
    assert keys(list(dataset)) == keys(list(dataset)) == ALL_KEYS


def test_length_is_the_number_of_batches_to_come(packed: str) -> None:
    """`len` is known before reading, also of the rest of an epoch."""
    dataset = GazeDataset(packed, batch_size=4, world_size=2, rank=1)
    assert len(dataset) == 6
    batches = list(dataset)
    assert len(batches) == 6
    dataset.load_state_dict(batches[3].state)
    assert len(dataset) == 2


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_ranks_share_an_epoch(packed: str, keys: Keys, world_size: int) -> None:
    """All ranks have equally many steps, and together each sample once."""
    ranks = [
        list(GazeDataset(packed, batch_tokens=60, rank=r, world_size=world_size))
        for r in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    assert sorted(keys([b for batches in ranks for b in batches])) == ALL_KEYS


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, 1), (2, 2), (3, 3), (8, 8), (1, 8), (8, 1), (2, 3), (3, 2)],
)
@pytest.mark.parametrize("limit", [{"batch_tokens": 60}, {"batch_size": 2}])
def test_restore_at_every_step(
    make_dataset: Callable[..., str],
    counts: Callable[..., list[list[int]]],
    assert_tail: Callable[..., None],
    before: int,
    after: int,
    limit: dict[str, int],
) -> None:
    """The law of resuming holds for each number of ranks and each change between them."""
    uri = make_dataset(counts(31, most=12))
    assert_tail(lambda **ranks: GazeDataset(uri, seed=5, **limit, **ranks), before, after)


def test_a_run_may_go_on_with_another_batch_size(packed: str, keys: Keys) -> None:
    """What was done is a prefix of the epoch, however it was cut."""
    batches = list(GazeDataset(packed, batch_size=3))
    dataset = GazeDataset(packed, batch_tokens=80)
    dataset.load_state_dict(batches[4].state)
    assert sorted(keys(batches[:5]) + keys(list(dataset))) == ALL_KEYS


def test_a_resumed_loop_over_epochs_needs_no_care(packed: str, keys: Keys) -> None:
    """`set_epoch` of the epoch that was loaded stays in its middle; the next ones are whole."""
    expected = [keys(list(e)) for e in [GazeDataset(packed, batch_size=4)] for _ in range(3)]
    before = GazeDataset(packed, batch_size=4)
    before.set_epoch(1)
    done = [next(it) for it in [iter(before)] for _ in range(5)]
    resumed = GazeDataset(packed, batch_size=4)
    resumed.load_state_dict(json.loads(json.dumps(before.state_dict())))
    seen = []
    for epoch in range(resumed.epoch, 3):
        resumed.set_epoch(epoch)
        seen.append(keys(list(resumed)))
    assert [keys(done) + seen[0], seen[1]] == expected[1:]


def test_the_state_after_the_last_batch_is_the_next_epoch(packed: str, keys: Keys) -> None:
    """A run that was saved at the end of an epoch does not give an empty one."""
    dataset = GazeDataset(packed, batch_size=4)
    last = list(dataset)[-1]
    assert last.state == dataset.state_dict()
    resumed = GazeDataset(packed, batch_size=4)
    resumed.load_state_dict(last.state)
    assert keys(list(resumed)) == keys(list(dataset))


def test_the_state_is_small_and_plain(packed: str) -> None:
    """A few hundred bytes of JSON, whatever the dataset."""
    dataset = GazeDataset(packed, batch_size=4)
    next(iter(dataset))
    assert len(json.dumps(dataset.state_dict())) < 200
    assert dataset.state_dict()["consumed"] == 4


def test_a_state_of_other_samples_is_refused(packed: str) -> None:
    """A filter, a seed or another dataset changes the order that the state counts in."""
    state = GazeDataset(packed, batch_size=4).state_dict()
    with pytest.raises(UsageError, match="seed 0 in the state, 1 here"):
        GazeDataset(packed, batch_size=4, seed=1).load_state_dict(state)
    with pytest.raises(UsageError, match="samples 45 in the state"):
        GazeDataset(packed, batch_size=4, filter=pc.field("frames") > 1).load_state_dict(state)


def test_dials_cut_batches_as_planned(packed: str) -> None:
    """With budgets the plan is exact; with `scales` and `max_loss` it is an upper bound."""
    exact = GazeDataset(packed, batch_tokens=60, max_tokens_per_frame=4, max_tokens=9)
    planned = exact.plan().loads(exact._tokens, world_size=1)[:, 0].tolist()
    batches = list(exact)
    assert [b.num_tokens for b in batches] == planned
    assert max(int(b.rank.max()) for b in batches) == 3
    assert max(int(b.cu_seqlens.diff().max()) for b in batches) == 9
    bound = GazeDataset(packed, batch_tokens=60, scales=[3], max_loss=0.5)
    planned = bound.plan().loads(bound._tokens, world_size=1)[:, 0].tolist()
    batches = list(bound)
    assert all(b.num_tokens <= p for b, p in zip(batches, planned, strict=True))
    assert sum(b.num_tokens for b in batches) < sum(planned)
    for batch in batches:
        assert set(batch.scale.tolist()) <= {3}
        assert not ((batch.loss <= 0.5) & (batch.rank > 0)).any()


def test_a_sample_is_found_by_its_key(packed: str) -> None:
    """`dataset[key]` is a batch of one sample, with the dials."""
    batch = GazeDataset(packed, batch_size=4, max_tokens=2)["s0030"]
    assert [meta["key"] for meta in batch.meta] == ["s0030"]
    assert batch.num_tokens == 2
    assert batch.state is None
    with pytest.raises(KeyError, match="nothing"):
        GazeDataset(packed, batch_size=4)["nothing"]


def test_joined_rows_travel_with_their_samples(packed: str) -> None:
    """A caption that is joined by key lies in its sample's metadata."""
    join = pa.table({"key": ALL_KEYS[::-1], "caption": [f"of {k}" for k in ALL_KEYS[::-1]]})
    for batch in GazeDataset(packed, batch_size=4, join=join):
        assert [m["joined"]["caption"] for m in batch.meta] == [
            f"of {m['key']}" for m in batch.meta
        ]


def test_a_transform_has_the_last_word(packed: str) -> None:
    """What it returns is given out, and the dataset counts on."""
    dataset = GazeDataset(packed, batch_size=4, transform=lambda batch: batch.num_samples)
    assert list(dataset) == [4] * 11 + [1]
    assert dataset.state_dict()["epoch"] == 1
    assert dataset["s0001"] == 1


def test_several_datasets_are_one(make_dataset: Callable[..., str], keys: Keys) -> None:
    """A list of datasets is shuffled as a whole."""
    uris = [Path(make_dataset([[2]] * 10, name=n, prefix=n)) for n in ("a", "b")]
    given = keys(list(GazeDataset(uris, batch_size=4)))
    assert sorted(given) == [f"{n}{i:04d}" for n in "ab" for i in range(10)]
    assert {key[0] for key in given[:8]} == {"a", "b"}


def test_weights_mix_datasets(make_dataset: Callable[..., str], keys: Keys) -> None:
    """Three to one, whatever the sizes; a state is of these weights; ranks share the epoch."""
    uris = [make_dataset([[2]] * 30, name=n, prefix=n) for n in ("a", "b")]
    mixed = GazeDataset(uris, batch_size=4, weights=[3, 1])
    given = keys(list(mixed))
    assert (len(given), mixed.num_samples, mixed.num_tokens) == (60, 60, 120)
    assert sum(key[0] == "a" for key in given) == 45
    assert len({key for key in given if key[0] == "b"}) == 15
    with pytest.raises(UsageError, match="belongs to another order of samples: fingerprint"):
        GazeDataset(uris, batch_size=4).load_state_dict(mixed.state_dict())
    parts = [
        list(GazeDataset(uris, batch_size=4, weights=[3, 1], rank=r, world_size=3))
        for r in range(3)
    ]
    assert sorted(keys([batch for part in parts for batch in part])) == sorted(given)


@pytest.mark.parametrize("options", [{"weights": [2, 1]}, {"bucket_samples": 20}])
def test_restore_in_other_orders(
    make_dataset: Callable[..., str],
    counts: Callable[..., list[list[int]]],
    assert_tail: Callable[..., None],
    options: dict[str, Any],
) -> None:
    """The law of resuming holds for mixtures and buckets too."""
    uris = [make_dataset(counts(13, most=12), name=n, prefix=n) for n in ("a", "b")]
    assert_tail(
        lambda **ranks: GazeDataset(uris, batch_tokens=60, seed=5, **options, **ranks), 2, 3
    )


def test_restore_where_samples_wait(
    make_dataset: Callable[..., str], assert_tail: Callable[..., None]
) -> None:
    """The law of resuming holds where large samples meet and some wait for the next step."""
    counts = [[60, 20], [50], [5], [3], [70], [4], [6]] * 3
    uri = make_dataset(counts)

    def make(**ranks: int) -> GazeDataset:
        return GazeDataset(uri, batch_tokens=90, **ranks)

    assert make(world_size=2, rank=0).plan().deferred
    for before, after in ((2, 2), (2, 3)):
        assert_tail(make, before, after)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_threads_change_nothing(packed: str, num_threads: int) -> None:
    """Batches, their order, states and epochs are those of the plain loop."""
    plain, ahead = (GazeDataset(packed, batch_size=4, num_threads=n) for n in (0, num_threads))
    for _ in range(2):
        for batch, same in zip(ahead, plain, strict=True):
            assert batch.state == same.state == ahead.state_dict()
            assert batch.meta == same.meta
            assert batch.patches.equal(same.patches)


def test_a_part_of_the_frames(packed: str) -> None:
    """Every second frame, and no more than one of them: frame 0; planned exactly."""
    dataset = GazeDataset(packed, batch_size=4, frame_step=2, max_frames=1)
    batches = list(dataset)
    assert {int(frame) for batch in batches for frame in batch.frame} == {0}
    assert sum(batch.num_tokens for batch in batches) == dataset.num_tokens


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine can pin memory")
def test_memory_that_cannot_be_pinned_is_said(packed: str) -> None:
    """A setting that is not honoured warns, and batches are read all the same."""
    with pytest.warns(UserWarning, match="pin_memory is left out: no CUDA device"):
        dataset = GazeDataset(packed, batch_size=45, pin_memory=True)
    assert next(iter(dataset)).num_samples == 45


def test_an_empty_dataset_has_no_batches(make_dataset: Callable[..., str]) -> None:
    """No sample is no step, and no error."""
    dataset = GazeDataset(make_dataset([]), batch_size=4, world_size=2, rank=0)
    assert (len(dataset), list(dataset), dataset.num_samples) == (0, [], 0)


def test_fewer_samples_than_ranks_end_the_epoch_together(
    make_dataset: Callable[..., str], keys: Keys
) -> None:
    """Some ranks get an empty batch, or with `drop_last` none gets any."""
    uri = make_dataset([[1]] * 3)
    ranks = [list(GazeDataset(uri, batch_size=1, rank=r, world_size=5)) for r in range(5)]
    assert [len(batches) for batches in ranks] == [1] * 5
    assert sorted(batches[0].num_samples for batches in ranks) == [0, 0, 1, 1, 1]
    assert sorted(keys([b for batches in ranks for b in batches])) == ["s0000", "s0001", "s0002"]
    assert not list(GazeDataset(uri, batch_size=1, rank=0, world_size=5, drop_last=True))


def test_the_container_changes_nothing(
    make_dataset: Callable[..., str],
    packed: str,
    counts: Callable[..., Any],
    assert_same: Callable[..., None],
) -> None:
    """Arrow files give the batches of tars, with dials and by key, and take their state."""
    arrow = make_dataset(counts(45), name="arrow", container="arrow")
    assert not list(Path(arrow).glob("shards/*.tar"))
    for options in ({}, {"max_tokens": 9, "frame_step": 2}):
        tars, arrows = (GazeDataset(uri, batch_size=4, **options) for uri in (packed, arrow))
        expected = list(tars)
        assert_same(list(arrows), expected)
        assert_same([arrows["s0011"]], [tars["s0011"]])
        arrows.load_state_dict(expected[3].state)
        assert_same(list(arrows), expected[4:])


def test_a_dataset_is_what_was_committed_when_it_was_opened(
    make_dataset: Callable[..., str], make_sample: Callable[..., Sample], keys: Keys
) -> None:
    """One that is still being packed can be read; later shards wait for the next one, or for a filter."""
    uri = make_dataset([[2]] * 4, per_shard=2)
    dataset = GazeDataset(uri, batch_size=1)
    batches = iter(dataset)
    first = next(batches)
    DatasetDirectory.open(uri).write_shard(2, [make_sample("later", tokens=[3])])
    assert sorted(keys([first, *batches])) == ["s0000", "s0001", "s0002", "s0003"]
    grown = GazeDataset(uri, batch_size=1)
    assert grown.num_samples == 5
    with pytest.raises(UsageError, match="samples 4 in the state, 5 here"):
        grown.load_state_dict(first.state)
    same = GazeDataset(uri, batch_size=1, filter=pc.field("shard") < 2)
    same.load_state_dict(first.state)
    assert sorted(keys([first, *same])) == ["s0000", "s0001", "s0002", "s0003"]


def test_batches_read_together_are_those_read_one_by_one(
    packed: str, assert_same: Callable[..., None]
) -> None:
    """The fast way, straight into the batch, and the one that dials take give the same, bit by bit."""
    fast, slow = (
        list(GazeDataset(packed, batch_size=4, max_tokens=most)) for most in (None, 10**6)
    )
    assert_same(fast, slow)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "batch_tokens is None and batch_size is None"),
        ({"batch_size": 1, "batch_tokens": 1}, "give one of the two"),
        ({"batch_size": 0}, "batch_size 0 is not a whole number above 0"),
        ({"batch_size": 1, "seed": -1}, r"seed -1 is not a whole number from 0 to 2\^63 - 1"),
        ({"batch_size": 1, "rank": 0}, "rank is 0 and world_size is None; give both or neither"),
        ({"batch_size": 1, "rank": 2, "world_size": 2}, "rank 2 is not below world_size 2"),
        ({"batch_size": 1, "on_error": "ignore"}, "on_error 'ignore' is not one of raise, skip"),
        ({"batch_size": 1, "scales": [9]}, r"scales \[9\] are not some of"),
        ({"batch_size": 1, "max_tokens": -3}, "max_tokens -3 is not a whole number above 0"),
        ({"batch_size": 1, "shuffle": "no"}, "shuffle 'no' is neither True nor False"),
        ({"batch_size": 1, "drop_last": None}, "drop_last None is neither True nor False"),
        ({"batch_size": 1, "transform": 3}, "transform 3 is no function; it is given a Batch"),
        ({"batch_size": 1, "weights": 3}, "weights 3 are no list; give a number for each"),
    ],
)
def test_impossible_options_are_refused(packed: str, options: dict[str, Any], message: str) -> None:
    """Before anything is read, in one line."""
    with pytest.raises(UsageError, match=message):
        GazeDataset(packed, **options)


@pytest.mark.parametrize("uri", [None, 3, [None]])
def test_what_is_no_address_is_refused(uri: Any) -> None:
    """Such as an option of the command line that was not given."""
    with pytest.raises(UsageError, match=r"uri .* is no dataset; give its folder or URI"):
        GazeDataset(uri, batch_size=1)


def test_a_dataset_and_a_batch_are_printed_in_a_line(packed: str) -> None:
    """At a prompt one sees what there is, not every pixel of it."""
    dataset = GazeDataset(packed, batch_size=4)
    batch = next(iter(dataset))
    tokens = batch.num_tokens
    assert repr(dataset) == f"<GazeDataset {packed}: 45 samples, batch_size=4, epoch 0>"
    assert repr(batch) == f"<Batch of 4 samples, {tokens} tokens of 4 px, uint8, cpu>"


def test_whole_numbers_of_numpy_are_numbers(packed: str) -> None:
    """Options and epochs of numpy's types give the plan and the state that Python's own give."""
    four = np.int32(4)
    options = {"batch_size": four, "seed": four, "bucket_samples": four, "num_threads": four}
    given = GazeDataset(packed, **options, rank=np.int64(0), world_size=np.int64(2))
    given.set_epoch(np.int64(3))
    same = dict.fromkeys(options, 4)
    expected = GazeDataset(packed, **same, rank=0, world_size=2)
    expected.set_epoch(3)
    assert given.state_dict() == expected.state_dict()
    assert json.dumps(given.state_dict())
    assert given.plan().order.tolist() == expected.plan().order.tolist()


def test_a_batch_has_no_number(packed: str) -> None:
    """`dataset[0]` says what stands in the brackets."""
    with pytest.raises(UsageError, match="0 is not the key of a sample; give one such as"):
        GazeDataset(packed, batch_size=1)[0]


def test_a_negative_epoch_is_refused(packed: str) -> None:
    """Epochs count from 0."""
    with pytest.raises(UsageError, match="epoch -1 is not a whole number"):
        GazeDataset(packed, batch_size=1).set_epoch(-1)


def test_nothing_keeps_batches_alive(packed: str) -> None:
    """Memory is flat over epochs: a batch is freed as soon as nobody uses it."""
    dataset = GazeDataset(packed, batch_size=9)
    given = [weakref.ref(batch.patches) for _ in range(3) for batch in dataset]
    assert len(given) == 15
    assert [reference() for reference in given] == [None] * 15
