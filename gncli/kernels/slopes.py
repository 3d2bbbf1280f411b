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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.activations import steepness, tail
from gncli.kernels.exact import GRAIN, distinct, fractions
from gncli.kernels.exact import Cell as Standardized
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.gradients import Cell, Elements, Rounded, Rounders, exact_value
from gncli.kernels.loops import loops
from gncli.kernels.plain import UP, Factors, Floats, Standard
from gncli.kernels.surds import Term, agreed_sum, exact_sums, faint_sum, is_zero, rounded_sum
from gncli.kernels.twofold import Pair, times

PIECE = 1 << 14  # elements that are computed at once
ROUNDED = 2.0**-98  # the relative error of products of pairs
LEAST = 2.0**-960  # what they lose to underflow is less
BITS = (256, 512, 1024, 2048, 4096)  # for a' in integers; they decide all but what is a tie if some a' is 0 or 1
LAST = BITS[-1]
NO_FACTORS = (Fraction(0), Fraction(0))


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


def slopes(cell: Cell, some: Elements, name: str) -> tuple[Pair, Floats] | None:
    """Return a'(u) of some elements, and bounds of the errors; None if they have no u as a sum of two float64."""
    standard = _of(cell).standard(some.x)
    return None if standard is None else _slopes(standard, some.x.astype(np.float64), some.factors, name)


def _of(cell: Cell) -> Standardized:
    return Standardized(cell.n, cell.first, cell.second, cell.norm.eps, cell.norm.denominator == "std")


def _slopes(standard: Standard, x: Floats, factors: Factors, name: str) -> tuple[Pair, Floats] | None:
    high, low, bound = loops().slopes(name, x, factors, standard)
    return ((high, low), bound) if np.isfinite(high).all() and np.isfinite(bound).all() else None


