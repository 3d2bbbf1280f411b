"""Counts of elements per slot: the bins of a histogram, or distances in ULP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.histogram import Bins
from gncli.kernels.plain import PIECE
from gncli.kernels.reduction import Reduction, Visit
from gncli.kernels.tally import split

FEW = 8  # distances below it are counted by comparing, which costs a tenth of bincount per distance
ULPS = 1 << 16  # distances in ULP are counted one by one below this, and together from ULPS - 1 on


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
        See `ulps`.
    """

    def __init__(
        self, a: np.dtype[Any], b: np.dtype[Any], bits: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    ) -> None:
        super().__init__(ULPS)
        self._a, self._b, self._bits = a, b, bits

    def measure(self, visit: Visit) -> Counts:
        """Return the counts of a visit, whose values hold the elements of both tensors (see `split`)."""
        return Counts(ulps(*split(visit.values, self._a, self._b), self._bits))


def ulps(
    a: NDArray[Any], b: NDArray[Any], bits: Callable[[NDArray[Any]], NDArray[Any]] | None = None
) -> NDArray[np.int64]:
    """Return how many finite pairs lie 0, 1, 2, ... representable values apart.

    Parameters
    ----------
    a, b : ndarray
        Floats of one dtype, in any byte order.
    bits : callable, optional
        Returns the bits of finite values as signed integers. It is needed where the values were widened from a narrower
        dtype, whose bits are compared.

    Returns
    -------
    ndarray of int64, shape (ULPS,)
        The last count is of all pairs that lie `ULPS` - 1 or more apart.
    """
    a, b = (values.astype(values.dtype.newbyteorder("="), copy=False) for values in (a, b))
    counts = np.zeros(ULPS, np.int64)
    for start in range(0, a.size, PIECE):
        pieces = a[start : start + PIECE], b[start : start + PIECE]
        if not all(np.isfinite(piece).all() for piece in pieces):
            both = np.isfinite(pieces[0]) & np.isfinite(pieces[1])
            pieces = pieces[0][both], pieces[1][both]
        steps = [piece.view(f"i{piece.itemsize}") if bits is None else bits(piece) for piece in pieces]
        if np.bitwise_xor(*steps).min(initial=0) < 0:  # for two values of one sign, the distance is that of their bits
            steps = [_place(bits) for bits in steps]
        unsigned = np.dtype(f"u{steps[0].itemsize}")
        apart = np.maximum(*steps).view(unsigned) - np.minimum(*steps).view(unsigned)
        most = int(apart.max(initial=0))
        if most < FEW:
            counts[: most + 1] += [np.count_nonzero(apart == step) for step in range(most + 1)]
        else:  # bincount casts other types than int64, slowly
            last = np.array(min(ULPS - 1, np.iinfo(unsigned).max), unsigned)
            counts += np.bincount(np.minimum(apart, last).astype(np.int64), minlength=ULPS)
    return counts


def _place(bits: NDArray[Any]) -> NDArray[Any]:
    """Return the rank of floats among all floats in order, from their bits; -0.0 and 0.0 have the same rank."""
    negative = bits >> np.array(8 * bits.dtype.itemsize - 1, bits.dtype)  # 0 or -1
    return np.asarray((bits ^ (negative & np.iinfo(bits.dtype).max)) - negative)
