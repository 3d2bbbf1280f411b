"""The exact oracle: Group Normalization in rational arithmetic, rounded by comparing squares; slow, and never wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Group(NamedTuple):
    """The exact moments of a group: its size, its sum, and ``total``, its variance and eps."""

    n: int
    sum: Fraction
    total: Fraction
    denominator: str

    @classmethod
    def of(cls, values: NDArray[Any], eps: float = 1e-5, denominator: str = "std") -> Group:
        """Return the moments of finite `values`."""
        total, squares = (sum_of(values, power) for power in (1, 2))
        n = values.size
        return cls(n, total, squares / n - (total / n) ** 2 + Fraction(eps), denominator)

    def rounded(self, x: Any, gamma: float, beta: float, dtype: np.dtype[Any]) -> Any:
        """Return the result for the element `x`, correctly rounded to `dtype`; ties go to even, and 0 is +0."""
        deviation = exactly(x) - self.sum / self.n
        scale, shift = Fraction(gamma), Fraction(beta)
        if deviation == 0 or scale == 0:
            return dtype.type(0.0 * gamma + beta)
        factor = scale * deviation
        if self.denominator == "variance":
            factor, square = factor / self.total, Fraction(1)
        else:
            square = self.total

        def beyond(boundary: Fraction) -> int:
            """Return the sign of ``factor / sqrt(square) + shift - boundary``."""
            left, right = factor, boundary - shift
            signs = _sign(left), _sign(right)
            if signs[0] != signs[1]:
                return _sign(Fraction(signs[0] - signs[1]))
            return signs[0] * _sign(left * left - right * right * square)

        low, high = -_steps(np.array(np.inf, dtype)), _steps(np.array(np.inf, dtype))
        while high - low > 1:  # the result is between these two numbers of the dtype
            middle = (low + high) // 2
            if beyond(Fraction(float(_number(middle, dtype)))) >= 0:
                low = middle
            else:
                high = middle
        ends = [_ends(place, dtype) for place in (low, high)]
        side = beyond(sum(ends, Fraction(0)) / 2)
        place = high if side > 0 else low if side < 0 else low + low % 2
        if place == 0 and beyond(Fraction(0)) < 0:
            return dtype.type(-0.0)
        return _number(place, dtype)


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
    """Return the value of a NumPy scalar."""
    return Fraction(int(x)) if x.dtype.kind in "iub" else Fraction(float(x))


def group_norm(
    x: NDArray[Any], eps: float, gamma: Sequence[float], beta: Sequence[float], dtype: Any, denominator: str = "std"
) -> NDArray[Any]:
    """Return the results for one group, `x` of shape (channels, space), rounded to `dtype`."""
    group, kind = Group.of(x, eps, denominator), np.dtype(dtype)
    rows = [[group.rounded(v, g, b, kind) for v in row] for row, g, b in zip(x, gamma, beta, strict=True)]
    return np.array(rows, kind)


def _sign(number: Fraction) -> int:
    return (number > 0) - (number < 0)


def _steps(number: NDArray[Any]) -> int:
    """Return how many numbers of the dtype lie between 0 and a number that is not negative."""
    return int(number.view(f"u{number.itemsize}"))


def _number(steps: int, dtype: np.dtype[Any]) -> Any:
    found = np.array(abs(steps), f"u{dtype.itemsize}").view(dtype)[()]
    return found if steps >= 0 else -found


def _ends(steps: int, dtype: np.dtype[Any]) -> Fraction:
    """Return the number; for infinity the one that would come after the largest."""
    number = float(_number(steps, dtype))
    if math.isfinite(number):
        return Fraction(number)
    return _sign(Fraction(steps)) * Fraction(2) ** int(np.finfo(dtype).maxexp)
