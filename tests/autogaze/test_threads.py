import threading

import pytest
import torch

from gazepack.autogaze.threads import in_halves, map_single_threaded


def halves(fails: int | None = None) -> list[tuple[int, str, bool]]:
    """Do two halves; return which, in which thread, and whether gradients were left out."""
    seen: list[tuple[int, str, bool]] = []

    def work(half: int) -> None:
        if half == fails:
            raise ZeroDivisionError(half)
        assert torch.get_num_threads() == 1
        seen.append((half, threading.current_thread().name, torch.is_inference_mode_enabled()))

    with torch.inference_mode():
        in_halves(work)
    return seen


@pytest.mark.parametrize(
    ("num_threads", "num_items", "are_beside"),
    [(1, 1, False), (2, 1, True), (2, 2, False), (3, 2, False), (4, 2, True)],
)
def test_halves_run_beside_each_other_where_a_thread_is_to_spare(
    num_threads, num_items, are_beside
):
    """Each piece has a helper if there are two threads for each; both halves leave gradients out."""
    torch.set_num_threads(num_threads)
    for seen in map_single_threaded(lambda _: halves(), range(num_items)):
        assert sorted(half for half, _, _ in seen) == [0, 1]
        assert len({name for _, name, _ in seen}) == 1 + are_beside
        assert all(is_inference for _, _, is_inference in seen)


def test_without_a_pool_halves_run_in_turn():
    """Called from anywhere, the first half is done before the second."""
    assert [half for half, _, _ in halves()] == [0, 1]


@pytest.mark.parametrize("fails", [0, 1])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_an_error_in_a_half_reaches_the_caller(num_threads, fails):
    """Whichever half it was, when both are over."""
    torch.set_num_threads(num_threads)
    with pytest.raises(ZeroDivisionError, match=str(fails)):
        map_single_threaded(lambda _: halves(fails), [0])


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
