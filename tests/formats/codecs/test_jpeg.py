"""The JPEG atlas."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.codecs.jpeg import JpegCodec, atlas_shape, from_atlas, to_atlas


def through(patches: np.ndarray, quality: int = 95) -> np.ndarray:
    """Return the patches as they are read back."""
    codec = JpegCodec(quality=quality)
    return codec.decode(
        codec.encode(patches), num_patches=len(patches), patch_size=patches.shape[1]
    )


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    patch_size=st.sampled_from([4, 6, 14, 16]),
    left=st.integers(0, 70),
    right=st.integers(0, 70),
    quality=st.sampled_from([30, 95, 100]),
)
def test_a_patch_decodes_alike_in_any_company(data, patch_size, left, right, quality):
    """LAW: decode(encode(A + B)) == decode(encode(A)) + decode(encode(B)), for any pixels."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shape = (patch_size, patch_size, 3)
    patches = rng.integers(0, 256, (left + right, *shape)).astype(np.uint8)
    apart = np.concatenate([through(patches[:left], quality), through(patches[left:], quality)])
    np.testing.assert_array_equal(through(patches, quality), apart)


def test_a_patch_decodes_alike_alone(make_patches):
    """The slow twin: every patch in a JPEG of its own gives what the atlas gives."""
    patches = make_patches(130, patch_size=14)
    alone = np.concatenate([through(patches[i : i + 1]) for i in range(len(patches))])
    np.testing.assert_array_equal(through(patches), alone)


def test_quality_95_is_close(make_patches):
    """Smooth patches come back within 35 dB at quality 95, and worse at 30."""

    def psnr(quality):
        patches = 40 + make_patches(64, patch_size=16) // 2
        error = through(patches, quality).astype(float) - patches
        return 10 * np.log10(255**2 / (error**2).mean())

    assert psnr(95) > 35
    assert psnr(95) > psnr(30) + 3


@settings(max_examples=40, deadline=None)
@given(
    patches=st.tuples(st.integers(1, 200), st.sampled_from([4, 14, 16])).flatmap(
        lambda shape: hnp.arrays(
            np.uint8, (shape[0], shape[1], shape[1], 3), fill=st.integers(0, 255)
        )
    )
)
def test_the_atlas_itself_loses_nothing(patches):
    """Laying out and taking apart is exact, and every cell is whole blocks."""
    atlas = to_atlas(patches)
    assert atlas.shape[0] % 8 == atlas.shape[1] % 8 == 0
    num_patches, patch_size = patches.shape[:2]
    np.testing.assert_array_equal(
        from_atlas(atlas, num_patches=num_patches, patch_size=patch_size), patches
    )


def test_padding_repeats_the_edge(make_patches):
    """A 14-px patch fills its 16-px cell with its last column and row."""
    patches = make_patches(1, patch_size=14)
    cell = to_atlas(patches)
    np.testing.assert_array_equal(cell[:14, 14], patches[0, :, 13])
    np.testing.assert_array_equal(cell[15, :14], patches[0, 13])


@pytest.mark.parametrize(
    ("num_patches", "patch_size", "expected"),
    [
        (1, 16, (1, 1, 16)),
        (64, 16, (1, 64, 16)),
        (65, 14, (2, 64, 16)),
        (262_080, 16, (4095, 64, 16)),
        (262_081, 16, (4033, 65, 16)),
    ],
)
def test_the_atlas_never_outgrows_a_jpeg(num_patches, patch_size, expected):
    """64 cells a row, and wider only where the height would pass 65,535 pixels."""
    assert atlas_shape(num_patches, patch_size=patch_size) == expected


def test_the_file_is_plain(make_patches):
    """One baseline RGB JPEG, 4:4:4, with the standard tables: what any reader reads."""
    data = JpegCodec().encode(make_patches(3, patch_size=16))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (48, 16))
        assert image.info.get("progressive") is None
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


def test_no_patches_are_no_bytes():
    """A sample without tokens stores an empty member."""
    assert JpegCodec().encode(np.zeros((0, 16, 16, 3), dtype=np.uint8)) == b""
    assert JpegCodec().decode(b"", num_patches=0, patch_size=16).shape == (0, 16, 16, 3)


def test_an_image_of_another_size_is_refused_before_it_is_decoded():
    """A member whose image is larger than the tokens need is refused by its header."""
    out = io.BytesIO()
    Image.new("RGB", (2_000, 1_000)).save(out, format="JPEG")
    with pytest.raises(DatasetError, match="2000 x 1000 where the tokens need RGB 16 x 16"):
        JpegCodec().decode(out.getvalue(), num_patches=1, patch_size=16)


def test_a_grey_image_is_refused():
    """Only three channels are patches."""
    out = io.BytesIO()
    Image.new("L", (16, 16)).save(out, format="JPEG")
    with pytest.raises(DatasetError, match="the JPEG is L 16 x 16"):
        JpegCodec().decode(out.getvalue(), num_patches=1, patch_size=16)


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: d[5:], lambda d: d[:0]])
def test_damaged_bytes_are_refused(damage, make_patches):
    """Cut, foreign or absent bytes are a DatasetError."""
    data = JpegCodec().encode(make_patches(64, patch_size=16))
    with pytest.raises(DatasetError, match="the JPEG cannot be decoded"):
        JpegCodec().decode(damage(data), num_patches=64, patch_size=16)


@pytest.mark.parametrize("quality", [0, 101, "95", True])
def test_qualities_that_jpeg_does_not_have_are_refused(quality):
    """The quality is a whole number from 1 to 100."""
    with pytest.raises(UsageError, match="is not a whole number from 1 to 100"):
        JpegCodec(quality=quality)
