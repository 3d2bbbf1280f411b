"""Mean, variance and factor in sums of two float64: within their bounds of the exact ones, however sums were found."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import GroupNorm
from gncli.kernels.limbs import center
from gncli.kernels.moments import Moments, MomentsOf
from gncli.kernels.partition import Axis, Partition
from gncli.kernels.plain import Standardization
from gncli.kernels.proof import Proof, about_zero, given_moments
from gncli.kernels.reduction import Visit
from gncli.kernels.refined import SLOPE, standardized
from gncli.kernels.walk import Walk
from tests import exact
from tests.norms import MAKERS

CELLS, SIZE = 4, 90
DOUBLE = FLOATS["float64"]
SQUARED = Fraction(1, 2**106)  # u^2
FURTHER: dict[str, Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]] = {
    "far": lambda rng, shape: rng.normal(size=shape) + 1e12,
    "outlier": lambda rng, shape: np.where(np.arange(shape[-1]) == 3, 1e9, rng.normal(size=shape)),
    "wide": lambda rng, shape: np.exp(rng.normal(0, 100, shape)),
    "steps": lambda rng, shape: 1e16 + 2.0 * rng.integers(0, 2, shape),
    "subnormal": lambda rng, shape: rng.integers(0, 9, shape) * 5e-324,
    "largest": lambda rng, shape: rng.choice([-1.0, 1.0, 0.5], shape) * 1.79e308,
    "small integers": lambda rng, shape: rng.integers(-9, 10, shape),
    "near 1e-170": lambda rng, shape: rng.normal(1, 1e-3, shape) * 1e-170,
}


def measured(x: NDArray[Any]) -> tuple[Visit, Moments]:
    """Return a visit of rows, and the moments of these with their exact sums."""
    walk = Walk.of(Partition((Axis(True, x.shape[0]), Axis(False, x.shape[1]))))
    (region,) = walk.regions(x.size)
    visit = Visit(walk, region, x.reshape(-1), x.size)
    return visit, MomentsOf(x.dtype, Proof(None, exact=True, bounds=False)).measure(visit).settled()


def hold(found: Standardization, k: int, right: exact.Group, norm: GroupNorm, unit: float) -> None:
    """Hold the mean and the factor of a cell to the exact ones, and to what docs/numbers.md derives."""
    assert found.tail is not None
    assert found.rest is not None
    assert found.slope is not None
    scale = Fraction(2) ** (0 if found.power is None else int(found.power[k]))
    mean = sum(Fraction(float(part[k])) for part in (found.hi, found.lo, found.tail)) * scale
    if found.base is not None:
        mean += int(found.base[k])
    error = abs(Fraction(float(found.lo[k]))) * 8 * SQUARED + Fraction(unit) / 2**110
    assert abs(mean - right.sum / right.n) <= error * scale
    if found.slope[k] == SLOPE:
        factor = (Fraction(float(found.rstd[k])) + Fraction(float(found.rest[k]))) / scale
        power, limit = (2, 49) if norm.denominator == "std" else (1, 81)
        assert abs(factor**power * right.total - 1) <= power * limit * SQUARED * (1 + SQUARED)


@pytest.mark.filterwarnings("ignore:.*(divide|overflow|invalid|underflow):RuntimeWarning")
@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("denominator", ["std", "variance"])
@pytest.mark.parametrize("kind", [*MAKERS, *FURTHER])
def test_mean_and_factor_are_within_their_bounds_and_the_same_from_limbs_and_from_exact_sums(
    kind: str, denominator: str, rms: bool
) -> None:
    x = (MAKERS | FURTHER)[kind](np.random.default_rng(5), (CELLS, SIZE))
    visit, before = measured(x)
    by = about_zero(before) if rms else before
    for eps in (0.0, 1e-5):
        norm = GroupNorm(1, eps=eps, denominator=denominator, rms=rms)
        found = standardized(before, by, norm, DOUBLE, visit)
        again = standardized(before, by, norm, DOUBLE, None)
        for name, one, other in zip(found._fields, found, again, strict=True):
            assert repr(one) == repr(other), name
            if one is not None and other is not None:
                assert one.tobytes() == other.tobytes(), name
        _, unit = center(before, about_zero=rms)
        for k in range(CELLS):
            right = exact.Group.of(x[k], eps, denominator, rms=rms)
            if right.total:
                hold(found, k, right, norm, float(unit[k]))
        assert found.slope is not None
        if denominator == "std" or kind not in ("huge", "largest", "subnormal"):  # else the factor is beyond 2^700
            assert (found.slope[~by.constant] == SLOPE).all()


def test_the_variance_is_exact_wherever_the_upper_half_of_the_mean_is() -> None:
    """Merged moments keep the upper half of the first block's mean, which may be far from that of all."""
    x = np.random.default_rng(6).normal(size=(CELLS, SIZE))
    visit, before = measured(x)
    moved = before._replace(hi=before.hi - 2.0**20, lo=before.lo + 2.0**20)
    norm = GroupNorm(1, eps=0.0)
    found = standardized(moved, moved, norm, DOUBLE, visit)
    for k in range(CELLS):
        hold(found, k, exact.Group.of(x[k], 0.0), norm, 2.0**-18)


def test_given_moments_have_a_factor_of_two_parts() -> None:
    mean, var = np.array([0.5, -3.0, 1e300, 0.0]), np.array([2.0, 1e-3, 1.0, 1e-300])
    by = given_moments(mean, var, np.dtype("f8"))
    for denominator in ("std", "variance"):
        norm = GroupNorm(given=True, eps=0.0, denominator=denominator)
        found = standardized(None, by, norm, DOUBLE, None)
        for k in range(3):
            group = exact.Group(1, Fraction(mean[k]), Fraction(var[k]), denominator)
            hold(found, k, group, norm, 0.0)
        assert found.slope is not None
        assert found.slope[3] > 1 > found.slope[0] == SLOPE  # beyond what products may be taken apart: all is settled


def test_what_holds_a_nan_is_nan_and_what_is_constant_is_exact() -> None:
    x = np.random.default_rng(6).normal(size=(CELLS, SIZE))
    x[0, 3], x[1, 5], x[2] = np.nan, np.inf, 0.3
    with np.errstate(invalid="ignore"):
        visit, before = measured(x)
        found = standardized(before, before, GroupNorm(1, eps=0.0), DOUBLE, visit)
    assert np.isnan(found.rstd).tolist() == [True, True, False, False]
    assert found.offset is not None
    assert (found.hi[2], found.lo[2], found.rstd[2], found.offset[2]) == (0.3, 0.0, 1.0, 0.0)


def test_other_dtypes_are_standardized_in_one_float64() -> None:
    visit, before = measured(np.random.default_rng(6).normal(size=(CELLS, SIZE)))
    for made in ("float64", "float32"):
        found = standardized(before, before, GroupNorm(1), FLOATS[made], visit)
        assert (found.rest is not None) is (made == "float64")
