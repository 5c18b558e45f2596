"""Post-training: credit, probabilities, and a whole small run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gazepack.autogaze import AutoGazeNetwork
from gazepack.autogaze.config import END
from gazepack.autogaze.pixels import normalise
from gazepack.errors import DivergedError
from gazepack.training import grpo
from gazepack.training.clips import Video
from gazepack.training.grpo import (
    RlSettings,
    advantages,
    posttrain,
    slot_log_probabilities,
)
from gazepack.training.rewards import PaintingReward
from gazepack.training.rollout import Rollouts
from gazepack.training.store import Store, TrainingState

CPU = torch.device("cpu")


def test_credit_is_what_follows_less_the_groups_mean() -> None:
    """Each frame is credited with its own score and the discounted later ones, and no deviation divides."""
    score_RT = np.random.default_rng(0).normal(size=(6, 4))
    found = advantages(score_RT, group=3, discount=0.9)
    for row in range(6):
        for t in range(4):
            returns = [
                sum(0.9 ** (u - t) * score_RT[r, u] for u in range(t, 4))
                for r in range(row // 3 * 3, row // 3 * 3 + 3)
            ]
            assert found[row, t] == pytest.approx(returns[row % 3] - np.mean(returns))
    np.testing.assert_allclose(advantages(10 * score_RT, group=3, discount=0.9), 10 * found)


def test_probabilities_leave_out_what_was_drawn() -> None:
    """A slot's choice is made among the ids that are not the end and were not drawn in its frame."""
    torch.manual_seed(0)
    logits_RTNV = torch.randn(1, 2, 3, 266)
    slots_RTN = torch.tensor([[[7, 3, 250], [7, 0, END]]])
    found = slot_log_probabilities(logits_RTNV, slots_RTN)
    for t in range(2):
        for n in range(3):
            wanted = int(slots_RTN[0, t, n])
            if wanted != END:
                drawn = slots_RTN[0, t, :n].tolist()
                free = [x for x in range(END) if x not in drawn]
                logp = logits_RTNV[0, t, n, free].log_softmax(0)[free.index(wanted)]
                assert float(found[0, t, n]) == pytest.approx(float(logp), rel=1e-5)


def lines(folder: Path) -> list[dict[str, float]]:
    """The log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def posttrained(
    network: AutoGazeNetwork, videos: list[Video], folder: Path, settings: RlSettings
) -> TrainingState:
    """Run into a folder."""
    state = TrainingState.fresh(network, weight_decay=0.0)
    store = Store(folder, settings=settings.model_dump())
    store.load(state)
    posttrain(
        state,
        videos,
        settings,
        reward=PaintingReward(),
        store=store,
        report=lambda *_: None,
        device=CPU,
    )
    return state


def test_a_run_leaves_a_model_and_numbers(
    network: AutoGazeNetwork, videos: list[Video], tmp_path: Path
) -> None:
    """Two steps move the weights and log score, worth, tokens and the loss head's error."""
    before = network.gaze_decoder.lm_head.weight.detach().clone()
    settings = RlSettings(steps=2, group=3, clips_per_step=1, frames=2, warmup_steps=1)
    state = posttrained(network, videos, tmp_path, settings)
    assert not torch.equal(before, state.network.gaze_decoder.lm_head.weight)
    assert {"score", "worth", "tokens", "decibel"} <= lines(tmp_path)[-1].keys()
    assert (tmp_path / "model/model.safetensors").is_file()


def test_rewarded_choices_get_likelier(
    network: AutoGazeNetwork, videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two tries that are repeated, five steps make the paid one likelier and the other less."""
    slots_RTN = np.asarray([[[3, 80, 140]], [[30, 7, 222]]])
    tries = Rollouts(slots_RTN=slots_RTN, kept_RTN=np.ones(slots_RTN.shape, dtype=bool))
    monkeypatch.setattr(grpo, "roll_out", lambda *_, **__: tries)
    frame_R3SS: list[torch.Tensor] = []

    def pays_the_first(frames_N3SS: torch.Tensor, painted_N3SS: torch.Tensor) -> torch.Tensor:
        assert painted_N3SS.shape == frames_N3SS.shape
        frame_R3SS.append(frames_N3SS)
        return torch.tensor([1.0, 0.0])

    def logp_R() -> torch.Tensor:
        frames_RT3SS = frame_R3SS[0][:, None]
        with torch.no_grad():
            logits = network(normalise(frames_RT3SS), torch.from_numpy(slots_RTN)).logits
        return slot_log_probabilities(logits, torch.from_numpy(slots_RTN)).sum((1, 2))

    settings = RlSettings(
        steps=1, group=2, clips_per_step=1, frames=1, learning_rate=1e-3, warmup_steps=1
    )
    state = TrainingState.fresh(network, weight_decay=0.0)
    store = Store(tmp_path, settings={})
    quiet = {"store": store, "report": lambda *_: None, "device": CPU, "reward": pays_the_first}
    posttrain(state, videos, settings.model_copy(update={"learning_rate": 1e-12}), **quiet)
    before = logp_R()
    posttrain(state, videos, settings.model_copy(update={"steps": 6}), **quiet)
    after = logp_R()
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_a_loss_that_is_no_number_stops_the_run(
    network: AutoGazeNetwork, videos: list[Video], tmp_path: Path
) -> None:
    """The step is named."""

    def broken(frames_N3SS: torch.Tensor, painted_N3SS: torch.Tensor) -> torch.Tensor:
        return (frames_N3SS.float() - painted_N3SS.float()).flatten(1).mean(1) * float("nan")

    settings = RlSettings(steps=2, group=2, clips_per_step=1, frames=1)
    state = TrainingState.fresh(network, weight_decay=0.0)
    with pytest.raises(DivergedError, match=r"the loss of step 0 is not a number"):
        posttrain(
            state,
            videos,
            settings,
            reward=broken,
            store=Store(tmp_path, settings={}),
            report=lambda *_: None,
            device=CPU,
        )
