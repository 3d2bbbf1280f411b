"""The differences of two tensors: counts, sums and extremes of ``a - b``, merged as moments are.

Notes
-----
``b`` is the reference: an element is outside where |a - b| > atol + rtol |b|. Values are widened to float64 first,
but differences of 64-bit integers are computed in integers. Sums are over the pairs whose values are both finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.moments import NOWHERE, Floats, is_wide_integer
from gncli.kernels.plain import PIECE, counted, sums
from gncli.kernels.reduction import Reduction, Rows, Visit, concatenate, in_c_order, measure_blocks, repeat, reshape
from gncli.kernels.scratch import room
from gncli.kernels.walk import SHORT


class Tolerance(NamedTuple):
    """The tolerance of a comparison.

    Attributes
    ----------
    rtol, atol : float
        Two finite values are the same if |a - b| <= atol + rtol |b|.
    nan_differs : bool
        Whether a NaN differs from a NaN.
    """

    rtol: float
    atol: float
    nan_differs: bool = False


class Tally(NamedTuple):
    """The differences of sets of pairs: each field is an array, and all have one shape.

    Attributes
    ----------
    size, n : ndarray of float64
        The number of pairs, and of pairs of two finite values.
    nan, inf : ndarray of float64
        The number of pairs that differ by a NaN, or by an infinity.
    outside : ndarray of float64
        The number of finite pairs outside the tolerance.
    total, square : ndarray of float64
        The sums of |a - b| and of its square.
    product, a_square, b_square : ndarray of float64
        The sums of a b, a^2 and b^2.
    low, high : ndarray of float64
        The extremes of b.
    worst : ndarray of float64
        The largest |a - b|; -1 where there is no finite pair.
    excess : ndarray of float64
        The largest |a - b| - rtol |b|.
    place : ndarray of int64
        The storage index of the worst pair, or `NOWHERE`.
    a, b : ndarray
        The values of the worst pair.
    first : ndarray of int64
        The index in C order of the first pair that differs by a NaN or an infinity, or `NOWHERE`.
    """

    size: Floats
    n: Floats
    nan: Floats
    inf: Floats
    outside: Floats
    total: Floats
    square: Floats
    product: Floats
    a_square: Floats
    b_square: Floats
    low: Floats
    high: Floats
    worst: Floats
    excess: Floats
    place: NDArray[np.int64]
    a: NDArray[Any]
    b: NDArray[Any]
    first: NDArray[np.int64]

    @classmethod
    def nothing(cls, a: np.dtype[Any], b: np.dtype[Any]) -> Tally:
        """Return the tally of no pairs, in shape (1,)."""
        none, far = np.zeros(1), np.full(1, np.inf)
        values = np.zeros(1, a.newbyteorder("=")), np.zeros(1, b.newbyteorder("="))
        nowhere = np.full(1, NOWHERE)
        return cls._make([*([none] * 10), far, -far, none - 1, -far, nowhere, *values, nowhere])


_SUMS = ("size", "n", "nan", "inf", "outside", "total", "square", "product", "a_square", "b_square")


def merge(a: Tally, b: Tally) -> Tally:
    """Return the tally of the unions of `a` and `b`, set by set."""
    fields: dict[str, NDArray[Any]] = {name: getattr(a, name) + getattr(b, name) for name in _SUMS}
    fields["low"], fields["high"] = np.minimum(a.low, b.low), np.maximum(a.high, b.high)
    fields["excess"], fields["first"] = np.maximum(a.excess, b.excess), np.minimum(a.first, b.first)
    ahead = (a.worst > b.worst) | ((a.worst == b.worst) & (a.place <= b.place))
    for name in ("worst", "place", "a", "b"):
        fields[name] = np.where(ahead, getattr(a, name), getattr(b, name))
    return Tally(**fields)


def split(values: NDArray[Any], a: np.dtype[Any], b: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the elements of both tensors in `values`: the raw bytes of the first, then those of the second."""
    raw = values.view(np.uint8)
    cut = values.size * a.itemsize
    return raw[:cut].view(a), raw[cut:].view(b)


