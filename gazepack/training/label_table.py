"""A video's greedy labels as a table: what `gazepack label` writes, a Parquet file a video.

One row a frame. Clips of 16 frames stand alone, as everywhere. The lists end at the bound unless more is
asked for; losses are minus the PSNR in dB of the tile before each token.

    column       type             meaning
    clip         int32            number of the clip in the video
    frame        int32            number of the frame in the clip, 0..15
    time         float64          seconds from the first frame of the video
    kept         int32            how many ids meet the bound; the rest goes beyond
    ids          list<uint16>     tile ids, 0..264, in gaze order
    loss         list<float32>    minus the PSNR in dB before each id
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pyarrow as pa
import torch

from gazepack.autogaze.config import END
from gazepack.geometry import CLIP_FRAMES, Grid
from gazepack.training.clips import Pixels, Video
from gazepack.training.labels import Labels, label_clips
from gazepack.video import Frame, Sampling, decode, fit

CLIPS_AT_ONCE = 16
"""Clips that are labelled together."""
SCHEMA = pa.schema(
    [
        pa.field("clip", pa.int32(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("time", pa.float64(), nullable=False),
        pa.field("kept", pa.int32(), nullable=False),
        pa.field("ids", pa.list_(pa.uint16()), nullable=False),
        pa.field("loss", pa.list_(pa.float32()), nullable=False),
    ]
)


def label_video(
    video: Video,
    *,
    min_psnr: float,
    beyond: int = 0,
    sampling: Sampling,
    patch_size: int = 16,
    device: torch.device,
) -> pa.Table:
    """Label a video, each frame fitted to one square tile.

    Args:
        video: what to decode.
        min_psnr: the bound of every frame, in dB.
        beyond: how many tokens to list beyond the bound.
        sampling: which frames.
        patch_size: side of a patch, in pixels.
        device: where the pixels are worked on.

    Returns:
        A table of `SCHEMA`, one row a frame, in order of time.

    Raises:
        VideoError: it cannot be decoded.
    """
    grid = Grid(rows=1, cols=1, patch_size=patch_size)
    frames = decode(
        video.uri, sampling, start_seconds=video.start_seconds, end_seconds=video.end_seconds
    )
    tables: list[pa.Table] = []
    number = 0
    while batch := list(islice(frames, CLIPS_AT_ONCE * CLIP_FRAMES)):
        tables += _label(batch, grid, number, min_psnr=min_psnr, beyond=beyond, device=device)
        number += -(-len(batch) // CLIP_FRAMES)
    return pa.concat_tables(tables)


def _label(
    frames: list[Frame],
    grid: Grid,
    first_clip: int,
    *,
    min_psnr: float,
    beyond: int,
    device: torch.device,
) -> Iterator[pa.Table]:
    """Label the clips of some frames; the last may be short."""
    num_clips = -(-len(frames) // CLIP_FRAMES)
    fitted: list[Pixels] = [fit(frame.rgb_HW3, grid) for frame in frames]
    fitted += [fitted[-1]] * (num_clips * CLIP_FRAMES - len(fitted))  # labelled, and left out below
    frames_BT3SS = np.stack(fitted).reshape(num_clips, CLIP_FRAMES, grid.height, grid.width, 3)
    labels = label_clips(
        torch.from_numpy(frames_BT3SS).permute(0, 1, 4, 2, 3).contiguous().to(device),
        min_psnr_B=[min_psnr] * num_clips,
        beyond=beyond,
    )
    for b in range(num_clips):
        times = [f.time_seconds for f in frames[b * CLIP_FRAMES : (b + 1) * CLIP_FRAMES]]
        yield _table(labels, b, first_clip + b, times)


def _table(labels: Labels, row: int, clip: int, times: list[float]) -> pa.Table:
    """Return the rows of one clip."""
    num = range(len(times))
    counts = (labels.ids_BTN[row] != END).sum(1)
    columns = {
        "clip": [clip] * len(times),
        "frame": list(num),
        "time": times,
        "kept": labels.kept_BT[row, : len(times)],
        "ids": [labels.ids_BTN[row, t, : counts[t]].tolist() for t in num],
        "loss": [labels.loss_BTN[row, t, : counts[t]].tolist() for t in num],
    }
    return pa.table(columns, schema=SCHEMA)
