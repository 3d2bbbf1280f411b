"""Sums and products of two float64, and what their rounding lost: exactly, as long as nothing over- or underflows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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


def _split(a: Any) -> tuple[Any, Any]:
    scaled = SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high
