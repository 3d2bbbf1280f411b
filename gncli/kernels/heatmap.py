"""Heat maps: one number per cell on a plane of at most 256 x 256 fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.moments import Floats
from gncli.kernels.partition import Partition

MOST = 256  # fields along an axis: each is at least a pixel of a picture, so that no cell is lost


class Heatmap(NamedTuple):
    """One number per cell on a plane; where there are many cells, neighbours share a field.

    Parameters
    ----------
    names : tuple of str
        The names of the axes down and across the plane, letters or numbers; the first is empty for a single axis.
    sizes : tuple of int
        The number of cells down and across.
    merged : tuple of int
        The number of cells down and across that share a field.
    rows : tuple of tuple of float
        The numbers of the fields; NaN where no cell has a number.
    """

    names: tuple[str, str]
    sizes: tuple[int, int]
    merged: tuple[int, int]
    rows: tuple[tuple[float, ...], ...]


class Plane:
    """A plane that takes the numbers of cells in any order, in constant memory.

    Parameters
    ----------
    names : sequence of str
        The names of the cell axes. The first axis runs down the plane, the others across it in C order; a single axis
        runs across it.
    sizes : sequence of int
        The number of cells along each axis.
    largest : bool, default: False
        Whether a field of several cells shows their largest number; by default it shows their mean.

    Examples
    --------
    >>> plane = Plane(("N", "G"), (2, 3))
    >>> plane.add(np.array([[0, 1], [1, 2]]), np.array([5.0, np.nan]))
    >>> plane.heatmap().rows
    ((nan, 5.0, nan), (nan, nan, nan))
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], *, largest: bool = False) -> None:
        self._sizes, self._largest = tuple(sizes), largest
        down = 1 if len(self._sizes) > 1 else 0
        self._names = " x ".join(names[:down]), " x ".join(names[down:])
        self._lengths = math.prod(self._sizes[:down]), math.prod(self._sizes[down:])
        self._merged = max(1, -(-self._lengths[0] // MOST)), max(1, -(-self._lengths[1] // MOST))
        fields = tuple(-(-length // merged) for length, merged in zip(self._lengths, self._merged, strict=True))
        self._values = np.full(fields, -np.inf if largest else 0.0)
        self._counts = np.zeros(fields, np.int64)

    def add(self, index: NDArray[np.int64], values: Floats) -> None:
        """Add the numbers of some cells; a NaN is ignored.

        Parameters
        ----------
        index : ndarray of int64, shape (cells, axes)
            The index of each cell.
        values : ndarray of float64, shape (cells,)
            The number of each cell.
        """
        known = ~np.isnan(values)
        places = np.ravel_multi_index(tuple(index[known].T), self._sizes)
        down, across = np.divmod(places, self._lengths[1])
        field = down // self._merged[0], across // self._merged[1]
        np.add.at(self._counts, field, 1)
        if self._largest:
            np.maximum.at(self._values, field, values[known])
        else:  # divided first, so that the sum of finite numbers does not overflow
            np.add.at(self._values, field, values[known] / math.prod(self._merged))

    def heatmap(self) -> Heatmap:
        """Return the heat map of the numbers added so far."""
        counts = np.where(self._counts > 0, self._counts, np.nan)
        numbers = self._values if self._largest else self._values / counts * math.prod(self._merged)
        rows = np.where(self._counts > 0, numbers, np.nan).tolist()
        return Heatmap(self._names, self._lengths, self._merged, tuple(map(tuple, rows)))


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
