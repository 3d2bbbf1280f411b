"""Moments: measured exactly enough, merged along a fixed tree, and the same to the bit however they were dealt out."""

from __future__ import annotations

import itertools
import math
import operator
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli.kernels import finish
from gncli.kernels.extras import Extras, Zeros
from gncli.kernels.moments import (
    Floats,
    Moments,
    MomentsOf,
    is_wide_integer,
    merge,
)
from gncli.kernels.partition import Axis, Partition
from gncli.kernels.plain import counted
from gncli.kernels.reduction import Tree, Visit, concatenate, each, fold, fold_axes, folded, reshape
from gncli.kernels.walk import Walk
from tests import oracle
from tests.arrays import assert_same_bits, assert_same_moments, drawn, moments_of, plain
from tests.marks import examples, slow_but

NATIVE = ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
DTYPES = (*NATIVE, ">u2", ">i4", ">i8", ">u8", ">f2", ">f4", ">f8")
OFFSETS = {"f2": (0.0, 1e2), "f4": (0.0, 1e2, 1e4, 1e6), "f8": (0.0, 1e2, 1e4, 1e6, 1e15)}
BIG = 2**62
# values of 64-bit integers, and their exact variance
INTEGERS: list[tuple[str, list[int], float]] = [
    ("i8", [BIG, BIG + 2], 1.0),
    ("i8", [-BIG, -BIG + 2], 1.0),
    ("u8", [2**64 - 3, 2**64 - 1], 1.0),
    ("i8", [-(2**63), -(2**63) + 2], 1.0),
    ("i8", [2**63 - 1] * 3, 0.0),
    ("u8", [0, 2**64 - 1], (2.0**63 - 0.5) ** 2),
    ("i8", [-(2**63), 2**63 - 1], (2.0**63 - 0.5) ** 2),
    (">i8", [BIG + 1, BIG + 1, BIG + 4], 2.0),
    (">u8", [2**63, 2**63 + 2], 1.0),
]
CONSTANTS = [0.3, -0.1, 1e-320, 5e-324, 1e300, -1.7e308, 123456.7, 0.0]
# float64 cells whose squares, or whose sum, leave float64: values, mean, standard deviation
LARGE = [
    ([1e300, 3e300], 2e300, 1e300),
    ([1.7e308, 1.7e308, 1.6e308, 1.6e308], 1.65e308, 5e306),
    ([1.7e308, -1.7e308], 0.0, 1.7e308),
    ([1e200, 0.0], 5e199, 5e199),
    ([2.0**500, 0.0], 2.0**499, 2.0**499),
    ([2.0**501, 0.0], 2.0**500, 2.0**500),
]
SIZES = st.lists(st.sampled_from((1, 2, 3, 5, 8, 33, 64, 100)), min_size=1, max_size=6).filter(
    lambda sizes: math.prod(sizes) <= 60_000
)
BUDGETS = st.sampled_from((1, 13, 100, 1000, 20_000, 1 << 30))


def of(values: Any, dtype: Any = None, **options: Any) -> Moments:
    """Return the moments of one set, of shape ()."""
    array = np.asarray(values, dtype)
    return each(quietly(array.reshape(1, -1), **options), lambda a: a[0])


def quietly(values: NDArray[Any], **options: Any) -> Moments:
    """Return what the kernel measures where, as in the engine, what is not finite is no reason for a warning."""
    with np.errstate(all="ignore"):
        return moments_of(values, **options)


def assert_right(found: Moments, expected: oracle.Expected, what: object = "") -> None:
    """Raise unless counts and extremes are exact, and means and variances right to rounding."""
    np.testing.assert_array_equal(found.n, expected.n)
    for place, (low, high) in enumerate(zip(expected.min, expected.max, strict=True)):
        assert low is None or (found.min[place].item(), found.max[place].item()) == (low, high), what
    some = expected.n > 0
    std = np.sqrt(expected.var[some])
    mean_error = np.abs(found.mean[some] - expected.mean[some])
    assert (mean_error <= 2**-53 * np.abs(expected.mean[some]) + 2**-50 * std + 5e-324).all(), (what, mean_error)
    var_error = np.abs(found.var()[some] - expected.var[some])
    assert (var_error <= 2**-46 * expected.var[some]).all(), (what, var_error)
    assert np.isnan(found.mean[~some]).all(), what
    assert np.isnan(found.var()[~some]).all(), what


