import pytest
import torch

from gazepack.autogaze.packed import pack
from gazepack.autogaze.pixels import normalise


@torch.inference_mode()
def test_the_encoder_frame_by_frame_is_the_encoder_of_the_clip(tiny):
    """Carrying two frames of features gives the cells of the causal 3-D convolution."""
    frames = normalise(tiny.clips()[:2, :5])
    encoder, _ = pack(tiny.network, device=torch.device("cpu"), dtype=torch.float32)
    past = encoder.start(2)
    cells = []
    for frame in frames.unbind(1):
        cells_BCD, past = encoder.frame(frame, past)
        cells.append(cells_BCD)
    torch.testing.assert_close(torch.stack(cells, dim=1), tiny.network.cells(frames))


def test_packed_weights_carry_no_gradient(tiny):
    """Packing neither ties itself to the network nor freezes it."""
    _, decoder = pack(tiny.network, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert decoder.embedding_VD.dtype == torch.bfloat16
    assert not decoder.embedding_VD.requires_grad
    assert all(parameter.requires_grad for parameter in tiny.network.parameters())


@pytest.mark.parametrize("num_rows", [1, 3])
def test_a_mask_hides_what_follows_and_what_was_never_written(tiny, num_rows):
    """Token n of a row that has seen L sees L + n + 1 tokens."""
    _, decoder = pack(tiny.network, device=torch.device("cpu"), dtype=torch.float32)
    starts = torch.arange(num_rows) * 2
    mask = decoder._mask(starts[:, None] + torch.arange(4), 12, torch.float32)
    seen = (mask[:, 0] == 0).sum(-1)
    assert torch.equal(seen, starts[:, None] + torch.arange(4) + 1)
    assert bool((mask[mask != 0] == -torch.inf).all())
