"""Percentiles in memory: between two values as NumPy has it, and finite wherever the values are."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest

from gncli.kernels.percentiles import between, of_rows

MAX = sys.float_info.max


@pytest.mark.parametrize(("low", "high"), [(-1.7e308, 1.7e308), (-MAX, MAX), (-MAX, 1e292), (-1e308, 1e308)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.77, 1.0])
def test_between_values_too_far_apart_for_their_difference(low: float, high: float, share: float) -> None:
    exact = Fraction(low) + (Fraction(high) - Fraction(low)) * Fraction(share)
    found = float(between(low, high, share))
    assert abs(Fraction(found) - exact) <= 2 * Fraction(MAX) / 2**52
    assert low <= found <= high


def test_rows_of_such_values_lie_beside_rows_of_ordinary_ones() -> None:
    rows = np.array([[1.7e308, -1.7e308, np.nan], [2.0, 1.0, np.inf]])
    assert of_rows(rows, [0, 25, 50, 100]).T.tolist() == [
        [-1.7e308, -1.7e308 / 2, 0.0, 1.7e308],
        [1.0, 1.25, 1.5, 2.0],
    ]


def test_where_numpy_is_finite_its_bits_are_kept() -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((200, 7)) * 10.0 ** rng.integers(-320, 308, (200, 1))
    for share in (0.0, 3.7, 50.0, 81.2, 100.0):
        assert (of_rows(rows, [share])[0] == np.percentile(rows, share, axis=1)).all()
