"""Exact sums of deviations by limbs: every body of native.c against plain.py, and against fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels import plain
from gncli.kernels.limbs import LAST, Limbs, cell_limbs, center, digits_of, halves, integers, merge
from gncli.kernels.loops import Loops
from gncli.kernels.moments import Moments, MomentsOf
from gncli.kernels.partition import Axis, Partition
from gncli.kernels.reduction import Visit, fold
from gncli.kernels.walk import Walk
from tests.arrays import DTYPES, hostile
from tests.marks import slow_but

RNG = np.random.default_rng(17)
ROWS: list[NDArray[Any]] = [
    *(RNG.normal(size=(3, length)) for length in (1, 2, 7, 64, 300)),
    RNG.normal(size=(1, 8192)),
    RNG.normal(size=(70, 5)),  # more short rows than lanes
    RNG.normal(size=(2, 90)) + 1e6,
    RNG.normal(size=(2, 90)) * 1e-3 + 1e12,
    RNG.normal(size=(2, 90)) * 1e50,
    RNG.normal(size=(2, 90)).astype(np.float16),
    RNG.normal(size=(2, 90)).astype(">f4"),
    RNG.integers(-128, 128, (2, 200), np.int8),
    RNG.integers(0, 2**53, (2, 70)).astype(np.float64),
    np.full((1, 8192), 1 - 2.0**-53),
    np.concatenate([np.full((1, 200), 1.0), np.full((1, 1), 2.0)], axis=1),
    np.array([[0.0, -0.0, 0.0, 1.0]]),
    np.full((2, 3), 0.3),
]
LATE: list[NDArray[Any]] = [
    np.array([[1.0, -1.0, 2.0**-90]]),  # a digit below the last one
    np.array([[1.0, np.nan, 2.0]]),
    np.array([[1.0, -np.inf, 2.0]]),
]


def centers(values: NDArray[Any], *, about_zero: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the center and the unit of each row."""
    finite = np.where(np.isfinite(values), values, 1.0).astype(np.float64)
    none = np.zeros(len(values))
    low, high = finite.min(axis=1), finite.max(axis=1)
    return center(Moments(none + 1, finite.mean(axis=1), none, none, low, high), about_zero=about_zero)


def moments_of(hi: float, lo: float, low: float, high: float) -> Moments:
    """Return the moments of one cell, as far as its center follows from them."""
    one = np.ones(1)
    return Moments(one, one * hi, one * lo, one, one * low, one * high)


def held(sums: Limbs, place: int, row: NDArray[Any], middle: float, unit: float) -> None:
    """Hold the sums of a row to fractions."""
    step = Fraction(unit) / 2**LAST
    exact_deviations = [(Fraction(value) - Fraction(middle)) / step for value in row.tolist()]
    deviations = [value.numerator for value in exact_deviations]
    assert all(value.denominator == 1 for value in exact_deviations)
    assert integers(sums.first)[place] == sum(deviations)
    assert integers(sums.second)[place] == sum(value * value for value in deviations)


@pytest.mark.parametrize("about_zero", slow_but([False, True], False))
@pytest.mark.parametrize("values", ROWS, ids=lambda values: f"{values.dtype.str} {values.shape}")
def test_sums_of_rows_and_columns_are_exact(each: Loops, values: NDArray[Any], about_zero: bool) -> None:
    middle, unit = centers(values, about_zero=about_zero)
    found, late = each.limbs(values, middle, unit)
    assert not late.any()
    for place in {0, len(values) - 1}:
        held(Limbs.of(found, late), place, values[place], float(middle[place]), float(unit[place]))
    for part in (np.asfortranarray(values), values[:, ::-1]):
        again, _ = each.limbs(part, middle, unit)
        assert again.tolist() == found.tolist()
    for columns in (1, 3, 70):
        whole = np.stack([np.roll(values[:, :200], shift, axis=1) for shift in range(columns)], axis=2)
        wide = [np.repeat(own[:, None], columns, axis=1) for own in (middle, unit)]
        found, late = each.limbs(whole, *wide)
        assert found.tolist() == plain.limbs(whole, *wide)[0].tolist()
        assert not late.any()
        sums = Limbs._make(part[0] for part in Limbs.of(found, late))
        held(sums, columns - 1, whole[0, :, -1], float(middle[0]), float(unit[0]))


@pytest.mark.parametrize("values", LATE, ids=str)
def test_sums_are_late_where_digits_are_missing(each: Loops, values: NDArray[Any]) -> None:
    middle, unit = centers(values)
    whole = np.concatenate([np.tile(values[:, :1], 9000), values], axis=1)  # more rows than C takes
    with np.errstate(invalid="ignore"):
        for part, own in (
            (values, (middle, unit)),
            (values[..., None], (middle[:, None], unit[:, None])),
            (whole, (middle, unit)),
        ):
            found, late = each.limbs(part, *own)
            assert late.all()
            assert not found.any()


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype[1:] not in ("u8", "i8") and dtype != "?"])
def test_every_body_finds_what_plain_finds(body: Loops, dtype: str) -> None:
    rng = np.random.default_rng(3)
    for shape in ((1, 1), (3, 63), (2, 1000), (90, 7), (3, 40, 5), (2, 9, 130)):
        values = hostile(rng, dtype, shape)
        where = (shape[0], *shape[2:])
        wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        unit = np.exp2(np.clip(np.frexp(np.abs(wide).max(axis=1))[1] - 20.0, -500, 500)).reshape(where)
        middle = np.rint(wide.mean(axis=1).reshape(where) / unit) * unit
        near = np.abs(wide - middle.reshape(shape[0], 1, *shape[2:])).max(axis=1).reshape(where) <= unit * 2.0**21
        middle = np.where(near, middle, np.nan)  # as of cells that are scaled
        with np.errstate(all="ignore"):
            found, expected = body.limbs(values, middle, unit), plain.limbs(values, middle, unit)
        assert [part.tolist() for part in found] == [part.tolist() for part in expected]


