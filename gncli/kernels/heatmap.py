"""Heat maps: what the numbers of cells are on a plane of at most 256 x 256 fields, none of them lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.moments import Floats
from gncli.kernels.partition import Partition

MOST = 256  # fields along an axis: each is at least a pixel of a picture, so that no cell is lost

Rows = tuple[tuple[float, ...], ...]
"""A number per field; NaN where no cell of the field has a finite one."""


class Extreme(NamedTuple):
    """The least or the largest number of all cells, and the index of the first cell that has it."""

    value: float
    place: tuple[int, ...]


class Heatmap(NamedTuple):
    """Numbers of cells on a plane; where there are many cells, neighbours share a field.

    Parameters
    ----------
    axes : tuple of str
        The names of the cell axes, letters or numbers.
    names : tuple of str
        The names of the axes down and across the plane; the first is empty for a single axis.
    sizes : tuple of int
        The number of cells down and across.
    merged : tuple of int
        The number of cells down and across that share a field.
    least, mean, largest : Rows
        Of the finite numbers of the cells of each field.
    nan, infinite : tuple of tuple of bool
        Whether a cell of the field is NaN, or infinite.
    zeros, nans, infinities : int
        How many cells are exactly 0, NaN, and infinite.
    extremes : tuple of Extreme, optional
        The least and the largest finite number; None if there is none.
    """

    axes: tuple[str, ...]
    names: tuple[str, str]
    sizes: tuple[int, int]
    merged: tuple[int, int]
    least: Rows
    mean: Rows
    largest: Rows
    nan: tuple[tuple[bool, ...], ...]
    infinite: tuple[tuple[bool, ...], ...]
    zeros: int
    nans: int
    infinities: int
    extremes: tuple[Extreme, Extreme] | None


class Plane:
    """A plane that takes the numbers of cells in any order, in constant memory.

    Parameters
    ----------
    names : sequence of str
        The names of the cell axes. The first axis runs down the plane, the others across it in C order; a single axis
        runs across it.
    sizes : sequence of int
        The number of cells along each axis.

    Examples
    --------
    >>> plane = Plane(("N", "G"), (2, 3))
    >>> plane.add(np.array([[0, 1], [1, 2]]), np.array([5.0, np.nan]))
    >>> plane.heatmap().mean, plane.heatmap().nan[1]
    (((nan, 5.0, nan), (nan, nan, nan)), (False, False, True))
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int]) -> None:
        self._axes, self._sizes = tuple(names), tuple(sizes)
        down = 1 if len(self._sizes) > 1 else 0
        self._names = " x ".join(names[:down]), " x ".join(names[down:])
        self._lengths = math.prod(self._sizes[:down]), math.prod(self._sizes[down:])
        self._merged = max(1, -(-self._lengths[0] // MOST)), max(1, -(-self._lengths[1] // MOST))
        fields = tuple(-(-length // merged) for length, merged in zip(self._lengths, self._merged, strict=True))
        self._least, self._largest = np.full(fields, np.inf), np.full(fields, -np.inf)
        self._mean, self._counts = np.zeros(fields), np.zeros(fields, np.int64)
        self._nan, self._infinite = np.zeros(fields, np.bool_), np.zeros(fields, np.bool_)
        self._zeros = self._nans = self._infinities = 0
        # The least number, and the least of the negated ones, each with its place, so that the first of equals wins.
        self._ends: list[tuple[float, int] | None] = [None, None]

    def add(self, index: NDArray[np.int64], values: Floats) -> None:
        """Add the numbers of some cells.

        Parameters
        ----------
        index : ndarray of int64, shape (cells, axes)
            The index of each cell.
        values : ndarray of float64, shape (cells,)
            The number of each cell, which may be NaN or infinite.
        """
        places = np.ravel_multi_index(tuple(index.T), self._sizes)
        down, across = np.divmod(places, self._lengths[1])
        fields = np.stack([down // self._merged[0], across // self._merged[1]])
        nan, infinite = np.isnan(values), np.isinf(values)
        self._nan[tuple(fields[:, nan])] = True
        self._infinite[tuple(fields[:, infinite])] = True
        self._nans += int(nan.sum())
        self._infinities += int(infinite.sum())
        known = ~nan & ~infinite
        values, places, at = values[known], places[known], tuple(fields[:, known])
        self._zeros += int((values == 0).sum())
        np.add.at(self._counts, at, 1)
        np.minimum.at(self._least, at, values)
        np.maximum.at(self._largest, at, values)
        # Divided first, so that the sum of finite numbers does not overflow.
        np.add.at(self._mean, at, values / math.prod(self._merged))
        for end, sign in enumerate((1.0, -1.0)):
            if values.size:
                least = (sign * values).min()
                found, best = (float(least), int(places[sign * values == least].min())), self._ends[end]
                self._ends[end] = found if best is None else min(best, found)

    def heatmap(self) -> Heatmap:
        """Return the heat map of the numbers added so far."""
        counts = np.where(self._counts > 0, self._counts, np.nan)
        low, high = self._ends
        extremes = None if low is None or high is None else (self._extreme(*low), self._extreme(-high[0], high[1]))
        return Heatmap(
            self._axes,
            self._names,
            self._lengths,
            self._merged,
            _rows(np.where(self._counts > 0, self._least, np.nan)),
            _rows(self._mean / counts * math.prod(self._merged)),
            _rows(np.where(self._counts > 0, self._largest, np.nan)),
            _rows(self._nan),
            _rows(self._infinite),
            self._zeros,
            self._nans,
            self._infinities,
            extremes,
        )

    def _extreme(self, value: float, place: int) -> Extreme:
        return Extreme(value + 0.0, tuple(map(int, np.unravel_index(place, self._sizes))))


def _rows(fields: NDArray[Any]) -> tuple[tuple[Any, ...], ...]:
    return tuple(map(tuple, fields.tolist()))


def in_storage(partition: Partition, first: int, count: int) -> NDArray[Any]:
    """Return the index of `count` cells from cell `first` on, counted in storage order.

    Examples
    --------
    >>> from gncli.kernels.partition import by_axes
    >>> in_storage(by_axes((2, 3), "F", [0, 1]), 1, 2).tolist()
    [[1, 0], [0, 1]]
    """
    sizes = [0] * len(partition.cells)
    for size, place in zip(partition.cells, partition.stored, strict=True):
        sizes[place] = size
    places = np.unravel_index(np.arange(first, first + count), sizes)
    return np.stack([places[place] for place in partition.stored], axis=1)
