"""Sums of fractions over square roots, and sums of products, in exact arithmetic: what float64 leaves open.

Notes
-----
A sum of ``a / sqrt(w)`` is enclosed with more and more bits until both ends are rounded to one number. That ends unless
the sum is 0 or a tie, and whether it is can be decided: roots of numbers no two of which have a square as their product
are linearly independent over the rational numbers (Besicovitch 1940). So the terms whose roots are commensurable are
added up, and a sum is 0 only if all of these sums are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.exact import GRAIN, nearest, over_grain
from gncli.kernels.floats import Float
from gncli.kernels.loops import loops
from gncli.kernels.plain import PIECE, Floats, Reals
from gncli.kernels.twofold import two_product

PRIMES = tuple(2**31 - k for k in (1, 19, 61, 69, 85, 99, 105, 151, 159, 171, 225, 249, 295, 325, 379, 399))
EXACTLY = 1024  # bits after which a sum that is still open is tested for a zero or a tie
FINEST = 1100  # and bits below 1: what is as near to 0 rounds to 0 in every dtype
FAR = 2.0**250  # what is beyond it, or below one over it, is multiplied in Python
FACTORS = 3  # of a product, at most
LEVELS = 8  # of sums, at first


class Term(NamedTuple):
    """``over / sqrt(under)``; `under` is above 0."""

    over: Fraction
    under: Fraction


def rounded_sum(terms: Sequence[Term], made: Float, side: int = 0) -> Any:
    """Return a sum of terms, rounded once to `made`, ties to even; an exact zero is +0.

    What is as near to the sum as can be, on the `side` -1 or 1 of it, is rounded in place of it.

    Examples
    --------
    >>> from gncli.kernels.floats import FLOATS
    >>> rounded_sum([Term(Fraction(1), Fraction(2)), Term(Fraction(-2), Fraction(8))], FLOATS["float32"])
    np.float32(0.0)
    """
    terms = [term for term in terms if term.over]
    if not terms:
        return nearest(Fraction(0), made, side)
    largest = max(_exponent(over) - _exponent(under) // 2 for over, under in terms)
    bits = 128
    while True:
        low, high = _enclosed(terms, bits - largest)
        one, other = (nearest(end, made, side) for end in (low, high))
        if one.tobytes() == other.tobytes():
            return one
        if bits >= EXACTLY and bits - largest > FINEST:  # then they are neighbours
            boundary = _between(one, other, made)
            if is_zero([*terms, Term(-boundary, Fraction(1))]):
                return nearest(boundary, made, side)
        bits *= 2


def agreed_sum(terms: Sequence[Term], slacks: Sequence[Term], made: Float) -> Any | None:
    """Return what every number is rounded to that differs from a sum by less than another; None if they are several.

    Parameters
    ----------
    terms, slacks : sequence of Term
        The sum, and the difference, of which no term is negative.
    made : Float
        The dtype of the result.
    """
    sizes = [_exponent(over) - _exponent(under) // 2 for over, under in (*terms, *slacks) if over]
    bits = EXACTLY - max(sizes, default=0)
    (low, high), (_, slack) = _enclosed(terms, bits), _enclosed(slacks, bits)
    one, other = (nearest(end, made) for end in (low - slack, high + slack))
    return one if one.tobytes() == other.tobytes() else None


def faint_sum(terms: Sequence[Term], slacks: Sequence[Term], t: Fraction, made: Float) -> Any | None:
    """Return what a sum times ``e**-t`` is rounded to, if that is a zero of a known sign; else None.

    Parameters
    ----------
    terms, slacks : sequence of Term
        The sum, and a bound of its error, of which no term is negative.
    t : Fraction
        At least 0.
    made : Float
        The dtype of the result.
    """
    bits = 128 - max((_exponent(over) - _exponent(under) // 2 for over, under in terms if over), default=0)
    (low, high), (_, slack) = _enclosed(terms, bits), _enclosed(slacks, bits)
    if low - slack <= 0 <= high + slack:
        return None
    size = max(high + slack, slack - low)
    if _exponent(size) + 1 - math.floor(t * Fraction(10, 7)) > math.frexp(made.least)[1] - made.mantissa - 3:
        return None
    return nearest(Fraction(0), made, 1 if low > 0 else -1)


def _between(one: Any, other: Any, made: Float) -> Fraction:
    """Return where the rounding changes from a number to the next one; 0 between -0 and 0."""
    if np.isfinite(one) and np.isfinite(other):
        return (Fraction(float(one)) + Fraction(float(other))) / 2
    largest = float(one if np.isfinite(one) else other)
    half = Fraction(2) ** (math.frexp(largest)[1] - made.mantissa - 2)  # of a unit of its last place
    return Fraction(largest) + (half if largest > 0 else -half)


def _exponent(number: Fraction) -> int:
    return number.numerator.bit_length() - number.denominator.bit_length()


def _enclosed(terms: Sequence[Term], bits: int) -> tuple[Fraction, Fraction]:
    """Return two numbers that a sum lies between, from each term rounded down to a multiple of ``2**-bits``."""
    total, spare = 0, 0
    for over, under in terms:
        square = over * over / under
        up, down = square.numerator, square.denominator
        up, down = (up << 2 * bits, down) if bits >= 0 else (up, down << -2 * bits)
        root = math.isqrt(up // down)
        exact = up % down == 0 and root * root == up // down
        total += root if over > 0 else -root
        if not exact and over > 0:
            spare += 1
        elif not exact:
            total, spare = total - 1, spare + 1
    unit = Fraction(2) ** -bits
    return total * unit, (total + spare) * unit


def is_zero(terms: Iterable[Term]) -> bool:
    """Return whether a sum is exactly 0."""
    alike: defaultdict[Fraction, Fraction] = defaultdict(Fraction)
    for over, under in terms:
        alike[under] += over
    classes: defaultdict[tuple[int, ...], list[Term]] = defaultdict(list)
    for under, over in alike.items():
        if not over:
            continue
        whole = under.numerator * under.denominator  # as square as the fraction
        some = classes[tuple(pow(whole, (prime - 1) // 2, prime) for prime in PRIMES)]
        for place, (sum_, first) in enumerate(some):
            ratio = first / under
            roots = math.isqrt(ratio.numerator), math.isqrt(ratio.denominator)
            if roots[0] ** 2 == ratio.numerator and roots[1] ** 2 == ratio.denominator:
                some[place] = Term(sum_ + over * Fraction(*roots), first)
                break
        else:
            some.append(Term(over, under))
    return all(not term.over for some in classes.values() for term in some)


# --- sums ------------------------------------------------------------------------------------------------------------


def levels(
    a: Reals, b: Reals | None, shape: tuple[int, ...], largest: float
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the exact sums of products level by level, each as integers over a power of two.

    Parameters
    ----------
    a, b : ndarray of float32 or float64, 1-D
        The factors; without `b` it is `a` that is summed.
    shape : tuple of int
        The shape that the products are seen in; `plain.levels` says which axes are summed over.
    largest : float
        At least the largest of their sizes, and below 2**960.

    Yields
    ------
    power : int
        The integers are over ``2**power``.
    sums : ndarray of int64, shape (2, ...)
        The sums of the products, and those of their sizes.
    """
    top = -(-math.frexp(largest)[1] // 4) * 4  # few different powers, so that sums can be added up in integers
    # Sums of so many multiples of a power are below 2**62 of it.
    bits = min(51, 62 - math.prod(shape[::2]).bit_length())
    count, left = LEVELS, True
    powers = np.array([top])
    while left:
        assert powers[-1] > -GRAIN, "what is finite has no digits below"
        powers = np.maximum(top - bits * np.arange(1, count + 1), -GRAIN)
        found, left = loops().levels(a, b, shape, np.ldexp(1.5, 52 + powers))
        count *= LEVELS
    for power, sums in zip(powers.tolist(), found, strict=True):
        if sums.any():
            yield power, sums


def exact_sums(values: Floats) -> list[int]:
    """Return the exact sum of each row of values below 2**900, over ``2**GRAIN``."""
    rows, length = values.shape
    totals = [0] * rows
    if largest := loops().largest(values.reshape(-1), None):
        for power, sums in levels(values.reshape(-1), None, (1, rows, length), largest):
            totals = [total + (sum_ << GRAIN + power) for total, sum_ in zip(totals, sums[0].tolist(), strict=True)]
    return totals


def product_sums(factors: Sequence[Sequence[Reals]]) -> NDArray[Any]:
    """Return the exact sums along axis 1 of products, as Python integers over ``2**(FACTORS * GRAIN)``.

    Parameters
    ----------
    factors : sequence of sequences of ndarray of float32 or float64, shape (A, R)
        At most `FACTORS` factors, each as arrays whose sum it is. What is not finite counts as 0.
    """
    rows, length = factors[0][0].shape
    total = np.zeros(rows, np.int64).astype(object)
    narrow = len(factors) < 3 and all(part.dtype == np.float32 for parts in factors for part in parts)
    step = length if narrow else max(PIECE // max(rows, 1), 1024)  # what is made of a piece stays in the cache
    for start in range(0, length, step):
        _add_products([[part[:, start : start + step] for part in parts] for parts in factors], total)
    return total


def _add_products(factors: Sequence[Sequence[Reals]], total: NDArray[Any]) -> None:
    """Add to `total` what `product_sums` returns."""
    short = [[_is_short(part) for part in parts] for parts in factors]
    near = np.ones(total.size, np.bool_)
    if not all(map(all, short)):
        factors = [[np.where(np.isfinite(part), part, 0.0) for part in parts] for parts in factors]
        for size in (np.abs(part) for parts in factors for part in parts):
            near &= ((size == 0) | (size > 1 / FAR) & (size < FAR)).all(axis=1)
    for row in np.flatnonzero(~near):
        total[row] += _slow_sum([[part[row].tolist() for part in parts] for parts in factors])
    if not near.any():
        return
    # A factor after the other: products of two, and whether both are short, so that their product is exact.
    products: list[tuple[Reals, Reals | None, bool]]
    first, *others = [
        [(part if near.all() else part[near], is_short) for part, is_short in zip(parts, shorts, strict=True)]
        for parts, shorts in zip(factors, short, strict=True)
    ]
    products = [(part, None, is_short) for part, is_short in first]
    for parts in others:
        products = [product for one in products for other in parts for product in _products(*one, *other)]
    for a, b, _ in products:
        whole, by = a.reshape(-1), None if b is None else b.reshape(-1)
        if largest := loops().largest(whole, by):
            for power, sums in levels(whole, by, (1, *a.shape), largest):
                total[near] += sums[0].astype(object) << FACTORS * GRAIN + power


def _products(a: Reals, b: Reals | None, short: bool, by: Reals, also: bool) -> list[tuple[Reals, Reals | None, bool]]:
    """Return a product times a factor, as products; a product that no float64 holds is the sum of two."""
    if b is None and short and also:
        return [(a, by, False)]
    if b is not None:
        a = np.multiply(a, b, dtype=np.float64)
    pair = two_product(a.astype(np.float64, copy=False), by.astype(np.float64, copy=False))
    return [(part, None, False) for part in pair if part.any()]


def _is_short(part: Reals) -> bool:
    """Return whether a float32 holds each value, which is finite: then no product of two of them is rounded."""
    if part.dtype == np.float32:
        return bool(np.isfinite(part).all())
    with np.errstate(all="ignore"):
        return bool((part.astype(np.float32) - part == 0).all())


def _slow_sum(factors: Sequence[Sequence[Sequence[float]]]) -> int:
    """Return the sum of the products in one row."""
    total = 0
    for place in range(len(factors[0][0])):
        over, shift = 1, FACTORS * GRAIN
        for parts in factors:
            over *= sum(over_grain(part[place]) for part in parts)
            shift -= GRAIN
        total += over << shift
    return total


def exactly(total: Any) -> Fraction:
    """Return a sum that `product_sums` found."""
    return Fraction(int(total), 1 << FACTORS * GRAIN)
