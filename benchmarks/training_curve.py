"""Did training help? Checkpoints against the first of them: the tokens each needs for the same error.

    python benchmarks/training_curve.py CLIPS/val run/model rl-100/model rl-200/model [--out curve.md]

Each network takes windows of 16 frames, spread evenly over every video (centre crop, 224 px), until each frame
has 26, 30 and 34 dB, in its own order, on its own canvas: no threshold, no help from greedy, which stands below
as the mark. A video's gain is by how much fewer tokens its windows need than with the first network; beside
the mean stands its standard error over the videos, which are few and unlike, so a gain of less than two of them
shows nothing. The last column is what the network alone, asked for 30 dB, spends on a frame that repeats the
one before: 1 if it had known its own error. With `--out` a figure is drawn beside the table.
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
from gazepack.geometry import CLIP_FRAMES
from gazepack.selectors import ClipBatch, Gazing, Greedy, choose
from gazepack.training import Video, View
from gazepack.training.evaluate import load_clips, shown_twice
from gazepack.video import probe

BOUNDS = (26.0, 30.0, 34.0)
"""What every frame shall have, in dB."""
ASKED = 30.0
"""What is asked for where a frame repeats, in dB."""
COLOURS = ("#2c5d9b", "#1f7a4d", "#c0392b")
SIDE = 240
"""Height of the plot, in pixels."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """What the networks are measured on."""

    clips: ClipBatch
    """All windows, those of a video together."""
    first_V: tuple[int, ...]
    """The first window of each video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a network differs from the first."""

    mean: float
    error: float
    """Standard error of the mean over videos."""


def main() -> int:
    """Measure, print, and write table and figure if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="videos that were not trained on")
    parser.add_argument("models", nargs="+", help="checkpoints; the first is compared with")
    parser.add_argument("--names", help="what to call them, with commas between")
    parser.add_argument("--windows", type=int, default=3, help="of a video, at most; default 3")
    parser.add_argument(
        "--out", type=Path, help="a Markdown file to write; the figure goes beside it"
    )
    arguments = parser.parse_args()
    names = arguments.names.split(",") if arguments.names else arguments.models
    if len(names) != len(arguments.models):
        parser.error(f"{len(names)} names for {len(arguments.models)} models")
    torch.set_num_threads(1)
    try:
        windows = read(arguments.folder, arguments.windows)
        found = []
        for name, model in zip(names, arguments.models, strict=True):
            found.append(measure(AutoGaze.from_pretrained(model, device="cpu"), windows))
            print(
                f"{name}: {' '.join(f'{x:.0f}' for x in found[-1][:-1].sum(1))} tokens", flush=True
            )
        found.append(greedy(windows))
    except GazepackError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    names.append("greedy")
    print("\n".join(lines(names, found)))
    if arguments.out:
        write(arguments.out, names, found, windows)
    return 0


def read(folder: Path, most: int) -> Windows:
    """Return windows of each video of a folder, evenly spread and apart; say which cannot be read."""
    paths = sorted(folder.glob("*"))
    if not paths:
        raise SourceError(f"no video in {folder}", remedy="name a folder of videos")
    videos: list[Video] = []
    firsts: list[int] = []
    for path in paths:
        info = probe(str(path))
        length = CLIP_FRAMES / (info.fps or 25.0)
        room = max(0.0, info.duration_seconds - length)
        num = max(1, min(most, 1 + int(room / length)))
        firsts.append(len(videos))
        starts = (room * k / max(1, num - 1) for k in range(num))
        videos += [Video(uri=str(path), start_seconds=start) for start in starts]
    clips = load_clips(videos, View(), lambda line: print(line, file=sys.stderr))
    if len(clips) != len(videos):
        raise SourceError("a window cannot be read", remedy="leave its video out of the folder")
    return Windows(clips=clips, first_V=tuple(firsts))


def measure(model: AutoGaze, windows: Windows) -> Floats:
    """Return a network's tokens of each video at each bound, and its tokens of a repeated frame.

    Returns:
        (bounds + 1) x V videos.
    """
    found = []
    for bound in BOUNDS:
        selections = choose(Gazing(model, stops_at_bound=True), windows.clips, min_psnr=bound)
        found.append(by_video([float(s.tokens_T.sum()) for s in selections], windows))
    selections = choose(Gazing(model, loss_threshold=-ASKED), shown_twice(windows.clips))
    repeated = by_video([float(s.tokens_T[1::2].mean()) for s in selections], windows)
    return np.stack([*found, repeated / by_video([1.0] * len(windows.clips), windows)])


