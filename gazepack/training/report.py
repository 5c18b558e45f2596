"""An evaluation for people: Markdown tables and one figure, and as JSON for programs.

The figure is SVG written here, four plots side by side: tokens against the bound, the PSNR asked for against
the one measured, the scales that are used, and where the network looks. It needs no plotting library and
gives up looks.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gazepack.geometry import SCALE_SIDES, TILE_SIDE
from gazepack.training.evaluate import NAMES, Comparison, Evaluation, View

_COLOURS = {
    "autogaze": "#c0392b",
    "greedy": "#1f7a4d",
    "difference": "#2c5d9b",
    "random": "#8a8a8a",
}
_SIDE = 240
"""Side of a plot, in pixels."""
_MARGIN = 46


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as a JSON object."""
    return {
        "model": evaluation.model,
        "model_sha256": evaluation.model_sha256,
        "clips": list(evaluation.clips),
        "comparisons": [
            {
                "side": c.view.side,
                "fps": c.view.fps,
                "min_psnr": c.min_psnr,
                "dense": c.dense,
                "tokens": {name: list(tokens) for name, tokens in c.tokens.items()},
                "times_greedy": {name: round(c.times_greedy(name), 3) for name in NAMES},
                "own": c.own,
                "own_order": c.own_order,
                "alone": c.alone,
                "measured_psnr": round(c.measured_psnr, 3),
                "off_db": round(c.off_db, 3),
                "off_share": round(c.off_db / c.min_psnr, 4),
                "missed_db": round(c.missed_db, 3),
                "missed_share": round(c.missed_db / c.min_psnr, 4),
            }
            for c in evaluation.comparisons
        ],
        "repeat_tokens": round(evaluation.repeat_tokens, 3),
        "repeat_alone": round(evaluation.repeat_alone, 3),
        "scales": {
            name: [round(x, 4) for x in shares] for name, shares in evaluation.scales.items()
        },
    }


def to_markdown(evaluation: Evaluation) -> str:
    """Return an evaluation as Markdown tables."""
    return "\n".join(_lines(evaluation)) + "\n"


def _lines(evaluation: Evaluation) -> Iterator[str]:
    yield f"Model `{evaluation.model}` (sha256 {evaluation.model_sha256[:12]}), "
    yield f"{len(evaluation.clips)} clips, up to 16 frames each, every frame at the bound."
    yield ""
    yield "Tokens of all clips together, and how many times greedy's they are:"
    yield ""
    yield "| view | bound | dense | greedy | autogaze | difference | random |"
    yield "|---|---|---|---|---|---|---|"
    for c in evaluation.comparisons:
        greedy = sum(c.tokens["greedy"])
        others = " | ".join(
            f"{sum(c.tokens[name]):,} ({c.times_greedy(name):.2f}x)"
            for name in ("autogaze", "difference", "random")
        )
        yield f"| {c.view.name} | {c.min_psnr:g} dB | {c.dense:,} | {greedy:,} | {others} |"
    yield ""
    yield "What the network chose of these itself (greedy added the rest), and what it needs without greedy:"
    yield ""
    yield "| view | bound | own share | in own order |"
    yield "|---|---|---|---|"
    for c in evaluation.comparisons:
        share = c.own / max(1, sum(c.tokens["autogaze"]))
        yield f"| {c.view.name} | {c.min_psnr:g} dB | {share:.0%} | {_own_order(c)} |"
    yield ""
    yield "Calibration: the network alone, no error measured, asked for a PSNR. Per cent are of the dB asked."
    yield ""
    yield "| view | asked | tokens | measured on average | off by | distance of a frame on average |"
    yield "|---|---|---|---|---|---|"
    for c in evaluation.comparisons:
        off, missed = c.off_db / c.min_psnr, c.missed_db / c.min_psnr
        yield (
            f"| {c.view.name} | {c.min_psnr:g} dB | {c.alone:,} | {c.measured_psnr:.2f} dB | "
            f"{c.off_db:+.2f} dB ({off:+.1%}) | {c.missed_db:.2f} dB ({missed:.1%}) |"
        )
    yield ""
    yield (
        f"A frame that repeats the one before costs {evaluation.repeat_tokens:.2f} tokens as packing uses the "
        f"network, {evaluation.repeat_alone:.2f} where it decides alone, at 30 dB and 224 px."
    )
    yield ""
    yield "Share of the tokens at each scale (patches a tile side):"
    yield ""
    yield "| selector | " + " | ".join(str(side) for side in SCALE_SIDES) + " |"
    yield "|---|" + "---|" * len(SCALE_SIDES)
    for name in NAMES:
        shares = " | ".join(f"{share:.0%}" for share in evaluation.scales[name])
        yield f"| {name} | {shares} |"


def _own_order(comparison: Comparison) -> str:
    """Write how many tokens the network needs by itself, and how many times greedy's that is."""
    if comparison.own_order is None:
        return "cannot go on"
    times = comparison.own_order / max(1, sum(comparison.tokens["greedy"]))
    return f"{comparison.own_order:,} ({times:.2f}x)"


