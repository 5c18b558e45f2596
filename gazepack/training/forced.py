"""The network shown what greedy did, asked at every token what comes next.

Decoding asks the heads after the cells of a frame and then after every K tokens. Training asks after
every token: ten times the answers for the same work, since cells are most of a sequence. What decoding
will ask counts more. Clips are laid out without gaps, each as long as it is, so attention needs no mask.

    legend   B clips  T frames  N room for tokens of a frame  C cells (196)  D width
             Q questions  K tokens at once  V vocabulary (266)  W tokens of a list looked at
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gazepack.autogaze.config import CELLS, END
from gazepack.autogaze.network import AutoGazeNetwork, Layer
from gazepack.autogaze.pixels import normalise
from gazepack.geometry import SCALE_OFFSETS, SCALE_SIDES, TILE_SIDE
from gazepack.training.labels import Labels

HUBER_DECIBELS = 3.0
"""Where the loss head's error turns from squared to absolute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything lies in the sequences of a batch, in numbers of rows of a table.

    The table of a clip holds for each frame its C cells and N tokens, frame after frame.
    """

    rows_BS: Tensor
    """int64, the table's rows in the order in which they are fed; row 0 again behind a clip's end."""
    cells_BTC: Tensor
    """int64, the place in the sequence of each cell."""
    clip_Q: Tensor
    """int64, the clip of each question."""
    place_Q: Tensor
    """int64, the place in the sequence where it is asked."""
    frame_Q: Tensor
    """int64, the frame it is about."""
    fed_Q: Tensor
    """int64, how many tokens of the frame were fed by then."""

    def to(self, device: torch.device) -> "Layout":
        """Return it on a device."""
        return Layout(**{x.name: getattr(self, x.name).to(device) for x in fields(self)})


def lay_out(kept_BT: npt.NDArray[np.int64], *, room: int) -> Layout:
    """Lay out clips of which `kept_BT` tokens a frame are fed, in tables with room for N."""
    rows, questions, cells = [], [], []
    for b, kept_T in enumerate(kept_BT.tolist()):
        row: list[npt.NDArray[np.int64]] = []
        place = 0
        for t, kept in enumerate(kept_T):
            row.append(t * (CELLS + room) + np.arange(CELLS + kept))
            cells.append(place + np.arange(CELLS))
            fed = np.arange(kept + 1)
            last_cell = place + CELLS - 1
            questions.append(np.stack((np.full_like(fed, b), last_cell + fed, fed * 0 + t, fed)))
            place += CELLS + kept
        rows.append(np.concatenate(row))
    longest = max(len(row) for row in rows)
    rows_BS = np.stack([np.pad(row, (0, longest - len(row))) for row in rows])
    clip_Q, place_Q, frame_Q, fed_Q = torch.from_numpy(np.concatenate(questions, axis=1))
    return Layout(
        rows_BS=torch.from_numpy(rows_BS),
        cells_BTC=torch.from_numpy(np.stack(cells).reshape(*kept_BT.shape, CELLS)),
        clip_Q=clip_Q,
        place_Q=place_Q,
        frame_Q=frame_Q,
        fed_Q=fed_Q,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """What the network holds."""

    answers_QD: Tensor
    """The last hidden state at each question."""
    cells_BTCD: Tensor
    """What the last layer reads of each cell."""


def hidden_states(
    network: AutoGazeNetwork, frames_BT3SS: Tensor, ids_BTN: Tensor, layout: Layout
) -> Hidden:
    """Show the network whole clips."""
    cells_BTCD = network.cells(normalise(frames_BT3SS))
    tokens_BTND = functional.embedding(ids_BTN, network.gaze_decoder.model.embed_tokens.weight)
    table = torch.cat((cells_BTCD, tokens_BTND.to(cells_BTCD.dtype)), dim=2).flatten(1, 2)
    rows_BS1 = layout.rows_BS[:, :, None]
    x_BSD = table.gather(1, rows_BS1.expand(-1, -1, table.shape[2]))
    positions_BS = torch.arange(x_BSD.shape[1], device=x_BSD.device).expand(len(x_BSD), -1)
    read: list[Tensor] = []
    last_layer = [m for m in network.gaze_decoder.model.modules() if isinstance(m, Layer)][-1]
    hook = last_layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    try:
        hidden_BSD, _ = network.gaze_decoder.model(x_BSD, positions_BS)
    finally:
        hook.remove()
    clip_B11 = torch.arange(len(x_BSD), device=x_BSD.device)[:, None, None]
    return Hidden(
        answers_QD=hidden_BSD[layout.clip_Q, layout.place_Q],
        cells_BTCD=read[0][clip_B11, layout.cells_BTC],
    )


_CELL_ROW, _CELL_COL = np.divmod(np.arange(CELLS), TILE_SIDE)
_PATCHES_OF_CELL = torch.from_numpy(
    np.stack(
        [
            start + (_CELL_ROW * side // TILE_SIDE) * side + _CELL_COL * side // TILE_SIDE
            for start, side in zip(SCALE_OFFSETS, SCALE_SIDES, strict=True)
        ],
        axis=1,
    )
)
"""The patch of each scale that a cell lies in (its upper left corner): C x 4 tile ids."""


def gain_loss(gains: nn.Linear, hidden: Hidden, labels: Labels) -> Tensor:
    """Ask every cell what the patches around it would gain: an answer that choosing needs.

    One linear layer from what the last layer reads; it is thrown away after training. It teaches at
    each of 196 cells what the choices alone teach at a few tokens.

    Args:
        gains: D to 4, one for each scale.
        hidden: of the network.
        labels: greedy's.

    Returns:
        The mean squared error of the logarithms.
    """
    gains_BTI = torch.from_numpy(labels.gains_BTI).to(hidden.cells_BTCD.device)
    wanted_BTC4 = gains_BTI[:, :, _PATCHES_OF_CELL.to(gains_BTI.device)]
    scale_BTC1 = hidden.cells_BTCD.float().square().mean(-1, keepdim=True).add(1e-5).rsqrt()
    said_BTC4: Tensor = gains(hidden.cells_BTCD * scale_BTC1)
    return functional.mse_loss(said_BTC4.float(), wanted_BTC4 / 4 - 1)  # about -1..2


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTokenLoss:
    """How wrong the answers are."""

    total: Tensor
    """What is minimised."""
    choice: Tensor
    """Cross entropy of the choices, in nats."""
    decibel: Tensor
    """Mean absolute error of the predicted loss, in dB."""


def next_token_loss(
    network: AutoGazeNetwork,
    hidden_QD: Tensor,
    layout: Layout,
    labels: Labels,
    *,
    spread: float,
    loss_weight: float = 0.03,
) -> NextTokenLoss:
    """Compare the answers with greedy's list.

    Slot i of a question asked after j tokens is to choose token j + i of the list. Neighbours in the
    list are good answers too, so the target is spread over them: exp(-distance / spread). What was
    chosen before in the frame is masked out, as decoding does.

    Args:
        network: whose heads answer.
        hidden_QD: what `hidden_states` returned.
        layout: the questions.
        labels: greedy's lists.
        spread: of the target over the list, in tokens; 0 for none.
        loss_weight: weight of the loss head's error.
    """
    device = hidden_QD.device
    num_at_once = network.config.decoder.num_multi_token_pred
    ids_QN = torch.from_numpy(labels.ids_BTN).to(device)[layout.clip_Q, layout.frame_Q]
    loss_QN = torch.from_numpy(labels.loss_BTN).to(device)[layout.clip_Q, layout.frame_Q]
    # 1. the W tokens of the list that follow each question
    window = 2 * num_at_once
    ids_QN = functional.pad(ids_QN, (0, window), value=END)
    loss_QN = functional.pad(loss_QN, (0, window))
    at_QW = layout.fed_Q[:, None] + torch.arange(window, device=device)
    next_QW, next_loss_QW = ids_QN.gather(1, at_QW), loss_QN.gather(1, at_QW)
    # 2. log-probabilities, without what was chosen and without the end
    logits_QKV, loss_QK = (part.float() for part in network.gaze_decoder.heads(hidden_QD))
    is_fed_QN = torch.arange(ids_QN.shape[1], device=device) < layout.fed_Q[:, None]
    taken_QV = torch.zeros(len(ids_QN), logits_QKV.shape[2], dtype=torch.bool, device=device)
    taken_QV.scatter_(1, torch.where(is_fed_QN, ids_QN, END), True)
    logp_QKV = logits_QKV.masked_fill(taken_QV[:, None], -1e4).log_softmax(-1)
    logp_QKW = logp_QKV.gather(2, next_QW[:, None].expand(-1, num_at_once, -1))
    # 3. the target
    slots_K1 = torch.arange(num_at_once, device=device)[:, None]
    distance_KW = (torch.arange(window, device=device) - slots_K1).abs().float()
    nearness_KW = torch.exp(-distance_KW / spread) if spread else (distance_KW == 0).float()
    is_listed_QW = next_QW != END
    target_QKW = nearness_KW * is_listed_QW[:, None]
    counts_QK = is_listed_QW[:, :num_at_once].float()  # slots past a list's end teach nothing
    target_QKW = target_QKW / target_QKW.sum(2, keepdim=True).clamp(min=1e-6)
    # 4. means over slots; the questions that decoding asks count more
    is_asked_Q = layout.fed_Q % num_at_once == 0
    weight_QK = counts_QK * torch.where(is_asked_Q, num_at_once / 2, 1.0)[:, None]
    weight_QK = weight_QK / weight_QK.sum()
    choice = -(target_QKW * logp_QKW).sum(2).mul(weight_QK).sum()
    apart_QK = loss_QK - next_loss_QW[:, :num_at_once]
    decibel = (apart_QK.abs() * weight_QK).sum()
    huber_QK = functional.smooth_l1_loss(
        loss_QK, next_loss_QW[:, :num_at_once], reduction="none", beta=HUBER_DECIBELS
    )
    total = choice + loss_weight * (huber_QK * weight_QK).sum()
    return NextTokenLoss(total=total, choice=choice.detach(), decibel=decibel.detach())
