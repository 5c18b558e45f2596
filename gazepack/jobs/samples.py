"""From the selections of a segment's clips to its samples.

A segment is one sample, unless it passes `max_sample_tokens`: then it goes on in further samples, cut between
clips, where the canvas starts anew anyway. Where it is cut follows from the tokens alone.

A part of a long segment does the same for itself. Its windows are counted from the number of its first clip:
the part before it cannot have more windows than clips, so numbers go up through the segment, with gaps.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gazepack.errors import VideoError
from gazepack.formats import FORMAT_VERSION, Sample
from gazepack.geometry import CLIP_FRAMES
from gazepack.jobs.clips import Clip, SegmentEnd, SegmentStart
from gazepack.jobs.frames import View
from gazepack.jobs.segment import Segment
from gazepack.selectors import Selection
from gazepack.video import VideoInfo

MAX_FRAMES = 4096 * CLIP_FRAMES - CLIP_FRAMES
"""The most frames of a sample: a token's frame is 16 bits."""


@dataclass(slots=True, kw_only=True)
class SegmentWork:
    """What is known of a segment while its clips come back, in any order."""

    segment: Segment
    info: VideoInfo | None = None
    views: dict[str, View] = field(default_factory=dict)
    times: dict[int, tuple[float, ...]] = field(default_factory=dict)
    """Times of the sampled frames of each clip given out so far."""
    selections: dict[tuple[int, str], Selection] = field(default_factory=dict)
    """By clip number and view."""
    ended: SegmentEnd | None = None
    """How decoding ended, once it has."""
    shortfalls: dict[tuple[int, str], VideoError] = field(default_factory=dict)
    """The clips whose bound could not be met, by number and view."""

    def start(self, start: SegmentStart) -> None:
        """Begin; whatever is known from an earlier attempt is void."""
        self.forget()
        self.info, self.views = start.info, start.views

    def forget(self) -> None:
        """Let go of all that takes memory."""
        self.times.clear()
        self.selections.clear()
        self.shortfalls.clear()

    def end(self, end: SegmentEnd) -> None:
        """Note that no more clips come."""
        self.ended = end

    def give(self, clip: Clip) -> None:
        """Note that a clip was given out."""
        if self.views[clip.view].every == 1:
            self.times[clip.number] = clip.times_T

    def take(self, clip: Clip, selection: Selection, *, min_psnr: float | None) -> None:
        """Note what was chosen of it, and whether the bound could be met."""
        if min_psnr is not None and selection.psnr_T.min() < min_psnr:
            worst = int(selection.psnr_T.argmin())
            self.shortfalls[clip.number, clip.view] = VideoError(
                f"{self.segment.shown_uri!r}: frame at {clip.times_T[worst]:g} s reaches "
                f"{selection.psnr_T[worst]:.2f} dB with every patch, {min_psnr:g} dB were asked",
                stage="select",
                remedy="use --codec zstd, which loses nothing, or a lower --min-psnr",
            )
        self.selections[clip.number, clip.view] = selection

    @property
    def complete(self) -> bool:
        """Whether nothing more can come."""
        if self.ended is None:
            return False
        chosen = len(self.selections) == len(self.times) * len(self.views)
        return self.ended.error is not None or chosen

    @property
    def error(self) -> VideoError | None:
        """Why a complete segment failed, the same whatever came back first: decoding, then the first clip."""
        if self.ended is not None and self.ended.error is not None:
            return self.ended.error
        return self.shortfalls[min(self.shortfalls)] if self.shortfalls else None

    @property
    def attempts(self) -> int:
        """How often it was tried, if it failed; choosing is tried once."""
        return self.ended.attempts if self.ended is not None and self.ended.error is not None else 1

    def samples(self, *, max_tokens: int) -> Iterator[Sample]:
        """Yield the samples of a complete segment, in order of time."""
        for window, clips in enumerate(self._windows(max_tokens), self.segment.first_clip):
            yield self._sample(window, clips)

    def _windows(self, max_tokens: int) -> Iterator[list[int]]:
        """Cut the clips into runs of at most `max_tokens` tokens, a clip being the least."""
        run: list[int] = []
        tokens = 0
        for number in sorted(self.times):
            more = sum(len(self.selections[number, view].frame) for view in self.views)
            if run and (tokens + more > max_tokens or len(run) * CLIP_FRAMES >= MAX_FRAMES):
                yield run
                run, tokens = [], 0
            run.append(number)
            tokens += more
        yield run

    def _sample(self, window: int, clips: Sequence[int]) -> Sample:
        """Put one run of clips together."""
        key = self.segment.key if window == 0 else f"{self.segment.key}_w{window:04d}"
        parts = [
            (number, (clip - clips[0]) * CLIP_FRAMES // view.every, self.selections[clip, name])
            for number, (name, view) in enumerate(self.views.items())
            for clip in clips
        ]
        return Sample(
            key=key,
            tokens_N6=np.concatenate([_tokens(*part) for part in parts]),
            loss_N=np.concatenate([part[2].loss for part in parts]).astype(np.float16),
            patches_NPP3=np.concatenate([part[2].patches_KPP3 for part in parts]),
            meta=self._meta(key, window, clips),
        )

    def _meta(self, key: str, window: int, clips: Sequence[int]) -> dict[str, Any]:
        """Say what the sample is and where it comes from."""
        assert self.info is not None
        times = [time for clip in clips for time in self.times[clip]]
        views = []
        for name, view in self.views.items():
            chosen = [self.selections[clip, name] for clip in clips]
            seen = {
                "name": name,
                "rows": view.grid.rows,
                "cols": view.grid.cols,
                "patch_size": view.grid.patch_size,
                **({} if view.every == 1 else {"every": view.every}),
                "times": times[:: view.every],
                "tokens": [n for selection in chosen for n in selection.tokens_T.tolist()],
                "psnr": [round(x, 4) for selection in chosen for x in selection.psnr_T.tolist()],
                "l1": [round(x, 4) for selection in chosen for x in selection.l1_T.tolist()],
            }
            views.append(seen)
        info = self.info
        return {
            "format_version": FORMAT_VERSION,
            "key": key,
            "id": self.segment.id,
            "window": window,
            "first_frame": clips[0] * CLIP_FRAMES,
            "clip_frames": CLIP_FRAMES,
            "source": {
                "bytes": self.segment.bytes,
                "codec": info.codec,
                "width": info.width,
                "height": info.height,
                "display_width": info.display_width,
                "display_height": info.display_height,
                "fps": round(info.fps, 6),
                "duration_seconds": round(info.duration_seconds, 6),
                "start_seconds": times[0],
                "end_seconds": times[-1],
            },
            "views": views,
            "user": json.loads(self.segment.user),
        }


def _tokens(
    view: int, first_frame: int, selection: Selection
) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return the tokens of one clip of one view as rows of the format: uint16 N x 6."""
    count = len(selection.frame)
    columns = (
        np.full(count, view, dtype=np.uint16),
        selection.frame + np.uint16(first_frame),
        selection.scale,
        selection.row,
        selection.col,
        selection.rank,
    )
    return np.stack(columns, axis=1)
