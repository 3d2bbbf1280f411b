"""`gncli.kernels.agreement`: rounding, steps and neighbours of every dtype, against all its values written out."""

from __future__ import annotations

import bisect
import functools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels.agreement import Agreement, AgreementOf, Asked, agreement, merge
from gncli.kernels.floats import FLOATS
from gncli.kernels.moments import NOWHERE
from gncli.kernels.plain import Grid, apart, faithful, nearest

GRIDS = {name: Grid.of(kind.dtype, kind) for name, kind in FLOATS.items()}
NARROW = [name for name, kind in FLOATS.items() if kind.mantissa <= 10]


@functools.cache
def values(name: str) -> list[float]:
    """Return every value of a narrow dtype from 0 up, in order; the parity of an index is that of its mantissa."""
    if name == "float16":
        found = np.arange(2**15, dtype=np.uint16).view(np.float16).astype(np.float64)
    else:
        kind = FLOATS[name]
        codes = np.arange(1 << (kind.exponent + kind.mantissa)).astype(kind.stored)
        wide = np.empty(codes.size, np.float32)
        kind.widen(codes, wide)
        with np.errstate(invalid="ignore"):
            found = wide.astype(np.float64)
    return [float(value) for value in found if math.isfinite(value)]


def rounded(y: float, name: str) -> float:
    """Return `y` rounded to the nearest value, ties to even, by a search through all of them."""
    known, infinite = values(name), FLOATS[name].infinite
    size = abs(y)
    at = bisect.bisect_right(known, size) - 1
    low = known[at]
    high = known[at + 1] if at + 1 < len(known) else 2 * known[-1] - known[-2]  # the next, if there were one
    nearer = low if size - low < high - size or (size - low == high - size and at % 2 == 0) else high
    if size == low:
        nearer = low
    if nearer > known[-1] or math.isinf(size):
        nearer = math.inf if infinite else math.nan
    return math.copysign(nearer, y)


def hard(name: str, seed: int = 0) -> NDArray[np.float64]:
    """Return values of a dtype, their midpoints and neighbours of these in float64, and what is far away."""
    known = np.array(values(name))
    rng = np.random.default_rng(seed)
    some = known[np.unique([0, 1, 2, 3, known.size - 1, known.size - 2, *rng.integers(0, known.size - 1, 150)])]
    middles = (some + np.array([known[min(np.searchsorted(known, s) + 1, known.size - 1)] for s in some])) / 2
    top = known[-1] + (known[-1] - known[-2]) * np.array([0.25, 0.5, 0.75, 1, 2])
    found = np.concatenate([some, middles, top, [np.inf, 5e-324, 1e300]])
    found = np.concatenate([found, np.nextafter(found, np.inf), np.nextafter(found, 0.0)])
    return np.concatenate([found, -found])


@pytest.mark.parametrize("name", NARROW)
def test_a_value_is_rounded_once_and_ties_to_even(name: str) -> None:
    y = hard(name)
    with np.errstate(all="ignore"):
        found = nearest(y, GRIDS[name])
    expected = np.array([rounded(each, name) for each in y.tolist()])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(y))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_rounding_is_that_of_numpy(dtype: str) -> None:
    rng = np.random.default_rng(1)
    y = np.concatenate([rng.standard_normal(3000) * 10.0 ** rng.integers(-50, 45, 3000), hard("float16")])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(nearest(y, Grid.of(np.dtype(dtype))), y.astype(dtype).astype(np.float64))


def test_integers_are_rounded_to_even_and_kept_in_range() -> None:
    y = np.array([0.5, 1.5, -0.5, 127.4, 300.0, -300.0])
    assert nearest(y, Grid.of(np.dtype("i1"))).tolist() == [0, 2, 0, 127, 127, -128]
    assert nearest(y, Grid.of(np.dtype("?"))).tolist() == [0, 1, 0, 1, 1, 0]
    assert Grid.of(np.dtype("i1")).spacing(100.0) == 1
    beside = faithful(np.array([0.0, 1.0, 2.0, 127.0, -128.0]), np.array([0.5, 0.5, 0.5, 300.0, -300.0]), GRIDS_I1)
    assert beside.tolist() == [True, True, False, True, True]


GRIDS_I1 = Grid.of(np.dtype("i1"))


