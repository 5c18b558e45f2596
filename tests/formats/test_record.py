"""What a sample may be."""

from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazepack.errors import UsageError
from gazepack.formats import record
from gazepack.formats.meta import ViewMeta
from gazepack.formats.record import are_whole, check_tokens, refuse_tokens
from gazepack.geometry import SCALE_SIDES


def test_a_good_sample_is_accepted(make_sample):
    """A sample knows its size."""
    sample = make_sample("a-key_1")
    assert (sample.num_tokens, sample.patch_size) == (12, 16)


def test_a_sample_without_tokens_or_frames_is_accepted(make_sample):
    """Nothing chosen is a result, not an error."""
    assert make_sample("k", tokens=()).num_tokens == 0
    assert make_sample("k", tokens=(0, 0)).num_tokens == 0


@pytest.mark.parametrize("key", ["", "a.b", "../a", "a/b", "ü", "a b", "a\n", "x" * 201])
def test_unsafe_keys_are_refused(key, make_sample):
    """A key is the stem of a file name, without a dot."""
    with pytest.raises(UsageError, match="is not 1 to 200 of the characters"):
        make_sample(key)


def test_the_longest_key_is_accepted(make_sample):
    """200 characters are a key."""
    assert make_sample("x" * 200).key == "x" * 200


@pytest.mark.parametrize("name", ["", "a/b", "..", "_x", "TXT", "a..b", "x" * 61, "a b", "txt\n"])
def test_unsafe_field_names_are_refused(name, make_sample):
    """A user's field is a lower-case suffix, as webdataset reads it."""
    with pytest.raises(UsageError, match="in parts joined by dots"):
        replace(make_sample("k"), fields={name: b""})


@pytest.mark.parametrize("name", ["json", "tokens.npy", "loss.npy", "patches.zst", "patches"])
def test_own_names_are_reserved(name, make_sample):
    """A user's field cannot replace one of ours."""
    with pytest.raises(UsageError, match="one of gazepack's own names; rename it"):
        replace(make_sample("k"), fields={name: b""})


def test_a_field_is_bytes(make_sample):
    """Text must be encoded by whoever knows how."""
    with pytest.raises(UsageError, match="field 'txt' is str, not bytes"):
        replace(make_sample("k"), fields={"txt": "text"})


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("tokens_N6", np.zeros((12, 6), dtype=np.int64), "tokens must be uint16"),
        ("tokens_N6", np.zeros((12, 5), dtype=np.uint16), "tokens must be uint16"),
        ("loss_N", np.zeros(12, dtype=np.float32), "loss must be float16"),
        ("loss_N", np.zeros(11, dtype=np.float16), r"loss must be float16 of shape \(12,\)"),
        ("patches_NPP3", np.zeros((12, 16, 16, 3)), "patches must be uint8"),
        ("patches_NPP3", np.zeros((11, 16, 16, 3), dtype=np.uint8), "11 patches for 12 tokens"),
        ("patches_NPP3", np.zeros((12, 14, 14, 3), dtype=np.uint8), "14 px, view 'tiles' says 16"),
        ("key", "other", "key 'k' is not the sample's 'other'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(name, value, match, make_sample):
    """Types and shapes are checked, and that the parts belong together."""
    with pytest.raises(UsageError, match=match):
        replace(make_sample("k"), **{name: value})


@pytest.mark.parametrize(
    ("token", "column", "value", "match"),
    [
        (0, 0, 1, "token 0 has view 1, which must be below 1"),
        (11, 1, 3, "token 11 has frame 3, which must be below 3"),
        (2, 2, 4, "token 2 has scale 4, which must be below 4"),
        (0, 3, 2, "token 0 has row 2, which must be below 2"),
        (0, 4, 4, "token 0 has col 4, which must be below 4"),
        (4, 5, 5, "token 4 has rank 5"),
        (0, 5, 1, "token 0 has rank 1"),
        (4, 5, 2, "token 4 has rank 2"),
        (4, 1, 1, "counts 5 tokens in frame 0"),
    ],
)
def test_tokens_outside_their_grid_are_refused(token, column, value, match, make_sample):
    """Every token lies in its view, and every frame's gaze order is 0, 1, 2, ..."""
    sample = make_sample("k")
    tokens = sample.tokens_N6.copy()
    tokens[token, column] = value
    with pytest.raises(UsageError, match=match):
        replace(sample, tokens_N6=tokens)


def test_a_place_cannot_be_chosen_twice(make_sample):
    """The same place twice in one frame is refused."""
    sample = make_sample("k")
    tokens = sample.tokens_N6.copy()
    tokens[4, :5] = tokens[0, :5]
    with pytest.raises(UsageError, match="occurs twice"):
        replace(sample, tokens_N6=tokens)


def test_frames_out_of_order_are_refused(make_sample):
    """Tokens are sorted by frame, with the counts alone right."""
    sample = make_sample("k", tokens=(2, 2))
    with pytest.raises(UsageError, match="is not sorted by view and frame"):
        replace(sample, tokens_N6=sample.tokens_N6[[2, 3, 0, 1]])


def test_every_tile_counts_its_own_ranks(make_sample):
    """Two tiles of a frame each count 0, 1, dealt out in turn; counting over the frame is refused."""
    sample = make_sample("k", tokens=(4,))
    tokens = sample.tokens_N6.copy()
    tokens[1::2, 4] += np.array([4, 14], dtype=np.uint16)  # scales 1 and 3, into the second tile
    with pytest.raises(UsageError, match="token 1 has rank 1, it is number 0 of its tile"):
        replace(sample, tokens_N6=tokens)
    tokens[:, 5] = [0, 0, 1, 1]
    assert replace(sample, tokens_N6=tokens).num_tokens == 4


def tokens_of(rng, shapes):
    """Return whole tokens of views of (rows, cols, tokens of each frame), and the views."""
    table, views = [], []
    for number, (rows, cols, counts) in enumerate(shapes):
        for frame, count in enumerate(counts):
            ranks = np.zeros((rows, cols), dtype=int)
            places = [
                (scale, row, col)
                for scale, side in enumerate(SCALE_SIDES)
                for row in range(side * rows)
                for col in range(side * cols)
            ]
            for place in rng.permutation(places)[:count]:
                scale, row, col = place.tolist()
                tile = row // SCALE_SIDES[scale], col // SCALE_SIDES[scale]
                table.append((number, frame, scale, row, col, ranks[tile]))
                ranks[tile] += 1
        numbers = {name: [1.0] * len(counts) for name in ("times", "psnr", "l1")}
        views.append(
            ViewMeta(name="v", rows=rows, cols=cols, patch_size=16, tokens=counts, **numbers)
        )
    return np.array(table, dtype=np.uint16).reshape(-1, 6), views


def changed(rng, tokens, kind):
    """Return tokens with one of them changed; `kind` says how."""
    if not len(tokens) or kind == "none":
        return tokens
    at, other = rng.integers(0, len(tokens), 2)
    if kind == "value":
        tokens[at, rng.integers(0, 6)] = rng.choice([0, 1, 2, 3, 4, 13, 14, 27, 65535])
    elif kind == "swap":
        tokens[[at, other]] = tokens[[other, at]]
    elif kind == "copy":
        tokens[at, :5] = tokens[other, :5]
    else:
        tokens = np.delete(tokens, at, axis=0)
    return tokens


SHAPES = st.lists(
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.lists(st.integers(0, 9), max_size=3)),
    min_size=1,
    max_size=3,
)
KINDS = st.sampled_from(["none", "value", "swap", "copy", "drop"])