def test_a_value_next_to_half_a_unit_loses_no_digit(each: Loops) -> None:
    """Less an odd center it would be a tie that goes to 1; then what is left of it, -(0.5 + 2**-54), is no float64."""
    low, high = 0.5 - 2.0**-54, 2.0**21  # units
    values = np.array([[low, high, 1.0, high]])
    for mean in (2.0**20 + 1.0, 2.0**20 - 1.0, 2.0**20 + 0.9):
        moments = moments_of(mean, 0.0, low, high)
        middle, unit = center(moments, about_zero=False)
        assert unit == 1.0
        found, late = each.limbs(values, middle, unit)
        assert not late.any()
        held(Limbs.of(found, late), 0, values[0], float(middle[0]), 1.0)


def test_the_center_is_next_to_the_mean_wherever_its_upper_half_is() -> None:
    moments = moments_of(1e3, -999.5, 0.0, 2.0)
    middle, unit = center(moments, about_zero=False)
    assert abs(middle[0] - 0.5) <= unit[0] < 2.0**-18
    middle, unit = center(moments, about_zero=True)
    assert (middle[0], unit[0]) == (0.0, 2.0**-19)


def test_digits_are_those_of_the_number() -> None:
    rng = np.random.default_rng(2)
    for number in (0, 1, -1, 1 << 130, -(1 << 130) - 5, *(int(n) << 70 for n in rng.integers(-(2**60), 2**60, 20))):
        digits = [np.array([digit]) for digit in digits_of(number, 4)]
        assert integers(digits).tolist() == [number]
        high, low = (Fraction(float(half[0])) for half in halves(digits, -7))
        assert abs(high + low - Fraction(number, 128)) <= Fraction(abs(number), 128) / 2**104


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u8", ">i8"])
@pytest.mark.parametrize(
    "axes",
    [
        ((True, 4), (False, 70), (True, 4)),
        ((True, 2), (False, 5), (True, 3), (False, 40), (True, 2), (False, 3)),
        ((True, 2), (False, 9000)),
        ((True, 64), (False, 2)),
    ],
    ids=str,
)
def test_the_sums_of_cells_are_exact_however_a_visit_is_cut(axes: tuple[tuple[bool, int], ...], dtype: str) -> None:
    sizes = [size for _, size in axes]
    values = np.round(RNG.normal(size=math.prod(sizes)) * 2.0**40).astype(dtype)
    if values.dtype.kind in "iu":
        values = values - values.min() + np.iinfo(values.dtype).max // 2
    partition = Partition(tuple(Axis(cell, size) for cell, size in axes))
    walk = Walk.of(partition)
    (region,) = walk.regions(values.size)
    order = sorted(range(len(axes)), key=lambda place: not axes[place][0])
    rows = values.reshape(sizes).transpose(order).reshape(partition.num_cells, -1)
    records = []
    for tile in (64, 5000, values.size):
        visit = Visit(walk, region, values, tile)
        cells = MomentsOf(values.dtype).measure(visit)
        middle, unit = center(cells, about_zero=False)
        records.append(cell_limbs(visit, cells, middle, unit))
        assert [part.tolist() for part in records[-1]] == [part.tolist() for part in records[0]]
    assert not records[0].late.any()
    for place in (0, partition.num_cells - 1):
        row = rows[place] - cells.min[place] if values.dtype.kind in "iu" else rows[place]
        held(records[0], place, row, float(middle[place]), float(unit[place]))


def test_sums_of_cells_are_late_where_float64_does_not_hold_the_differences_or_the_cell_is_scaled() -> None:
    walk = Walk.of(Partition((Axis(True, 2), Axis(False, 3))))
    (region,) = walk.regions(6)
    for values, late in (
        (np.array([0, 1 << 53, 5, 0, (1 << 53) - 1, 5]), [True, False]),
        (np.array([1e-200, 2e-200, 3e-200, 1.0, 2.0, 3.0]), [True, False]),
        (np.array([1e300, 2e300, 3e300, 1.0, 2.0, 3.0]), [True, False]),
    ):
        visit = Visit(walk, region, values, 64)
        cells = MomentsOf(values.dtype).measure(visit)
        with np.errstate(invalid="ignore"):
            found = cell_limbs(visit, cells, *center(cells, about_zero=False))
        assert found.late.tolist() == late


def test_unions_have_the_sums_of_their_parts_in_any_order() -> None:
    values = RNG.normal(size=(5, 300))
    middle, unit = (np.repeat(own, 5) for own in centers(values.reshape(1, -1)))
    sums = Limbs.of(*plain.limbs(values, middle, unit))
    whole = fold(sums, 0, merge)
    back = fold(Limbs._make(part[::-1] for part in sums), 0, merge)
    for union in (whole, back):
        assert [part.tolist() for part in union] == [part.tolist() for part in whole]
        held(Limbs._make(part[None] for part in union), 0, values.ravel(), float(middle[0]), float(unit[0]))
