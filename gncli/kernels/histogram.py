"""Histograms: edges from the extremes, and exact counts between them.

Notes
-----
The counts are those of ``np.histogram(x.astype(np.float64), bins=np.linspace(min, max, bins + 1))`` over all elements.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.loops import loops
from gncli.kernels.moments import Floats
from gncli.kernels.plain import STEP, num_steps
from gncli.names import Scale


def edges(low: float, high: float, bins: int) -> Floats:
    """Return the edges of `bins` bins over the finite interval ``[low, high]``.

    If `low` equals `high`, the interval is of width 1 around it. If that width is lost to rounding, the interval ends
    at the neighbouring floats.

    Examples
    --------
    >>> edges(0.0, 1.0, 2).tolist(), edges(3.0, 3.0, 1).tolist(), edges(1e17, 1e17, 1).tolist()
    ([0.0, 0.5, 1.0], [2.5, 3.5], [9.999999999999998e+16, 1.0000000000000002e+17])
    """
    if low == high:
        value, low, high = low, low - 0.5, high + 0.5
        if low == high:
            largest = sys.float_info.max
            low, high = max(-largest, math.nextafter(value, -math.inf)), min(largest, math.nextafter(value, math.inf))
    if math.isinf(high - low):  # the difference overflows
        return 2 * np.linspace(low / 2, high / 2, bins + 1)
    return np.linspace(low, high, bins + 1)


def magnitude_edges(low: float, high: float, scale: Scale, bins: int) -> Floats:
    r"""Return the edges of bins of \|x\| over the interval ``[low, high]`` of positive numbers.

    With the scale ``exponent`` there is one bin per power of two, ``[2**e, 2**(e + 1))``; with ``log`` there are `bins`
    bins of one width in log \|x\|, or one bin if `low` equals `high`.

    Examples
    --------
    >>> magnitude_edges(0.75, 5.0, "exponent", 64).tolist(), magnitude_edges(0.25, 64.0, "log", 2).tolist()
    ([0.5, 1.0, 2.0, 4.0, 8.0], [0.25, 4.0, 64.0])
    """
    if scale == "exponent":
        exponents = range(math.frexp(low)[1] - 1, math.frexp(high)[1] + 1)
        return np.array([math.ldexp(1.0, e) if e < 1024 else sys.float_info.max for e in exponents])
    if low == high:
        return np.array([low, high])
    with np.errstate(over="ignore"):
        inner = np.exp2(np.linspace(math.log2(low), math.log2(high), bins + 1))
    inner[0], inner[-1] = low, high
    return np.maximum.accumulate(np.clip(inner, low, high))


def both_signs(at: Floats) -> Floats:
    r"""Return the edges that count elements of both signs, and between them zeros, by edges `at` of \|x\|.

    A bin of \|x\| has its lower edge, so one of negative numbers has its upper edge: the next edge lies beside that.
    """
    inner = np.nextafter(-at[:-1], 0.0)[::-1]
    return np.concatenate([-at[-1:], inner, at])


def folded(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    r"""Return the counts of bins of \|x\| from those between the edges of `both_signs`; zeros are in none."""
    middle = counts.size // 2
    return counts[:middle][::-1] + counts[middle + 1 :]


class Bins:
    """Counts elements of one dtype in bins.

    Parameters
    ----------
    at : ndarray of float64
        The edges, in non-decreasing order.
    dtype : numpy.dtype
        The dtype of the elements.

    Notes
    -----
    Along the bits of elements, seen as unsigned numbers, the bin changes at a few places: for each edge at one number.
    """

    def __init__(self, at: Floats, dtype: np.dtype[Any]) -> None:
        self._at = at
        native = dtype.newbyteorder("=")
        last = (1 << 8 * native.itemsize) - 1
        # The sign changes after the first half of all numbers, and the last interval ends at the last number.
        self._upper = np.unique(np.append(_places_of(at, native), np.array([last >> 1, last], np.uint64)))
        steps = np.arange(num_steps(native), dtype=np.uint64)
        starts = steps << np.uint64(max(0, 8 * native.itemsize - STEP))
        self._first = np.searchsorted(self._upper, starts).astype(np.uint32)
        self._bin = _searched(_numbers(self._upper, native), at)

    @property
    def size(self) -> int:
        """The number of bins."""
        return self._at.size - 1

    def count(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return how many of `values` (1-D) lie in each bin; NaN and values outside the edges are not counted."""
        counts = np.zeros(self.size + 1, np.int64)
        np.add.at(counts, self._bin, loops().between(values, self._first, self._upper))
        return counts[: self.size]


def _places_of(at: Floats, native: np.dtype[Any]) -> NDArray[np.uint64]:
    """Return for each edge the bits after which the bin changes, seen as unsigned numbers."""
    last = np.uint64((1 << 8 * native.itemsize) - 1)
    half = last // np.uint64(2) + np.uint64(1)
    low, high = np.uint64(0), last
    if native.kind == "f":
        infinity = np.uint64(np.array(np.inf, native).view(f"u{native.itemsize}"))
        low, high = half - np.uint64(1) - infinity, half + infinity

    def bits(rank: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the bits of the numbers of these ranks among all numbers, in ascending order."""
        if native.kind == "f":
            return np.where(rank < half, last - rank, rank - half)
        return rank ^ half if native.kind == "i" else rank

    def reached(rank: NDArray[np.uint64]) -> NDArray[np.bool_]:
        numbers = _numbers(bits(rank), native)
        return np.append(numbers[:-1] >= at[:-1], numbers[-1:] > at[-1:])

    below, above = np.full(at.size, low), np.full(at.size, high)
    some = reached(above)  # the largest number may be the last edge
    for _ in range(8 * native.itemsize):
        middle = below + (above - below) // np.uint64(2)
        far = reached(middle)
        above, below = np.where(far, middle, above), np.where(far, below, middle + np.uint64(1))
    rank = below[some]
    # Negative floats descend: their interval ends at the number that reaches the edge, others end before it.
    descending = rank < half if native.kind == "f" else np.zeros(rank.size, np.bool_)
    return np.where(descending, bits(rank), (bits(rank) - np.uint64(1)) & last)


def _numbers(bits: NDArray[np.uint64], native: np.dtype[Any]) -> Floats:
    """Return the numbers of `native` that have these bits."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return bits.astype(f"u{native.itemsize}").view(native).astype(np.float64)


def _searched(values: Floats, at: Floats) -> NDArray[np.int64]:
    """Return the bin of each value by binary search; the number of bins for values that lie in none."""
    bins = at.size - 1
    index = np.searchsorted(at, values, side="right") - 1
    index[values == at[-1]] = bins - 1
    index[~((values >= at[0]) & (values <= at[-1]))] = bins
    return np.asarray(index, np.int64)
