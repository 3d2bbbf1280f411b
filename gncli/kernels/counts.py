"""Counts of elements per slot: the bins of a histogram, or distances in ULP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.histogram import Bins
from gncli.kernels.loops import loops
from gncli.kernels.plain import ULPS
from gncli.kernels.reduction import Reduction, Visit
from gncli.kernels.tally import split


class Counts(NamedTuple):
    """The number of elements in each slot, over all cells together.

    Attributes
    ----------
    number : ndarray of int64, 1-D
        The count of each slot.
    slots : ndarray of int64, 1-D, optional
        The index of each slot, without repetition; None stands for all slots in order.
    """

    number: NDArray[np.int64]
    slots: NDArray[np.int64] | None = None


class Counting(Reduction[Counts]):
    """Counts are merged by addition, over all cells, in any order.

    Parameters
    ----------
    num_slots : int
        The number of slots.
    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots

    def nothing(self, num_cells: int = 1) -> Counts:
        """Return the counts of no elements, however many cells there are."""
        return Counts(np.zeros(self.num_slots, np.int64))

    def merge(self, a: Counts, b: Counts) -> Counts:
        """Return the sum. It is added into `a` in place, which must hold all slots."""
        a.number[slice(None) if b.slots is None else b.slots] += b.number
        return a

    def concatenate(self, parts: Sequence[Counts]) -> Counts:
        """Return the sum of all parts."""
        total = self.nothing()
        for part in parts:
            total = self.merge(total, part)
        return total


class BinCounts(Counting):
    """The number of elements in each bin of a histogram.

    Parameters
    ----------
    bins : Bins
        The bins, for elements of the dtype that is read.
    """

    def __init__(self, bins: Bins) -> None:
        super().__init__(bins.size)
        self._bins = bins

    def measure(self, visit: Visit) -> Counts:
        """Return the counts of a visit."""
        return Counts(self._bins.count(visit.values))


class UlpCounts(Counting):
    """How many pairs of finite floats lie 0, 1, 2, ... representable values apart.

    Parameters
    ----------
    a, b : numpy.dtype
        The dtypes of the tensors. They may differ in byte order only.
    bits : callable, optional
        See `plain.ulps`.
    """

    def __init__(
        self, a: np.dtype[Any], b: np.dtype[Any], bits: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    ) -> None:
        super().__init__(ULPS)
        self._a, self._b, self._bits = a, b, bits

    def measure(self, visit: Visit) -> Counts:
        """Return the counts of a visit, whose values hold the elements of both tensors (see `split`)."""
        a, b = split(visit.values, self._a, self._b)
        return Counts(loops().ulps(a, b, self._bits))
