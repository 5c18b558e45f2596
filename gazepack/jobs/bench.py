"""How fast each stage of packing is alone on this machine, and how near the whole comes to the slowest.

The stages are those of a worker, run one after the other over the same clips and nothing beside them;
then the whole pipeline packs the same segments. Decoders work beside the chooser, so no pipeline can be
faster than the slower of `decode` and `choose` alone: that is its speed of light. Where both want more
cores than the machine has, it cannot be reached either; the report then shows by how much.

Only the clips that fit in `MEMORY` are kept for the stages behind decoding, so a long video costs its time
but not its memory.

    legend   T  frames of a clip    K  tokens
"""

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from gazepack.errors import SourceError, VideoError
from gazepack.formats import AnyCodec, DatasetDirectory, PlacesCodec
from gazepack.formats.remote import opened_source
from gazepack.geometry import CLIP_FRAMES
from gazepack.jobs.clips import Clip, SegmentEnd
from gazepack.jobs.decoders import Decoders
from gazepack.jobs.metrics import Tally
from gazepack.jobs.plan import Unit
from gazepack.jobs.segment import Segment
from gazepack.jobs.settings import PackSettings
from gazepack.jobs.unit import Kind, Resources, VideoDone, as_read, clip_batch, kind_of, pack_unit
from gazepack.patches import cut, pyramid, split_tiles
from gazepack.selectors import ClipBatch, Gazing, Selection, Selector, choose
from gazepack.video import decode, fit, probe

MEMORY = 2**30
"""The most bytes of frames that are kept."""
GAZE_CLIPS = 64
"""The most tiles that the network alone is timed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage alone."""

    name: str
    what: str
    """What ran, in a few words."""
    frames: int
    seconds: float

    @property
    def frames_per_second(self) -> float:
        """Frames of video a second."""
        return self.frames / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PackBench:
    """Everything that was timed."""

    stages: tuple[Stage, ...]
    """Each alone, in the order of the pipeline; the last is the whole."""
    tiles_per_frame: float
    tokens_per_frame: float
    decoders: int
    """Processes that decoded."""
    spent: Tally
    """What the worker of the whole did with its time: hardly felt by what else the machine does."""

    def stage(self, name: str) -> Stage:
        """Return a stage."""
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def bottleneck(self) -> str:
        """The slower of the two stages that run beside each other."""
        return min(("decode", "choose"), key=lambda name: self.stage(name).frames_per_second)

    @property
    def share(self) -> float:
        """What the pipeline reached of its speed of light."""
        limit = self.stage(self.bottleneck).frames_per_second
        return self.stage("pack").frames_per_second / limit

    @property
    def decoders_needed(self) -> float:
        """Decoders that would keep one such chooser busy."""
        each = self.stage("decode").frames_per_second / self.decoders
        return self.stage("choose").frames_per_second / each


def bench_pack(
    segments: Sequence[Segment],
    *,
    settings: PackSettings,
    selector: Selector,
    resources: Resources,
) -> PackBench:
    """Time every stage over some segments.

    Args:
        segments: what to pack; a few dozen seconds of video are enough.
        settings: as for packing.
        selector: made from `settings.selector`.
        resources: as for packing.

    Raises:
        SourceError: none of the segments can be decoded.
    """
    codec = settings.make_codec()
    with Decoders(settings, resources.decoders) as decoders:
        decoders.warm_up()
        clips, decoded = _decode(segments, decoders)
        batches = _batches(clips, [segment.key for segment in segments], resources)
        _choose(selector, batches[:1], settings, codec)  # the first batch of a process costs more
        selections, chosen = _choose(selector, batches, settings, codec)
        kept = sum(len(clip.times_T) for clip in clips)
        spent = Tally()
        stages = [
            *_decode_and_fit(segments, settings, resources.decoders.device),
            decoded,
            *_gaze(selector, batches),
            Stage(name="choose", what=_who(selector, settings), frames=kept, seconds=chosen),
            _cut(batches),
            *_encode(selections, codec, frames=kept),
            *_pack(segments, decoders, settings, selector, codec, resources, spent),
        ]
    return PackBench(
        stages=tuple(stages),
        tiles_per_frame=sum(len(c.times_T) * c.grid.num_tiles for c in clips) / kept,
        tokens_per_frame=sum(len(s.frame) for s in selections) / kept,
        decoders=resources.decoders.num,
        spent=spent,
    )


