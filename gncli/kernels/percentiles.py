"""Percentiles, exact and in constant memory: elements are selected by their bits.

Notes
-----
The bits of an element, mapped so that their order is that of the values, are a path of 16-bit steps. A pass counts one
step of the elements that share a path so far: one pass selects among 16-bit values, two among 32-bit, four among 64-bit
values. The two neighbours of a rank are interpolated as `numpy.percentile` does it (method ``linear``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.moments import Floats
from gncli.kernels.plain import STEP, native_order, num_steps

BUCKETS = 1 << STEP


class Rank(NamedTuple):
    """The position of a percentile: at `share` of the way from sorted value `below` to `above`, counted from 0."""

    below: int
    above: int
    share: float


def rank(percentile: float, count: int) -> Rank:
    """Return the position of `percentile` among `count` sorted values, at least one.

    Examples
    --------
    >>> rank(50.0, 4)
    Rank(below=1, above=2, share=0.5)
    """
    place = (count - 1) * float(np.true_divide(percentile, 100))
    if place >= count - 1:
        return Rank(count - 1, count - 1, place + 1)
    below = int(np.floor(place))
    return Rank(below, below + 1, place - below)


def between(low: Floats | float, high: Floats | float, share: float) -> Floats:
    """Return the points at `share` of the way from `low` to `high`, with NumPy's roundings.

    Where the difference overflows, and NumPy's result is not finite, both are halved first and the result is doubled.

    Examples
    --------
    >>> float(between(1.0, 2.0, 0.25)), float(between(-1.5e308, 1.5e308, 0.5))
    (1.25, 0.0)
    """
    a, b = np.asarray(low, np.float64), np.asarray(high, np.float64)
    with np.errstate(over="ignore"):
        scale = np.where(np.isfinite(b - a), 1.0, 0.5)
    a, b = a * scale, b * scale
    difference = b - a
    points = b - difference * (1 - share) if share >= 0.5 else a + difference * share
    return np.asarray(points / scale + 0.0)  # -0.0 is 0.0


def steps(dtype: np.dtype[Any]) -> int:
    """Return the number of passes that select an element of `dtype`."""
    return max(1, dtype.itemsize * 8 // STEP)


def order(dtype: np.dtype[Any], level: int, negative: bool) -> NDArray[np.int64]:
    """Return the steps of one level in the order of the values.

    Parameters
    ----------
    dtype : numpy.dtype
        The dtype of the values.
    level : int
        The index of the step; 0 is the highest 16 bits.
    negative : bool
        Whether the values that share the higher steps are negative.
    """
    every = np.arange(num_steps(dtype))
    if dtype.kind in "ub":
        return every
    half = every.size // 2
    if level:
        return every[::-1] if negative and dtype.kind == "f" else every
    below = every[half:][::-1] if dtype.kind == "f" else every[half:]
    return np.concatenate([below, every[:half]])


def finite_steps(dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Return which of the highest steps belong to finite values: those whose exponent bits are not all ones."""
    if dtype.kind != "f":
        return np.ones(num_steps(dtype), np.bool_)
    every = np.arange(BUCKETS, dtype=np.uint16)
    exponent = {2: 0x7C00, 4: 0x7F80, 8: 0x7FF0}[dtype.itemsize]
    return np.asarray((every & exponent) != exponent)


def value_of(path: Sequence[int], dtype: np.dtype[Any]) -> int | float:
    """Return the value that has these steps."""
    bits = 0
    for step in path:
        bits = bits << STEP | step
    raw = np.array([bits], np.dtype(f"u{dtype.itemsize}")).view(dtype.newbyteorder("="))
    value: int | float = raw[0].item()
    return value


def find(counts: NDArray[np.int64], ordered: NDArray[np.int64], rank: int) -> tuple[int, int]:
    """Return the step in which the element of `rank` lies, and its rank within it."""
    running = np.cumsum(counts[ordered])
    place = int(np.searchsorted(running, rank, side="right"))
    return int(ordered[place]), rank - int(running[place - 1] if place else 0)


def of_rows(rows: NDArray[Any], percentiles: Sequence[float]) -> Floats:
    """Return the percentiles of the finite values of each row, all of which are in memory.

    Parameters
    ----------
    rows : ndarray, shape (cells, n)
        The values, of any numeric dtype; n is at least 1.
    percentiles : sequence of float
        The percentiles, 0 to 100.

    Returns
    -------
    ndarray of float64, shape (percentiles, cells)
        NaN where a row has no finite value.
    """
    cells, length = rows.shape
    points = np.full((len(percentiles), cells), np.nan)
    rows = native_order(rows)
    count = np.full(cells, length)
    if rows.dtype.kind == "f":
        lost = ~np.isfinite(rows)
        if lost.any():
            rows = np.where(lost, np.array(np.nan, rows.dtype), rows)
            count = length - lost.sum(axis=1)
    for size in np.unique(count[count > 0]).tolist():
        ranks = [rank(percentile, size) for percentile in percentiles]
        which = np.flatnonzero(count == size)
        kth = sorted({r.below for r in ranks} | {r.above for r in ranks})
        chosen = rows if which.size == cells else rows[which]
        picked = np.partition(chosen, kth, axis=1)[:, kth].astype(np.float64)
        for place, (below, above, share) in enumerate(ranks):
            low, high = picked[:, kth.index(below)], picked[:, kth.index(above)]
            points[place, which] = between(low, high, share)
    return points
