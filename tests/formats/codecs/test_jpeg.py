"""The JPEG atlas."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.codecs.atlas import Atlas
from gazepack.formats.codecs.jpeg import JpegCodec


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


def test_the_file_is_plain(make_patches):
    """One baseline RGB JPEG, 4:4:4: what any reader reads."""
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


def test_tables_of_its_own_change_size_and_no_pixel(make_patches):
    """Smooth patches are smaller than with the standard tables, noise has these; pixels are equal."""
    smooth = make_patches(600, patch_size=16)
    noise = np.random.default_rng(0).integers(0, 256, (600, 16, 16, 3)).astype(np.uint8)
    for patches, is_smaller in ((smooth, True), (noise, False)):
        atlas = Atlas(num_patches=600, patch_size=16, block=8, max_side=65535)
        out = io.BytesIO()
        Image.fromarray(atlas.lay_out(patches)).save(out, "JPEG", quality=95, subsampling=0)
        data = JpegCodec().encode(patches)
        assert (len(data) < len(out.getvalue())) == is_smaller
        standard = JpegCodec().decode(out.getvalue(), num_patches=600, patch_size=16)
        np.testing.assert_array_equal(standard, through(patches))
