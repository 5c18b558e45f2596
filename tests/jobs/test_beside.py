"""Work beside the caller."""

import threading

import pytest

from gazepack.jobs.beside import Beside


def test_results_come_in_order() -> None:
    """All things come back once, those that are ready early too."""
    with Beside(str, ahead=2) as beside:
        back = []
        for number in range(9):
            beside.put(number)
            back += list(beside.ready())
        back += list(beside.rest())
    assert back == list("012345678")


def test_a_few_may_wait_and_no_more() -> None:
    """The caller goes on while `ahead` things are unfinished, and waits for the oldest beyond that."""
    gate = threading.Semaphore(0)

    def work(number: int) -> int:
        assert gate.acquire(timeout=60)
        return number

    with Beside(work, ahead=2) as beside:
        for number in range(2):
            beside.put(number)
            assert list(beside.ready()) == []
        beside.put(2)
        gate.release()
        assert next(beside.ready()) == 0
        gate.release(2)
        assert list(beside.rest()) == [1, 2]


def test_an_error_is_raised_where_the_result_is_wanted() -> None:
    """It does not vanish in the thread."""
    with Beside(int, ahead=2) as beside:
        beside.put("1")
        beside.put("one")
        rest = beside.rest()
        assert next(rest) == 1
        with pytest.raises(ValueError, match="'one'"):
            next(rest)
