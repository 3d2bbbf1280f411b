"""Extras: what is told beside mean and deviation is the definition, for every dtype, order, partition and run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.io import ArraySource
from gncli.kernels.extras import PLACES, RECORDS, Absolute, ArgMin, Extras, WholeSum
from gncli.kernels.finish import finished, pooled
from gncli.kernels.moments import NOWHERE, MomentsOf, merge
from gncli.kernels.partition import by_axes
from gncli.run.engine import Engine
from tests.arrays import DTYPES, assert_same_moments, measured, spoiled
from tests.marks import slow_but
from tests.runs import measure

# shape, cell axes: rows, columns, short rows, narrow columns, one cell, many
CUTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((1000,), ()),
    ((3, 5, 7), (0,)),
    ((2, 3, 70, 9), (1, 3)),
    ((300, 40), (1,)),
    ((40, 300), (0,)),
    ((9, 1), (0,)),
    ((2, 9000), ()),
]


def cells(x: NDArray[Any], axes: tuple[int, ...], order: str) -> NDArray[Any]:
    """Return the elements of each cell as a row, in C order; the cells as they are stored."""
    outer = axes if order == "C" else axes[::-1]
    moved = np.moveaxis(x, outer, range(len(outer)))
    return moved.reshape(int(np.prod(moved.shape[: len(outer)], dtype=int)), -1)


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "u1", "i8", ">f4"))
@pytest.mark.parametrize("order", slow_but("CF", "F"))
def test_extras_are_the_definition(dtype: str, order: str) -> None:
    for seed, (shape, axes) in enumerate(CUTS):
        x = spoiled(shape, dtype, order, seed)
        stored = ArraySource(x).order
        found = measured(x, axes)
        columns = finished(found.settled(), x.dtype, shape, [*RECORDS, "l2"])
        rows, places = (cells(a, axes, stored) for a in (x, np.arange(x.size).reshape(shape)))
        for cell, (row, place) in enumerate(zip(rows, places, strict=True)):
            one = {name: column[cell] for name, column in columns.items()}
            finite = np.isfinite(row)
            values, at = row[finite], place[finite]
            firsts = {"first_nan": place[np.isnan(row)], "first_inf": place[np.isinf(row)]}
            if values.size:
                firsts |= {"argmin": at[[np.argmin(values)]], "argmax": at[[np.argmax(values)]]}
            for name, where in firsts.items():
                expected = tuple(map(int, np.unravel_index(where.min(), shape))) if where.size else None
                assert one[name] == expected, (name, shape, cell)
            assert_sums(one, values)


def assert_sums(one: dict[str, Any], values: NDArray[Any]) -> None:
    """Raise unless sums of integers are exact, and the others right to rounding."""
    wide = values.astype(np.longdouble)
    if values.dtype.kind in "iub":
        assert one["sum"] == sum(map(int, values.tolist()))
        assert one["l1"] == sum(abs(int(value)) for value in values.tolist())
    else:
        scale = float(np.abs(wide).sum())
        assert abs(one["sum"] - float(wide.sum())) <= 1e-15 * scale
        assert abs(one["l1"] - scale) <= 1e-14 * scale
    if values.size:
        assert one["l2"] == pytest.approx(float(np.sqrt((wide**2).sum())), rel=1e-14)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and values.size:
        native = values.astype(values.dtype.newbyteorder("="))
        wide = (native - native.min()).view(np.uint64).astype(np.longdouble)
    spread = wide - wide.mean() if wide.size else wide
    spread = spread - spread.mean() if wide.size else wide
    m2 = (spread**2).mean() if wide.size else 0
    if not m2:
        assert (one["skewness"], one["kurtosis"]) == (None, None)
        return
    assert abs(one["skewness"] - float((spread**3).mean() / m2**1.5)) < 1e-12
    assert abs(one["kurtosis"] - float((spread**4).mean() / m2**2 - 3)) < 1e-12


@pytest.mark.parametrize("dtype", slow_but(["f4", "i8", "u1", ">f8"], "f4"))
def test_no_tile_and_no_number_of_workers_changes_a_bit(dtype: str) -> None:
    for order in "CF":
        for shape, axes in (((3, 70, 90), (0,)), ((3, 70, 90), (2,)), ((200_000,), ()), ((5, 3000), ())):
            x = spoiled(shape, dtype, order)
            found = [measured(x, axes, tile, workers) for tile, workers in ((1 << 20, 1), (4096, 2), (999, 3))]
            for other in found[1:]:
                assert_same_moments(other, found[0], (shape, order))


def test_large_magnitudes_keep_their_norms() -> None:
    x = np.array([1e300, -3e300, 2e299])
    columns = finished(measured(x, ()).settled(), x.dtype, x.shape, ["l1", "l2", "sum", "skewness", "kurtosis"])
    assert columns["l1"][0] == pytest.approx(4.2e300, rel=1e-15)
    assert columns["l2"][0] == pytest.approx(np.hypot(np.hypot(1, 3), 0.2) * 1e300, rel=1e-15)
    assert columns["sum"][0] == pytest.approx(-1.8e300, rel=1e-15)
    scaled = x / 1e300
    spread = scaled - scaled.mean()
    assert columns["skewness"][0] == pytest.approx((spread**3).mean() / spread.var() ** 1.5, rel=1e-12)
    assert columns["kurtosis"][0] == pytest.approx((spread**4).mean() / spread.var() ** 2 - 3, rel=1e-12)


def test_a_spread_whose_fourth_power_underflows_has_no_kurtosis_rather_than_a_wrong_one() -> None:
    x = 2.0**-190 * (1 + np.array([1.0, 2.0, 5.0]) * 2.0**-50)
    columns = finished(measured(x, ()).settled(), x.dtype, x.shape, ["skewness", "kurtosis"])
    assert (columns["skewness"], columns["kurtosis"]) == ([None], [None])


def test_sums_of_more_than_64_bits_are_exact() -> None:
    x = np.full(9, 2**64 - 1, np.uint64)
    assert finished(measured(x, ()).settled(), x.dtype, x.shape, ["sum", "l1"])["sum"] == [9 * (2**64 - 1)]


def test_nothing_is_neutral() -> None:
    for dtype in ("f4", "i8", "u1"):
        x = spoiled((50,), dtype)
        source = ArraySource(x)
        nothing = MomentsOf(x.dtype, Extras(frozenset(RECORDS), source.shape, source.order)).nothing()
        some = measured(x, ())
        for both in (merge(nothing, some), merge(some, nothing)):
            for kind in (Absolute, WholeSum, *PLACES):
                left, right = both.asked(kind), some.asked(kind)
                assert left is right or (left is not None and right is not None and left[0] == right[0]), (dtype, kind)
        argmin = nothing.asked(ArgMin)
        assert argmin is not None
        assert argmin.argmin[0] == NOWHERE
        columns = finished(nothing, x.dtype, (0,), [*RECORDS, "l2"])
        assert (columns["sum"], columns["l1"], columns["l2"], columns["argmin"]) == ([0], [0], [0.0], [None])


def test_tensors_of_several_dtypes_are_totalled() -> None:
    parts = [np.array([2**62, 2**62 + 2]), np.array([1.5, -2.5], np.float32), np.array([True, False])]
    total, dtype = pooled([(measured(part, ()), part.dtype) for part in parts])
    wide = np.concatenate([part.astype(np.longdouble) for part in parts])
    columns = finished(total.settled(), dtype, (), ["sum", "l1", "l2"])
    assert columns["mean"][0] == pytest.approx(float(wide.mean()), rel=1e-15)
    assert columns["std"][0] == pytest.approx(float(wide.std()), rel=1e-15)
    assert columns["l1"][0] == pytest.approx(float(np.abs(wide).sum()), rel=1e-15)
    assert (columns["min"][0], columns["max"][0], total.asked(ArgMin)) == (-2.5, float(2**62), None)
    whole, dtype = pooled([(measured(part, ()), part.dtype) for part in (parts[0], parts[2])])
    columns = finished(whole.settled(), dtype, (), ["sum"])
    assert (columns["sum"][0], columns["min"][0]) == (2**63 + 3, 0)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_each_extra_alone_is_what_it_is_among_all(name: str) -> None:
    for dtype in ("f8", "i8", "u2"):
        x = spoiled((3, 700), dtype)
        source = ArraySource(x)
        with Engine(1) as engine:
            alone = measure(source, by_axes(x.shape, "C", (0,)), engine, name)
        everything = finished(measured(x, (0,)).settled(), x.dtype, x.shape, [name])
        assert finished(alone.settled(), x.dtype, x.shape, [name])[name] == everything[name]


def test_blocks_of_different_magnitude_are_merged_on_one_scale() -> None:
    x = np.random.default_rng(0).standard_normal(40_000)
    x[20_000:] *= 1e250
    wide = (x / 1e250).astype(np.longdouble)
    spread = wide - wide.mean()
    columns = finished(measured(x, ()).settled(), x.dtype, x.shape, ["l1", "skewness", "kurtosis"])
    assert columns["l1"][0] == pytest.approx(float(np.abs(wide).sum()) * 1e250, rel=1e-13)
    assert columns["kurtosis"][0] == pytest.approx(float((spread**4).mean() / (spread**2).mean() ** 2 - 3), rel=1e-12)
    assert columns["skewness"][0] == pytest.approx(float((spread**3).mean() / (spread**2).mean() ** 1.5), rel=1e-10)
