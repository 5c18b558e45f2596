"""The samples that a report shows: one frame each, chosen patches and painting.

Of a sample only the frames up to the one that is shown are painted, and decoded where its video is at hand:
a picture of an hour costs what one of a second does. A dataset that stores places alone has its patches cut
from the video; its stored error says whether that is the video that was packed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gazepack.errors import GazepackError, UsageError
from gazepack.formats import DatasetDirectory
from gazepack.jobs import Segment, SourcePatches, frozen_listing, list_packed
from gazepack.viewing.drawing import Shot, chosen_pane, scaled
from gazepack.viewing.page import data_uri
from gazepack.viewing.pictures import shots_at
from gazepack.viewing.scene import Scene, beginning, segment_of

PICTURE_PIXELS = 360
"""Longest side of a picture."""
PICTURE_BYTES = 20_000
"""The most of a picture, before it becomes text."""
MAX_TEXT = 300
"""Letters of an id or a message that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sample, drawn."""

    id: str
    """Of the video."""
    facts: str
    """Its numbers."""
    chosen: str = ""
    """Data URI; empty if there is no picture."""
    painted: str = ""
    """Data URI; empty if there is no picture."""
    problem: str = ""
    """Why there is no picture, or why it is without the video."""


class Examples:
    """Draws samples of a dataset.

    Args:
        directory: the dataset.
        sources: where its videos are; where they were packed from if empty.

    Raises:
        SourceError: the sources cannot be listed.
    """

    def __init__(self, directory: DatasetDirectory, sources: Sequence[str]) -> None:
        self._directory = directory
        self._listing = list_packed(sources) if sources else _frozen(directory)

    def draw(self, row: dict[str, Any]) -> Example:
        """Draw the middle frame of the first clip of a sample, over the video where it is at hand.

        Args:
            row: shard, key, id and numbers of the sample, as the index has them.
        """
        psnr = "" if row["min_psnr"] is None else f", worst frame {row['min_psnr']:.1f} dB"
        reduction = row["dense_tokens"] / max(1, row["tokens"])
        facts = f"{row['tokens']:,} tokens, {reduction:.1f}x below dense{psnr}"
        example = Example(id=row["id"][:MAX_TEXT], facts=facts)
        try:
            shot, why = self._shot(row)
        except GazepackError as error:
            return replace(example, problem=f"no picture: {error}"[:MAX_TEXT])
        panes = (chosen_pane(shot), scaled(shot.painted_HW3, shot.grid))
        chosen, painted = (
            data_uri(pane, room=PICTURE_BYTES, longest=PICTURE_PIXELS) for pane in panes
        )
        return replace(example, chosen=chosen, painted=painted, problem=why[:MAX_TEXT])

    def _shot(self, row: dict[str, Any]) -> tuple[Shot, str]:
        """Return the frame that is shown, and why the video is not in it if it is not."""
        # 1. the sample, up to that frame
        index = self._directory.index(row["shard"])
        whole = index.filter(pc.equal(index["key"], row["key"])).to_pylist()[0]
        scene = Scene.of(self._directory, whole, view_name="tiles")
        at = min(self._directory.info.clip_frames, scene.num_frames) // 2
        scene = replace(scene, sample=beginning(scene.sample, at + 1))
        # 2. the video; what is stored can be shown without
        if scene.sample.patches_NPP3 is None:
            return shots_at(self._cut(scene), [at], segment=self._segment(row["id"]))[0], ""
        try:
            return shots_at(scene, [at], segment=self._segment(row["id"]))[0], ""
        except GazepackError as error:
            return shots_at(scene, [at], segment=None)[0], f"without the video: {error}"

    def _segment(self, video_id: str) -> Segment:
        """Return where a video is.

        Raises:
            UsageError: nobody says.
        """
        found = None if self._listing is None else segment_of(self._listing, video_id)
        if found is None:
            raise UsageError("no list says where it is", remedy="name the videos with --source")
        return found

    def _cut(self, scene: Scene) -> Scene:
        """Return a scene with patches from its video.

        Raises:
            UsageError: nobody says where it is.
            DatasetError: it cannot be decoded, or does not have these frames.
        """
        sample = scene.sample
        if self._listing is None:
            raise UsageError("places alone are stored", remedy="name the videos with --source")
        side = sample.patch_size
        patches_NPP3 = np.empty((sample.num_tokens, side, side, 3), np.uint8)
        SourcePatches.listed(self._listing).cut(sample, scene.info, out=patches_NPP3)
        return replace(scene, sample=replace(sample, patches_NPP3=patches_NPP3))


def _frozen(directory: DatasetDirectory) -> pa.Table | None:
    """Return the listing that packing froze, if it is there and whole: a report does without."""
    try:
        return frozen_listing(directory)
    except GazepackError:
        return None
