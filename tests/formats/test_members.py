"""Fields as bytes."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gazepack.errors import DatasetError, UsageError
from gazepack.formats import PlacesCodec, codec_from
from gazepack.formats import members as members_module
from gazepack.formats.codecs.places import pixels_crc32
from gazepack.formats.members import decode_members, encode_members, from_npy, to_npy
from gazepack.formats.record import Sample

CODEC = codec_from("zstd")


def decode(members):
    """Return the sample `k` of these members."""
    return decode_members(
        members, key="k", codec=CODEC, patch_size=16, place="shards/000001.tar", kind=Sample
    )


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 16), max_size=4).map(tuple),
    seed=st.integers(0, 9),
    fields=st.dictionaries(
        st.from_regex(r"[a-z0-9]{1,8}(\.[a-z]{1,4})?", fullmatch=True).filter(
            lambda name: name != "json" and not name.startswith("patches")
        ),
        st.binary(max_size=40),
        max_size=3,
    ),
)
def test_any_sample_comes_back(tokens, seed, fields, make_sample, same):
    """Encoding and decoding is the identity."""
    sample = replace(make_sample("k", tokens=tokens, seed=seed), fields=fields)
    same(decode(encode_members(sample, CODEC)), sample)


def test_the_order_is_the_specifications(make_sample):
    """Metadata, tokens, loss, patches, then the user's own by name."""
    sample = replace(make_sample("k"), fields={"zz": b"", "a.b": b"", "txt": b""})
    names = ["json", "tokens.npy", "loss.npy", "patches.zst", "a.b", "txt", "zz"]
    assert list(encode_members(sample, CODEC)) == names


@given(array=hnp.arrays(np.uint16, st.tuples(st.integers(0, 9), st.just(6))))
def test_arrays_are_plain_npy(array):
    """What is written, numpy reads; what numpy writes, we read."""
    np.testing.assert_array_equal(np.load(io.BytesIO(to_npy(array)), allow_pickle=False), array)
    out = io.BytesIO()
    np.save(out, array)
    np.testing.assert_array_equal(from_npy(out.getvalue(), dtype="<u2", width=6), array)


@pytest.mark.parametrize(("dtype", "width"), [("<u2", 6), ("<f2", None)])
@pytest.mark.parametrize("rows", [0, 1, 9, 10, 12_345, 1_234_567])
def test_a_header_that_is_known_beforehand_is_not_parsed(dtype, width, rows, monkeypatch):
    """What we write is compared with what numpy writes; a header with other blanks is parsed, to the same."""
    array = np.zeros((rows,) if width is None else (rows, width), dtype=dtype)
    data = to_npy(array)
    parsed = []
    parse = members_module._npy_header
    monkeypatch.setattr(
        members_module, "_npy_header", lambda data: (parsed.append(1), parse(data))[1]
    )
    assert from_npy(data, dtype=dtype, width=width).shape == array.shape
    assert not parsed
    longer = data[:8] + (118 + 64).to_bytes(2, "little") + data[10:127] + b" " * 64 + data[127:]
    assert from_npy(longer, dtype=dtype, width=width).shape == array.shape
    assert parsed


def saved(array, **settings):
    """Return what numpy writes for an array."""
    out = io.BytesIO()
    np.save(out, array, **settings)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not an .npy file"),
        (b"\x93NUMPY\x03\x00" + bytes(80), "not an .npy file of version 1.0"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "not an .npy file"),
        (saved(np.array([None, {}], dtype=object), allow_pickle=True), r"the array is \|O \(2,\)"),
        (saved(np.zeros((2, 6), dtype=np.int64)), "the array is <i8"),
        (saved(np.zeros((2, 5), dtype=np.uint16)), r"the array is <u2 \(2, 5\)"),
        (saved(np.zeros(12, dtype=np.uint16)), r"the array is <u2 \(12,\)"),
        (saved(np.zeros((2, 6), dtype=np.uint16, order="F")), "in C order"),
        (saved(np.zeros((2, 6), dtype=np.uint16))[:-1], "needs 24 bytes, there are 23"),
        (saved(np.zeros((2, 6), dtype=np.uint16)) + b"x", "needs 24 bytes, there are 25"),
        (
            saved(np.zeros((2, 6), dtype=np.uint16)).replace(
                b"(2, 6), }      ", b"(2000000, 6), }"
            ),
            "needs 24000000 bytes, there are 24",
        ),
    ],
)
def test_hostile_arrays_are_refused(data, match):
    """Objects, other types and shapes, and sizes that lie are refused before anything is allocated."""
    with pytest.raises(DatasetError, match=match):
        from_npy(data, dtype="<u2", width=6)


@pytest.mark.parametrize("name", ["json", "tokens.npy", "loss.npy", "patches.zst"])
def test_a_missing_field_is_named_with_shard_and_sample(name, make_sample):
    """The error carries the whole place."""
    members = encode_members(make_sample("k"), CODEC)
    del members[name]
    with pytest.raises(DatasetError, match=rf"000001\.tar: sample k: {name}: the field is missing"):
        decode(members)


@pytest.mark.parametrize("name", ["json", "tokens.npy", "loss.npy", "patches.zst"])
def test_a_damaged_field_is_named_with_shard_and_sample(name, make_sample):
    """Garbage in any of our fields is a DatasetError with its place."""
    members = encode_members(make_sample("k"), CODEC) | {name: b"garbage"}
    with pytest.raises(DatasetError, match=rf"000001\.tar: sample k: {name}: "):
        decode(members)


@pytest.mark.parametrize("value", [b"[]", b"3", b"null", b"{}"])
def test_metadata_of_another_kind_are_refused(value, make_sample):
    """JSON that is no metadata is a DatasetError."""
    members = encode_members(make_sample("k"), CODEC) | {"json": value}
    with pytest.raises(DatasetError, match=r"000001\.tar: sample k: metadata: "):
        decode(members)


def test_places_come_back_without_patches(make_sample):
    """Tokens, losses, metadata and the user's own; of the patches, their checksum."""
    sample = make_sample("k")
    members = encode_members(sample, PlacesCodec())
    assert list(members) == ["json", "places.zst", "txt"]
    settings = {"kind": Sample, "key": "k", "codec": PlacesCodec(), "place": "p"}
    found = decode_members(members, patch_size=16, **settings)
    np.testing.assert_array_equal(found.tokens_N6, sample.tokens_N6)
    np.testing.assert_array_equal(found.loss_N, sample.loss_N)
    assert (found.patches_NPP3, found.pixels_crc32) == (None, pixels_crc32(sample.patches_NPP3))
    assert (found.meta, found.fields) == (sample.meta, sample.fields)
    with pytest.raises(
        DatasetError, match=r"places\.zst: the metadata have patches of other sizes"
    ):
        decode_members(members, patch_size=14, **settings)
    with pytest.raises(DatasetError, match=r"sample k: places\.zst: metadata: "):
        decode_members(members | {"json": b"{}"}, patch_size=16, **settings)
    with pytest.raises(DatasetError, match=r"places\.zst: the field is missing"):
        decode_members({"json": members["json"]}, patch_size=16, **settings)
    with pytest.raises(DatasetError, match=r"field 'tokens\.npy' is one of gazepack's own"):
        decode_members(members | {"tokens.npy": b""}, patch_size=16, **settings)


def test_a_sample_without_patches_must_know_their_checksum(make_sample):
    """Else nothing could tell whether what is cut later is what was chosen."""
    with pytest.raises(UsageError, match="needs their CRC-32"):
        replace(make_sample("k"), patches_NPP3=None)