@pytest.mark.parametrize("name", NARROW)
def test_steps_are_those_of_a_walk_through_the_values(name: str) -> None:
    known = np.array(values(name))
    signed = np.concatenate([-known[::-1], known])
    place = np.concatenate([-np.arange(known.size)[::-1], np.arange(known.size)])
    rng = np.random.default_rng(2)
    i, j = rng.integers(0, signed.size, (2, 500))
    i[:4], j[:4] = [0, known.size - 1, known.size, 0], [signed.size - 1, known.size, known.size - 1, 0]
    assert apart(signed[i], signed[j], GRIDS[name]).tolist() == np.abs(place[i] - place[j]).tolist()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_steps_of_wide_floats_are_those_of_numpy(dtype: str) -> None:
    from numpy.testing import assert_array_max_ulp

    rng = np.random.default_rng(3)
    x = (rng.standard_normal(300) * 10.0 ** rng.integers(-45, 30, 300)).astype(dtype)
    y = np.where(rng.random(300) < 0.5, np.nextafter(x, np.array(np.inf, dtype)), -x).astype(dtype)
    steps = apart(x.astype(np.float64), y.astype(np.float64), Grid.of(np.dtype(dtype)))
    for left, right, found in zip(x, y, steps.tolist(), strict=True):
        if found < 2**20:  # NumPy counts in the dtype of x
            assert assert_array_max_ulp(left, right, found) == found
    ends = np.array([np.finfo(dtype).min]), np.array([np.finfo(dtype).max])
    all_values = 2 * (int(ends[1].view(f"u{np.dtype(dtype).itemsize}")[0]))
    assert apart(ends[0].astype("f8"), ends[1].astype("f8"), Grid.of(np.dtype(dtype)))[0] == all_values


@pytest.mark.parametrize("name", NARROW)
def test_neighbours_are_those_of_a_search(name: str) -> None:
    known, grid = values(name), GRIDS[name]
    y = hard(name)
    below, above = [], []
    for size in np.abs(y).tolist():
        at = bisect.bisect_right(known, size) - 1
        low = known[at] if math.isfinite(size) else math.inf
        below.append(low)
        above.append(low if low == size else known[at + 1] if at + 1 < len(known) else math.inf)
    with np.errstate(all="ignore"):
        for side in (np.array(below), np.array(above)):
            x = np.copysign(side, y)
            if not FLOATS[name].infinite:
                x[np.isinf(x)] = np.nan  # what is beyond the largest value
            assert faithful(x, y, grid).all()
        beyond = np.nextafter(np.array(below), -np.inf), np.nextafter(np.array(above), np.inf)
        for far, edge in zip(beyond, (below, above), strict=True):
            assert not faithful(np.copysign(1.0, y) * far, y, grid)[np.isfinite(edge)].any()
    assert not faithful(np.full(1, np.nan), np.ones(1), grid).any()


def test_float64_has_one_neighbour_and_a_spacing() -> None:
    x = np.array([1.0, np.nextafter(1.0, 2), np.nan, np.inf])
    assert faithful(x, np.array([1.0, 1.0, np.nan, np.inf]), GRIDS["float64"]).tolist() == [True, False, False, True]
    for name, dtype in (("float16", np.float16), ("float32", np.float32), ("float64", np.float64)):
        for at in (1.0, 1.5, 2.0, 0.0, float(np.finfo(dtype).tiny), 3e-5, 6e4):
            assert GRIDS[name].spacing(at) == np.spacing(dtype(at)), (name, at)


def found(a: Any, b: Any, c: Any = None, order: str = "C", shape: tuple[int, ...] = (), **asked: Any) -> Agreement:
    a, b = np.asarray(a), np.asarray(b)
    grid = asked.pop("grid", Grid.of(a.dtype))
    with np.errstate(all="ignore"):
        return agreement(
            a,
            b,
            None if c is None else np.asarray(c),
            asked=Asked(grid, **asked),
            at=np.arange(a.size),
            shape=shape or (a.size,),
            order=order,
        )


HALF = np.float16


def test_what_is_not_finite_is_compared_first() -> None:
    nan, inf = np.nan, np.inf
    a = np.array([nan, nan, inf, inf, -inf, 1.0, inf], HALF)
    b = np.array([nan, 1.0, inf, -inf, 1e9, nan, 1e9])  # the last two are beyond float16: infinity
    steps = found(a, b, steps=9, faithful=True, near_zero=2.0**-14)
    assert (steps.beyond[0], steps.farthest_at[0]) == (4, NOWHERE)
    assert (steps.unfaithful[0], steps.unfaithful_at[0]) == (4, 1)
    differs = found(a, b, steps=9, faithful=True, nan_differs=True)
    assert (differs.beyond[0], differs.unfaithful[0], differs.unfaithful_at[0]) == (5, 5, 0)
    assert found(a, b).floor[0] == -1 + 1  # b is 1 once, and that is exact


