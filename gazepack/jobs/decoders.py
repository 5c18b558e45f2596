"""A worker's decoders: several processes that decode the segments of a unit, watched and replaced.

What a video can do is kill or hang the one decoder that reads it. Then this decoder is ended, the segment is
tried again in a new one, and after `attempts` tries it is given back with an error; the segments beside it
notice nothing. What a segment gives does not depend on the decoder it ran in nor on what came before it, so the
output is the same as if nothing had happened.
"""

import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

from gazepack.errors import VideoError
from gazepack.jobs.box import Box
from gazepack.jobs.clips import Clip, Item, Measured, SegmentEnd
from gazepack.jobs.decoder import too_slow
from gazepack.jobs.frames import FrameSettings
from gazepack.jobs.nursery import Born, Nursery, NurseryError
from gazepack.jobs.segment import Segment
from gazepack.jobs.wire import receive_item, send_json
from gazepack.video import Cut
from gazepack.video.hardware import CPU

GRACE_SECONDS = 2.0
"""How much longer than allowed a decoder may be silent, since it keeps its own clock too."""
SEGMENTS_EACH = 64
"""Segments after which a decoder is replaced: decoders leak (PyAV#1117, decord#208)."""
SEGMENTS_AHEAD = 4
"""Segments for each decoder that may be begun beyond the oldest unfinished one, whose samples come first."""
TICK_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSettings:
    """What decides how long a video is tried, and nothing of the output of a good one."""

    num: int = 1
    """Decoders side by side."""
    timeout_seconds: float | None = 600.0
    """How long the decoding of one video may take."""
    memory_bytes: int | None = 4 * 2**30
    """How much memory the decoding of one video may take beyond what an idle decoder has."""
    attempts: int = 2
    """How often a video is tried before it is given up."""
    device: str = CPU
    """Where videos are decoded that can be decoded exactly there; the others are decoded by the CPU."""
    ahead_bytes: int = 2**28
    """Decoded frames that may wait for a busy worker: the next batches of tiles, while it chooses for one."""


@dataclass(slots=True, kw_only=True)
class _Decoder:
    """A process, and the segment that it is at."""

    born: Born
    left: int = SEGMENTS_EACH
    position: int | None = None
    """Of its segment; None when it is idle."""
    heard: float = 0.0
    """When it last said something, on the monotonic clock."""


class Decoders:
    """A context that decodes unit after unit; one unit at a time.

    Args:
        settings: how to sample and fit.
        how: how many decoders, and how long they try.
        nursery: where decoders come from; an own one if `None`. One that is given is left alive at the end,
            and its decoders have the environment that it was started in.
    """

    def __init__(
        self, settings: FrameSettings, how: DecoderSettings, *, nursery: Nursery | None = None
    ) -> None:
        self.how = how
        self._hello = {
            "settings": settings.model_dump(mode="json", include=set(FrameSettings.model_fields)),
            "timeout_seconds": how.timeout_seconds,
            "memory_bytes": how.memory_bytes,
            "device": how.device,
        }
        self._nursery = nursery
        self._given = nursery
        self._idle: list[_Decoder] = []
        self._box: Box[Any] = Box(0)

    @property
    def num_ready(self) -> int:
        """Items that have been decoded and wait to be taken."""
        return len(self._box)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def items(self, segments: Sequence[Segment]) -> Generator[Item]:
        """Yield for each segment its start, the clips of all its views, and its end.

        Segments are begun in their order and their items come interleaved, those of one segment in order. A
        segment that is tried again starts again, which voids what came of it before. Closing this iterator
        ends the decoders at work.

        Raises:
            DecoderBugError: a decoder met a bug of ours.
        """
        box: Box[Item | Measured | BaseException | None] = Box(self.how.ahead_bytes)
        self._box = box
        stopped = threading.Event()

        def watch() -> None:
            try:
                for item in _Round(self, segments, stopped, task="clips").items():
                    box.put(item, item.frames_THW3.nbytes if isinstance(item, Clip) else 0)
                box.put(None)
            except BaseException as error:
                box.put(error)

        thread = threading.Thread(target=watch, name="gazepack-decoders", daemon=True)
        thread.start()
        try:
            while (entry := box.get()) is not None:
                if isinstance(entry, BaseException):
                    raise entry
                assert not isinstance(entry, Measured)
                yield entry
        finally:
            stopped.set()
            box.close()
            thread.join()

    def measured(self, segments: Sequence[Segment]) -> Iterator[tuple[int, Cut]]:
        """Yield the position of each segment that could be looked into, and what was found, as they come.

        Raises:
            DecoderBugError: a decoder met a bug of ours.
        """
        for item in _Round(self, segments, threading.Event(), task="measure").items():
            if isinstance(item, Measured):
                yield item.segment, item.cut

    def warm_up(self) -> None:
        """Have one decoder ready, so that the first video does not wait for its start."""
        self._idle.append(self.take())

    def take(self) -> _Decoder:
        """Return an idle decoder, or a new one."""
        while self._idle:
            decoder = self._idle.pop()
            if not decoder.born.connection.poll():
                return decoder
            decoder.born.end()  # it has nothing to say but that it died
        for _ in range(3):  # the nursery may have been killed; a new one is as good
            try:
                self._nursery = self._nursery or Nursery()
                born = self._nursery.fork()
                send_json(born.connection, self._hello)
                return _Decoder(born=born)
            except (NurseryError, OSError):
                self.close()
        raise RuntimeError("decoder processes cannot be started")

    def give_back(self, decoder: _Decoder) -> None:
        """Keep a decoder for the next segment, unless it has done enough."""
        decoder.left -= 1
        if decoder.left:
            self._idle.append(decoder)
        else:
            decoder.born.end()

    def close(self) -> None:
        """End all decoders that are idle, and an own nursery with all of its decoders."""
        for decoder in self._idle:
            decoder.born.end()
        self._idle.clear()
        if self._nursery is not None and self._nursery is not self._given:
            self._nursery.close()
        self._nursery = None


