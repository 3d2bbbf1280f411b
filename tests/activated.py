"""The oracle of activations: decimals of 100 digits, by other series than gncli's, and comparisons of rationals."""

from __future__ import annotations

import decimal
import functools
from decimal import Decimal
from fractions import Fraction
from typing import Any

from gncli.kernels.floats import Float
from tests import exact

DIGITS = 120
FAR = {"silu": 100, "gelu": 12, "gelu-tanh": 10}
NONE = {"silu": -800, "gelu": -60, "gelu-tanh": -40}  # results of arguments below are above -2**-1075


def activated(name: str, group: exact.Group, x: Any, gamma: Any, beta: float, kind: Float) -> Any:
    """Return the activation of the result for the element `x` of a group, rounded once."""
    compared, about = group.compared(x, gamma, beta)
    sign = compared(Fraction(0))
    if sign == 0 or (name == "relu" and sign < 0):
        return kind.dtype.type(0.0)
    if name == "relu":
        return exact.nearest_by(compared, about, kind)
    if compared(Fraction(FAR[name])) > 0:  # less than that by 1e-30 or less: it matters for ties
        return exact.nearest_by(lambda boundary: compared(boundary) or -1, about, kind)
    if compared(Fraction(NONE[name])) < 0:
        return kind.dtype.type(-0.0)
    digits = (
        DIGITS if abs(about) > 1e-40 else DIGITS + 700
    )  # half of a tiny u may be a tie, and the result is next to it
    with decimal.localcontext(prec=digits):
        root = decimal_of(group.total)
        z = decimal_of(exact.exactly(x) - group.sum / group.n)
        if z:
            z /= root.sqrt() if group.denominator == "std" else root
        value = activation(name, z * decimal_of(Fraction(gamma)) + decimal_of(Fraction(beta)))
    found = Fraction(value)

    def side(boundary: Fraction) -> int:
        away = found - boundary
        assert abs(away) > abs(found) / 10 ** (digits - 70) or boundary == 0, "more digits are needed"
        return (away > 0) - (away < 0)

    return exact.nearest_by(side, float(value), kind)


def decimal_of(number: Fraction) -> Decimal:
    """Return a fraction as a decimal of the digits of the context."""
    return Decimal(number.numerator) / Decimal(number.denominator)


def activation(name: str, u: Decimal) -> Decimal:
    """Return an activation of `u`, with about the digits of the context; smooth ones."""
    with decimal.localcontext() as context:
        if name == "silu":
            return u / (1 + (-u).exp())
        context.prec += 20 + min(400, int(u * u / 2)) if name == "gelu" else 60
        if name == "gelu":
            return u / 2 * _erfc(-u / Decimal(2).sqrt())
        t = (2 / _pi(context.prec)).sqrt() * (u + Decimal("0.044715") * u**3)
        if t < 0:  # 1 + tanh t cancels
            return u * (2 * t).exp() / (1 + (2 * t).exp())
        return u / 2 * (1 + (1 - (-2 * t).exp()) / (1 + (-2 * t).exp()))


def _erfc(x: Decimal) -> Decimal:
    """Return 1 - erf(x), by Maclaurin's series, or beyond 8 by Laplace's continued fraction."""
    root = _pi(decimal.getcontext().prec).sqrt()
    if x > 8:
        fraction = Decimal(0)
        for k in range(400, 0, -1):
            fraction = Decimal(k) / 2 / (x + fraction)
        return (-x * x).exp() / root / (x + fraction)
    if x < -8:
        return 2 - _erfc(-x)
    term, total, k = x, Decimal(0), 0
    while abs(term) > Decimal(10) ** -decimal.getcontext().prec:
        total += term / (2 * k + 1)
        k += 1
        term *= -x * x / k
    return 1 - 2 / root * total


@functools.cache
def _pi(digits: int) -> Decimal:
    """Return pi, by the recipe of the documentation of `decimal`."""
    with decimal.localcontext(prec=digits + 5):
        three = Decimal(3)
        last, t, s, n, na, d, da = Decimal(0), three, three, 1, 0, 0, 24
        while s != last:
            last = s
            n, na = n + na, na + 8
            d, da = d + da, da + 32
            t = (t * n) / d
            s += t
        return s


def slope(name: str, u: Decimal) -> Decimal:
    """Return the derivative of an activation at `u`, with about the digits of the context; of smooth ones."""
    with decimal.localcontext() as context:
        context.prec += 40 + min(400, int(u * u / 2))
        if name == "silu":
            gate = 1 / (1 + (-u).exp())
            return gate + u * gate * (1 - gate)
        if name == "gelu":
            return _erfc(-u / Decimal(2).sqrt()) / 2 + u * (-u * u / 2).exp() / (2 * _pi(context.prec)).sqrt()
        root = (8 / _pi(context.prec)).sqrt()
        gate = 1 / (1 + (-root * (u + Decimal("0.044715") * u**3)).exp())
        return gate + u * gate * (1 - gate) * root * (1 + Decimal("0.134145") * u * u)