def test_near_zero_the_distance_is_absolute() -> None:
    tiny = float(np.finfo(HALF).smallest_subnormal)
    a, b = np.array([3 * tiny, 0.004, 0.011], HALF), np.array([-3 * tiny, -0.004, -0.004])
    assert found(a, b, steps=5, near_zero=2.0**-14).beyond[0] == 3
    assert found(a, b, steps=6, near_zero=2.0**-14).beyond[0] == 2
    spacing = float(np.spacing(HALF(0.01)))
    enough = math.ceil(float(HALF(0.004) - HALF(-0.004)) / spacing)
    assert found(a, b, steps=enough, near_zero=0.01).beyond[0] == 1
    assert found(a, b, steps=enough - 1, near_zero=0.01).beyond[0] == 2
    half_way = found(np.zeros(1, HALF), np.full(1, 0.4 * tiny), steps=0, near_zero=2.0**-14)
    assert half_way.beyond[0] == 0  # b is rounded first


def test_integers_are_compared_exactly() -> None:
    big = 2**62
    a, b = np.array([big, big + 1, 3]), np.array([big, big, 3], np.uint64)
    assert found(a, b, steps=100).beyond[0] == 1
    assert found(a, b, faithful=True).unfaithful[0] == 1
    assert found(np.array([3, 0], np.uint8), np.array([3.25, -0.0]), steps=1).beyond[0] == 1
    assert found(np.array([3, 4, 5], np.uint8), np.full(3, 3.25), faithful=True).unfaithful[0] == 1


def test_bits_tell_zeros_and_nans_apart() -> None:
    a = np.array([0.0, -0.0, 1.0, np.nan], HALF)
    b = np.array([0.0, 0.0, 1.0, np.nan], HALF)
    b.view(np.uint16)[3] ^= 1
    one = found(a, b, bits=True)
    assert (one.unlike[0], one.unlike_at[0]) == (2, 1)
    swapped = found(a, b.astype(">f2"), bits=True)
    assert swapped.unlike[0] == 2
    turned = found(a, b, bits=True, shape=(2, 2), order="F")
    assert turned.unlike_at[0] == 2  # storage 1 and 3 are (1, 0) and (1, 1)


def test_the_baseline_is_measured_where_all_are_finite() -> None:
    a = np.array([1.0, 5.0, np.nan, 2.0], HALF)
    b = np.array([1.5, 1.0, 1.0, 2.0])
    c = np.array([1.25, np.inf, 1.0, 3.0], HALF)
    one = found(a, b, c)
    assert (one.error[0], one.own[0], one.missing[0]) == (0.5, 1.0, 1)
    none = found(a[1:3], b[1:3], c[1:3])
    assert (none.error[0], none.own[0], none.missing[0]) == (-1, -1, 1)


def test_the_floor_is_the_error_of_the_best_result() -> None:
    b = np.array([1 + 2**-12, 70000.0, np.inf, np.nan, 3 + 2**-11])
    a = np.zeros(5, HALF)
    assert found(a, b).floor[0] == 2**-11
    assert found(np.zeros(3), np.array([1.0, 2, 3], np.float32)).floor[0] == 0
    assert found(np.zeros(2, np.int8), np.array([0.25, 130.0])).floor[0] == 3
    assert found(np.zeros(1, HALF), np.full(1, np.nan)).floor[0] == -1


def test_sets_are_merged_in_any_order() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, 60)).astype(HALF)
    asked = Asked(Grid.of(np.dtype(HALF)), steps=3, faithful=True, bits=True)
    parts = [
        agreement(a[some], b[some], b[some], asked=asked, at=np.arange(60)[some], shape=(60,), order="C")
        for some in (slice(0, 20), slice(20, 40), slice(40, 60))
    ]
    whole = found(a, b, b, steps=3, faithful=True, bits=True)
    for one, two, three in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        assert merge(merge(parts[one], parts[two]), parts[three]) == whole
    law = AgreementOf([a.dtype, b.dtype], (60,), "C", asked)
    assert law.merge(whole, law.nothing(5)) == whole == law.merge(law.nothing(), whole)