def greedy(windows: Windows) -> Floats:
    """Return the same of greedy, which knows a frame's error: a repeated frame costs nothing."""
    found = []
    for bound in BOUNDS:
        selections = choose(Greedy(), windows.clips, min_psnr=bound)
        found.append(by_video([float(s.tokens_T.sum()) for s in selections], windows))
    return np.stack([*found, np.zeros(len(windows.first_V))])


def by_video(numbers: list[float], windows: Windows) -> Floats:
    """Add up what belongs to the windows of each video."""
    return np.add.reduceat(np.asarray(numbers), windows.first_V)


def write(out: Path, names: list[str], found: list[Floats], windows: Windows) -> None:
    """Write the page, and the figure beside it."""
    drawn = out.with_suffix(".svg")
    page = (
        "# What each stage of training gained",
        "",
        f"Tokens of {len(windows.clips)} windows (16 frames, 224 px) of {len(windows.first_V)} videos that",
        "were not trained on, every frame at the bound, in each network's own order; and the tokens of a",
        f"repeated frame at {ASKED:g} dB, the network alone. Below the first row: difference from the first",
        "network, mean and standard error over videos. Made by `benchmarks/training_curve.py`.",
        "",
        *lines(names, found),
        "",
        f"![Fewer tokens than the first network]({drawn.name})",
    )
    out.write_text("\n".join(page) + "\n", encoding="utf-8")
    drawn.write_text(figure(names, found), encoding="utf-8")


def changes(found: Floats, first: Floats) -> list[Change]:
    """Compare two networks video by video: tokens in per cent, tokens of a repeated frame in tokens."""
    shares = 100 * (found[:-1] / np.maximum(first[:-1], 1) - 1)
    apart = np.concatenate((shares, found[-1:] - first[-1:]))
    errors = apart.std(1, ddof=1) / math.sqrt(apart.shape[1]) if apart.shape[1] > 1 else apart[:, 0]
    return [
        Change(mean=float(m), error=float(e)) for m, e in zip(apart.mean(1), errors, strict=True)
    ]


def lines(names: list[str], found: list[Floats]) -> Iterator[str]:
    """Yield the table."""
    heads = [*(f"{bound:g} dB" for bound in BOUNDS), "a repeated frame"]
    yield "| network | " + " | ".join(heads) + " |"
    yield "|---|" + "---|" * len(heads)
    totals = (f"{x:,.0f} tokens" for x in found[0][:-1].sum(1))
    yield f"| {names[0]} | {' | '.join(totals)} | {found[0][-1].mean():.2f} tokens |"
    for name, other in zip(names[1:], found[1:], strict=True):
        *shares, repeated = changes(other, found[0])
        cells = (f"{c.mean:+.1f} ± {c.error:.1f} %" for c in shares)
        last = f"{repeated.mean:+.2f} ± {repeated.error:.2f}"
        yield f"| {name} | {' | '.join(cells)} | {last} |"


def figure(names: list[str], found: list[Floats]) -> str:
    """Draw the change in per cent, a curve a bound, with bars of a standard error."""
    rows = [changes(other, found[0])[: len(BOUNDS)] for other in found]
    lowest = min(c.mean - c.error for row in rows for c in row)
    highest = max(c.mean + c.error for row in rows for c in row)
    scale = SIDE / max(1e-6, highest - lowest)
    width = 120 * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-60 -40 {width + 80} {SIDE + 120}" '
        f'font-family="sans-serif" font-size="11">',
        f'<rect x="-60" y="-40" width="{width + 80}" height="{SIDE + 120}" fill="white"/>',
        '<text x="0" y="-18" font-size="13">Tokens for the same error, beside the first network\'s</text>',
    ]
    for tick in range(math.ceil(lowest / 5) * 5, math.floor(highest / 5) * 5 + 1, 5):
        y = (highest - tick) * scale
        parts.append(f'<line x1="0" y1="{y:.1f}" x2="{width}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(
            f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{f"{tick:+d}" if tick else "0"} %</text>'
        )
    for number, name in enumerate(names):
        x = 60 + 120 * number
        parts.append(f'<text x="{x}" y="{SIDE + 30}" text-anchor="middle">{name}</text>')
    for b, (bound, colour) in enumerate(zip(BOUNDS, COLOURS, strict=True)):
        points = []
        for number, row in enumerate(rows):
            x = 60 + 120 * number + 5 * (b - 1)
            y, bar = (highest - row[b].mean) * scale, row[b].error * scale
            points.append(f"{x},{y:.1f}")
            ends = f'y1="{y - bar:.1f}" x2="{x}" y2="{y + bar:.1f}"'
            parts.append(f'<line x1="{x}" {ends} stroke="{colour}"/>')
        line = " ".join(points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{90 * b}" y="{SIDE + 58}" fill="{colour}">{bound:g} dB</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
