"""Whole numbers among the arguments: Python's, numpy's, and whatever else `operator.index` takes."""

import operator
from typing import Any

from gazepack.errors import UsageError

_END = 2**63


def whole(name: str, value: Any, *, least: int = 0, remedy: str = "") -> int:
    """Return a number as Python's own.

    Args:
        name: of the argument, for the message.
        value: what was given.
        least: what it may be at least, below 2^63.
        remedy: for the message.

    Raises:
        UsageError: it is no whole number, or out of range; True and False are none.
    """
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not least <= number < _END:
        allowed = f"above {least - 1}" if least else "from 0 to 2^63 - 1"
        raise UsageError(f"{name} {value!r} is not a whole number {allowed}", remedy=remedy)
    return number
