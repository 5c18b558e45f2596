"""The network that training begins with."""

import numpy as np
import torch

from gazepack.autogaze import AutoGazeConfig, fresh_network
from gazepack.autogaze.pixels import normalise
from gazepack.training.runs import default_config
from gazepack.training.start import cosines, informed_network


def test_cosines_are_orthonormal() -> None:
    """The waves of a side have unit length and nothing in common."""
    waves = cosines(14, 9)
    np.testing.assert_allclose(waves @ waves.T, np.eye(9), atol=1e-12)


def test_a_place_is_the_same_to_cells_and_heads() -> None:
    """Seen by itself, the code of a cell makes the heads choose that cell among the finest patches."""
    network = informed_network(default_config(), seed=0)
    heads = network.gaze_decoder.lm_head.weight.view(10, 266, -1)[0, 69:265]
    scores_CI = network.connector.pos_embed @ heads.T
    assert (scores_CI.argmax(1) == torch.arange(196)).float().mean() > 0.95
    random = fresh_network(default_config(), seed=0)
    heads = random.gaze_decoder.lm_head.weight.view(10, 266, -1)[0, 69:265]
    scores_CI = random.connector.pos_embed @ heads.T
    assert (scores_CI.argmax(1) == torch.arange(196)).float().mean() < 0.1


def test_an_untouched_canvas_is_zero() -> None:
    """A mid-grey frame has no cosine but the two constants, whatever the patch."""
    network = informed_network(default_config(), seed=0)
    grey_113SS = torch.full((1, 1, 3, 224, 224), 128, dtype=torch.uint8)
    with torch.no_grad():
        found = network.vision_model.temporal_conv(normalise(grey_113SS).transpose(1, 2))
    assert found[0, :-2].abs().max() < 0.02
    assert found[0, -2].min() > 30


def test_the_start_has_a_seed() -> None:
    """Equal seeds give equal weights, others give others."""
    a, b, c = (informed_network(default_config(layers=1), seed=seed) for seed in (4, 4, 5))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.gaze_decoder.lm_head.weight, c.gaze_decoder.lm_head.weight)


def test_a_narrow_network_starts_at_random(config: AutoGazeConfig) -> None:
    """A width that cannot hold the code of places gets the plain start."""
    a, b = informed_network(config, seed=3), fresh_network(config, seed=3)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
