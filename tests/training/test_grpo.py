"""Post-training: credit, probabilities, and a whole small run."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gazepack.autogaze import CanvasNetwork, fresh_canvas_network
from gazepack.autogaze.config import END
from gazepack.errors import DivergedError, UsageError
from gazepack.training import grpo
from gazepack.training.clips import Video
from gazepack.training.grpo import RlSettings, credits, posttrain, slot_answers
from gazepack.training.rewards import PaintingReward, Reward
from gazepack.training.rollout import DiceEngine, Rollouts, roll_out
from gazepack.training.store import Store, TrainingState

CPU = torch.device("cpu")
TEMPERATURE = 0.7
SMALL = {"group": 2, "clips_per_step": 1, "frames": 2, "warmup_steps": 1}


# ------------------------------------------------------------------------------------------ credit


@pytest.fixture
def kept_RTJ() -> npt.NDArray[np.bool_]:
    """Which slots six tries kept: some rows end early, one slot was kept by one try alone."""
    kept_RTJ = np.random.default_rng(1).random((6, 4, 5)) < 0.7
    kept_RTJ[:, :, 0] = True
    kept_RTJ[:3, 1, 4] = (True, False, False)
    return kept_RTJ


def follows(
    score_T: npt.NDArray[np.float64], psnr_J: npt.NDArray[np.float64], num_before: int, t: int
) -> float:
    """What follows a slot of frame t, a token at a time: later scores, less what was there and was paid."""
    later = sum(0.9 ** (u - t) * score_T[u] for u in range(t, len(score_T)))
    return float(later - (psnr_J - 0.2 * num_before))


@pytest.mark.parametrize("trace", [1.0, 0.6, 0.0])
def test_credit_is_the_sum_of_faded_surprises(
    kept_RTJ: npt.NDArray[np.bool_], trace: float
) -> None:
    """A slot answers for how much better its try stood at each slot from there on than just before."""
    random = np.random.default_rng(0)
    score_RT, psnr_RTJ = random.normal(size=(6, 4)), random.normal(size=(6, 4, 5))
    settings = {"group": 3, "discount": 0.9, "token_price": 0.2}
    found = credits(score_RT, psnr_RTJ, kept_RTJ, trace=trace, **settings)
    for row, t in np.ndindex(6, 4):
        first = row // 3 * 3
        slots = np.flatnonzero(kept_RTJ[row, t]).tolist()
        stood = []
        for j in slots:
            mates = [r for r in range(first, first + 3) if kept_RTJ[r, t, j]]
            mine, *_ = everyone = [
                follows(score_RT[r], psnr_RTJ[r, t, j], int(kept_RTJ[r, t, :j].sum()), t)
                for r in [row, *(r for r in mates if r != row)]
            ]
            stood.append(mine - np.mean(everyone))
        surprises = [now - then for now, then in zip(stood, [*stood[1:], 0.0], strict=True)]
        for place, j in enumerate(slots):
            expected = sum(trace**k * x for k, x in enumerate(surprises[place:]))
            assert found[row, t, j] == pytest.approx(expected, abs=1e-12)
    assert not found[~kept_RTJ].any()


def test_credit_of_a_group_adds_up_to_nothing(kept_RTJ: npt.NDArray[np.bool_]) -> None:
    """At every slot; and no deviation divides, so that ten times the scores is ten times the credit."""
    random = np.random.default_rng(2)
    score_RT, psnr_RTJ = random.normal(size=(6, 4)), random.normal(size=(6, 4, 5))
    settings = {"group": 3, "discount": 0.9, "trace": 1.0}
    found = credits(score_RT, psnr_RTJ, kept_RTJ, token_price=0.2, **settings)
    np.testing.assert_allclose(found.reshape(2, 3, 4, 5).sum(1), 0, atol=1e-12)
    tenfold = credits(10 * score_RT, 10 * psnr_RTJ, kept_RTJ, token_price=2.0, **settings)
    np.testing.assert_allclose(tenfold, 10 * found, atol=1e-12)


def test_equal_tries_get_no_credit() -> None:
    """Where nothing differs, nothing is learned."""
    ones, kept = np.ones((4, 2, 3)), np.ones((4, 2, 3), dtype=bool)
    settings = {"group": 4, "discount": 1.0, "trace": 0.5, "token_price": 0.1}
    found = credits(np.ones((4, 2)), ones, kept, **settings)
    assert not found.any()


# ----------------------------------------------------------------------------------- probabilities


class ListeningEngine(DiceEngine):
    """An engine that also remembers the scores it drew from."""

    def __init__(self, network: CanvasNetwork) -> None:
        generator = torch.Generator().manual_seed(4)
        super().__init__(network, device=CPU, generator=generator, temperature=TEMPERATURE)
        self.scores: list[torch.Tensor] = []

    def _pick(self, scores_NI: torch.Tensor) -> torch.Tensor:
        self.scores.append(scores_NI.clone())
        return super()._pick(scores_NI)


@pytest.mark.parametrize("threshold", [None, -15.5])
def test_probabilities_are_those_the_dice_were_thrown_at(
    network: CanvasNetwork, frames_BT3SS: torch.Tensor, threshold: float | None
) -> None:
    """In one pass, each slot's log-probability is what the engine drew it with, dropped slots too.

    And the loss predicted before it is what decides whether it was dropped.
    """
    engine = ListeningEngine(network)
    frames_N3SS = frames_BT3SS[:, 0]
    tried = roll_out(engine, frames_N3SS[:, None], budget=23, loss_threshold=threshold)
    slots_NJ = torch.from_numpy(tried.slots_RTJ[:, 0])
    with torch.no_grad():
        found_NJ, losses_NJ = slot_answers(
            network, frames_N3SS, tried.before_RT3SS[:, 0], slots_NJ, temperature=TEMPERATURE
        )
    compared = 0
    for n in range(2):
        for j in range(23):
            if slots_NJ[n, j] != END:
                expected = (engine.scores[j][n] / TEMPERATURE).log_softmax(0)[slots_NJ[n, j]]
                assert float(found_NJ[n, j]) == pytest.approx(float(expected), abs=1e-4)
                is_above = threshold is None or float(losses_NJ[n, j]) > threshold
                assert tried.kept_RTJ[n, 0, j] == (is_above or j == 0)
                compared += 1
    assert (compared == 46) == (threshold is None)
    assert 2 < tried.kept_RTJ.sum() <= compared


# -------------------------------------------------------------------------------------- whole runs


def lines(folder: Path) -> list[dict[str, float]]:
    """The log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def posttrained(
    network: CanvasNetwork,
    videos: list[Video],
    folder: Path,
    settings: RlSettings,
    *,
    reward: Reward | None = None,
    stop: int = 0,
) -> TrainingState:
    """Run into a folder, or go on there, until the end or the report of a step."""
    state = TrainingState.fresh(network, weight_decay=0.0)
    store = Store(folder, settings=settings.model_dump())
    store.load(state)

    def report(step: int, *_: object) -> None:
        if step == stop:
            store.save(state)
            raise KeyboardInterrupt

    run = {"store": store, "report": report, "device": CPU}
    try:
        posttrain(state, videos, settings, reward=reward or PaintingReward(), **run)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        assert state.step == stop
    return state


