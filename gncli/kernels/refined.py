"""The standardization in sums of two float64, for results of float64.

Notes
-----
With D and Q the exact sums of deviations from a center c (`gncli.kernels.limbs`), and of their squares::

    mean = c + D / n        var = (Q - D^2 / n) / n

Both are computed in sums of two float64, and so is one over the root of var and eps (one step of Newton's). All of it
follows from the exact sums, so it does not depend on how they were found. docs/numbers.md derives the bounds.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from gncli.kernels.exact import GRAIN, Sums, sums_of
from gncli.kernels.floats import Float
from gncli.kernels.groupnorm import GroupNorm, scaled_eps, scaled_for_eps, standardization
from gncli.kernels.limbs import DIGIT, LAST, Integers, cell_limbs, center, digits_of, exponent, halves, over_blocks
from gncli.kernels.moments import Floats, Moments
from gncli.kernels.plain import FAR, LEAST, Standardization
from gncli.kernels.proof import EVERYTHING, TINY
from gncli.kernels.reduction import Visit
from gncli.kernels.twofold import Pair, quotient, two_product, two_sum

SLOPE = 2.0**-97  # times a standardized element: the errors that are relative to it
MOST = 2.0**40  # of so many elements the variance has no larger error


def standardized(
    before: Moments | None, by: Moments, norm: GroupNorm, made: Float, visit: Visit | None
) -> Standardization:
    """Return the standardization that proves the most for a dtype: in sums of two float64 for float64.

    Parameters
    ----------
    before : Moments or None
        The moments of each cell, settled; None if moments are given.
    by : Moments
        Those that cells are standardized by.
    norm : GroupNorm
        The parameters.
    made : Float
        The dtype of the result.
    visit : Visit or None
        The visit, if it has all elements of the cells; else `by` has their `Sums`.
    """
    mapping = standardization(by, norm)
    if made.mantissa < 52:
        return mapping
    cells, n = scaled_for_eps(by, norm.eps), np.maximum(by.n, 1.0)
    none = np.zeros(n.shape)
    middle, unit, mean, var = cells.hi, none, (none, none), (cells.m2, none)
    if before is not None:
        scaled = scaled_for_eps(before, norm.eps)
        if norm.rms:  # the minimum of 64-bit integers is not subtracted
            scaled = scaled._replace(min=scaled.min.astype(np.float64), max=scaled.max.astype(np.float64))
        middle, unit = center(scaled, about_zero=norm.rms)
        first, second = _deviations(scaled, by, middle, unit, visit)
        mean, var = _mean_and_var(first, second, n, exponent(unit) - LAST, about_zero=norm.rms)
    total, more = two_sum(var[0], scaled_eps(norm, cells))
    total, more = two_sum(total, more + var[1])
    rstd, rest = _inverse(total, more, root=norm.denominator == "std")
    if norm.denominator == "variance" and cells.power is not None:
        rstd, rest = np.ldexp(rstd, -cells.power), np.ldexp(rest, -cells.power)
    rstd[~by.finite] = np.nan
    tight = (rstd < 1 / TINY) & (rstd > TINY) & (total < FAR) & (total > 1 / FAR) & (n < MOST)
    offset = rstd * (np.abs(mean[0]) * 2.0**-99 + unit * 2.0**-104) + LEAST
    return mapping._replace(
        hi=middle,
        lo=mean[0],
        tail=mean[1],
        rstd=np.where(tight | ~by.finite, rstd, mapping.rstd),
        rest=np.where(tight, rest, 0.0),
        slope=np.where(tight, SLOPE, EVERYTHING),
        offset=np.where(by.constant, 0.0, np.where(tight, offset, EVERYTHING)),
    )


def _deviations(cells: Moments, by: Moments, middle: Floats, unit: Floats, visit: Visit | None) -> tuple[Pair, Pair]:
    """Return the sums of the deviations of each cell over ``unit * 2**-LAST``, and of their squares over its square.

    Both are taken from digits, one more than the limbs have of the deviations. So they are the same where exact sums
    replace the limbs.
    """
    late = by.finite & ~by.constant & (by.n > 0)
    first, second = np.zeros((4, late.size), np.int64), np.zeros((5, late.size), np.int64)
    if visit is None:
        sums = by.asked(Sums)
        assert sums is not None
        places = np.flatnonzero(late)
        exact = sums.first[places], sums.second[places]
    else:
        found = cell_limbs(visit, cells, middle, unit)
        first[1:], second[:] = np.where(found.late, 0, found.first), np.where(found.late, 0, found.second)
        places = np.flatnonzero(late & found.late)
        exact = sums_of(visit, over_blocks(visit, np.arange(late.size)), places)
    powers = exponent(unit) - LAST
    for k, total, squares in zip(places.tolist(), *exact, strict=True):
        power = int(powers[k]) + (0 if cells.power is None else int(cells.power[k]))
        origin = Fraction(float(middle[k])) * Fraction(2) ** (power - int(powers[k]))
        if cells.min.dtype.kind in "iu":
            origin += int(cells.min[k])
        whole, count = Fraction(int(total), 1 << GRAIN), int(cells.n[k])
        deviations = (whole - count * origin) / Fraction(2) ** (power - DIGIT)
        products = Fraction(int(squares), 1 << 2 * GRAIN) + (count * origin - 2 * whole) * origin
        first[:, k] = digits_of(math.floor(deviations), 4)
        second[:, k] = digits_of(math.floor(products / Fraction(4) ** power), 5)
    return halves(list(first), -DIGIT), halves(list(second), 0)


def _mean_and_var(first: Pair, second: Pair, n: Floats, power: Integers, *, about_zero: bool) -> tuple[Pair, Pair]:
    """Return the mean less the center, and the variance, of sums over ``2**power`` and ``4**power``.

    About 0, the mean is taken as 0.
    """
    mean = np.zeros(n.shape), np.zeros(n.shape)
    high, low = second
    if not about_zero:
        mean = quotient(*first, n)
        product, lost = two_product(first[0], mean[0])
        lost += first[0] * mean[1] + first[1] * mean[0]
        high, more = two_sum(high, -product)
        high, low = two_sum(high, more + (low - lost))
    var = quotient(high, low, n)
    return (
        (np.ldexp(mean[0], power), np.ldexp(mean[1], power)),
        (np.ldexp(var[0], 2 * power), np.ldexp(var[1], 2 * power)),
    )


def _inverse(high: Floats, low: Floats, *, root: bool) -> Pair:
    """Return one over the root of ``high + low``, or one over it; of 0 it is 1."""
    high = np.where(high == 0, 1.0, high)
    found = 1.0 / (np.sqrt(high) if root else high)
    square, lost = two_product(found, found) if root else (found, np.zeros(found.shape))
    product, more = two_product(high, square)
    left = (((1.0 - product) - more) - high * lost) - low * square  # 1 less the total times the square
    return found, found * (left * (0.5 if root else 1.0))
