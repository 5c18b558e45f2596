import dataclasses
import math

import numpy as np
import pytest
import torch

from gazepack.autogaze import AutoGazeConfig, fresh_network
from gazepack.autogaze.config import END
from gazepack.autogaze.network import rope_frequencies
from gazepack.autogaze.pixels import normalise
from gazepack.autogaze.reference import score

TOLERANCE = 1e-4  # float32 sums in another order than the published code's


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_teacher_forcing_reproduces_the_published_code(request, size):
    """Probabilities of a given gaze and predicted losses are the recorded ones."""
    recording = request.getfixturevalue(size)
    ids = recording.forward_ids()
    with torch.no_grad():
        forced = score(recording.network, normalise(recording.clips()[:2]), ids)
    probabilities = forced.logits.softmax(-1).gather(-1, ids[..., None])[..., 0]
    expected = recording.expected["forward/gaze_probs"]
    np.testing.assert_allclose(probabilities.flatten(1), expected, atol=TOLERANCE)
    expected = recording.expected["forward/task_loss_prediction"]
    np.testing.assert_allclose(forced.loss_after.flatten(1), expected, atol=TOLERANCE)


def test_empty_slots_change_nothing(tiny):
    """A shorter gaze padded to its neighbour's length scores as it does alone."""
    ids = tiny.forward_ids()[:, :4]
    short = ids.clone()
    short[0, :, 7:] = END
    frames = normalise(tiny.clips()[:2, :4])
    with torch.no_grad():
        padded = score(tiny.network, frames, short)
        alone = score(tiny.network, frames[:1], ids[:1, :, :7])
    for field in dataclasses.fields(alone):
        np.testing.assert_allclose(
            getattr(padded, field.name)[:1, :, :7], getattr(alone, field.name), atol=TOLERANCE
        )


def test_a_token_cannot_see_what_follows(tiny):
    """Changing the last frame changes no score before it, and changes the scores inside it."""
    frames = normalise(tiny.clips()[:1, :3])
    ids = tiny.forward_ids()[:1, :3]
    other = frames.clone()
    other[:, 2] = -frames[:, 2]
    with torch.no_grad():
        first, second = (score(tiny.network, x, ids).logits for x in (frames, other))
    np.testing.assert_allclose(first[:, :2], second[:, :2], atol=TOLERANCE)
    assert (first[:, 2] - second[:, 2]).abs().max() > TOLERANCE


def test_every_weight_learns(tiny_config, tiny):
    """A loss on scores and losses reaches every parameter."""
    network = fresh_network(tiny_config, seed=0)
    forced = score(network, normalise(tiny.clips()[:1, :2]), tiny.forward_ids()[:1, :2])
    (forced.logits.square().mean() + forced.loss_after.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_equal_seeds_give_equal_weights(tiny_config):
    """Fresh weights are a function of the seed alone, not of torch's global generator."""
    first = fresh_network(tiny_config, seed=5).state_dict()
    torch.rand(3)
    again, other = (fresh_network(tiny_config, seed=seed).state_dict() for seed in (5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["gaze_decoder.lm_head.weight"], other["gaze_decoder.lm_head.weight"]
    )


def test_the_published_shape_has_the_published_size():
    """A config that says nothing describes 3.26 million parameters."""
    network = fresh_network(AutoGazeConfig(), seed=0)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 3.26


def test_rotary_frequencies_follow_llama3():
    """Short waves keep their frequency, long ones are slowed by 8, those between are blended."""
    config = AutoGazeConfig().decoder
    for index, scaled in enumerate(rope_frequencies(config).tolist()):
        plain = 500000 ** (-2 * index / 32)
        wave = 2 * math.pi / plain
        share = min(1.0, max(0.0, (8192 / wave - 1) / 3))
        assert scaled == pytest.approx(plain * (share + (1 - share) / 8), rel=1e-5)
