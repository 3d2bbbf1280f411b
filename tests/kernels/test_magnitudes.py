"""float64 of any magnitude: statistics and results against exact rationals, rounded to 60 digits."""

from __future__ import annotations

import decimal
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels import plain
from gncli.kernels.finish import finished
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import DENOMINATORS, GroupNorm, check, factor, standardization
from gncli.kernels.loops import loops
from gncli.kernels.moments import (
    Moments,
    merge,
)
from gncli.kernels.plain import Standardization
from gncli.run.engine import Engine
from tests.arrays import measured, moments_of, normalized
from tests.marks import slow_but

SCALES = [5e-324, 1e-310, 1e-300, 1e-200, 1e-170, 1e-162, 1e-100, 1e-75, 1.0, 1e75, 1e100, 1e150, 1e200, 3e307]
TINY = 5e-324
LARGEST = sys.float_info.max
HIGHER = ("l1", "l2", "skewness", "kurtosis", "sum")


def decimals(value: Fraction) -> Decimal:
    """Return `value` to 60 digits."""
    return Decimal(value.numerator) / value.denominator


class Exact:
    """The statistics of values as they are defined."""

    def __init__(self, values: NDArray[Any]) -> None:
        n, counts = values.size, {Fraction(v): count for v, count in Counter(values.reshape(-1).tolist()).items()}

        def total(of: Callable[[Fraction], Fraction]) -> Fraction:
            return sum((count * of(value) for value, count in counts.items()), Fraction(0))

        mean = total(lambda value: value) / n
        second, third, fourth = (total(lambda value, p=p: (value - mean) ** p) / n for p in (2, 3, 4))  # type: ignore[misc]
        with decimal.localcontext(prec=60):
            self.mean, self.var, self.std = decimals(mean), decimals(second), decimals(second).sqrt()
            self.sum, self.l1 = decimals(mean * n), decimals(total(abs))
            self.l2 = decimals(total(lambda value: value**2)).sqrt()
            self.skewness = decimals(third) / (self.var * self.std)
            self.kurtosis = decimals(fourth / second**2 - 3)
            self.gaps = [decimals(Fraction(value) - mean) for value in values.reshape(-1).tolist()]

    def normalized(self, eps: float, denominator: str) -> list[Decimal]:
        """Return the formula's values."""
        with decimal.localcontext(prec=60):
            total = self.var + Decimal(eps)
            return [gap / (total.sqrt() if denominator == "std" else total) for gap in self.gaps]


def magnitudes(scale: float) -> dict[str, NDArray[Any]]:
    """Return values of this scale: in one block or several, beside zeros, and beside others that are smaller."""
    rng = np.random.default_rng(7)
    few = np.array([1.0, -2.0, 5.0, 1.0, 0.0, 3.0])
    many = np.round(rng.standard_normal(9000) * 8) / 8 if scale > 1e-320 else rng.integers(-3, 9, 9000) * 1.0
    sparse, mixed = np.zeros(25_000), many.copy()
    sparse[-3:] = [1.0, 2.0, 4.0]
    mixed[:8192] *= 2.0**-40
    return {"few": few * scale, "many": many * scale, "sparse": sparse * scale, "mixed": mixed * scale}


def near(found: Any, exact: Decimal, error: Decimal) -> bool:
    """Return whether `found` is `exact` to within `error`, and is None or infinite only where that leaves float64."""
    if abs(exact) > Decimal(LARGEST) * (1 - Decimal("1e-9")):
        return found is None or math.isinf(found)
    return found is not None and abs(Decimal(found) - exact) <= error


