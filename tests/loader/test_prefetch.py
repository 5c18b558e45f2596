"""Threads that work ahead."""

import threading
import time
from collections.abc import Iterator

import pytest

from gazepack.loader.prefetch import prefetched


@pytest.mark.parametrize("num_threads", [0, 1, 4])
def test_results_come_in_order(num_threads: int) -> None:
    """Whatever takes longest, results are those of a plain loop."""

    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(prefetched(slow_at_first, range(20), num_threads=num_threads)) == [
        item * item for item in range(20)
    ]


@pytest.mark.parametrize(("num_threads", "ahead"), [(0, 0), (1, 1), (3, 3)])
def test_the_number_in_flight_is_bounded(num_threads: int, ahead: int) -> None:
    """Items are taken at most as far ahead as there are threads, however slow the consumer."""
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(50):
            taken += 1
            yield item

    for given, _ in enumerate(prefetched(lambda item: item, items(), num_threads=num_threads)):
        assert taken <= given + 1 + ahead
    assert taken == 50


def test_an_error_comes_where_its_result_would() -> None:
    """What was before it is given out, and the threads end."""
    results = prefetched(lambda item: 6 // item, [3, 2, 0, 1], num_threads=2)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not [t for t in threading.enumerate() if t.name.startswith("gazepack-loader")]


def test_leaving_early_ends_the_threads() -> None:
    """A loop that is left waits for what is being done and leaves the rest undone."""
    done: list[int] = []
    results = prefetched(done.append, range(1000), num_threads=2)
    next(results)
    results.close()  # type: ignore[attr-defined]  # a generator
    assert len(done) <= 4
    assert not [t for t in threading.enumerate() if t.name.startswith("gazepack-loader")]
