"""Tries, and what comes of them."""

import numpy as np
import pytest
import torch

from gazepack.autogaze import AutoGaze, AutoGazeNetwork
from gazepack.autogaze.config import END
from gazepack.autogaze.pixels import normalise
from gazepack.geometry import Grid
from gazepack.patches import psnr
from gazepack.selectors import ClipBatch, Proposal, choose
from gazepack.training.rollout import DiceEngine, Rollouts, paint_rollouts, roll_out

CPU = torch.device("cpu")


def dice(network: AutoGazeNetwork, seed: int) -> DiceEngine:
    """An engine that throws dice of a seed."""
    return DiceEngine(network, device=CPU, generator=torch.Generator().manual_seed(seed))


def kept_ids(rollouts: Rollouts, row: int) -> list[list[int]]:
    """The kept ids of each frame of a row."""
    return [
        slots[kept].tolist()
        for slots, kept in zip(rollouts.slots_RTN[row], rollouts.kept_RTN[row], strict=True)
    ]


@pytest.mark.parametrize("threshold", [None, "median"])
def test_a_sure_network_tries_what_it_would_choose(
    network: AutoGazeNetwork, frames_BT3SS: torch.Tensor, threshold: str | None
) -> None:
    """When one choice is certain the dice change nothing: tries are the gaze, dropped slots included."""
    model = AutoGaze(network)
    free = model.gaze(frames_BT3SS, gazing_ratio=0.1)
    limit = None if threshold is None else float(np.median(free[0].loss))
    with torch.no_grad():
        network.gaze_decoder.lm_head.weight.mul_(1e6)
    model = AutoGaze(network)
    gazes = model.gaze(frames_BT3SS, gazing_ratio=0.1, loss_threshold=limit)
    rollouts = roll_out(dice(network, 0), frames_BT3SS, budget=26, loss_threshold=limit)
    for row, gaze in enumerate(gazes):
        expected = np.split(gaze.ids % 265, np.cumsum(gaze.num_each_frame)[:-1])
        assert kept_ids(rollouts, row) == [ids.tolist() for ids in expected]


def test_tries_differ_by_their_dice(network: AutoGazeNetwork, frames_BT3SS: torch.Tensor) -> None:
    """Equal seeds try the same, rows and seeds differ, and no id comes twice in a frame."""
    clip_RT3SS = frames_BT3SS[:1].repeat(3, 1, 1, 1, 1)
    a, b, c = (
        roll_out(dice(network, seed), clip_RT3SS, budget=13, loss_threshold=None)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(a.slots_RTN, b.slots_RTN)
    assert (a.slots_RTN != c.slots_RTN).any()
    assert (a.slots_RTN[0] != a.slots_RTN[1]).any()
    for frame in a.slots_RTN.reshape(-1, 13):
        assert len(set(frame.tolist())) == 13


def test_dice_follow_the_probabilities(
    network: AutoGazeNetwork, frames_BT3SS: torch.Tensor
) -> None:
    """Over four hundred tries the first slot is drawn as often as its probability says."""
    clip_RT3SS = frames_BT3SS[:1, :1].repeat(400, 1, 1, 1, 1)
    rollouts = roll_out(dice(network, 0), clip_RT3SS, budget=1, loss_threshold=None)
    counts = np.bincount(rollouts.slots_RTN[:, 0, 0], minlength=265) / 400
    ids_111 = torch.zeros(1, 1, 1, dtype=torch.int64)
    logits_V = network(normalise(frames_BT3SS[:1, :1]), ids_111).logits[0, 0, 0, :END]
    expected = logits_V.softmax(0).detach().numpy()
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected.max() / 400)


def test_painting_is_the_selectors_painting(frames_BT3SS: torch.Tensor) -> None:
    """Canvases have the errors that `choose` reports for the same ids, and losses are those before each."""
    random = np.random.default_rng(0)
    slots_RTN = np.stack([[random.permutation(265)[:6] for _ in range(3)] for _ in range(2)])
    kept_RTN = random.random(slots_RTN.shape) < 0.7
    kept_RTN[..., 0] = True
    rollouts = Rollouts(slots_RTN=slots_RTN, kept_RTN=kept_RTN)
    painted = paint_rollouts(frames_BT3SS, rollouts)
    clips = ClipBatch(
        frames_BT3HW=frames_BT3SS,
        num_frames=(3, 3),
        names=("a", "b"),
        grid=Grid(rows=1, cols=1),
    )

    class Given:
        name = "random"
        stops_at_bound = False

        def settings(self) -> dict[str, str]:
            return {}

        def propose(self, clips: ClipBatch) -> list[list[Proposal]]:
            return [
                [Proposal.without_losses(np.asarray(ids)) for ids in kept_ids(rollouts, row)]
                for row in range(len(clips))
            ]

    for row, selection in enumerate(choose(Given(), clips)):
        for t in range(3):
            apart = frames_BT3SS[row, t].double() - painted.canvas_RT3SS[row, t].double()
            assert psnr(float(apart.square().sum()), apart.numel()) == pytest.approx(
                selection.psnr_T[t]
            )
    grey = frames_BT3SS[:, 0].double() - 128
    for row in range(2):
        first = -psnr(float(grey[row].square().sum()), grey[row].numel())
        assert painted.loss_RTN[row, 0, 0] == pytest.approx(first, rel=1e-5)
    assert (painted.loss_RTN[~kept_RTN] == 0).all()