# --- one block -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernel_is_the_definition_for_every_dtype_and_shape_of_a_block(dtype: str) -> None:
    for shape in ((1, 1), (3, 1), (1, 7), (5, 63), (5, 64), (2, 8192), (1, 200, 1), (3, 5, 2), (2, 1, 40), (2, 30, 9)):
        for offset in OFFSETS.get(dtype.strip(">"), (0.0,)):
            values = drawn(shape, dtype, seed=1, offset=offset)
            rows = np.moveaxis(values, 1, -1).reshape(-1, shape[1])
            found = moments_of(values)
            assert found.n.shape == (shape[0], *shape[2:])
            assert_right(reshape(found, -1).settled(), oracle.moments(rows), (dtype, shape, offset))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", ">f2", "?"])
def test_the_bits_of_a_set_do_not_depend_on_its_neighbours(dtype: str) -> None:
    for shape in ((6, 5), (6, 64), (3, 700), (4, 30, 5), (2, 256, 9), (5, 3, 1200)):
        values = drawn(shape, dtype, seed=2)
        together = quietly(values)
        for place in itertools.product(*(range(min(size, 5)) for size in (shape[0], *shape[2:]))):
            alone = values[place[0]][None]
            one = reshape(quietly(alone[..., place[1] : place[1] + 1] if len(shape) == 3 else alone), 1)
            here = each(together, operator.itemgetter(tuple(slice(at, at + 1) for at in place)))
            assert_same_moments(reshape(here, 1), one, (shape, place))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_large_mean_does_not_drown_a_small_spread(dtype: str) -> None:
    values = drawn((1, 5000), dtype, seed=3, offset=1e6)
    found = of(values)
    residuals = values[0].astype(np.float64) - found.hi  # exactly
    assert abs(math.fsum(residuals) / 5000 - found.lo) < 1e-17
    assert abs(float(found.var() / oracle.moments(values).var[0]) - 1) < 1e-14


@pytest.mark.parametrize("dtype", ["f2", "f4", "u1", "i4"])
def test_the_mean_of_narrow_values_is_the_exact_one_rounded_once(dtype: str) -> None:
    rng = np.random.default_rng(8)
    for length in (1, 5, 36, 64, 100, 2000, 8000):
        for offset in (0, 3, 1000):
            values = (rng.standard_normal((20, length)) * 30 + offset).astype(dtype)
            with np.errstate(all="ignore"):
                found = moments_of(values).settled()
            exact = [math.fsum(row) / length for row in values.astype(np.float64).tolist()]
            right = found.mean == np.array(exact)
            assert right.mean() > 0.9, (length, offset)  # `fsum / length` rounds twice
            np.testing.assert_allclose(found.mean, exact, rtol=2.0**-52)
            sums = finish.total(found).tolist()
            assert sums == [math.fsum(row) for row in values.astype(np.float64).tolist()]


def test_float16_whose_squares_overflow_has_a_deviation() -> None:
    values = np.array([60000.0, -60000.0] * 50, np.float16)
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(values.std())
    found = of(values)
    assert plain(found.mean, found.std()) == (0.0, 60000.0)


@pytest.mark.parametrize(("dtype", "values", "var"), INTEGERS)
def test_64_bit_integers_are_shifted_before_they_are_widened(dtype: str, values: list[int], var: float) -> None:
    for found in (of(values, dtype), reduce(merge, [of([value], dtype) for value in values])):
        assert found.var() == var
        assert (found.min.item(), found.max.item()) == (min(values), max(values))
        assert found.min.dtype.str == np.dtype(dtype).newbyteorder("=").str
        assert found.settled().mean == pytest.approx(sum(values) / len(values), rel=2**-52, abs=math.sqrt(var) * 2**-52)


def test_only_64_bit_integers_are_wide() -> None:
    assert [dtype for dtype in DTYPES if is_wide_integer(np.dtype(dtype))] == ["u8", "i8", ">i8", ">u8"]


@pytest.mark.parametrize("value", CONSTANTS)
def test_a_constant_is_its_own_mean_and_has_no_spread(value: float) -> None:
    for count in (1, 3, 7, 10, 1000):
        found = of([value] * count, "f8").settled()
        assert plain(found.mean, found.var(), found.std()) == (value, 0.0, 0.0)
        assert plain(found.lo, found.m2, found.n) == (0.0, 0.0, count)


