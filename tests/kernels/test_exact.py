"""Exact sums, and elements settled by exact arithmetic, against fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels.exact import GRAIN, MOST, Cell, Sums, _exact_means, _of_means, _of_rounded, exact_sums, nearest
from gncli.kernels.floats import FLOATS
from gncli.kernels.moments import MomentsOf
from gncli.kernels.partition import Axis, Partition
from gncli.kernels.plain import Factors
from gncli.kernels.proof import Proof
from gncli.kernels.reduction import Visit, concatenate, folded
from gncli.kernels.walk import Walk
from tests import exact

RNG = np.random.default_rng(11)


def spread_out(dtype: Any, power: float, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return values whose magnitudes differ by up to ``2**power``, with zeros and both signs."""
    values = RNG.normal(size=shape) * np.exp2(RNG.uniform(-power, power, shape))
    values.flat[::5] = 0.0
    with np.errstate(over="ignore"):
        return values.astype(dtype)


SUMMED: list[NDArray[Any]] = [
    RNG.integers(0, 2, (3, 40)).astype(bool),
    RNG.integers(-128, 128, (2, 70), np.int8),
    RNG.integers(-(2**31), 2**31, (2, 9000), np.int64).astype(np.int32),
    RNG.integers(-(2**63), 2**63 - 1, (2, 300), np.int64),
    RNG.integers(0, 2**64 - 1, (2, 30, 3), np.uint64).astype(">u8"),
    spread_out(np.float16, 15, (2, 50)),
    spread_out(">f4", 3, (2, 9000)),
    spread_out(np.float32, 60, (2, 2 * MOST)),
    spread_out(np.float32, 120, (2, 50, 3)),
    spread_out(np.float64, 3, (4, 50)),
    spread_out(np.float64, 500, (2, 20, 2)),
    np.array([[5e-324, -1.7e308, 1.0, np.nan, np.inf, -np.inf, -0.0]]),
    np.zeros((1, 3), np.float32),
]


@pytest.mark.parametrize("values", SUMMED, ids=lambda values: f"{values.dtype.str} {values.shape}")
def test_sums_are_exact(values: NDArray[Any]) -> None:
    first, second = exact_sums(values)
    sets = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
    exact = [[Fraction(value) for value in row if np.isfinite(value)] for row in sets.tolist()]
    assert [Fraction(int(found), 1 << GRAIN) for found in first.ravel()] == [sum(row) for row in exact]
    assert [Fraction(int(found), 1 << 2 * GRAIN) for found in second.ravel()] == [
        sum(value * value for value in row) for row in exact
    ]


@pytest.mark.parametrize("denominator", ["std", "variance"])
@pytest.mark.parametrize(
    "values", [[2**62, 2**62 + 3, 5, 7], [-(2**60), 2**60], [0.0, 5e-324, 0.0, 1e-323], [1.5, 7.0, 2.0]]
)
def test_cells_settle_what_double_double_cannot(values: list[Any], denominator: str) -> None:
    x = np.array(values)
    (first,), (second,) = exact_sums(x[None])
    cell, group = Cell(x.size, first, second, 0.0, denominator == "std"), exact.Group.of(x, 0.0, denominator)
    for gamma, beta in ((1.0, 0.0), (0.75, 1.0), (0.0, 2.0)):
        factors = Factors(np.full(x.size, gamma), np.zeros(x.size), np.full(x.size, beta))
        with np.errstate(all="ignore"):
            found = cell.settled(x, factors, FLOATS["float32"])
            assert found.tolist() == [group.rounded(value, gamma, beta, FLOATS["float32"]) for value in x]


def test_an_element_however_near_a_tie_is_decided() -> None:
    """The variance is chosen so that x / sqrt(W) differs from a tie by a part in 2**2348, on either side of it."""
    tie = Fraction((1 << 24) + 1, 1 << 24)
    spread = int(Fraction(1 << 2 * (100 + GRAIN)) / tie**2)
    for more, expected in ((0, 1 + 2.0**-23), (1, 1.0)):
        cell = Cell(n=1, first=0, second=spread + more, eps=0.0, root=True)
        found = cell.settled(np.array([2.0**100]), Factors.none(1), FLOATS["float32"])
        assert found.tolist() == [expected]
        near_zero = Factors(np.ones(1), np.zeros(1), np.array([-float(tie)]))  # 0, but for that part
        assert np.signbit(cell.settled(np.array([2.0**100]), near_zero, FLOATS["float32"])).tolist() == [more == 1]


