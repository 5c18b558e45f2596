"""The network shown what greedy did, asked at every token what comes next.

A lesson is one frame: what it is, what the canvas holds before it, and greedy's list. Decoding asks the
heads before the first token and then after every K; training asks after every token, since cells are
most of a sequence and the answers cost little beside them. What decoding will ask counts more. The two
readings of the encoder (`canvas`) are also taught directly, at every patch and half patch.

    legend   N lessons  S side of a tile (224 px)  J tokens of a list that are fed, W those looked ahead
             Q questions (J + 1)  P prefixes of the list (Q + K)  K tokens at once  I choices (265)
             V vocabulary (266)  E errors (5)  H half patches (784)
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from gazepack.autogaze import CanvasNetwork
from gazepack.autogaze.canvas import Look
from gazepack.autogaze.config import END, VOCABULARY
from gazepack.training.labels import Labels

HUBER_DECIBELS = 1.0
"""Where the error of the predicted loss turns from squared to absolute."""
LOSS_WEIGHT = 0.1
"""Weight of the error of the predicted loss."""
CAUTION = 8.0
"""How much more it counts to predict a smaller loss than the truth than to predict a larger one: who stops too
late wastes a few tokens, who stops too early misses what was asked, and pays when looking again."""
GAIN_WEIGHT = 1.0
"""Weight of the error of the appeal of patches with nothing beneath them."""
ERROR_WEIGHT = 0.3
"""Weight of the error of the half patches' errors."""
_NEVER = -1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Frames and greedy's answers, on the device of training."""

    frames_N3SS: Tensor
    """uint8."""
    canvas_N3SS: Tensor
    """uint8, what each canvas holds before its frame."""
    ids_NW: Tensor
    """int64 tile ids in gaze order; 265 behind a list's end."""
    loss_NW: Tensor
    """Minus the PSNR in dB before each."""
    kept_N: Tensor
    """int64, how many of the ids meet the bound; the rest is beyond."""
    gains_NI: Tensor
    """See `Labels.gains_BTI`."""
    log_errors_NEH: Tensor
    """See `Labels.log_errors_BTEH`."""

    @classmethod
    def of(cls, frames_BT3SS: Tensor, labels: Labels, *, device: torch.device) -> "Lessons":
        """Make a lesson of every frame of some clips."""
        lessons = cls(
            frames_N3SS=frames_BT3SS.flatten(0, 1),
            canvas_N3SS=labels.canvas_BT3SS.flatten(0, 1),
            ids_NW=torch.from_numpy(labels.ids_BTN).flatten(0, 1),
            loss_NW=torch.from_numpy(labels.loss_BTN).flatten(0, 1),
            kept_N=torch.from_numpy(labels.kept_BT).flatten(0, 1),
            gains_NI=torch.from_numpy(labels.gains_BTI).flatten(0, 1),
            log_errors_NEH=torch.from_numpy(labels.log_errors_BTEH).flatten(0, 1),
        )
        return cls(**{x.name: getattr(lessons, x.name).to(device) for x in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonLoss:
    """How wrong the answers are."""

    total: Tensor
    """What is minimised."""
    choice: Tensor
    """Cross entropy of the choices, in nats."""
    decibel: Tensor
    """Mean absolute error of the predicted loss, in dB."""
    gain: Tensor
    """Error of the appeal of patches."""
    error: Tensor
    """Error of the half patches' errors."""

    def numbers(self) -> dict[str, float]:
        """Return its parts for the log."""
        return {name: float(getattr(self, name)) for name in ("choice", "decibel", "gain", "error")}


def lesson_loss(network: CanvasNetwork, lessons: Lessons, *, spread: float) -> LessonLoss:
    """Compare the network's answers with greedy's lists.

    Slot k of a question asked after j tokens is to choose token j + k of the list. Neighbours in the
    list are good answers too, so the target is spread over them: exp(-distance / spread). What was
    chosen before the question is masked out, as decoding does.

    Args:
        network: asked.
        lessons: what it is asked about.
        spread: of the target over the list, in tokens; 0 for none.
    """
    num_at_once = network.config.decoder.num_multi_token_pred
    look = network.look(lessons.frames_N3SS, lessons.canvas_N3SS)
    num_fed = int(lessons.kept_N.max())
    corrections_NQKV, corrections_NQK = network(look, lessons.ids_NW[:, :num_fed])
    # 1. what every prefix of the list has painted, and what the readings make of it
    room = num_fed + 3 * num_at_once
    ids_NW = functional.pad(lessons.ids_NW, (0, max(0, room - lessons.ids_NW.shape[1])), value=END)
    taken_NPV = prefixes(ids_NW[:, : num_fed + num_at_once])
    appeal_NPI, shown_NP = network.appeal(look, taken_NPV), network.loss_shown(look, taken_NPV)
    prefix_QK = _counting(num_fed + 1, num_at_once, like=ids_NW)
    # 2. the two errors over all slots of all questions
    logits_NQKI = corrections_NQKV[..., :END] + appeal_NPI[:, prefix_QK]
    logits_NQKI = logits_NQKI.masked_fill(taken_NPV[:, : num_fed + 1, None, :END], _NEVER)
    ahead_QW = _counting(num_fed + 1, 2 * num_at_once, like=ids_NW)
    next_NQW = ids_NW[:, ahead_QW]
    choice_NQK = _choice_errors(logits_NQKI, next_NQW, spread=spread)
    loss_NW = functional.pad(lessons.loss_NW, (0, max(0, room - lessons.loss_NW.shape[1])))
    apart_NQK = shown_NP[:, prefix_QK] + corrections_NQK - loss_NW[:, prefix_QK]
    # 3. their means
    weight_NQK = _weights(next_NQW[..., :num_at_once] != END, lessons.kept_N)
    choice = (choice_NQK * weight_NQK).sum()
    gain, error = _reading_errors(look, lessons)
    total = (
        choice
        + LOSS_WEIGHT * (loss_errors(apart_NQK) * weight_NQK).sum()
        + GAIN_WEIGHT * gain
        + ERROR_WEIGHT * error
    )
    return LessonLoss(
        total=total,
        choice=choice.detach(),
        decibel=(apart_NQK.detach().abs() * weight_NQK).sum(),
        gain=gain.detach(),
        error=error.detach(),
    )


def loss_errors(apart: Tensor) -> Tensor:
    """Return how much predicted losses are punished, given by how many dB they are above the truth."""
    huber = functional.smooth_l1_loss(
        apart, torch.zeros_like(apart), reduction="none", beta=HUBER_DECIBELS
    )
    return huber * torch.where(apart < 0, CAUTION, 1.0)


def prefixes(ids_NJ: Tensor) -> Tensor:
    """Return which ids are painted by each prefix of lists, bool N x (J + 1) x V; the end never is."""
    drawn_NJV = functional.one_hot(ids_NJ, VOCABULARY).to(torch.int16)
    drawn_NJV[..., END] = 0
    return functional.pad(drawn_NJV.cumsum(1), (0, 0, 1, 0)) > 0


def _counting(rows: int, columns: int, *, like: Tensor) -> Tensor:
    """Return row + column, rows x columns, int64."""
    counted = torch.arange(rows, device=like.device)[:, None]
    return counted + torch.arange(columns, device=like.device)


def _choice_errors(logits_NQKI: Tensor, next_NQW: Tensor, *, spread: float) -> Tensor:
    """Return the cross entropy of each slot's choice, N x Q x K, in nats."""
    num_at_once, window = logits_NQKI.shape[2], next_NQW.shape[2]
    logp_NQKI = logits_NQKI.log_softmax(-1)
    wanted_NQKW = next_NQW.clamp(max=END - 1)[:, :, None].expand(-1, -1, num_at_once, -1)
    logp_NQKW = logp_NQKI.gather(3, wanted_NQKW)
    slots_K1 = torch.arange(num_at_once, device=next_NQW.device)[:, None]
    distance_KW = (torch.arange(window, device=next_NQW.device) - slots_K1).abs().float()
    nearness_KW = torch.exp(-distance_KW / spread) if spread else (distance_KW == 0).float()
    target_NQKW = nearness_KW * (next_NQW != END)[:, :, None]
    target_NQKW = target_NQKW / target_NQKW.sum(3, keepdim=True).clamp(min=1e-6)
    return -(target_NQKW * logp_NQKW).sum(3)


def _weights(is_listed_NQK: Tensor, kept_N: Tensor) -> Tensor:
    """Return the weight of each slot, adding up to 1: listed ones count, those that decoding asks for more."""
    num_at_once = is_listed_NQK.shape[2]
    fed_Q = torch.arange(is_listed_NQK.shape[1], device=kept_N.device)
    weight_Q = torch.where(fed_Q % num_at_once == 0, num_at_once / 2, 1.0)
    is_asked_NQ = fed_Q <= kept_N[:, None]
    weight_NQK = is_listed_NQK * (weight_Q * is_asked_NQ)[..., None]
    return weight_NQK / weight_NQK.sum()


def _reading_errors(look: Look, lessons: Lessons) -> tuple[Tensor, Tensor]:
    """Compare appeal and errors, as the frame begins, with the truth."""
    # gains are logarithms from 0 to about 12, mostly below 3; appeal is counted around -1..5
    wanted_NI = lessons.gains_NI / 2 - 1
    gain = functional.smooth_l1_loss(look.appeal_NIL[..., 0], wanted_NI, beta=0.5)
    return gain, functional.smooth_l1_loss(look.log_errors_NEH, lessons.log_errors_NEH, beta=1.0)
