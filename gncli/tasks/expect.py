"""Conditions on statistics, for ``--expect`` and ``--where``: one grammar, parsed here; no code is evaluated.

Notes
-----
The grammar, in which ``and`` binds more tightly than ``or``::

    condition  = all ("or" all)*
    all        = comparison ("and" comparison)*
    comparison = product OP product | "shape" SAME SHAPE | "dtype" SAME DTYPE
    product    = factor (("*" | "/") factor)*
    factor     = NUMBER | STAT | "abs(" product ")"

OP is one of ``< <= == != >= >``, SAME one of ``== !=``. A factor inside ``abs( )`` is no ``abs( )`` itself.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from gncli.names import DTYPES, Value, difference_names, nearest, shape_of, statistic

T = TypeVar("T")
Lookup = Callable[[str], Value]
"""Takes a name; returns its value, None where that is undefined."""

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_MIRRORED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<"}
_NAME = re.compile(r"[a-z][a-z0-9_.]*(?::[0-9][0-9.]*(?:e[+-]?[0-9]+\.)?[a-z]*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf)\b)", re.ASCII)
_SHAPE = re.compile(r"\([0-9, ]*\)|[0-9]+(?:(?:, ?|x)[0-9]+)*", re.ASCII)
_LONGEST = 4000  # digits of an integer that Python converts


class ExpectationError(ValueError):
    """A condition that does not parse, with the position of the error.

    Parameters
    ----------
    problem : str
        What is wrong.
    text : str
        The condition.
    place : int
        The index of the character where the error is.
    """

    def __init__(self, problem: str, text: str, place: int) -> None:
        self.place = place
        super().__init__(f"{problem}, at character {place + 1}: {text[:place]} >>> {text[place:] or 'the end'}")


class Product(NamedTuple):
    """Numbers and statistics, multiplied and divided from left to right.

    Attributes
    ----------
    factors : tuple of (str, factor)
        Each with ``*`` or ``/`` before it: a number, the name of a statistic, or a product.
    absolute : bool
        Whether the absolute value is meant.
    """

    factors: tuple[tuple[str, int | float | str | Product], ...]
    absolute: bool = False

    def __str__(self) -> str:
        text = "".join(sign + str(factor) for sign, factor in self.factors)[1:]
        return f"abs({text})" if self.absolute else text

    def names(self) -> Iterator[str]:
        """Yield the names of its statistics."""
        for _, factor in self.factors:
            if isinstance(factor, Product):
                yield from factor.names()
            elif isinstance(factor, str):
                yield factor

    def value(self, lookup: Lookup) -> int | float | None:
        """Return its value; None where a factor is undefined, a divisor is 0, or the result is no number.

        Products of integers are exact, and their quotient is rounded once.
        """
        found: int | float = 1
        for sign, factor in self.factors:
            number: Value = lookup(factor) if isinstance(factor, str) else None
            if not isinstance(factor, str):
                number = factor.value(lookup) if isinstance(factor, Product) else factor
            if not isinstance(number, int | float) or (sign == "/" and number == 0):
                return None
            try:
                found = found / number if sign == "/" else found * number
            except OverflowError:  # an integer beyond the largest float
                return None
        found = abs(found) if self.absolute else found
        return None if math.isnan(found) else found


class Comparison(NamedTuple):
    """A product, compared with another.

    Attributes
    ----------
    left : Product
        It has a statistic.
    symbol : str
        The comparison, such as ``<=``.
    right : Product
        A number, or a product that has statistics too.
    """

    left: Product
    symbol: str
    right: Product

    def names(self) -> Iterator[str]:
        """Yield the names of its statistics."""
        yield from self.left.names()
        yield from self.right.names()

    def holds(self, lookup: Lookup) -> bool:
        """Return whether it holds; of an undefined value, nothing does."""
        left, right = self.left.value(lookup), self.right.value(lookup)
        return left is not None and right is not None and _OPERATORS[self.symbol](left, right)

    def broken(self, lookup: Lookup) -> str:
        """Return the sentence that it does not hold."""

        def shown(product: Product) -> str:
            value = product.value(lookup)
            return "undefined" if value is None else str(value)

        more = f" ({shown(self.right)})" if any(self.right.names()) else ""
        return f"{self.left} is {shown(self.left)}, expected {self.symbol} {self.right}{more}"


class Same(NamedTuple):
    """What the shape or the dtype is compared with.

    Attributes
    ----------
    name : {"shape", "dtype"}
        Which of them.
    symbol : {"==", "!="}
        The comparison.
    expected : tuple of int, or str
        The shape, or the name of the dtype.
    """

    name: str
    symbol: str
    expected: tuple[int, ...] | str

    def names(self) -> Iterator[str]:
        """Yield the name."""
        yield self.name

    def holds(self, lookup: Lookup) -> bool:
        """Return whether it holds; of what has no shape and no dtype, nothing does."""
        value = lookup(self.name)
        return value is not None and (value == self.expected) == (self.symbol == "==")

    def broken(self, lookup: Lookup) -> str:
        """Return the sentence that it does not hold."""
        value = lookup(self.name)
        return f"{self.name} is {'undefined' if value is None else value}, expected {self.symbol} {self.expected}"


class Condition(NamedTuple):
    """What `parse` returns.

    Attributes
    ----------
    text : str
        The condition as it was written.
    either : tuple of tuple of (Comparison or Same)
        It holds if all comparisons of one of these hold.
    """

    text: str
    either: tuple[tuple[Comparison | Same, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all statistics in it, each once."""
        return tuple(dict.fromkeys(name for every in self.either for one in every for name in one.names()))

    def holds(self, lookup: Lookup) -> bool:
        """Return whether it holds for the values that `lookup` finds."""
        return any(all(one.holds(lookup) for one in every) for every in self.either)

    def broken(self, lookup: Lookup) -> str:
        """Return the sentence that it does not hold."""
        return "; or ".join(
            " and ".join(one.broken(lookup) for one in every if not one.holds(lookup)) for every in self.either
        )


