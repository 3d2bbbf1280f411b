"""Unions of many sets: every body of native.c against plain.py, and against the law of merging."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels import plain
from gncli.kernels.loops import Loops
from gncli.kernels.moments import Moments, merge, pool
from gncli.kernels.partition import Axis
from gncli.kernels.reduction import fold_axes
from tests.arrays import moments_of


def sets(num: int, count: int) -> list[NDArray[np.float64]]:
    """Return moments of `num` runs of `count` sets, some of them without values or of zeros."""
    rng = np.random.default_rng(num * 1000 + count)
    values = rng.normal(size=(num * count, 3)) * 10.0 ** rng.integers(-90, 60, (num * count, 1))
    values[rng.random(num * count) < 0.2] = np.nan
    values[rng.random(num * count) < 0.1] = 0.0
    return [np.asarray(field).reshape(num, count) for field in moments_of(values)[:6]]


@pytest.mark.parametrize("num", [1, 2, 7])
def test_sets_are_united_along_the_tree_that_merge_has(each: Loops, num: int) -> None:
    with np.errstate(all="ignore"):
        for count in (*range(1, 20), 32, 63, 64, 65, 1000):
            given = sets(num, count)
            found = each.pool(given)
            axes = (Axis(True, num), Axis(False, count))
            expected = fold_axes(Moments(*np.stack(given).reshape(6, -1)), axes, merge)
            assert (found.shape, found.tobytes()) == ((6, num), np.stack(expected[:6]).tobytes())
            strided = [np.asfortranarray(field) for field in given]
            assert each.pool(strided).tobytes() == plain.pool(given).tobytes() == found.tobytes()


@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "nan"])
def test_moments_are_pooled_run_by_run(kind: str) -> None:
    values = np.random.default_rng(0).normal(size=(15, 9)) * 100
    values[4] = np.nan if kind == "nan" else 0
    moments = moments_of(values.astype("f4" if kind == "nan" else kind))
    found = pool(moments, 5)
    expected = fold_axes(moments, (Axis(False, 5), Axis(False, 3)), merge, keep_first=False)
    for one, other in zip(found[:6], expected[:6], strict=True):
        assert (one.shape, one.dtype, one.tolist()) == ((1,), other.dtype, other.tolist())
    assert found.number("nan").tolist() == [9.0 if kind == "nan" else 0.0]
