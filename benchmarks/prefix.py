"""How good is a cut: a dataset packed at 34 dB and cut at load time, against packing with fewer tokens.

    python benchmarks/prefix.py FOLDER

Takes the first clip of 16 frames of every video in FOLDER, chooses its tokens at 34 dB with `greedy`, keeps
what a dial keeps, paints that and measures it against the fitted frames. Beside it stands the mean PSNR that
packing reaches with as many tokens in all, read off a line through packings at 14, 16, ... 34 dB; a dial that
leaves frames out is held against packings of the frames that stay. Means are over all frames that stay, in dB.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equal_error import batched, read

from gazepack.geometry import CLIP_FRAMES, Grid
from gazepack.loader import Dials
from gazepack.patches import psnr, repaint
from gazepack.selectors import ClipBatch, Greedy, Selection, choose

Curve = tuple[tuple[float, ...], tuple[float, ...]]
"""Tokens a frame, and the mean PSNR that packing reaches with them."""
STORED = 34
"""The bound of the dataset that is cut, in dB."""
PACKED = range(14, STORED + 1, 2)
"""The bounds of the packings beside it."""
DIALS: tuple[dict[str, Any], ...] = (
    *({"max_tokens_per_frame": most} for most in (4, 8, 16, 32, 64)),
    *({"max_tokens": CLIP_FRAMES * most} for most in (4, 8, 16, 32, 64)),
    *({"max_loss": -bound} for bound in (22, 26, 30)),  # of `greedy`: the frame's PSNR, negative
    *({"scales": scales} for scales in ((0, 1, 2), (1, 2, 3), (2, 3), (3,))),
    *({"frame_step": step} for step in (2, 4)),
    {"max_frames": CLIP_FRAMES // 2},
)
"""Each row of the table."""


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    torch.set_num_threads(1)
    grid = Grid(rows=1, cols=1)
    clips = batched(read(parser.parse_args().folder, grid), grid)
    stored = choose(Greedy(), clips, min_psnr=STORED)
    curves: dict[range, Curve] = {}
    print(
        f"{len(clips)} clips, {score(clips, stored, Dials())[0]:.1f} tokens a frame at {STORED} dB\n"
    )
    print("| dial | tokens a frame | mean PSNR of the cut | of packing as many | lost |")
    print("|---|---|---|---|---|")
    for setting in DIALS:
        dials = Dials(**setting)
        frames = frames_that_stay(CLIP_FRAMES, dials)
        if frames not in curves:
            curves[frames] = curve_of(thinned(clips, frames))
        kept, cut = score(clips, stored, dials)
        packed = float(np.interp(kept, *curves[frames]))
        name = ", ".join(f"{dial}={value}" for dial, value in setting.items())
        print(
            f"| `{name}` | {kept:.1f} | {cut:.2f} | {packed:.2f} | {packed - cut:.2f} |", flush=True
        )


def frames_that_stay(num_frames: int, dials: Dials) -> range:
    """Return the frames of a clip that the dials keep."""
    return range(num_frames)[:: dials.frame_step or 1][: dials.max_frames]


def thinned(clips: ClipBatch, frames: range) -> ClipBatch:
    """Return the clips with these frames only."""
    return dataclasses.replace(
        clips,
        frames_BT3HW=clips.frames_BT3HW[:, list(frames)],
        num_frames=tuple(len([f for f in frames if f < n]) for n in clips.num_frames),
    )


def curve_of(clips: ClipBatch) -> Curve:
    """Return the tokens a frame and the mean PSNR of packings at ascending bounds."""
    points = [score(clips, choose(Greedy(), clips, min_psnr=b), Dials()) for b in PACKED]
    tokens, quality = zip(*points, strict=True)
    return tokens, quality


def score(clips: ClipBatch, chosen: list[Selection], dials: Dials) -> tuple[float, float]:
    """Return the tokens a frame that stay, and the mean PSNR of the frames that stay."""
    counts, values = 0, []
    for frames_T3HW, num_frames, s in zip(
        clips.frames_BT3HW, clips.num_frames, chosen, strict=True
    ):
        zeros = np.zeros_like(s.frame)
        tokens_N6 = np.stack([zeros, s.frame, s.scale, s.row, s.col, s.rank], axis=1)
        kept = dials.keep(tokens_N6.astype(np.uint16), s.loss.astype(np.float16))
        counts += len(kept)
        painted = repaint(
            s.patches_KPP3[kept],
            frame=s.frame[kept],
            scale=s.scale[kept],
            row=s.row[kept],
            col=s.col[kept],
            grid=clips.grid,
            num_frames=num_frames,
            clip_frames=CLIP_FRAMES,
        )
        pictures = list(painted)
        for number in frames_that_stay(num_frames, dials):
            apart = pictures[number].astype(np.int64)
            apart -= frames_T3HW[number].permute(1, 2, 0).numpy()
            values.append(psnr(int((apart**2).sum()), apart.size))
    return counts / len(values), float(np.mean(values))


if __name__ == "__main__":
    main()
