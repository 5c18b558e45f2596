"""Threads that work ahead: results in order, a bounded number of them in flight.

Reading waits for storage, and decoding, checksums and copies leave the interpreter to others, so a
few threads overlap them without the processes, the pickling and the shared memory of `DataLoader`
workers. What it gives up: Python's own work still takes turns, so beyond about four threads a core
nothing is gained but patience with slow storage.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetched(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in their order.

    Args:
        function: called in a thread; its error is raised where its result would have been given.
        items: taken one by one, at most `num_threads` ahead of what was given out.
        num_threads: 0 calls the function when its result is asked for, in the caller's thread.
    """
    if not num_threads:
        for item in items:
            yield function(item)
        return
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="gazepack-loader")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
