"""Work that is done in a thread beside the caller, one thing after the other, and comes back in order."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Beside(Generic[T, R]):
    """A context that takes things and gives back what came of them.

    Args:
        work: what is done with each.
        ahead: how many may be unfinished while the caller goes on.
    """

    def __init__(self, work: Callable[[T], R], *, ahead: int) -> None:
        self._work = work
        self._ahead = ahead
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside")
        self._pending: deque[Future[R]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def put(self, thing: T) -> None:
        """Take something to work on."""
        self._pending.append(self._thread.submit(self._work, thing))

    def ready(self) -> Iterator[R]:
        """Yield what is finished, the oldest first; wait while too many are not. Raises what `work` raised."""
        while self._pending and (self._pending[0].done() or len(self._pending) > self._ahead):
            yield self._pending.popleft().result()

    def rest(self) -> Iterator[R]:
        """Yield all that was taken and not given back."""
        while self._pending:
            yield self._pending.popleft().result()
