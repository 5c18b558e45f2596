"""What every lossless codec promises: exact pixels, equal bytes, and sizes that cannot lie."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.codecs import CODECS, codec_from

LOSSLESS = sorted(name for name, codec in CODECS.items() if codec.lossless)
PATCHES = st.tuples(st.integers(0, 70), st.sampled_from([4, 14, 16])).flatmap(
    lambda shape: hnp.arrays(np.uint8, (shape[0], shape[1], shape[1], 3), fill=st.integers(0, 255))
)


def picture(format: str, size: tuple[int, int], mode: str = "RGB", **settings: object) -> bytes:
    """Return a picture file."""
    out = io.BytesIO()
    Image.new(mode, size).save(out, format=format, **settings)
    return out.getvalue()


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=25, deadline=None)
@given(patches=PATCHES)
def test_round_trip_is_exact(name, patches):
    """Any patches come back pixel for pixel, writable; no patches are no bytes."""
    codec = codec_from(name)
    data = codec.encode(patches)
    decoded = codec.decode(data, num_patches=len(patches), patch_size=patches.shape[1])
    np.testing.assert_array_equal(decoded, patches)
    assert decoded.flags.writeable
    assert bool(data) == bool(len(patches))


@pytest.mark.parametrize("name", LOSSLESS)
def test_same_patches_give_same_bytes(name, make_patches):
    """Encoding is deterministic, whatever the memory layout and whatever was encoded before."""
    patches = make_patches(70, patch_size=16)
    first = codec_from(name).encode(patches)
    codec_from(name).encode(make_patches(7, patch_size=16, seed=5))
    assert codec_from(name).encode(patches.copy(order="F")) == first


@pytest.mark.parametrize(
    ("name", "setting", "levels"), [("png", "level", (0, 9)), ("webp", "effort", (0, 6))]
)
def test_every_level_is_exact(name, setting, levels, make_patches):
    """Least and most effort give the same pixels; beyond them is refused."""
    patches = make_patches(70, patch_size=14)
    for level in levels:
        codec = codec_from(name, **{setting: level})
        decoded = codec.decode(codec.encode(patches), num_patches=70, patch_size=14)
        np.testing.assert_array_equal(decoded, patches)
    for wrong in (-1, levels[1] + 1, "3", True):
        with pytest.raises(UsageError, match=f"{name} {setting} .* is not a whole number from 0"):
            codec_from(name, **{setting: wrong})


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("num_patches", [0, 1, 64, 129])
def test_a_member_of_another_number_of_patches_is_refused(name, num_patches, make_patches):
    """More or fewer patches than tokens is damage."""
    data = codec_from(name).encode(make_patches(65, patch_size=16))
    with pytest.raises(DatasetError, match=r"where the tokens need|sample without patches"):
        codec_from(name).decode(data, num_patches=num_patches, patch_size=16)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: d[5:], lambda d: d[:0]])
def test_damaged_bytes_are_refused(name, damage, make_patches):
    """Cut, foreign or absent bytes are a DatasetError."""
    data = codec_from(name).encode(make_patches(64, patch_size=16))
    with pytest.raises(DatasetError):
        codec_from(name).decode(damage(data), num_patches=64, patch_size=16)


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("png", picture("PNG", (9000, 9000)), "PNG is RGB 9000 x 9000 where the tokens need RGB"),
        ("png", picture("PNG", (16, 16), "L"), "the PNG is L 16 x 16"),
        ("png", picture("GIF", (16, 16), "L"), "the PNG cannot be decoded"),
        ("webp", picture("WEBP", (9000, 9000), lossless=True), "WebP is 9000 x 9000 where the"),
        ("webp", picture("WEBP", (16, 16)), "it is no plain lossless WebP"),
        ("webp", picture("PNG", (16, 16)), "it is no plain lossless WebP"),
        ("raw", bytes(769), "769 bytes of pixels where the tokens need 768"),
    ],
)
def test_pictures_of_another_size_or_kind_are_refused_before_they_are_decoded(name, data, match):
    """A picture larger than the tokens need, or of another kind, is refused by its header."""
    with pytest.raises(DatasetError, match=match):
        codec_from(name).decode(data, num_patches=1, patch_size=16)


def test_a_webp_that_hides_a_larger_picture_is_refused():
    """A picture without the body that its header announces, or with another one, is refused."""
    small = picture("WEBP", (16, 16), lossless=True)
    large = bytearray(picture("WEBP", (4000, 4000), lossless=True))
    large[21:25] = small[21:25]
    large[4:8] = (len(small) - 8).to_bytes(4, "little")
    with pytest.raises(DatasetError, match="WebP cannot be decoded"):
        codec_from("webp").decode(bytes(large[:24]), num_patches=1, patch_size=16)
    with pytest.raises(DatasetError, match="no plain lossless WebP of its length"):
        codec_from("webp").decode(bytes(large), num_patches=1, patch_size=16)
