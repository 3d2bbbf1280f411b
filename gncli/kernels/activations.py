"""Activation functions after the affine map, in float64 with bounds of their errors, and in integers to any precision.

Each but relu is ``a(u) = u g(u)`` with a gate g that rises from 0 to 1::

    silu        g = 1 / (1 + e^-u)
    gelu        g = Phi(u), the distribution function of the normal distribution
    gelu-tanh   g = 1 / (1 + e^-t)    t = 2 sqrt(2 / pi) (u + 0.044715 u^3)

so that ``a'(u) = g(u) + u g'(u)``; that of relu is 1 where u > 0, else 0. gelu-tanh is what others write as
``u / 2 (1 + tanh(t / 2))`` (Hendrycks & Gimpel 2016, arXiv:1606.08415). docs/numbers.md derives the bounds. Nothing is
taken from libm, whose last bits differ.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.twofold import (
    Pair,
    loose_inverse,
    loose_plus,
    loose_times,
    over,
    plus,
    times,
    two_product,
    two_sum,
)

Floats = NDArray[np.float64]

FAR = 690.0  # e**FAR and e**-FAR are normal numbers
ZERO = -128.0  # below it every result is rounded to -0: 128 e**-128 is less than 2**-177
NEAR = 2.0**-8  # a change of log g that leaves the bound of a' as good as constant
LOG2_E = float.fromhex("0x1.71547652b82fep+0")
LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
TO_INTEGER = 1.5 * 2.0**52  # plus it, a small float64 is rounded to an integer, which is in its lowest bits
SERIES = tuple(1 / math.factorial(k) for k in range(13, 1, -1))  # of e**r, to r**13
RATE = float.fromhex("0x1.9884533d43651p+0")  # 2 sqrt(2 / pi)
CUBE = float.fromhex("0x1.2444f2a4d8b4bp-4")  # 0.044715 of it
DENSITY = float.fromhex("0x1.9884533d43651p-2")  # 1 / sqrt(2 pi)
LOST = 2.0**-88  # the relative error of a' in two float64: of g + |u| g'
CANCELLED = 2.0**-90  # the error of gelu's besides, where Phi is 1/2 less a series
UNDERFLOW = 2.0**-1060  # and what sums of two float64 lose where they underflow
# From the first number down gates are not computed quickly, from the second one not in sums of two float64; from the
# third one down the result is above -2**-1075, and rounded to -0 in every dtype.
ENDS = {"silu": (-600.0, -690.0, -752.0), "gelu": (-34.0, -37.0, -38.6), "gelu-tanh": (-19.5, -20.9, -21.6)}
QUICK = 2.0**-65  # the relative error of a gate that is computed quickly
QUICK_FAR = 600.0  # e**-QUICK_FAR, and what products of it lose, are normal numbers
FRACTIONS = 64  # powers of two between 1/2 and 1 that are in a table
BEYOND = 4.0  # from there on the tail of gelu is a continued fraction, of so many terms:
TERMS = 100
NOTHING: Any = (0.0, 0.0)
LN2_REST = (LN2_LOW, float.fromhex("0x1.cc01f97b57a08p-87"))
RATE_IN_TWO = (RATE, float.fromhex("-0x1.cbc0d30ebfd15p-54"))
CUBE_IN_TWO = (CUBE, float.fromhex("-0x1.6c843a29d1c70p-61"))
DENSITY_IN_TWO = (DENSITY, float.fromhex("-0x1.cbc0d30ebfd15p-56"))
MIDDLE = 5.0
# (x + 5) e**(x**2 / 2) Phi(-x) of 0 <= x <= 38, in powers of (x - 5) / (x + 5): Chebyshev's series to order 22.
TAIL = tuple(
    map(
        float.fromhex,
        (
            "-0x1.3542219af8d99p-33 0x1.f1def96f2fe49p-30 0x1.07b19ac76f110p-27 -0x1.44dfdaa23ca63p-27 "
            "-0x1.1bb64b202bd63p-24 0x1.6c499ed5b5af2p-25 0x1.d14360f1dec88p-22 -0x1.697faaeb77787p-22 "
            "-0x1.73b37aaeefae8p-19 0x1.0b277666c8aa6p-18 0x1.17dd7c61e88f6p-16 -0x1.a170d1ad3253ap-15 "
            "-0x1.f2146ec23242dp-15 0x1.1daf1d3a3df7ap-11 -0x1.a25037b72beebp-11 -0x1.88590eaa1f98cp-9 "
            "0x1.54b4d4f4aa4ccp-6 -0x1.1b1c254c9ac3cp-4 0x1.51f6329f01990p-3 -0x1.410ed5f875a64p-2 "
            "0x1.fb31653876f8dp-2 -0x1.54ad03f27ca17p-1 0x1.89d3abe1f95aep-1"
        ).split(),
    )
)
# The same of 0 <= x <= 34, to order 28; the last twelve coefficients are sums of two float64.
QUICK_TAIL = tuple(
    map(
        float.fromhex,
        (
            "-0x1.3a6305d112396p-38 -0x1.906e153269137p-36 -0x1.613a23fadfccdp-37 0x1.5a1a7384b9f70p-33 "
            "0x1.1a2ee8745aff6p-32 -0x1.6b86d6cdffb72p-31 -0x1.0a69ba8d1954cp-29 0x1.4357eee4e28cfp-29 "
            "0x1.9954d6e9935e3p-27 -0x1.2091c52f5c9e1p-27 -0x1.31577d6a22208p-24 0x1.56d48d880b8f5p-25 "
            "0x1.d50801db08e24p-22 -0x1.670d6124f6288p-22 -0x1.73e809c510053p-19 0x1.0b13538867e18p-18 "
            "0x1.17df513d195a3p-16"
        ).split(),
    )
)
_PARTS = tuple(
    map(
        float.fromhex,
        (
            "-0x1.a170066e6ffa3p-15 0x1.0175770b44a40p-69 -0x1.f21498533a0a4p-15 -0x1.a58659c387e66p-69 "
            "0x1.1daf1abeae237p-11 -0x1.db08f3aac2f9ep-66 -0x1.a250376e575d2p-11 -0x1.567d534869480p-67 "
            "-0x1.88590e978803dp-9 0x1.8f0bd5c865666p-63 0x1.54b4d4f485122p-6 -0x1.3a9225e650bb6p-60 "
            "-0x1.1b1c254ca4532p-4 0x1.437bc09ce86b3p-58 0x1.51f6329f01c12p-3 -0x1.d554aaa2eb6a0p-58 "
            "-0x1.410ed5f875943p-2 -0x1.e14142075b54ap-56 0x1.fb31653876f88p-2 0x1.5e5b99e75d174p-58 "
            "-0x1.54ad03f27ca18p-1 -0x1.12fccbf08aa82p-58 0x1.89d3abe1f95aep-1 -0x1.0450bc408d643p-56"
        ).split(),
    )
)
QUICK_TAIL_IN_TWO = tuple(zip(_PARTS[::2], _PARTS[1::2], strict=True))


# --- in float64 ------------------------------------------------------------------------------------------------------


class Gate(NamedTuple):
    """The gate of an activation at some u.

    Attributes
    ----------
    value, slope : ndarray of float64
        ``g(u)`` and ``g'(u)``.
    rate : ndarray of float64, or float
        A bound of how fast the logarithms of g and 1 - g change near u.
    error : ndarray of float64, or float
        A bound of the relative error of ``u * value``, in units of 2**-53.
    """

    value: Floats
    slope: Floats
    rate: Floats | float
    error: Floats | float


def exponential(t: Floats) -> Floats:
    """Return e**t within 4 units of 2**-53 of itself; t is cut at -690 and 690.

    With n the integer nearest to t / ln 2, and r = t - n ln 2, it is ``2**n * e**r``, and e**r its Taylor series.
    """
    t = np.minimum(np.maximum(t, -FAR), FAR)
    shifted = t * LOG2_E + TO_INTEGER
    n = shifted - TO_INTEGER
    r = (t - n * LN2_HIGH) - n * LN2_LOW
    p = np.full(t.shape, SERIES[0])
    for coefficient in SERIES[1:]:
        p = p * r + coefficient
    scale = ((shifted.view(np.int64) << 52) + (1023 << 52)).view(np.float64)
    return np.asarray((1.0 + (r + (r * r) * p)) * scale)


def gate(name: str, u: Floats) -> Gate:
    """Return the gate of an activation that is not relu."""
    if name == "gelu":
        x = np.minimum(np.abs(u), 38.0)
        half = x * x * 0.5
        density = exponential(-half)
        inverse = 1.0 / (x + MIDDLE)
        w = (x - MIDDLE) * inverse
        p = np.full(x.shape, TAIL[0])
        for coefficient in TAIL[1:]:
            p = p * w + coefficient
        tail = density * (p * inverse)
        return Gate(np.where(u > 0, 1.0 - tail, tail), density * DENSITY, 1.0 + np.abs(u), 32.0 + 2.0 * half)
    if name == "silu":
        t, rate = u, np.ones(u.shape)
    else:
        square = u * u
        t = np.minimum(np.maximum(u * (RATE + CUBE * square), -FAR), FAR)
        rate = RATE + 3.0 * CUBE * square
    power = exponential(-t)
    value = 1.0 / (1.0 + power)
    other = power * value  # 1 - g
    return Gate(value, rate * (value * other), rate, 16.0 + 8.0 * (np.abs(t) * other))


def activate(name: str, u: Floats, bound: Floats | None) -> None:
    """Replace `u` by its activation, and the bound of its error by that of the result.

    The bound is ``|a'| e`` with the largest a' near u, where e is the bound of u, and the error of a itself; where e is
    too large for that, it is 2 e, since |a'| is below 1.13 everywhere.
    """
    if name == "relu":
        if bound is not None:
            bound[(u + bound < 0) | (u == -np.inf)] = 0.0
        u[u <= 0] = 0.0
        return
    value, slope, rate, error = gate(name, u)
    result = np.maximum(u, -FAR) * value
    if bound is not None:
        zero = (u + bound <= ZERO) | (u == -np.inf)
        steepest = np.where(bound * rate <= NEAR, (value + np.abs(u) * slope) * (1 + 2.0**-5), 2.0)
        bound[...] = np.where(zero, 0.0, bound * steepest + np.abs(result) * (error * 2.0**-53))
    u[...] = result


def derivative(name: str, u: Floats, bound: Floats) -> None:
    """Replace `u` by the derivative of an activation other than relu, and the bound of its error by that of the result.

    The bound is ``|a''| e`` with the largest a'' near u, where e is the bound of u, and the error of a' itself; where e
    is too large for that, it is e, since |a''| is below 1 everywhere. docs/numbers.md derives both.
    """
    value, slope, rate, error = gate(name, u)
    size = np.abs(u)
    far = ~(size < -ZERO)
    steepest = np.where(bound * rate <= NEAR, slope * (4.0 + size * rate) * (1 + 2.0**-5), 1.0)
    own = value * error + size * slope * (32.0 + 8.0 * (size * rate))
    near = bound * steepest + own * 2.0**-53
    bound[...] = np.where(far, 0.0, near) + 2.0**-170  # so near to 0 or 1 is the derivative where e**t is cut, too
    bound[np.isnan(u)] = np.nan
    u[...] = np.where(far, np.where(np.isnan(u), u, u > 0), value + u * slope)


# --- in sums of two float64 ------------------------------------------------------------------------------------------


def activate_in_two(name: str, u: Pair, error: Floats, *, quick: bool) -> tuple[Pair, Floats]:
    """Return an activation other than relu in two float64, where u is within `error` of `u`, and bounds of its errors.

    A bound is NaN where something else must decide: where the sign of u is not known, and where the result is next to
    0. What is rounded to -0 is -0, and its bound is 0, as that of an exact 0 is. docs/numbers.md derives the others.

    Parameters
    ----------
    name : str
        The activation.
    u : tuple of two ndarray of float64
        Its arguments.
    error : ndarray of float64
        The bounds of their errors.
    quick : bool
        Whether the gate is within `QUICK` of itself, or within `LOST` (and `CANCELLED`).
    """
    size, (far, least, zero) = np.abs(u[0]), ENDS[name]
    value = _quick_gate(name, u) if quick else _gates(name, _cut(u))[0]
    rate: Any = 1.0
    if name == "gelu":
        rate = 1.0 + size
    elif name == "gelu-tanh":
        rate = RATE + 3.0 * CUBE * (u[0] * u[0])
    steepest = np.minimum(value[0] * (1.0 + size * rate) * (1 + 2.0**-5), 2.0)
    own = value[0] * (QUICK if quick else LOST)
    if name == "gelu" and not quick:
        own = own + np.where(size < BEYOND, CANCELLED, 0.0)
    bound = (error * np.where(error * rate <= NEAR, steepest, 2.0) + (size * own + UNDERFLOW)) * (1 + 2.0**-20)
    lost = (u[0] <= (far if quick else least)) | ((size <= 2.0 * error) & (error > 0))
    if quick:
        lost |= (size > 2.0**900) | ((size < 2.0**-900) & (size > 0))
    bound[lost] = np.nan
    none = u[0] + error <= zero
    bound[none | ((size == 0) & (error == 0))] = 0.0
    result = loose_times(u, value) if quick else times(u, value)
    return _where(none, (np.full(size.shape, -0.0), np.zeros(size.shape)), result), bound


def derivative_in_two(name: str, u: Pair, error: Floats) -> tuple[Pair, Floats]:
    """Return a' in two float64 where u is within `error` of `u`, in two float64 too, and bounds of its error.

    It is computed within `LOST` times ``g + |u| g'`` (and `CANCELLED`), and within 2**-900 where that underflows; what
    `error` does to it is bounded as in `derivative`.
    """
    value, slope, rate, _ = gate(name, u[0])
    size = np.abs(u[0])
    steepest = np.where(error * rate <= NEAR, slope * (4.0 + size * rate) * (1 + 2.0**-5), 1.0)
    own = (value + size * slope) * LOST
    if name == "gelu":
        own = own + np.where(size < BEYOND, CANCELLED, 0.0)
    bound = (own + steepest * error + 2.0**-700) * (1 + 2.0**-20)
    return _slopes(name, u), bound


def _slopes(name: str, u: Pair) -> Pair:
    """Return a' at `u`; beyond `FAR` it is 0 or 1, within 2**-900, as it is there."""
    u = _cut(u)
    value, slope = _gates(name, u)
    return plus(value, times(u, slope))


