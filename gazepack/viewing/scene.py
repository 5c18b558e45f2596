"""What is shown of a sample: which one, where its video is, and its frames beside what their tokens paint.

Frames are made one after the other, so a film of any length needs the memory of one frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gazepack.errors import UsageError, VideoError
from gazepack.formats import DatasetDirectory, DatasetInfo, Sample
from gazepack.geometry import TILE_SIDE, Grid
from gazepack.jobs import Segment, frozen_listing, list_packed, refitted, repainted
from gazepack.jobs.replay import view_grid
from gazepack.patches import Pixels
from gazepack.units import counted
from gazepack.viewing.drawing import Shot

NAMED = 5
"""Keys named when one is not found."""
SAME_VIDEO = 1.0
"""Largest difference, in 8-bit steps, between the stored and the found error of a frame: another build of
the decoder stays far below it, another video does not."""


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
        raise UsageError(
            f"{directory.uri} holds no sample",
            remedy="see `gazepack status` and `gazepack failures`",
        )
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
    return list_packed(sources) if sources else frozen_listing(directory)


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
    found = None if listing is None else segment_of(listing, video_id)
    if found is None and sources:
        raise UsageError(
            f"--source {' '.join(sources)} holds no video {video_id!r}",
            remedy="name the folder or manifest that was packed",
        )
    return found


def segment_of(listing: pa.Table, video_id: str) -> Segment | None:
    """Return where a video is, or `None` if the listing does not have it."""
    rows = listing.filter(pc.equal(listing["id"], video_id)).slice(0, 1).to_pylist()
    return Segment.from_row(rows[0]) if rows else None


def beginning(sample: Sample, num_frames: int) -> Sample:
    """Return the first frames of a sample's main view, as a sample that ends with them.

    Without patches it keeps the checksum of all of them: whoever cuts its patches cannot meet that.
    """
    kept = [-(-num_frames // view.get("every", 1)) for view in sample.meta["views"]]
    is_kept = sample.tokens_N6[:, 1] < np.array(kept)[sample.tokens_N6[:, 0]]
    views = [
        {**view, **{name: view[name][:end] for name in ("times", "tokens", "psnr", "l1")}}
        for view, end in zip(sample.meta["views"], kept, strict=True)
    ]
    patches_NPP3 = sample.patches_NPP3
    return replace(
        sample,
        tokens_N6=sample.tokens_N6[is_kept],
        loss_N=sample.loss_N[is_kept],
        patches_NPP3=None if patches_NPP3 is None else patches_NPP3[is_kept],
        meta={**sample.meta, "views": views},
    )


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
        return len(self.meta["times"])

    @property
    def meta(self) -> dict[str, Any]:
        """What is stored of the view: `ViewMeta` as a dictionary."""
        meta: dict[str, Any] = self.sample.meta["views"][self.view]
        return meta

    @property
    def grid(self) -> Grid:
        """The grid of the view."""
        return view_grid(self.meta)

    def shots(self, segment: Segment | None) -> Iterator[Shot]:
        """Yield every frame.

        Args:
            segment: the video; `None` to do without.

        Raises:
            VideoError: it cannot be decoded, or is not the video that was packed.
        """
        painted = repainted(self.sample, self.view)
        fitted = self._fitted(segment)
        (_, frame, scale, row, col, rank), loss = self._tokens()
        for number, (painted_HW3, source_HW3) in enumerate(zip(painted, fitted, strict=False)):
            if source_HW3 is not None and segment is not None:
                self._check_source(number, painted_HW3, source_HW3, segment)
            at = frame == number
            yield Shot(
                time_seconds=self.meta["times"][number],
                psnr=self.meta["psnr"][number],
                l1=self.meta["l1"][number],
                scale_K=scale[at],
                row_K=row[at],
                col_K=col[at],
                rank_K=rank[at],
                loss_K=loss[at],
                grid=self.grid,
                source_HW3=source_HW3,
                painted_HW3=painted_HW3,
            )

    def _fitted(self, segment: Segment | None) -> Iterator[Pixels | None]:
        if segment is None:
            return repeat(None)
        return refitted(self.sample, self.view, segment, self.info)

    def _tokens(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]:
        """Return the tokens of this view, 6 x N, a row for each of `TOKEN_FIELDS`, and their losses."""
        tokens_N6 = self.sample.tokens_N6
        here_N = tokens_N6[:, 0] == self.view
        return tokens_N6[here_N].T.astype(np.int64), self.sample.loss_N[here_N]

    def _check_source(
        self, number: int, painted_HW3: Pixels, source_HW3: Pixels, segment: Segment
    ) -> None:
        """Refuse a video whose frames are not those that were packed."""
        found = float(abs(painted_HW3.astype(np.int64) - source_HW3).mean())
        if abs(found - self.meta["l1"][number]) > SAME_VIDEO:
            raise VideoError(
                f"{segment.uri!r} shows something else at {self.meta['times'][number]:g} s than was packed",
                stage="decode",
                remedy="it was changed since",
            )

    def facts(self) -> str:
        """Return the numbers of the sample for people."""
        tokens = sum(self.meta["tokens"])
        dense = self.grid.num_dense * self.num_frames
        fewer = f", {dense / tokens:.1f}x fewer" if tokens else ""
        grid = f"{self.grid.rows} x {self.grid.cols} tiles of {TILE_SIDE * self.grid.patch_size} px"
        frames, kept = counted(self.num_frames, "frame"), counted(tokens, "token")
        return f"{frames}, {kept} of {dense:,} dense{fewer}, {grid}"


def spread(num_frames: int, shown: int) -> list[int]:
    """Return which frames to show: at most `shown`, evenly spread, the first among them."""
    shown = min(shown, num_frames)
    return [number * num_frames // shown for number in range(shown)]
