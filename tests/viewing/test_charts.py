import re

import pytest

from gazepack.viewing.charts import curve, histogram, shares, spread_curve, steps


def points(path: str) -> list[tuple[float, float]]:
    """The corners of a path."""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def test_a_curve_rises_from_its_floor() -> None:
    """The lowest value that can be lies on the lower edge; the largest just below the upper one."""
    plot = curve([30.0, 40.0, 35.5], title="PSNR", unit="dB", ticks=("a", "b"), floor=30)
    (x0, y0), (x1, y1), (x2, y2) = points(plot.line)
    assert (x0, x1, x2) == (0, 500, 1000)
    assert y0 == 100
    assert 0 < y1 < y2 < y0
    assert (plot.bottom, plot.top) == ("30", "40.6 dB")
    assert plot.says == "PSNR: 30.0 to 40.0 dB"
    assert curve([3, 42], title="t", unit="tokens", ticks=()).top == "45 tokens"


@pytest.mark.parametrize("values", [[0.0], [0, 0, 0], [5], [5, 5]])
def test_a_flat_curve_is_drawn(values: list[float]) -> None:
    """One value, or equal ones, make a level line from edge to edge."""
    drawn = points(curve(values, title="t", unit="u", ticks=()).line)
    assert (drawn[0][0], drawn[-1][0]) == (0, 1000)
    assert len({y for _, y in drawn}) == 1
    assert 0 <= drawn[0][1] <= 100


def test_a_band_is_closed_around_its_line() -> None:
    """The band runs forth on its upper and back on its lower border."""
    plot = spread_curve([2, 3], [1, 1], [4, 5], title="t", unit="u", ticks=())
    border = points(plot.band)
    assert plot.band.endswith("Z")
    assert border[:2] == [(x, pytest.approx(y, abs=0.06)) for x, y in steps([4, 5], 5 * 1.06)]
    assert [x for x, _ in border] == [0, 1000, 1000, 0]


def test_bars_of_a_histogram_say_what_they_count() -> None:
    """Bars stand side by side, as tall as their counts; an empty bin has none."""
    plot = histogram([1, 0, 4], ["a", "b", "c", "d"], title="t", noun="sample")
    assert [bar.says for bar in plot.bars] == ["a to b: 1 sample", "c to d: 4 samples"]
    low, high = plot.bars
    assert high.height == pytest.approx(4 * low.height, rel=1e-2)
    assert low.x + low.width <= high.x
    assert high.y + high.height == pytest.approx(100, abs=0.02)
    assert plot.ticks == ("a", "b", "d")


def test_shares_are_of_the_largest() -> None:
    """The largest row is full, nothing is nothing, and colours go with their rows."""
    rows = shares([("a", 1, "one"), ("b", 4, "four"), ("c", 0, "none")], ["red", "blue", "green"])
    assert [row.part for row in rows] == [0.25, 1, 0]
    assert [row.colour for row in rows] == ["red", "blue", "green"]
    assert shares([("a", 0, "none")])[0].part == 0
