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
        rows = engine.frame(
            state, frames[:, frame], budgets=[budget] * 3, loss_threshold=loss_threshold
        )
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
        rows = engine.frame(state, frame, budgets=[40] * 2, loss_threshold=1e9)
        assert [len(row.ids) for row in rows] == [1, 1]


def test_a_threshold_below_every_loss_leaves_the_budget(tiny_network, tiny):
    """Then the frame ends at its budget, as without one."""
    engine = Engine(tiny_network, device=torch.device("cpu"), dtype=torch.float32)
    frame = normalise(tiny.clips()[:1, :1])[:, 0]
    (without,) = engine.frame(engine.start(1, room=1), frame, budgets=[41], loss_threshold=None)
    (below,) = engine.frame(engine.start(1, room=1), frame, budgets=[41], loss_threshold=-1e9)
    assert len(without.ids) == 41
    assert below == without


@pytest.mark.parametrize("loss_threshold", [None, 0.0])
def test_the_way_of_an_accelerator_agrees_with_the_reference(
    tiny_network, tiny, loss_threshold, monkeypatch
):
    """Tokens looked at in strides, questions now and then, padding that is fed: the same ids on the CPU."""
    monkeypatch.setattr(Engine, "is_accelerator", True)
    frames = normalise(tiny.clips()[:3, :4])
    cells = tiny_network.cells(frames)
    engine = Engine(tiny_network, device=torch.device("cpu"), dtype=torch.float32)
    group = engine.start(3, room=1)
    for _ in range(2):  # the second time through memory that was used
        group.clear()
        decoders = [ReferenceDecoder(network=tiny_network) for _ in range(3)]
        for frame, budgets in enumerate(([30, 3, 1], [3, 3, 3], [1, 45, 100], [7, 8, 9])):
            rows = engine.frame(
                group, frames[:, frame], budgets=budgets, loss_threshold=loss_threshold
            )
            for row, decoder in enumerate(decoders):
                ids, losses = decoder.frame(
                    cells[row, frame], budget=budgets[row], loss_threshold=loss_threshold
                )
                assert rows[row].ids == ids
                np.testing.assert_allclose(rows[row].loss, losses, atol=TOLERANCE)
    assert group.cache.room % 256 == 0