def test_settling_changes_constant_sets_alone() -> None:
    values = np.array([[0.3] * 10, [0.3] * 9 + [0.4]])
    found = quietly(values)
    settled = found.settled()
    assert found.lo[0] != 0
    assert_same_moments(each(settled, lambda a: a[1:]), each(found, lambda a: a[1:]))
    assert (settled.hi[0], settled.lo[0], settled.m2[0]) == (0.3, 0.0, 0.0)
    nothing_constant = each(found, lambda a: a[1:])
    assert nothing_constant.settled() is nothing_constant


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_settled_64_bit_constants_have_no_distance_from_their_base(dtype: str) -> None:
    found = of([7] * 5, dtype).settled()
    assert plain(found.hi, found.lo, found.mean, found.min.item()) == (0.0, 0.0, 7.0, 7)


@pytest.mark.parametrize(("values", "mean", "std"), LARGE)
def test_large_magnitudes_have_a_mean_and_a_deviation(values: list[float], mean: float, std: float) -> None:
    with np.errstate(all="ignore"):
        for found in (
            of(values),
            reduce(merge, [of([v]) for v in values]),
            reduce(merge, [of([v]) for v in values[::-1]]),
        ):
            assert found.mean == pytest.approx(mean, rel=1e-15)
            assert found.std() == pytest.approx(std, rel=1e-14)
            assert plain(found.min, found.max) == (min(values), max(values))
            assert found.finite


def test_a_variance_that_leaves_float64_is_infinite_and_the_deviation_is_not() -> None:
    found = of([1e300, 3e300])
    assert plain(found.var(), found.std()) == (np.inf, pytest.approx(1e300, rel=1e-15))


def test_only_cells_beyond_2_to_the_200_are_scaled() -> None:
    values = drawn((3, 100), "f8", seed=4)
    scaled = values.copy()
    scaled[1] *= 2.0**600
    plain, found = quietly(values), quietly(scaled)
    assert plain.power is None
    assert found.power is not None
    assert found.power[0] == found.power[2] == 0 < found.power[1]
    for row in (0, 2):
        assert_same_moments(each(plain, operator.itemgetter(row)), each(found, operator.itemgetter(row)))
    assert found.std()[1] == plain.std()[1] * 2.0**600


# --- what is not finite, and nothing at all --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_counted_and_skipped_and_changes_no_other_cell(dtype: str, bad: float) -> None:
    for shape in ((3, 5), (3, 80), (3, 8, 4)):
        values = drawn(shape, dtype, seed=5, offset=10)
        plain = quietly(values)
        rows = np.moveaxis(values, 1, -1).reshape(-1, shape[1])
        rows = rows.copy()
        rows[1, 2] = bad
        poisoned = np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
        found = reshape(quietly(poisoned), -1)
        assert_right(found, oracle.moments(rows), (dtype, shape))
        assert [found.number(name).sum() for name in ("nan", "posinf", "neginf")] == [
            bad != bad,
            bad == np.inf,
            bad == -np.inf,
        ]
        assert found.finite.tolist() == [cell != 1 for cell in range(found.n.size)]
        assert (found.values == shape[1]).all()
        for cell in set(range(found.n.size)) - {1}:
            assert_same_moments(
                each(reshape(plain, -1), operator.itemgetter(cell)),
                each(found, operator.itemgetter(cell)),
            )


def test_finite_values_whose_sum_overflows_are_finite() -> None:
    found = of([1.7e308] * 100)
    assert found.finite
    assert found.settled().mean == 1.7e308


def test_a_cell_without_finite_values_has_no_mean_and_does_not_disturb_others() -> None:
    nothing = of([math.nan, math.inf])
    assert plain(nothing.n, nothing.values) == (0.0, 2.0)
    assert math.isnan(float(nothing.mean))
    assert plain(nothing.min, nothing.max) == (math.inf, -math.inf)
    some = of([0.1, 0.2, 0.7])
    for both in (merge(nothing, some), merge(some, nothing)):
        assert plain(both.hi, both.lo, both.m2, both.n, both.values) == (some.hi, some.lo, some.m2, 3.0, 5.0)
    assert merge(nothing, nothing).n == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_the_neutral_element(dtype: str) -> None:
    nothing = MomentsOf(np.dtype(dtype)).nothing()
    assert math.isnan(nothing.mean.item())
    assert math.isnan(nothing.std().item())
    assert not nothing.constant.any()
    assert nothing.finite.all()
    assert nothing.settled() is nothing
    values = drawn((1, 9), dtype, seed=6)
    some = quietly(values)
    if not is_wide_integer(np.dtype(dtype)):  # there nothing has a base of its own
        assert_same_moments(merge(some, nothing), some)
        assert_same_moments(merge(nothing, some), some)