def near_sums(cell: Cell, some: Elements, name: str, *, weighted: bool) -> Sums | None:
    """Return the sums of some elements, of ``dy a'(u)``, times gamma if `weighted`; None if a float64 does not do."""
    standard = _of(cell).standard(some.x)
    x, dy, gamma = some.x.astype(np.float64), some.dy.astype(np.float64), some.factors.gamma
    largest = [float(np.abs(part).max()) for part in ((dy, gamma) if weighted else (dy,))]
    if standard is None or not all(map(math.isfinite, largest)):
        return None
    scales = [math.frexp(size)[1] for size in largest]  # no product overflows
    dy = np.ldexp(dy, -scales[0])
    totals, errors = np.zeros(2, np.int64).astype(object), np.zeros(2)
    for start in range(0, x.size, PIECE):  # what is made of a piece stays in the cache
        here = slice(start, start + PIECE)
        found = _slopes(standard, x[here], some.factors.at(here), name)
        if found is None:
            return None
        term, bound = times(found[0], (dy[here], 0.0)), found[1] * np.abs(dy[here])
        if weighted:
            part, rest = (np.ldexp(part[here], -scales[1]) for part in some.factors[:2])
            term, bound = times(term, (part, rest)), bound * (np.abs(part) * UP)
        by = np.ldexp(x[here], -standard.scale)
        product = times(term, (by, 0.0))
        totals += np.array(exact_sums(np.stack([*term, *product])), object).reshape(2, 2).sum(axis=1)
        for k, error in enumerate(
            (bound + ROUNDED * np.abs(term[0]), bound * np.abs(by) + ROUNDED * np.abs(product[0]))
        ):
            errors[k] += np.add.reduce(error) + error.size * LEAST
    units = Fraction(2) ** sum(scales), Fraction(2) ** (sum(scales) + standard.scale)
    of_g, of_products = (
        Near(Fraction(total, 1 << GRAIN) * unit, Fraction(error * UP) * unit)
        for total, error, unit in zip(totals.tolist(), errors.tolist(), units, strict=True)
    )
    return of_g, of_products


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

    def tail(self, name: str) -> tuple[Fraction, float, int] | None:
        """Return t, p and the sign of u: a' is ``p e**-t`` above 1, or below 0 where u is; None as of `tail`."""
        u = self.near(BITS[0])
        found = tail(name, abs(u))
        return None if found is None else (*found, 1 if u > 0 else -1)

    def near(self, bits: int) -> Fraction:
        """Return u, with an error of at most ``2**-bits``."""
        root = math.isqrt((self.square.numerator << 2 * bits) // self.square.denominator)
        return self.shift + self.sign * Fraction(root, 1 << bits)


_Parts = dict["Argument | None", list[Fraction]]


class Tails(NamedTuple):
    """What the a' of some arguments differ from 0 or 1 by, over ``e**-t``.

    Attributes
    ----------
    t : Fraction
        The least of them, at least 30.
    parts : dict
        The difference of each argument, and its sign, which is that of u.
    """

    t: Fraction
    parts: dict[Argument, tuple[Near, int]]

    @classmethod
    def of(cls, arguments: Iterable[Argument | None], name: str) -> Tails | None:
        """Return those of an activation; None if there are none, or one is not so near."""
        found = {argument: argument.tail(name) for argument in arguments if argument is not None}
        known = {argument: each for argument, each in found.items() if each is not None}
        if not known or len(known) < len(found):
            return None
        least = min(t for t, _, _ in known.values())

        def over(t: Fraction, p: float, sign: int) -> tuple[Near, int]:
            further = float(t - least)
            size = p * math.exp(-min(further, 600.0))
            value, error = (size, size * 2.0**-28) if further < 600.0 else (0.0, size)
            return Near(Fraction(sign * value), Fraction(error)), sign

        return cls(least, {argument: over(*each) for argument, each in known.items()})

    def rest(self, kinds: _Parts, which: int) -> Fraction:
        """Return what is left of a sum over elements, by kinds, where each a' is 0 or 1."""
        none = kinds.get(None, NO_FACTORS)[which]
        return none + sum((factors[which] for a, factors in kinds.items() if a and self.parts[a][1] > 0), Fraction(0))

    def sum(self, kinds: _Parts, which: int) -> Near:
        """Return what else there is of it, over ``e**-t``."""
        found = NOTHING
        for argument, factors in kinds.items():
            if argument is not None:
                found = found.plus(self.parts[argument][0].times(factors[which]))
        return found


def alive(some: Elements) -> NDArray[np.bool_]:
    """Return where a' is 1, of elements whose x is infinite; it is 0 at the others."""
    return np.asarray(some.x.astype(np.float64) * some.factors.gamma > 0)


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
        if (far := np.isinf(some.x.astype(np.float64))).any():  # then moments are given, and no dx is asked for
            self.parts[None][0] += sum(map(exact_value, some.dy[far & alive(some)]), Fraction(0))
            some = some.at(~far)
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
        return {} if self._cell.norm.given else self._kinds().parts  # then no sums are needed

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
        if (zero := self._faded(element, own)) is not None:
            return zero, True
        terms: dict[Argument | None, list[Term]] = {}
        for argument in {None, *own, *self._kinds_of_all}:
            a, b, c, w = self._cell.rates(*self._kinds_of_all.get(argument, NO_FACTORS))
            terms[argument] = [Term(a * own.get(argument, NO_FACTORS)[0] + b * exact_value(element.x) + c, w)]
        result = settled(terms, self._name, self._slope, self._made)
        return result, bool(result == 0) and any(term.over for (term,) in terms.values())

    @functools.cached_property
    def _tails_of_all(self) -> tuple[Tails, Sums] | None:
        """The tails of a cell of which nothing else is left, and their sums."""
        tails = Tails.of(self._kinds_of_all, self._name)
        if tails is None or any(tails.rest(self._kinds_of_all, k) for k in (0, 1)):
            return None
        return tails, (tails.sum(self._kinds_of_all, 0), tails.sum(self._kinds_of_all, 1))

    def _faded(self, element: Elements, own: _Parts) -> Any | None:
        """Return the gradient of an element if it is rounded to a zero since every a' is nearly 0 or 1."""
        if self._cell.norm.given:
            tails, sums = Tails.of(own, self._name), NO_SUMS
        else:
            tails, sums = self._tails_of_all or (None, NO_SUMS)
        if tails is None or tails.rest(own, 0):
            return None
        term, slack = _gradient(self._cell, element.x, tails.sum(own, 0), sums)
        return faint_sum([term], [slack], tails.t, self._made)

    def _agreed(self, element: Elements, g: Near, sums: Sums) -> Rounded | None:
        """Return the gradient of an element if g and the sums of all say what it is rounded to."""
        term, slack = _gradient(self._cell, element.x, g, sums)
        result = agreed_sum([term], [slack], self._made)
        return None if result is None else (result, bool(result == 0) and bool(term.over or slack.over))


def _slope(cell: Cell, element: Elements, name: str) -> Near | None:
    """Return a' of an element, from two float64; None if it has no u as such."""
    if not np.isfinite(element.x):  # where the moments are given
        return ONE if alive(element) else NOTHING
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
    kinds: Mapping[Argument | None, Sequence[Term]], name: str, slope: Callable[[Argument, int], Near], made: Float
) -> Any:
    """Return a sum, rounded once, of terms that each have a' of some argument as a factor, or none.

    Parameters
    ----------
    kinds : mapping of Argument or None to sequence of Term
        The terms by what they are multiplied by.
    name : str
        The activation.
    slope : callable
        Takes an argument and a number of bits; returns a' as `Argument.slope` does.
    made : Float
        The dtype of the result.
    """
    exact = kinds.get(None, ())
    open_ = {argument: terms for argument, terms in kinds.items() if argument is not None and not is_zero(terms)}
    if not open_:
        return rounded_sum(exact, made)
    tails = Tails.of(open_, name)
    if tails is not None and is_zero([*exact, *(term for a in open_ if tails.parts[a][1] > 0 for term in open_[a])]):
        near = [(term, tails.parts[a][0]) for a, terms in open_.items() for term in terms]
        found = [Term(over * a.value, under) for (over, under), a in near]
        slacks = [Term(abs(over) * a.error, under) for (over, under), a in near]
        if (zero := faint_sum(found, slacks, tails.t, made)) is not None:
            return zero
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
