"""Post-training by trying (GRPO): rollouts of one clip compete, and the better choices get likelier.

A step draws a few clips, a budget and sometimes a loss threshold, tries each clip `group` times, paints
every try and scores each frame: the reward in dB less a price for every token. A choice is credited with
the scores of its own frame and of those after it, discounted, and compared with the mean of its group;
the group's deviation is not divided by, so easy clips do not shout (Dr. GRPO, arXiv 2503.20783; the
published recipe of arXiv 2603.12254 does the same). Probabilities are those of contiguous positions, and
each try is used once, so no ratio has to be clipped. The loss head goes on learning, now the true losses
of the network's own paintings.

    legend   B clips  G tries of a clip (the group)  R = B G rows  T frames  N slots of a frame
             S side of a tile  V vocabulary (266)
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from gazepack.autogaze import AutoGazeNetwork
from gazepack.autogaze.config import END, VOCABULARY
from gazepack.autogaze.pixels import normalise
from gazepack.geometry import TILE_TOKENS
from gazepack.training.clips import Video, draw_clip, generator, read_window
from gazepack.training.loop import Report, RunSettings, check_finite, run_steps
from gazepack.training.ntp import precision
from gazepack.training.rewards import Reward
from gazepack.training.rollout import DiceEngine, Painted, Rollouts, paint_rollouts, roll_out
from gazepack.training.store import Store, TrainingState

LOSS_WEIGHT = 0.03
"""Weight of the loss head's error in dB, beside the choices'."""
RATIO_RANGE = (0.02, 0.3)
"""Gazing ratios that budgets are drawn from, evenly in their logarithm."""
PSNR_RANGE = (24.0, 36.0)
"""Bounds that thresholds are drawn from, in dB."""


class RlSettings(RunSettings):
    """What a user may say about post-training."""

    learning_rate: float = Field(default=3e-5, gt=0)
    """At the top of the schedule."""
    average_decay: float = Field(default=0.98, ge=0, lt=1)
    """Decay of the running average of the weights, which is what is saved as the model."""
    group: int = Field(default=12, ge=2)
    """Rollouts of each clip."""
    clips_per_step: int = Field(default=2, ge=1)
    """Clips of a step."""
    frames: int = Field(default=4, ge=1, le=16)
    """Frames of a clip."""
    discount: float = Field(default=0.995, gt=0, le=1)
    """What a frame's score counts for the frame before."""
    token_price: float = Field(default=0.1, ge=0)
    """What a token costs, in dB."""


def posttrain(
    state: TrainingState,
    videos: Sequence[Video],
    settings: RlSettings,
    *,
    reward: Reward,
    store: Store,
    report: Report,
    device: torch.device,
) -> None:
    """Train until the run's length is reached.

    Args:
        state: where to go on; changed in place.
        videos: what to train on.
        settings: of the run.
        reward: what a painting is worth.
        store: where checkpoints and the log go.
        report: told what the log is told.
        device: where to compute; the state's network must be there.

    Raises:
        DivergedError: a loss is not a number; the last checkpoint stands.
        SourceError: the videos cannot be decoded.
        StorageError: the folder cannot be written.
        UsageError: out of memory.
    """

    def gradients() -> dict[str, float]:
        return _gradients(state, videos, settings, reward=reward, device=device)

    run_steps(
        state,
        settings,
        gradients,
        store=store,
        report=report,
        memory_option="--group or --clips-per-step",
    )


