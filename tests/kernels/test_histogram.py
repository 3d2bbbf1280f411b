"""Edges of histograms are finite, and as wide apart as float64 allows."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from gncli.kernels.histogram import Bins, edges

MAX = sys.float_info.max


@pytest.mark.parametrize("value", [2.0**53, -(2.0**53) - 2, 1e17, -1e200, 1.7e308])
def test_one_large_value_lies_between_its_neighbours(value: float) -> None:
    found = edges(value, value, 4)
    assert (found[0], found[-1]) == (math.nextafter(value, -math.inf), math.nextafter(value, math.inf))
    assert (np.diff(found) >= 0).all()
    assert Bins(found, np.dtype(np.float64)).count(np.full(3, value)).sum() == 3


def test_the_largest_value_has_a_neighbour_on_one_side_only() -> None:
    for value in (MAX, -MAX):
        found = edges(value, value, 3)
        assert sorted({found[0], found[-1]}, key=abs) == [math.nextafter(value, 0), value]
        assert Bins(found, np.dtype(np.float64)).count(np.array([value])).sum() == 1


def test_a_value_whose_width_of_1_is_seen_keeps_it() -> None:
    for value in (0.0, -3.0, 5e-324, 2.0**52, 2.0**51 + 0.5):
        assert edges(value, value, 3).tolist() == np.linspace(value - 0.5, value + 0.5, 4).tolist()


def test_a_range_wider_than_the_largest_float_has_finite_edges() -> None:
    found = edges(-MAX, MAX, 64)
    assert (found[0], found[32], found[-1]) == (-MAX, 0.0, MAX)
    assert (np.diff(found / 2) > 0).all()
