"""What a sample may be."""

from dataclasses import replace

import numpy as np
import pytest

from gazepack.errors import UsageError


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


def test_a_sample_is_frozen(make_sample):
    """No part can be replaced after the check."""
    sample = make_sample("k")
    with pytest.raises(AttributeError, match="cannot assign"):
        sample.key = "other"