def _cut(u: Pair) -> Pair:
    return _where(np.abs(u[0]) < FAR, u, (np.copysign(FAR, u[0]), np.zeros(u[0].shape)))


def _gates(name: str, u: Pair) -> tuple[Pair, Pair]:
    """Return g and g' at `u`."""
    if name == "gelu":
        return _gelu(u)
    t, rate = u, (np.ones(u[0].shape), np.zeros(u[0].shape))
    if name == "gelu-tanh":
        cubic = times(CUBE_IN_TWO, times(u, u))
        t, rate = times(u, plus(RATE_IN_TWO, cubic)), plus(RATE_IN_TWO, times((3.0, 0.0), cubic))
    power = _decay_in_two(_absolute(t))
    large = over(1.0, plus((1.0, 0.0), power))
    small = times(power, large)
    return _where(u[0] > 0, large, small), times(rate, times(large, small))


def _gelu(u: Pair) -> tuple[Pair, Pair]:
    """Return the distribution function of the normal distribution, and its density."""
    x = _absolute(u)
    near = x[0] < BEYOND
    x = _where(x[0] < 37.0, x, (np.full(near.shape, 37.0), np.zeros(near.shape)))
    square = times(x, x)
    density = times(DENSITY_IN_TWO, _decay_in_two((square[0] / 2, square[1] / 2)))
    tail = np.empty(near.shape), np.empty(near.shape)
    if near.any():
        # Phi(x) = 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 * 5) + ...)
        q, total = _at(square, near), NOTHING
        for coefficient in _odd_factorials():
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