def test_single_values_are_sets_of_one_and_those_that_are_not_finite_are_counted() -> None:
    found = fold(Moments.of_values(np.array([1.5, math.nan, math.inf, 2.5])), 0, merge)
    assert plain(found.n, found.mean, found.var(), found.min, found.max, found.number("nan")) == (
        2,
        2.0,
        0.25,
        1.5,
        2.5,
        2,
    )
    assert found.number("posinf") == 0


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e200, 1e308])
def test_single_values_of_any_magnitude_have_a_deviation(scale: float) -> None:
    found = fold(Moments.of_values(np.array([-1.0, 0.25, 1.0, -0.25]) * scale), 0, merge)
    assert abs(found.mean) <= 1e-16 * scale
    assert found.std() == pytest.approx(math.sqrt(17 / 32) * scale if scale > 1e-200 else 0.0, rel=1e-14)


def test_the_degrees_of_freedom_are_taken_from_the_number_of_values() -> None:
    found = of([1.0, 2.0, 6.0])
    assert plain(found.var(0), found.var(1)) == (14 / 3, 7.0)
    assert found.std(1) == math.sqrt(7.0)
    one = of([5.0])
    assert one.var() == 0.0
    assert math.isnan(float(one.var(1)))
    assert math.isnan(float(one.std(1)))


def test_zeros_are_counted_where_they_are_asked_for() -> None:
    values = np.array([[0.0, -0.0, math.nan, 1.0], [2.0, 2.0, 2.0, 2.0]])
    walk = Walk.of(Partition((Axis(True, 2), Axis(False, 4))))
    (region,) = walk.regions(8)
    visit = Visit(walk, region, values.reshape(-1), 8)
    with np.errstate(all="ignore"):
        found = MomentsOf(values.dtype, Extras(frozenset({"zeros"}), values.shape)).measure(visit)
        assert MomentsOf(values.dtype).measure(visit).asked(Zeros) is None
    zeros, twice = found.asked(Zeros), merge(found, found).asked(Zeros)
    assert zeros is not None
    assert twice is not None
    assert (zeros.zeros.tolist(), twice.zeros.tolist()) == ([2.0, 0.0], [4.0, 0.0])


def test_a_mean_that_is_known_to_be_nearly_0_gives_the_same_moments_to_rounding() -> None:
    values = drawn((3, 8000), "f4", seed=7)
    values -= values.mean(axis=1, keepdims=True)
    plain = quietly(values)
    found = quietly(values, about_zero=True)
    assert (found.hi == 0).all()
    np.testing.assert_allclose(found.mean, plain.mean, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.var(), plain.var(), rtol=1e-14)


def test_a_mean_of_nearly_0_leaves_out_what_is_not_finite() -> None:
    found = quietly(np.array([[1.0, -1.0, math.nan, math.inf]]), about_zero=True)
    assert (found.n[0], found.mean[0], found.var()[0]) == (2.0, 0.0, 1.0)


# --- merging ---------------------------------------------------------------------------------------------------------


def parts_of(dtype: str, seed: int, sizes: list[int], offset: float) -> tuple[list[Moments], NDArray[Any]]:
    values = drawn(sum(sizes), dtype, seed=seed, offset=offset)
    return [of(part) for part in np.split(values, np.cumsum(sizes)[:-1])], values


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=examples(100))
@given(
    st.sampled_from(("f4", "f8", "i8", "u8", "u1")),
    st.integers(0, 1000),
    st.tuples(*[st.integers(1, 50)] * 3),
    st.sampled_from((0.0, 1e4, 1e6)),
)
def test_merging_is_commutative_and_associative_to_rounding(
    dtype: str, seed: int, sizes: tuple[int, int, int], offset: float
) -> None:
    (a, b, c), values = parts_of(dtype, seed, list(sizes), offset)
    expected = oracle.moments(values[None])
    for found in (merge(merge(a, b), c), merge(a, merge(b, c)), merge(merge(c, a), b), merge(b, merge(c, a))):
        assert_right(reshape(found, 1), expected, (dtype, seed, sizes))