class _Round:
    """One unit on its way through the decoders."""

    def __init__(
        self,
        decoders: Decoders,
        segments: Sequence[Segment],
        stopped: threading.Event,
        *,
        task: str,
    ) -> None:
        self._decoders, self._segments, self._stopped = decoders, segments, stopped
        self._task = task
        self._how = decoders.how
        self._waiting = deque(range(len(segments)))
        self._unfinished = set(self._waiting)
        self._tried = [0] * len(segments)
        self._busy: dict[Connection, _Decoder] = {}

    def items(self) -> Iterator[Item | Measured]:
        """Yield everything; see `Decoders.items`."""
        try:
            while self._unfinished and not self._stopped.is_set():
                self._begin()
                for ready in wait(list(self._busy), timeout=TICK_SECONDS):
                    assert isinstance(ready, Connection)
                    yield from self._hear(self._busy[ready])
                yield from self._give_up_silent()
        finally:
            for decoder in self._busy.values():
                decoder.born.end()

    def _begin(self) -> None:
        """Hand segments to decoders that are free."""
        while self._waiting and len(self._busy) < self._how.num:
            if self._waiting[0] >= min(self._unfinished) + SEGMENTS_AHEAD * self._how.num:
                return
            decoder, position = self._decoders.take(), self._waiting.popleft()
            decoder.position, decoder.heard = position, time.monotonic()
            self._tried[position] += 1
            self._busy[decoder.born.connection] = decoder
            request: dict[str, Any] = {"task": self._task, "position": position}
            request["segment"] = asdict(self._segments[position])
            with suppress(OSError):  # if it died, its end is noticed like any other
                send_json(decoder.born.connection, request)

    def _hear(self, decoder: _Decoder) -> Iterator[Item | Measured]:
        """Take one item, or the death of the decoder."""
        try:
            item = receive_item(decoder.born.connection)
        except (EOFError, OSError):
            yield from self._lost(decoder, None)
            return
        decoder.heard = time.monotonic()
        if not isinstance(item, SegmentEnd):
            yield item
            return
        del self._busy[decoder.born.connection]
        self._decoders.give_back(decoder)
        yield from self._ended(item)

    def _give_up_silent(self) -> Iterator[Item]:
        """End the decoders that have said nothing for too long."""
        seconds = self._how.timeout_seconds
        if seconds is None:
            return
        for decoder in list(self._busy.values()):
            silent = time.monotonic() - decoder.heard
            if silent > seconds + GRACE_SECONDS and not decoder.born.connection.poll():
                yield from self._lost(decoder, seconds)

    def _lost(self, decoder: _Decoder, seconds: float | None) -> Iterator[Item]:
        """End a decoder that died or was silent for longer than `seconds`."""
        position = decoder.position
        assert position is not None
        del self._busy[decoder.born.connection]
        number = max(0, -decoder.born.end())
        uri = self._segments[position].shown_uri
        error = _death(uri, number) if seconds is None else too_slow(uri, seconds)
        yield from self._ended(SegmentEnd(segment=position, error=error))

    def _ended(self, end: SegmentEnd) -> Iterator[Item]:
        """Yield the end of a segment, or put it in line again."""
        if end.error is not None and self._tried[end.segment] < self._how.attempts:
            self._waiting.appendleft(end.segment)
            return
        self._unfinished.discard(end.segment)
        yield replace(end, attempts=self._tried[end.segment])


def _death(uri: str, number: int) -> VideoError:
    """Return the error of a video that killed its decoder."""
    how = signal.Signals(number).name if number in set(signal.Signals) else "no signal"
    return VideoError(
        f"{uri}: its decoder died ({how})",
        stage="decode",
        remedy="transcode the video or leave it out; raise --video-memory if it is merely large",
    )
