"""Activations: their errors against decimals of 120 digits, their bounds, and what only more digits decide."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli import group_norm
from gncli.errors import ParameterError
from gncli.kernels.activations import ENDS, activate, activate_in_two, enclosure, exponential, gate
from gncli.kernels.exact import _of_fraction
from gncli.kernels.floats import FLOATS
from gncli.names import ACTIVATIONS
from tests.activated import DIGITS, activation
from tests.marks import slow_but

SMOOTH = ACTIVATIONS[1:]
RNG = np.random.default_rng(3)
ARGUMENTS = np.concatenate([RNG.normal(size=25) * 3, RNG.uniform(-16, 16, 20), -(10.0 ** RNG.uniform(-9, 1.5, 15))])
TINY = 2.0**-900  # below it a result need only have the right sign


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with decimal.localcontext(prec=DIGITS):
        yield


def test_the_exponential_is_within_4_units() -> None:
    t = np.concatenate([RNG.uniform(-690, 690, 300), RNG.uniform(-1, 1, 100), [0.0, -690.0, 690.0, 1e-300]])
    for argument, found in zip(t.tolist(), exponential(t).tolist(), strict=True):
        right = Decimal(argument).exp()
        assert abs(Decimal(found) - right) <= right * 4 / 2**53
    cut = exponential(np.array([-1e5, -np.inf, 1e5, np.inf, np.nan]))
    np.testing.assert_array_equal(cut, [*exponential(np.array([-690.0, -690.0, 690.0, 690.0])), np.nan])


@pytest.mark.parametrize("name", slow_but(SMOOTH, "silu"))
def test_the_error_of_an_activation_is_within_its_bound(name: str) -> None:
    for e in (0.0, 2.0**-9, 0.25):
        found, bound = ARGUMENTS.copy(), np.full(ARGUMENTS.shape, e)
        activate(name, found, bound)
        for u, value, limit in zip(ARGUMENTS.tolist(), found.tolist(), bound.tolist(), strict=True):
            for moved in {Decimal(u) + Decimal(e) * side for side in (-1, 0, 1)}:
                assert abs(activation(name, moved) - Decimal(value)) <= Decimal(limit) + Decimal(TINY), (u, e)
            if e == 0:  # and it is no idle bound: a float32 is settled once in 2**16 elements, or less often
                assert limit <= 2.0**-40 * abs(value)
            assert (value < 0) == (u < 0)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_gate_is_the_derivative_of_its_activation(name: str) -> None:
    found, step = gate(name, ARGUMENTS), Decimal(10) ** -30
    for u, value, slope in zip(ARGUMENTS.tolist(), found.value.tolist(), found.slope.tolist(), strict=True):
        right = (activation(name, Decimal(u) + step) - activation(name, Decimal(u) - step)) / step / 2
        # g and u g' may cancel: the error is one of their sizes.
        size = Decimal(value) + abs(Decimal(u) * Decimal(slope))
        assert abs(Decimal(value) + Decimal(u) * Decimal(slope) - right) <= size * Decimal(2) ** -43


@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_not_finite_or_far_below_0_has_a_limit(name: str) -> None:
    u = np.array([-np.inf, -1e30, -129.0, np.inf, np.nan, 0.0, 1e30])
    bound = np.array([np.nan, 1.0, 0.5, np.inf, 0.0, 0.0, 1.0])
    with np.errstate(all="ignore"):
        activate(name, u, bound)
    assert u[:3].max() < 0 < 2.0**-150 + u[:3].min()  # they are rounded to -0
    assert bound[[0, 1, 2, 5]].tolist() == [0.0] * 4
    np.testing.assert_array_equal(u[3:], [np.inf, np.nan, 0.0, 1e30])


def test_relu_keeps_the_bound_of_what_may_be_positive() -> None:
    u = np.array([-np.inf, -1.0, -1e-3, -0.0, 1e-3, 2.0, np.inf, np.nan])
    bound = np.array([np.nan, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 0.5])
    activate("relu", u, bound)
    np.testing.assert_array_equal(u, [0.0, 0.0, 0.0, 0.0, 1e-3, 2.0, np.inf, np.nan])
    assert not np.signbit(u[:4]).any()
    assert bound[:7].tolist() == [0.0, 0.0, 0.5, 0.0, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", slow_but(SMOOTH, "silu"))
def test_two_float64_hold_an_activation_within_its_bound(name: str, quick: bool) -> None:
    ends = [end + away for end in ENDS[name] for away in (-1.0, -1e-9, 1e-9, 1.0)]
    high = np.concatenate([ARGUMENTS, ends, [4.0, -4.0, 3.99, -3.99, 37.0, 700.0, 1e9, 1e-200]])
    low = high * RNG.uniform(-1, 1, high.size) * 2.0**-54
    for part in (0.0, 2.0**-97, 2.0**-60, 2.0**-7):
        error = np.abs(high) * part
        (value, rest), bound = activate_in_two(name, (high, low), error, quick=quick)
        for k, (u, e) in enumerate(zip(high.tolist(), error.tolist(), strict=True)):
            found = Decimal(value[k]) + Decimal(rest[k])
            for moved in {Decimal(u) + Decimal(low[k]) + Decimal(e) * side for side in (-1, 0, 1)}:
                right = activation(name, moved)
                limit = Decimal(bound[k]) if bound[k] or u > -20 else Decimal(2) ** -1075  # it is rounded to -0
                assert bound[k] != bound[k] or abs(right - found) <= limit, (u, e)
            if part <= 2.0**-97 and u > ENDS[name][0] / 2:  # and nearly nothing is settled
                assert bound[k] <= (2.0**-63 if quick else 2.0**-72) * abs(value[k])
            assert np.signbit(value[k]) == (u < 0)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", SMOOTH)
def test_of_two_float64_a_zero_is_exact_and_what_may_be_one_is_open(name: str, quick: bool) -> None:
    u, error = np.array([0.0, 0.0, 1e-40, -1e-40, -1e300]), np.array([0.0, 1e-300, 1e-40, 1e-40, 1.0])
    with np.errstate(all="ignore"):
        found, bound = activate_in_two(name, (u, np.zeros(5)), error, quick=quick)
    np.testing.assert_array_equal(bound, [0.0, np.nan, np.nan, np.nan, 0.0])
    assert (found[0][[0, 4]].tolist(), np.signbit(found[0][[0, 4]]).tolist()) == ([0.0, -0.0], [False, True])


@pytest.mark.parametrize("name", SMOOTH)
def test_an_enclosure_holds_the_activation_and_shrinks(name: str) -> None:
    for u in ARGUMENTS[::4].tolist():
        exact, widths = Fraction(activation(name, Decimal(u))), []
        for bits in (128, 256):
            (low, side), (high, other) = enclosure(name, Fraction(u), Fraction(u), bits)
            assert low <= exact + Fraction(1, 10**100)
            assert exact - Fraction(1, 10**100) <= high
            assert side == 0
            assert other in (0, -1)
            widths.append(high - low)
        assert widths[1] <= widths[0] / 2**100
    (low, _), (high, _) = enclosure(name, Fraction(1), Fraction(1) + Fraction(1, 2**40), 128)
    assert high - low >= Fraction(2, 2**40)


@pytest.mark.parametrize(
    ("name", "u", "kind", "rounded"),
    [
        ("silu", "2051", "float16", 2050.0),  # a tie, were it not for e**-2051
        ("silu", "88.75", "bfloat16", 88.5),  # which 128 bits do not tell from a tie
        ("silu", "-3000", "float32", -0.0),
        ("silu", "0", "float32", 0.0),
        ("gelu", "13.96875", "bfloat16", 13.9375),
        ("gelu", "-40", "float32", -0.0),
        ("gelu-tanh", "13.96875", "bfloat16", 13.9375),
        ("gelu-tanh", "-1e9", "float16", -0.0),
        ("relu", "2051", "float16", 2052.0),
    ],
)
def test_what_is_next_to_a_tie_is_decided(name: str, u: str, kind: str, rounded: float) -> None:
    found = _of_fraction(Fraction(u), 0.0, FLOATS[kind], name)
    assert (float(found), bool(np.signbit(found))) == (rounded, bool(np.signbit(rounded)))


def test_a_name_is_checked() -> None:
    x: NDArray[np.float32] = np.ones((1, 2), np.float32)
    with pytest.raises(ParameterError) as caught:
        group_norm(x, 1, activation="swish")
    assert str(caught.value) == "there is no activation 'swish'; choose relu, silu, gelu, gelu-tanh"
