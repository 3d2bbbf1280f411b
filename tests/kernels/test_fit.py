"""`gncli.kernels.fit`: the least-squares line against exact rationals, however its pairs are cut and stored."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli.kernels.fit import Fit, FitOf, fit, merge
from gncli.kernels.reduction import each, fold
from tests.marks import slow_but

RNG = np.random.default_rng(5)


def exactly(a: NDArray[Any], b: NDArray[Any]) -> tuple[Fraction, Fraction] | None:
    """Return slope and offset of the pairs that are finite, in exact arithmetic; None where b is constant."""
    pairs = [(Fraction(x), Fraction(y)) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
             if np.isfinite(x) and np.isfinite(y)]  # fmt: skip
    n = len(pairs)
    x_mean, y_mean = (
        (Fraction(sum(values), n) if n else Fraction(0) for values in zip(*pairs, strict=True)) if n else (0, 0)
    )
    square = sum((y - y_mean) ** 2 for _, y in pairs)
    if not square:
        return None
    slope = Fraction(sum((x - x_mean) * (y - y_mean) for x, y in pairs)) / square
    return slope, x_mean - slope * y_mean


def close(found: Fit, a: NDArray[Any], b: NDArray[Any], rtol: float = 1e-12) -> None:
    """Raise unless a line is the exact one, in units of slope, and of the spread of a."""
    slope, offset = (values.ravel().tolist() for values in found.line())
    wanted = exactly(a, b)
    assert len(slope) == len(offset) == 1
    if wanted is None:
        assert np.isnan(slope[0]) and np.isnan(offset[0])
        return
    assert slope[0] == pytest.approx(float(wanted[0]), rel=rtol)
    scale = float(max(abs(Fraction(x)) for x in a.ravel().tolist() if np.isfinite(x)))
    assert abs(offset[0] - float(wanted[1])) <= rtol * max(scale, abs(float(wanted[1])))


@pytest.mark.parametrize("b_dtype", ["f2", "f4", "f8", ">f4", "i8", "u1", "?"])
@pytest.mark.parametrize("a_dtype", slow_but(["f2", ">f8", "f4", "i4"], "f4"))
@pytest.mark.parametrize("length", [1, 2, 63, 64, 200])
def test_it_is_the_exact_line_in_every_dtype(a_dtype: str, b_dtype: str, length: int) -> None:
    a, b = (RNG.integers(0, 50, (1, length)).astype(dtype) for dtype in (a_dtype, b_dtype))
    close(fit(a, b), a, b)
    columns = fit(np.stack([a, b], 2).astype("f8"), np.stack([b, a], 2).astype("f8"))
    close(each(columns, lambda field: field[:, :1]), a, b)
    close(each(columns, lambda field: field[:, 1:]), b, a)


def test_a_large_mean_costs_no_digits() -> None:
    b = RNG.normal(size=(1, 4096)) + 1e8
    a = np.rint(2.0**20 * (b - 1e8)) * 2.0**-20 * 3 + 5e9
    slope, offset = fit(a, b).line()
    wanted = exactly(a, b)
    assert wanted is not None
    assert slope[0] == pytest.approx(float(wanted[0]), rel=1e-9)  # raw sums would leave none of its digits
    assert offset[0] == pytest.approx(float(wanted[1]), rel=1e-9)


@pytest.mark.parametrize("a_power", slow_but([-1000, -300, 0, 300, 1000], -1000, 0, 1000))
@pytest.mark.parametrize("b_power", [-1000, -300, 0, 300, 1000])
def test_magnitudes_are_scaled(a_power: int, b_power: int) -> None:
    b = RNG.integers(-99, 99, (6, 100)).astype(float)
    a = np.ldexp(3 * b + RNG.integers(-9, 9, b.shape), a_power)
    b = np.ldexp(b, b_power)
    a[2], b[3], b[4:] = 0.0, 0.0, np.ldexp(b[4:], -40)  # parts of other scales, or of none
    together = fold(each(fit(a, b), lambda field: field[None]), 1, merge)
    slope, offset = (values[0] for values in together.line())
    wanted = exactly(a, b)
    assert wanted is not None
    limit = Fraction(np.finfo(float).max)
    assert slope == (pytest.approx(float(wanted[0]), rel=1e-12, abs=5e-324) if abs(wanted[0]) < limit else np.inf)
    assert offset == pytest.approx(float(wanted[1]), rel=1e-10, abs=float(np.abs(a).max()) * 1e-13)


def test_equal_tensors_lie_on_the_line_of_slope_1_and_offset_0_exactly() -> None:
    a = RNG.normal(size=(5, 300)).astype("f4")
    for values in (a, a[:, :9], a.T[None].copy()):
        slope, offset = fit(values, values).line()
        assert (slope == 1).all() and (offset == 0).all()
    (slope, offset) = fold(each(fit(a, a), lambda field: field[None]), 1, merge).line()
    assert (slope[0], offset[0]) == (1, 0)


def test_a_line_far_from_0_is_exact_where_the_mean_is_rounded() -> None:
    b = 1e15 + RNG.integers(0, 3, (1, 777)) / 8
    a = 3e15 + RNG.integers(0, 3, (1, 777)) / 2
    close(fit(a, b), a, b)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e8 / 7, -1e-300 / 3])
def test_where_there_is_no_line_it_is_undefined(value: float) -> None:
    constant, varying = np.full((1, 99), value), RNG.normal(size=(1, 99))
    united = merge(fit(constant, constant), fit(constant[:, :70], constant[:, :70]))
    assert all(np.isnan(values[0]) for values in united.line())
    assert all(np.isnan(values[0]) for values in fit(varying, constant).line())
    assert [values[0] for values in fit(constant, varying).line()] == [0.0, value]
    nothing = FitOf(np.dtype("f4"), np.dtype("f4")).nothing(3)
    assert all(np.isnan(values).all() and values.shape == (3,) for values in nothing.line())
    assert all(np.isnan(values[0]) for values in fit(varying * np.nan, varying).line())


def test_pairs_that_are_not_finite_on_one_side_do_not_count() -> None:
    a, b = RNG.integers(0, 9, (2, 1, 150)).astype(float)
    a[0, 3], b[0, 5], a[0, 7], b[0, 7], a[0, 9] = np.nan, np.inf, np.nan, np.nan, -np.inf
    close(fit(a, b), a, b)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=6), st.integers(0, 10**6))
def test_a_merge_is_the_line_of_the_union(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [(rng.integers(-9, 9, (1, length)) / 4, rng.integers(-9, 9, (1, length)) / 8) for length in lengths]
    together = fit(*parts[0])
    for part in parts[1:]:
        together = merge(together, fit(*part))
    a, b = (np.concatenate(side, axis=1) for side in zip(*parts, strict=True))
    close(together, a, b)
    law = FitOf(a.dtype, b.dtype)
    for either in (law.merge(law.nothing(), together), law.merge(together, law.nothing())):
        close(either, a, b)
