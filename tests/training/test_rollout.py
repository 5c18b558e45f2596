"""Tries, and what comes of them."""

import numpy as np
import pytest
import torch

from gazepack.autogaze import AutoGaze, CanvasNetwork
from gazepack.autogaze.config import END
from gazepack.geometry import Grid
from gazepack.patches import cut, paint, psnr, pyramid
from gazepack.training.rollout import DiceEngine, Rollouts, roll_out

CPU = torch.device("cpu")
THRESHOLD = -16.5
"""At or below it is about one loss in eight of the untrained network."""


def dice(network: CanvasNetwork, seed: int, temperature: float = 1.0) -> DiceEngine:
    """An engine that throws dice of a seed."""
    generator = torch.Generator().manual_seed(seed)
    return DiceEngine(network, device=CPU, generator=generator, temperature=temperature)


def kept_ids(rollouts: Rollouts, row: int) -> list[list[int]]:
    """The kept ids of each frame of a row."""
    return [
        slots[kept].tolist()
        for slots, kept in zip(rollouts.slots_RTJ[row], rollouts.kept_RTJ[row], strict=True)
    ]


def sure(network: CanvasNetwork) -> CanvasNetwork:
    """The network with choices that no dice can change."""
    with torch.no_grad():
        network.gaze_decoder.lm_head.weight.mul_(1e6)
    return network


@pytest.mark.parametrize("quantile", [None, 0.3])
def test_a_sure_network_tries_what_it_would_choose(
    network: CanvasNetwork, frames_BT3SS: torch.Tensor, quantile: float | None
) -> None:
    """When one choice is certain the dice change nothing: a try is the gaze, and sees its canvas."""
    clip_1T3SS = frames_BT3SS[:1]
    model, limit = AutoGaze(sure(network)), None
    if quantile is not None:
        limit = float(np.quantile(model.gaze(clip_1T3SS, gazing_ratio=0.1)[0].loss, quantile))
    (gaze,) = model.gaze(clip_1T3SS, gazing_ratio=0.1, loss_threshold=limit)
    rollouts = roll_out(dice(network, 0), clip_1T3SS, budget=26, loss_threshold=limit)
    expected = np.split(gaze.ids % 265, np.cumsum(gaze.num_each_frame)[:-1])
    assert kept_ids(rollouts, 0) == [ids.tolist() for ids in expected]
    assert (gaze.num_each_frame.sum() == 3 * 26) == (limit is None)


def test_slots_that_were_drawn_and_dropped_are_remembered(
    network: CanvasNetwork, frames_BT3SS: torch.Tensor
) -> None:
    """Rows end with the step of their first drop: its slots are all there, and none behind it."""
    free = roll_out(dice(network, 0), frames_BT3SS[:, :1], budget=26, loss_threshold=None)
    assert free.kept_RTJ.all()
    dropped = set()
    for limit in (-60.0, -16.8, THRESHOLD, 1e9):
        tried = roll_out(dice(network, 0), frames_BT3SS[:, :1], budget=26, loss_threshold=limit)
        for row in range(2):
            slots_J, kept_J = tried.slots_RTJ[row, 0], tried.kept_RTJ[row, 0]
            num = int((slots_J != END).sum())
            assert num in {10, 20, 26}
            assert (slots_J[num:] == END).all()
            assert kept_J[0]
            assert kept_J[: (num - 1) // 10 * 10].all()
            assert not kept_J[num:].any()
            assert num == 26 or not kept_J[num - 10 : num].all()
            dropped.add(num)
    assert dropped >= {10, 26}
    assert tried.kept_RTJ.sum() == 2


def test_tries_differ_by_their_dice(network: CanvasNetwork, frames_BT3SS: torch.Tensor) -> None:
    """Equal seeds try the same, rows and seeds differ, and no id comes twice in a frame."""
    clip_RT3SS = frames_BT3SS[:1, :2].repeat(3, 1, 1, 1, 1)
    a, b, c = (
        roll_out(dice(network, seed), clip_RT3SS, budget=13, loss_threshold=None)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(a.slots_RTJ, b.slots_RTJ)
    assert (a.slots_RTJ != c.slots_RTJ).any()
    assert (a.slots_RTJ[0] != a.slots_RTJ[1]).any()
    for frame in a.slots_RTJ.reshape(-1, 13):
        assert len(set(frame.tolist())) == 13


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_dice_follow_the_scores(network: CanvasNetwork, temperature: float) -> None:
    """Of twenty thousand throws each choice comes as often as its softmax says; taken ones never."""
    scores_I = torch.linspace(-3, 3, 8).tolist() + [-float("inf")] * 257
    scores_NI = torch.tensor(scores_I).expand(20_000, -1)
    drawn_N = dice(network, 3, temperature)._pick(scores_NI)[:, 0]
    counts_I = torch.bincount(drawn_N, minlength=265)
    expected_I = 20_000 * (scores_NI[0] / temperature).softmax(0)
    assert ((counts_I - expected_I).abs() <= 5 * expected_I.sqrt().clamp(min=1)).all()


def test_painting_is_what_was_kept(network: CanvasNetwork, frames_BT3SS: torch.Tensor) -> None:
    """Canvases show the kept slots, painted by hand; losses are those before each kept slot."""
    tried = roll_out(dice(network, 5), frames_BT3SS[:, :2], budget=12, loss_threshold=THRESHOLD)
    assert 4 < tried.kept_RTJ.sum() < 48
    for row in range(2):
        canvas_13SS = torch.full((1, 3, 224, 224), 128, dtype=torch.uint8)
        for t, ids in enumerate(kept_ids(tried, row)):
            frame_13SS = frames_BT3SS[row, t : t + 1]
            assert torch.equal(canvas_13SS[0], tried.before_RT3SS[row, t])
            painted = []
            for num in range(len(ids) + 1):
                places = Grid(rows=1, cols=1).places(np.asarray(ids[:num], dtype=np.int64))
                scale, row_K, col = (torch.from_numpy(x) for x in places)
                at = {"frame": 0 * scale, "scale": scale, "row": row_K, "col": col}
                painted.append(canvas_13SS.clone())
                paint(painted[-1], cut(pyramid(frame_13SS), **at, patch_size=16), **at)
            apart = [frame_13SS.double() - x.double() for x in painted]
            expected = [-psnr(float(x.square().sum()), x.numel()) for x in apart]
            kept_J = tried.kept_RTJ[row, t]
            np.testing.assert_allclose(tried.loss_RTJ[row, t][kept_J], expected[:-1], rtol=1e-5)
            assert (tried.loss_RTJ[row, t][~kept_J] == 0).all()
            canvas_13SS = painted[-1]
            assert torch.equal(canvas_13SS[0], tried.after_RT3SS[row, t])
