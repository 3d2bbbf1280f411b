"""The loops of gradients: every body of native.c against plain.py."""

from __future__ import annotations

import numpy as np
import pytest

from gncli.kernels import plain
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.loops import Loops
from gncli.kernels.plain import Blocks, Factors, Floats, Gradient, GradientInTwo, Reals, Standard, Standardization
from tests.arrays import assert_same_bits

RNG = np.random.default_rng(5)


Given = tuple[Reals, Floats, Floats | None, Blocks, Gradient]


def assert_same_gradient(each: Loops, given: Given, kind: Float, size: int) -> list[int]:
    """Compare what a kernel and plain make of a gradient; return the open elements."""
    out, right = np.empty((2, size), kind.dtype)
    with np.errstate(all="ignore"):
        found, expected = each.gradient(*given, kind, out), plain.gradient(*given, kind, right)
    assert (found.open.tolist(), found.zeros) == (expected.open.tolist(), expected.zeros)
    for own, other in ((found.moments, expected.moments), (found.projections, expected.projections)):
        for name, field in own.items():
            assert_same_bits(field, other.get(name, np.zeros_like(field)))
        assert other.keys() <= own.keys()
    settled = np.delete(np.arange(size), found.open)
    assert_same_bits(out[settled], right[settled])
    opened: list[int] = found.open.tolist()
    return opened


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("num_x", "length", "width"), [(1, 1, 1), (3, 65, 1), (300, 2, 1), (2, 9000, 1), (2, 7, 5), (1, 4, 130), (4, 1, 3)]
)
def test_the_map_of_gradients_is_that_of_plain(each: Loops, num_x: int, length: int, width: int, dtype: str) -> None:
    size = num_x * length * width
    g, z = RNG.normal(size=size).astype(dtype), RNG.normal(size=size)
    cells = Gradient(*RNG.normal(size=(6, num_x, width)))
    cells = cells._replace(**{name: np.abs(getattr(cells, name)) * 2.0**-30 for name in ("on_g", "on_z", "base")})
    for rows in {1, min(length, 3), min(length, 64), min(length, 4000)}:
        blocks = Blocks(length, rows, width > 1)
        assert_same_gradient(each, (g, z, None, blocks, cells), FLOATS["float32"], size)
        assert_same_gradient(each, (g, z, np.abs(z) * 2.0**-40, blocks, cells), FLOATS["bfloat16"], size)
    g[size // 2], z[0] = -0.0, np.inf
    assert_same_gradient(each, (g, z, None, blocks, cells), FLOATS["float16"], size)
    only = (g, z, None, blocks, cells, FLOATS["float64"], None)
    with np.errstate(all="ignore"):
        assert each.gradient(*only).open.size == plain.gradient(*only).open.size == 0


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu-tanh"])
def test_derivatives_of_sums_of_two_float64_are_those_of_plain(each: Loops, name: str) -> None:
    u = np.concatenate([RNG.normal(size=9000) * 3, [0.0, 4.0, -4.0, 1e-300, -800.0, 800.0]])
    parts = np.stack([u, u * 1e-17, np.abs(u) * 2.0**-95])
    found, right = parts.copy(), parts.copy()
    with np.errstate(all="ignore"):
        each.derivative_in_two(name, *found)
        plain.derivative_in_two(name, *right)
    assert_same_bits(found, right)


@pytest.mark.parametrize(("num_x", "length", "width"), [(1, 1, 1), (3, 65, 1), (2, 7, 5), (1, 4, 130), (4, 1, 3)])
@pytest.mark.parametrize("dtype", ["f8", ">f4", "i8", "u8", "based"])
def test_gradients_in_two_are_those_of_plain(each: Loops, num_x: int, length: int, width: int, dtype: str) -> None:
    size, shape = num_x * length * width, (num_x, width)
    x = (RNG.random(size=size) * 2.0**62).astype(dtype.replace("based", "i8"))
    high, low, (rate, rate_low) = RNG.normal(size=shape), RNG.normal(size=shape) * 1e-17, RNG.normal(size=(2, *shape))
    base = np.full(shape, x.min()) if dtype == "based" else None
    scales = [None, np.full(shape, 3, np.int32)] if dtype == "f8" else [None]
    g = RNG.normal(size=(2, size)) * np.array([1, 1e-17])[:, None]
    if dtype == "f8":
        x[0], g[0, 0], g[0, -1] = 1e-300, 1e-290, 1e280  # products with and without a lower part, and beyond FAR
        x[-1] = -1e280
    for power in scales:
        cells = Standardization(high, low, rate, base, power, tail=low * 1e-17, rest=rate_low * 1e-17)
        if dtype == "f8":
            high[0, 0] = low[0, 0] = 0.0
        of = GradientInTwo(Gradient(*RNG.normal(size=(6, *shape))), *(RNG.normal(size=(3, *shape)) * 1e-17))
        found = []
        for loops in (each, plain):
            z, z_low, product, lost, bound, lower = np.zeros((6, size))
            with np.errstate(all="ignore"):
                loops.standardize_in_two(x, length, cells, z, z_low)
                loops.multiply_in_two(g[0], g[1], z, z_low, product, lost)
                loops.gradient_in_two(g[0], g[1], z, z_low, length, of, bound, lower)
            found.append(np.stack([z, z_low, product, lost, bound, lower]))
        for one in found:
            one[np.isnan(one)] = np.nan
        assert_same_bits(*found)


@pytest.mark.parametrize("made", ["float16", "float32", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_bounds_leave_open_what_they_leave_open_in_plain(each: Loops, made: str) -> None:
    kind = FLOATS[made]
    values = np.ldexp(RNG.normal(size=5000), np.append(RNG.integers(-160, 140, 2500), RNG.integers(-8, 8, 2500)))
    bound = np.abs(values) * np.ldexp(1.0, RNG.integers(-40, -5, 5000))
    bound[::3] = 0.0
    values[7:12], values[700], bound[900:903] = (np.nan, np.inf, -np.inf, 0.0, -0.0), np.inf, (np.inf, np.nan, 0)
    cells = Gradient(np.ones((1, 1)), *np.zeros((5, 1, 1)))
    places = assert_same_gradient(each, (values, values, bound, Blocks(5000, 5000, False), cells), kind, 5000)
    assert 7 in places and 12 < len(places) < 4900


@pytest.mark.parametrize("made", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_bounds_next_to_ties_and_powers_of_two_leave_open_what_they_leave_open_in_plain(body: Loops, made: str) -> None:
    """Each value is rounded alone, since one that is open makes a loop look closer at those beside it."""
    kind, cells = FLOATS[made], Gradient(np.ones((1, 1)), *np.zeros((5, 1, 1)))
    unit, least = 2.0**-kind.mantissa, kind.least * 2.0**-kind.mantissa
    near = np.outer([least, kind.least, 1.0, kind.largest], 1 + unit * np.array([-0.5, -0.125, 0, 0.25, 0.5]))
    opened = 0
    for value in [0.0, least / 2, least / 8, kind.limit, np.nextafter(kind.limit, 0), *near.reshape(-1).tolist()]:
        for bound in max(abs(value) * unit, least) * np.array([0.0, 1e-12, 0.2, 0.26, 0.38, 0.49, 0.51, 9.0]):
            for sign in (1.0, -1.0):
                some, limit = np.full(9, sign * value), np.full(9, bound)
                opened += len(assert_same_gradient(body, (some, some, limit, Blocks(9, 9, False), cells), kind, 9)) // 9
    assert 100 < opened < 300


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 200), (1, 3, 64), (5, 700, 1), (2, 3, 2, 5, 4), (2, 3, 1111)])
@pytest.mark.parametrize("dtypes", ["d", "f", "dd", "ff", "fd"])
def test_levels_of_products_are_those_of_plain(each: Loops, shape: tuple[int, ...], dtypes: str) -> None:
    a, b = (RNG.normal(size=(2, int(np.prod(shape))))[k].astype(dtypes[min(k, len(dtypes) - 1)]) for k in (0, 1))
    by = b if len(dtypes) == 2 else None
    assert each.largest(a, by) == plain.largest(a, by)
    for units in (np.ldexp(1.5, 52 + np.arange(-32, -300, -40)), np.array([1.5 * 2.0**20])):
        found, left = each.levels(a, by, shape, units)
        right, also = plain.levels(a, by, shape, units)
        assert (found.tolist(), left) == (right.tolist(), also)
    assert each.levels(np.zeros(a.size), None, shape, np.array([1.5]))[1] is False


def test_the_largest_product_is_nan_where_one_is(each: Loops) -> None:
    values = np.append(RNG.normal(size=99), np.inf)
    assert each.largest(values, None) == np.inf
    with np.errstate(invalid="ignore"):
        assert np.isnan(each.largest(values, np.zeros(100)))
    assert each.largest(values[:0], None) == 0


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu-tanh"])
@pytest.mark.parametrize("scale", [-1070, -3, 0, 9, 1020])
def test_the_derivatives_of_elements_are_those_of_plain(each: Loops, name: str, scale: int) -> None:
    size = 1303
    x = np.ldexp(
        np.append(RNG.uniform(-1, 1, size - 300), RNG.normal(size=300) * 2.0 ** RNG.integers(-400, 0, 300)), scale
    )
    gamma = np.append(RNG.normal(size=size - 200), RNG.normal(size=200) * 2.0 ** RNG.integers(-300, 200, 200))
    factors = Factors(RNG.permutation(gamma), RNG.normal(size=size) * 2.0**-60, RNG.normal(size=size) * 5)
    x[:4], factors.gamma[4:8], factors.beta[8:10] = (
        (0.0, -0.0, np.inf, np.nan),
        (0.0, 1e300, -1e300, np.nan),
        (1e4, -1e4),
    )
    standard = Standard(scale, 0.3, 2.0**-56, 7.0, -(2.0**-54))
    with np.errstate(all="ignore"):
        found, right = (of.slopes(name, x, factors, standard) for of in (each, plain))
    for part, same in zip(found, right, strict=True):
        assert_same_bits(np.where(np.isnan(part), np.nan, part), np.where(np.isnan(same), np.nan, same))


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu-tanh"])
def test_the_derivatives_in_float64_are_those_of_plain(each: Loops, name: str) -> None:
    size = 1303
    u = RNG.normal(size=size) * 2.0 ** RNG.integers(-30, 11, size)
    bound = np.abs(u) * 2.0 ** RNG.integers(-60, 0, size)
    u[:7], bound[7:9] = (0.0, -0.0, np.inf, -np.inf, np.nan, 128.0, -128.0), (np.inf, 0.0)
    found, right = np.array([u, bound]), np.array([u, bound])
    with np.errstate(all="ignore"):
        each.derivative(name, found[0], found[1])
        plain.derivative(name, right[0], right[1])
    assert_same_bits(np.where(np.isnan(found), np.nan, found), np.where(np.isnan(right), np.nan, right))
    assert np.isnan(found[:, 4]).all()
