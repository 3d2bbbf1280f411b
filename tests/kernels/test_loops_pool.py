"""Unions of many sets: every body of native.c against plain.py, and against the law of merging."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels import plain
from gncli.kernels.extras import FirstNaN, Zeros
from gncli.kernels.loops import Loops
from gncli.kernels.moments import Bounds, Moments, fold, merge
from gncli.kernels.partition import Axis
from gncli.kernels.proof import bounds
from gncli.kernels.reduction import fold_axes
from tests.arrays import moments_of


def sets(num: int, count: int) -> list[NDArray[np.float64]]:
    """Return moments of `num` runs of `count` sets, some of them without values or of zeros."""
    rng = np.random.default_rng(num * 1000 + count)
    values = rng.normal(size=(num * count, 3)) * 10.0 ** rng.integers(-90, 60, (num * count, 1))
    values[rng.random(num * count) < 0.2] = np.nan
    values[rng.random(num * count) < 0.1] = 0.0
    moments = moments_of(values)
    return [np.asarray(field).reshape(num, count, 1) for field in (*moments[:6], *bounds(moments, values))]


@pytest.mark.parametrize("num", [1, 2, 7])
@pytest.mark.parametrize("fields", [6, 8])
def test_sets_are_united_along_the_tree_that_merge_has(each: Loops, num: int, fields: int) -> None:
    with np.errstate(all="ignore"):
        for count in (*range(1, 20), 32, 63, 64, 65, 1000):
            given = sets(num, count)[:fields]
            found = each.pool(given)
            axes = (Axis(True, num), Axis(False, count))
            flat = np.stack(given).reshape(fields, -1)
            moments = Moments(*flat[:6])
            if fields == 8:
                moments = moments._replace(extras=(Bounds(flat[6], flat[7]),))
            expected = fold_axes(moments, axes, merge)
            united = np.stack([*expected[:6], *(expected.asked(Bounds) or ())])
            assert (found.shape, found.tobytes()) == ((fields, num, 1), united.tobytes())
            strided = [np.asfortranarray(field) for field in given]
            assert each.pool(strided).tobytes() == plain.pool(given).tobytes() == found.tobytes()


@pytest.mark.parametrize(("count", "width"), [(1, 7), (2, 7), (5, 7), (8, 7), (6, 64), (3, 130)])
def test_columns_of_sets_are_united_side_by_side(each: Loops, count: int, width: int) -> None:
    with np.errstate(all="ignore"):
        given = [field.reshape(3, width, count).transpose(0, 2, 1) for field in sets(3 * width, count)]
        one = np.stack([each.pool([field[:, :, [q]] for field in given])[:, :, 0] for q in range(width)], axis=2)
        assert each.pool(given).tobytes() == one.tobytes() == plain.pool(given).tobytes()


@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "nan"])
@pytest.mark.parametrize("keep_first", [False, True])
def test_moments_are_folded_as_any_record_is(kind: str, keep_first: bool) -> None:
    values = np.random.default_rng(0).normal(size=(60, 9)) * 100
    values[4] = np.nan if kind == "nan" else 0
    values = values.astype("f4" if kind == "nan" else kind)
    moments = moments_of(values)
    first = FirstNaN(np.random.default_rng(1).permutation(60))
    moments = moments._replace(extras=(Zeros(moments.n), bounds(moments, values), first))
    for axes in ([Axis(False, 5), Axis(True, 3), Axis(False, 4)], [Axis(True, 5), Axis(False, 12)], [Axis(False, 60)]):
        found: Any = fold(moments, axes, keep_first)
        expected: Any = fold_axes(moments, axes, merge, keep_first=keep_first)
        pairs = [*zip(found[:6], expected[:6], strict=True)]
        pairs += zip(found.asked(Bounds), expected.asked(Bounds), strict=True)
        pairs += [(found.extras[place][0], expected.extras[place][0]) for place in (0, 2)]
        assert len(pairs) == 10
        for one, other in pairs:
            assert (one.shape, one.dtype, one.tobytes()) == (other.shape, other.dtype, other.tobytes())
        assert found.number("nan").tolist() == expected.number("nan").tolist()
