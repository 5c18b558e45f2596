"""Post-training by trying (GRPO): rollouts of one clip compete, and the better choices get likelier.

A step draws a few clips, a budget and sometimes a loss threshold, tries each clip `group` times, paints
every try and scores each frame: the reward in dB less a price for every token. What follows a choice is
the score of its frame, less the PSNR that was there before it, and the scores of the frames after
it, discounted; a choice is credited with what followed beyond the mean of its group at the same slot. The
group's deviation is not divided by, so easy clips do not shout (Dr. GRPO, arXiv 2503.20783; the published
recipe of arXiv 2603.12254 does the same). Most of what follows depends on the dice of later slots, so the
credit fades over them (generalised advantage estimation, arXiv 1506.02438, with the group's mean for the
value). Probabilities are those of contiguous positions, and each try is used once, so no ratio has to be
clipped.

The predicted loss is held to the truth twice. Tries tell how wrong their own paintings are: a network chooses
the patches that it expects most of, so of its own choices it expects too much. And greedy's lessons go on, on
the same clips and with a small weight, since paintings of thrown dice are worse than those of the best
choices, and a network that learned only their losses would expect too little.

    legend   B clips  G tries of a clip (the group)  R = B G rows  T frames  N = R T frames of all tries
             J slots of a frame  K tokens at once  I choices (265)  S side of a tile
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from gazepack.autogaze import CanvasNetwork
from gazepack.autogaze.config import END
from gazepack.geometry import TILE_TOKENS
from gazepack.training.clips import Video, draw_clip, generator, read_window
from gazepack.training.forced import LOSS_WEIGHT, Lessons, lesson_loss, loss_errors, prefixes
from gazepack.training.labels import label_clips
from gazepack.training.loop import Report, RunSettings, check_finite, run_steps
from gazepack.training.ntp import precision
from gazepack.training.rewards import Reward
from gazepack.training.rollout import DiceEngine, Rollouts, roll_out
from gazepack.training.store import Store, TrainingState

Floats = npt.NDArray[np.float64]

RATIO_RANGE = (0.02, 0.3)
"""Gazing ratios that budgets are drawn from, evenly in their logarithm."""
PSNR_RANGE = (24.0, 36.0)
"""Bounds that thresholds are drawn from, in dB."""


class RlSettings(RunSettings):
    """What a user may say about post-training."""

    learning_rate: float = Field(default=2e-4, gt=0)
    """At the top of the schedule."""
    warmup_steps: int = Field(default=10, ge=1)
    """Steps over which the learning rate rises."""
    average_decay: float = Field(default=0.98, ge=0, lt=1)
    """Decay of the running average of the weights, which is what is saved as the model."""
    group: int = Field(default=4, ge=2)
    """Rollouts of each clip."""
    clips_per_step: int = Field(default=4, ge=1)
    """Clips of a step."""
    frames: int = Field(default=4, ge=1, le=16)
    """Frames of a clip."""
    temperature: float = Field(default=0.4, gt=0)
    """What scores are divided by before dice are thrown: packing takes the best, and tries near it say most."""
    discount: float = Field(default=0.995, gt=0, le=1)
    """What a frame's score counts for the frame before."""
    trace: float = Field(default=0.8, ge=0, le=1)
    """What a slot's surprise counts for the slot before: at 1 each choice answers for all that follows,
    at 0 for its own gain alone."""
    token_price: float = Field(default=0.1, ge=0)
    """What a token costs, in dB."""
    lesson_weight: float = Field(default=0.3, ge=0)
    """Weight of greedy's lessons beside the credit of the tries."""


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
    frames_BT3SS = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous()
    frames_RT3SS = frames_BT3SS.repeat_interleave(settings.group, 0).to(device)
    low, high = np.log(RATIO_RANGE)
    budget = max(1, int(np.exp(random.uniform(low, high)) * TILE_TOKENS))
    bounds_B = random.uniform(*PSNR_RANGE, len(clips))
    threshold = -float(bounds_B[0]) if random.random() < 0.5 else None
    # 2. try and judge
    dice = torch.Generator(device).manual_seed(int(random.integers(2**62)))
    engine = DiceEngine(
        state.network, device=device, generator=dice, temperature=settings.temperature
    )
    rollouts = roll_out(engine, frames_RT3SS, budget=budget, loss_threshold=threshold)
    worth_RT = reward(frames_RT3SS.flatten(0, 1), rollouts.after_RT3SS.flatten(0, 1))
    worth_RT = worth_RT.unflatten(0, frames_RT3SS.shape[:2]).cpu().double().numpy()
    tokens_RT = rollouts.kept_RTJ.sum(2)
    score_RT = worth_RT - settings.token_price * tokens_RT
    credit_RTJ = credits(
        score_RT,
        -rollouts.loss_RTJ.astype(np.float64),
        rollouts.kept_RTJ,
        group=settings.group,
        discount=settings.discount,
        trace=settings.trace,
        token_price=settings.token_price,
    )
    # 3. the losses
    labels = label_clips(frames_BT3SS, min_psnr_B=bounds_B.tolist())
    lessons = Lessons.of(frames_BT3SS, labels, device=device)
    with precision(device):
        choice, missed = _judged(
            state.network, frames_RT3SS, rollouts, credit_RTJ, temperature=settings.temperature
        )
        lesson = lesson_loss(state.network, lessons, spread=1.0)
    loss = choice + LOSS_WEIGHT * missed + settings.lesson_weight * lesson.total
    check_finite(loss, f"loss of step {state.step}")
    loss.backward()
    return {
        "score": float(score_RT.mean()),
        "worth": float(worth_RT.mean()),
        "tokens": float(tokens_RT.mean()),
        "missed": float(missed.detach()),
        "credit": float(np.abs(credit_RTJ[rollouts.kept_RTJ]).mean()),
        **lesson.numbers(),
    }


