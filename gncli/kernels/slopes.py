"""The derivative of a smooth activation to more digits than float64 has, and gradients that are rounded with it.

Notes
-----
An activation makes the sums of a cell irrational: A of ``dy gamma a'(u)`` and P of ``dy gamma a'(u) x``. They are first
computed in sums of two float64, with a bound. What that leaves open is decided in rational arithmetic. Elements with
one u, or with u and -u, share one a', since ``a'(-u) = 1 - a'(u)``. So a gradient is a sum of some values of a', each
with a rational factor. If all factors are 0, what is left is a fraction over a root, as without an activation.
Otherwise it is enclosed with more and more bits, until both ends are rounded to one number. docs/numbers.md derives the
bounds.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.activations import LN2_HIGH, LOG2_E, NEAR, gate, steepness
from gncli.kernels.exact import Cell as Standardized
from gncli.kernels.exact import distinct, fractions
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.gradients import Cell, Elements, Rounded, Rounders, exact_value, float_parts
from gncli.kernels.plain import UP, Factors, Floats
from gncli.kernels.proof import TINY
from gncli.kernels.surds import Term, agreed_sum, exactly, is_zero, product_sums, rounded_sum
from gncli.kernels.twofold import Pair, over, plus, times

LOST = 2.0**-80  # the relative error of a' as a sum of two float64: of g + |u| g'
FAR = 690.0  # e**-FAR is a normal number
TAIL = 4.0  # from there on the tail of gelu is a continued fraction, of so many terms:
TERMS = 100
PIECE = 1 << 13  # elements that are computed at once
LEAST = 2.0**-120  # of the largest of some numbers: what is below it is left out of a sum
BITS = (256, 512, 1024, 2048, 4096)  # for a' in integers; they decide all but what is a tie if some a' is 0 or 1
LAST = BITS[-1]
NO_FACTORS = (Fraction(0), Fraction(0))
NO_PAIR: Any = (0.0, 0.0)
LN2_REST = (float.fromhex("0x1.a39ef35793c76p-33"), float.fromhex("0x1.cc01f97b57a08p-87"))
RATE = (float.fromhex("0x1.9884533d43651p+0"), float.fromhex("-0x1.cbc0d30ebfd15p-54"))  # 2 sqrt(2 / pi)
CUBE = (float.fromhex("0x1.2444f2a4d8b4bp-4"), float.fromhex("-0x1.6c843a29d1c70p-61"))  # 0.044715 of it
DENSITY = (float.fromhex("0x1.9884533d43651p-2"), float.fromhex("-0x1.cbc0d30ebfd15p-56"))  # 1 / sqrt(2 pi)


class Near(NamedTuple):
    """A number, and a bound of its error."""

    value: Fraction
    error: Fraction = Fraction(0)

    def plus(self, other: Near) -> Near:
        """Return the sum."""
        return Near(self.value + other.value, self.error + other.error)

    def times(self, number: Fraction) -> Near:
        """Return a multiple."""
        return Near(self.value * number, self.error * abs(number))


NOTHING, ONE = Near(Fraction(0)), Near(Fraction(1))
Sums = tuple[Near, Near]
"""Two sums over some elements of a cell: of ``dy a'(u)``, perhaps times gamma, and of that times x."""
NO_SUMS: Sums = NOTHING, NOTHING


def added(a: Sums | None, b: Sums | None) -> Sums | None:
    """Return the sums over the elements of both; None if one of them is."""
    return None if a is None or b is None else (a[0].plus(b[0]), a[1].plus(b[1]))


# --- in sums of two float64 ------------------------------------------------------------------------------------------


def slope_pairs(name: str, u: Pair) -> Pair:
    """Return a' at `u`, with an error below `LOST` times ``g + |u| g'``, and below 2**-900 where that underflows."""
    if name == "gelu":
        value, slope = _gelu(u)
    else:
        t, rate = u, (np.ones(u[0].shape), np.zeros(u[0].shape))
        if name == "gelu-tanh":
            cubic = times(CUBE, times(u, u))
            t, rate = times(u, plus(RATE, cubic)), plus(RATE, times((3.0, 0.0), cubic))
        power = _decay(_absolute(t))
        large = over(1.0, plus((1.0, 0.0), power))
        small = times(power, large)
        value, slope = _where(u[0] > 0, large, small), times(rate, times(large, small))
    return plus(value, times(u, slope))