def _quick_gate(name: str, u: Pair) -> Pair:
    """Return g at `u` within `QUICK` of itself, between the ends where that is done."""
    positive = u[0] > 0
    if name == "gelu":
        tail = _quick_tail(_absolute(u))
        return _where(positive, loose_plus((1.0, 0.0), (-tail[0], -tail[1])), tail)
    t = u if name == "silu" else loose_times(u, loose_plus(RATE_IN_TWO, loose_times(CUBE_IN_TWO, loose_times(u, u))))
    power = _quick_decay(_absolute(t))
    large = loose_inverse(loose_plus((1.0, 0.0), power))
    return _where(positive, large, loose_times(power, large))


def _quick_tail(x: Pair) -> Pair:
    """Return 1 less the distribution function of the normal distribution, where that is not below e**-QUICK_FAR."""
    x = _where(x[0] < 34.0, x, (np.full(x[0].shape, 34.0), np.zeros(x[0].shape)))
    square = loose_times(x, x)
    inverse = loose_inverse(loose_plus(x, (MIDDLE, 0.0)))
    w = loose_times(loose_plus(x, (-MIDDLE, 0.0)), inverse)
    p = np.full(x[0].shape, QUICK_TAIL[0])
    for coefficient in QUICK_TAIL[1:]:
        p = p * w[0] + coefficient
    total: Pair = p, np.zeros(p.shape)
    for pair in QUICK_TAIL_IN_TWO:
        total = loose_plus(loose_times(total, w), pair)
    return loose_times(_quick_decay((square[0] / 2, square[1] / 2)), loose_times(total, inverse))


