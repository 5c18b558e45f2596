"""Patches laid out as one picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gazepack.formats.codecs.atlas import GREY, Atlas


def atlas_of(patches: np.ndarray, block: int = 8) -> Atlas:
    """Return the atlas of these patches."""
    return Atlas(num_patches=len(patches), patch_size=patches.shape[1], block=block, max_side=65535)


@settings(max_examples=40, deadline=None)
@given(
    patches=st.tuples(st.integers(1, 200), st.sampled_from([4, 14, 16])).flatmap(
        lambda shape: hnp.arrays(
            np.uint8, (shape[0], shape[1], shape[1], 3), fill=st.integers(0, 255)
        )
    ),
    block=st.sampled_from([1, 8]),
)
def test_the_atlas_itself_loses_nothing(patches, block):
    """Laying out and taking apart is exact, and every cell is whole blocks."""
    atlas = atlas_of(patches, block)
    picture = atlas.lay_out(patches)
    assert picture.shape[0] % block == picture.shape[1] % block == 0
    assert picture.shape == (atlas.size[1], atlas.size[0], 3)
    out = np.empty_like(patches, order="C")
    atlas.take_apart(picture, out=out)
    np.testing.assert_array_equal(out, patches)


def test_cells_stand_where_the_specification_says(make_patches):
    """The slow twin: patch i is cut at row i // cols, column i % cols; the cells after the last are grey."""
    patches = make_patches(70, patch_size=14)
    picture = atlas_of(patches).lay_out(patches)
    for i, patch in enumerate(patches):
        y, x = i // 64 * 16, i % 64 * 16
        np.testing.assert_array_equal(picture[y : y + 14, x : x + 14], patch)
    assert (picture[16:, 6 * 16 :] == GREY).all()


def test_padding_repeats_the_edge(make_patches):
    """A 14-px patch fills its 16-px cell with its last column and row."""
    patches = make_patches(1, patch_size=14)
    cell = atlas_of(patches).lay_out(patches)
    np.testing.assert_array_equal(cell[:14, 14], patches[0, :, 13])
    np.testing.assert_array_equal(cell[15, :14], patches[0, 13])


@pytest.mark.parametrize(
    ("num_patches", "patch_size", "max_side", "expected"),
    [
        (1, 16, 65535, (1, 1, 16)),
        (64, 16, 65535, (1, 64, 16)),
        (65, 14, 65535, (2, 64, 16)),
        (262_080, 16, 65535, (4095, 64, 16)),
        (262_081, 16, 65535, (4033, 65, 16)),
        (65_473, 16, 16383, (1008, 65, 16)),
    ],
)
def test_the_atlas_never_outgrows_its_picture_format(num_patches, patch_size, max_side, expected):
    """64 cells a row, and wider only where the height would pass what the format has."""
    atlas = Atlas(num_patches=num_patches, patch_size=patch_size, block=8, max_side=max_side)
    assert (atlas.rows, atlas.cols, atlas.side) == expected
    assert max(atlas.size) <= max_side