def _gradients(
    state: TrainingState,
    videos: Sequence[Video],
    settings: RlSettings,
    *,
    reward: Reward,
    device: torch.device,
) -> dict[str, float]:
    """Try, judge, and compute the gradients; return the step's numbers."""
    # 1. the clips, the budget and the threshold
    random = generator(settings.seed, 3, state.step)
    clips = [
        draw_clip(read_window(videos, random), settings.frames, random)
        for _ in range(settings.clips_per_step)
    ]
    frames_BT3SS = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3)
    frames_RT3SS = frames_BT3SS.repeat_interleave(settings.group, 0).contiguous().to(device)
    low, high = np.log(RATIO_RANGE)
    budget = max(1, int(np.exp(random.uniform(low, high)) * TILE_TOKENS))
    threshold = -random.uniform(*PSNR_RANGE) if random.random() < 0.5 else None
    # 2. try and judge
    dice = torch.Generator(device).manual_seed(int(random.integers(2**62)))
    engine = DiceEngine(state.network, device=device, generator=dice)
    rollouts = roll_out(engine, frames_RT3SS, budget=budget, loss_threshold=threshold)
    painted = paint_rollouts(frames_RT3SS, rollouts)
    worth_RT = reward(frames_RT3SS.flatten(0, 1), painted.canvas_RT3SS.flatten(0, 1))
    worth_RT = worth_RT.unflatten(0, frames_RT3SS.shape[:2]).cpu().double().numpy()
    tokens_RT = rollouts.kept_RTN.sum(2)
    score_RT = worth_RT - settings.token_price * tokens_RT
    advantage_RT = advantages(score_RT, group=settings.group, discount=settings.discount)
    # 3. the loss
    with precision(device):
        choice, decibel = _losses(state.network, frames_RT3SS, rollouts, painted, advantage_RT)
    loss = choice + LOSS_WEIGHT * decibel
    check_finite(loss, f"step {state.step}")
    loss.backward()
    return {
        "score": float(score_RT.mean()),
        "worth": float(worth_RT.mean()),
        "tokens": float(tokens_RT.mean()),
        "decibel": float(decibel.detach()),
    }


def advantages(
    score_RT: npt.NDArray[np.float64], *, group: int, discount: float
) -> npt.NDArray[np.float64]:
    """Return how much better than its group each row did from each frame on.

    Args:
        score_RT: of each frame; rows of a group stand together.
        group: rows of a group.
        discount: what the score of the next frame counts.

    Returns:
        R x T; the sum over a group is 0.
    """
    returns_RT = score_RT.copy()
    for t in range(score_RT.shape[1] - 2, -1, -1):
        returns_RT[:, t] += discount * returns_RT[:, t + 1]
    grouped = returns_RT.reshape(-1, group, score_RT.shape[1])
    return np.asarray(grouped - grouped.mean(1, keepdims=True)).reshape(score_RT.shape)


def _losses(
    network: AutoGazeNetwork,
    frames_RT3SS: Tensor,
    rollouts: Rollouts,
    painted: Painted,
    advantage_RT: npt.NDArray[np.float64],
) -> tuple[Tensor, Tensor]:
    """Return minus the credited log-probabilities, and the loss head's error in dB, means over tokens."""
    device = frames_RT3SS.device
    slots_RTN = torch.from_numpy(rollouts.slots_RTN).to(device)
    kept_RTN = torch.from_numpy(rollouts.kept_RTN).to(device)
    forced = network(normalise(frames_RT3SS), slots_RTN.masked_fill(~kept_RTN, END))
    logp_RTN = slot_log_probabilities(forced.logits.float(), slots_RTN)
    num = kept_RTN.sum()
    credit_RT1 = torch.from_numpy(advantage_RT).float().to(device)[..., None]
    choice = -(logp_RTN * credit_RT1 * kept_RTN).sum() / num
    true_RTN = torch.from_numpy(painted.loss_RTN).to(device)
    said_RTN = forced.loss_before.float()
    errors_RTN = functional.smooth_l1_loss(said_RTN, true_RTN, reduction="none", beta=3.0)
    return choice, (errors_RTN * kept_RTN).sum() / num


def slot_log_probabilities(logits_RTNV: Tensor, slots_RTN: Tensor) -> Tensor:
    """Return the log-probability of each slot's id, given that none was drawn twice in a frame.

    Args:
        logits_RTNV: as decoding saw them.
        slots_RTN: int64 ids; 265 where there was no slot, whose value means nothing.

    Returns:
        R x T x N.
    """
    drawn_RTNV = functional.one_hot(slots_RTN, VOCABULARY).cumsum(2)
    before_RTNV = functional.pad(drawn_RTNV, (0, 0, 1, 0))[:, :, :-1] > 0
    before_RTNV[..., END] = True
    logp_RTNV = logits_RTNV.masked_fill(before_RTNV, -1e9).log_softmax(-1)
    return logp_RTNV.gather(3, slots_RTN[..., None])[..., 0]
