"""Moments (mean, variance, extremes, counts): how they are measured and merged.

Notes
-----
The mean is the unevaluated sum ``hi + lo`` of two float64. A block has ``hi = sum(x) / n``, ``d = x - hi``,
``lo = sum(d) / n`` and ``m2 = sum(d^2) - n lo^2``. With one float64 instead, 1.2 % of the elements of a float32
output at offset 1e6 are misrounded. Blocks are merged by Chan, Golub and LeVeque (1979).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.loops import loops
from gncli.kernels.partition import Axis
from gncli.kernels.plain import Reals, U, scale, united, united_bounds
from gncli.kernels.reduction import Reduction, Rows, Visit, fold_axes, measure_blocks, repeat
from gncli.kernels.twofold import two_sum

Floats = NDArray[np.float64]
ZERO = -(1 << 14)  # the power of a set of zeros only: below every other power
NOWHERE = np.int64(2**63 - 1)  # the place of a value that does not occur: after every place


class Moments(NamedTuple):
    """The moments of many sets of values at once: each field is an array, and all have one shape.

    Attributes
    ----------
    n : ndarray of float64
        The number of finite values; moments and extremes are over these.
    hi, lo : ndarray of float64
        The mean is ``(hi + lo) * 2**power``; where `min` is an integer array, the mean minus `min`.
    m2 : ndarray of float64
        The sum of squared deviations from the mean, over ``4**power``.
    min, max : ndarray of float64, or of int64 or uint64 for 64-bit integers
        Extremes; infinity and -infinity where `n` is 0.
    nan, posinf, neginf : ndarray of float64, optional
        The numbers of values that are not finite.
    power : ndarray of int32, optional
        The scale of `hi`, `lo` and `m2`; not 0 where the largest |x| of float64 is beyond 2**200 or below 2**-200.
    extras : tuple of Extra
        The extra statistics that were requested, one record each (see `gncli.kernels.extras`).
    """

    n: Floats
    hi: Floats
    lo: Floats
    m2: Floats
    min: NDArray[Any]
    max: NDArray[Any]
    nan: Floats | None = None
    posinf: Floats | None = None
    neginf: Floats | None = None
    power: NDArray[np.int32] | None = None
    extras: tuple[Extra, ...] = ()

    @classmethod
    def nothing(cls, dtype: np.dtype[Any]) -> Moments:
        """Return the moments of no values of `dtype`, in shape (1,)."""
        none = np.zeros(1)
        if is_wide_integer(dtype):
            info = np.iinfo(dtype)
            low, high = np.array([info.max], info.dtype), np.array([info.min], info.dtype)
        else:
            low, high = np.array([np.inf]), np.array([-np.inf])
        return cls(none, none, none, none, low, high)

    @classmethod
    def of_values(cls, values: Floats) -> Moments:
        """Return the moments of sets of one value each; a value that is not finite counts as NaN."""
        finite = np.isfinite(values)
        value = np.where(finite, values, 0.0)
        none = np.zeros_like(value)
        low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
        power = scale(np.abs(value))
        hi = value if power is None else np.ldexp(value, -power)
        return cls(finite.astype(np.float64), hi, none, none, low, high, (~finite).astype(np.float64), power=power)

    def asked(self, kind: type[E]) -> E | None:
        """Return the extra record of that kind; None if it was not requested."""
        for extra in self.extras:  # a generator takes longer than the loop
            if isinstance(extra, kind):
                return extra
        return None

    @property
    def values(self) -> Floats:
        """The number of values, finite or not."""
        return self.n + self.number("nan") + self.number("posinf") + self.number("neginf")

    def number(self, name: str) -> Floats:
        """Return the counts named `name`; zeros if they were not kept."""
        found: Floats | None = getattr(self, name)
        return np.zeros_like(self.n) if found is None else found

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Whether all values are finite."""
        return np.ones(self.n.shape, np.bool_) if self.nan is None else np.equal(self.values, self.n)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Whether there is a finite value and all finite values are equal."""
        return np.asarray((self.min == self.max) & (self.n > 0))

    def settled(self) -> Moments:
        """Return the same with constant sets made exact: the mean is the value, and m2 is 0.

        Otherwise a constant such as 0.3 leaves rounding noise in m2, which a division by its root would amplify.
        """
        constant = self.constant
        if not np.count_nonzero(constant):  # `any` takes five times as long, as long as this of a few cells
            return self
        value = 0.0 if _integral(self.min) else np.ldexp(self.min, -_power(self))
        hi, lo, m2 = np.where(constant, value, self.hi), np.where(constant, 0, self.lo), np.where(constant, 0, self.m2)
        return self._replace(hi=hi, lo=lo, m2=m2)

    @property
    def mean(self) -> Floats:
        """The mean of the finite values; NaN where there are none."""
        return np.asarray(np.where(self.n > 0, self._unscaled(self.less(np.zeros(self.hi.shape))), np.nan))

    def less(self, origin: Floats) -> Floats:
        """Return the mean less `origin`, which is on the scale of `hi`, as exactly as a float64 can hold it."""
        if not _integral(self.min):
            return (self.hi - origin) + self.lo
        upper = self.min >> 11 << 11  # a float64 holds its upper 53 bits, and another one the others
        base, rest = two_sum(upper.astype(np.float64), (self.min - upper).astype(np.float64))
        base, rest = moved_by(base, -origin, rest)
        hi, lo = moved_by(base, self.hi, self.lo + rest)
        return hi + lo

    def scaled_var(self, ddof: int = 0) -> Floats:
        """Return the variance over ``4**power``; NaN where it is not defined."""
        left, defined = self.n - ddof, self.n > ddof
        if np.count_nonzero(defined) < left.size:
            left = np.where(defined, left, np.nan)
        return np.asarray(self.m2 / left)

    def var(self, ddof: int = 0) -> Floats:
        """Return the variance; NaN where it is not defined, infinity where it overflows float64."""
        with np.errstate(over="ignore"):
            return self._unscaled(self.scaled_var(ddof), 2)

    def std(self, ddof: int = 0) -> Floats:
        """Return the standard deviation, correct even where the variance overflows or underflows float64."""
        return self._unscaled(np.sqrt(self.scaled_var(ddof)))

    def rescaled(self, power: NDArray[np.int32]) -> Moments:
        """Return the same mean and m2 on the scale of `power`, without extras."""
        by = _power(self) - power
        hi, lo, m2 = np.ldexp(self.hi, by), np.ldexp(self.lo, by), np.ldexp(self.m2, 2 * by)
        return self._replace(hi=hi, lo=lo, m2=m2, power=power, extras=())

    def _unscaled(self, values: Floats, times: int = 1) -> Floats:
        return values if self.power is None else np.asarray(np.ldexp(values, times * self.power))


class Extra(Protocol):
    """A record of an extra statistic besides the moments; all kinds are in `gncli.kernels.extras`."""

    def merged(self, other: Self, union: Union) -> Self:
        """Return the record of the unions of two sets, set by set."""


E = TypeVar("E")


class Union(NamedTuple):
    """The moments that the extras of two sets are merged with.

    Attributes
    ----------
    a, b : Moments
        The moments of the two sets; `m2` is on the scale of the union.
    n : ndarray of float64
        The number of finite values of the union.
    delta : ndarray of float64
        The mean of `b` minus the mean of `a`.
    down, up : ndarray of int32, or 0
        The powers of two that bring `a`, and `b`, to the scale of the union.
    """

    a: Moments
    b: Moments
    n: Floats
    delta: Floats
    down: Any
    up: Any


class Bounds(NamedTuple):
    """Bounds of the errors of `hi` + `lo` and of `m2`, on their scales: over ``2**power`` and ``4**power``."""

    mean: Floats
    m2: Floats

    def merged(self, other: Bounds, union: Union) -> Bounds:
        """Return the bounds of the unions, as `merge` computes them."""
        a, b, far = union.a, union.b, np.abs(union.delta)
        share = b.n / np.maximum(union.n, 1.0)
        limits = [on_scale(self, union.down), on_scale(other, union.up)]
        if _integral(a.min):  # both means are moved to the minimum of the union first
            reach = width(np.minimum(a.min, b.min), np.maximum(a.max, b.max))
            limits = [(mean + 3 * U * reach, m2) for mean, m2 in limits]
            apart, lo = 4 * reach, reach
        else:
            (a_hi, a_lo), (b_hi, b_lo) = _halves(a, union.down), _halves(b, union.up)
            apart = np.abs(b_hi - a_hi) + np.abs(a_lo) + np.abs(b_lo) + far
            lo = np.abs(a_lo + union.delta * share)
        return Bounds(*united_bounds(share, a.n * share, far, apart, lo, a.m2 + b.m2, *limits))


def on_scale(limits: Bounds, power: Any) -> tuple[Floats, Floats]:
    """Return bounds of the mean and of m2 on another scale."""
    return (np.ldexp(limits.mean, power), np.ldexp(limits.m2, 2 * power)) if isinstance(power, np.ndarray) else limits


def width(low: NDArray[Any], high: NDArray[Any]) -> Floats:
    """Return the distance of integers as float64."""
    return np.asarray(np.subtract(high, low).view(np.uint64), np.float64)


def _halves(moments: Moments, power: Any) -> tuple[Floats, Floats]:
    """Return the halves of the mean on another scale."""
    hi, lo = moments.hi, moments.lo
    return (np.ldexp(hi, power), np.ldexp(lo, power)) if isinstance(power, np.ndarray) else (hi, lo)


def is_wide_integer(dtype: np.dtype[Any]) -> bool:
    """Return whether values of `dtype` may not fit a float64, so that they must be shifted before they are widened."""
    return dtype.kind in "iu" and dtype.itemsize == 8


def _integral(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "iu"


def _power(moments: Moments) -> Any:
    return 0 if moments.power is None else moments.power


def shifted(values: NDArray[Any], base: NDArray[Any]) -> Floats:
    """Return float64(values - base), the exact difference of 64-bit integers; `base` is at most `values`."""
    return np.asarray(np.subtract(values, base).view(np.uint64), np.float64)


def merge(a: Moments, b: Moments) -> Moments:
    """Return the moments of the unions of `a` and `b`, set by set (Chan, Golub and LeVeque, 1979).

    The union of two empty sets is empty. The merge is commutative and associative to rounding.
    """
    low, high = np.minimum(a.min, b.min), np.maximum(a.max, b.max)
    power = None
    down: Any = 0
    up: Any = 0
    a_hi, a_lo, a_m2, b_hi, b_lo, b_m2 = a.hi, a.lo, a.m2, b.hi, b.lo, b.m2
    if _integral(low):
        a_hi, a_lo = moved_by(a.hi, shifted(a.min, low), a.lo)
        b_hi, b_lo = moved_by(b.hi, shifted(b.min, low), b.lo)
    elif a.power is not None or b.power is not None:
        powers = [np.where((m.hi == 0) & (m.lo == 0) & (m.m2 == 0), ZERO, _power(m)) for m in (a, b)]
        power = np.maximum(*powers)
        power = np.where(power == ZERO, 0, power).astype(np.int32)
        down, up = powers[0] - power, powers[1] - power
        a_hi, a_lo, a_m2 = np.ldexp(a.hi, down), np.ldexp(a.lo, down), np.ldexp(a.m2, 2 * down)
        b_hi, b_lo, b_m2 = np.ldexp(b.hi, up), np.ldexp(b.lo, up), np.ldexp(b.m2, 2 * up)
    n, hi, lo, m2, delta = united((a.n, a_hi, a_lo, a_m2), (b.n, b_hi, b_lo, b_m2))
    nan, posinf, neginf = _add(a.nan, b.nan), _add(a.posinf, b.posinf), _add(a.neginf, b.neginf)
    union = Union(a._replace(m2=a_m2), b._replace(m2=b_m2), n, delta, down, up)
    extras = tuple(one.merged(other, union) for one, other in zip(a.extras, b.extras, strict=True))
    return Moments(n, hi, lo, m2, low, high, nan, posinf, neginf, power, extras)


def fold(moments: Moments, axes: Sequence[Axis], keep_first: bool) -> Moments:
    """Return what `fold_axes` does, in one call for each axis where all fields are floats, and all extras allow it.

    Those are the bounds, and records whose `union` is a ufunc that merges their only field in any order.
    """
    if moments.n.ndim == 1 and all(axis.cell or axis.size == 1 for axis in axes[keep_first:]):
        return moments
    bounds = moments.asked(Bounds)
    kept: list[Any] = [extra for extra in moments.extras if not isinstance(extra, Bounds)]
    free = all(hasattr(extra, "union") for extra in kept)
    if not free or _integral(moments.min) or any(f is not None for f in moments[6:10]):
        return fold_axes(moments, axes, merge, keep_first=keep_first)
    fields = [*moments[:6], *(bounds or ())]
    others = [extra[0] for extra in kept]
    inner = 1
    for place in reversed(range(len(axes))):
        size = axes[place].size
        if axes[place].cell or (place == 0 and keep_first):
            inner *= size
        elif size > 1:
            fields = list(loops().pool([field.reshape(-1, size, inner) for field in fields]))
            runs = (field.reshape(-1, size, inner) for field in others)
            others = [extra.union.reduce(run, axis=1) for extra, run in zip(kept, runs, strict=True)]
    fields = [field.reshape(-1) for field in fields]
    left = (type(extra)(field.reshape(-1)) for extra, field in zip(kept, others, strict=True))
    extras = tuple(Bounds(*fields[6:]) if isinstance(extra, Bounds) else next(left) for extra in moments.extras)
    return Moments._make([*fields[:6], *moments[6:10], extras])


def moved_by(hi: Floats, shift: Floats, lo: Floats) -> tuple[Floats, Floats]:
    """Return (hi, lo) moved by `shift`; the rounding error of ``hi + shift`` is added to `lo`."""
    total, error = two_sum(hi, shift)
    return total, lo + error


def _add(a: Floats | None, b: Floats | None) -> Floats | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def record(found: Mapping[str, NDArray[Any]]) -> Moments:
    """Return the moments that `plain.moments` found, without extras."""
    return Moments._make([*map(found.get, Moments._fields[:-1]), ()])


class Measuring(Protocol):
    """An object that measures extra statistics: `gncli.kernels.extras.Extras`."""

    def nothing(self, moments: Moments, dtype: np.dtype[Any]) -> Moments:
        """Return the moments of no values, with their extras."""

    def sums(self, dtype: np.dtype[Any]) -> Collection[str]:
        """Return what `plain.moments` measures for them."""

    def finish(self, rows: Rows, values: NDArray[Any], found: Mapping[str, NDArray[Any]], moments: Moments) -> Moments:
        """Return the moments of blocks with their extras, from what `plain.moments` found."""

    def of_visit(self, visit: Visit, moments: Moments) -> Moments:
        """Return the moments of the cells of a visit with the extras that are measured of all its elements at once."""


class MomentsOf(Reduction[Moments]):
    """The moments of each cell.

    Parameters
    ----------
    dtype : numpy.dtype
        The dtype of the values.
    extras : Extras, optional
        The extra statistics to measure.
    about_zero : bool
        Whether the mean is known to be nearly 0, which saves a pass.
    """

    def __init__(self, dtype: np.dtype[Any], extras: Measuring | None = None, *, about_zero: bool = False) -> None:
        self.dtype, self.extras, self.about_zero = dtype, extras, about_zero

    def measure(self, visit: Visit) -> Moments:
        """Return the moments of a visit: one entry per cell that it touches."""
        return self.measure_products(visit, None)

    def measure_products(self, visit: Visit, by: Reals | None) -> Moments:
        """Return the moments of the elements of a visit times `by`; without factors, of the elements."""
        wanted = () if self.extras is None else self.extras.sums(self.dtype)

        def kernel(rows: Rows) -> Moments:
            values = rows.of(visit.values)
            found = loops().moments(values, self.about_zero, wanted, None if by is None else rows.of(by))
            moments = record(found)
            return moments if self.extras is None else self.extras.finish(rows, values, found, moments)

        moments = measure_blocks(Visit(*visit[:3], visit.values.size), kernel, fold)
        return moments if self.extras is None else self.extras.of_visit(visit, moments)

    def of_blocks(self, visit: Visit, found: Mapping[str, NDArray[Any]]) -> Moments:
        """Return the moments of a visit, without extras, from what `plain.moments` found of its blocks."""
        return fold(record(found), visit.walk.dims(visit.region), visit.walk.units[visit.region.axis].cell)

    def nothing(self, num_cells: int = 1) -> Moments:
        """Return the moments of no values."""
        moments = repeat(Moments.nothing(self.dtype), num_cells)
        return moments if self.extras is None else self.extras.nothing(moments, self.dtype)

    def merge(self, a: Moments, b: Moments) -> Moments:
        """Return the moments of the unions."""
        return merge(a, b)
