"""Numbers for people."""


def size(num_bytes: int) -> str:
    """Return a number of bytes for people."""
    amount = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} TB"


def counted(number: int, noun: str) -> str:
    """Return a number of things whose plural ends in s, such as 1 video or 1,024 videos."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short(number: float) -> str:
    """Return a number for people in a few letters, such as 12.3M."""
    amount = float(number)
    for unit in ("", "k", "M", "G"):
        if amount < 1000:
            return f"{amount:.0f}" if not unit else f"{amount:.3g}{unit}"
        amount /= 1000
    return f"{amount:,.3g}T"


def duration(seconds: float) -> str:
    """Return a time for people, such as 2 h 05 min; seconds only below two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def time_left(done: float, whole: float, seconds: float) -> str:
    """Return how long the rest will take at the speed so far; empty while nothing is done.

    Args:
        done: of the work, in `seconds`.
        whole: of the work, `done` included.
        seconds: since the work began.
    """
    if done <= 0:
        return ""
    return f"about {duration(max(0.0, whole - done) / done * seconds)} left"
