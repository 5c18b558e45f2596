import numpy as np
import pytest
import torch

from gazepack.autogaze.engine import Engine
from gazepack.autogaze.pixels import normalise
from gazepack.autogaze.reference import ReferenceDecoder

TOLERANCE = 1e-4  # float32 sums in another order


@pytest.mark.parametrize("loss_threshold", [None, 0.0])
def test_the_engine_agrees_with_the_reference(tiny_network, tiny, loss_threshold):
    """Ids are equal and losses close, at contiguous positions, in a group as alone."""
    frames = normalise(tiny.clips()[:3, :3])
    cells = tiny_network.cells(frames)
    engine = Engine(tiny_network, device=torch.device("cpu"), dtype=torch.float32)
    state = engine.start(3, room=1)
    decoders = [ReferenceDecoder(network=tiny_network) for _ in range(3)]
    for frame, budget in enumerate((30, 3, 265)):
        rows = engine.frame(state, frames[:, frame], budget=budget, loss_threshold=loss_threshold)
        for row, decoder in enumerate(decoders):
            ids, losses = decoder.frame(
                cells[row, frame], budget=budget, loss_threshold=loss_threshold
            )
            assert rows[row].ids == ids
            np.testing.assert_allclose(rows[row].loss, losses, atol=TOLERANCE)


def test_the_first_token_is_never_dropped(tiny_network, tiny):
    """A threshold above every loss leaves one token a frame."""
    engine = Engine(tiny_network, device=torch.device("cpu"), dtype=torch.float32)
    state = engine.start(2, room=1)
    for frame in normalise(tiny.clips()[:2, :3]).unbind(1):
        rows = engine.frame(state, frame, budget=40, loss_threshold=1e9)
        assert [len(row.ids) for row in rows] == [1, 1]


def test_a_threshold_below_every_loss_leaves_the_budget(tiny_network, tiny):
    """Then the frame ends at its budget, as without one."""
    engine = Engine(tiny_network, device=torch.device("cpu"), dtype=torch.float32)
    frame = normalise(tiny.clips()[:1, :1])[:, 0]
    (without,) = engine.frame(engine.start(1, room=1), frame, budget=41, loss_threshold=None)
    (below,) = engine.frame(engine.start(1, room=1), frame, budget=41, loss_threshold=-1e9)
    assert len(without.ids) == 41
    assert below == without