@settings(max_examples=150, deadline=None)
@given(shapes=SHAPES, seed=st.integers(0, 2**32), kind=KINDS)
def test_the_fast_check_is_the_slow_one(shapes, seed, kind):
    """Whatever is changed in whole tokens, both checks accept, or both refuse with the same words."""
    rng = np.random.default_rng(seed)
    tokens, views = tokens_of(rng, shapes)
    tokens = changed(rng, tokens, kind)
    outcomes = []
    for check in (check_tokens, refuse_tokens):
        try:
            outcomes.append(check(tokens, views))
        except UsageError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    assert kind != "none" or outcomes == [None, None]


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(SHAPES, max_size=3),
    seed=st.integers(0, 2**32),
    kind=KINDS,
    most_marks=st.sampled_from([0, 2**24]),
)
def test_many_samples_are_checked_as_each_of_them(shapes, seed, kind, most_marks):
    """All together are whole just if every one is, whether places are marked or sorted."""
    rng = np.random.default_rng(seed)
    samples = []
    for own in shapes:
        tokens, views = tokens_of(rng, own)
        samples.append(SimpleNamespace(tokens_N6=tokens, views=views))
    if samples:
        one = samples[rng.integers(0, len(samples))]
        one.tokens_N6 = changed(rng, one.tokens_N6, kind)
    expected = True
    for sample in samples:
        try:
            refuse_tokens(sample.tokens_N6, sample.views)
        except UsageError:
            expected = False
    with mock.patch.object(record, "_MOST_MARKS", most_marks):
        assert are_whole(samples) == expected


def test_a_token_too_many_is_not_made_good_by_the_next_sample():
    """Two samples whose counts are right only together are not whole."""
    numbers = {"times": [0.0], "psnr": [1.0], "l1": [1.0]}
    view = ViewMeta(name="v", rows=1, cols=1, patch_size=16, tokens=[2], **numbers)
    tokens = np.array([[0, 0, 0, 0, i % 2, i % 2] for i in range(4)], dtype=np.uint16)
    halves = [SimpleNamespace(tokens_N6=part, views=[view]) for part in (tokens[:2], tokens[2:])]
    assert are_whole(halves)
    uneven = [SimpleNamespace(tokens_N6=part, views=[view]) for part in (tokens[:3], tokens[3:])]
    assert not are_whole(uneven)


def test_the_last_place_of_the_tallest_grid_is_a_place():
    """Its cells are told apart as those of any other."""
    numbers = {"times": [0.0], "psnr": [1.0], "l1": [1.0]}
    view = ViewMeta(name="v", rows=4681, cols=1, patch_size=16, tokens=[2], **numbers)
    tokens = np.array([[0, 0, 3, 65533, 13, 0], [0, 0, 3, 65533, 13, 1]], dtype=np.uint16)
    assert not are_whole([SimpleNamespace(tokens_N6=tokens.copy(), views=[view])])
    tokens[1, 4] = 12
    assert are_whole([SimpleNamespace(tokens_N6=tokens, views=[view])])


def test_a_sample_is_frozen(make_sample):
    """No part can be replaced after the check."""
    sample = make_sample("k")
    with pytest.raises(AttributeError, match="cannot assign"):
        sample.key = "other"
