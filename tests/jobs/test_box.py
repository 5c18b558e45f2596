"""What waits between two threads."""

import threading

import pytest

from gazepack.jobs.box import Box

SECONDS = 60.0


def beside(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_things_come_in_order() -> None:
    """What was left first is taken first."""
    box: Box[str] = Box(10)
    for thing in "abc":
        box.put(thing, 3)
    assert len(box) == 3
    assert [box.get() for _ in range(3)] == ["a", "b", "c"]


@pytest.mark.parametrize("size", [2, 100])
def test_one_too_many_waits_for_room(size: int) -> None:
    """Bytes are what is bounded; a thing that is larger than the box waits until it is alone."""
    box: Box[str] = Box(10)
    box.put("first", 9)
    put = threading.Event()
    beside(lambda: (box.put("second", size), put.set()))
    assert not put.wait(0.05)
    assert box.get() == "first"
    assert put.wait(SECONDS)
    assert box.get() == "second"


def test_things_without_bytes_always_have_room() -> None:
    """News of a few words never wait behind frames."""
    box: Box[str] = Box(10)
    box.put("frames", 10)
    box.put("the end")
    assert len(box) == 2


def test_a_closed_box_keeps_nobody_waiting() -> None:
    """Whoever waits for room goes on, and what was put is lost."""
    box: Box[str] = Box(10)
    box.put("first", 10)
    thread = beside(lambda: box.put("second", 10))
    box.close()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert len(box) == 1
