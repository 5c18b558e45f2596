"""The work unit: decode the segments of one shard, choose, encode, write, commit.

Clips of all segments share the choosing batches, whatever video they come from; samples are written in the
order of the listing. Decoders are processes of their own and patches are encoded in a thread beside, so the
chooser waits for neither while there is room before and behind it. Which clips were batched together does not
show in the output, nor in which order the decoders delivered them. A segment that fails goes on record and
leaves nothing else behind.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from gazepack.errors import UsageError, VideoError
from gazepack.formats import AnyCodec, DatasetDirectory, Failure, PlacesCodec, Sample
from gazepack.formats.members import encoded
from gazepack.geometry import CLIP_FRAMES, Grid
from gazepack.jobs.beside import Beside
from gazepack.jobs.clips import Clip, Item, SegmentStart
from gazepack.jobs.decoders import Decoders, DecoderSettings
from gazepack.jobs.metrics import Meter, StageClock, Tally
from gazepack.jobs.plan import Unit
from gazepack.jobs.samples import SegmentWork
from gazepack.jobs.settings import PackSettings
from gazepack.patches import from_patches, to_patches
from gazepack.selectors import AsRead, ClipBatch, Selection, Selector, choose
from gazepack.video.hardware import CPU

SAMPLES_AHEAD = 2
"""Samples that are being encoded while the chooser goes on; they hold some 50 MB of pixels at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What decides speed and nothing else."""

    device: str = "cpu"
    """Where choosing is done: `cpu`, `cuda`, `cuda:1`, ..."""
    batch_size: int = 32
    """Tiles of clips that are chosen for at once."""
    decoders: DecoderSettings = field(default_factory=DecoderSettings)
    """How many videos are decoded at once, and how long each is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoDone:
    """One video of a unit, or one part of a long one, is over."""

    id: str
    """`Segment.name`."""
    error: VideoError | None
    """Why it could not be packed, or `None`."""
    bytes: int
    """Size of its file, or the part's share of it."""
    frames: int
    tokens: int
    dense_tokens: int


Report = Callable[[VideoDone], None]
Kind = tuple[Grid, bool]
"""What clips must share to be chosen for at once: the grid, and whether they are kept whole."""


def pack_unit(
    unit: Unit,
    directory: DatasetDirectory,
    *,
    settings: PackSettings,
    selector: Selector,
    codec: AnyCodec,
    decoders: Decoders,
    resources: Resources,
    report: Report,
    meter: Meter | None = None,
) -> None:
    """Pack one unit and commit its shard, unless another run on the same directory was faster.

    Args:
        unit: what to pack.
        directory: where to.
        settings: what decides the bytes.
        selector: made from `settings.selector`, on `resources.device`.
        codec: made from `settings`.
        decoders: made from `settings` and `resources.decoders`.
        resources: what decides the speed.
        report: told of every video as it ends.
        meter: told how the time is spent, if anybody wants to know.

    Raises:
        StorageError: the output cannot be written. Nothing of the unit is visible then.
    """
    if directory.is_committed(unit.number):
        return
    meter = Tally() if meter is None else meter
    work = _UnitWork(unit, settings, selector, codec, decoders, resources, report, meter)
    try:
        with closing(work.samples()) as samples:
            index = directory.write_shard(unit.number, samples, failures=lambda: work.failures)
        work.clock.to(None)
        meter.wrote(pc.sum(index["size"]).as_py() or 0)
    except UsageError:
        if not directory.is_committed(unit.number):
            raise


