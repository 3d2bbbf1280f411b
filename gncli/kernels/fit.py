"""The least-squares line of one tensor on another: ``a = slope b + offset``, cell by cell, merged as moments are.

Notes
-----
The sums are of products of deviations from the means, never of raw products: where both tensors have a large mean, the
difference of those would have no digits. Two sets are merged by Chan, Golub and LeVeque (1979). Only pairs of two
finite values count. Values are widened to float64 first. The deviations of a constant are exactly 0, since hi + lo is
the constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels import moments
from gncli.kernels.loops import loops
from gncli.kernels.moments import Floats, Moments
from gncli.kernels.partition import Axis
from gncli.kernels.plain import LANES, sums
from gncli.kernels.reduction import Reduction, Rows, Visit, fold_axes, measure_blocks, repeat, reshape
from gncli.kernels.tally import split


class Fit(NamedTuple):
    """What a line is fitted to: each field is an array, or moments, and all have one shape.

    Attributes
    ----------
    a, b : Moments
        Of the pairs whose values are both finite.
    product : ndarray of float64
        The sum of (a - mean of a) (b - mean of b), over ``2**(a.power + b.power)``.
    square : ndarray of float64
        The sum of (b - mean of b)^2, over ``4**b.power``.
    """

    a: Moments
    b: Moments
    product: Floats
    square: Floats

    def line(self) -> tuple[Floats, Floats]:
        """Return slope and offset; both are NaN where b is constant or there is no pair."""
        a, b = self.a, self.b
        slope = self.product / np.where(self.square > 0, self.square, np.nan)
        offset = (a.hi - slope * b.hi) + (a.lo - slope * b.lo)
        a_power, b_power = (np.int32(0) if each.power is None else each.power for each in (a, b))
        with np.errstate(over="ignore"):
            return np.ldexp(slope, a_power - b_power), np.ldexp(offset, a_power)


def merge(f: Fit, g: Fit) -> Fit:
    """Return what a line is fitted to in the unions of `f` and `g`, set by set."""
    a, b = moments.merge(f.a, g.a), moments.merge(f.b, g.b)
    (f_a, g_a, a_down, a_up), (f_b, g_b, b_down, b_up) = _on_one_scale(f.a, g.a, a), _on_one_scale(f.b, g.b, b)
    a_delta, b_delta = (_apart(left, right) for left, right in ((f_a, g_a), (f_b, g_b)))
    share = f.a.n * (g.a.n / np.maximum(a.n, 1.0))
    product = np.ldexp(f.product, a_down + b_down) + np.ldexp(g.product, a_up + b_up)
    square = np.ldexp(f.square, 2 * b_down) + np.ldexp(g.square, 2 * b_up)
    return Fit(a, b, product + a_delta * b_delta * share, square + b_delta * b_delta * share)


def _on_one_scale(a: Moments, b: Moments, union: Moments) -> tuple[Moments, Moments, Any, Any]:
    """Return both on the scale of their union, and by which powers of two they were scaled."""
    if union.power is None:
        return a, b, 0, 0
    powers = [np.int32(0) if each.power is None else each.power for each in (a, b)]
    return a.rescaled(union.power), b.rescaled(union.power), powers[0] - union.power, powers[1] - union.power


def _apart(a: Moments, b: Moments) -> Floats:
    return np.asarray((b.hi - a.hi) + (b.lo - a.lo))


class FitOf(Reduction[Fit]):
    """What a line is fitted to in each cell of two tensors that are read together.

    Parameters
    ----------
    a, b : numpy.dtype
        The dtypes of the tensors.
    """

    def __init__(self, a: np.dtype[Any], b: np.dtype[Any]) -> None:
        self.a, self.b = a, b

    def measure(self, visit: Visit) -> Fit:
        """Return that of a visit: one entry per cell that it touches."""
        a, b = split(visit.values, self.a, self.b)

        def kernel(rows: Rows) -> Fit:
            return fit(rows.of(a), rows.of(b))

        def fold(record: Fit, axes: Sequence[Axis], keep_first: bool) -> Fit:
            return fold_axes(record, axes, merge, keep_first=keep_first)

        return measure_blocks(visit, kernel, fold)

    def nothing(self, num_cells: int = 1) -> Fit:
        """Return that of no pairs."""
        none = Moments.nothing(np.dtype(np.float64))
        return repeat(Fit(none, none, np.zeros(1), np.zeros(1)), num_cells)

    def merge(self, a: Fit, b: Fit) -> Fit:
        """Return that of the unions."""
        return merge(a, b)


def fit(a: NDArray[Any], b: NDArray[Any]) -> Fit:
    """Return what a line is fitted to along axis 1.

    Parameters
    ----------
    a, b : ndarray, shape (A, R) or (A, R, Q)
        The values, of any numeric dtypes and in any byte order.
    """
    if a.ndim == 2 and a.shape[1] < LANES:
        return reshape(fit(a.T[None], b.T[None]), -1)
    x, y = (np.array(values, np.float64, order="C") for values in (a, b))
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.all():
        x[~finite] = y[~finite] = np.nan
    of_x, of_y = (moments.record(loops().moments(values)) for values in (x, y))
    for values, found in ((x, of_x), (y, of_y)):
        if found.power is not None:
            np.ldexp(values, -found.power[:, None], out=values)
        values -= found.hi[:, None]
        values -= found.lo[:, None]
        values[~finite] = 0.0
    return Fit(of_x, of_y, sums(x * y), sums(y * y))
