"""The derivative of a smooth activation to many digits, and what is decided with it."""

from __future__ import annotations

from decimal import localcontext
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest

from gncli import group_norm_backward
from gncli.kernels.activations import CANCELLED, LOST, derivative_in_two, gate, steepness, tail
from gncli.kernels.exact import GRAIN
from gncli.kernels.floats import FLOATS
from gncli.kernels.gradients import Cell, Elements
from gncli.kernels.groupnorm import GroupNorm
from gncli.kernels.plain import Factors
from gncli.kernels.slopes import Argument, Tails, near_sums, settled, slopes
from gncli.kernels.surds import Term, agreed_sum, faint_sum, rounded_sum
from tests.activated import decimal_of, slope
from tests.arrays import assert_same_bits

SMOOTH = ("silu", "gelu", "gelu-tanh")
SINGLE = FLOATS["float32"]
ONE = Fraction(1)


def exactly(name: str, u: Fraction) -> Fraction:
    """Return a' at u, of 100 digits."""
    with localcontext(prec=120):
        found = slope(name, decimal_of(abs(u)))
        return Fraction(found if u >= 0 else 1 - found)


@pytest.mark.parametrize("name", SMOOTH)
def test_two_float64_hold_a_derivative_to_88_bits(name: str) -> None:
    rng = np.random.default_rng(1)
    high = np.concatenate([rng.normal(size=40) * 3, rng.uniform(-30, 30, 20), [0.0, 4.0, -4.0, 3.99, -3.99, 1e-200]])
    low = high * rng.uniform(-1, 1, high.size) * 2.0**-54
    found, own = derivative_in_two(name, (high, low), np.zeros(high.size))[0], gate(name, high)
    for some in (np.abs(high) < 4, np.abs(high) >= 4):
        alone = derivative_in_two(name, (high[some], low[some]), np.zeros(np.count_nonzero(some)))[0]
        assert_same_bits(np.array(alone), np.array(found)[:, some])
    for k, size in enumerate(own.value + np.abs(high) * own.slope):
        a = exactly(name, Fraction(high[k]) + Fraction(low[k]))
        error = abs(Fraction(found[0][k]) + Fraction(found[1][k]) - a)
        limit = LOST * size + (CANCELLED if name == "gelu" and abs(high[k]) < 4 else 0)
        assert error <= Fraction(limit / 16) + Fraction(1, 2**900), (name, high[k], float(error) / size)


@pytest.mark.parametrize("name", SMOOTH)
def test_integers_hold_a_derivative_to_any_precision(name: str) -> None:
    for u in (Fraction(1, 3), Fraction(-7, 5), Fraction(11), Fraction(-31, 2), Fraction(0), Fraction(1, 10**40)):
        for bits in (128, 256):
            value, error = steepness(name, u, bits)
            assert abs(value - exactly(name, u)) <= error <= Fraction(1, 1 << bits - 16)
    for u in (Fraction(10**6), Fraction(-(10**6))):
        assert steepness(name, u, 256)[0] == (u > 0)
    for u in (Fraction(30), Fraction(-30)):  # where a' differs from 1 and 0 by less than 256 bits, or more
        value, error = steepness(name, u, 256)
        assert abs(value - exactly(name, u)) <= error + Fraction(1, 10**100)


@pytest.mark.parametrize(("name", "far"), [("silu", 30), ("gelu", 8), ("gelu-tanh", 7)])
def test_a_tail_is_what_a_derivative_lacks_to_one(name: str, far: int) -> None:
    assert (
        tail(name, Fraction(far) * 3 / 4) is tail(name, Fraction(10) ** 400) is tail(name, Fraction(2) ** 201) is None
    )
    for u in (Fraction(far), Fraction(2 * far + 1, 2), Fraction(2 * far)):
        found = tail(name, u)
        assert found is not None
        right = exactly(name, -u)
        assert abs(-Fraction(found[1]) * Fraction((-decimal_of(found[0])).exp()) / right - 1) < 2.0**-30
        ends = Argument(0, Fraction(0), u).tail(name), Argument(0, Fraction(0), -u).tail(name)
        assert ends == ((*found, 1), (*found, -1))


