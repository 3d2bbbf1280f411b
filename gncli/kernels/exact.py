"""Exact sums, and elements that are rounded by exact arithmetic where float64 leaves them open.

Notes
-----
With S the sum of the n values of a cell, Q that of their squares, N = n x - S and W = n Q - S^2 + n^2 eps::

    y = gamma N / sqrt(W) + beta                  or, divided by the variance,  gamma N n / W + beta

S and Q are integers over a power of two, and eps, gamma and beta are float64, so that N and W are exact. Elements are
first computed in double-double (about 100 bits; Dekker 1971), all open ones of a cell at once, with a bound. What that
leaves open is decided in integers: W is a square, then y is a fraction, or it is not, and then y is no tie.
"""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.activations import activate, enclosure
from gncli.kernels.floats import Float
from gncli.kernels.limbs import LAST, cell_limbs, center, exponent, integers, over_blocks
from gncli.kernels.loops import loops
from gncli.kernels.moments import Floats, Moments, Union, is_wide_integer
from gncli.kernels.plain import NO_DIGITS, Affine, Factors, Standard, argument, cuts, native_order
from gncli.kernels.reduction import Visit, spread
from gncli.kernels.twofold import two_sum

if TYPE_CHECKING:
    from gncli.kernels.groupnorm import GroupNorm

Integers = NDArray[Any]  # of Python integers

LIMB = 24  # bits: a product has twice as many
MOST = 1 << 13  # of them an int64 holds the sum
GRAIN = 1074  # every finite value is a multiple of 2**-GRAIN


# --- sums ------------------------------------------------------------------------------------------------------------


class Sums(NamedTuple):
    """The exact sums of the values and of their squares, as Python integers over ``2**grain`` and ``4**grain``."""

    first: NDArray[Any]
    second: NDArray[Any]

    def merged(self, other: Sums, _union: Union) -> Sums:
        """Return the sums of the unions."""
        return Sums(self.first + other.first, self.second + other.second)


def exact_sums(values: NDArray[Any]) -> tuple[Integers, Integers]:
    """Return the sums along axis 1 of `values`, over ``2**GRAIN``, and of their squares, over ``4**GRAIN``.

    Parameters
    ----------
    values : ndarray, shape (A, R) or (A, R, Q)
        The values, of any boolean, integer or floating dtype. What is not finite counts as 0.

    Returns
    -------
    first, second : ndarray of object, shape (A,) or (A, Q)
        The sums, as Python integers.
    """
    shape = (*values.shape[:1], *values.shape[2:])
    first, second = np.zeros(shape, np.int64).astype(object), np.zeros(shape, np.int64).astype(object)
    if is_narrow(values.dtype) and values.ndim == 2:
        return _narrow_sums(values.astype(np.float32, copy=False))
    for start in range(0, values.shape[1], MOST):
        rows = values[:, start : start + MOST]
        for cut in cuts(rows.shape):
            ones, squares = (_integers if is_wide_integer(values.dtype) else _floats)(rows[cut])
            first[(cut[0], *cut[2:])] += ones
            second[(cut[0], *cut[2:])] += squares
    return first, second