@pytest.mark.parametrize("scale", slow_but(SCALES, SCALES[0], 1.0, SCALES[-1]))
@pytest.mark.parametrize("kind", slow_but(["few", "many", "sparse", "mixed"], "mixed"))
def test_statistics_are_right_at_any_magnitude(kind: str, scale: float) -> None:
    x = magnitudes(scale)[kind]
    for values in (x, x[::-1].copy()):
        exact = Exact(values)
        columns = finished(measured(values, ()).settled(), x.dtype, x.shape, HIGHER)
        found = {name: column[0] for name, column in columns.items()}
        u, least = Decimal(2.0**-53), Decimal(TINY)
        assert near(found["mean"], exact.mean, u * abs(exact.mean) + 8 * u * exact.std + least)
        assert near(found["sum"], exact.sum, u * abs(exact.sum) + x.size * (8 * u * exact.std + least))
        assert near(found["std"], exact.std, 64 * u * exact.std + least)
        assert near(found["var"], exact.var, 128 * u * exact.var + least)
        assert near(found["l1"], exact.l1, 64 * u * exact.l1 + least)
        assert near(found["l2"], exact.l2, 64 * u * exact.l2 + least)
        assert near(found["skewness"], exact.skewness, 10**4 * u * (1 + abs(exact.skewness)))
        assert near(found["kurtosis"], exact.kurtosis, 10**4 * u * (3 + abs(exact.kurtosis)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("eps", slow_but([0.0, TINY, 1e-300, 1e-5, 1e300], 0.0, 1e-5))
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_results_are_right_at_any_magnitude_and_the_check_says_so(denominator: str, eps: float, scale: float) -> None:
    x = np.stack([magnitudes(scale)["few"], np.arange(6.0), np.zeros(6), np.full(6, scale)])
    exact = [Exact(row).normalized(eps, denominator) for row in x[:2]]
    largest = max(abs(value) for row in exact for value in row)
    for dtype in ("f8", "f4"):
        with Engine(1) as engine:
            y, outcome = normalized(x[:, None], 1, "NCL", engine, eps=eps, denominator=denominator, dtype=dtype)
        if largest > Decimal(float(np.finfo(dtype).max)):
            continue
        assert outcome.check.ok, outcome.check
        assert outcome.check.constant_groups == 2
        assert not y[2:].any()
        for row, expected in zip(y[:2, 0], exact, strict=True):
            unit = Decimal(float(np.finfo(dtype).eps)) * max(map(abs, expected))
            least = Decimal(float(np.finfo(dtype).smallest_subnormal))
            for value, right in zip(row.tolist(), expected, strict=True):
                assert abs(Decimal(value) - right) <= 2 * unit + 2 * least


def test_the_check_fails_where_values_differ_and_their_variance_is_0() -> None:
    x = np.array([[1.0, 2.0]])
    before = moments_of(x).settled()._replace(m2=np.zeros(1))
    z = moments_of(x)
    found = check(before, before, z, GroupNorm(1, eps=0.0), np.dtype(np.float64))
    assert (found.ok, found.var_error) == (False, math.inf)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e20])
def test_the_check_is_the_same_with_powers_of_two_and_without(denominator: str, eps: float) -> None:
    x = np.random.default_rng(0).normal(size=(40, 9)) * 10.0 ** np.arange(-20.0, 20.0)[:, None]
    norm, before = GroupNorm(1, eps=eps, denominator=denominator), moments_of(x).settled()
    z = moments_of((x - before.mean[:, None]) * factor(standardization(before, norm))[:, None])
    powers = np.zeros(40, np.int32)
    scaled = before._replace(power=powers)
    found = check(before, before, z, norm, np.dtype(np.float64))
    assert found.var_error is not None
    assert 0 < found.var_error < 1
    assert found == check(scaled, scaled, z._replace(power=powers), norm, np.dtype(np.float64))


def test_sets_of_zeros_and_of_nothing_have_every_scale() -> None:
    zero, none = Moments.of_values(np.zeros(1)), Moments.nothing(np.dtype(np.float64))
    tiny, huge = Moments.of_values(np.array([1e-200])), Moments.of_values(np.array([1e200]))
    for scaled in (tiny, huge):
        for other in (zero, none):
            for both in (merge(other, scaled), merge(scaled, other)):
                assert (both.power, both.hi + both.lo) == (scaled.power, scaled.hi / both.n)
    again = merge(merge(zero, tiny)._replace(hi=zero.hi, lo=zero.lo, m2=zero.m2), zero)
    assert again.power is not None
    assert (again.power.tolist(), again.mean.tolist()) == ([0], [0.0])
    assert merge(zero, none).power is None


def test_a_rescaled_cell_keeps_its_factor() -> None:
    before = moments_of(np.array([[1e-200, 3e-200]])).settled()
    mapping = standardization(before, GroupNorm(1, eps=1e-5))
    out = np.empty(2)
    cells = Standardization._make(None if array is None else array[:, None] for array in mapping)
    for kernel in (plain, loops()):
        assert not kernel.normalize(np.array([1e-200, 3e-200]), 2, cells, None, 0, FLOATS["float64"], out).size
        assert out.tolist() == [pytest.approx(-1e-200 / math.sqrt(1e-5)), pytest.approx(1e-200 / math.sqrt(1e-5))]


@pytest.mark.slow
def test_a_channel_of_tiny_values_varies(tmp_path: Path) -> None:
    """It had deviation 0, and came out as it went in, with a check that said ok."""
    x = np.random.default_rng(0).standard_normal((2, 4, 50))
    np.save(tmp_path / "x.npy", x * 1e-200)

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "gncli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)

    done = run("normalize", "x.npy", "-G", "2", "--eps", "0", "-o", "y.npy", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    groups = x.reshape(2, 2, -1)
    expected = (groups - groups.mean(axis=2, keepdims=True)) / groups.std(axis=2, keepdims=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy").reshape(2, 2, -1), expected, rtol=1e-12, atol=1e-14)
    done = run("stats", "x.npy", "--by", "C", "-s", "std", "--expect", "std > 0", "--format", "value")
    assert (done.returncode, done.stderr) == (0, b"")
    np.testing.assert_allclose([float(v) for v in done.stdout.split()], x.std(axis=(0, 2)) * 1e-200, rtol=1e-14)
