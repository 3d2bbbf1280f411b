"""Bounds of rounding errors: how far the computed mean, variance and elements may be from the exact ones.

docs/numbers.md derives each formula. U is half a unit of float64. Every bound is rounded up by `UP` where it is made,
which covers its own rounding and all terms of second order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.exact import GRAIN, Sums, cell_sums, over_grain
from gncli.kernels.loops import loops
from gncli.kernels.moments import Bounds, Floats, Measuring, Moments, fold, is_wide_integer, on_scale, record, width
from gncli.kernels.plain import LANES, LOWER, UP, U
from gncli.kernels.reduction import Rows, Visit

LOST = 2.0**-20  # an error of rstd that leaves nothing to prove
TINY = 2.0**-700  # covers what underflows
EVERYTHING = 2.0**600  # a bound that proves nothing, and stays finite when it is multiplied


class Proof(NamedTuple):
    """Measures the bounds of moments, and the exact sums if they are asked for, besides other extras.

    Attributes
    ----------
    extras : Measuring or None
        The other extra statistics.
    exact : bool
        Whether the exact sums are measured too.
    bounds : bool
        Whether the bounds are: a result of float64 follows from the exact sums alone.
    """

    extras: Measuring | None
    exact: bool
    bounds: bool = True

    def nothing(self, moments: Moments, dtype: np.dtype[Any]) -> Moments:
        """Return the moments of no values, with their extras."""
        if self.extras is not None:
            moments = self.extras.nothing(moments, dtype)
        none = np.zeros(moments.n.shape)
        whole = none.astype(np.int64).astype(object)
        extras = moments.extras + (Bounds(none, none),) * self.bounds + (Sums(whole, whole),) * self.exact
        return moments._replace(extras=extras)

    def sums(self, dtype: np.dtype[Any]) -> Collection[str]:
        """Return what `plain.moments` measures for the other extras."""
        return () if self.extras is None else self.extras.sums(dtype)

    def finish(self, rows: Rows, values: NDArray[Any], found: Mapping[str, NDArray[Any]], moments: Moments) -> Moments:
        """Return the moments of blocks with their extras."""
        if self.extras is not None:
            moments = self.extras.finish(rows, values, found, moments)
        return moments._replace(extras=(*moments.extras, bounds(moments, values))) if self.bounds else moments

    def of_visit(self, visit: Visit, moments: Moments) -> Moments:
        """Return the moments of the cells of a visit with their exact sums."""
        return moments._replace(extras=(*moments.extras, cell_sums(visit, moments))) if self.exact else moments


def bounds(moments: Moments, values: NDArray[Any]) -> Bounds:
    """Return the bounds of the moments of blocks.

    Parameters
    ----------
    moments : Moments, shape (A,) or (A, Q)
        The moments of each block.
    values : ndarray, shape (A, R) or (A, R, Q)
        Its values: only their dtype and the length of the blocks are used.
    """
    return _bounds(moments, values.dtype, np.int64(values.shape[1]))


def of_blocks(visit: Visit, found: Mapping[str, NDArray[Any]]) -> Moments:
    """Return the moments of a visit, with bounds, from what `plain.moments` found of float64 about 0 in each block."""
    walk = visit.walk
    num_x, length, _ = walk.view(visit.region)
    rows = np.full((num_x, -(-length // walk.block)), min(walk.block, length))
    rows[:, -1] = length - (rows.shape[1] - 1) * rows[0, 0]
    moments = record(found)
    limits = _bounds(moments, np.dtype(np.float64), rows.reshape(-1, *[1] * (moments.n.ndim - 1)), 1.0)
    return fold(moments._replace(extras=(limits,)), walk.dims(visit.region), walk.units[visit.region.axis].cell)


def _bounds(moments: Moments, dtype: np.dtype[Any], rows: Any, part: float = LOWER) -> Bounds:
    """Return the bounds of the moments of blocks of so many `rows`; see `plain.bounds`."""
    added = rows if moments.n.ndim > 1 else np.where(rows < LANES, rows, -(-rows // LANES) + 6)
    # What a difference lost when it was widened.
    lost = U * width(moments.min, moments.max) if is_wide_integer(dtype) else None
    return Bounds(*loops().bounds(moments.n, moments.lo, moments.m2, np.asarray(added, np.float64), part, lost))


def tightened(cells: Moments) -> Moments:
    """Return moments with the errors that their exact sums say they have, in place of bounds; of none but finite cells.

    They are on no other scale, and those of no 64-bit integers.
    """
    exact = cells.asked(Sums)
    assert exact is not None  # they were asked for
    mean, m2 = np.zeros((2, cells.n.size))
    numbers = zip(*(part.tolist() for part in (cells.n, cells.hi, cells.lo, cells.m2, *exact)), strict=True)
    for place, (n, hi, lo, squares, first, second) in enumerate(numbers):
        count = int(n)
        mean[place] = abs((over_grain(hi) + over_grain(lo)) * count - first) / (count << GRAIN)
        spread = count * second - first * first
        m2[place] = abs((over_grain(squares) * count << GRAIN) - spread) / (count << 2 * GRAIN)
    errors = Bounds(mean * UP + TINY, m2 * UP + TINY)
    return cells._replace(extras=tuple(errors if isinstance(extra, Bounds) else extra for extra in cells.extras))


def about_zero(cells: Moments) -> Moments:
    """Return moments about 0 in place of the mean: `m2` is the sum of the squares."""
    n = np.maximum(cells.n, 1.0)
    mean = cells.less(np.zeros(cells.n.shape))
    squares = n * mean * mean
    m2 = cells.m2 + squares
    extras = list(cells.extras)
    for place, extra in enumerate(extras):
        if isinstance(extra, Bounds):
            error = extra.mean + 4 * U * np.abs(mean)
            whole = extra.m2 + n * (2 * np.abs(mean) + error) * error + 4 * U * (m2 + squares)
            extras[place] = Bounds(np.zeros_like(m2), whole * UP)
        elif isinstance(extra, Sums):
            extras[place] = extra._replace(first=extra.first * 0)
    zero = cells.constant & (cells.min == 0)  # no other cell is constant, seen from 0
    low, high = np.where(zero, 0.0, -np.inf), np.where(zero, 0.0, np.inf)
    none = np.zeros_like(m2)
    return cells._replace(hi=none, lo=none, m2=m2, min=low, max=high, extras=tuple(extras))


def given_moments(mean: Floats, var: Floats, dtype: np.dtype[Any]) -> Moments:
    """Return a mean and a variance per cell, which are exact, as the moments of one value.

    Parameters
    ----------
    mean, var : ndarray of float64, shape (C,)
        The moments that elements are standardized by.
    dtype : numpy.dtype
        The dtype of the elements.
    """
    one, none = np.ones_like(mean), np.zeros_like(mean)
    first = np.array([over_grain(value) for value in mean.tolist()], object)
    second = np.array([over_grain(value) << GRAIN for value in var.tolist()], object)
    lost = U * np.abs(mean) if is_wide_integer(dtype) else none  # when an element becomes a float64
    extras = (Bounds(lost, none), Sums(first, second + first * first))
    return Moments(one, mean, none, var, none - np.inf, none + np.inf, extras=extras)


def without_bounds(cells: Moments) -> Moments:
    """Return the moments without what only their own cells need."""
    return cells._replace(extras=tuple(extra for extra in cells.extras if not isinstance(extra, Bounds | Sums)))


def enclosure(
    measured: Moments, cells: Moments, total: Floats, rstd: Floats, *, root: bool
) -> tuple[Floats | None, Floats | None]:
    """Return slope and offset: an element z, as it is computed, is within ``slope * abs(z) + offset`` of the exact one.

    Parameters
    ----------
    measured : Moments
        The moments of each cell, settled; without their `Bounds` nothing is enclosed, and both are None.
    cells : Moments
        The same, perhaps on another scale, the one that the others are on.
    total, rstd : ndarray of float64
        The variance and eps, and the factor of deviations, as they were computed.
    root : bool
        Whether `rstd` is one over the root of `total`, or one over `total`.
    """
    limits = measured.asked(Bounds)
    if limits is None:
        return None, None
    by = 0 if measured.power is None or cells.power is None else measured.power - cells.power
    mean, m2 = on_scale(limits, by)
    relative = m2 / np.maximum(cells.n, 1.0) / total
    slope = (relative * (0.5 if root else 1.0) + 7 * U) * UP
    error = mean + U * np.abs(cells.lo)
    if cells.min.dtype.kind in "iu":
        error = error + U * width(cells.min, cells.max)
    offset = (rstd * error + TINY) * UP
    constant = cells.constant
    tight = (relative < LOST) & (rstd < 1 / TINY) & (rstd > TINY)
    if np.count_nonzero(tight & ~constant) == tight.size:
        return slope, offset
    lost = ~tight
    slope = np.where(constant, 7 * U, np.where(lost, EVERYTHING, slope))
    return slope, np.where(constant, 0.0, np.where(lost, EVERYTHING, offset))