def test_a_faint_sum_is_a_zero_with_its_sign() -> None:
    one, third = Term(ONE, ONE), Term(Fraction(1, 3), ONE)
    least = Fraction(110)  # e**-110 is less than a quarter of the least float32
    for sign in (1, -1):
        zero = faint_sum([Term(sign * ONE, ONE)], [third], least, SINGLE)
        assert zero is not None and zero.tobytes() == np.float32(sign * 0.0).tobytes()
    assert faint_sum([one], [third], least - 4, SINGLE) is None  # it may be the least one
    assert faint_sum([one], [one], least, SINGLE) is None  # it may be negative
    assert faint_sum([], [], least, SINGLE) is None
    near = Argument(0, Fraction(0), Fraction(1000))
    tails = Tails.of([near, None, Argument(0, Fraction(0), Fraction(2000))], "silu")
    assert tails is not None and [part.value for part, _ in tails.parts.values()] == [999, 0]
    assert Tails.of([None], "silu") is None and Tails.of([near, Argument(0, Fraction(0), ONE)], "silu") is None


def test_what_two_numbers_near_a_sum_are_rounded_to() -> None:
    root = [Term(ONE, Fraction(2)), Term(Fraction(-1, 3), ONE)]
    assert agreed_sum(root, [Term(Fraction(1, 2**60), Fraction(3))], SINGLE) == np.float32(2**-0.5 - 1 / 3)
    assert agreed_sum(root, [Term(Fraction(1, 2**20), ONE)], SINGLE) is None
    assert agreed_sum([], [], SINGLE) == 0
    assert agreed_sum([], [Term(Fraction(1, 2**200), ONE)], SINGLE) is None  # -0 or 0
    assert rounded_sum([], SINGLE, -1).tobytes() == np.float32(-0.0).tobytes()
    tie = [Term(1 + Fraction(1, 2**24), ONE)]
    assert [rounded_sum(tie, SINGLE, side) for side in (-1, 0, 1)] == [1, 1, np.float32(1 + 2**-23)]


@pytest.mark.parametrize("name", SMOOTH)
def test_a_sum_of_derivatives_is_decided(name: str) -> None:
    def decided(kinds: dict[Argument | None, list[Term]]) -> Any:
        return settled(kinds, name, partial(Argument.slope, name=name), SINGLE)

    tie, low, high = Term(1 + Fraction(1, 2**24), ONE), np.float32(1), np.float32(1 + 2**-23)
    near, far = Argument(0, Fraction(0), Fraction(3, 2)), Argument(1, Fraction(2), Fraction(-1))
    whole = exactly(name, Fraction(3, 2)) + exactly(name, Fraction(2**0.5) - 1)
    one = Term(ONE, ONE)
    assert decided({None: [one], near: [one], far: [one]}) == np.float32(float(1 + whole))
    faint = Fraction(-40 if name == "silu" else -8)
    assert decided({Argument(0, Fraction(0), faint): [one]}) == np.float32(float(exactly(name, faint)))
    # What cancels leaves a tie; a' of 100,000 is above 1 by no more than is seen, that of -100,000 as much below 0.
    assert decided({None: [tie], near: [Term(ONE, Fraction(2)), Term(-ONE / 2, Fraction(1, 2))]}) == low
    for u, factor, expected in ((10**5, 1, high), (10**5, -1, low), (-(10**5), 1, low), (-(10**5), -1, high)):
        end = Argument(0, Fraction(0), Fraction(u))
        exact = tie if u < 0 else Term(tie.over - factor, ONE)
        nearer = Argument(0, Fraction(0), Fraction(u - int(np.sign(u))))
        assert decided({None: [exact], end: [Term(Fraction(factor), ONE)]}) == expected
        both = {None: [tie], end: [Term(Fraction(-factor), ONE)], nearer: [Term(Fraction(factor), ONE)]}
        assert decided(both) == expected  # the nearer one counts
    assert decided({None: []}).tobytes() == np.float32(0).tobytes()
    end = Argument(0, Fraction(0), Fraction(-(10**5)))
    assert decided({end: [Term(ONE, ONE)]}).tobytes() == np.float32(-0.0).tobytes()


