"""Numbers for people."""


def size(num_bytes: int) -> str:
    """Return a number of bytes for people."""
    amount = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} TB"


def short(number: float) -> str:
    """Return a number for people in a few letters, such as 12.3M."""
    amount = float(number)
    for unit in ("", "k", "M", "G"):
        if amount < 1000:
            return f"{amount:.0f}" if not unit else f"{amount:.3g}{unit}"
        amount /= 1000
    return f"{amount:,.3g}T"
