"""What codecs that are picture formats share."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from gazepack.errors import DatasetError
from gazepack.formats.codecs import CODECS, codec_from
from gazepack.formats.codecs.atlas import GREY
from gazepack.formats.codecs.picture import PictureCodec, open_picture

PICTURES = sorted(name for name, codec in CODECS.items() if issubclass(codec, PictureCodec))


def test_the_picture_codecs_are_three():
    """What can be opened with a viewer."""
    assert PICTURES == ["jpeg", "png", "webp"]


@pytest.mark.parametrize("name", PICTURES)
def test_any_program_sees_the_atlas(name, make_patches):
    """The slow twin: Pillow's own reader shows patch i at row i // 64, column i % 64, grey after the last."""
    patches = make_patches(70, patch_size=16)
    codec = codec_from(name)
    data = codec.encode(patches)
    decoded = codec.decode(data, num_patches=70, patch_size=16)
    with Image.open(io.BytesIO(data)) as image:
        picture = np.asarray(image.convert("RGB"))
    assert picture.shape == (32, 1024, 3)
    for i, patch in enumerate(decoded):
        y, x = i // 64 * 16, i % 64 * 16
        np.testing.assert_array_equal(picture[y : y + 16, x : x + 16], patch)
    assert (picture[16:, 6 * 16 :] == GREY).all()


def test_a_picture_of_another_size_or_kind_is_refused():
    """Size and kind are what the file states; garbage is a DatasetError that names the format."""
    out = io.BytesIO()
    Image.new("RGB", (32, 16), (1, 2, 3)).save(out, "PNG")
    picture = open_picture(PngImageFile, out.getvalue(), name="PNG", size=(32, 16))
    assert (picture == [1, 2, 3]).all()
    assert picture.shape == (16, 32, 3)
    with pytest.raises(DatasetError, match="PNG is RGB 32 x 16 where the tokens need RGB 16 x 32"):
        open_picture(PngImageFile, out.getvalue(), name="PNG", size=(16, 32))
    with pytest.raises(DatasetError, match="the PNG cannot be decoded"):
        open_picture(PngImageFile, b"garbage", name="PNG", size=(16, 32))
