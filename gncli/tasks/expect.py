"""Expectations: ``STAT OP NUMBER``, parsed by hand and compared, never evaluated."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gncli.names import Value, statistic

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?inf", re.IGNORECASE | re.ASCII)
_WORD = re.compile(r"[a-z][a-z0-9_.]*", re.ASCII)
_SPACE = re.compile(r"[ \t]*")


class ExpectationError(ValueError):
    """An expectation that does not parse, with the place where it goes wrong.

    Parameters
    ----------
    problem : str
        What is wrong.
    text : str
        The expectation.
    place : int
        Which character.
    """

    def __init__(self, problem: str, text: str, place: int) -> None:
        self.place = place
        super().__init__(f"{problem}, at character {place + 1}: {text[:place]} >>> {text[place:] or 'the end'}")


class Expectation(NamedTuple):
    """What a statistic should be.

    Attributes
    ----------
    name : str
        The statistic.
    absolute : bool
        Whether its absolute value counts.
    symbol : str
        How it is compared.
    number : int or float
        With what.
    """

    name: str
    absolute: bool
    symbol: str
    number: int | float

    @property
    def left(self) -> str:
        """The left side, as it was written."""
        return f"abs({self.name})" if self.absolute else self.name

    def holds(self, value: Value) -> bool:
        """Return whether `value` is as expected; what is undefined is not."""
        if not isinstance(value, int | float):
            return False
        return _OPERATORS[self.symbol](abs(value) if self.absolute else value, self.number)

    def broken(self, value: Value) -> str:
        """Return in words that `value` is not as expected."""
        shown = "undefined" if not isinstance(value, int | float) else str(abs(value) if self.absolute else value)
        return f"{self.left} is {shown}, expected {self.symbol} {self.number}"


def parse(text: str) -> Expectation:
    """Return the expectation that `text` says.

    Raises
    ------
    ExpectationError
        If it is none.

    Examples
    --------
    >>> parse("abs(mean) < 1e-6").holds(-2e-7), parse("nan == 0").holds(None)
    (True, False)
    """
    place = _skip(text, 0)
    absolute = re.compile(r"abs[ \t]*\(").match(text, place)
    if absolute:
        place = _skip(text, absolute.end())
    word = _WORD.match(text, place)
    if word is None:
        raise ExpectationError("a statistic should stand here", text, place)
    try:
        numeric = statistic(word[0]).numeric
    except KeyError as error:
        raise ExpectationError(error.args[0], text, place) from None
    if not numeric:
        raise ExpectationError(f"{word[0]} is not a single number", text, place)
    place = _skip(text, word.end())
    if absolute:
        if text[place : place + 1] != ")":
            raise ExpectationError("the ) of abs( should stand here", text, place)
        place = _skip(text, place + 1)
    symbol = next((symbol for symbol in _OPERATORS if text.startswith(symbol, place)), None)
    if symbol is None:
        raise ExpectationError("one of < <= == != >= > should stand here", text, place)
    place = _skip(text, place + len(symbol))
    number = _NUMBER.match(text, place)
    if number is None:
        raise ExpectationError("a number should stand here", text, place)
    end = _skip(text, number.end())
    if end < len(text):
        raise ExpectationError("nothing more should stand here", text, end)
    exact = int(number[0]) if re.fullmatch(r"[+-]?[0-9]+", number[0]) else float(number[0])
    if isinstance(exact, float) and math.isinf(exact) and "inf" not in number[0].lower():
        raise ExpectationError("the number is too large", text, place)
    return Expectation(word[0], bool(absolute), symbol, exact)


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None  # it matches nothing, too
    return found.end()
