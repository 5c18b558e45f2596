import threading

import pytest
import torch

from gazepack.autogaze.threads import map_single_threaded


def test_each_piece_has_one_thread_and_results_keep_their_order():
    """Work runs away from the caller with one torch thread; the caller's setting is untouched."""
    before = torch.get_num_threads()
    seen = map_single_threaded(
        lambda item: (item, torch.get_num_threads(), threading.current_thread().name), range(5)
    )
    assert [item for item, _, _ in seen] == [0, 1, 2, 3, 4]
    assert {num_threads for _, num_threads, _ in seen} == {1}
    assert all(name.startswith("gaze") for _, _, name in seen)
    assert torch.get_num_threads() == before


def test_nothing_to_do_is_done():
    """No items give no results."""
    assert map_single_threaded(lambda item: item, []) == []


def test_an_error_reaches_the_caller():
    """What one piece raises is raised, and the caller's setting is untouched."""
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError, match="division"):
        map_single_threaded(lambda item: 1 // item, [1, 0])
    assert torch.get_num_threads() == before
