"""Batches depend on their step alone."""

from itertools import islice

import numpy as np

from gazepack.training.batches import BatchMaker, BatchSettings, batches
from gazepack.training.clips import Video

SETTINGS = BatchSettings(frames_per_batch=4, lengths=(1, 2), max_tokens=12)


def test_batches_do_not_depend_on_what_came_before(videos: list[Video]) -> None:
    """A maker that starts at step 9 makes the batch that one gives that came through 8 and 9."""
    through, fresh = BatchMaker(videos, SETTINGS), BatchMaker(videos, SETTINGS)
    through(7)
    through(8)
    a, b = through(9), fresh(9)
    np.testing.assert_array_equal(a.frames_BT3SS, b.frames_BT3SS)
    np.testing.assert_array_equal(a.labels.ids_BTN, b.labels.ids_BTN)
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
    ahead.close()
