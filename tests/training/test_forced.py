"""Training asks the network what decoding asks, and more."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gazepack.autogaze import CanvasNetwork
from gazepack.autogaze.config import END
from gazepack.training.forced import Lessons, lesson_loss, prefixes
from gazepack.training.labels import Labels, label_clips

CPU = torch.device("cpu")


@pytest.fixture
def labels(frames_BT3SS: torch.Tensor) -> Labels:
    """Labels of the clips, of some 5 to 20 tokens a frame."""
    return label_clips(frames_BT3SS, min_psnr_B=[27.0, 20.0], max_tokens=14, beyond=7)


@pytest.fixture
def lessons(frames_BT3SS: torch.Tensor, labels: Labels) -> Lessons:
    """A lesson of each of the six frames."""
    return Lessons.of(frames_BT3SS, labels, device=CPU)


def huber(x: float, beta: float) -> float:
    """Half the square near zero, the distance less a constant beyond."""
    return 0.5 * x * x / beta if abs(x) < beta else abs(x) - 0.5 * beta


def test_a_lesson_is_a_frame(lessons: Lessons, frames_BT3SS: torch.Tensor, labels: Labels) -> None:
    """Frames follow clip by clip, each beside its canvas, list and truth."""
    for b in range(2):
        for t in range(3):
            n = 3 * b + t
            assert torch.equal(lessons.frames_N3SS[n], frames_BT3SS[b, t])
            assert torch.equal(lessons.canvas_N3SS[n], labels.canvas_BT3SS[b, t])
            assert int(lessons.kept_N[n]) == labels.kept_BT[b, t]
            for found, expected in (
                (lessons.ids_NW, labels.ids_BTN),
                (lessons.loss_NW, labels.loss_BTN),
                (lessons.gains_NI, labels.gains_BTI),
                (lessons.log_errors_NEH, labels.log_errors_BTEH),
            ):
                np.testing.assert_array_equal(found[n].numpy(), expected[b, t])


def test_prefixes_are_what_was_painted() -> None:
    """Before the first token nothing is; each token stays; the end paints nothing."""
    found = prefixes(torch.tensor([[7, 0, END], [264, 7, 3]]))
    expected = [[[], [7], [0, 7], [0, 7]], [[], [264], [7, 264], [3, 7, 264]]]
    assert found.shape == (2, 4, 266)
    for n in range(2):
        for p in range(4):
            assert found[n, p].nonzero()[:, 0].tolist() == expected[n][p]


@pytest.mark.parametrize("spread", [0.0, 2.5])
def test_the_loss_is_what_it_says(network: CanvasNetwork, lessons: Lessons, spread: float) -> None:
    """Lesson by lesson, question by question, slot by slot, it is the weighted mean of the errors."""
    with torch.no_grad():
        found = lesson_loss(network, lessons, spread=spread)
        look = network.look(lessons.frames_N3SS, lessons.canvas_N3SS)
        asked = int(lessons.kept_N.max())
        corrections, loss_corrections = network(look, lessons.ids_NW[:, :asked])
        choice = decibel = hubers = weights = 0.0
        for n in range(len(lessons.ids_NW)):
            listed = [x for x in lessons.ids_NW[n].tolist() if x != END]
            one = look.rows(torch.tensor([n]))
            appeals, shown = [], []
            for j in range(len(listed)):
                taken_1V = torch.zeros(1, 266, dtype=torch.bool)
                taken_1V[0, listed[:j]] = True
                appeals.append(network.appeal(one, taken_1V)[0])
                shown.append(float(network.loss_shown(one, taken_1V)[0]))
            for j in range(int(lessons.kept_N[n]) + 1):
                free = [x for x in range(END) if x not in listed[:j]]
                ahead = listed[j : j + 20]
                for slot in range(min(10, len(listed) - j)):
                    logits = corrections[n, j, slot, :END] + appeals[j + slot]
                    logp = dict(zip(free, logits[free].log_softmax(0).tolist(), strict=True))
                    near = [
                        math.exp(-abs(w - slot) / spread) if spread else float(w == slot)
                        for w in range(len(ahead))
                    ]
                    said = shown[j + slot] + float(loss_corrections[n, j, slot])
                    apart = said - float(lessons.loss_NW[n, j + slot])
                    weight = 5.0 if j % 10 == 0 else 1.0
                    cross = sum(p * logp[x] for p, x in zip(near, ahead, strict=True))
                    choice -= weight * cross / sum(near)
                    decibel += weight * abs(apart)
                    hubers += weight * huber(apart, 1.0) * (8.0 if apart < 0 else 1.0)
                    weights += weight
    gains = (look.appeal_NIL[..., 0] - (lessons.gains_NI / 2 - 1)).flatten().tolist()
    errors = (look.log_errors_NEH - lessons.log_errors_NEH).flatten().tolist()
    gain, error = np.mean([huber(x, 0.5) for x in gains]), np.mean([huber(x, 1.0) for x in errors])
    assert float(found.choice) == pytest.approx(choice / weights, rel=1e-4)
    assert float(found.decibel) == pytest.approx(decibel / weights, rel=1e-4)
    assert float(found.gain) == pytest.approx(gain, rel=1e-4)
    assert float(found.error) == pytest.approx(error, rel=1e-4)
    total = (choice + 0.1 * hubers) / weights + gain + 0.3 * error
    assert float(found.total) == pytest.approx(total, rel=1e-4)
    assert found.numbers().keys() == {"choice", "decibel", "gain", "error"}


def test_the_truth_teaches_nothing_about_readings(network: CanvasNetwork, lessons: Lessons) -> None:
    """A network told its own readings as the truth is not corrected by them."""
    with torch.no_grad():
        look = network.look(lessons.frames_N3SS, lessons.canvas_N3SS)
        gains_NI = 2 * (look.appeal_NIL[..., 0] + 1)
        known = replace(lessons, gains_NI=gains_NI, log_errors_NEH=look.log_errors_NEH)
        found = lesson_loss(network, known, spread=1.0)
    assert float(found.gain) == pytest.approx(0, abs=1e-9)
    assert float(found.error) == pytest.approx(0, abs=1e-9)
    assert float(found.choice) > 1


def test_what_lies_behind_a_list_does_not_count(network: CanvasNetwork, lessons: Lessons) -> None:
    """More room behind the lists changes nothing."""
    wider = replace(
        lessons,
        ids_NW=torch.nn.functional.pad(lessons.ids_NW, (0, 9), value=END),
        loss_NW=torch.nn.functional.pad(lessons.loss_NW, (0, 9), value=-3.0),
    )
    with torch.no_grad():
        a, b = (lesson_loss(network, x, spread=1.0) for x in (lessons, wider))
    assert float(a.total) == pytest.approx(float(b.total), rel=1e-6)


def test_every_weight_learns(network: CanvasNetwork, lessons: Lessons) -> None:
    """No weight is left without a gradient."""
    lesson_loss(network, lessons, spread=1.0).total.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name
