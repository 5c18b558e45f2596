"""The canonical order of an epoch: a permutation that is a pure function of (size, seed, epoch).

Every position gets a 64-bit number from SplitMix64 (Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014), and the positions are sorted by it. NumPy's own
generators promise no equal streams across versions; this one is ten lines of integer arithmetic
and the same everywhere. It gives up nothing that counts: a million positions take 0.1 s.
"""

import numpy as np
import numpy.typing as npt

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def epoch_order(size: int, *, seed: int, epoch: int, shuffle: bool) -> npt.NDArray[np.int64]:
    """Return the positions 0..size-1 in the order of an epoch, int64 of shape (size,).

    Args:
        size: number of samples.
        seed: any integer from 0 to 2^63 - 1.
        epoch: from 0; every epoch has an order of its own.
        shuffle: False gives the order of the index, in every epoch.
    """
    positions = np.arange(size, dtype=np.int64)
    if not shuffle:
        return positions
    key = _mix(_mix(np.uint64(seed)) ^ np.uint64(epoch))
    numbers = _mix(key + positions.astype(np.uint64) * np.uint64(_GAMMA))
    return np.argsort(numbers, kind="stable")


def _mix(state: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    """Return the SplitMix64 output for each state; arithmetic is modulo 2^64."""
    z = np.atleast_1d(np.asarray(state, dtype=np.uint64)) + np.uint64(_GAMMA)
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))