def cell_sums(visit: Visit, cells: Moments) -> Sums:
    """Return the exact sums of the cells of a visit, one after the other as `Reduction.measure` returns them.

    Parameters
    ----------
    visit : Visit
        The visit, with its elements.
    cells : Moments
        The moments of its cells, in the same order.
    """
    if not is_narrow(visit.values.dtype):
        return _sums_by_limbs(visit, cells)
    walk = visit.walk
    num_x, length, width = walk.view(visit.region)
    dims = walk.dims(visit.region)
    block = len(dims) - 1 - len(walk.columns)  # the axis of the blocks of a leaf, which are taken together
    sizes = [1 if place == block else axis.size for place, axis in enumerate(dims)]
    reduced = tuple(place for place, axis in enumerate(dims) if not axis.cell)

    def of_cells(sums: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(
            np.add.reduce(sums.reshape(*sums.shape[:-2], *sizes), axis=tuple(p - len(sizes) for p in reduced))
        )

    values = visit.values.reshape(num_x, length, width)
    if not walk.columns:
        found = exact_sums(values[..., 0])
        return Sums(*(of_cells(sums.reshape(num_x, width)).reshape(-1) for sums in found))
    values = values.astype(np.float32, copy=False)
    top = math.frexp(max(0.0, -cells.min.min(), cells.max.max()))[1]
    numbers = np.arange(math.prod(axis.size for axis in dims if axis.cell))
    owners = over_blocks(visit, numbers)
    first, second = np.zeros((2, numbers.size), np.int64).astype(object)
    power = GRAIN - 2 * LIMB + top
    for start in range(0, length, MOST):
        rows = values[:, start : start + MOST]
        digits, late = loops().column_digits(rows, top)
        upper, lower = (of_cells(half).reshape(5, -1).astype(object) for half in (digits >> 32, digits & 0xFFFFFFFF))
        high, low, squares, mixed, low_squares = (upper << 32) + lower
        first += ((high << LIMB) + low) << power
        second += ((squares << 2 * LIMB) + (mixed << LIMB + 1) + low_squares) << 2 * power
        if late.any():
            ones, their_squares = _floats(rows.swapaxes(1, 2)[late])
            np.add.at(first, owners[late], ones)
            np.add.at(second, owners[late], their_squares)
    return Sums(first, second)


def _sums_by_limbs(visit: Visit, cells: Moments) -> Sums:
    """Return the exact sums of cells, from those of deviations from a center."""
    middle, unit = center(cells, about_zero=False)
    found = cell_limbs(visit, cells, middle, unit)
    first, second = integers(found.first), integers(found.second)
    powers = GRAIN - LAST + exponent(unit)
    for place in np.flatnonzero(~found.late):
        base = int(cells.min[place]) << GRAIN if cells.min.dtype.kind in "iu" else 0
        origin, count = over_grain(float(middle[place])) + base, int(cells.n[place])
        power = int(powers[place])
        deviations = first[place] << power
        first[place] = deviations + count * origin
        second[place] = (second[place] << 2 * power) + (2 * deviations + count * origin) * origin
    late = np.flatnonzero(found.late)
    first[late], second[late] = sums_of(visit, over_blocks(visit, np.arange(cells.n.size)), late)
    return Sums(first, second)


def sums_of(visit: Visit, owners: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[Integers, Integers]:
    """Return the exact sums of some cells of a visit, as `exact_sums` does.

    Parameters
    ----------
    visit : Visit
        The visit, with its elements.
    owners : ndarray of int64, shape (X, Q)
        The cell of each row of the visit, seen as (X, L, Q).
    wanted : ndarray of int64, 1-D
        The cells, in ascending order.
    """
    first, second = np.zeros((2, wanted.size), np.int64).astype(object)
    if wanted.size:
        flat = owners.reshape(-1)
        places = np.flatnonzero(np.isin(flat, wanted))
        found = exact_sums(rows_at(visit, visit.values, places))
        index = np.searchsorted(wanted, flat[places])
        np.add.at(first, index, found[0])
        np.add.at(second, index, found[1])
    return first, second


def rows_at(visit: Visit, values: NDArray[Any], places: NDArray[np.int64]) -> NDArray[Any]:
    """Return some rows and columns of a visit, seen as (X, L, Q), in shape (A, L); copied only where they lie apart.

    `places` are their numbers among all X Q, in ascending order.
    """
    num_x, length, width = visit.walk.view(visit.region)
    runs = values.reshape(num_x, length, width).swapaxes(1, 2)
    if width == 1 and places[-1] - places[0] + 1 == places.size:
        return runs[places[0] : places[-1] + 1, 0]
    return runs[np.divmod(places, width)]


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Return whether a float32 holds every value of `dtype`."""
    return dtype.kind == "b" or dtype.itemsize <= (4 if dtype.kind == "f" else 2)


def over_grain(value: float) -> int:
    """Return a finite float64 as an integer over ``2**GRAIN``."""
    over, under = value.as_integer_ratio()
    return over * ((1 << GRAIN) // under)


def _narrow_sums(values: NDArray[np.float32]) -> tuple[Integers, Integers]:
    """Return the exact sums of values that a float32 holds, shape (A, R)."""
    sets, count = values.shape
    whole = count - count % MOST
    first, second = np.zeros(sets, np.int64).astype(object), np.zeros(sets, np.int64).astype(object)
    for start, stop, width in ((0, whole, MOST), (whole, count, count - whole)):
        if start == stop:
            continue
        rows = values[:, start:stop].reshape(-1, width)
        owners = np.repeat(np.arange(sets), (stop - start) // width)
        found = loops().digits(rows)
        fits = found[5] != NO_DIGITS
        for place, (high, low, squares, mixed, low_squares, top) in zip(
            owners[fits].tolist(), found[:, fits].T.tolist(), strict=True
        ):
            power = GRAIN - 2 * LIMB + top
            first[place] += ((high << LIMB) + low) << power
            second[place] += ((squares << 2 * LIMB) + (mixed << LIMB + 1) + low_squares) << 2 * power
        if not fits.all():
            ones, squares = _floats(rows[~fits])
            np.add.at(first, owners[~fits], ones)
            np.add.at(second, owners[~fits], squares)
    return first, second


def _integers(values: NDArray[Any]) -> tuple[Integers, Integers]:
    """Return the exact sums of 64-bit integers."""
    base, count = values.min(), values.shape[1]
    left = np.subtract(native_order(values), base).view(np.uint64)
    limbs = [(left >> np.uint64(LIMB * k) & np.uint64((1 << LIMB) - 1)).astype(np.int64) for k in range(3)]
    ones, squares = _limb_sums(limbs, 0)
    squares = squares + ones * (2 * int(base)) + count * int(base) ** 2
    return (ones + count * int(base)) << GRAIN, squares << 2 * GRAIN


def _floats(values: NDArray[Any]) -> tuple[Integers, Integers]:
    """Return the exact sums of values that a float64 holds."""
    rest = values.astype(np.float64)
    rest[~np.isfinite(rest)] = 0.0
    count = 4 if values.dtype.itemsize == 8 else 2
    first = second = np.zeros((), object)
    while (largest := np.abs(rest).max()) > 0:
        # The digits of all values on one scale; a value with digits below waits for a scale of its own.
        top = math.frexp(largest)[1]
        scaled = digits = np.ldexp(rest, LIMB - top)
        limbs = []
        for _ in range(count):
            limb = np.trunc(digits)
            limbs.append(limb)
            digits = (digits - limb) * 2.0**LIMB
        late = (digits != 0) | (np.ldexp(scaled, top - LIMB) != rest)  # it has more digits, or it underflowed
        whole = [np.where(late, 0.0, limb).astype(np.int64) for limb in reversed(limbs)]
        ones, squares = _limb_sums(whole, GRAIN + top - LIMB * count)
        first, second = first + ones, second + squares
        rest = np.where(late, rest, 0.0)
    return first, second


def _limb_sums(limbs: list[NDArray[np.int64]], power: int) -> tuple[Integers, Integers]:
    """Return the sums of numbers, and of their squares, whose limbs, the lowest first, are multiples of 2**power."""
    first = second = np.zeros((), object)
    for i, a in enumerate(limbs):
        first = first + (_whole(a) << LIMB * i)
        for k, b in enumerate(limbs[: i + 1]):
            second = second + (_whole(a * b) << LIMB * (i + k) + (i != k))
    return _shifted(first, power), _shifted(second, 2 * power)


def _whole(limb: NDArray[np.int64]) -> Integers:
    return np.asarray(np.add.reduce(limb, axis=1)).astype(object)


def _shifted(sums: Integers, power: int) -> Integers:
    return np.asarray(sums << power if power >= 0 else sums >> -power, object)


# --- settling --------------------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """The exact moments of a cell.

    Attributes
    ----------
    n : int
        The number of values.
    first, second : int
        Their sum over ``2**GRAIN``, and the sum of their squares over ``4**GRAIN``.
    eps : float
        Added to the variance.
    root : bool
        Whether deviations are divided by the root of the variance and eps, or by these.
    """

    n: int
    first: int
    second: int
    eps: float
    root: bool

    @property
    def spread(self) -> int:
        """``n**2 * (var + eps)`` over ``4**GRAIN``: W."""
        over, under = self.eps.as_integer_ratio()
        return self.n * self.second - self.first**2 + (self.n**2 * over << 2 * GRAIN) // under

    def settled(self, x: NDArray[Any], factors: Factors, made: Float, activation: str | None = None) -> NDArray[Any]:
        """Return the result for some elements of the cell, correctly rounded.

        Parameters
        ----------
        x : ndarray, 1-D
            The elements, in the dtype of the input.
        factors : Factors
            The affine map of each.
        made : Float
            The dtype of the result.
        activation : str, optional
            What is applied after the affine map.
        """
        if activation in (None, "relu"):  # of which rounding may come first
            found, open_ = self._double_double(x, factors, made)
        else:
            found, open_ = np.zeros(x.shape, made.dtype), np.ones(x.shape, np.bool_)
        if open_.any():
            some, at, back = distinct(x[open_], factors.at(open_))
            decided = [self._decided(value, some.at(i), made, activation) for i, value in enumerate(x[open_][at])]
            found[open_] = np.array(decided, made.dtype)[back]
        if activation == "relu":
            found[found <= 0] = 0
        return found

    def sign(self, x: Any, factors: Factors) -> int:
        """Return the sign of the exact result for one element, before the activation."""
        factor, shift = fractions(factors)
        product = factor * self._deviation(x) * (1 << GRAIN)
        if not product:
            return _sign(shift)
        if not self.root:
            return _sign(product * self.n * (1 << GRAIN) + shift * self.spread)
        if product * shift >= 0:
            return _sign(product + shift)
        return _sign(product) * _sign(product**2 - shift**2 * self.spread)

    def _double_double(self, x: NDArray[Any], factors: Factors, made: Float) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the results, and which of them are still open."""
        result = self.argument(x, factors)
        if result is None:
            return np.zeros(x.shape, made.dtype), np.ones(x.shape, np.bool_)
        y, y_low, error = result
        below, above = (rounded(*two_sum(y, y_low + side), made) for side in (-error, error))
        bits = f"u{below.itemsize}"
        same = below.view(bits) == above.view(bits)
        sure = same & np.isfinite(y) & np.isfinite(y_low + error)
        return below, ~sure

    def argument(self, x: NDArray[Any], factors: Factors) -> tuple[Floats, Floats, Floats] | None:
        """Return the results for some elements, before the activation, in two float64 each, and bounds of their errors.

        None if there is no `standard`. For the parameters see `settled`.
        """
        standard = self.standard(x)
        return None if standard is None else argument(x.astype(np.float64), factors, standard)

    def standard(self, x: NDArray[Any]) -> Standard | None:
        """Return how some elements of the cell are standardized in sums of two float64.

        None if the variance and eps are 0, or an element is infinite, or no float64.
        """
        spread, largest = self.spread, float(np.abs(x.astype(np.float64)).max())
        most = 2.0**53 if x.dtype.kind in "iu" else sys.float_info.max  # not every larger integer is a float64
        if not spread or largest > most:
            return None
        scale = math.frexp(largest)[1]
        more = max(0, 240 - spread.bit_length()) // 2 + 1
        root = math.isqrt(spread << 2 * more)
        over, under = (self.n << more, root) if self.root else (self.n**2 << GRAIN, spread)
        mean, rstd = _halves(_shift(self.first, -scale), self.n << GRAIN), _halves(_shift(over << GRAIN, scale), under)
        return Standard(scale, *mean, *rstd)

    def _deviation(self, x: Any) -> Fraction:
        """Return N of an element."""
        exact = Fraction(int(x)) if isinstance(x, np.integer | np.bool_) else Fraction(float(x))
        return self.n * exact - Fraction(self.first, 1 << GRAIN)

    def _decided(self, x: Any, factors: Factors, made: Float, activation: str | None) -> Any:
        """Return the result for one element, by integers alone."""
        deviation = self._deviation(x)
        (factor, shift), spread = fractions(factors), self.spread
        if deviation == 0 or factor == 0:
            return _of_fraction(shift, float(0.0 * factors.gamma + factors.beta), made, activation)
        if not self.root:
            exact = factor * deviation * self.n * Fraction(1 << 2 * GRAIN, spread) + shift
            return _of_fraction(exact, 0.0, made, activation)
        product, root = factor * deviation * (1 << GRAIN), math.isqrt(spread)
        if root * root == spread:
            return _of_fraction(product / root + shift, 0.0, made, activation)
        bits = 64
        while True:  # the argument is irrational, so it is no boundary of the dtype, and neither 0
            bits *= 2
            root = math.isqrt(spread << 2 * bits)
            low, high = sorted(product * (1 << bits) / near + shift for near in (root, root + 1))
            if low * high > 0 and (found := _agreed(low, high, bits, made, activation)) is not None:
                return found


def distinct(x: NDArray[Any], factors: Factors) -> tuple[Factors, NDArray[np.int64], NDArray[np.int64]]:
    """Return the map of each distinct element, where each one is first, and which of these each element is."""
    keys = x.astype(np.float64).view(np.int64) if x.dtype.kind == "f" else x.astype(np.int64)
    cases = np.stack([keys, *(part.view(np.int64) for part in factors)])
    _, where, back = np.unique(cases, axis=1, return_index=True, return_inverse=True)
    return factors.at(where), where, back.reshape(-1)


def _of_fraction(exact: Fraction, zero: float, made: Float, activation: str | None) -> Any:
    """Return the activation of a fraction, rounded once; of 0 it is `zero`, which has a sign."""
    if not exact:
        return _rounded_one(zero, 0.0, made)
    bits = 128
    while (found := _agreed(exact, exact, bits, made, activation)) is None:
        bits *= 2
    return found


def _agreed(low: Fraction, high: Fraction, bits: int, made: Float, activation: str | None) -> Any:
    """Return what the activation of a number from `low` to `high` is rounded to; None if `bits` do not say it."""
    ends = (low, 0), (high, 0)
    if activation not in (None, "relu"):
        ends = enclosure(activation, low, high, bits)
    one, other = (nearest(end, made, side) for end, side in ends)
    return one if one.tobytes() == other.tobytes() else None


def _sign(number: Fraction) -> int:
    return (number > 0) - (number < 0)


def fractions(factors: Factors) -> tuple[Fraction, Fraction]:
    """Return the factor and the offset of one element."""
    return Fraction(float(factors.gamma)) + Fraction(float(factors.rest)), Fraction(float(factors.beta))


def _shift(number: int, by: int) -> Fraction:
    return Fraction(number) * Fraction(2) ** by


def _halves(over: Fraction, under: int) -> tuple[float, float]:
    """Return the quotient as a sum of two float64; infinity if it is beyond them."""
    exact = over / under
    try:
        high = float(exact)
    except OverflowError:
        return math.inf, 0.0
    return high, float(exact - Fraction(high))


def nearest(exact: Fraction, made: Float, side: int = 0) -> Any:
    """Return `exact`, rounded once to `made`, or what is as near to it as can be on one side; ties go to even."""
    if side and made.mantissa == 52 and (exact * 2**1075).denominator == 1:  # it may be a tie; others are far from it
        exact += Fraction(side, 2**1076)
    try:
        high = float(exact)
    except OverflowError:
        return _rounded_one(math.inf if exact > 0 else -math.inf, 0.0, made)
    return _rounded_one(high, float(_sign(exact - Fraction(high)) or side), made)


def _rounded_one(high: float, low: float, made: Float) -> Any:
    return rounded(np.array([high]), np.array([low]), made)[0]


def rounded(high: Floats, low: Floats, made: Float) -> NDArray[Any]:
    """Return ``high + low``, rounded once to `made`; of `low`, which is less than a unit of `high`, the sign counts.

    The sum is rounded to odd first: to the neighbour whose last bit is 1, unless it is a float64. The second rounding
    then finds the same as the sum would (Boldo and Melquiond 2008).
    """
    if made.mantissa == 52:  # `high` is the nearest float64 itself
        return high
    even = (high.view(np.int64) & 1) == 0
    odd = np.where((low != 0) & even, np.nextafter(high, np.copysign(np.inf, low)), high)
    found = np.empty(high.shape, made.dtype)
    made.round_into(odd, found)
    return found


def _exact_means(first: Integers, n: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the mean of each cell if `dtype` has it exactly, else NaN; of integers as Python integers, or None.

    Parameters
    ----------
    first, n : ndarray, 1-D
        The exact sum of each cell over ``2**GRAIN``, and the number of its values.
    """

    def mean(total: int, count: int) -> int | float | None:
        units, rest = divmod(total, count)
        if dtype.kind in "iub":
            whole, part = divmod(units, 1 << GRAIN)
            return None if rest or part else whole
        nearest = units / (1 << GRAIN)
        over, under = nearest.as_integer_ratio()
        return math.nan if rest or over * ((1 << GRAIN) // under) != units else nearest

    found = [mean(total, int(count)) for total, count in zip(first.tolist(), n.tolist(), strict=True)]
    return np.array(found, np.float64 if dtype.kind == "f" else object)


# --- the elements of a visit -----------------------------------------------------------------------------------------


def settle(
    visit: Visit,
    places: NDArray[np.int64],
    made: Float,
    y: NDArray[Any],
    cells: Moments,
    norm: GroupNorm,
    affine: Affine,
) -> int:
    """Round the elements of a visit at `places` to `y` by exact arithmetic; return how many became 0, and are not.

    Parameters
    ----------
    visit : Visit
        The visit, with its elements.
    places : ndarray of int64, 1-D
        The elements that are open.
    made : Float
        The dtype of the result.
    y : ndarray of ``made.dtype``, 1-D
        The results of the visit; those at `places` are replaced.
    cells : Moments
        The moments that the cells are standardized by, as `spread` takes them. Without their `Sums` the visit has all
        elements of its cells.
    norm, affine
        The formula.
    """
    if not places.size:
        return 0
    part, n, first, second = _opened(visit, places, cells, norm)
    factors = affine.of(visit.region.start + places)
    rounds, activation = affine.rounds and made.mantissa < 52, affine.activation
    first_map, after = (Factors.none(places.size), None) if rounds else (factors, activation)
    # Elements that are the mean itself: of integers in small groups there is one in many cells, too many for the loop.
    values = visit.values[places]
    zero = values == _exact_means(first, n, values.dtype)[part]
    y[places[zero]], became_zero = _of_means(first_map.at(zero), made, after)
    left = np.flatnonzero(~zero)
    order = left[np.argsort(part[left], kind="stable")]
    for some in np.split(order, np.flatnonzero(np.diff(part[order])) + 1) if order.size else ():
        k, at = part[some[0]], places[some]
        exact = Cell(int(n[k]), int(first[k]), int(second[k]), norm.eps, norm.denominator == "std")
        y[at] = exact.settled(values[some], first_map.at(some), made, after)
        signs = (exact.sign(values[i], first_map.at(i)) for i in some[y[at] == 0])
        became_zero += sum(map(partial(_vanishes, after), signs))
    if not rounds:
        return became_zero
    z = y[places]
    if made.foreign:
        made.resolve(z, affine.overflow)
    y[places], became_zero = _of_rounded(z.astype(np.float64), factors, made, activation)
    return became_zero


def positive(
    visit: Visit, places: NDArray[np.int64], cells: Moments, norm: GroupNorm, affine: Affine
) -> NDArray[np.bool_]:
    """Return whether the exact results of the elements at `places` are positive, before rounding and the activation.

    For the parameters see `settle`.
    """
    found = np.zeros(places.size, np.bool_)
    part, n, first, second = _opened(visit, places, cells, norm)
    factors, values = affine.of(visit.region.start + places), visit.values[places]
    for k in range(n.size):
        (some,) = np.nonzero(part == k)
        own, at, back = distinct(values[some], factors.at(some))
        exact = Cell(int(n[k]), int(first[k]), int(second[k]), norm.eps, norm.denominator == "std")
        signs = [exact.sign(value, own.at(i)) for i, value in enumerate(values[some[at]])]
        found[some] = (np.array(signs) > 0)[back]
    return found


def _opened(
    visit: Visit, places: NDArray[np.int64], cells: Moments, norm: GroupNorm
) -> tuple[NDArray[np.int64], Floats, Integers, Integers]:
    """Return the cells of the elements at `places`: the place of each in the arrays that follow, n, and exact sums."""
    num_x, length, width = visit.walk.view(visit.region)
    numbers = np.arange(cells.n.size)
    runs = spread(visit.walk, visit.region, numbers).reshape(num_x, width)
    cell = runs[places // (length * width), places % width]
    opened, part = np.unique(cell, return_inverse=True)
    sums = cells.asked(Sums)
    if sums is not None:
        first, second = sums.first[opened], sums.second[opened]
    else:
        first, second = sums_of(visit, runs, opened)
    if norm.rms:
        first = first * 0  # the mean is taken as 0
    return part, cells.n[opened], first, second


def _vanishes(activation: str | None, sign: int) -> bool:
    """Return whether a result that was rounded to 0 is not 0, from the sign before the activation."""
    return sign > 0 or (sign < 0 and activation != "relu")


def _of_means(factors: Factors, made: Float, activation: str | None) -> tuple[NDArray[Any], int]:
    """Return the results of elements that are the mean itself, and how many became 0, and are not."""
    beta = 0.0 * factors.gamma + factors.beta
    if activation in (None, "relu"):
        found = rounded(beta, np.zeros(beta.shape), made)
        if activation is not None:
            found[found <= 0] = 0
    else:
        values, back = np.unique(beta + 0.0, return_inverse=True)
        each = [_of_fraction(Fraction(value), 0.0, made, activation) for value in values.tolist()]
        found = np.array(each, made.dtype)[back]
    lost = beta > 0 if activation == "relu" else beta != 0
    return found, int(np.count_nonzero((found == 0) & lost))


def _of_rounded(z: Floats, factors: Factors, made: Float, activation: str | None) -> tuple[NDArray[Any], int]:
    """Return the results of values that were rounded before gamma and beta, and how many became 0, and are not."""
    some, at, back = distinct(z, factors)
    found, lost = np.empty(at.size, made.dtype), np.zeros(at.size, np.bool_)
    for i, value in enumerate(z[at].tolist()):
        gamma, _, beta = one = some.at(i)
        if not math.isfinite(value):
            whole = np.array([value * gamma + beta])
            if activation is not None:
                activate(activation, whole, None)
            found[i] = whole[0]
            continue
        factor, shift = fractions(one)
        exact, zero = factor * Fraction(value) + shift, float(0.0 * gamma * value + beta) if shift == 0 else 0.0
        found[i] = _of_fraction(exact, zero, made, activation)
        lost[i] = found[i] == 0 and _vanishes(activation, _sign(exact))
    if activation == "relu":
        found[found <= 0] = 0
    return found[back], int(np.count_nonzero(lost[back]))
