"""What is kept up to date choice by choice is what the whole set of choices says, to the bit."""

import numpy as np
import pytest
import torch

from gazepack.autogaze.painted import Painted

NUM_FRAMES = 3


@pytest.fixture(scope="module")
def look(canvas_network):
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (2, NUM_FRAMES, 3, 224, 224), dtype=np.uint8)
    with torch.no_grad():
        return canvas_network.look(*torch.from_numpy(pixels))


@pytest.fixture
def painted(canvas_network):
    with torch.no_grad():
        return Painted(canvas_network, NUM_FRAMES)


def choices(seed, num=265):
    """Return an order of choices for each frame, N x J."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([random.permutation(265)[:num] for _ in range(NUM_FRAMES)]))


def paint(network, painted, look, ids_NJ, *, num_at_once=10):
    """Paint step by step; hold every answer against that of the network for the whole set."""
    painted.begin(look)
    taken_NV = torch.zeros(NUM_FRAMES, 266, dtype=torch.bool)
    for ids_NK in ids_NJ.split(num_at_once, dim=1):
        losses = []
        for ids_N1 in ids_NK.split(1, dim=1):
            appeal_NI = network.appeal(look, taken_NV)
            expected_NI = appeal_NI.masked_fill(taken_NV[:, :265], -torch.inf)
            assert torch.equal(painted.appeal_NI, expected_NI)
            losses.append(network.loss_shown(look, taken_NV))
            painted.add(ids_N1)
            taken_NV.scatter_(1, ids_N1, True)
        assert torch.equal(painted.show(ids_NK), torch.stack(losses, dim=1))


@torch.no_grad()
def test_a_frame_is_painted_to_the_last_patch(canvas_network, painted, look):
    """Appeal and loss at every choice of all 265, in an order of its own in each frame."""
    paint(canvas_network, painted, look, choices(1))
    assert torch.isneginf(painted.appeal_NI).all()


@torch.no_grad()
@pytest.mark.parametrize("num_at_once", [1, 3])
def test_frames_begin_anew(canvas_network, painted, look, num_at_once):
    """Nothing of what was painted before is left, whatever a step is."""
    paint(canvas_network, painted, look, choices(2, 40), num_at_once=num_at_once)
    paint(canvas_network, painted, look, choices(3, 40), num_at_once=num_at_once)


@torch.no_grad()
def test_coarse_patches_come_beneath_finer_ones(canvas_network, painted, look):
    """Finer first, then what they lie on, and the other way about."""
    by_scale = torch.arange(265).expand(NUM_FRAMES, -1)
    paint(canvas_network, painted, look, by_scale)
    paint(canvas_network, painted, look, by_scale.flip(1))


@torch.no_grad()
def test_a_choice_that_comes_again_changes_no_loss(painted, look):
    """A last step that runs out of choices repeats one."""
    painted.begin(look)
    twice_NK = torch.tensor([[7, 7, 7]] * NUM_FRAMES)
    for ids_N1 in twice_NK.split(1, dim=1):
        painted.add(ids_N1)
        assert torch.isneginf(painted.appeal_NI).sum(1).tolist() == [1] * NUM_FRAMES
    losses_NK = painted.show(twice_NK)
    assert torch.equal(losses_NK[:, 1], losses_NK[:, 2])