class Vocabulary(NamedTuple):
    """The names that a condition may have.

    Attributes
    ----------
    noun : str
        What they are called.
    check : callable
        Takes a name; raises KeyError, with a sentence, unless it is that of a single number.
    """

    noun: str
    check: Callable[[str], None]

    def has(self, name: str) -> bool:
        """Return whether it has a name."""
        try:
            self.check(name)
        except KeyError:
            return False
        return True


def _check_statistic(name: str) -> None:
    if not statistic(name).numeric:
        raise KeyError(f"{name} is not a single number")


def _check_difference(name: str) -> None:
    difference_names([name])


OF_STATISTICS = Vocabulary("a statistic", _check_statistic)
"""The names of ``stats -s``."""
OF_DIFFERENCES = Vocabulary("a difference", _check_difference)
"""The names of ``diff -s``."""


def parse(text: str, vocabulary: Vocabulary = OF_STATISTICS) -> Condition:
    """Return the condition written in `text`.

    Raises
    ------
    ExpectationError
        If `text` is none.

    Examples
    --------
    >>> parse("abs(mean) < 1e-6").holds({"mean": -2e-7}.get), parse("nan == 0").holds({}.get)
    (True, False)
    >>> parse("zeros/size > 0.5 or max <= 6*std").holds({"zeros": 3, "size": 8, "max": 5, "std": 1.0}.get)
    True
    """
    return _Parser(text, vocabulary).condition()


class _Parser:
    """Reads a condition from left to right."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self._text, self._vocabulary, self._at = text, vocabulary, 0
        self._take(re.compile(""))

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        """Return what of the text matches next, and pass over it and the spaces behind it; None if nothing does."""
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = len(self._text) - len(self._text[match.end() :].lstrip(" \t"))
        return match[0]

    def _wrong(self, problem: str, place: int | None = None) -> ExpectationError:
        return ExpectationError(problem, self._text, self._at if place is None else place)

    def condition(self) -> Condition:
        either = self._joined("or", lambda: self._joined("and", self._comparison))
        if self._at < len(self._text):
            raise self._wrong("expected and, or, or the end")
        return Condition(self._text.strip(), either)

    def _joined(self, word: str, part: Callable[[], T]) -> tuple[T, ...]:
        parts = [part()]
        while self._take(re.compile(rf"{word}\b")):
            parts.append(part())
        return tuple(parts)

    def _comparison(self) -> Comparison | Same:
        if described := self._take(re.compile(r"(?:shape|dtype)\b")):
            return self._same(described)
        start = self._at
        left = self._product(f"expected {self._vocabulary.noun}")
        symbol = self._take(re.compile("<=|>=|==|!=|<|>"))
        if symbol is None:
            raise self._wrong("expected one of < <= == != >= >")
        right = self._product("expected a number")
        if any(left.names()):
            return Comparison(left, symbol, right)
        if any(right.names()):
            return Comparison(right, _MIRRORED.get(symbol, symbol), left)
        raise self._wrong(f"expected {self._vocabulary.noun}", start)

    def _same(self, name: str) -> Same:
        symbol = self._take(re.compile("==|!="))
        if symbol is None:
            raise self._wrong("expected == or !=")
        start = self._at
        if name == "dtype":
            found = self._take(_NAME)
            if found not in DTYPES:
                hint = nearest(found or "", DTYPES) or f"choose from {' '.join(DTYPES)}"
                raise self._wrong(f"expected a dtype; {hint}", start)
            return Same(name, symbol, found)
        try:
            return Same(name, symbol, shape_of(self._take(_SHAPE) or ""))
        except ValueError:
            raise self._wrong("expected a shape, such as 64,16,112,112", start) from None

    def _product(self, missing: str, *, absolute: bool = False) -> Product:
        factors: list[tuple[str, int | float | str | Product]] = []
        sign: str | None = "*"
        while sign is not None:
            factors.append((sign, self._factor(missing, inside=absolute)))
            sign, missing = self._take(re.compile("[*/]")), "expected a number"
        return Product(tuple(factors), absolute)

    def _factor(self, missing: str, *, inside: bool) -> int | float | str | Product:
        start = self._at
        if self._take(re.compile(r"abs[ \t]*\(")):
            if inside:
                raise self._wrong("an abs( ) cannot be inside another", start)
            product = self._product(f"expected {self._vocabulary.noun}", absolute=True)
            if self._take(re.compile(r"\)")) is None:
                raise self._wrong("expected the ) of abs(")
            return product
        name = _NAME.match(self._text, self._at)
        if name is None or (name[0] == "inf" and not self._vocabulary.has("inf")):
            if number := self._take(_NUMBER):
                return self._number(number, start)
            raise self._wrong(missing)
        try:
            self._vocabulary.check(name[0])
        except KeyError as error:
            raise self._wrong(error.args[0]) from None
        self._take(_NAME)
        return name[0]

    def _number(self, text: str, start: int) -> int | float:
        if re.fullmatch(r"[+-]?[0-9]+", text) and len(text) < _LONGEST:
            return int(text)
        number = float(text)
        if math.isinf(number) and "inf" not in text.lower():
            raise self._wrong("the number is too large", start)
        return number
