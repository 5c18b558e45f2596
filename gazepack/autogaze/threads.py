"""Running work so that its floats do not depend on how many threads the machine has.

Matrix libraries divide a product differently among 1, 2 or 16 threads, and the last bit of a sum
follows the division. Here each piece of work runs in one thread from beginning to end, and several pieces run
beside each other. It also spares a busy machine: intra-op threads that wait for one another were
measured 20 times slower when another process used the same cores. It gives up the latency of a single
piece, which no longer gets faster with cores.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_single_threaded(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return `work(item)` of each item in order, each computed within one thread.

    As many run at once as torch may use threads (`torch.get_num_threads`).
    """
    items = list(items)
    num_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            max_workers=max(1, min(num_threads, len(items))),
            thread_name_prefix="gaze",
            initializer=torch.set_num_threads,
            initargs=(1,),
        ) as pool:
            return list(pool.map(work, items))
    finally:
        # the setting belongs to a thread, but is also the default of threads born later
        torch.set_num_threads(num_threads)
