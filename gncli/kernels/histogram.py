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

from gncli.kernels.moments import Floats
from gncli.kernels.percentiles import bits_of, step_of


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
    The highest 16 bits of an element give an interval that it lies in. If that whole interval lies in one bin, the bin
    is known. So most elements cost one count of their bits, and few are compared with edges.
    """

    def __init__(self, at: Floats, dtype: np.dtype[Any]) -> None:
        self._at = at
        native = dtype.newbyteorder("=")
        lower = np.arange(1 << min(16, 8 * native.itemsize), dtype=np.uint64)
        rest = max(0, 8 * native.itemsize - 16)
        unsigned = np.dtype(f"u{native.itemsize}")
        with np.errstate(invalid="ignore"):  # among the bits there are signalling NaN
            ends = [
                ((lower << np.uint64(rest)) + np.uint64(more)).astype(unsigned).view(native).astype(np.float64)
                for more in (0, (1 << rest) - 1)
            ]
        self._bin = _searched(ends[0], at)
        # An interval is torn if an edge lies in it. NaN, whose bits follow those of infinity, sorts after all edges.
        low, high = np.fmin(*ends), np.fmax(*ends)
        self._torn = np.searchsorted(at, low, side="left") != np.searchsorted(at, high, side="right")

    @property
    def size(self) -> int:
        """The number of bins."""
        return self._at.size - 1

    def count(self, values: NDArray[Any], piece: int = 1 << 16) -> NDArray[np.int64]:
        """Return how many of `values` (1-D) lie in each bin; NaN and values outside the edges are not counted."""
        bins = self.size
        counts, number = np.zeros(bins + 1, np.int64), np.zeros(self._bin.size, np.int64)
        for start in range(0, values.size, piece):
            part = values[start : start + piece]
            bits = bits_of(part)
            high = step_of(bits, 0).astype(np.int64)
            number += np.bincount(high, minlength=number.size)
            torn = np.flatnonzero(self._torn.take(high))
            if torn.size:
                native = bits[torn].view(part.dtype.newbyteorder("="))
                counts += np.bincount(_searched(native.astype(np.float64), self._at), minlength=bins + 1)
        np.add.at(counts, self._bin[~self._torn], number[~self._torn])
        return counts[:bins]


def _searched(values: Floats, at: Floats) -> NDArray[np.int64]:
    """Return the bin of each value by binary search; the number of bins for values that lie in none."""
    bins = at.size - 1
    index = np.searchsorted(at, values, side="right") - 1
    index[values == at[-1]] = bins - 1
    index[~((values >= at[0]) & (values <= at[-1]))] = bins
    return np.asarray(index, np.int64)
