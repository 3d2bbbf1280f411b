"""The loops over elements, in NumPy: the specification of every number, and what runs where no compiler was.

`gncli.kernels.native` has the same functions in C, which give the same bits. `gncli.kernels.loops` chooses.

Notes
-----
*The law of summation.* Along memory, a block of 64 elements or more (and at most 8192) is laid out as rows of 64 lanes.
Each lane starts at +0 and is summed from the first row to the last. Then the lanes are added by halves: lane j and lane
j + 32, then 16, 8, 4, 2, 1. The end of the last row is filled up with +0 in the terms of the sum, not in the elements.
Across memory, and in blocks of fewer than 64 elements, a sum starts at +0 and runs from first to last. A product is
rounded before it is added. An extreme that is zero is +0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

STEP = 16
"""The bits of an element that are counted at once."""
_COUNTED = 1 << 17  # elements counted at a time: what is made of them stays in the cache


# --- counts ----------------------------------------------------------------------------------------------------------


def between(values: NDArray[Any], first: NDArray[np.uint32], upper: NDArray[np.uint64]) -> Integers:
    """Return how many elements have bits in each of some neighbouring intervals.

    Parameters
    ----------
    values : ndarray, 1-D
        The elements, of any dtype of at most 64 bits and in any byte order. Their bits are unsigned numbers.
    first : ndarray of uint32
        The interval of the lowest number that begins with each step of 16 bits; of each number of 8 bits.
    upper : ndarray of uint64
        The largest number of each interval, in ascending order; the last one is the largest of the dtype.

    Returns
    -------
    ndarray of int64, shape (intervals,)
        The number of elements in each interval.
    """
    counts = np.zeros(upper.size, np.int64)
    number = np.zeros(first.size, np.int64)
    # Most steps lie in one interval whole. Elements with one of the others are searched for.
    rest = 8 * values.dtype.itemsize - STEP if first.size > 1 << 8 else 0
    ends = (np.arange(1, first.size + 1, dtype=np.uint64) << np.uint64(rest)) - np.uint64(1)
    torn = upper[first] < ends
    for start in range(0, values.size, _COUNTED):
        bits = _bits(values[start : start + _COUNTED])
        high = _step(bits, 0).astype(np.int64)
        number += np.bincount(high, minlength=number.size)
        searched = np.flatnonzero(torn.take(high))
        if searched.size:
            counts += np.bincount(np.searchsorted(upper, bits[searched].astype(np.uint64)), minlength=counts.size)
    np.add.at(counts, first[~torn], number[~torn])
    return counts


def steps(values: NDArray[Any], cells: Integers, num_cells: int) -> Integers:
    """Return how often each step of the highest 16 bits occurs in each cell.

    Parameters
    ----------
    values : ndarray, 1-D
        The elements, of any dtype of at most 64 bits and in any byte order, seen as (X, L, Q).
    cells : ndarray of int64, shape (X, 1, Q)
        The cell of the elements, 0 to `num_cells`; elements of the cell `num_cells` are not counted.
    num_cells : int
        The number of cells.

    Returns
    -------
    ndarray of int64, shape (num_cells, 65536) or (num_cells, 256)
        The counts of each cell by step; there are 256 where an element has one byte.
    """
    buckets = num_steps(values.dtype)
    counts = np.zeros(num_cells * buckets, np.int64)
    for _, place in _places(values, cells, max(_COUNTED, counts.size)):
        counts += np.bincount(place, minlength=counts.size)[: counts.size]
    return counts.reshape(-1, buckets)


def steps_on_paths(
    values: NDArray[Any], cells: Integers, top: NDArray[np.bool_], paths: NDArray[np.uint64], level: int
) -> Integers:
    """Return how often each next step of 16 bits occurs among the elements that share a path so far.

    Parameters
    ----------
    values : ndarray, 1-D
        The elements, of a dtype of 32 or 64 bits in any byte order, seen as (X, L, Q).
    cells : ndarray of int64, shape (X, 1, Q)
        The cell of the elements, as in `steps`.
    top : ndarray of bool, shape ((num_cells + 1) * 65536,)
        Whether a path of the cell begins with the step, for each cell and step.
    paths : ndarray of uint64
        The sorted paths: a cell, and after it the first `level` steps of the elements that are counted.
    level : int
        The index of the step that is counted; 0 is that of the highest 16 bits.

    Returns
    -------
    ndarray of int64, shape (paths, 65536)
        The counts of each path by step.
    """
    buckets = num_steps(values.dtype)
    counts = np.zeros(paths.size * buckets, np.int64)
    shift = np.array(8 * values.dtype.itemsize - STEP * level, f"u{values.dtype.itemsize}")
    for bits, place in _places(values, cells, _COUNTED):
        begun = np.flatnonzero(top.take(place))
        bits, cell = bits[begun], (place[begun] // buckets).astype(np.uint64)
        path = cell << np.uint64(STEP * level) | (bits >> shift).astype(np.uint64)
        index = np.minimum(np.searchsorted(paths, path), paths.size - 1)
        same = paths[index] == path
        used, number = np.unique(index[same] * buckets + _step(bits[same], level), return_counts=True)
        counts[used] += number
    return counts.reshape(-1, buckets)


def num_steps(dtype: np.dtype[Any]) -> int:
    """Return how many different steps there are: 65536, or 256 if an element has one byte."""
    return 1 << min(STEP, 8 * dtype.itemsize)


def _places(values: NDArray[Any], cells: Integers, size: int) -> Iterator[tuple[NDArray[Any], Integers]]:
    """Yield the bits of about `size` elements at a time, and the place of each in a table of cells by highest step."""
    bits, buckets = _bits(values), num_steps(values.dtype)
    num_x, _, width = cells.shape
    rows = bits.reshape(num_x, -1, width)
    per_row = max(1, size // width)
    per_x = max(1, per_row // max(1, rows.shape[1]))
    for x in range(0, num_x, per_x):
        base = cells[x : x + per_x] * buckets
        for row in range(0, rows.shape[1], per_row):
            piece = rows[x : x + per_x, row : row + per_row]
            flat = piece.reshape(-1)
            place = _step(flat, 0).astype(np.int64)
            if base.any():
                place.reshape(piece.shape)[...] += base
            yield flat, place


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return `values` (1-D) as unsigned numbers of as many bits, in native order."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native.view(np.dtype(f"u{native.dtype.itemsize}"))


def _step(bits: NDArray[Any], level: int) -> NDArray[Any]:
    """Return the 16 bits of each element that pass number `level` counts, the highest first."""
    halves = bits.dtype.itemsize // 2
    if halves < 2:
        return bits
    place = halves - 1 - level if sys.byteorder == "little" else level
    return bits.view(np.uint16)[place::halves]


# --- bytes -----------------------------------------------------------------------------------------------------------


def unshuffle(data: Bytes, width: int) -> Bytes:
    """Return the bytes of elements of `width` bytes, of which `data` holds first all first bytes, then all second ones.

    What is left at the end, fewer bytes than an element has, stays where it is (HDF5's filter ``shuffle``).
    """
    count = data.size // width
    found = np.empty_like(data)
    elements, planes = found[: count * width].reshape(count, width), data[: count * width].reshape(width, count)
    for place in range(width):  # a plane at a time: three times faster than a transposed copy
        elements[:, place] = planes[place]
    found[count * width :] = data[count * width :]
    return found
