"""Expectations: ``STAT OP NUMBER``, parsed with one regular expression; no code is evaluated."""

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
# Each part is optional, so the expression matches any text and shows where the first part is missing.
_GRAMMAR = re.compile(
    r"""[ \t]*(?P<abs>abs[ \t]*\([ \t]*)?
    (?P<at_name>)(?P<name>[a-z][a-z0-9_.]*)?[ \t]*
    (?P<at_close>)(?(abs)(?P<close>\)[ \t]*)?)
    (?P<at_symbol>)(?P<symbol><=|>=|==|!=|<|>)?[ \t]*
    (?P<at_number>)(?P<number>[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf)))?[ \t]*
    (?P<at_end>)(?P<more>.*)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)


class ExpectationError(ValueError):
    """An expectation that does not parse, with the position of the error.

    Parameters
    ----------
    problem : str
        What is wrong.
    text : str
        The expectation.
    place : int
        The index of the character where the error is.
    """

    def __init__(self, problem: str, text: str, place: int) -> None:
        self.place = place
        super().__init__(f"{problem}, at character {place + 1}: {text[:place]} >>> {text[place:] or 'the end'}")


class Expectation(NamedTuple):
    """The expected value of a statistic.

    Attributes
    ----------
    name : str
        The statistic.
    absolute : bool
        Whether its absolute value is compared.
    symbol : str
        The comparison, such as ``<=``.
    number : int or float
        The right side of the comparison.
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
        """Return whether `value` is as expected; an undefined value is not."""
        if not isinstance(value, int | float):
            return False
        return _OPERATORS[self.symbol](abs(value) if self.absolute else value, self.number)

    def broken(self, value: Value) -> str:
        """Return the sentence that `value` is not as expected."""
        shown = "undefined" if not isinstance(value, int | float) else str(abs(value) if self.absolute else value)
        return f"{self.left} is {shown}, expected {self.symbol} {self.number}"


def parse(text: str) -> Expectation:
    """Return the expectation written in `text`.

    Raises
    ------
    ExpectationError
        If `text` is not an expectation.

    Examples
    --------
    >>> parse("abs(mean) < 1e-6").holds(-2e-7), parse("nan == 0").holds(None)
    (True, False)
    """
    match = _GRAMMAR.fullmatch(text)
    assert match is not None  # it matches any text

    def wrong(problem: str, part: str) -> ExpectationError:
        return ExpectationError(problem, text, match.start(f"at_{part}"))

    name, symbol, number = match["name"], match["symbol"], match["number"]
    if name is None:
        raise wrong("expected a statistic", "name")
    try:
        numeric = statistic(name).numeric
    except KeyError as error:
        raise wrong(error.args[0], "name") from None
    if not numeric:
        raise wrong(f"{name} is not a single number", "name")
    if match["abs"] and not match["close"]:
        raise wrong("expected the ) of abs(", "close")
    if symbol is None:
        raise wrong("expected one of < <= == != >= >", "symbol")
    if number is None:
        raise wrong("expected a number", "number")
    if match["more"]:
        raise wrong("expected nothing more", "end")
    exact = int(number) if re.fullmatch(r"[+-]?[0-9]+", number) else float(number)
    if isinstance(exact, float) and math.isinf(exact) and "inf" not in number.lower():
        raise wrong("the number is too large", "number")
    return Expectation(name, bool(match["abs"]), symbol, exact)