def _quick_decay(t: Pair) -> Pair:
    """Return e**-t of a `t` that is not negative, within 2**-65 of itself up to `QUICK_FAR`, where it is cut.

    With n the integer nearest to 64 t / ln 2, it is ``2**(-n / 64) * e**r``, and e**r its Taylor series.
    """
    t = _where(t[0] < QUICK_FAR, t, (np.full(t[0].shape, QUICK_FAR), np.zeros(t[0].shape)))
    shifted = t[0] * (LOG2_E * FRACTIONS) + TO_INTEGER
    n = shifted - TO_INTEGER
    r, low = two_sum(n * (LN2_HIGH / FRACTIONS), -t[0])  # the product is exact
    r, low = two_sum(r, low + (n * (LN2_LOW / FRACTIONS) - t[1]))
    p = np.full(r.shape, SERIES[-6])
    for coefficient in SERIES[-5:]:
        p = p * r + coefficient
    rest = low + r * (r * p + low)
    place = shifted.view(np.int64) & (1 << 20) - 1  # n
    high, more = (part[place % FRACTIONS] for part in _powers())
    product, lost = two_product(high, r)
    total, left = two_sum(high, product)
    total, left = two_sum(total, left + (lost + (high * rest + (more + more * r))))
    scale = ((1023 - place // FRACTIONS) << 52).view(np.float64)
    return total * scale, left * scale


@functools.cache
def _powers() -> Pair:
    """Return 2**(-j / 64) of j = 0, 1, ..., 63 in two float64."""
    found = []
    for j in range(FRACTIONS):
        number = 1 << 128 * FRACTIONS - j
        while number.bit_length() > 129:  # the root of the root, 6 times
            number = math.isqrt(number)
        found.append(_in_two(Fraction(number, 1 << 128)))
    high, low = np.array(found).T.copy()
    return high, low


def _decay_in_two(t: Pair) -> Pair:
    """Return e**-t of a `t` that is not negative, within 2**-92 of itself up to `FAR`, where it is cut."""
    t = _where(t[0] < FAR, t, (np.full(t[0].shape, FAR), np.zeros(t[0].shape)))
    n = np.rint(t[0] * LOG2_E)
    r = plus((n * LN2_HIGH, np.zeros(n.shape)), (-t[0], -t[1]))  # the product is exact
    r = plus(r, times(LN2_REST, (n, np.zeros(n.shape))))
    r = r[0] * 2.0**-8, r[1] * 2.0**-8
    total = NOTHING
    for coefficient in _factorials():
        total = plus(times(total, r), coefficient)
    for _ in range(8):
        total = times(total, total)
    scale = np.ldexp(1.0, -n.astype(np.int32))
    return total[0] * scale, total[1] * scale


@functools.cache
def _odd_factorials() -> tuple[Any, ...]:
    """Return 1 / (2 k + 1)!! of k = 63, 62, ..., 0 as pairs; the rest is below 2**-110 of the sum where it is used."""
    parts, part = [], Fraction(1)
    for k in range(64):
        part /= 2 * k + 1
        parts.append(_in_two(part))
    return tuple(reversed(parts))


@functools.cache
def _factorials() -> tuple[Any, ...]:
    """Return 1 / k! of k = 11, 10, ..., 0 as pairs."""
    return tuple(_in_two(Fraction(1, math.factorial(k))) for k in range(11, -1, -1))


def _in_two(number: Fraction) -> tuple[float, float]:
    return float(number), float(number - Fraction(float(number)))


def _absolute(u: Pair) -> Pair:
    sign = np.where(u[0] < 0, -1.0, 1.0)
    return u[0] * sign, u[1] * sign


def _where(which: NDArray[np.bool_], a: Pair, b: Pair) -> Pair:
    return np.where(which, a[0], b[0]), np.where(which, a[1], b[1])


def _at(u: Pair, which: NDArray[np.bool_]) -> Pair:
    return u[0][which], u[1][which]


# --- in integers -----------------------------------------------------------------------------------------------------


def enclosure(name: str, low: Fraction, high: Fraction, bits: int) -> tuple[tuple[Fraction, int], tuple[Fraction, int]]:
    """Return two bounds of the activation of a number from `low` to `high`, which are not 0 and have one sign.

    A bound is a number and a side: -1 where the activation is below it, however near, and 0 where it may be equal. With
    more `bits` the bounds come nearer to each other, as long as `low` and `high` do.
    """
    steep = min(_steep(name, low), _steep(name, high))
    if steep > Fraction(7, 10) * bits:  # the gate, or what it lacks to 1, is below 2**-bits
        rest = Fraction(1, 1 << bits)
        return ((low * (1 - rest), 0), (high, -1)) if low > 0 else ((low * rest, 0), (Fraction(0), -1))
    middle = low * _gate(name, low, bits)[0]
    away = abs(low) / (1 << bits) + 2 * (high - low)
    return (middle - away, 0), (middle + away, 0)


def steepness(name: str, u: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Return a'(u) as a multiple of ``2**-bits``, and a bound of its error, ``2**(16 - bits)`` at most."""
    if not u:
        return Fraction(1, 2), Fraction(0)
    if _steep(name, u) > Fraction(7, 10) * bits:  # e**-t (1 + 3 t) is below 2**(15 - bits)
        return Fraction(int(u > 0)), Fraction(1 << 16, 1 << bits)
    value, slope = _gate(name, u, bits)
    return Fraction(math.floor((value + u * slope) * (1 << bits)), 1 << bits), Fraction(1 << 16, 1 << bits)


def tail(name: str, u: Fraction) -> tuple[Fraction, float] | None:
    """Return t and p, such that a'(-u) is ``-p e**-t`` within 2**-30 of itself; None if t is below 30, or above 2**200.

    Up to there 256 bits of u after the point are enough for t, and p is a float64.

    With g = 1 / (1 + e**-t) it is ``e**-t (1 - u t')``, but for what is below ``u e**-t`` of that; with g = Phi it is
    ``phi(u) (m - u)`` with Mills' ratio m.
    """
    factor, cube = Fraction(RATE_IN_TWO[0]) + Fraction(RATE_IN_TWO[1]), Fraction(44715, 10**6) * u**3
    t = {"silu": u, "gelu": u * u / 2, "gelu-tanh": factor * (u + cube)}[name]
    if not 30 <= t <= 1 << 200:
        return None
    if name == "gelu":
        ratio = size = float(u)
        for k in range(TERMS, 0, -1):
            ratio = size + k / ratio
        return t, (size - 1 / ratio) * DENSITY
    return t, float(u if name == "silu" else factor * (u + 3 * cube)) - 1


def _steep(name: str, u: Fraction) -> Fraction:
    """Return some t, such that the gate, or what it lacks to 1, is below ``e**-t`` at u and beyond."""
    size = abs(u)
    return {"silu": size, "gelu": size * size / 2, "gelu-tanh": size * Fraction(159, 100)}[name]


def _gate(name: str, u: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Return g(u) and g'(u), with errors below ``2**-bits``; that of u g'(u) is below ``2**(4 - bits)``."""
    point = bits * (2 if name == "gelu" else 1) + 64  # the sum for gelu is up to e**(u**2 / 2), below 2**bits
    one = 1 << point
    x = (u.numerator << point) // u.denominator
    if name == "gelu":
        # Phi(x) = 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 * 5) + ...): no term cancels another.
        square, total, term, odd = x * x >> point, 0, abs(x), 1
        while term:
            total, odd = total + term, odd + 2
            term = (term * square >> point) // odd
        root = math.isqrt(_pi(point) << point + 1)  # sqrt(2 pi)
        decay = _decay(x * x >> point + 1, point)
        part = (decay * total // root) * (1 if x > 0 else -1)
        return Fraction(one // 2 + part, one), Fraction(decay, root)
    t, rate = x, one
    if name == "gelu-tanh":
        factor = math.isqrt((8 << 3 * point) // _pi(point))
        t = factor * x >> point
        cubic = (44715 * x * x // 10**6) >> point
        t += t * cubic >> point
        rate = factor + (3 * factor * cubic >> point)
    power = _decay(abs(t), point)
    value = (one if t > 0 else power) * one // (one + power)
    slope = rate * value // (one + power) * (power if t > 0 else one) >> point
    return Fraction(value, one), Fraction(slope, one)


def _decay(t: int, point: int) -> int:
    """Return ``e**-t`` of a `t` that is not negative; both are over ``2**point``."""
    halvings = 8
    times = t // _ln2(point) + 1
    r = times * _ln2(point) - t  # positive, so that all terms are
    total, term, count = 0, 1 << point, 0
    while term:
        total, count = total + term, count + 1
        term = (term * r >> point + halvings) // count
    for _ in range(halvings):
        total = total * total >> point
    return total >> times


@functools.cache
def _ln2(point: int) -> int:
    return (
        18 * _inverse_tangent(26, point, 1)
        - 2 * _inverse_tangent(4801, point, 1)
        + 8 * _inverse_tangent(8749, point, 1)
    )


@functools.cache
def _pi(point: int) -> int:
    return 16 * _inverse_tangent(5, point, -1) - 4 * _inverse_tangent(239, point, -1)


def _inverse_tangent(of: int, point: int, sign: int) -> int:
    """Return atanh(1 / of) over ``2**point``, or atan(1 / of) if `sign` is -1; formulas of Machin's kind need them."""
    power = total = (1 << point + 16) // of
    count = 1
    while power:
        power //= of * of * sign
        count += 2
        total += power // count
    return total >> 16