class _UnitWork:
    """The segments of a unit on their way through."""

    def __init__(
        self,
        unit: Unit,
        settings: PackSettings,
        selector: Selector,
        codec: AnyCodec,
        decoders: Decoders,
        resources: Resources,
        report: Report,
        meter: Meter,
    ) -> None:
        self.segments = [SegmentWork(segment=segment) for segment in unit.segments]
        self.settings, self.selector, self.resources = settings, selector, resources
        self.codec = codec
        self.decoders = decoders
        self.report, self.meter = report, meter
        self.clock = StageClock(meter)
        self.as_read = as_read(codec, settings.fit.patch_size)
        self.waiting: dict[Kind, list[Clip]] = {}
        self.failures: list[Failure] = []
        self._fallbacks: set[int] = set()
        self._next = 0

    def samples(self) -> Generator[Sample]:
        """Yield the samples of the unit in the order of its segments."""
        self.clock.to("decode")
        segments = [work.segment for work in self.segments]
        encoding = Beside(self._encoded, ahead=SAMPLES_AHEAD)
        with encoding, closing(self.decoders.items(segments)) as items:
            for item in items:
                self.clock.to("choose")
                self._take(item)
                self.meter.waits("decoded", self.decoders.num_ready)
                self.meter.waits("clips_waiting", sum(map(len, self.waiting.values())))
                yield from self._completed(encoding)
                self.clock.to("decode")
            self.clock.to("choose")
            for kind in list(self.waiting):
                self._choose(kind)
            yield from self._completed(encoding)
            self.clock.to("encode")
            yield from encoding.rest()
        self.clock.to("write")

    def _take(self, item: Item) -> None:
        """Take note of one item, and choose when enough clips wait."""
        work = self.segments[item.segment]
        if isinstance(item, Clip):
            self._note_decoder(item)
            work.give(item)
            self.waiting.setdefault(kind_of(item), []).append(item)
            self._choose_if_due(kind_of(item))
        elif isinstance(item, SegmentStart):
            self._drop(item.segment)
            work.start(item)
        else:
            if item.error is not None:
                self._drop(item.segment)
            work.end(item)

    def _note_decoder(self, clip: Clip) -> None:
        """Count a segment that the CPU decodes though another device was to."""
        is_first = clip.segment not in self._fallbacks
        if is_first and not clip.is_from_hardware and self.resources.decoders.device != CPU:
            self._fallbacks.add(clip.segment)
            self.meter.fell_back(1)

    def _drop(self, segment: int) -> None:
        """Forget the waiting clips of a segment."""
        for kind, clips in self.waiting.items():
            self.waiting[kind] = [clip for clip in clips if clip.segment != segment]

    def _choose_if_due(self, kind: Kind) -> None:
        """Choose for a full batch, or for the fullest one when all together wait for twice as much.

        On the CPU a small batch is as good as a large one, so there the fullest is taken too when no decoder
        has anything ready and every thread has a clip: the chooser would only wait.
        """
        if len(self.waiting[kind]) * kind[0].num_tiles >= self.resources.batch_size:
            self._choose(kind)
        sizes = {k: len(clips) * k[0].num_tiles for k, clips in self.waiting.items() if clips}
        if not sizes:
            return
        fullest = max(sizes, key=lambda kind: sizes[kind])
        is_idle = self.resources.device == "cpu" and not self.decoders.num_ready
        is_enough = len(self.waiting[fullest]) >= torch.get_num_threads()
        if (is_idle and is_enough) or sum(sizes.values()) >= 2 * self.resources.batch_size:
            self._choose(fullest)

    def _choose(self, kind: Kind) -> None:
        """Choose for all waiting clips of one kind."""
        clips = self.waiting.pop(kind)
        if clips:
            self._choose_for(clips)

    def _choose_for(self, clips: Sequence[Clip]) -> None:
        """Choose for clips at once; in halves where the device has too little memory for that."""
        selections = self._selections(clips)
        if selections is not None:
            min_psnr = self.settings.selector.min_psnr
            for clip, selection in zip(clips, selections, strict=True):
                self.segments[clip.segment].take(clip, selection, min_psnr=min_psnr)
            return
        if len(clips) == 1:
            raise UsageError(
                f"{self.resources.device} has too little memory for a clip of "
                f"{clips[0].grid.num_tiles} tiles",
                remedy="free some of it, lower --max-tiles or use --device cpu",
            )
        half = len(clips) // 2
        self._choose_for(clips[:half])
        self._choose_for(clips[half:])

    def _selections(self, clips: Sequence[Clip]) -> list[Selection] | None:
        """Choose for clips at once; return `None` if the device has too little memory."""
        keys = [self.segments[clip.segment].segment.key for clip in clips]
        try:
            return choose(
                self.selector,
                clip_batch(clips, keys, device=self.resources.device),
                min_psnr=self.settings.selector.min_psnr,
                as_read=self.as_read,
            )
        except torch.OutOfMemoryError:
            return None

    def _completed(self, encoding: Beside[Sample, Sample]) -> Iterator[Sample]:
        """Hand on the samples of the segments that are next in line and complete; yield what is encoded."""
        while self._next < len(self.segments) and self.segments[self._next].complete:
            work = self.segments[self._next]
            self._next += 1
            self.clock.to("encode")
            error = work.error
            if error is None:
                for sample in work.samples(max_tokens=self.settings.shards.max_sample_tokens):
                    encoding.put(sample)
                    yield from encoding.ready()
            else:
                self.failures.append(_failure(work, error))
            self.report(_done(work, error))
            work.forget()

    def _encoded(self, sample: Sample) -> Sample:
        return replace(sample, encoded=encoded(sample, self.codec))