def credits(
    score_RT: Floats,
    psnr_RTJ: Floats,
    kept_RTJ: npt.NDArray[np.bool_],
    *,
    group: int,
    discount: float,
    trace: float,
    token_price: float,
) -> Floats:
    """Return how much more followed from each slot than in the other tries of its group.

    What follows from a slot is the score of its frame, less the frame's PSNR before the slot and the price of
    the tokens so far (a baseline: it depends on nothing that the slot decides), and the scores of later
    frames, discounted. Beyond its group's mean it is the sum of surprises: how much better the try stood at
    each slot than at the one before, measured by those means. A surprise counts `trace` times less at every
    slot further back.

    Args:
        score_RT: of each frame; rows of a group stand together.
        psnr_RTJ: in dB, before each kept slot.
        kept_RTJ: which slots were kept; the others get no credit and count in no mean.
        group: rows of a group.
        discount: what the score of the next frame counts.
        trace: what the surprise of the next slot counts, 0..1.
        token_price: what a token costs, in dB.

    Returns:
        R x T x J; with a trace of 1, the sum over the kept ones of a group is 0 at every slot.
    """
    later_RT = np.zeros_like(score_RT)
    for t in range(score_RT.shape[1] - 2, -1, -1):
        later_RT[:, t] = discount * (score_RT[:, t + 1] + later_RT[:, t + 1])
    so_far_RTJ: npt.NDArray[np.int64] = np.cumsum(kept_RTJ, axis=2) - kept_RTJ
    before_RTJ = psnr_RTJ - token_price * so_far_RTJ
    follows_RTJ = np.where(kept_RTJ, (score_RT + later_RT)[..., None] - before_RTJ, 0)
    grouped = follows_RTJ.reshape(-1, group, *kept_RTJ.shape[1:])
    counts = kept_RTJ.reshape(grouped.shape).sum(1, keepdims=True)
    beyond_RTJ = (grouped - grouped.sum(1, keepdims=True) / np.maximum(counts, 1)).reshape(
        follows_RTJ.shape
    )
    # from the last slot back: what is beyond the mean now, less the share that has faded of what was later
    credit_RTJ: Floats = np.zeros_like(follows_RTJ)
    next_credit_RT, next_beyond_RT = np.zeros_like(score_RT), np.zeros_like(score_RT)
    for j in range(kept_RTJ.shape[2] - 1, -1, -1):
        faded_RT = beyond_RTJ[..., j] - next_beyond_RT + trace * next_credit_RT
        is_kept_RT = kept_RTJ[..., j]
        credit_RTJ[..., j] = np.where(is_kept_RT, faded_RT, 0)
        next_credit_RT = np.where(is_kept_RT, faded_RT, next_credit_RT)
        next_beyond_RT = np.where(is_kept_RT, beyond_RTJ[..., j], next_beyond_RT)
    return credit_RTJ


def _judged(
    network: CanvasNetwork,
    frames_RT3SS: Tensor,
    rollouts: Rollouts,
    credit_RTJ: Floats,
    *,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Return minus the credited log-probabilities and the errors of predicted losses, means over kept slots."""
    device = frames_RT3SS.device
    slots_NJ, kept_NJ, credit_NJ, loss_NJ = (
        torch.from_numpy(x).flatten(0, 1).to(device)
        for x in (
            rollouts.slots_RTJ,
            rollouts.kept_RTJ,
            credit_RTJ.astype(np.float32),
            rollouts.loss_RTJ,
        )
    )
    logp_NJ, predicted_NJ = slot_answers(
        network,
        frames_RT3SS.flatten(0, 1),
        rollouts.before_RT3SS.flatten(0, 1),
        slots_NJ,
        temperature=temperature,
    )
    num = kept_NJ.sum()
    errors_NJ = loss_errors(predicted_NJ - loss_NJ)
    return -(logp_NJ * credit_NJ).sum() / num, (errors_NJ * kept_NJ).sum() / num


def slot_answers(
    network: CanvasNetwork,
    frames_N3SS: Tensor,
    canvas_N3SS: Tensor,
    slots_NJ: Tensor,
    *,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Return what the network says at each slot, as decoding asks it, no id twice in a frame.

    Args:
        network: which drew.
        frames_N3SS: uint8.
        canvas_N3SS: uint8, before each frame.
        slots_NJ: int64 ids; 265 where there was no slot, whose value means nothing.
        temperature: they were drawn with.

    Returns:
        The log-probability of the slot's id, and the loss in dB predicted before it, float32 N x J each.
    """
    num_at_once = network.config.decoder.num_multi_token_pred
    look = network.look(frames_N3SS, canvas_N3SS)
    corrections_NQKV, corrections_NQK = network(look, slots_NJ)
    taken_NJV = prefixes(slots_NJ)[:, :-1]
    slots_J = torch.arange(slots_NJ.shape[1], device=slots_NJ.device)
    heads_J = slots_J % num_at_once
    logits_NJI = corrections_NQKV[:, slots_J - heads_J, heads_J, :END]
    logits_NJI = (logits_NJI + network.appeal(look, taken_NJV)) / temperature
    logp_NJI = logits_NJI.masked_fill(taken_NJV[..., :END], -1e9).log_softmax(-1)
    logp_NJ1: Tensor = logp_NJI.gather(2, slots_NJ.clamp(max=END - 1)[..., None])
    losses_NJ = network.loss_shown(look, taken_NJV) + corrections_NQK[:, slots_J - heads_J, heads_J]
    return logp_NJ1[..., 0], losses_NJ
