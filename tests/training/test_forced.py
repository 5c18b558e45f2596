"""Training reads the network where decoding does."""

import numpy as np
import pytest
import torch
from torch import nn

from gazepack.autogaze import AutoGazeNetwork
from gazepack.autogaze.config import END
from gazepack.autogaze.pixels import normalise
from gazepack.training.forced import (
    gain_loss,
    hidden_states,
    lay_out,
    next_token_loss,
)
from gazepack.training.labels import Labels, label_clips


@pytest.fixture
def labels(frames_BT3SS: torch.Tensor) -> Labels:
    """Labels of the clips, of some 5 to 40 tokens a frame."""
    return label_clips(frames_BT3SS, min_psnr_B=[27.0, 24.0], max_tokens=24)


def test_answers_are_those_of_the_whole_clip(
    network: AutoGazeNetwork, frames_BT3SS: torch.Tensor, labels: Labels
) -> None:
    """What is read after each step's tokens is what `AutoGazeNetwork.forward` says of the next slots."""
    ids_BTN = torch.from_numpy(labels.ids_BTN)
    room = ids_BTN.shape[2]
    kept_BT1 = torch.from_numpy(labels.kept_BT)[..., None]
    fed_BTN = torch.where(torch.arange(room) < kept_BT1, ids_BTN, END)
    forced = network(normalise(frames_BT3SS), fed_BTN)
    layout = lay_out(labels.kept_BT, room=room)
    hidden = hidden_states(network, frames_BT3SS, ids_BTN, layout)
    logits_QKV, loss_QK = network.gaze_decoder.heads(hidden.answers_QD)
    compared = 0
    for q, (b, t, j) in enumerate(
        zip(layout.clip_Q.tolist(), layout.frame_Q.tolist(), layout.fed_Q.tolist(), strict=True)
    ):
        if j % 10 == 0:
            num = min(10, int(labels.kept_BT[b, t]) - j)
            at = slice(j, j + num)
            torch.testing.assert_close(
                logits_QKV[q, range(num), :], forced.logits[b, t, at], atol=1e-4, rtol=1e-4
            )
            torch.testing.assert_close(
                loss_QK[q, :num], forced.loss_before[b, t, at], atol=1e-4, rtol=1e-4
            )
            compared += num
    assert compared == labels.kept_BT.sum()


def test_the_loss_is_the_mean_over_slots(
    network: AutoGazeNetwork, frames_BT3SS: torch.Tensor, labels: Labels
) -> None:
    """Without spread, the loss is the weighted mean of minus log p of the listed id, slot by slot."""
    layout = lay_out(labels.kept_BT, room=labels.ids_BTN.shape[2])
    ids_BTN = torch.from_numpy(labels.ids_BTN)
    hidden = hidden_states(network, frames_BT3SS, ids_BTN, layout)
    found = next_token_loss(network, hidden.answers_QD, layout, labels, spread=0)
    logits_QKV, loss_QK = network.gaze_decoder.heads(hidden.answers_QD)
    choice = decibel = weights = 0.0
    for q in range(len(logits_QKV)):
        b, t, j = (int(x[q]) for x in (layout.clip_Q, layout.frame_Q, layout.fed_Q))
        listed = [x for x in labels.ids_BTN[b, t].tolist() if x != END]
        for slot, wanted in enumerate(listed[j : j + 10]):
            free = [x for x in range(END) if x not in listed[:j]]
            logp = logits_QKV[q, slot, free].log_softmax(0)[free.index(wanted)]
            weight = 5.0 if j % 10 == 0 else 1.0
            choice -= weight * float(logp.detach())
            apart = float(loss_QK[q, slot].detach()) - labels.loss_BTN[b, t, j + slot]
            decibel += weight * abs(apart)
            weights += weight
    assert float(found.choice) == pytest.approx(choice / weights, rel=1e-4)
    assert float(found.decibel) == pytest.approx(decibel / weights, rel=1e-4)


def test_a_spread_target_is_harder_to_hit_than_it_looks(
    network: AutoGazeNetwork, frames_BT3SS: torch.Tensor, labels: Labels
) -> None:
    """Spreading changes the target of the choices and leaves the predicted losses alone."""
    layout = lay_out(labels.kept_BT, room=labels.ids_BTN.shape[2])
    hidden = hidden_states(network, frames_BT3SS, torch.from_numpy(labels.ids_BTN), layout)
    sharp, wide = (
        next_token_loss(network, hidden.answers_QD, layout, labels, spread=spread)
        for spread in (0.0, 4.0)
    )
    assert float(sharp.choice) != float(wide.choice)
    assert float(sharp.decibel) == float(wide.decibel)


def test_cells_are_asked_for_the_patches_around_them(
    network: AutoGazeNetwork, frames_BT3SS: torch.Tensor, labels: Labels
) -> None:
    """A reader that says nothing is off by the mean square of the scaled gains."""
    layout = lay_out(labels.kept_BT, room=labels.ids_BTN.shape[2])
    hidden = hidden_states(network, frames_BT3SS, torch.from_numpy(labels.ids_BTN), layout)
    mute = nn.Linear(16, 4)
    nn.init.zeros_(mute.weight)
    nn.init.zeros_(mute.bias)
    expected = []
    for cell in range(196):
        row, col = divmod(cell, 14)
        for start, side in ((0, 2), (4, 4), (20, 7), (69, 14)):
            patch = start + (row * side // 14) * side + col * side // 14
            expected.append((labels.gains_BTI[:, :, patch] / 4 - 1) ** 2)
    found = gain_loss(mute, hidden, labels).detach()
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)
