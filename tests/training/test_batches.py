"""Batches depend on their step alone."""

from itertools import islice

import numpy as np
import torch

from gazepack.training.batches import BatchMaker, BatchSettings, batches
from gazepack.training.clips import Video
from gazepack.training.labels import label_clips

SETTINGS = BatchSettings(frames_per_batch=4, lengths=(1, 2), max_tokens=12)


def test_batches_do_not_depend_on_what_came_before(videos: list[Video]) -> None:
    """A maker that starts at step 9 makes the batch that one gives that came through 8 and 9."""
    through, fresh = BatchMaker(videos, SETTINGS), BatchMaker(videos, SETTINGS)
    through(7)
    through(8)
    a, b = through(9), fresh(9)
    np.testing.assert_array_equal(a.frames_BT3SS, b.frames_BT3SS)
    np.testing.assert_array_equal(a.labels.ids_BTN, b.labels.ids_BTN)
    np.testing.assert_array_equal(a.labels.canvas_BT3SS, b.labels.canvas_BT3SS)
    np.testing.assert_array_equal(a.min_psnr_B, b.min_psnr_B)
    assert a.frames_BT3SS.shape[0] * a.frames_BT3SS.shape[1] == 4
    assert (a.frames_BT3SS.shape != (other := fresh(10)).frames_BT3SS.shape) or (
        a.frames_BT3SS != other.frames_BT3SS
    ).any()


def test_batches_made_ahead_are_the_same(videos: list[Video]) -> None:
    """Another process makes the batches that this one makes, in order."""
    ahead = batches(videos, SETTINGS, first_step=3, num_workers=1)
    here = batches(videos, SETTINGS, first_step=3, num_workers=0)
    for a, b in islice(zip(ahead, here, strict=True), 3):
        np.testing.assert_array_equal(a.frames_BT3SS, b.frames_BT3SS)
        np.testing.assert_array_equal(a.labels.loss_BTN, b.labels.loss_BTN)
        np.testing.assert_array_equal(a.labels.log_errors_BTEH, b.labels.log_errors_BTEH)
        np.testing.assert_array_equal(a.labels.canvas_BT3SS, b.labels.canvas_BT3SS)
    ahead.close()


def test_labels_are_those_of_the_bound_that_was_drawn(videos: list[Video]) -> None:
    """Each clip is labelled at its own bound, within the range."""
    batch = BatchMaker(videos, SETTINGS)(5)
    low, high = SETTINGS.min_psnr_range
    assert ((low <= batch.min_psnr_B) & (batch.min_psnr_B <= high)).all()
    again = label_clips(
        torch.from_numpy(batch.frames_BT3SS),
        min_psnr_B=batch.min_psnr_B.tolist(),
        max_tokens=SETTINGS.max_tokens,
    )
    np.testing.assert_array_equal(batch.labels.ids_BTN, again.ids_BTN)
    np.testing.assert_array_equal(batch.labels.kept_BT, again.kept_BT)
    assert batch.labels.kept_BT.max() <= SETTINGS.max_tokens