def test_a_mean_is_known_exactly_where_its_dtype_has_it() -> None:
    sums = np.array([6 << GRAIN, 7 << GRAIN, (1 << 63) << GRAIN, 1, ((1 << 60) + 1) << GRAIN, 0], object)
    counts = np.array([4.0, 4.0, 4.0, 1.0, 1.0, 3.0])
    floats = _exact_means(sums, counts, np.dtype("f4"))
    np.testing.assert_array_equal(floats, [1.5, 1.75, 2.0**61, 5e-324, np.nan, 0.0])
    assert _exact_means(sums, counts, np.dtype("i8")).tolist() == [None, None, 1 << 61, None, (1 << 60) + 1, 0]
    assert np.isnan(_exact_means(np.array([1], object), np.ones(1) * 3, np.dtype("f8"))).all()


PARTITIONS = [
    ((True, 3), (False, 70), (True, 4)),
    ((True, 2), (False, 5), (True, 3), (False, 40), (True, 2), (False, 3)),
    ((True, 2), (False, 9), (True, 40)),
    ((True, 2), (False, 3), (False, 200)),
]
KINDS: list[Any] = [np.float32, ">f4", np.float16, np.int16, np.float64, np.int32]


@pytest.mark.parametrize("axes", PARTITIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_sums_of_cells_are_exact_however_the_tensor_is_cut(axes: tuple[tuple[bool, int], ...], kind: Any) -> None:
    sizes = [size for _, size in axes]
    values = spread_out(
        kind, 20 if np.dtype(kind).kind == "f" and np.dtype(kind).itemsize > 2 else 3, (math.prod(sizes),)
    )
    if np.dtype(kind).kind == "f":
        values[7:9] = np.nan, np.inf
    partition = Partition(tuple(Axis(cell, size) for cell, size in axes))
    order = sorted(range(len(axes)), key=lambda place: not axes[place][0])
    cells = values.reshape(sizes).transpose(order).reshape(partition.num_cells, -1)
    expected = exact_sums(cells)
    walk, law = Walk.of(partition), MomentsOf(values.dtype, Proof(None, exact=True))
    for elements in (1, 150, 1 << 20):
        visits = [
            (region, Visit(walk, region, values[region.start : region.stop], 64)) for region in walk.regions(elements)
        ]
        measured = ((region, law.measure(visit)) for region, visit in visits)
        sums = concatenate(list(folded(walk, law, measured))).asked(Sums)
        assert sums is not None
        assert (sums.first.tolist(), sums.second.tolist()) == (expected[0].tolist(), expected[1].tolist())


@pytest.mark.parametrize("root", [True, False])
def test_the_sign_and_the_relu_of_a_settled_element_are_those_of_the_exact_result(root: bool) -> None:
    x = RNG.integers(-9, 10, 40).astype(np.float32)
    first, second = (int(sums[0]) for sums in exact_sums(x[None]))
    cell, made = Cell(x.size, first, second, 1e-5, root), FLOATS["float16"]
    factors = Factors(RNG.normal(size=x.size), np.zeros(x.size), RNG.normal(size=x.size))
    y = cell.settled(x, factors, made)
    assert np.count_nonzero(y < 0) > 5 < np.count_nonzero(y > 0)
    assert [cell.sign(value, factors.at(i)) for i, value in enumerate(x)] == np.sign(y).tolist()
    assert cell.settled(x, factors, made, "relu").tolist() == np.maximum(y, 0).tolist()


def test_an_activation_of_a_mean_and_of_an_infinity() -> None:
    made, beta = FLOATS["float32"], np.array([-1.5, 0.0, 1e-60, 2.5])
    factors = Factors(np.ones(4), np.zeros(4), beta)
    found, lost = _of_means(factors, made, "relu")
    assert (found.tolist(), lost) == ([0.0, 0.0, 0.0, 2.5], 1)
    found, lost = _of_rounded(np.array([-np.inf, np.inf, np.nan, 0.5]), factors, made, "relu")
    assert (found.tolist()[:2], math.isnan(found[2]), found[3]) == ([0.0, math.inf], True, 3.0)
    assert lost == 0


@pytest.mark.parametrize("made", ["float64", "float32"])
def test_what_is_next_to_a_tie_is_rounded_to_its_side(made: str) -> None:
    kind, one = FLOATS[made], Fraction(1)
    unit, largest = Fraction(1, 2**kind.mantissa), Fraction(float(np.finfo(made).max))
    tie, end = one + unit / 2, largest * (1 + unit / 4 / (1 - unit / 2))
    for number, sides in (
        (tie, (one, one, one + unit)),
        (tie + unit, (one + unit, one + 2 * unit, one + 2 * unit)),
        (one, (one, one, one)),
        (tie + unit / 2**60, (one + unit,) * 3),
        (end, (largest, math.inf, math.inf)),
    ):
        with np.errstate(over="ignore"):
            assert [float(nearest(number, kind, side)) for side in (-1, 0, 1)] == [float(each) for each in sides]
    assert [math.copysign(1, nearest(Fraction(0), kind, side)) for side in (-1, 1)] == [-1, 1]
