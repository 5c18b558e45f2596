"""Did training help? Checkpoints against the first of them: what each paints with as many tokens.

    python benchmarks/training_curve.py CLIPS/val run/model rl-50/model rl-100/model [--out curve.md]

Each network takes the first 16 frames of every video (centre crop, 224 px) with 8, 24 and 72 tokens a frame,
in its own order, every frame on its own canvas: no threshold, no help from greedy. The gain is the PSNR
over that of the first network, clip by clip; beside the mean stands its standard error over the clips,
which are few and unlike, so a gain of less than two of them shows nothing. Beside it stands what the network
alone, asked for 30 dB, spends on a frame that repeats the one before: 1 if it had known its own error. With
`--out` a figure is drawn beside the table.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gazepack.autogaze import AutoGaze
from gazepack.errors import GazepackError, SourceError
from gazepack.geometry import TILE_TOKENS
from gazepack.selectors import ClipBatch, Gazing, choose
from gazepack.training import Video, View
from gazepack.training.evaluate import load_clips, shown_twice

BUDGETS = (8, 24, 72)
"""Tokens of a frame."""
COLOURS = ("#2c5d9b", "#1f7a4d", "#c0392b")
BOUND = 30.0
"""What is asked for where a frame repeats, in dB."""
SIDE = 240
"""Height of the plot, in pixels."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how much a network is above the first, in some unit."""

    mean: float
    error: float
    """Standard error of the mean over clips."""


def main() -> int:
    """Measure, print, and write table and figure if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="videos that were not trained on")
    parser.add_argument("models", nargs="+", help="checkpoints; the first is compared with")
    parser.add_argument("--names", help="what to call them, with commas between")
    parser.add_argument(
        "--out", type=Path, help="a Markdown file to write; the figure goes beside it"
    )
    arguments = parser.parse_args()
    names = arguments.names.split(",") if arguments.names else arguments.models
    if len(names) != len(arguments.models):
        parser.error(f"{len(names)} names for {len(arguments.models)} models")
    torch.set_num_threads(1)
    try:
        clips = read(arguments.folder)
        found = [
            measure(AutoGaze.from_pretrained(x, device="cpu"), clips) for x in arguments.models
        ]
    except GazepackError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("\n".join(lines(names, found)))
    if arguments.out:
        write(arguments.out, names, found, num_clips=len(clips))
    return 0


def read(folder: Path) -> ClipBatch:
    """Return the first clip of each video of a folder; say which cannot be read."""
    paths = sorted(folder.glob("*"))
    if not paths:
        raise SourceError(f"no video in {folder}", remedy="name a folder of videos")
    videos = [Video(uri=str(path)) for path in paths]
    return load_clips(videos, View(), lambda line: print(line, file=sys.stderr))


def measure(model: AutoGaze, clips: ClipBatch) -> Floats:
    """Return what a network reaches in each clip: mean PSNR in dB at each budget, tokens of a repeated frame.

    Returns:
        (budgets + 1) x clips.
    """
    means = []
    for budget in BUDGETS:
        # half a token more, so that rounding cannot take one away
        selections = choose(Gazing(model, gazing_ratio=(budget + 0.5) / TILE_TOKENS), clips)
        means.append([float(selection.psnr_T.mean()) for selection in selections])
    selections = choose(Gazing(model, loss_threshold=-BOUND), shown_twice(clips))
    means.append([float(selection.tokens_T[1::2].mean()) for selection in selections])
    return np.asarray(means)


def write(out: Path, names: list[str], found: list[Floats], *, num_clips: int) -> None:
    """Write the page, and the figure beside it."""
    drawn = out.with_suffix(".svg")
    page = (
        "# What each stage of training gained",
        "",
        f"PSNR of {num_clips} clips that were not trained on (first 16 frames, 224 px), painted with as many",
        f"tokens in each network's own order, and the tokens of a repeated frame at {BOUND:g} dB, alone; below",
        "the first row, difference from the first network and its standard error over clips.",
        "Made by `benchmarks/training_curve.py`.",
        "",
        *lines(names, found),
        "",
        f"![Gain over the first network]({drawn.name})",
    )
    out.write_text("\n".join(page) + "\n", encoding="utf-8")
    drawn.write_text(figure(names, found), encoding="utf-8")


def gain(found: Floats, first: Floats) -> list[Gain]:
    """Compare two networks clip by clip, in each measure."""
    apart = found - first
    errors = apart.std(1, ddof=1) / math.sqrt(apart.shape[1]) if apart.shape[1] > 1 else apart[:, 0]
    return [Gain(mean=float(m), error=float(e)) for m, e in zip(apart.mean(1), errors, strict=True)]


def lines(names: list[str], found: list[Floats]) -> Iterator[str]:
    """Yield the table."""
    heads = [*(f"{budget} tokens a frame" for budget in BUDGETS), "a repeated frame"]
    units = ["dB"] * len(BUDGETS) + ["tokens"]
    yield "| network | " + " | ".join(heads) + " |"
    yield "|---|" + "---|" * len(heads)
    cells = (f"{x:.2f} {unit}" for x, unit in zip(found[0].mean(1), units, strict=True))
    yield f"| {names[0]} | {' | '.join(cells)} |"
    for name, other in zip(names[1:], found[1:], strict=True):
        gains = zip(gain(other, found[0]), units, strict=True)
        cells = (f"{g.mean:+.3f} ± {g.error:.3f} {unit}" for g, unit in gains)
        yield f"| {name} | {' | '.join(cells)} |"


def figure(names: list[str], found: list[Floats]) -> str:
    """Draw the gains in dB, a curve a budget, with bars of a standard error."""
    gains = [gain(other, found[0])[: len(BUDGETS)] for other in found]
    reach = max(abs(g.mean) + g.error for row in gains for g in row) * 1.1 or 1.0
    width = 120 * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-60 -30 {width + 80} {SIDE + 90}" '
        f'font-family="sans-serif" font-size="11">',
        f'<rect x="-60" y="-30" width="{width + 80}" height="{SIDE + 90}" fill="white"/>',
        '<text x="0" y="-12" font-size="13">dB gained over the first, own order, ± standard error</text>',
        f'<line x1="0" y1="{SIDE / 2}" x2="{width}" y2="{SIDE / 2}" stroke="#999"/>',
    ]
    for share in (-1.0, -0.5, 0.5, 1.0):
        y = SIDE / 2 * (1 - share)
        parts.append(f'<text x="-6" y="{y:.0f}" text-anchor="end">{share * reach:+.2f}</text>')
    for number, name in enumerate(names):
        x = 60 + 120 * number
        parts.append(f'<text x="{x}" y="{SIDE + 20}" text-anchor="middle">{name}</text>')
    for b, (budget, colour) in enumerate(zip(BUDGETS, COLOURS, strict=True)):
        points = []
        for number, row in enumerate(gains):
            x = 60 + 120 * number + 5 * (b - 1)
            y, bar = (SIDE / 2 * v / reach for v in (reach - row[b].mean, row[b].error))
            points.append(f"{x},{y:.1f}")
            ends = f'y1="{y - bar:.1f}" x2="{x}" y2="{y + bar:.1f}"'
            parts.append(f'<line x1="{x}" {ends} stroke="{colour}"/>')
        line = " ".join(points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = 130 * b, SIDE + 48
        parts.append(f'<text x="{x}" y="{y}" fill="{colour}">{budget} tokens a frame</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
