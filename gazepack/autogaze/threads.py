"""Running work so that its floats do not depend on how many threads the machine has.

Matrix libraries divide a product differently among 1, 2 or 16 threads, and the last bit of a sum
follows the division. Here each piece of work runs in one thread from beginning to end, and several pieces run
beside each other. It also spares a busy machine: intra-op threads that wait for one another were
measured 20 times slower when another process used the same cores.

Where there are fewer pieces than threads, a piece may have a second thread: what it does `in_halves` then runs
beside each other. The halves are the same with one thread, so the floats are too.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_own = threading.local()
"""Of a thread that computes a piece: its helper, if there is one."""


def map_single_threaded(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return `work(item)` of each item in order, each computed within one thread, or two `in_halves`.

    As many run at once as torch may use threads (`torch.get_num_threads`).
    """
    items = list(items)
    num_threads = torch.get_num_threads()
    num_helpers = len(items) if num_threads >= 2 * len(items) else 0
    helpers = [
        ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="gaze-half",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )
        for _ in range(num_helpers)
    ]
    unused = list(helpers)

    def begin() -> None:
        torch.set_num_threads(1)
        _own.helper = unused.pop() if unused else None

    try:
        with ThreadPoolExecutor(
            max_workers=max(1, min(num_threads, len(items))),
            thread_name_prefix="gaze",
            initializer=begin,
        ) as pool:
            return list(pool.map(work, items))
    finally:
        for helper in helpers:
            helper.shutdown()
        # the setting belongs to a thread, but is also the default of threads born later
        torch.set_num_threads(num_threads)


def in_halves(work: Callable[[int], None]) -> None:
    """Do `work(0)` and `work(1)`: beside each other if there is a thread to spare, else in turn.

    Neither may need what the other does.
    """
    helper: ThreadPoolExecutor | None = getattr(_own, "helper", None)
    if helper is None:
        work(0)
        work(1)
        return
    is_inference = torch.is_inference_mode_enabled()

    def there() -> None:
        with torch.inference_mode(is_inference):
            work(1)

    other = helper.submit(there)
    try:
        work(0)
    finally:
        other.result()