def _gelu(u: Pair) -> tuple[Pair, Pair]:
    """Return the distribution function of the normal distribution, and its density."""
    x = _absolute(u)
    near = x[0] < TAIL
    x = _where(x[0] < 37.0, x, (np.full(near.shape, 37.0), np.zeros(near.shape)))
    square = times(x, x)
    density = times(DENSITY, _decay((square[0] / 2, square[1] / 2)))
    tail = np.empty(near.shape), np.empty(near.shape)
    if near.any():
        # Phi(x) = 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 * 5) + ...)
        q, total = _at(square, near), NO_PAIR
        for coefficient in _series(float(q[0].max(initial=0.0))):
            total = plus(times(total, q), coefficient)
        part = times(_at(density, near), times(_at(x, near), total))
        tail[0][near], tail[1][near] = plus((0.5, 0.0), (-part[0], -part[1]))
    if not near.all():
        # Laplace's continued fraction: phi(x) / (x + 1 / (x + 2 / (x + ...)))
        far = _at(x, ~near)
        under = far
        for k in range(TERMS, 0, -1):
            under = plus(far, over(float(k), under))
        tail[0][~near], tail[1][~near] = times(_at(density, ~near), over(1.0, under))
    return _where(u[0] > 0, plus((1.0, 0.0), (-tail[0], -tail[1])), tail), density


@functools.cache
def _odd_factorials() -> tuple[Any, ...]:
    """Return 1 / (2 k + 1)!! of k = 0, 1, ... as pairs."""
    found, part = [], Fraction(1)
    for k in range(90):
        part /= 2 * k + 1
        found.append((float(part), float(part - Fraction(float(part)))))
    return tuple(found)


def _series(largest: float) -> Sequence[Any]:
    """Return the coefficients that matter for squares of up to `largest`, of `TAIL` or less, the last one first."""
    terms, term, total = 1, 1.0, 1.0
    while term > 2.0**-110 * total:
        term *= largest / (2 * terms + 1)
        total, terms = total + term, terms + 1
    return _odd_factorials()[terms::-1]


def _decay(t: Pair) -> Pair:
    """Return e**-t of a `t` that is not negative, within 2**-92 of itself up to `FAR`, where it is cut."""
    t = _where(t[0] < FAR, t, (np.full(t[0].shape, FAR), np.zeros(t[0].shape)))
    n = np.rint(t[0] * LOG2_E)
    r = plus((n * LN2_HIGH, np.zeros(n.shape)), (-t[0], -t[1]))  # the product is exact
    r = plus(r, times(LN2_REST, (n, np.zeros(n.shape))))
    r = r[0] * 2.0**-8, r[1] * 2.0**-8
    total = NO_PAIR
    for coefficient in _factorials():
        total = plus(times(total, r), coefficient)
    for _ in range(8):
        total = times(total, total)
    scale = np.ldexp(1.0, -n.astype(np.int32))
    return total[0] * scale, total[1] * scale


@functools.cache
def _factorials() -> tuple[Any, ...]:
    """Return 1 / k! of k = 11, 10, ..., 0 as pairs."""
    parts = [Fraction(1, math.factorial(k)) for k in range(11, -1, -1)]
    return tuple((float(part), float(part - Fraction(float(part)))) for part in parts)


def _absolute(u: Pair) -> Pair:
    sign = np.where(u[0] < 0, -1.0, 1.0)
    return u[0] * sign, u[1] * sign


def _where(which: NDArray[np.bool_], a: Pair, b: Pair) -> Pair:
    return np.where(which, a[0], b[0]), np.where(which, a[1], b[1])


def _at(u: Pair, which: NDArray[np.bool_]) -> Pair:
    return u[0][which], u[1][which]


