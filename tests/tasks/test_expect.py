"""Expectations: parsed, never evaluated; what is undefined is never as expected."""

from __future__ import annotations

import math

import pytest

from gncli.tasks.expect import Expectation, ExpectationError, parse

PARSED = [
    ("nan == 0", Expectation("nan", False, "==", 0)),
    ("abs(mean)<1e-6", Expectation("mean", True, "<", 1e-6)),
    ("  abs ( p99.9 )  >=  -.5 ", Expectation("p99.9", True, ">=", -0.5)),
    ("size != 9007199254740993", Expectation("size", False, "!=", 9007199254740993)),
    ("max <= +inf", Expectation("max", False, "<=", math.inf)),
    ("kurtosis > 3.", Expectation("kurtosis", False, ">", 3.0)),
]
BROKEN = [
    ("", "expected a statistic", 0),
    ("mena == 0", "'mena' is not a statistic; did you mean mean?", 0),
    ("p101 == 0", "'p101' is not a percentile; write p0 to p100, such as p99.9", 0),
    ("shape == 3", "shape is not a single number", 0),
    ("argmin == 3", "argmin is not a single number", 0),
    ("mean 3", "expected one of < <= == != >= >", 5),
    ("mean = 3", "expected one of < <= == != >= >", 5),
    ("mean <", "expected a number", 6),
    ("mean < x", "expected a number", 7),
    ("mean < nan", "expected a number", 7),
    ("mean < 1e999", "the number is too large", 7),
    ("mean < 3 and std > 2", "expected nothing more", 9),
    ("abs(mean < 3", "expected the ) of abs(", 9),
    ("abs(mean)) < 3", "expected one of < <= == != >= >", 9),
    ("__import__('os') < 1", "expected a statistic", 0),
]
HELD = [
    ("mean < 2", 1.0, True),
    ("mean < 2", 2.0, False),
    ("mean <= 2", 2.0, True),
    ("mean == 2", 2, True),
    ("mean != 2", 2, False),
    ("mean >= 2", 2.0, True),
    ("mean > 2", 2.0, False),
    ("abs(mean) < 2", -1.0, True),
    ("abs(mean) < 2", -3.0, False),
    ("sum == 9007199254740993", 9007199254740992, False),
    ("mean != 2", None, False),
    ("mean < 2", None, False),
]


@pytest.mark.parametrize(("text", "expectation"), PARSED)
def test_an_expectation_is_parsed(text: str, expectation: Expectation) -> None:
    assert parse(text) == expectation


@pytest.mark.parametrize(("text", "problem", "place"), BROKEN)
def test_what_is_none_shows_the_place(text: str, problem: str, place: int) -> None:
    with pytest.raises(ExpectationError) as caught:
        parse(text)
    assert caught.value.place == place
    assert str(caught.value) == f"{problem}, at character {place + 1}: {text[:place]} >>> {text[place:] or 'the end'}"


@pytest.mark.parametrize(("text", "value", "holds"), HELD)
def test_a_value_is_as_expected_or_not(text: str, value: float | None, holds: bool) -> None:
    assert parse(text).holds(value) is holds


def test_what_does_not_hold_is_said() -> None:
    assert parse("abs(mean) < 2").broken(-3.0) == "abs(mean) is 3.0, expected < 2"
    assert parse("mean < 2").broken(None) == "mean is undefined, expected < 2"
