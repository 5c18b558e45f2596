"""Charts as numbers for the templates: what is drawn is stretched to its room, what is read is text beside it.

A plot is an SVG of 1000 x 100 units without a fixed aspect, so that it fills a phone and a screen alike; its
labels are HTML around it and keep their size. No script draws anything.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gazepack.units import counted

WIDTH, HEIGHT = 1000.0, 100.0
"""Of a plot, in its own units."""
_HEADROOM = 1.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """An upright bar of a plot."""

    x: float
    y: float
    width: float
    height: float
    says: str
    """Shown when it is pointed at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart over one axis."""

    title: str
    top: str
    """What the upper edge stands for."""
    bottom: str
    """What the lower edge stands for."""
    ticks: tuple[str, ...]
    """Below the plot, evenly spread from its left edge to its right one."""
    says: str
    """The whole in one sentence, for who cannot see it."""
    bars: tuple[Bar, ...] = ()
    line: str = ""
    """An SVG path."""
    band: str = ""
    """A closed SVG path behind the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A row of a table whose bar shows its part of the largest."""

    name: str
    value: str
    part: float
    """0 to 1."""
    colour: str = ""
    """A CSS colour; that of all bars if empty."""


def curve(
    values: Sequence[float], *, title: str, unit: str, ticks: Sequence[str], floor: float = 0.0
) -> Plot:
    """Return a line through values at even steps.

    Args:
        values: at least one.
        title: above the plot.
        unit: behind numbers.
        ticks: below the plot, left to right.
        floor: what the lower edge stands for; no value is below it.
    """
    highest = max(values)
    ceiling = floor + (highest - floor) * _HEADROOM
    if ceiling <= floor:
        ceiling = floor + 1.0
    if all(float(value).is_integer() for value in values):
        ceiling = math.ceil(ceiling)  # counts have whole numbers at their axis
    return Plot(
        title=title,
        top=f"{ceiling:,.4g} {unit}",
        bottom=f"{floor:,.4g}",
        ticks=tuple(ticks),
        says=f"{title}: {min(values):,.1f} to {highest:,.1f} {unit}",
        line=_path(steps([value - floor for value in values], ceiling - floor)),
    )


def spread_curve(
    middle: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    title: str,
    unit: str,
    ticks: Sequence[str],
) -> Plot:
    """Return a line within a band."""
    ceiling = max(max(high), max(middle)) * _HEADROOM or 1.0
    border = [*steps(high, ceiling), *reversed(steps(low, ceiling))]
    return Plot(
        title=title,
        top=f"{ceiling:,.0f} {unit}",
        bottom="0",
        ticks=tuple(ticks),
        says=f"{title}: {middle[0]:,.1f} {unit} first, {middle[-1]:,.1f} last",
        line=_path(steps(middle, ceiling)),
        band=f"{_path(border)}Z",
    )


def histogram(counts: Sequence[int], edges: Sequence[str], *, title: str, noun: str) -> Plot:
    """Return bars side by side.

    Args:
        counts: one a bin.
        edges: one more than counts; where the bins begin and end.
        title: above the plot.
        noun: what is counted, such as `sample`.
    """
    most = max(counts) or 1
    step = WIDTH / len(counts)
    bars = tuple(
        Bar(
            x=round(number * step, 2),
            y=round(HEIGHT * (1 - count / most / _HEADROOM), 2),
            width=round(step * 0.92, 2),
            height=round(HEIGHT * count / most / _HEADROOM, 2),
            says=f"{edges[number]} to {edges[number + 1]}: {counted(count, noun)}",
        )
        for number, count in enumerate(counts)
        if count
    )
    return Plot(
        title=title,
        top=f"{most:,}",
        bottom="0",
        ticks=(edges[0], edges[len(counts) // 2], edges[-1]),
        says=f"{title}: {counted(sum(counts), noun)} from {edges[0]} to {edges[-1]}",
        bars=bars,
    )


def shares(
    rows: Sequence[tuple[str, float, str]], colours: Sequence[str] = ()
) -> tuple[Share, ...]:
    """Return the rows of a bar table.

    Args:
        rows: name, amount, and the amount for people.
        colours: of the rows.
    """
    most = max((amount for _, amount, _ in rows), default=0.0) or 1.0
    return tuple(
        Share(
            name=name,
            value=value,
            part=round(amount / most, 4),
            colour=colours[number] if colours else "",
        )
        for number, (name, amount, value) in enumerate(rows)
    )


def steps(values: Sequence[float], ceiling: float) -> list[tuple[float, float]]:
    """Return points for values at even steps across a plot; one value stands at both edges."""
    values = list(values) * 2 if len(values) == 1 else values
    last = len(values) - 1
    return [
        (WIDTH * number / last, HEIGHT * (1 - value / ceiling))
        for number, value in enumerate(values)
    ]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