def slopes(cell: Cell, some: Elements, name: str) -> tuple[Pair, Floats] | None:
    """Return a'(u) of some elements, and bounds of the errors; None if they have no u as a sum of two float64."""
    found = Standardized(cell.n, cell.first, cell.second, cell.norm.eps, cell.norm.denominator == "std").argument(
        some.x, some.factors
    )
    if found is None:
        return None
    high, low, error = found
    value, slope, rate, _ = gate(name, high)
    size = np.abs(high)
    steepest = np.where(error * rate <= NEAR, slope * (4.0 + size * rate) * (1 + 2.0**-5), 1.0)
    bound = ((value + size * slope) * LOST + steepest * error + TINY) * UP
    pair = slope_pairs(name, (high, low))
    if not (np.isfinite(pair[0]).all() and np.isfinite(bound).all()):
        return None
    return pair, bound


def near_sums(cell: Cell, some: Elements, name: str, *, weighted: bool) -> Sums | None:
    """Return the sums of some elements, of ``dy a'(u)``, times gamma if `weighted`; None if a float64 does not do."""
    total: Sums | None = NO_SUMS
    for start in range(0, some.x.size, PIECE):  # what is made of a piece stays in the cache
        total = added(total, _sums_of_piece(cell, some.at(slice(start, start + PIECE)), name, weighted=weighted))
    return total


def _sums_of_piece(cell: Cell, some: Elements, name: str, *, weighted: bool) -> Sums | None:
    found = slopes(cell, some, name)
    if found is None:
        return None
    dy = some.dy.astype(np.float64)
    h = times(found[0], (dy, np.zeros(dy.shape)))
    largest = float(np.abs(h[0]).max(initial=0.0))
    scale = math.frexp(largest)[1]
    parts = [np.ldexp(part, -scale) for part in h]
    parts = [np.where(np.abs(part) < LEAST, 0.0, part)[None] for part in parts]
    gamma = some.factors.gamma, some.factors.rest
    weights = [[part[None] for part in gamma if part.any()] or [np.zeros((1, dy.size))]] if weighted else []
    x = [part[None] for part in float_parts(some.x)]
    bound = np.abs(dy) * found[1] + 2 * LEAST * largest
    if weighted:
        bound *= np.abs(gamma[0]) * UP
    sums = []
    for factors, errors in (
        ([parts, *weights], bound),
        ([parts, *weights, x], bound * np.abs(some.x.astype(np.float64))),
    ):
        total = exactly(product_sums(factors)[0]) * Fraction(2) ** scale
        error = float(errors.sum()) * (1 + 2.0**-20)
        if not math.isfinite(error):
            return None
        sums.append(Near(total, Fraction(error)))
    return sums[0], sums[1]


# --- in rational arithmetic ------------------------------------------------------------------------------------------