@settings(derandomize=True, deadline=None, max_examples=examples(60))
@given(st.integers(1, 70), st.sampled_from(("f8", "i8", "f4")), st.integers(0, 3))
def test_a_tree_gives_the_bits_of_a_fold_also_from_nodes_of_a_power_of_two(count: int, dtype: str, level: int) -> None:
    values = drawn((count, 10), dtype, seed=count, offset=1e3)
    leaves = quietly(values)
    tree = Tree(merge)
    for start in range(0, count, 1 << level):
        tree.push(fold(each(leaves, operator.itemgetter(slice(start, start + (1 << level)))), 0, merge))
    total = tree.total()
    assert total is not None
    assert_same_moments(total, fold(leaves, 0, merge))


def test_a_tree_without_nodes_has_no_total() -> None:
    assert Tree(merge).total() is None


def test_a_fold_over_any_axis_is_the_fold_over_the_first() -> None:
    values = drawn((5, 7, 6, 3), "f8", seed=8)
    found = reshape(moments_of(np.moveaxis(values, 3, 1).reshape(5, 3, 42)), 5, 7, 6)
    for axis in (1, 2):
        moved = each(found, partial(np.moveaxis, source=axis, destination=0))
        assert_same_moments(fold(found, axis, merge), fold(moved, 0, merge))


def test_folding_axes_leaves_the_cells() -> None:
    values = drawn((2, 3, 4, 5), "f8", seed=9)
    found = Moments.of_values(values)
    axes = [Axis(True, 2), Axis(False, 3), Axis(True, 4), Axis(False, 5)]
    left = fold_axes(found, axes, merge)
    np.testing.assert_allclose(left.mean, values.mean(axis=(1, 3)).reshape(-1), rtol=1e-14, atol=1e-15)
    reduced = [Axis(False, 2), *axes[1:]]
    assert fold_axes(found, reduced, merge).n.tolist() == [15.0] * 8
    assert fold_axes(found, reduced, merge, keep_first=False).n.tolist() == [30.0] * 4


def test_moments_one_after_the_other_keep_counts_that_only_some_of_them_have() -> None:
    clean, poisoned = reshape(of([1.0, 2.0]), 1), reshape(of([math.nan, 3.0]), 1)
    joined = concatenate([clean, poisoned])
    assert joined.number("nan").tolist() == [0.0, 1.0]
    assert joined.posinf is not None
    assert joined.power is None
    assert concatenate([clean]) is clean
    big = reshape(of([1e300, 2e300]), 1)
    powers = concatenate([clean, big]).power
    assert powers is not None
    assert powers.dtype == np.int32
    assert powers[0] == 0 < powers[1]


# --- any partition, any tile, any visit ------------------------------------------------------------------------------


def measured(values: NDArray[Any], axes: tuple[Axis, ...], tile: int, visit: int, by_span: bool = False) -> Moments:
    """Return the moments of each cell, measured visit by visit, over all spans at once or span by span."""
    walk = Walk.of(Partition(axes))
    law = MomentsOf(values.dtype, Extras(frozenset({"zeros"}), values.shape))
    flat, found = values.reshape(-1), list[Moments]()
    spans = [range(span, span + 1) for span in range(walk.units[0].size)] if by_span and walk.cut(visit) else [None]
    with np.errstate(all="ignore"):
        for some in spans:
            regions = list(walk.regions(visit, some))
            visits = ((r, law.measure(Visit(walk, r, flat[r.start : r.stop], tile))) for r in regions)
            found += folded(walk, law, visits)
    return law.concatenate(found)


