"""Tokens at equal painting error: greedy against random patches, RGB difference and the dense video.

    python benchmarks/equal_error.py [FOLDER] [--rows 1 --cols 1] [--threads 2] [--out table.md]

Takes the first clip of 16 frames of every video in FOLDER (of generated scenes without one), crops its
middle to the shape of the grid, and lets each selector reach 26, 30 and 34 dB in every frame. Cells are
tokens, with `random` and `difference` as multiples of greedy's. Greedy's speed is counted over the whole
batch, in tile-frames a second of wall time and of processor time; the latter holds on a busy machine.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from gazepack.errors import GazepackError, SourceError
from gazepack.geometry import CLIP_FRAMES, Grid
from gazepack.selectors import ClipBatch, Difference, Greedy, Random, Selection, Selector, choose
from gazepack.video import Sampling, decode, fit
from gazepack.video.scenes import cuts, grainy, objects, pan, screen

BOUNDS = (26, 30, 34)
HEAD = ("clip", "dense", "greedy", "dense / greedy", "random / greedy", "difference / greedy")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the selectors needed at one bound."""

    min_psnr: int
    rows: list[tuple[str, ...]]
    """Cells of the table, a row for each clip and one for all."""
    speed: str
    """Greedy's, in words."""


def main() -> int:
    """Measure, print, and write the tables if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="videos; generated scenes if left out")
    parser.add_argument("--rows", type=int, default=1, help="tiles down")
    parser.add_argument("--cols", type=int, default=1, help="tiles across")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a Markdown file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        grid = Grid(rows=arguments.rows, cols=arguments.cols)
        clips = generated(grid) if arguments.folder is None else read(arguments.folder, grid)
    except GazepackError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    batch = batched(clips, grid)
    results = [measure(batch, min_psnr) for min_psnr in BOUNDS]
    show(results)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(markdown(results, arguments), encoding="utf-8")
    return 0


def generated(grid: Grid) -> dict[str, Pixels]:
    """Return a clip of each generated scene, T x H x W x 3, with the grain of a small sensor."""
    size = grid.width, grid.height, CLIP_FRAMES
    return {
        scene.__name__: np.stack(list(grainy(scene(*size), sigma=2.0)))
        for scene in (objects, pan, cuts, screen)
    }


def read(folder: Path, grid: Grid) -> dict[str, Pixels]:
    """Return the first clip of each video of a folder, T x H x W x 3; say which cannot be read."""
    clips = {}
    for path in sorted(folder.glob("*")):
        try:
            frames = islice(decode(str(path), Sampling()), CLIP_FRAMES)
            clips[path.name] = np.stack([fit(middle(f.rgb_HW3, grid), grid) for f in frames])
        except GazepackError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not clips:
        raise SourceError(f"no video in {folder}", remedy="name a folder of videos")
    return clips


def middle(rgb_HW3: Pixels, grid: Grid) -> Pixels:
    """Crop the largest middle part of the grid's shape."""
    height, width = rgb_HW3.shape[:2]
    unit = min(height / grid.rows, width / grid.cols)
    h, w = round(unit * grid.rows), round(unit * grid.cols)
    top, left = (height - h) // 2, (width - w) // 2
    return np.ascontiguousarray(rgb_HW3[top : top + h, left : left + w])


def batched(clips: dict[str, Pixels], grid: Grid) -> ClipBatch:
    """Put clips of any length together."""
    frames = torch.zeros(len(clips), CLIP_FRAMES, 3, grid.height, grid.width, dtype=torch.uint8)
    for row, clip in enumerate(clips.values()):
        frames[row, : len(clip)] = torch.from_numpy(clip).permute(0, 3, 1, 2)
    return ClipBatch(
        frames_BT3HW=frames,
        num_frames=tuple(map(len, clips.values())),
        names=tuple(clips),
        grid=grid,
    )


def measure(batch: ClipBatch, min_psnr: int) -> Result:
    """Let each selector reach the bound."""
    wall, cpu = time.perf_counter(), time.process_time()
    greedy = tokens(choose(Greedy(), batch, min_psnr=min_psnr))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    others: list[Selector] = [Random(), Difference()]
    counts = [greedy, *(tokens(choose(other, batch, min_psnr=min_psnr)) for other in others)]
    dense = [num * batch.grid.num_dense for num in batch.num_frames]
    rows = [row(*cells) for cells in zip(batch.names, dense, *counts, strict=True)]
    tile_frames = sum(batch.num_frames) * batch.grid.num_tiles
    return Result(
        min_psnr=min_psnr,
        rows=[*rows, row("all", sum(dense), *map(sum, counts))],
        speed=f"greedy: {tile_frames / wall:.0f} tile-frames/s, {tile_frames / cpu:.0f} a CPU second",
    )


def tokens(selections: list[Selection]) -> list[int]:
    """Return the tokens of each clip."""
    return [len(selection.frame) for selection in selections]


def row(name: str, dense: int, greedy: int, random: int, difference: int) -> tuple[str, ...]:
    """Return the cells of one clip."""
    return (
        name,
        str(dense),
        str(greedy),
        *(
            f"{many / few:.1f}"
            for many, few in ((dense, greedy), (random, greedy), (difference, greedy))
        ),
    )


def show(results: list[Result]) -> None:
    """Print the tables."""
    console = Console()
    for result in results:
        table = Table(title=f"every frame at {result.min_psnr} dB", caption=result.speed)
        for number, head in enumerate(HEAD):
            table.add_column(head, justify="right" if number else "left")
        for number, cells in enumerate(result.rows, 1):
            table.add_row(*cells, end_section=number == len(result.rows) - 1)
        console.print(table)


def markdown(results: list[Result], arguments: argparse.Namespace) -> str:
    """Return the tables as Markdown."""
    grid = f"{arguments.rows} x {arguments.cols} tiles of 224 px"
    lines = [
        "# Tokens at equal painting error",
        "",
        f"First {CLIP_FRAMES} frames of each clip, {grid}, {arguments.threads} threads. "
        "Made by `benchmarks/equal_error.py`.",
    ]
    for result in results:
        lines += ["", f"## Every frame at {result.min_psnr} dB", "", "| " + " | ".join(HEAD) + " |"]
        lines.append("|---|" + "---:|" * (len(HEAD) - 1))
        lines += ["| " + " | ".join(cells) + " |" for cells in result.rows]
        lines += ["", result.speed[0].upper() + result.speed[1:] + "."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
