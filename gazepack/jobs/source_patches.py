"""Patches cut from the videos at load time, for datasets that store places alone.

Decoding, fitting and cutting are those of packing, and whole numbers from the fit on, so the pixels are those
that were chosen from: the dataset's own checksum says so for every sample. What it gives up: every reading of a
sample decodes its stretch of the video, in the process that reads.
"""

import os
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch

from gazepack.errors import DatasetError, UsageError, VideoError
from gazepack.formats import DatasetInfo, LooseSample
from gazepack.geometry import Grid
from gazepack.jobs.replay import source_frames, view_grid
from gazepack.jobs.segment import Segment
from gazepack.jobs.sources import list_packed
from gazepack.patches import Pixels, cut, pyramid
from gazepack.video import fit


class SourcePatches:
    """The videos that a dataset of places was packed from: what `GazeDataset(patches_from=...)` takes.

    Args:
        sources: what was packed, as `gazepack pack` takes it: files, folders, globs and manifests, wherever
            they are now; a video is found by its id.

    Raises:
        SourceError: something named does not exist, holds no video or cannot be read.
    """

    def __init__(self, sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        named = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
        if not named:
            raise UsageError("no source is named", remedy="name the videos that were packed")
        self._listing = list_packed([os.fspath(source) for source in named])

    @classmethod
    def listed(cls, listing: pa.Table) -> Self:
        """Return the videos of a listing, as `list_packed` returns one."""
        videos = cls.__new__(cls)
        videos._listing = listing
        return videos

    def cut(self, sample: LooseSample, info: DatasetInfo, *, out: Pixels) -> None:
        """Put the patches of a sample into `out`, uint8 N x P x P x 3, in the order of its tokens.

        Raises:
            DatasetError: there is no such video, it cannot be decoded, or does not have these frames.
        """
        segment = self._segment(sample.meta["id"])
        views = sample.meta["views"]
        bounds = _bounds(views)
        frames = source_frames(sample, segment, info)
        try:
            for number, rgb_HW3 in enumerate(frames):
                for view, starts in zip(views, bounds, strict=True):
                    seen, skipped = divmod(number, view.get("every", 1))
                    if not skipped:
                        at, grid = slice(*starts[seen : seen + 2]), view_grid(view)
                        out[at] = _cut(fit(rgb_HW3, grid), grid, sample.tokens_N6[at])
        except VideoError as error:
            raise DatasetError(error.problem, remedy=error.remedy) from error

    def _segment(self, video_id: str) -> Segment:
        """Return where a video is; listings are sorted by id."""
        ids = self._listing["id"]
        wanted = video_id.encode()
        at = bisect_left(range(len(ids)), wanted, key=lambda row: ids[row].as_py().encode())
        if at == len(ids) or ids[at].as_py() != video_id:
            raise DatasetError(
                f"no source has the id {video_id!r}",
                remedy="name the folder or manifest that was packed",
            )
        return Segment.from_row(self._listing.slice(at, 1).to_pylist()[0])


def _bounds(views: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Return for each view where the tokens of its frames begin, and where the last ones end.

    Raises:
        DatasetError: a view shows other frames than the first, of which it shows every so-many-th.
    """
    times = views[0]["times"]
    if any(view["times"] != times[:: view.get("every", 1)] for view in views):
        raise DatasetError("its views are of different frames")
    bounds, start = [], 0
    for view in views:
        bounds.append(np.cumsum([start, *view["tokens"]]).tolist())
        start = bounds[-1][-1]
    return bounds


def _cut(
    fitted_HW3: Pixels, grid: Grid, tokens_K6: "np.ndarray[tuple[int, int], np.dtype[np.uint16]]"
) -> Pixels:
    """Return the patches of one frame of one view, uint8 K x p x p x 3."""
    levels = pyramid(torch.tensor(fitted_HW3).permute(2, 0, 1)[None])
    scale, row, col = (torch.from_numpy(column.astype(np.int64)) for column in tokens_K6.T[2:5])
    patches = cut(
        levels,
        frame=torch.zeros_like(scale),
        scale=scale,
        row=row,
        col=col,
        patch_size=grid.patch_size,
    )
    return patches.numpy()
