"""The differences of two tensors: counts, sums and extremes of ``a - b``, merged as moments are.

Notes
-----
``b`` is the reference: an element is outside where |a - b| > atol + rtol |b|. Values are widened to float64 first,
but differences of 64-bit integers are computed in integers. Sums are over the pairs whose values are both finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.loops import loops
from gncli.kernels.moments import NOWHERE, ZERO, Floats
from gncli.kernels.partition import Axis
from gncli.kernels.plain import Tolerance, distance, mismatches, native_order
from gncli.kernels.reduction import Reduction, Rows, Visit, fold_axes, in_c_order, measure_blocks, repeat, reshape
from gncli.kernels.twofold import two_sum


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
        The sums of |a - b|, over ``2**power``, and of its square, over ``4**power``.
    product, a_square, b_square : ndarray of float64
        The sums of a b, a^2 and b^2, where a is over ``2**a_power``, and b over ``2**b_power``.
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
    power, a_power, b_power : ndarray of int32, optional
        The scales of the sums; not 0 where float64 values are beyond 2**200 or below 2**-200.
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
    power: NDArray[np.int32] | None = None
    a_power: NDArray[np.int32] | None = None
    b_power: NDArray[np.int32] | None = None

    @classmethod
    def nothing(cls, a: np.dtype[Any], b: np.dtype[Any]) -> Tally:
        """Return the tally of no pairs, in shape (1,)."""
        none, far = np.zeros(1), np.full(1, np.inf)
        values = np.zeros(1, a.newbyteorder("=")), np.zeros(1, b.newbyteorder("="))
        nowhere = np.full(1, NOWHERE)
        return cls._make([*([none] * 10), far, -far, none - 1, -far, nowhere, *values, nowhere, None, None, None])


_COUNTS = ("size", "n", "nan", "inf", "outside")
_SCALES = {"total": ("power",), "square": ("power",) * 2, "product": ("a_power", "b_power")}
_SCALES |= {"a_square": ("a_power",) * 2, "b_square": ("b_power",) * 2}
"""The powers of two that each sum is over."""
_OF_SQUARES = {"power": "square", "a_power": "a_square", "b_power": "b_square"}


def merge(a: Tally, b: Tally) -> Tally:
    """Return the tally of the unions of `a` and `b`, set by set."""
    fields: dict[str, Any] = {name: getattr(a, name) + getattr(b, name) for name in _COUNTS}
    fields |= _sums(a, b)
    fields["low"], fields["high"] = np.minimum(a.low, b.low), np.maximum(a.high, b.high)
    fields["excess"], fields["first"] = np.maximum(a.excess, b.excess), np.minimum(a.first, b.first)
    ahead = (a.worst > b.worst) | ((a.worst == b.worst) & (a.place <= b.place))
    for name in ("worst", "place", "a", "b"):
        fields[name] = np.where(ahead, getattr(a, name), getattr(b, name))
    return Tally(**fields)


def _sums(a: Tally, b: Tally) -> dict[str, Any]:
    """Return the sums of the unions, and their powers: the larger one, where there is anything to scale."""
    found: dict[str, Any] = dict.fromkeys(_OF_SQUARES)
    down: dict[str, tuple[Any, Any]] = {}
    for name, square in _OF_SQUARES.items():
        if getattr(a, name) is None and getattr(b, name) is None:
            continue
        left, right = (_scale(of, name, square) for of in (a, b))
        power = np.maximum(left, right)
        found[name] = power = np.where(power == ZERO, 0, power).astype(np.int32)
        down[name] = left - power, right - power
    for name, over in _SCALES.items():
        parts = [getattr(a, name), getattr(b, name)]
        for scaled in (down[power] for power in over if power in down):
            parts = [np.ldexp(part, by) for part, by in zip(parts, scaled, strict=True)]
        found[name] = parts[0] + parts[1]
    return found


def _scale(tally: Tally, power: str, square: str) -> NDArray[np.int32]:
    """Return the power of two that sums are over; `ZERO` where all values are 0."""
    found = getattr(tally, power)
    return np.asarray(np.where(getattr(tally, square) == 0, ZERO, 0 if found is None else found), np.int32)


def fold(tally: Tally, axes: Sequence[Axis], keep_first: bool) -> Tally:
    """Return what `fold_axes` does, without a record for each level of the tree where no sum has a scale."""
    if any(getattr(tally, power) is not None for power in _OF_SQUARES):
        return fold_axes(tally, axes, merge, keep_first=keep_first)
    inner = 1
    for place in reversed(range(len(axes))):
        size = axes[place].size
        if axes[place].cell or (place == 0 and keep_first):
            inner *= size
        elif size > 1:
            tally = _united(reshape(tally, -1, size, inner))
    return reshape(tally, -1)


def _united(tally: Tally) -> Tally:
    """Return the unions along axis 1; only the bits of sums depend on the tree."""
    names = (*_COUNTS, *_SCALES)
    sums = np.stack([getattr(tally, name) for name in names])
    while (count := sums.shape[2]) > 1:
        merged = sums[:, :, : count - count % 2 : 2] + sums[:, :, 1::2]
        sums = np.concatenate([merged, sums[:, :, -1:]], axis=2) if count % 2 else merged
    fields: dict[str, Any] = dict(zip(names, sums[:, :, 0], strict=True))
    fields["low"], fields["high"] = tally.low.min(axis=1), tally.high.max(axis=1)
    fields["excess"], fields["first"] = tally.excess.max(axis=1), tally.first.min(axis=1)
    largest = tally.worst == tally.worst.max(axis=1, keepdims=True)
    chosen = np.where(largest, tally.place, NOWHERE).argmin(axis=1)[:, None]
    for name in ("worst", "place", "a", "b"):
        fields[name] = np.take_along_axis(getattr(tally, name), chosen, 1)[:, 0]
    return Tally(**fields)


def split(values: NDArray[Any], *dtypes: np.dtype[Any]) -> tuple[NDArray[Any], ...]:
    """Return the elements of each tensor in `values`: the raw bytes of the first, then those of the second, and so on.

    Parameters
    ----------
    values : ndarray, 1-D
        An element holds one of each tensor.
    *dtypes : numpy.dtype
        The dtypes of the tensors.
    """
    raw, found, start = values.view(np.uint8), [], 0
    for dtype in dtypes:
        stop = start + values.size * dtype.itemsize
        found.append(raw[start:stop].view(dtype))
        start = stop
    return tuple(found)


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
        turned = self._in_c_order if self.order == "F" else None

        def kernel(rows: Rows) -> Tally:
            return tally(rows.of(a), rows.of(b), rows.places(), rows.stride, self.tolerance, turned)

        return measure_blocks(visit._replace(tile=visit.values.size), kernel, fold)

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
    in_c_order: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None,
) -> Tally:
    """Return the tally of pairs along axis 1.

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
    in_c_order : callable, optional
        Maps storage indices to flat indices in C order, where they are not the same.
    """
    found = dict(loops().tally(a, b, tolerance))
    rank, first = found.pop("rank"), found.pop("first")
    found["first"] = np.where(first < 0, NOWHERE, at + first * stride)
    if in_c_order is not None and (first >= 0).any():  # the first in storage need not be the first in C order
        found["first"] = np.full(first.shape, NOWHERE)
        by_nan, by_inf = mismatches(a.astype(np.float64), b.astype(np.float64), tolerance)
        row, place, *column = np.nonzero(by_nan | by_inf)
        np.minimum.at(found["first"], (row, *column), in_c_order(at[(row, *column)] + place * stride))
    found["place"] = np.where(rank < 0, NOWHERE, at + rank * stride)
    chosen = np.expand_dims(np.maximum(rank, 0), 1)
    for name, values in (("a", a), ("b", b)):
        worst = np.take_along_axis(values, chosen, 1)[:, 0]
        found[name] = native_order(worst)
    return Tally(size=np.full(rank.shape, float(a.shape[1])), **found)


def delta(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """Return a - b in float64: 0 where both are the same NaN or infinity, NaN or infinite where only one is."""
    return exact_delta(a, b)[0]


def exact_delta(a: NDArray[Any], b: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return `delta`, and what rounding it left: their sum is the exact difference."""
    a, b = (native_order(values) for values in (a, b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    _, exact = distance(a, b, x, y)
    if exact is None:
        high, low = two_sum(x, -y)
    else:
        upper = exact >> np.uint64(11) << np.uint64(11)  # a float64 has 53 bits
        sign = np.where(np.less(a, b), -1.0, 1.0)
        high, low = two_sum(sign * upper, sign * (exact - upper))
    high[(x == y) & np.isinf(x) | np.isnan(x) & np.isnan(y)] = 0.0
    low[~np.isfinite(low)] = 0.0
    return high, low
