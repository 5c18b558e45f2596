"""Greedy's labels are greedy's choices, with the true loss before each."""

import numpy as np
import pytest
import torch

from gazepack.autogaze.config import END
from gazepack.geometry import Grid
from gazepack.patches import cut, paint, psnr, pyramid
from gazepack.selectors import ClipBatch, Greedy, Selection, choose
from gazepack.training.labels import label_clips, negative_psnr


def greedy(frames_T3SS: torch.Tensor, min_psnr: float) -> Selection:
    """Choose with the selector that packs."""
    clips = ClipBatch(
        frames_BT3HW=frames_T3SS[None],
        num_frames=(len(frames_T3SS),),
        names=("clip",),
        grid=Grid(rows=1, cols=1),
    )
    return choose(Greedy(), clips, min_psnr=min_psnr)[0]


def painted(canvas_13SS: torch.Tensor, frame_13SS: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Return the canvas after some ids of a frame."""
    places = Grid(rows=1, cols=1).places(np.asarray(ids, dtype=np.int64))
    scale, row, col = (torch.from_numpy(x) for x in places)
    at = {"frame": torch.zeros_like(scale), "scale": scale, "row": row, "col": col}
    after_13SS = canvas_13SS.clone()
    paint(after_13SS, cut(pyramid(frame_13SS), **at, patch_size=16), **at)
    return after_13SS


def test_labels_are_what_the_selector_chooses(frames_BT3SS: torch.Tensor) -> None:
    """Clips labelled together at bounds of their own get the selector's ids and losses, in its order."""
    bounds = [26.0, 24.0]
    labels = label_clips(frames_BT3SS, min_psnr_B=bounds, beyond=0)
    for b, bound in enumerate(bounds):
        expected = greedy(frames_BT3SS[b], bound)
        ids = Grid(rows=1, cols=1).ids(
            *(x.astype(np.int64) for x in (expected.scale, expected.row, expected.col))
        )
        assert expected.tokens_T.min() >= 1
        assert labels.kept_BT[b].tolist() == expected.tokens_T.tolist()
        found = [labels.ids_BTN[b, t, :n] for t, n in enumerate(labels.kept_BT[b])]
        np.testing.assert_array_equal(np.concatenate(found), ids)
        losses = [labels.loss_BTN[b, t, :n] for t, n in enumerate(labels.kept_BT[b])]
        np.testing.assert_allclose(np.concatenate(losses), expected.loss, rtol=1e-6)


def test_a_list_goes_on_beyond_the_bound(frames_BT3SS: torch.Tensor) -> None:
    """Ids beyond the bound are those that a tighter bound would take; they are not painted."""
    loose = label_clips(frames_BT3SS[:1], min_psnr_B=[20.0], beyond=7)
    tight = label_clips(frames_BT3SS[:1], min_psnr_B=[30.0], beyond=0)
    kept = int(loose.kept_BT[0, 0])
    assert loose.kept_BT[0, 0] < tight.kept_BT[0, 0]
    np.testing.assert_array_equal(loose.ids_BTN[0, 0, : kept + 7], tight.ids_BTN[0, 0, : kept + 7])
    assert (loose.ids_BTN[0, 0] != END).sum() == kept + 7
    assert loose.loss_BTN[0, 0, kept] <= -20 < loose.loss_BTN[0, 0, kept - 1]


def test_a_repeated_frame_takes_one_token(frames_BT3SS: torch.Tensor) -> None:
    """A frame that is met already by its predecessor's canvas has one token, as gazing gives it."""
    twice = frames_BT3SS[:1, [0, 0]]
    assert label_clips(twice, min_psnr_B=[24.0]).kept_BT[0, 1] == 1


def test_no_more_than_asked(frames_BT3SS: torch.Tensor) -> None:
    """A frame that cannot meet its bound within `max_tokens` takes that many."""
    labels = label_clips(frames_BT3SS[1:], min_psnr_B=[40.0], max_tokens=5, beyond=3)
    assert labels.kept_BT.tolist() == [[5, 5, 5]]
    assert ((labels.ids_BTN != END).sum(2) == 8).all()


def test_gains_are_those_of_a_first_choice(frames_BT3SS: torch.Tensor) -> None:
    """The first id of a frame has the largest gain."""
    labels = label_clips(frames_BT3SS, min_psnr_B=[26.0, 26.0])
    np.testing.assert_array_equal(labels.gains_BTI.argmax(2), labels.ids_BTN[:, :, 0])
    assert labels.gains_BTI.min() == 0


def test_gains_are_counted_in_patches_at_30_db(frames_BT3SS: torch.Tensor) -> None:
    """A gain is how much the squared error falls when that patch alone is painted, on a logarithm."""
    labels = label_clips(frames_BT3SS[:1, :2], min_psnr_B=[24.0])
    frame_13SS = frames_BT3SS[:1, 1]
    unit = 255.0**2 * 3 * 16 * 16 * 10**-3
    for tile_id in (0, 3, 4, 19, 20, 44, 69, 140, 264):
        after_13SS = painted(labels.canvas_BT3SS[:, 1], frame_13SS, [tile_id])
        before, after = (
            float((frame_13SS.double() - x.double()).square().sum())
            for x in (labels.canvas_BT3SS[:, 1], after_13SS)
        )
        expected = np.log2(1 + max(0.0, before - after) / unit)
        assert labels.gains_BTI[0, 1, tile_id] == pytest.approx(expected, abs=1e-4)


def test_errors_are_those_of_half_patches(frames_BT3SS: torch.Tensor) -> None:
    """Of the canvas, and of each scale painted all over, half patch by half patch, down to 60 dB."""
    labels = label_clips(frames_BT3SS[:, :2], min_psnr_B=[24.0, 24.0])
    for b in range(2):
        frame_13SS = frames_BT3SS[b : b + 1, 1]
        shown = [labels.canvas_BT3SS[b : b + 1, 1]]
        for first, end in ((0, 4), (4, 20), (20, 69), (69, 265)):
            shown.append(painted(shown[0], frame_13SS, list(range(first, end))))
        for e, shown_13SS in enumerate(shown):
            apart = (frame_13SS.double() - shown_13SS.double())[0].numpy() / 255
            for half in (0, 13, 29, 400, 783):
                y, x = divmod(half, 28)
                here = apart[:, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
                expected = np.log2(max(1e-6, (here**2).mean()))
                assert labels.log_errors_BTEH[b, 1, e, half] == pytest.approx(expected, abs=1e-4)


def test_each_frame_sees_what_was_painted_before(frames_BT3SS: torch.Tensor) -> None:
    """The canvas is grey, then what the ids that meet the bound have painted; those beyond have not."""
    labels = label_clips(frames_BT3SS, min_psnr_B=[26.0, 24.0], max_tokens=9, beyond=5)
    for b in range(2):
        canvas_13SS = torch.full_like(frames_BT3SS[b : b + 1, 0], 128)
        for t in range(3):
            assert torch.equal(labels.canvas_BT3SS[b, t], canvas_13SS[0])
            ids = labels.ids_BTN[b, t, : labels.kept_BT[b, t]].tolist()
            canvas_13SS = painted(canvas_13SS, frames_BT3SS[b : b + 1, t], ids)


def test_negative_psnr() -> None:
    """The loss is minus the PSNR, and ends at -100 dB."""
    squares = [0.0, 1e4, 1e9]
    expected = [-psnr(x, 3 * 224 * 224) for x in squares]
    np.testing.assert_allclose(negative_psnr(squares, 3 * 224 * 224), expected, rtol=1e-6)