def to_svg(evaluation: Evaluation) -> str:
    """Return a figure of the first view: curves, calibration, scales, and where the network looks."""
    view = evaluation.comparisons[0].view
    plots = (
        ("tokens of all clips at a bound (dB)", _curves(evaluation.comparisons, view)),
        ("dB measured where autogaze stops alone", _calibration(evaluation.comparisons, view)),
        ("share of tokens at each scale", _bars(evaluation)),
        ("where autogaze looks, in a tile", _heat(evaluation)),
    )
    width, height = len(plots) * (_SIDE + 2 * _MARGIN), _SIDE + 2 * _MARGIN + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, (title, body) in enumerate(plots):
        left = number * (_SIDE + 2 * _MARGIN) + _MARGIN
        parts.append(f'<g transform="translate({left},{_MARGIN})">')
        parts.append(f'<text x="0" y="-14" font-size="13">{title}</text>')
        parts += [*body, "</g>"]
    for number, name in enumerate(NAMES):
        x = _MARGIN + number * 90
        parts.append(
            f'<rect x="{x}" y="{height - 18}" width="10" height="10" fill="{_COLOURS[name]}"/>'
        )
        parts.append(f'<text x="{x + 14}" y="{height - 9}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _curves(comparisons: list[Comparison], view: View) -> Iterator[str]:
    """Draw tokens against the bound, on a logarithmic scale."""
    shown = sorted((c for c in comparisons if c.view == view), key=lambda c: c.min_psnr)
    counts = {name: [max(1, sum(c.tokens[name])) for c in shown] for name in NAMES}
    low = np.log10(min(min(x) for x in counts.values())) - 0.1
    high = np.log10(max(max(x) for x in counts.values())) + 0.1
    first, last = shown[0].min_psnr, shown[-1].min_psnr
    yield f'<rect width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#999"/>'
    for name, values in counts.items():
        points = []
        for c, value in zip(shown, values, strict=True):
            x = _SIDE * (c.min_psnr - first) / max(last - first, 1e-9)
            y = _SIDE * (high - np.log10(value)) / (high - low)
            points.append(f"{x:.1f},{y:.1f}")
        yield (
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{_COLOURS[name]}" '
            f'stroke-width="2"/>'
        )
    for c in shown:
        x = _SIDE * (c.min_psnr - first) / max(last - first, 1e-9)
        yield f'<text x="{x:.0f}" y="{_SIDE + 14}" text-anchor="middle">{c.min_psnr:g}</text>'
    for power in range(int(np.ceil(low)), int(np.floor(high)) + 1):
        y = _SIDE * (high - power) / (high - low)
        yield f'<text x="-4" y="{y:.0f}" text-anchor="end">{10**power:,}</text>'


def _calibration(comparisons: list[Comparison], view: View) -> Iterator[str]:
    """Draw the PSNR measured over the PSNR asked for, beside the line where both are equal."""
    shown = sorted((c for c in comparisons if c.view == view), key=lambda c: c.min_psnr)
    values = [x for c in shown for x in (c.min_psnr, c.measured_psnr)]
    low, high = min(values) - 1, max(values) + 1

    def at(asked: float, measured: float) -> str:
        x, y = (_SIDE * (value - low) / (high - low) for value in (asked, measured))
        return f"{x:.1f},{_SIDE - y:.1f}"

    yield f'<rect width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#999"/>'
    yield f'<polyline points="{at(low, low)} {at(high, high)}" fill="none" stroke="#999"/>'
    points = " ".join(at(c.min_psnr, c.measured_psnr) for c in shown)
    colour = _COLOURS["autogaze"]
    yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for c in shown:
        x = _SIDE * (c.min_psnr - low) / (high - low)
        yield f'<text x="{x:.0f}" y="{_SIDE + 14}" text-anchor="middle">{c.min_psnr:g}</text>'
        y = _SIDE * (high - c.measured_psnr) / (high - low)
        yield f'<text x="-4" y="{y:.0f}" text-anchor="end">{c.measured_psnr:.1f}</text>'


def _bars(evaluation: Evaluation) -> Iterator[str]:
    """Draw the share of each scale, a bar a selector."""
    step = _SIDE / len(SCALE_SIDES)
    for s, side in enumerate(SCALE_SIDES):
        for number, name in enumerate(NAMES):
            share = evaluation.scales[name][s]
            x = s * step + 6 + number * (step - 12) / len(NAMES)
            yield (
                f'<rect x="{x:.1f}" y="{_SIDE * (1 - share):.1f}" height="{_SIDE * share:.1f}" '
                f'width="{(step - 14) / len(NAMES):.1f}" fill="{_COLOURS[name]}"/>'
            )
        yield f'<text x="{(s + 0.5) * step:.0f}" y="{_SIDE + 14}" text-anchor="middle">{side}</text>'
    yield f'<line x1="0" y1="{_SIDE}" x2="{_SIDE}" y2="{_SIDE}" stroke="#999"/>'


def _heat(evaluation: Evaluation) -> Iterator[str]:
    """Draw how often each cell of a tile is looked at."""
    cell = _SIDE / TILE_SIDE
    most = evaluation.heat_GG.max()
    for (row, col), share in np.ndenumerate(evaluation.heat_GG):
        level = int(255 - 215 * share / most)
        yield (
            f'<rect x="{col * cell:.1f}" y="{row * cell:.1f}" width="{cell:.1f}" '
            f'height="{cell:.1f}" fill="rgb({level},{level},255)"/>'
        )
