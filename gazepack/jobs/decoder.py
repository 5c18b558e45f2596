"""What a decoder process does: take a segment, send its clips, again and again.

It runs forked from the nursery, under a limit of memory, and may die at any moment; the worker notices and goes
on. It keeps count of its own decoding time, in which waiting for a busy worker is not included.
"""

import ctypes
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from gazepack.errors import UsageError, VideoError
from gazepack.formats.remote import without_secrets
from gazepack.jobs.clips import Item, Measured, SegmentEnd, clips_of_segment, measure_segment
from gazepack.jobs.frames import FrameSettings
from gazepack.jobs.segment import Segment
from gazepack.jobs.wire import receive_json, send_item, send_json
from gazepack.video import hardware

_PR_SET_PDEATHSIG = 1

T = TypeVar("T")

Task = Callable[[int, Segment, FrameSettings], Iterator[Item | Measured]]


def tasks(device: str) -> dict[str, Task]:
    """Return what may be asked of a decoder."""
    return {"clips": partial(clips_of_segment, device=device), "measure": measure_segment}


def serve(connection: Connection, *, parent: int) -> None:
    """Decode what is asked for until the worker hangs up.

    Args:
        connection: to the worker. The first message is the settings, every other a segment and its task.
        parent: process id of the nursery; this process ends with it.
    """
    _end_with(parent)
    try:
        hello = receive_json(connection)
        # an open device keeps its address space, which for CUDA is larger than any limit of ours
        _opened = _device(hello["device"])
        _limit_memory(hello["memory_bytes"])
        known = tasks(hello["device"])
        settings = FrameSettings.model_validate(hello["settings"])
        while True:
            request = receive_json(connection)
            position, segment = request["position"], Segment.from_row(request["segment"])
            items = known[request["task"]](position, segment, settings)
            end = _do(connection, position, segment, items, hello["timeout_seconds"])
            send_item(connection, end)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception:
        bug = without_secrets(traceback.format_exc())
        send_json(connection, {"kind": "bug", "traceback": bug})


def _do(
    connection: Connection,
    position: int,
    segment: Segment,
    items: Iterator[Item | Measured],
    timeout_seconds: float | None,
) -> SegmentEnd:
    """Send all of a segment but its end, which is returned."""
    try:
        for item in within(items, timeout_seconds, uri=segment.shown_uri):
            send_item(connection, item)
    except VideoError as error:
        return SegmentEnd(segment=position, error=shown(error))
    except MemoryError:
        too_large = VideoError(
            f"{segment.shown_uri}: it needs more memory than a video may have",
            stage="decode",
            remedy="raise --video-memory or scale the video down",
        )
        return SegmentEnd(segment=position, error=too_large)
    return SegmentEnd(segment=position)


def shown(error: VideoError) -> VideoError:
    """Return an error without the passwords and signatures that storage clients put into their messages."""
    problem = without_secrets(error.problem)
    return VideoError(problem, stage=error.stage, remedy=error.remedy)


def within(items: Iterable[T], seconds: float | None, *, uri: str) -> Iterator[T]:
    """Yield `items` as long as making them has not taken longer than allowed; the consumer's time is free.

    Raises:
        VideoError: it has.
    """
    used, since = 0.0, time.monotonic()
    for item in items:
        used += time.monotonic() - since
        if seconds is not None and used > seconds:
            raise too_slow(uri, seconds)
        yield item
        since = time.monotonic()


def too_slow(uri: str, seconds: float) -> VideoError:
    """Return the error of a video that was given up."""
    return VideoError(
        f"{uri}: not decoded within {seconds:g} s",
        stage="decode",
        remedy="raise --video-timeout or split the video",
    )


def _device(name: str) -> object:
    """Return an open decode device, if it is one and can be opened; if it cannot, its videos will say so."""
    if name == hardware.CPU:
        return None
    with suppress(UsageError):
        return hardware.open_device(name)
    return None


def _limit_memory(num_bytes: int | None) -> None:
    """Allow this process so much address space beyond what it has, and no core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if num_bytes is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + num_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, even in the middle of a decoder's loop."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
