"""The lossless codec."""

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.codecs.zstd import ZstdCodec, from_differences, to_differences

PATCHES = st.tuples(st.integers(0, 5), st.sampled_from([4, 14, 16])).flatmap(
    lambda shape: hnp.arrays(np.uint8, (shape[0], shape[1], shape[1], 3))
)


@settings(max_examples=60, deadline=None)
@given(patches=PATCHES)
def test_round_trip_is_exact(patches):
    """Any patches come back pixel for pixel, writable."""
    codec = ZstdCodec()
    decoded = codec.decode(
        codec.encode(patches), num_patches=len(patches), patch_size=patches.shape[1]
    )
    np.testing.assert_array_equal(decoded, patches)
    assert decoded.flags.writeable


@settings(max_examples=30, deadline=None)
@given(patches=PATCHES)
def test_differences_equal_the_slow_twin(patches):
    """The stored planes are the specification's, computed one pixel at a time."""
    planes = to_differences(patches)
    for n, c in np.ndindex(len(patches), 3):
        channel = patches[n, :, :, c].astype(int)
        if c != 1:
            channel = channel - patches[n, :, :, 1]
        along = np.diff(np.pad(channel, ((0, 0), (1, 0))), axis=1)
        down = np.diff(np.pad(along, ((1, 0), (0, 0))), axis=0)
        np.testing.assert_array_equal(planes[n, c], down % 256)


def test_inverse_equals_the_documented_cumsum(make_patches):
    """The reader's four lines of the specification give what the codec gives."""
    patches = make_patches(9, patch_size=14)
    x = to_differences(patches).cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
    x[:, 0::2] += x[:, 1:2]
    np.testing.assert_array_equal(x.transpose(0, 2, 3, 1), patches)
    out = np.empty_like(patches)
    from_differences(to_differences(patches), out=out)
    np.testing.assert_array_equal(out, patches)


def test_same_patches_give_same_bytes(make_patches):
    """Encoding is deterministic, whatever was encoded before."""
    patches = make_patches(20, patch_size=16)
    first = ZstdCodec().encode(patches)
    ZstdCodec().encode(make_patches(7, patch_size=16, seed=5))
    assert ZstdCodec().encode(patches.copy(order="F")) == first


def test_a_bomb_is_refused_before_it_is_unpacked():
    """A small member that states a huge content is refused by its statement."""
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    with pytest.raises(DatasetError, match="states 50000000 bytes where the tokens need 768"):
        ZstdCodec().decode(bomb, num_patches=1, patch_size=16)


def test_a_frame_without_its_size_is_refused():
    """A frame that hides its content size is refused, as the specification says."""
    data = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(768))
    with pytest.raises(DatasetError, match="zstd states"):
        ZstdCodec().decode(data, num_patches=1, patch_size=16)


@pytest.mark.parametrize("damage", [lambda d: d[:-3], lambda d: d + b"x", lambda d: d[4:]])
def test_damaged_bytes_are_refused(damage, make_patches):
    """Cut, extended or foreign bytes are a DatasetError."""
    data = ZstdCodec().encode(make_patches(3, patch_size=16))
    with pytest.raises(DatasetError, match="zstd"):
        ZstdCodec().decode(damage(data), num_patches=3, patch_size=16)


def test_bytes_without_patches_are_refused():
    """No tokens and yet some bytes is damage."""
    with pytest.raises(DatasetError, match="2 bytes are stored for a sample without patches"):
        ZstdCodec().decode(b"xx", num_patches=0, patch_size=16)


@pytest.mark.parametrize("level", [0, 23, "3", True, 2.5])
def test_levels_that_zstd_does_not_have_are_refused(level):
    """The level is a whole number from 1 to 22."""
    with pytest.raises(UsageError, match="is not a whole number from 1 to 22"):
        ZstdCodec(level=level)


def test_misshapen_patches_are_refused():
    """Only uint8 N x P x P x 3 is encoded."""
    with pytest.raises(ValueError, match="N x P x P x 3"):
        ZstdCodec().encode(np.zeros((2, 16, 14, 3), dtype=np.uint8))