def _decode(segments: Sequence[Segment], decoders: Decoders) -> tuple[list[Clip], Stage]:
    """Drain the decoders; keep what fits in memory."""
    clips: list[Clip] = []
    frames = size = 0
    errors: list[VideoError] = []
    began = time.perf_counter()
    with closing(decoders.items(segments)) as items:
        for item in items:
            if isinstance(item, Clip):
                frames += len(item.times_T)
                size += item.frames_THW3.nbytes
                if size <= MEMORY or not clips:
                    clips.append(item)
            elif isinstance(item, SegmentEnd) and item.error is not None:
                errors.append(item.error)
    if not clips:
        reason = f": {errors[0]}" if errors else ""
        raise SourceError(f"nothing could be decoded{reason}", remedy="name other videos")
    what = f"{decoders.how.num} processes: decode, resize, hand over"
    seconds = time.perf_counter() - began
    return clips, Stage(name="decode", what=what, frames=frames, seconds=seconds)


def _decode_and_fit(
    segments: Sequence[Segment], settings: PackSettings, decode_device: str
) -> list[Stage]:
    """Decode the first segment that can be in this process, and fit its frames."""
    for segment in segments:
        start, end = settings.range_of(segment.start_seconds, segment.end_seconds)
        try:
            with opened_source(segment.uri) as source:
                info = probe(source)
                began = time.perf_counter()
                frames = [
                    frame.rgb_HW3
                    for frame, _ in zip(
                        decode(
                            source,
                            settings.sampling,
                            start_seconds=start,
                            end_seconds=end,
                            device=decode_device,
                        ),
                        range(max(CLIP_FRAMES, MEMORY // (info.width * info.height * 12))),
                        strict=False,
                    )
                ]
        except VideoError:
            continue
        seconds = time.perf_counter() - began
        size = f"{info.display_width} x {info.display_height}, one thread"
        grids = [view.grid for view in settings.fit.views(info).values()]
        began = time.perf_counter()
        for frame in frames:
            for grid in grids:
                fit(frame, grid)
        return [
            Stage(name="  read", what=f"PyAV, {size}", frames=len(frames), seconds=seconds),
            Stage(
                name="  fit",
                what=f"{' and '.join(f'{g.width} x {g.height}' for g in grids)}, one thread",
                frames=len(frames),
                seconds=time.perf_counter() - began,
            ),
        ]
    return []


def _batches(clips: Sequence[Clip], keys: Sequence[str], resources: Resources) -> list[ClipBatch]:
    """Put clips of one kind together, in batches of the size that packing fills them to."""
    by_kind: dict[Kind, list[Clip]] = {}
    for clip in clips:
        by_kind.setdefault(kind_of(clip), []).append(clip)
    batches = []
    for (grid, _), alike in by_kind.items():
        size = -(-resources.batch_size // grid.num_tiles)
        for start in range(0, len(alike), size):
            some = alike[start : start + size]
            some_keys = [keys[clip.segment] for clip in some]
            batches.append(clip_batch(some, some_keys, device=resources.device))
    return batches


def _choose(
    selector: Selector, batches: Sequence[ClipBatch], settings: PackSettings, codec: AnyCodec
) -> tuple[list[Selection], float]:
    """Choose for every batch; return the selections and the seconds they took."""
    read = as_read(codec, settings.fit.patch_size)
    selections: list[Selection] = []
    began = time.perf_counter()
    for batch in batches:
        selections += choose(selector, batch, min_psnr=settings.selector.min_psnr, as_read=read)
    return selections, time.perf_counter() - began


def _who(selector: Selector, settings: PackSettings) -> str:
    bound = settings.selector.min_psnr
    return selector.name + ("" if bound is None else f", every frame at {bound:g} dB")


def _gaze(selector: Selector, batches: Sequence[ClipBatch]) -> list[Stage]:
    """Time the network by itself, if there is one: to a ratio, and to a threshold."""
    if not isinstance(selector, Gazing):
        return []
    tiles_BT3SS = torch.cat([_tiles(batch) for batch in batches if not batch.whole])[:GAZE_CLIPS]
    if not len(tiles_BT3SS):
        return []
    frames = len(tiles_BT3SS) * CLIP_FRAMES
    ways: dict[str, dict[str, float]] = {"ratio 0.06": {"gazing_ratio": 0.06}}
    if selector.loss_threshold is not None:
        ways[f"threshold {selector.loss_threshold:g}"] = {"loss_threshold": selector.loss_threshold}
    stages = []
    for name, way in ways.items():
        began = time.perf_counter()
        selector.model.gaze(tiles_BT3SS, **way)
        seconds = time.perf_counter() - began
        stages.append(Stage(name="  gaze", what=f"{name}, tiles", frames=frames, seconds=seconds))
    return stages


def _tiles(clips: ClipBatch) -> Tensor:
    """Return the tiles of full clips as clips of their own, B x T x 3 x S x S."""
    full = [row for row, num in enumerate(clips.num_frames) if num == CLIP_FRAMES]
    frames_BT3HW = clips.frames_BT3HW[full]
    tiles = split_tiles(frames_BT3HW.flatten(0, 1), clips.grid)
    tiles_BTG3SS = torch.unflatten(tiles, 0, (-1, CLIP_FRAMES))
    return tiles_BTG3SS.transpose(1, 2).flatten(0, 1)


def _cut(batches: Sequence[ClipBatch]) -> Stage:
    """Build the pyramid of every frame and cut a patch of each scale."""
    began = time.perf_counter()
    for batch in batches:
        for frames_T3HW in batch.frames_BT3HW:
            levels = pyramid(frames_T3HW)
            scale = torch.arange(4, device=frames_T3HW.device).repeat(len(frames_T3HW))
            frame = torch.arange(len(frames_T3HW), device=frames_T3HW.device).repeat_interleave(4)
            zero = torch.zeros_like(scale)
            at = {"frame": frame, "scale": scale, "row": zero, "col": zero}
            cut(levels, **at, patch_size=batch.grid.patch_size)
    frames = sum(len(batch) * CLIP_FRAMES for batch in batches)
    seconds = time.perf_counter() - began
    return Stage(name="  cut", what="pyramid and patches", frames=frames, seconds=seconds)


def _encode(selections: Sequence[Selection], codec: AnyCodec, *, frames: int) -> list[Stage]:
    """Encode the patches of every clip, if they are stored."""
    if isinstance(codec, PlacesCodec):
        return []
    tokens = sum(len(selection.frame) for selection in selections)
    began = time.perf_counter()
    size = sum(
        len(codec.encode(selection.patches_KPP3))
        for selection in selections
        if len(selection.frame)
    )
    what = f"{codec.name}, {size / max(1, tokens):.0f} bytes a patch"
    seconds = time.perf_counter() - began
    return [Stage(name="encode", what=what, frames=frames, seconds=seconds)]


def _pack(
    segments: Sequence[Segment],
    decoders: Decoders,
    settings: PackSettings,
    selector: Selector,
    codec: AnyCodec,
    resources: Resources,
    spent: Tally,
) -> list[Stage]:
    """Pack the segments into a folder that is thrown away; write the bytes of its shard once more."""
    done: list[VideoDone] = []
    with tempfile.TemporaryDirectory(prefix="gazepack-bench-") as folder:
        directory = DatasetDirectory.create_or_open(folder, settings.dataset_info(selector))
        began = time.perf_counter()
        pack_unit(
            Unit(number=0, segments=tuple(segments)),
            directory,
            settings=settings,
            selector=selector,
            codec=codec,
            decoders=decoders,
            resources=resources,
            report=done.append,
            meter=spent,
        )
        packed = time.perf_counter() - began
        data = directory.storage.read_bytes(directory.shard_name(0))
        began = time.perf_counter()
        directory.storage.write_atomic("again", data)
        written = time.perf_counter() - began
    frames = sum(video.frames for video in done)
    what = f"{len(data) / 1e6 / written:.0f} MB/s to a local disk"
    return [
        Stage(name="write", what=what, frames=frames, seconds=written),
        Stage(name="pack", what="everything together", frames=frames, seconds=packed),
    ]
