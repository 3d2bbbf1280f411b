"""The exact oracle: Group Normalization in rational arithmetic, rounded by comparing squares; slow, and never wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.floats import FLOATS, Float


class Group(NamedTuple):
    """The exact moments of a group: its size, its sum, and ``total``, its variance and eps."""

    n: int
    sum: Fraction
    total: Fraction
    denominator: str

    @classmethod
    def of(cls, values: NDArray[Any], eps: float = 1e-5, denominator: str = "std", *, rms: bool = False) -> Group:
        """Return the moments of finite `values`; about 0 if `rms`."""
        total, squares = (sum_of(values, power) for power in (1, 2))
        n = values.size
        if rms:
            return cls(n, Fraction(0), squares / n + Fraction(eps), denominator)
        return cls(n, total, squares / n - (total / n) ** 2 + Fraction(eps), denominator)

    @classmethod
    def none(cls) -> Group:
        """Return the moments that standardize nothing: mean 0, variance 1."""
        return cls(1, Fraction(0), Fraction(1), "std")

    def rounded(self, x: Any, gamma: float, beta: float, kind: Float) -> Any:
        """Return the result for the element `x`, correctly rounded; ties go to even, 0 is +0, overflow is infinite."""
        return nearest_by(*self.compared(x, gamma, beta), kind)

    def side(self, x: Any, gamma: float, beta: float, boundary: Fraction) -> int:
        """Return the sign of the result for the element `x` less `boundary`."""
        return self.compared(x, gamma, beta)[0](boundary)

    def compared(self, x: Any, gamma: float, beta: float) -> tuple[Callable[[Fraction], int], float]:
        """Return the function that gives the `side` of a boundary, and about where the result is."""
        left, shift, square = Fraction(gamma) * (exactly(x) - self.sum / self.n), Fraction(beta), self.total
        if self.denominator == "variance":
            left, square = left / self.total if left else left, Fraction(1)
        # The squares are compared as integers: what takes time is the reduction of fractions.
        sign, above, under = _sign(left), left.numerator**2 * square.denominator, left.denominator**2 * square.numerator

        def side(boundary: Fraction) -> int:
            right = boundary.numerator * shift.denominator - shift.numerator * boundary.denominator
            other = (right > 0) - (right < 0)
            if sign != other:
                return 1 if sign > other else -1
            difference = above * (boundary.denominator * shift.denominator) ** 2 - right * right * under
            return sign * ((difference > 0) - (difference < 0))

        return side, sign * math.sqrt(approximately(above, under)) + float(beta)


def sum_of(values: NDArray[Any], power: int = 1) -> Fraction:
    """Return the exact sum of powers of values."""
    if values.dtype.kind in "iub":
        return Fraction(sum(value**power for value in values.ravel().astype(object)))
    wide = values.astype(np.float64).ravel()
    shift = 62 - int(np.frexp(np.abs(wide).max())[1])
    scaled = np.ldexp(wide, min(max(shift, 0), 900))
    if 0 <= shift <= 900 and (scaled == np.rint(scaled)).all():  # an int64 holds each
        return Fraction(sum(value**power for value in scaled.astype(np.int64).tolist()), 2 ** (shift * power))
    return Fraction(sum(int(Fraction(v) * 2**1074) ** power for v in wide.tolist()), 2 ** (1074 * power))


def exactly(x: Any) -> Fraction:
    """Return the value of a NumPy scalar, or of a fraction."""
    return x if isinstance(x, Fraction) else Fraction(int(x)) if x.dtype.kind in "iub" else Fraction(float(x))


def group_norm(
    x: NDArray[Any], eps: float, gamma: Sequence[float], beta: Sequence[float], dtype: str, denominator: str = "std"
) -> NDArray[Any]:
    """Return the results for one group, `x` of shape (channels, space), rounded to `dtype`."""
    group, kind = Group.of(x, eps, denominator), FLOATS[dtype]
    rows = [[group.rounded(v, g, b, kind) for v in row] for row, g, b in zip(x, gamma, beta, strict=True)]
    return np.array(rows, kind.dtype)


def nearest(exact: Fraction, kind: Float) -> Any:
    """Return the number of the dtype that is the nearest to `exact`, as `Group.rounded` does."""
    return nearest_by(lambda boundary: _sign(exact - boundary), approximately(*exact.as_integer_ratio()), kind)


def approximately(above: int, under: int) -> float:
    """Return a quotient as a float64, infinite if it is too large, and 0 for a division by 0."""
    try:
        return above / under if under else 0.0
    except OverflowError:
        return math.inf if above > 0 else -math.inf


def _sign(number: Fraction) -> int:
    return (number.numerator > 0) - (number.numerator < 0)


def nearest_by(beyond: Callable[[Fraction], int], about: float, kind: Float) -> Any:
    """Return the number of the dtype nearest to a result; `beyond` says on which side of a number that is.

    The search begins at `about`. That makes it short or long, and does not change what it finds.
    """
    last, low, step = _last(kind), _place(about, kind), 1
    high = low
    if beyond(_number(low, kind)) >= 0:
        high = min(low + 1, last)
        while high < last and beyond(_number(high, kind)) >= 0:
            low, high, step = high, min(high + 2 * step, last), 2 * step
    else:
        low = max(high - 1, -last)
        while low > -last and beyond(_number(low, kind)) < 0:
            low, high, step = max(low - 2 * step, -last), low, 2 * step
    while high - low > 1:  # the result is between these two numbers of the dtype
        middle = (low + high) // 2
        if beyond(_number(middle, kind)) >= 0:
            low = middle
        else:
            high = middle
    side = beyond((_number(low, kind) + _number(high, kind)) / 2)
    place = high if side > 0 else low if side < 0 else low + low % 2
    if place == 0 and beyond(Fraction(0)) < 0:
        return kind.dtype.type(-0.0)
    return kind.dtype.type(float(_number(place, kind)) if abs(place) < last else math.copysign(math.inf, place))


def _last(kind: Float) -> int:
    """Return how many numbers of the dtype are above 0; one more would follow, if the exponent had no end."""
    return ((1 << kind.exponent) - 1 << kind.mantissa) if kind.infinite else (1 << kind.exponent + kind.mantissa) - 1


def _place(value: float, kind: Float) -> int:
    """Return how many numbers of the dtype lie from 0 to `value`, negative below 0; at most all, and 0 for a NaN."""
    if not value or not math.isfinite(value):
        return 0 if not value or math.isnan(value) else _last(kind) if value > 0 else -_last(kind)
    least = _least(kind)
    exponent = max(math.frexp(value)[1] - 1 - kind.mantissa, least)
    steps = min((exponent - least << kind.mantissa) + int(math.ldexp(abs(value), -exponent)), _last(kind))
    return -steps if value < 0 else steps


def _number(steps: int, kind: Float) -> Fraction:
    """Return the number that is so many numbers of the dtype above 0."""
    exponent, mantissa = divmod(abs(steps), 1 << kind.mantissa)
    significand = mantissa + (exponent > 0) * (1 << kind.mantissa)
    power = _least(kind) + max(exponent, 1) - 1
    significand = significand if steps > 0 else -significand
    return Fraction(significand << power) if power >= 0 else Fraction(significand, 1 << -power)


def _least(kind: Float) -> int:
    """Return the exponent of the smallest number above 0."""
    return 2 - (1 << kind.exponent - 1) - kind.mantissa
