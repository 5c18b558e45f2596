"""How good is a prefix: a dataset packed at 34 dB and cut at load time, against packing with fewer tokens.

    python benchmarks/prefix.py FOLDER

Takes the first clip of 16 frames of every video in FOLDER, chooses its tokens at 34 dB with `greedy`, keeps
what the dial `max_tokens_per_frame` (or `max_tokens`, at 16 times as many) keeps, paints that and measures it
against the fitted frames. Beside it stands the mean PSNR that packing reaches with as many tokens in all, read
off a line through packings at 14, 16, ... 34 dB. Both are means over all frames of all clips, in dB.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from equal_error import batched, read

from gazepack.geometry import CLIP_FRAMES, Grid
from gazepack.loader import Dials
from gazepack.patches import psnr, repaint
from gazepack.selectors import ClipBatch, Greedy, Selection, choose

STORED = 34
"""The bound of the dataset that is cut, in dB."""
PACKED = range(14, STORED + 1, 2)
"""The bounds of the packings beside it."""
BUDGETS = (4, 8, 16, 32, 64)
"""Tokens a frame that are kept."""


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    torch.set_num_threads(1)
    grid = Grid(rows=1, cols=1)
    clips = batched(read(parser.parse_args().folder, grid), grid)
    packings = {bound: choose(Greedy(), clips, min_psnr=bound) for bound in PACKED}
    curve = [score(clips, packing, Dials()) for packing in packings.values()]
    tokens, quality = zip(*curve, strict=True)
    print(f"{len(clips)} clips, {tokens[-1]:.1f} tokens a frame at {STORED} dB\n")
    print("| dial | tokens a frame | mean PSNR of the cut | of packing as many | lost |")
    print("|---|---|---|---|---|")
    for budget in BUDGETS:
        for dial, value in (("max_tokens_per_frame", 1), ("max_tokens", CLIP_FRAMES)):
            kept, cut = score(clips, packings[STORED], Dials(**{dial: budget * value}))
            packed = float(np.interp(kept, tokens, quality))
            row = f"| `{dial}={budget * value}` | {kept:.1f} | {cut:.2f} | {packed:.2f} "
            print(f"{row}| {packed - cut:.2f} |")


def score(clips: ClipBatch, chosen: list[Selection], dials: Dials) -> tuple[float, float]:
    """Return the tokens a frame that stay, and the mean PSNR of the frames painted with them."""
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
        for frame_3HW, painted_HW3 in zip(frames_T3HW, painted, strict=False):
            apart = painted_HW3.astype(np.int64) - frame_3HW.permute(1, 2, 0).numpy()
            values.append(psnr(int((apart**2).sum()), apart.size))
    return counts / len(values), float(np.mean(values))


if __name__ == "__main__":
    main()
