"""Billions of float32 elements, none of them misrounded: ``python -m pytest -m soak tests/test_soak.py``.

``GNCLI_SOAK`` is the number of elements, 10**10 by default. float64 decides where its error does not matter;
the near-ties alone, about one element in 10**5, are compared with fractions.
"""

from __future__ import annotations

import functools
import os
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli import group_norm
from gncli.kernels.floats import FLOATS
from tests import exact

SHAPE, GROUPS = (8, 16, 80, 80), 4
OFFSETS = (0, 3, 100, 1e3, 1e6)
ERROR = 2.0**-48  # of the float64 formula below, relative to z and to the deviation


def misrounded(x: NDArray[np.float32]) -> tuple[int, int]:
    """Return how many elements of the group norm of `x` are wrong, and how many were decided by fractions."""
    y = group_norm(x, GROUPS).reshape(SHAPE[0] * GROUPS, -1)
    groups = x.reshape(y.shape)
    z = groups - groups.mean(axis=1, keepdims=True, dtype=np.float64)
    z -= z.mean(axis=1, keepdims=True)
    z /= np.sqrt((z * z).mean(axis=1, keepdims=True) + 1e-5)
    error = (np.abs(z) + 1) * ERROR
    below, above = (z - error).astype(np.float32), (z + error).astype(np.float32)
    near = below != above
    wrong = int(np.count_nonzero((y != below) & ~near))
    group_of = functools.cache(lambda place: exact.Group.of(groups[place]))
    places = np.argwhere(near).tolist()
    for group, place in places:
        right = group_of(group).rounded(groups[group, place], 1.0, 0.0, FLOATS["float32"])
        wrong += bool(y[group, place] != right)
    return wrong, len(places)


@pytest.mark.parametrize("count", [10**6, pytest.param(None, marks=pytest.mark.soak)])
def test_no_element_is_misrounded(count: int | None) -> None:
    rng = np.random.default_rng(2)
    total = count or int(float(os.environ.get("GNCLI_SOAK", "1e10")))
    done = wrong = decided = number = 0
    while done < total:
        x = (rng.normal(size=SHAPE) + OFFSETS[number % len(OFFSETS)]).astype(np.float32)
        found = misrounded(x)
        done, wrong, decided, number = done + x.size, wrong + found[0], decided + found[1], number + 1
        if count is None and number % 100 == 0:
            print(f"{done:,} elements, {decided:,} by fractions, {wrong} misrounded", file=sys.stderr, flush=True)
    assert (wrong, done >= total) == (0, True)
