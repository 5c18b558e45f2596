"""What `view` shows: which sample, where its video is, and its frames beside what their tokens paint.

Frames are made one after the other, so a film of any length needs the memory of one frame; a sheet keeps
only the frames on it.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from gazepack.cli.drawing import Shot, sheet, strip
from gazepack.errors import StorageError, UsageError, VideoError
from gazepack.formats import DatasetDirectory, DatasetInfo, Sample
from gazepack.geometry import TILE_SIDE, Grid
from gazepack.jobs import Segment, frozen_listing, list_sources, refitted, repainted
from gazepack.jobs.replay import view_grid
from gazepack.patches import Pixels
from gazepack.video import write_video

NAMED = 5
"""Keys named when one is not found."""
SAME_VIDEO = 1.0
"""Largest difference, in 8-bit steps, between the stored and the found error of a frame: another build of
the decoder stays far below it, another video does not."""
MAX_FPS = 60.0


def find_row(directory: DatasetDirectory, key: str | None) -> dict[str, Any]:
    """Return the index row of a sample.

    Args:
        directory: the dataset.
        key: of the sample, or the id of its video, whose first sample is then taken; the first of the
            dataset if `None`.

    Raises:
        UsageError: there is no such sample.
    """
    index = directory.read_index()
    if not index.num_rows:
        raise UsageError(f"{directory.uri} holds no sample", remedy="see `gazepack failures`")
    found = index
    if key is not None:
        found = index.filter(pc.or_(pc.equal(index["key"], key), pc.equal(index["id"], key)))
    if not found.num_rows:
        some = ", ".join(index["id"].slice(0, NAMED).to_pylist())
        more = ", ..." if index.num_rows > NAMED else ""
        raise UsageError(
            f"{directory.uri} has no sample or video {key!r}", remedy=f"there are {some}{more}"
        )
    row: dict[str, Any] = found.slice(0, 1).to_pylist()[0]
    return row


def find_listing(directory: DatasetDirectory, sources: Sequence[str]) -> pa.Table | None:
    """Return where the videos are: what the sources list if there are any, else the frozen listing, if there.

    Raises:
        SourceError: the sources cannot be listed.
    """
    return list_sources(sources) if sources else frozen_listing(directory)


def find_segment(
    directory: DatasetDirectory, video_id: str, sources: Sequence[str]
) -> Segment | None:
    """Return where the video of a sample is, as `find_listing` looks for it.

    Returns:
        `None` when no sources are given and the listing is gone.

    Raises:
        SourceError: the sources cannot be listed.
        UsageError: they do not hold the video.
    """
    listing = find_listing(directory, sources)
    if listing is None:
        return None
    rows = listing.filter(pc.equal(listing["id"], video_id)).to_pylist()
    if not rows and sources:
        raise UsageError(
            f"--source {' '.join(sources)} holds no video {video_id!r}",
            remedy="name the folder or manifest that was packed",
        )
    return Segment.from_row(rows[0]) if rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One view of one sample, ready to be shown."""

    sample: Sample
    """The tokens."""
    view: int
    """Which of its views."""
    info: DatasetInfo
    """How its frames were sampled and fitted."""

    @classmethod
    def of(cls, directory: DatasetDirectory, row: dict[str, Any], *, view_name: str) -> Self:
        """Read a sample.

        Raises:
            UsageError: it has no such view.
            DatasetError: it is damaged.
        """
        sample = directory.read_sample(row)
        names = [view["name"] for view in sample.meta["views"]]
        if view_name not in names:
            raise UsageError(
                f"sample {sample.key} has no view {view_name!r}", remedy=f"it has {names}"
            )
        return cls(sample=sample, view=names.index(view_name), info=directory.info)

    @property
    def num_frames(self) -> int:
        """Frames of the view."""
        return len(self._meta["times"])

    @property
    def _meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = self.sample.meta["views"][self.view]
        return meta

    @property
    def _grid(self) -> Grid:
        return view_grid(self._meta)

    def shots(self, segment: Segment | None) -> Iterator[Shot]:
        """Yield every frame.

        Args:
            segment: the video; `None` to do without.

        Raises:
            VideoError: it cannot be decoded, or is not the video that was packed.
        """
        painted = repainted(self.sample, self.view)
        fitted = self._fitted(segment)
        _, frame, scale, row, col, _ = self._tokens_6N
        for number, (painted_HW3, source_HW3) in enumerate(zip(painted, fitted, strict=False)):
            if source_HW3 is not None and segment is not None:
                self._check_source(number, painted_HW3, source_HW3, segment)
            at = frame == number
            yield Shot(
                time_seconds=self._meta["times"][number],
                psnr=self._meta["psnr"][number],
                scale_K=scale[at],
                row_K=row[at],
                col_K=col[at],
                grid=self._grid,
                source_HW3=source_HW3,
                painted_HW3=painted_HW3,
            )

    def _fitted(self, segment: Segment | None) -> Iterator[Pixels | None]:
        if segment is None:
            return repeat(None)
        return refitted(self.sample, self.view, segment, self.info)

    @property
    def _tokens_6N(self) -> npt.NDArray[np.int64]:
        """The tokens of this view, a row for each of `TOKEN_FIELDS`."""
        tokens_N6: npt.NDArray[np.int64] = self.sample.tokens_N6.astype(np.int64)
        here_N: npt.NDArray[np.bool_] = tokens_N6[:, 0] == self.view
        return tokens_N6[here_N].T

    def _check_source(
        self, number: int, painted_HW3: Pixels, source_HW3: Pixels, segment: Segment
    ) -> None:
        """Refuse a video whose frames are not those that were packed."""
        found = float(abs(painted_HW3.astype(np.int64) - source_HW3).mean())
        if abs(found - self._meta["l1"][number]) > SAME_VIDEO:
            raise VideoError(
                f"{segment.uri!r} shows something else at {self._meta['times'][number]:g} s than was packed",
                stage="decode",
                remedy="it was changed since",
            )

    def write(self, out: Path, *, segment: Segment | None, frames: int) -> int:
        """Write a sheet of some frames, or a film of all, as the ending says.

        Args:
            out: ends in .png or .mp4.
            segment: the video; `None` to do without.
            frames: the most frames on a sheet.

        Returns:
            How many frames are shown.

        Raises:
            VideoError: the video cannot be decoded or is another one. Nothing is written then.
            StorageError: `out` cannot be written.
        """
        if out.suffix.lower() == ".png":
            return self._write_sheet(out, segment, frames)
        return self._write_film(out, segment)

    def _write_sheet(self, out: Path, segment: Segment | None, frames: int) -> int:
        shown = spread(self.num_frames, frames)
        shots: list[Shot] = []
        for number, shot in enumerate(self.shots(segment)):
            if number in shown:
                shots.append(shot)
            if len(shots) == len(shown):
                break
        write_png(out, sheet(shots, title=self.sample.meta["id"], facts=self._facts()))
        return len(shots)

    def _write_film(self, out: Path, segment: Segment | None) -> int:
        title = self.sample.meta["id"]
        pictures = (strip(shot, title=title) for shot in self.shots(segment))
        write_video(out, pictures, fps=self._fps(), options={"crf": "20", "preset": "veryfast"})
        return self.num_frames

    def _fps(self) -> float:
        """Return the average rate of the frames; 1 where there is only one time."""
        times: list[float] = self._meta["times"]
        seconds = times[-1] - times[0]
        return min(MAX_FPS, (len(times) - 1) / seconds) if seconds > 0 else 1.0

    def _facts(self) -> str:
        """Return the numbers of the sample for people."""
        tokens = sum(self._meta["tokens"])
        dense = self._grid.num_dense * self.num_frames
        fewer = f", {dense / tokens:.1f}x fewer" if tokens else ""
        grid = (
            f"{self._grid.rows} x {self._grid.cols} tiles of {TILE_SIDE * self._grid.patch_size} px"
        )
        return f"{self.num_frames} frames, {tokens:,} tokens of {dense:,} dense{fewer}, {grid}"


def spread(num_frames: int, shown: int) -> list[int]:
    """Return which frames to show: at most `shown`, evenly spread, the first among them."""
    shown = min(shown, num_frames)
    return [number * num_frames // shown for number in range(shown)]


def write_png(out: Path, picture_HW3: Pixels) -> None:
    """Write a picture; it appears under its name only when it is complete.

    Raises:
        StorageError: the file cannot be written.
    """
    partial = out.with_name(f".{os.getpid()}-{out.name}")
    try:
        Image.fromarray(picture_HW3).save(partial, format="PNG")
        partial.replace(out)
    except OSError as error:
        raise StorageError(
            f"{out}: cannot be written ({error.strerror or error})",
            remedy="check the folder, its space and rights",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