def test_a_run_leaves_a_model_and_numbers(
    network: CanvasNetwork, videos: list[Video], tmp_path: Path
) -> None:
    """Two steps move the weights and log score, worth, tokens, credit and the lessons' errors."""
    before = network.gaze_decoder.lm_head.weight.detach().clone()
    state = posttrained(network, videos, tmp_path, RlSettings(steps=2, **SMALL))
    assert not torch.equal(before, state.network.gaze_decoder.lm_head.weight)
    (line,) = lines(tmp_path)
    assert line["tokens"] >= 1
    assert line["score"] == pytest.approx(line["worth"] - 0.1 * line["tokens"], abs=1e-3)
    assert {"credit", "choice", "decibel", "gain", "error"} <= line.keys()
    assert (tmp_path / "model/model.safetensors").is_file()


def test_an_interrupted_run_goes_on_to_the_bit(
    network: CanvasNetwork, videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the first step and begun again, a run of two ends with the same bytes."""
    monkeypatch.setattr("gazepack.training.loop.REPORT_STEPS", 1)
    settings = RlSettings(steps=2, **{**SMALL, "frames": 1})
    for folder, stop in (("whole", 0), ("parts", 1), ("parts", 0)):
        fresh = fresh_canvas_network(network.config, seed=0)
        posttrained(fresh, videos, tmp_path / folder, settings, stop=stop)
    whole, parts = (tmp_path / name / "model/model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    assert [line["step"] for line in lines(tmp_path / "parts")] == [1, 2]


def test_rewarded_choices_get_likelier(
    network: CanvasNetwork, videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two tries that are repeated, five steps make the paid one likelier and the other less."""
    slots_RTJ = np.asarray([[[3, 80, 140]], [[30, 7, 222]]])
    seen: list[torch.Tensor] = []

    def repeated(_: DiceEngine, frames_RT3SS: torch.Tensor, **__: object) -> Rollouts:
        seen.append(frames_RT3SS)
        return Rollouts(
            slots_RTJ=slots_RTJ,
            kept_RTJ=np.ones(slots_RTJ.shape, dtype=bool),
            loss_RTJ=np.full(slots_RTJ.shape, -20.0, dtype=np.float32),
            before_RT3SS=torch.full_like(frames_RT3SS, 128),
            after_RT3SS=frames_RT3SS,
        )

    def pays_the_first(frames_N3SS: torch.Tensor, painted_N3SS: torch.Tensor) -> torch.Tensor:
        assert painted_N3SS.shape == frames_N3SS.shape
        return torch.tensor([1.0, 0.0])

    def logp_R() -> torch.Tensor:
        frames_N3SS = seen[0].flatten(0, 1)
        grey = torch.full_like(frames_N3SS, 128)
        slots_NJ = torch.from_numpy(slots_RTJ).flatten(0, 1)
        with torch.no_grad():
            logp_NJ, _ = slot_answers(network, frames_N3SS, grey, slots_NJ, temperature=1.0)
            return logp_NJ.sum(1)

    monkeypatch.setattr(grpo, "roll_out", repeated)
    values = {**SMALL, "frames": 1, "lesson_weight": 0.0}
    still = RlSettings(steps=1, learning_rate=1e-12, **values)
    posttrained(network, videos, tmp_path / "still", still, reward=pays_the_first)
    before = logp_R()
    moving = RlSettings(steps=5, learning_rate=1e-3, **values)
    posttrained(network, videos, tmp_path / "moving", moving, reward=pays_the_first)
    after = logp_R()
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_lessons_go_on_beside_the_tries(
    network: CanvasNetwork, videos: list[Video], tmp_path: Path
) -> None:
    """What painting would leave wrong is taught by tries, too; what the canvas gets wrong by lessons alone."""

    def pays_all_alike(frames_N3SS: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(frames_N3SS))

    errors = network.error_proj.weight
    before = errors.detach().clone()
    values = {**SMALL, "frames": 1, "learning_rate": 1e-3}
    for weight, name in ((0.0, "without"), (0.3, "with")):
        settings = RlSettings(steps=1, lesson_weight=weight, **values)
        posttrained(network, videos, tmp_path / name, settings, reward=pays_all_alike)
        assert torch.equal(before[:4], errors[:4]) == (weight == 0)
        assert not torch.equal(before[4:], errors[4:])


def test_a_loss_that_is_no_number_stops_the_run(
    network: CanvasNetwork, videos: list[Video], tmp_path: Path
) -> None:
    """The step is named."""

    def broken(frames_N3SS: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return torch.full((len(frames_N3SS),), float("nan"))

    settings = RlSettings(steps=2, **{**SMALL, "frames": 1})
    with pytest.raises(DivergedError, match=r"the loss of step 0 is not a number"):
        posttrained(network, videos, tmp_path, settings, reward=broken)


def test_no_memory_left(
    network: CanvasNetwork, videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory says which settings to lower."""

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(grpo, "roll_out", full)
    with pytest.raises(UsageError, match=r"step 0; lower --group or --clips-per-step"):
        posttrained(network, videos, tmp_path, RlSettings(steps=1, **SMALL))


def test_a_group_is_no_single_try() -> None:
    """There must be something to compare with."""
    with pytest.raises(UsageError, match=r"group: .*greater than or equal to 2 \(got 1\)"):
        RlSettings.parse({"steps": 1, "group": 1})
