"""Sums and products of two float64, and what their rounding lost: exactly, as long as nothing over- or underflows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Pair = tuple[Floats, Floats]
"""A number as the sum of two float64, of which the second is below a unit of the first."""

SPLITTER = 2.0**27 + 1  # halves a float64 (Dekker 1971)


def two_sum(a: Any, b: Any) -> tuple[Floats, Floats]:
    """Return the rounded sum and its error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Any, b: Any) -> tuple[Floats, Floats]:
    """Return the rounded product and its error (Dekker)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def quotient(high: Any, low: Any, by: Any) -> tuple[Floats, Floats]:
    """Return ``(high + low) / by`` in two float64, to about 2**-104."""
    found = high / by
    product, lost = two_product(found, by)
    return found, (((high - product) - lost) + low) / by


def ratio(a: Pair, b: Pair) -> Pair:
    """Return the quotient of two pairs, within 2**-101 of itself."""
    found = a[0] / b[0]
    product, lost = two_product(found, b[0])
    return two_sum(found, (((a[0] - product) - lost) + (a[1] - found * b[1])) / b[0])


def plus(a: Any, b: Any) -> Pair:
    """Return the sum of two pairs, within 2**-103 of the sum of their sizes."""
    return two_sum(*loose_plus(a, b))


def times(a: Any, b: Any) -> Pair:
    """Return the product of two pairs, within 2**-101 of itself."""
    return two_sum(*loose_times(a, b))


def over(number: Any, by: Pair) -> Pair:
    """Return a float64 over a pair, within 2**-101 of the quotient."""
    found = number / by[0]
    product, lost = two_product(found, by[0])
    return two_sum(found, ((number - product) - lost - found * by[1]) / by[0])


def loose_plus(a: Any, b: Any) -> Pair:
    """Return the sum of two pairs as `plus` does; the second part may be some units of the first."""
    total, lost = two_sum(a[0], b[0])
    return total, lost + (a[1] + b[1])


def loose_times(a: Any, b: Any) -> Pair:
    """Return the product of two pairs as `times` does; the second part may be some units of the first."""
    product, lost = two_product(a[0], b[0])
    return product, lost + (a[0] * b[1] + a[1] * b[0])


def loose_inverse(of: Pair) -> Pair:
    """Return one over a pair, within 2**-98 of itself; the second part may be some units of the first."""
    found = 1.0 / of[0]
    product, lost = two_product(found, of[0])
    return found, ((1.0 - product) - lost - found * of[1]) * found


def _split(a: Any) -> tuple[Any, Any]:
    scaled = SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high
