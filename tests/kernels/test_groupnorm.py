"""Group Normalization: its parameters, its map, and a check that sees what is wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.errors import ParameterError
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import (
    DENOMINATORS,
    Check,
    GroupNorm,
    all_checks,
    check,
    factor,
    normalize_region,
    standardization,
    verify_region,
)
from gncli.kernels.moments import Moments, MomentsOf
from gncli.kernels.partition import Axis, Partition
from gncli.kernels.plain import Affine
from gncli.kernels.reduction import Visit, spread
from gncli.kernels.walk import Walk
from gncli.run.engine import Engine
from tests import oracle
from tests.arrays import Inline, assert_same_bits, assert_same_moments, moments_of, normalized

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"eps": -1e-9}, "eps is -1e-09; give a finite number, at least 0"),
    ({"eps": math.nan}, "eps is nan; give a finite number, at least 0"),
    ({"eps": math.inf}, "eps is inf; give a finite number, at least 0"),
    ({"num_groups": 4, "group_size": 2}, "both the number of groups and their size are given; give one of them"),
    ({"denominator": "root"}, "denominator is 'root'; choose std or variance"),
]
MISFITS: list[tuple[dict[str, Any], tuple[int, ...], str]] = [
    ({"num_groups": 5}, (2, 16, 3), "16 channels cannot be split into 5 groups; choose one of 1, 2, 4, 8, 16"),
    (
        {},
        (2, 16, 3),
        "16 channels cannot be split into 32 groups; 32 is the default; say -G with one of 1, 2, 4, 8, 16",
    ),
    (
        {"num_groups": 4},
        (2, 14, 14, 64),
        "14 channels cannot be split into 4 groups; choose one of 1, 2, 7, 14, or --layout NHWC",
    ),
    (
        {"num_groups": 4, "layout": "NCHW"},
        (2, 14, 14, 64),
        "14 channels cannot be split into 4 groups; choose one of 1, 2, 7, 14",
    ),
    ({"num_groups": 0}, (2, 6), "6 channels cannot be split into 0 groups; choose one of 1, 2, 3, 6"),
    ({"num_groups": -1}, (2, 6), "6 channels cannot be split into -1 groups; choose one of 1, 2, 3, 6"),
    ({"group_size": 4}, (2, 6), "6 channels cannot be split into groups of 4; choose one of 1, 2, 3, 6"),
    ({"group_size": 0}, (2, 7), "7 channels cannot be split into groups of 0; choose one of 1, 7"),
    ({"num_groups": 1}, (2, 0, 3), "there are no channels to be grouped; check --layout"),
    (
        {"num_groups": 1},
        (4,),
        "a tensor of 1 axis (4) has no usual layout; say --layout, one letter per axis, such as CHW",
    ),
]
# layout, shape, order: (N, G, C//G, H, W) and alike, the shape of the moments, and (before C, C, after C) in storage
SHAPES = [
    ("NCHW", (2, 6, 4, 5), "C", (2, 3, 2, 4, 5), (2, 3, 1, 1, 1), (2, 6, 20)),
    ("NCHW", (2, 6, 4, 5), "F", (2, 3, 2, 4, 5), (2, 3, 1, 1, 1), (20, 6, 2)),
    ("NHWC", (2, 4, 5, 6), "C", (2, 4, 5, 3, 2), (2, 1, 1, 3, 1), (40, 6, 1)),
    ("CHW", (6, 4, 5), "C", (3, 2, 4, 5), (3, 1, 1, 1), (1, 6, 20)),
    ("CNHW", (6, 2, 4, 5), "C", (3, 2, 2, 4, 5), (3, 1, 2, 1, 1), (1, 6, 40)),
    ("C", (6,), "C", (3, 2), (3, 1), (1, 6, 1)),
]
EXTREME = [1e-320, 1e-200, 1e-30, 1.0, 1e30, 1e154, 1e200, 1e300, 1.7e308]
DTYPES = ("f2", "f4", "f8")
ENGINE = Engine(1, executor=Inline())


def rows_of(values: NDArray[Any]) -> Moments:
    return moments_of(values).settled()


def checked(x: NDArray[Any], z: NDArray[Any], **norm: Any) -> Check:
    """Return the check of rows, each a group."""
    with np.errstate(all="ignore"):
        before = rows_of(x)
        return check(before, before, rows_of(z), GroupNorm(1, **norm), z.dtype)


def standardized(x: NDArray[Any], dtype: Any, eps: float = 1e-5, denominator: str = "std") -> NDArray[Any]:
    rows = x[:, None]
    exact = oracle.group_norm(rows, 1, "NCL", eps, denominator=denominator)[:, 0]
    return oracle.rounded(exact, dtype)


def test_the_defaults_are_those_of_the_paper() -> None:
    norm = GroupNorm()
    assert (norm.num_groups, norm.group_size, norm.eps, norm.layout, norm.denominator) == (
        None,
        None,
        1e-5,
        None,
        "std",
    )
    assert norm.on((2, 64), "C").num_groups == 32


@pytest.mark.parametrize(("parameters", "sentence"), WRONG)
def test_parameters_that_are_wrong_for_any_tensor_are_refused_at_once(
    parameters: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        GroupNorm(**parameters)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("parameters", "shape", "sentence"), MISFITS)
def test_parameters_that_do_not_fit_a_tensor_are_refused_with_those_that_do(
    parameters: dict[str, Any], shape: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        GroupNorm(**parameters).on(shape, "C")
    assert str(caught.value) == sentence


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 12])
def test_a_group_size_says_the_number_of_groups(size: int) -> None:
    grouping = GroupNorm(None, size).on((2, 12, 3), "C")
    assert (grouping.num_groups, grouping.group_size, grouping.channels) == (12 // size, size, 12)


def test_numbers_of_groups_are_integers() -> None:
    assert GroupNorm(np.int64(3)).on((2, 12), "C").num_groups == 3  # type: ignore[arg-type]
    for wrong in ({"num_groups": 3.0}, {"group_size": 3.0}):
        with pytest.raises(TypeError):
            GroupNorm(**wrong).on((2, 12), "C")  # type: ignore[arg-type]


@pytest.mark.parametrize(("layout", "shape", "order", "split", "cells", "channels"), SHAPES)
def test_the_shapes_of_the_walkthrough_and_of_storage(
    layout: str,
    shape: tuple[int, ...],
    order: str,
    split: tuple[int, ...],
    cells: tuple[int, ...],
    channels: tuple[int, ...],
) -> None:
    grouping = GroupNorm(3, layout=layout).on(shape, order)
    assert (grouping.split_shape, grouping.cell_shape, grouping.channel_shape) == (split, cells, channels)
    assert math.prod(cells) == grouping.partition.num_cells


# --- the map ---------------------------------------------------------------------------------------------------------


def test_gamma_of_one_and_beta_of_zero_change_nothing() -> None:
    one, zero = np.ones(3), np.zeros(3)
    assert Affine(one, zero, (1, 3, 1)).identity
    assert not Affine(one * 2, zero, (1, 3, 1)).identity
    assert not Affine(one, zero + 1, (1, 3, 1)).identity


def test_cells_are_laid_out_for_the_elements_of_a_visit() -> None:
    walk = Walk.of(Partition(tuple(Axis(place % 2 == 0, size) for place, size in enumerate((2, 70, 3, 5)))))
    assert (walk.length, walk.width) == (35, 30)  # two rows are taken as one
    cells = np.arange(6)
    for visit in (1 << 20, 1050, 100):
        for region in walk.regions(visit):
            own = cells if region.axis == 0 else cells.reshape(2, 3)[region.prefix[0]]
            if region.axis == 0:
                own = cells.reshape(2, 3)[region.first : region.last].reshape(-1)
            laid = spread(walk, region, own)
            num_x, length, width = walk.view(region)
            elements = np.broadcast_to(cells.reshape(2, 1, 3, 1), (2, 70, 3, 5)).reshape(-1)
            found = np.broadcast_to(laid, (num_x, length, width)).reshape(-1)
            np.testing.assert_array_equal(found, elements[region.start : region.stop])


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_group_becomes_exactly_zero_and_then_beta(dtype: str, eps: float, denominator: str) -> None:
    x = np.full((2, 4, 25), 0.3, dtype)
    x[1, 2:] += np.arange(25)  # one group that is not constant
    y, outcome = normalized(x, 2, "NCL", ENGINE, eps=eps, denominator=denominator)
    assert (y[0] == 0).all()
    assert (y[1, :2] == 0).all()
    assert (y[1, 2:] != 0).any()
    assert (outcome.check.constant_groups, outcome.check.ok) == (3, True)
    y, _ = normalized(x, 2, "NCL", ENGINE, eps=eps, denominator=denominator, beta=np.array([1.0, 2.0, 3.0, 4.0]))
    assert (y[0] == np.array([1, 2, 3, 4], dtype)[:, None]).all()


def test_one_value_a_group_becomes_zero() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    y, outcome = normalized(x, 4, "NC", ENGINE)
    assert (y == 0).all()
    assert outcome.check == Check(12, 0.0, 0.0, constant_groups=12, proved=12, settled=0)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("scale", EXTREME)
def test_a_group_of_any_magnitude_is_normalized(scale: float, denominator: str) -> None:
    x = np.linspace(-1, 1, 50).reshape(1, 2, 25) * scale
    y, outcome = normalized(x, 1, "NCL", ENGINE, denominator=denominator, keep=True)
    exact = oracle.group_norm(x, 1, "NCL", denominator=denominator)
    np.testing.assert_allclose(y, exact.astype(np.float64), rtol=1e-13, atol=0)
    assert outcome.check.ok
    assert outcome.kept is not None
    mean, var, rstd = outcome.kept
    wide = x.astype(np.longdouble)
    assert abs(mean.item()) <= 1e-15 * scale
    true = float(wide.var()) if scale < 1e155 else math.inf
    assert var.item() == pytest.approx(true, rel=1e-13, abs=5e-324)
    total = wide.var() + np.longdouble(1e-5)
    assert rstd.item() == pytest.approx(float(1 / (np.sqrt(total) if denominator == "std" else total)), rel=1e-13)


def test_groups_of_different_magnitudes_do_not_disturb_each_other() -> None:
    x = np.random.default_rng(1).standard_normal((3, 4, 30))
    plain, _ = normalized(x, 2, "NCL", ENGINE)
    x[1, :2] *= 1e300
    mixed, outcome = normalized(x, 2, "NCL", ENGINE)
    rest = np.ones((3, 4), bool)
    rest[1, :2] = False
    assert_same_bits(mixed[rest], plain[rest])
    np.testing.assert_allclose(mixed[1, :2], plain[1, :2], rtol=1e-4)
    assert outcome.check.ok


def test_an_eps_of_zero_divides_by_the_deviation_alone() -> None:
    x = np.random.default_rng(2).standard_normal((3, 4, 30)) * 1e-6
    y, outcome = normalized(x, 2, "NCL", ENGINE, eps=0.0)
    np.testing.assert_allclose(y.reshape(3, 2, -1).var(axis=2), 1, rtol=1e-14)
    assert outcome.check.ok


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CNHW"])
def test_what_is_not_finite_makes_its_group_nan_and_changes_nothing_else(dtype: str, bad: float, layout: str) -> None:
    sizes = {"N": 3, "C": 6, "H": 9, "W": 10}
    rng = np.random.default_rng(3)
    x = rng.standard_normal([sizes[letter] for letter in layout]).astype(dtype)
    axes = [layout.index(letter) for letter in "NCHW"]
    plain, before = normalized(x, 3, layout, ENGINE)
    x.transpose(axes)[1, 3, 4, 5] = bad
    y, outcome = normalized(x, 3, layout, ENGINE)
    y, plain = y.transpose(axes), plain.transpose(axes)
    assert np.isnan(y[1, 2:4]).all()
    rest = np.ones((3, 6), bool)
    rest[1, 2:4] = False
    assert_same_bits(y[rest], plain[rest])
    assert outcome.check == replace(outcome.check, nonfinite_groups=1, overflowed=0)
    assert outcome.check.ok
    assert before.check.nonfinite_groups == 0
    assert outcome.after.number("nan") == 180


def test_rstd_is_the_factor_that_deviations_are_multiplied_by() -> None:
    x = np.array([[1.0, 3.0], [5.0, 5.0], [1e300, 3e300]])
    for denominator in DENOMINATORS:
        mapping = standardization(rows_of(x), GroupNorm(eps=0.0, denominator=denominator))
        found = factor(mapping)
        np.testing.assert_allclose(found[:2], [1.0, 1.0])
        assert found[2] == pytest.approx(1e-300 if denominator == "std" else 0.0, rel=1e-14)


def test_a_visit_is_mapped_by_the_cells_of_its_elements() -> None:
    rng = np.random.default_rng(4)
    for sizes in ((6, 70), (6, 5), (3, 70, 4, 5), (2, 5, 3, 2)):
        walk = Walk.of(Partition(tuple(Axis(place % 2 == 0, size) for place, size in enumerate(sizes))))
        values = rng.standard_normal(math.prod(sizes))
        region = next(walk.regions(1 << 30))
        cells = np.arange(1.0, 1 + math.prod(sizes[::2]))
        norm = GroupNorm()
        moments = Moments(cells * 0 + 9, cells, cells * 1e-17, cells, cells - 9, cells + 9)
        mapping = standardization(moments, norm)
        affine = Affine(np.array([2.0, 3.0]), np.array([0.0, 1.0]), (1, 2, values.size // 2))
        y, also = np.empty((2, values.size))
        assert not normalize_region(walk, region, values, mapping, affine, FLOATS["float64"], y).size
        visit, law = Visit(walk, region, values, values.size), MomentsOf(values.dtype)
        opened, of_z, *counts = verify_region(visit, mapping, affine, FLOATS["float64"], law, also)
        shape = [size if place % 2 == 0 else 1 for place, size in enumerate(sizes)]
        hi, lo, rstd = (np.broadcast_to(a.reshape(shape), sizes).reshape(-1) for a in mapping[:3])
        exact = ((values - hi) - lo) * rstd
        assert_same_moments(of_z, law.measure(visit._replace(values=exact)))
        half = values.size // 2
        assert_same_bits(y, np.concatenate([exact[:half] * 2, exact[half:] * 3 + 1]))
        assert_same_bits(also, y)
        assert (opened.size, *counts) == (0, 0, 0)


# --- the check -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("eps", [1e-3, 1e-5, 0.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_check_holds_for_what_is_rounded_once(
    dtype: str, denominator: str, eps: float, scale: float, offset: float
) -> None:
    x = np.random.default_rng(5).standard_normal((4, 500)) * scale + offset
    found = checked(x, standardized(x, dtype, eps, denominator), eps=eps, denominator=denominator)
    assert found.ok, found
    assert found.groups == 4
    assert found.mean_error is not None
    assert found.var_error is not None
    assert found.mean_error < 0.6
    assert found.var_error < 0.6


def mistakes(x: NDArray[Any], dtype: str) -> dict[str, NDArray[Any]]:
    """Return results that are wrong in ways that programs are."""
    right = standardized(x, "f8")
    error = 10 * float(np.finfo(dtype).eps) + 20 * float(np.finfo(np.float64).eps)
    shifted, scaled = right.copy(), right.copy()
    shifted[2] += error
    scaled[2] *= 1 + error
    single = x.astype(np.float32)
    naive = (single**2).mean(axis=1, keepdims=True) - single.mean(axis=1, keepdims=True) ** 2
    with np.errstate(invalid="ignore"):
        cancelled = (single - single.mean(axis=1, keepdims=True)) / np.sqrt(naive + np.float32(1e-5))
    wrong = {
        "mean": shifted,
        "rstd": scaled,
        "variance for std": standardized(x, "f8", denominator="variance"),
        "unbiased variance": right * math.sqrt((x.shape[1] - 1) / x.shape[1]),
        "one group for all": standardized(x.reshape(1, -1), "f8").reshape(x.shape),
        "no group at all": np.zeros_like(x),
        "E[x^2] - E[x]^2": cancelled,
    }
    return {name: values.astype(dtype) for name, values in wrong.items()}


def test_the_check_allows_what_sums_of_equal_numbers_lose_to_a_large_one() -> None:
    """As activations are after relu: each 0 adds the same square, and each addition may round in the same direction."""
    x = np.zeros((1, 64, 128, 4))
    x[0, 5, 7], x[0, 40] = 1234.5, 1.3
    _, outcome = normalized(x, 1, "NHWC", ENGINE, dtype="f8")
    assert outcome.check.ok, outcome.check


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", list(mistakes(np.ones((3, 9)) * np.arange(9), "f4")))
def test_the_check_fails_for_a_mistake(mistake: str, dtype: str) -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((4, 30)) * np.array([[1.0], [2.0], [3.0], [4.0]]) + np.array(
        [[3000.0], [1.0], [2.0], [3.0]]
    )
    found = checked(x, mistakes(x, dtype)[mistake])
    assert not found.ok, (mistake, found)


def test_the_check_fails_for_another_eps() -> None:
    x = np.random.default_rng(7).standard_normal((4, 500)) * 0.1
    z = standardized(x, "f4", 1e-3)
    assert checked(x, z, eps=1e-3).ok
    assert not checked(x, z, eps=1e-5).ok


def test_the_check_fails_for_a_finite_group_that_became_nan() -> None:
    x = np.random.default_rng(8).standard_normal((3, 100))
    z = standardized(x, "f4")
    z[1] = math.nan
    found = checked(x, z)
    assert (found.ok, found.mean_error, found.var_error) == (False, math.inf, math.inf)


def test_finite_values_that_overflow_the_output_are_counted_and_fail_the_check() -> None:
    x = np.random.default_rng(9).standard_normal((3, 4, 50)).astype(np.float16)
    y, outcome = normalized(x, 2, "NCL", ENGINE, gamma=np.array([1.0, 1.0, 1.0, 60000.0]))
    assert outcome.check.overflowed == np.isinf(y).sum() > 0
    assert not outcome.check.ok
    assert outcome.check.mean_error is not None
    assert outcome.check.mean_error < 1
    x[0, 3, 0] = np.nan  # a group whose input is not finite does not overflow
    _, poisoned = normalized(x, 2, "NCL", ENGINE, gamma=np.array([1.0, 1.0, 1.0, 60000.0]))
    assert poisoned.check.overflowed == np.isinf(y[1:]).sum()


def test_constant_groups_and_those_that_are_not_finite_are_counted() -> None:
    x = np.random.default_rng(10).standard_normal((5, 20))
    x[1], x[2, 3], x[3] = 0.7, math.inf, math.nan
    x[4, 1:], x[4, 0] = 0.7, math.nan  # constant, but for one that is not finite
    z = np.zeros_like(x)
    z[0] = standardized(x[:1], "f8")
    z[2:] = math.nan
    found = checked(x, z)
    assert (found.groups, found.constant_groups, found.nonfinite_groups, found.overflowed) == (5, 1, 3, 0)
    assert found.ok


def test_there_is_nothing_to_check_without_a_finite_group() -> None:
    x = np.full((2, 10), math.nan)
    assert checked(x, x) == Check(2, None, None, nonfinite_groups=2)
    assert checked(x, x).ok


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("eps", [1e-5, 1e-1])
def test_the_variance_after_is_var_over_var_plus_eps(dtype: str, eps: float) -> None:
    x = np.random.default_rng(11).standard_normal((3, 4, 500)) * 0.3
    y, _ = normalized(x, 2, "NCL", ENGINE, eps=eps, dtype=dtype)
    before = x.reshape(3, 2, -1).var(axis=2)
    after = y.astype(np.float64).reshape(3, 2, -1).var(axis=2)
    np.testing.assert_allclose(after, before / (before + eps), rtol=4 * float(np.finfo(dtype).eps))


def test_checks_add_up_to_the_check_of_all() -> None:
    parts = [
        Check(2, 0.5, None, constant_groups=1, overflowed=3, damped_groups=1, eps_share=0.3),
        Check(1, None, None, nonfinite_groups=1, new_nan=8),
        Check(4, 0.1, 0.2, overflowed=1, damped_groups=2, eps_share=0.2),
    ]
    assert all_checks(parts) == Check(
        7, 0.5, 0.2, constant_groups=1, nonfinite_groups=1, overflowed=4, new_nan=8, damped_groups=3, eps_share=0.3
    )
    assert all_checks([]) == Check(0, None, None)


def test_groups_that_eps_damps_are_counted_and_the_largest_share_is_kept() -> None:
    x = np.array([[-1.0, 1], [-0.001, 0.001], [-0.002, 0.002], [3, 3], [-0.01, 0.01]])
    found = checked(x, standardized(x, np.float64, eps=1e-5))
    assert (found.damped_groups, found.constant_groups, found.ok) == (2, 1, True)  # 1e-4 is nine tenths of the last
    assert found.eps_share == pytest.approx(1e-5 / (1e-6 + 1e-5), rel=1e-12)
    assert checked(x[:3], standardized(x[:3], np.float64, eps=0), eps=0).eps_share is None
    tiny = x[:3] * 2.0**-300
    assert checked(tiny, standardized(tiny, np.float64, eps=1e-5)).eps_share == 1.0


def test_new_nan_are_those_that_were_not_in_the_input() -> None:
    x = np.array([[1.0, np.nan, 2, 3], [1, 2, 3, np.inf], [1, 2, 3, 4]])
    z = np.where(np.isfinite(x).all(axis=1, keepdims=True), x, np.nan)
    assert (checked(x, z).new_nan, checked(x, z).nonfinite_groups) == (3 + 4, 2)


def test_json_says_ratios_and_keeps_the_older_names() -> None:
    told = Check(3, 0.5, None, new_nan=4).as_dict()
    assert (told["mean_error_ratio"], told["var_error_ratio"]) == (0.5, None)
    assert (told["mean_error"], told["var_error"], told["new_nan"], told["ok"]) == (0.5, None, 4, True)