class Argument(NamedTuple):
    """Some u, ``sign * sqrt(square) + shift``; `square` is no square of a fraction, unless it is 0."""

    sign: int
    square: Fraction
    shift: Fraction

    @classmethod
    def of(cls, cell: Cell, x: Any, factors: Factors) -> Argument:
        """Return that of an element of a cell."""
        factor, shift = fractions(factors)
        part = cell.term(factor, factor * exact_value(x))
        square = part.over**2 / part.under
        root = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
        sign = (part.over > 0) - (part.over < 0)
        if root * root == square:
            return cls(0, Fraction(0), shift + sign * root)
        return cls(sign, square, shift)

    @property
    def flipped(self) -> Argument:
        """The same less than 0."""
        return Argument(-self.sign, self.square, -self.shift)

    def slope(self, bits: int, name: str) -> Near:
        """Return a' there, of an activation, with an error of about ``2**-bits``."""
        value, error = steepness(name, self.near(bits), bits)
        return Near(value, error + Fraction(abs(self.sign), 1 << bits))  # |a''| is below 1

    def near(self, bits: int) -> Fraction:
        """Return u, with an error of at most ``2**-bits``."""
        root = math.isqrt((self.square.numerator << 2 * bits) // self.square.denominator)
        return self.shift + self.sign * Fraction(root, 1 << bits)


_Parts = dict["Argument | None", list[Fraction]]


class Kinds:
    """The sums of some elements, by what a' they have: of ``dy a'(u)`` and ``dy a'(u) x``, perhaps times gamma.

    Attributes
    ----------
    parts : dict
        By argument the factors of its a', and those that go without one by None.
    """

    def __init__(self) -> None:
        self.parts: _Parts = defaultdict(lambda: [Fraction(0), Fraction(0)])

    def add(self, cell: Cell, some: Elements, *, weighted: bool) -> None:
        """Add some elements of a cell."""
        kinds, at, back = distinct(some.x, some.factors)
        arguments = [Argument.of(cell, some.x[place], kinds.at(i)) for i, place in enumerate(at.tolist())]
        for place, kind in enumerate(back.tolist()):
            weight = exact_value(some.dy[place])
            if weight and weighted:
                weight *= fractions(some.factors.at(place))[0]
            if weight:
                for argument, factor in _split(arguments[kind]):
                    part = self.parts[argument]
                    part[0] += weight * factor
                    part[1] += weight * factor * exact_value(some.x[place])


def kinds_of(cell: Cell, some: Elements, *, weighted: bool) -> Kinds:
    """Return the sums of some elements of a cell."""
    found = Kinds()
    found.add(cell, some, weighted=weighted)
    return found


def _split(argument: Argument) -> list[tuple[Argument | None, Fraction]]:
    """Return a' of an argument as factors of a' of others: those that are larger than their opposite, or None."""
    opposite = argument.flipped
    if argument == opposite:
        return [(None, Fraction(1, 2))]
    if (argument.shift, argument.sign) > (opposite.shift, opposite.sign):
        return [(argument, Fraction(1))]
    return [(None, Fraction(1)), (opposite, Fraction(-1))]


def smooth_rounders(
    name: str,
    made: Float,
    near: Callable[[NDArray[np.int64], Sequence[Cell]], Sequence[Sums | None]],
    kinds: Callable[[int, Cell], Kinds],
) -> Rounders:
    """Return what rounds gradients through a smooth activation.

    Parameters
    ----------
    name : str
        The activation.
    made : Float
        The dtype of the result.
    near : callable
        Takes the numbers of cells, and these; returns the sums of all of their elements, weighted.
    kinds : callable
        Takes the number of a cell, and it; returns the sums in rational arithmetic.
    """

    def rounders(opened: NDArray[np.int64], cells: Sequence[Cell]) -> Iterator[Callable[[Elements], Rounded]]:
        for number, cell, sums in zip(opened.tolist(), cells, near(opened, cells), strict=True):
            yield _Rounder(cell, sums, partial(kinds, number, cell), name, made)

    return rounders


class _Rounder:
    """Rounds the gradient of an element of a cell, with as many digits as it takes."""

    def __init__(self, cell: Cell, sums: Sums | None, kinds: Callable[[], Kinds], name: str, made: Float) -> None:
        self._cell, self._sums, self._kinds, self._name, self._made = cell, sums, kinds, name, made
        self._slope = functools.cache(partial(Argument.slope, name=name))

    @functools.cached_property
    def _kinds_of_all(self) -> _Parts:
        return self._kinds().parts

    @functools.cached_property
    def _sums_of_all(self) -> Sums:
        return self._near(self._kinds_of_all)

    def _near(self, kinds: _Parts) -> Sums:
        """Return the sums that kinds of elements stand for."""
        found = NO_SUMS
        for argument, factors in kinds.items():
            a = ONE if argument is None else self._slope(argument, BITS[0])
            found = found[0].plus(a.times(factors[0])), found[1].plus(a.times(factors[1]))
        return found

    def __call__(self, element: Elements) -> Rounded:
        slope = _slope(self._cell, element, self._name)
        if self._sums is not None and slope is not None:
            g = slope.times(exact_value(element.dy) * fractions(element.factors)[0])
            if (found := self._agreed(element, g, self._sums)) is not None:
                return found
        own = kinds_of(self._cell, element.at(None), weighted=True).parts
        if (found := self._agreed(element, self._near(own)[0], self._sums_of_all)) is not None:
            return found
        terms: dict[Argument | None, list[Term]] = {}
        for argument in {None, *own, *self._kinds_of_all}:
            a, b, c, w = self._cell.rates(*self._kinds_of_all.get(argument, NO_FACTORS))
            terms[argument] = [Term(a * own.get(argument, NO_FACTORS)[0] + b * exact_value(element.x) + c, w)]
        result = settled(terms, self._slope, self._made)
        return result, bool(result == 0) and any(term.over for (term,) in terms.values())

    def _agreed(self, element: Elements, g: Near, sums: Sums) -> Rounded | None:
        """Return the gradient of an element if g and the sums of all say what it is rounded to."""
        term, slack = _gradient(self._cell, element.x, g, sums)
        result = agreed_sum([term], [slack], self._made)
        return None if result is None else (result, bool(result == 0) and bool(term.over or slack.over))


def _slope(cell: Cell, element: Elements, name: str) -> Near | None:
    """Return a' of an element, from two float64; None if it has no u as such."""
    if not np.isfinite(element.x):  # where the moments are given: a' is 0 or 1 there
        return Near(Fraction(int(float(element.x) * float(element.factors.gamma) > 0)))
    found = slopes(cell, element.at(None), name)
    if found is None:
        return None
    (high, low), error = found
    return Near(Fraction(float(high[0])) + Fraction(float(low[0])), Fraction(float(error[0])))


def _gradient(cell: Cell, x: Any, g: Near, sums: Sums) -> tuple[Term, Term]:
    """Return dx and a bound of its error, which is linear in g and in the sums."""
    of_g, of_products = sums
    none = Fraction(0)

    def over(g: Fraction, of_g: Fraction, of_products: Fraction) -> Term:
        a, b, c, w = cell.rates(of_g, of_products)
        return Term(a * g + (b * exact_value(x) if b else 0) + c, w)

    found = over(g.value, of_g.value, of_products.value)
    errors = over(g.error, none, none), over(none, of_g.error, none), over(none, none, of_products.error)
    return found, Term(sum((abs(error.over) for error in errors), none), found.under)


def shares(cell: Cell, sums: Sums) -> tuple[tuple[Term, Term], tuple[Term, Term]]:
    """Return what elements of a cell add to dgamma and to dbeta, each with a bound of its error, from their sums."""
    of_dy, of_products = sums
    found = cell.term(of_dy.value, of_products.value)
    errors = cell.term(of_dy.error, Fraction(0)).over, cell.term(Fraction(0), of_products.error).over
    one = Fraction(1)
    return (found, Term(sum(map(abs, errors), Fraction(0)), found.under)), (
        Term(of_dy.value, one),
        Term(of_dy.error, one),
    )


def settled(
    kinds: Mapping[Argument | None, Sequence[Term]], slope: Callable[[Argument, int], Near], made: Float
) -> Any:
    """Return a sum, rounded once, of terms that each have a' of some argument as a factor, or none.

    Parameters
    ----------
    kinds : mapping of Argument or None to sequence of Term
        The terms by what they are multiplied by.
    slope : callable
        Takes an argument and a number of bits; returns a' as `Argument.slope` does.
    made : Float
        The dtype of the result.
    """
    exact = kinds.get(None, ())
    open_ = {argument: terms for argument, terms in kinds.items() if argument is not None and not is_zero(terms)}
    if not open_:
        return rounded_sum(exact, made)
    for bits in BITS:
        found = [*exact]
        slacks = []
        for argument, terms in open_.items():
            a = slope(argument, bits)
            found += [Term(over * a.value, under) for over, under in terms]
            slacks += [Term(abs(over) * a.error, under) for over, under in terms]
        if (result := agreed_sum(found, slacks, made)) is not None:
            return result
    # It is a tie, or 0, but for how much a' differs from 0 or 1: most of all where u is nearest to 0. Beyond, a' is
    # above 1, and below 0.
    first = min(open_, key=lambda argument: abs(argument.near(LAST)))
    side = np.sign(rounded_sum(open_[first], FLOATS["float64"])) * np.sign(float(first.near(LAST) > 0) - 0.5)
    return rounded_sum(found, made, int(side))
