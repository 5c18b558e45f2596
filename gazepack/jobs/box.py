"""What waits between two threads, bounded by the bytes it holds rather than by its number of things."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Box(Generic[T]):
    """A queue from one thread to another.

    Args:
        room_bytes: how much may wait; a single thing may be larger.
    """

    def __init__(self, room_bytes: int) -> None:
        self._room_bytes = room_bytes
        self._held_bytes = 0
        self._waiting: deque[tuple[T, int]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, thing: T, num_bytes: int = 0) -> None:
        """Leave something, as soon as there is room; lose it if the box is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room(num_bytes))
            if not self._is_closed:
                self._waiting.append((thing, num_bytes))
                self._held_bytes += num_bytes
                self._changed.notify_all()

    def get(self) -> T:
        """Take what was left first, as soon as there is something."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting))
            thing, num_bytes = self._waiting.popleft()
            self._held_bytes -= num_bytes
            self._changed.notify_all()
        return thing

    def close(self) -> None:
        """Lose all that is put from now on, so that nobody waits for room."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _has_room(self, num_bytes: int) -> bool:
        return not self._waiting or self._held_bytes + num_bytes <= self._room_bytes
