"""Numbers of cells on a plane: as many fields as a picture can show, however many cells there are. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.moments import Floats
from gncli.kernels.partition import Partition

MOST = 256  # fields along an axis: each is a pixel or more of a picture, so that no single cell is lost


class Heatmap(NamedTuple):
    """Numbers of cells on a plane; where there are many cells, neighbours share a field.

    Parameters
    ----------
    names : tuple of str
        What runs down the plane (nothing: empty) and what across it: letters, or numbers of axes.
    sizes : tuple of int
        How many cells there are each way.
    merged : tuple of int
        How many of them share a field each way.
    rows : tuple of tuple of float
        The fields; NaN where no cell has a number.
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
        Of the cell axes. The first one runs down the plane, the others across it, in C order; a lone one across it.
    sizes : sequence of int
        How many cells there are along each.
    largest : bool, default: False
        Whether a field that several cells share has their largest number, or their mean.

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
        """Take the numbers of some cells; NaN is none.

        Parameters
        ----------
        index : ndarray of int64, shape (cells, axes)
            Where they are.
        values : ndarray of float64, shape (cells,)
        """
        known = ~np.isnan(values)
        places = np.ravel_multi_index(tuple(index[known].T), self._sizes)
        down, across = np.divmod(places, self._lengths[1])
        at = down // self._merged[0], across // self._merged[1]
        np.add.at(self._counts, at, 1)
        if self._largest:
            np.maximum.at(self._values, at, values[known])
        else:  # shares, so that the sum of what is finite is
            np.add.at(self._values, at, values[known] / math.prod(self._merged))

    def heatmap(self) -> Heatmap:
        """Return what is on it."""
        counts = np.where(self._counts > 0, self._counts, np.nan)
        found = self._values if self._largest else self._values / counts * math.prod(self._merged)
        rows = np.where(self._counts > 0, found, np.nan).tolist()
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