def _failure(work: SegmentWork, error: VideoError) -> Failure:
    """Put a failed segment on record."""
    return Failure(
        id=work.segment.id,
        uri=work.segment.shown_uri,
        stage=error.stage,
        error=type(error).__name__,
        message=str(error),
        attempts=work.attempts,
        window=work.segment.first_clip,
    )


def _done(work: SegmentWork, error: VideoError | None) -> VideoDone:
    """Say how a segment ended."""
    frames = 0 if error else sum(map(len, work.times.values()))
    return VideoDone(
        id=work.segment.name,
        error=error,
        bytes=work.segment.bytes if work.segment.part_bytes is None else work.segment.part_bytes,
        frames=frames,
        tokens=0 if error else sum(len(s.frame) for s in work.selections.values()),
        dense_tokens=sum(
            view.grid.num_dense * len(times[:: view.every])
            for view in work.views.values()
            for times in work.times.values()
        ),
    )


def kind_of(clip: Clip) -> Kind:
    """Return which clips this one can be batched with."""
    return clip.grid, clip.whole


def clip_batch(clips: Sequence[Clip], keys: Sequence[str], *, device: str) -> ClipBatch:
    """Put clips together for choosing.

    Args:
        clips: of one kind, at least one.
        keys: of their segments.
        device: where choosing is done.
    """
    grid = clips[0].grid
    frames = torch.zeros((len(clips), CLIP_FRAMES, 3, grid.height, grid.width), dtype=torch.uint8)
    for row, clip in enumerate(clips):
        frames[row, : len(clip.times_T)] = torch.tensor(clip.frames_THW3).permute(0, 3, 1, 2)
    return ClipBatch(
        frames_BT3HW=frames.to(device),
        num_frames=tuple(len(clip.times_T) for clip in clips),
        names=tuple(
            f"{key}/{clip.view}/{clip.number}" for key, clip in zip(keys, clips, strict=True)
        ),
        grid=grid,
        whole=clips[0].whole,
    )


def as_read(codec: AnyCodec, patch_size: int) -> AsRead | None:
    """Return what takes a level of a pyramid to what a reader will get of its patches; `None` if to itself."""
    if isinstance(codec, PlacesCodec) or codec.lossless:
        return None

    def round_trip(level_N3hw: Tensor) -> Tensor:
        patches = to_patches(level_N3hw, patch_size)
        flat = np.ascontiguousarray(patches.cpu().numpy()).reshape(-1, *patches.shape[3:])
        read = codec.decode(codec.encode(flat), num_patches=len(flat), patch_size=patch_size)
        return from_patches(torch.from_numpy(read).reshape(patches.shape)).to(level_N3hw.device)

    return round_trip
