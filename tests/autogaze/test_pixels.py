import pytest
import torch

from gazepack.autogaze.pixels import check_pixels, normalise
from gazepack.errors import UsageError


def test_black_and_white_are_the_published_values():
    """(x / 127.5 - 1 - mean) / std, per channel."""
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(1, 2, 3, 224, 224)
    black, white = normalise(pixels)[0, :, :, 5, 7]
    torch.testing.assert_close(
        black, torch.tensor([-1.485 / 0.229, -1.456 / 0.224, -1.406 / 0.225])
    )
    torch.testing.assert_close(white, torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))


def test_another_side_is_resized():
    """A 196-px tile becomes 224 px; a flat one stays flat."""
    flat = torch.full((1, 1, 3, 196, 196), 200, dtype=torch.uint8)
    frames = normalise(flat)
    assert frames.shape == (1, 1, 3, 224, 224)
    torch.testing.assert_close(frames, frames[..., :1, :1].expand_as(frames))


def test_square_byte_pixels_pass():
    """uint8 B x T x 3 x S x S of any S is what the network takes."""
    check_pixels(torch.zeros(1, 2, 3, 196, 196, dtype=torch.uint8))


def test_pixels_without_a_batch_are_refused():
    """Four axes are one too few."""
    with pytest.raises(UsageError, match=r"pixels have shape \(2, 3, 224, 224\)"):
        check_pixels(torch.zeros(2, 3, 224, 224, dtype=torch.uint8))