def alternation(sizes: list[int], first_is_cell: bool) -> tuple[Axis, ...]:
    axes = [Axis((place % 2 == 0) == first_is_cell, size) for place, size in enumerate(sizes)]
    return tuple(axes if first_is_cell else [Axis(True, 1), *axes])


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_the_mean_of_wide_integers_is_rounded_once(dtype: str) -> None:
    for seed in range(20):
        rows = drawn((66, 2), dtype, seed=seed)
        for (a, b), mean in zip(rows.tolist(), quietly(rows).settled().mean.tolist(), strict=True):
            assert abs(int(mean) - (a + b) // 2) <= abs(a + b) // 2**54 + abs(a - b) // 2**51 + 1, (a, b, mean)


@pytest.mark.parametrize("base", [-40, -2048, 0, BIG + 1])
def test_a_mean_of_wide_integers_less_an_origin_is_rounded_once(base: int) -> None:
    values = [base, base + 3, base + 97]
    found = of(values, "i8").settled()
    for origin in (0.0, 0.5, float(base)):
        exact = Fraction(sum(values), 3) - Fraction(origin)
        assert abs(Fraction(float(found.less(np.array(origin)))) - exact) <= abs(exact) / 2**52, origin


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=examples(250))
@given(SIZES, st.booleans(), st.sampled_from(DTYPES), st.integers(0, 9), st.data())
def test_any_partition_gives_the_definition_and_the_same_bits_for_any_tile_and_visit(
    sizes: list[int], first_is_cell: bool, dtype: str, seed: int, data: st.DataObject
) -> None:
    axes = alternation(sizes, first_is_cell)
    values = drawn([axis.size for axis in axes], dtype, seed=seed, offset=100)
    if values.dtype.kind == "f" and seed % 3 == 0:
        values.reshape(-1)[:: max(1, values.size // 3)] = (math.nan, math.inf, -math.inf)[seed // 3 % 3]
    cells = [place for place, axis in enumerate(axes) if axis.cell]
    num_cells = math.prod(axes[place].size for place in cells)
    rows = np.moveaxis(values, cells, range(len(cells))).reshape(num_cells, -1)
    found = measured(values, axes, 1 << 30, 1 << 30)
    assert_right(found.settled(), oracle.moments(rows), (sizes, dtype))
    zeros = found.asked(Zeros)
    assert zeros is not None
    np.testing.assert_array_equal(zeros.zeros, (rows == 0).sum(axis=1))
    for tile, visit in data.draw(st.lists(st.tuples(BUDGETS, BUDGETS), min_size=2, max_size=2)):
        assert_same_moments(measured(values, axes, tile, visit), found, (sizes, tile, visit))
        assert_same_moments(measured(values, axes, tile, visit, by_span=True), found, (sizes, tile, visit))


# A block of rows, of columns, folded columns, wide columns in strips with one column left over, and many blocks.
LONG = [
    (3, 100_000),
    (3, 8209),
    (5, 16_411),
    (4, 521, 3),
    (1, 70_001),
    (2, 20_000, 5),
    (1, 997, 8),
    (1, 300, 2049),
    (2, 513, 1025),
    (3, 9000, 2, 4, 2),
]


@pytest.mark.parametrize("sizes", LONG, ids=str)
@pytest.mark.parametrize("dtype", slow_but(["f4", "f8", "i8"], "f4"))
def test_many_blocks_give_the_same_bits_for_any_tile_and_visit(sizes: tuple[int, ...], dtype: str) -> None:
    axes = alternation(list(sizes), True)
    values = drawn(sizes, dtype, seed=11, offset=1e4)
    found = measured(values, axes, 1 << 30, 1 << 30)
    for tile, visit in ((1, 1), (25, 250), (3000, 9000), (16_384, 16_384), (100_000, 1 << 30), (1 << 30, 50_000)):
        assert_same_moments(measured(values, axes, tile, visit), found, (sizes, tile, visit))
    cells = [place for place, axis in enumerate(axes) if axis.cell]
    rows = np.moveaxis(values, cells, range(len(cells))).reshape(found.n.size, -1)
    assert_right(found, oracle.moments(rows), sizes)


def test_a_visit_of_one_span_is_the_moments_of_its_cells() -> None:
    values: Floats = np.arange(24.0)
    walk = Walk.of(Partition(alternation([4, 6], True)))
    regions = list(walk.regions(6))
    assert len(regions) == 4
    found = [MomentsOf(values.dtype).measure(Visit(walk, r, values[r.start : r.stop], 100)) for r in regions]
    assert [m.mean.tolist() for m in found] == [[2.5], [8.5], [14.5], [20.5]]
    assert reduce(operator.add, (m.n.item() for m in found)) == 24
    assert_same_bits(concatenate(found).mean, np.array([2.5, 8.5, 14.5, 20.5]))


@pytest.mark.parametrize(
    "shape", [(3, 8), (2, 7168), (5, 49), (1, 8192), (2, 3, 4), (2, 255, 7), (1, 256, 9), (2, 600, 3)]
)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_is_counted_is_what_there_is(shape: tuple[int, ...], share: float) -> None:
    which = np.random.default_rng(0).random(shape) < share
    for some in (which, np.asfortranarray(which)):
        assert_same_bits(counted(some), np.count_nonzero(which, axis=1).astype(np.float64))
