"""What every codec promises of the memory that it decodes into."""

import numpy as np
import pytest

from gazepack.errors import DatasetError
from gazepack.formats.codecs import CODECS, codec_from


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize(("num_patches", "patch_size"), [(0, 16), (1, 4), (64, 14), (131, 16)])
def test_patches_are_decoded_in_place(name, num_patches, patch_size, make_patches):
    """A slice of a batch gets the patches that new memory would get; what lies around it stays."""
    codec = codec_from(name)
    data = codec.encode(make_patches(num_patches, patch_size=patch_size))
    expected = codec.decode(data, num_patches=num_patches, patch_size=patch_size)
    batch = np.full((num_patches + 5, patch_size, patch_size, 3), 77, dtype=np.uint8)
    room = batch[2 : 2 + num_patches]
    for stored in (data, memoryview(b"x" + data)[1:]):
        room[...] = 0
        given = codec.decode(stored, num_patches=num_patches, patch_size=patch_size, out=room)
        assert given is room
        np.testing.assert_array_equal(room, expected)
    assert (batch[:2] == 77).all()
    assert (batch[2 + num_patches :] == 77).all()


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize(
    "out",
    [
        np.empty((4, 16, 16, 3), dtype=np.uint8),
        np.empty((3, 3, 16, 16), dtype=np.uint8),
        np.empty((3, 16, 16, 3), dtype=np.int8),
        np.empty((6, 16, 16, 3), dtype=np.uint8)[::2],
        np.empty((3, 3, 16, 16), dtype=np.uint8).transpose(0, 2, 3, 1),
    ],
)
def test_memory_of_another_layout_is_refused(name, out, make_patches):
    """Only uint8 N x P x P x 3 in C order is decoded into."""
    data = codec_from(name).encode(make_patches(3, patch_size=16))
    with pytest.raises(ValueError, match=r"out must be uint8 of shape \(3, 16, 16, 3\) in C order"):
        codec_from(name).decode(data, num_patches=3, patch_size=16, out=out)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_nothing_is_allocated_for_a_member_of_another_size(name, make_patches):
    """A small member that would be a terabyte, were the count right, is refused by its size."""
    data = codec_from(name).encode(make_patches(3, patch_size=16))
    with pytest.raises(DatasetError, match="where the tokens need"):
        codec_from(name).decode(data, num_patches=10**9, patch_size=64)