class TallyOf(Reduction[Tally]):
    """The tally of each cell of two tensors that are read together.

    Parameters
    ----------
    a, b : numpy.dtype
        The dtypes of the tensors.
    shape : tuple of int
        Their common shape.
    order : {"C", "F"}
        Their common storage order.
    tolerance : Tolerance
        The tolerance of the comparison.
    """

    def __init__(
        self, a: np.dtype[Any], b: np.dtype[Any], shape: tuple[int, ...], order: str, tolerance: Tolerance
    ) -> None:
        self.a, self.b, self.shape, self.order, self.tolerance = a, b, shape, order, tolerance

    def measure(self, visit: Visit) -> Tally:
        """Return the tally of a visit: one entry per cell that it touches."""
        a, b = split(visit.values, self.a, self.b)

        def kernel(rows: Rows) -> Tally:
            return tally(rows.of(a), rows.of(b), rows.places(), rows.stride, self.tolerance, self._in_c_order)

        return measure_blocks(visit, kernel, merge)

    def nothing(self, num_cells: int = 1) -> Tally:
        """Return the tally of no pairs."""
        return repeat(Tally.nothing(self.a, self.b), num_cells)

    def merge(self, a: Tally, b: Tally) -> Tally:
        """Return the tally of the unions."""
        return merge(a, b)

    def _in_c_order(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return in_c_order(places, self.shape, self.order)


def tally(
    a: NDArray[Any],
    b: NDArray[Any],
    at: NDArray[np.int64],
    stride: int,
    tolerance: Tolerance,
    in_c_order: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> Tally:
    """Return the tally of pairs along axis 1; every pair is compared here.

    Parameters
    ----------
    a, b : ndarray, shape (A, R) or (A, R, Q)
        The values, of any numeric dtypes.
    at : ndarray of int64, shape (A,) or (A, Q)
        The storage index of the first pair of each set.
    stride : int
        The distance in storage between neighbours along axis 1, in elements.
    tolerance : Tolerance
        The tolerance of the comparison.
    in_c_order : callable
        Maps storage indices to flat indices in C order.
    """
    if a.ndim == 2 and a.shape[1] < SHORT:
        flat = tally(a.T[None], b.T[None], at.reshape(1, -1), stride, tolerance, in_c_order)
        return reshape(flat, -1)
    step = max(1, PIECE // max(1, a[0].size))
    scratch = room(5 * min(step, a.shape[0]) * a[0].size).reshape(5, -1)
    parts = []
    for start in range(0, a.shape[0], step):
        rows = slice(start, start + step)
        parts.append(_tally(a[rows], b[rows], at[rows], stride, tolerance, in_c_order, scratch))
    return concatenate(parts)


def _tally(
    a: NDArray[Any],
    b: NDArray[Any],
    at: NDArray[np.int64],
    stride: int,
    tolerance: Tolerance,
    in_c_order: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    scratch: Floats,
) -> Tally:
    a, b = (values.astype(values.dtype.newbyteorder("="), copy=False) for values in (a, b))
    x, y, gap, size, beyond = (part[: a.size].reshape(a.shape) for part in scratch)
    np.copyto(x, a)
    np.copyto(y, b)
    gap, exact = distance(a, b, x, y, gap)
    sets = (a.shape[0], *a.shape[2:])
    none = np.zeros(sets)
    rows, first = float(a.shape[1]), np.full(sets, NOWHERE)
    nan, inf, n, finite = none, none, np.full(sets, rows), None
    total = sums(gap)
    if not np.isfinite(total).all():  # a NaN or an infinity, or finite differences whose sum overflows
        finite = np.isfinite(x) & np.isfinite(y)
        x_nan, y_nan = np.isnan(x), np.isnan(y)
        by_nan = (x_nan | y_nan) if tolerance.nan_differs else (x_nan != y_nan)
        by_inf = ~finite & ~x_nan & ~y_nan & (x != y)
        nan, inf, n = (counted(which) for which in (by_nan, by_inf, finite))
        row, rank, *column = np.nonzero(by_nan | by_inf)
        np.minimum.at(first, (row, *column), in_c_order(at[(row, *column)] + rank * stride))
        x[~finite], y[~finite], gap[~finite] = 0.0, 0.0, 0.0
        total = sums(gap)
    if finite is None and b.dtype.kind == "f" and b.dtype.itemsize > 2:  # extremes cost half in the dtype of b
        low, high = (extreme.reduce(b, axis=1).astype(np.float64) for extreme in (np.minimum, np.maximum))
    else:
        low, high = _least(y, finite), -_least(np.negative(y, out=size), finite)
    np.abs(y, out=size)
    np.multiply(size, tolerance.rtol, out=size)
    excess = -_least(np.subtract(size, gap, out=beyond), finite)
    if np.isnan(excess).any():  # both overflow: inside
        beyond[np.isnan(beyond)] = np.inf
        excess = -_least(beyond, finite)
    outside = none
    if exact is not None and not tolerance.rtol:
        which = exact > np.uint64(min(int(tolerance.atol), 2**64 - 1))
        outside = counted(which)
    elif not (excess <= tolerance.atol / 2).all():  # half, so that the rounding of the sum below does not matter
        np.add(size, tolerance.atol, out=size)
        outside = counted(gap > size)
    ranked = gap if exact is None else exact
    if finite is not None:
        ranked = np.where(finite, gap, -1.0)
    rank = np.expand_dims(np.argmax(ranked, axis=1), 1)
    worst = np.take_along_axis(gap, rank, 1)[:, 0]
    compared = n > 0
    place = np.where(compared, at + rank[:, 0] * stride, NOWHERE)
    values = (np.take_along_axis(array, rank, 1)[:, 0] for array in (a, b))
    return Tally._make(
        [
            np.full(sets, rows),
            n,
            nan,
            inf,
            outside,
            total,
            *(sums(np.multiply(a, b, out=size)) for a, b in ((gap, gap), (x, y), (x, x), (y, y))),
            low,
            high,
            np.where(compared, worst, -1.0),
            excess,
            place,
            *values,
            first,
        ]
    )


def _least(values: Floats, finite: NDArray[np.bool_] | None) -> Floats:
    """Return the least of the finite values along axis 1; infinity where there are none."""
    if finite is None:
        return np.asarray(np.minimum.reduce(values, axis=1))
    return np.asarray(np.minimum.reduce(values, axis=1, initial=np.inf, where=finite))


def distance(
    a: NDArray[Any], b: NDArray[Any], x: Floats, y: Floats, out: Floats | None = None
) -> tuple[Floats, NDArray[np.uint64] | None]:
    """Return |a - b| in float64, and the exact distance of integers if one of the dtypes has 64 bits, else None.

    Parameters
    ----------
    a, b : ndarray
        The values, in native byte order.
    x, y : ndarray of float64
        The same values, widened.
    out : ndarray of float64, optional
        Memory for the result.
    """
    if not (_whole(a) and _whole(b) and (is_wide_integer(a.dtype) or is_wide_integer(b.dtype))):
        gap = np.subtract(x, y, out=out)
        return np.abs(gap, out=gap), None
    below = np.less(a, b)
    left, right = a.astype(np.uint64), b.astype(np.uint64)  # modulo 2^64, which the difference undoes
    exact = np.where(below, right - left, left - right)
    exact[np.abs(x - y) >= 2.0**64] = 2**64 - 1
    return exact.astype(np.float64), exact


def delta(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """Return a - b in float64: 0 where both are the same NaN or infinity, NaN or infinite where only one is."""
    a, b = (values.astype(values.dtype.newbyteorder("="), copy=False) for values in (a, b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    gap, exact = distance(a, b, x, y)
    difference = np.subtract(x, y) if exact is None else np.where(np.less(a, b), -gap, gap)
    difference[(x == y) & np.isinf(x) | np.isnan(x) & np.isnan(y)] = 0.0
    return np.asarray(difference)


def _whole(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "iub"
