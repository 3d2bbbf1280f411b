"""Conditions: parsed, never evaluated as code; of what is undefined, nothing holds."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gncli.tasks.expect import OF_DIFFERENCES, Comparison, ExpectationError, Product, Same, parse


def product(*factors: Any, absolute: bool = False) -> Product:
    """Return the product of these, each of which but the first has a sign."""
    return Product(tuple(zip(("*", *factors[1::2]), factors[::2], strict=True)), absolute)


PARSED = [
    ("nan == 0", [[Comparison(product("nan"), "==", product(0))]]),
    ("abs(mean)<1e-6", [[Comparison(product(product("mean", absolute=True)), "<", product(1e-6))]]),
    (
        "  abs ( p99.9 )  >=  -.5 ",
        [[Comparison(product(product("p99.9", absolute=True)), ">=", product(-0.5))]],
    ),
    ("size != 9007199254740993", [[Comparison(product("size"), "!=", product(9007199254740993))]]),
    ("max <= +inf", [[Comparison(product("max"), "<=", product(math.inf))]]),
    ("max <= inf", [[Comparison(product("max"), "<=", product(math.inf))]]),
    ("kurtosis > 3.", [[Comparison(product("kurtosis"), ">", product(3.0))]]),
    ("zeros/size > 0.5", [[Comparison(product("zeros", "/", "size"), ">", product(0.5))]]),
    ("max <= 6 * std", [[Comparison(product("max"), "<=", product(6, "*", "std"))]]),
    (
        "abs(mean/std) < 2*max/3",
        [[Comparison(product(product("mean", "/", "std", absolute=True)), "<", product(2, "*", "max", "/", 3))]],
    ),
    ("mean < nan", [[Comparison(product("mean"), "<", product("nan"))]]),  # the number of NaN
    ("0 < std", [[Comparison(product("std"), ">", product(0))]]),
    ("3 >= std", [[Comparison(product("std"), "<=", product(3))]]),
    ("1 == std", [[Comparison(product("std"), "==", product(1))]]),
    ("shape == 8,16,8,8", [[Same("shape", "==", (8, 16, 8, 8))]]),
    ("shape != (8, 16)", [[Same("shape", "!=", (8, 16))]]),
    ("shape == 8x16 and dtype == float32", [[Same("shape", "==", (8, 16)), Same("dtype", "==", "float32")]]),
    ("shape == ()", [[Same("shape", "==", ())]]),
    (
        "nan > 0 or posinf > 0 and std < 1 or dtype != float8_e5m2",
        [
            [Comparison(product("nan"), ">", product(0))],
            [Comparison(product("posinf"), ">", product(0)), Comparison(product("std"), "<", product(1))],
            [Same("dtype", "!=", "float8_e5m2")],
        ],
    ),
]
CHOICES = "choose from bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bfloat16"
BROKEN = [
    ("", "expected a statistic", 0),
    ("mena == 0", "'mena' is not a statistic; did you mean mean?", 0),
    ("p101 == 0", "'p101' is not a percentile; write p0 to p100, such as p99.9", 0),
    ("shape == 3,y", "expected and, or, or the end", 10),
    ("shape == y", "expected a shape, such as 64,16,112,112", 9),
    ("shape == (1,,2)", "expected a shape, such as 64,16,112,112", 9),
    ("shape < 3", "expected == or !=", 6),
    ("dtype == flaot32", "expected a dtype; did you mean float32?", 9),
    ("dtype ==", f"expected a dtype; {CHOICES} float8_e4m3fn float8_e5m2", 8),
    ("argmin == 3", "argmin is not a single number", 0),
    ("mean < argmin", "argmin is not a single number", 7),
    ("mean 3", "expected one of < <= == != >= >", 5),
    ("mean = 3", "expected one of < <= == != >= >", 5),
    ("mean <", "expected a number", 6),
    ("mean < ?", "expected a number", 7),
    ("mean < 1e999", "the number is too large", 7),
    ("mean < 2 * 1e999", "the number is too large", 11),
    (f"mean < {'9' * 5000}", "the number is too large", 7),
    ("mean < 3 and", "expected a statistic", 12),
    ("mean < 3 && std > 2", "expected and, or, or the end", 9),
    ("mean < 3 andstd > 2", "expected and, or, or the end", 9),
    ("mean / < 3", "expected a number", 7),
    ("3 < 4", "expected a statistic", 0),
    ("nan > 0 or 3 < 4", "expected a statistic", 11),
    ("abs(mean < 3", "expected the ) of abs(", 9),
    ("abs(mean)) < 3", "expected one of < <= == != >= >", 9),
    ("abs(abs(mean)) < 3", "an abs( ) cannot be inside another", 4),
    ("(mean) < 3", "expected a statistic", 0),
    ("__import__('os') < 1", "expected a statistic", 0),
]
HELD: list[tuple[str, dict[str, Any], bool]] = [
    ("mean < 2", {"mean": 1.0}, True),
    ("mean < 2", {"mean": 2.0}, False),
    ("mean <= 2", {"mean": 2.0}, True),
    ("mean == 2", {"mean": 2}, True),
    ("mean != 2", {"mean": 2}, False),
    ("mean >= 2", {"mean": 2.0}, True),
    ("mean > 2", {"mean": 2.0}, False),
    ("abs(mean) < 2", {"mean": -1.0}, True),
    ("abs(mean) < 2", {"mean": -3.0}, False),
    ("sum == 9007199254740993", {"sum": 9007199254740992}, False),
    ("mean != 2", {"mean": None}, False),
    ("mean < 2", {"mean": None}, False),
    ("2 < mean", {"mean": None}, False),
    ("max < 6*mean", {"max": 1, "mean": None}, False),
    ("zeros/size == 0.1", {"zeros": 1, "size": 10}, True),
    ("zeros/size >= 0", {"zeros": 0, "size": 0}, False),
    ("max/std > 9", {"max": 1.0, "std": 0.0}, False),
    ("max*min > 0 or nan == 0", {"max": math.inf, "min": 0.0, "nan": 1}, False),
    ("var > 1", {"var": math.inf}, True),
    ("sum*2 == 18014398509481986", {"sum": 9007199254740993}, True),
    ("mean*sum > 0", {"mean": 1.0, "sum": 10**400}, False),
    ("abs(mean/std) < 3", {"mean": -4.0, "std": 2.0}, True),
    ("shape == 2,3", {"shape": (2, 3)}, True),
    ("shape != 2,3", {"shape": (2, 3)}, False),
    ("shape != 2,3", {"shape": None}, False),
    ("dtype == float16", {"dtype": "float16"}, True),
    ("dtype != float16", {"dtype": "float32"}, True),
    ("mean > 2 or mean < 1 and std > 0", {"mean": 0, "std": 0}, False),
    ("mean > 2 or mean < 1 and std > 0", {"mean": 0, "std": 1}, True),
    ("mean > 2 or mean < 1 and std > 0", {"mean": 3, "std": 0}, True),
]
SAID: list[tuple[str, dict[str, Any], str]] = [
    ("abs(mean) < 2", {"mean": -3.0}, "abs(mean) is 3.0, expected < 2"),
    ("mean < 2", {"mean": None}, "mean is undefined, expected < 2"),
    ("mean < 1e-6", {"mean": 1.0}, "mean is 1.0, expected < 1e-06"),
    ("max <= 6 * std", {"max": 7.0, "std": 1.0}, "max is 7.0, expected <= 6*std (6.0)"),
    ("0 < std", {"std": 0.0}, "std is 0.0, expected > 0"),
    ("zeros/size < .5", {"zeros": 1, "size": 2}, "zeros/size is 0.5, expected < 0.5"),
    ("shape == 4x4", {"shape": (2, 3)}, "shape is (2, 3), expected == (4, 4)"),
    ("dtype != float16", {"dtype": "float16"}, "dtype is float16, expected != float16"),
    ("dtype == float16", {"dtype": None}, "dtype is undefined, expected == float16"),
    (
        "mean < 1 and std < 1 and nan == 0 or max < 0",
        {"mean": 1, "std": 0, "nan": 2, "max": 5},
        "mean is 1, expected < 1 and nan is 2, expected == 0; or max is 5, expected < 0",
    ),
]


@pytest.mark.parametrize(("text", "either"), PARSED)
def test_a_condition_is_parsed(text: str, either: list[list[Comparison | Same]]) -> None:
    condition = parse(text)
    assert (condition.text, condition.either) == (text.strip(), tuple(map(tuple, either)))


@pytest.mark.parametrize(("text", "problem", "place"), BROKEN)
def test_what_is_none_shows_the_place(text: str, problem: str, place: int) -> None:
    with pytest.raises(ExpectationError) as caught:
        parse(text)
    assert caught.value.place == place
    assert str(caught.value) == f"{problem}, at character {place + 1}: {text[:place]} >>> {text[place:] or 'the end'}"


@pytest.mark.parametrize(("text", "values", "holds"), HELD)
def test_a_condition_holds_or_not(text: str, values: dict[str, Any], holds: bool) -> None:
    assert parse(text).holds(values.__getitem__) is holds


@pytest.mark.parametrize(("text", "values", "sentence"), SAID)
def test_what_does_not_hold_is_said(text: str, values: dict[str, Any], sentence: str) -> None:
    assert parse(text).broken(values.__getitem__) == sentence


def test_names_are_those_of_all_comparisons_each_once() -> None:
    text = "abs(mean/std) < 3*std or shape == 3 and 2 < nan or dtype == int8"
    assert parse(text).names == ("mean", "std", "shape", "nan", "dtype")


def test_differences_have_names_of_their_own_and_inf_is_one_of_them() -> None:
    condition = parse("inf > 0 or max < +inf", OF_DIFFERENCES)
    assert condition.names == ("inf", "max")
    assert condition.holds({"inf": 1, "max": None}.get)
    with pytest.raises(ExpectationError, match="expected a difference, at character 1"):
        parse("3 < 4", OF_DIFFERENCES)


@given(st.lists(st.tuples(st.sampled_from("*/"), st.integers(1, 99)), min_size=1, max_size=6))
def test_a_product_is_the_exact_one_up_to_rounding(factors: list[tuple[str, int]]) -> None:
    exact = Fraction(1)
    for sign, number in factors:
        exact = exact * number if sign == "*" else exact / number
    text = "size" + "".join(f"{sign}{number}" for sign, number in factors)
    (((comparison,),),) = (parse(f"{text} > 0").either,)
    assert isinstance(comparison, Comparison)
    value = comparison.left.value({"size": 1}.get)
    assert value == pytest.approx(float(exact), rel=1e-14)