def test_a_tie_of_a_group_whose_units_are_all_alive_is_decided_by_tails() -> None:
    """With mean 0 and variance 1, dx is what is left of dy beside 1 and x, but for how little a' is above 1."""
    tie = 1 + 2.0**-11
    x = np.array([[[1.0, -1.0, 1.0, -1.0]]])
    options: dict[str, Any] = {"eps": 0.0, "activation": "gelu", "beta": np.array([1000.0]), "gamma": np.ones(1)}
    dy = tie * np.array([[[1.0, 1.0, -1.0, -1.0]]]) + 1
    dx = group_norm_backward(x, dy, 1, **options, dtype=np.float16)[0]
    assert dx.ravel().tolist() == [1 + 2.0**-10, 1 + 2.0**-10, -1 - 2.0**-10, -1 - 2.0**-10]


def test_ties_of_gradients_are_decided_by_how_far_a_derivative_is_from_one() -> None:
    """1 + 2**-11 is half-way between two numbers of float16, and a' is a little above 1, or below 0."""
    tie = 1 + 2.0**-11
    x, dy = np.array([[1000.0, 1000.0, -1000.0, np.inf]]), np.array([[tie, -tie, 1.0, tie]])
    moments: dict[str, Any] = {"mean": np.zeros(4), "var": np.ones(4), "eps": 0.0, "layout": "NC"}
    dx = group_norm_backward(x, dy, **moments, activation="gelu", dtype=np.float16)[0]
    assert_same_bits(dx, np.array([[1 + 2**-10, -1 - 2**-10, -0.0, 1.0]], np.float16))


@np.errstate(all="ignore")
def test_what_a_float64_does_not_hold_is_left_to_fractions() -> None:
    factors = Factors.none(2)
    huge = Cell(1, 0, 1 << 2 * GRAIN - 1000, GroupNorm(given=True, eps=0.0))  # its deviation is 2**-500
    some = Elements(np.array([1e200, 1.0]), np.ones(2), factors)
    assert slopes(huge, some, "silu") is None and near_sums(huge, some, "silu", weighted=True) is None
    none = Cell(1, 0, 0, GroupNorm(given=True, eps=0.0))
    assert slopes(none, some, "silu") is None and near_sums(none, some, "silu", weighted=True) is None
    plain = Cell(1, 0, 1 << 2 * GRAIN, GroupNorm(given=True, eps=0.0))
    for odd in (np.inf, np.nan):
        some = Elements(np.array([2.0, 1.0]), np.array([1.0, odd]), factors)
        assert slopes(plain, some, "silu") is not None and near_sums(plain, some, "silu", weighted=False) is None
    wide = Cell(1, 0, 1 << 2 * GRAIN + 1000, GroupNorm(given=True, eps=0.0))  # its deviation is 2**500
    for cell, value, u in ((wide, 2.0**500, 1), (plain, 1e200, 700), (plain, -1e200, -700), (plain, 1e-300, 0)):
        sums = near_sums(
            cell, Elements(np.array([value]), np.array([1e250]), factors.at(slice(1))), "silu", weighted=True
        )
        assert sums is not None
        for near, right in zip(sums, (Fraction(1e250), Fraction(1e250) * Fraction(value)), strict=True):
            assert abs(near.value - right * exactly("silu", Fraction(u))) < near.error
            assert near.error < abs(right) / 2**77 or abs(u) == 700  # there the error of u is large
    nothing = near_sums(plain, Elements(np.ones(2), np.zeros(2), factors), "silu", weighted=False)
    assert nothing is not None and [near.value for near in nothing] == [0, 0]
    assert Argument.of(plain, np.float64(-3.0), factors.at(0)) == Argument(0, Fraction(0), Fraction(-3))
    x, dy = np.array([[1e200, 2.0**-500]]), np.array([[2.0**-499, -(2.0**-501)]])
    dx = group_norm_backward(x, dy, mean=0.0, var=2.0**-1000, eps=0, activation="silu", dtype=np.float32, layout="NC")[
        0
    ]
    assert dx[0, 0] == 2 and abs(dx[0, 1] + 0.4638) < 1e-4  # a'(1) = 0.92767
