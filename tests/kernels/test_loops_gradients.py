"""The loops of gradients: every body of native.c against plain.py."""

from __future__ import annotations

import numpy as np
import pytest

from gncli.kernels import plain
from gncli.kernels.loops import Loops
from gncli.kernels.plain import Gradient
from tests.arrays import assert_same_bits

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(("num_x", "length", "width"), [(1, 1, 1), (3, 65, 1), (2, 7, 5), (1, 4, 130), (4, 1, 3)])
def test_the_map_of_gradients_is_that_of_plain(each: Loops, num_x: int, length: int, width: int) -> None:
    size = num_x * length * width
    g, z = RNG.normal(size=(2, size))
    g[size // 2], z[0] = -0.0, np.inf
    cells = Gradient(*RNG.normal(size=(6, num_x, width)))
    found, right = np.empty((2, size)), np.empty((2, size))
    with np.errstate(all="ignore"):
        each.gradient(g, z, length, cells, found[0], found[1])
        plain.gradient(g, z, length, cells, right[0], right[1])
    assert_same_bits(found, right)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 200), (1, 3, 64), (5, 7, 1), (2, 3, 2, 5, 4), (4, 130, 9)])
def test_a_level_of_values_is_that_of_plain(each: Loops, shape: tuple[int, ...]) -> None:
    values = RNG.normal(size=int(np.prod(shape)))
    one, other = values.copy(), values.copy()
    for unit in (1.5 * 2.0**20, 1.5 * 2.0**-12):
        found, left = each.level(one, shape, unit)
        right, also = plain.level(other, shape, unit)
        assert_same_bits(one, other)
        assert (found.tolist(), left) == (right.tolist(), also)
    assert each.level(np.zeros(values.size), shape, 1.5)[1] is False
