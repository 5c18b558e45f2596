import pytest

from gazepack.units import counted, duration, short, size, time_left


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (4.2e9, "4.2 GB"), (1.5e13, "15.00 TB")],
)
def test_size(number: int, expected: str) -> None:
    """Bytes are counted in thousands."""
    assert size(int(number)) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (999, "999"), (1234, "1.23k"), (12_345_678, "12.3M"), (5e9, "5G"), (2e13, "20T")],
)
def test_short(number: float, expected: str) -> None:
    """Three digits and a letter."""
    assert short(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_duration(seconds: float, expected: str) -> None:
    """As fine as anyone needs."""
    assert duration(seconds) == expected


def test_the_time_left_comes_from_work_done() -> None:
    """A tenth of the work in a minute leaves nine; nothing done promises nothing."""
    assert time_left(10, 100, 60) == "about 9 min left"
    assert time_left(100, 100, 60) == "about 0 s left"
    assert time_left(0, 100, 60) == ""


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 videos"), (1, "1 video"), (1024, "1,024 videos")]
)
def test_counted(number: int, expected: str) -> None:
    """One of a thing is no plural."""
    assert counted(number, "video") == expected
