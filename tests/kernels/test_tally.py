"""The tally of differences: every sum in the order of the law, every place and count by hand, on every kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels import plain
from gncli.kernels.loops import Loops
from gncli.kernels.partition import Axis, by_axes
from gncli.kernels.plain import FEW, ULPS, Tolerance
from gncli.kernels.reduction import Visit, fold_axes
from gncli.kernels.tally import TallyOf, fold, merge, tally
from gncli.kernels.walk import Walk
from tests.arrays import DTYPES, hostile
from tests.marks import slow_but

SUMS = ("total", "square", "product", "a_square", "b_square")

# float.hex of the sums of `samples(length)`: |a - b|, its square, a b, a^2 and b^2.
TABLE: dict[int, str] = {
    5: "0x1.ab89240000000p+1 0x1.1d9ab6396ba00p+1 0x1.db18fe7f79400p+4 0x1.f7922c2fcd780p+4 0x1.e2532796527c0p+4",
    63: "0x1.ce9e481000000p+7 0x1.d3e6354c898bep+9 -0x1.fa8590d10a420p+6 0x1.556c2388095fcp+8 0x1.551d7ea884970p+8",
    64: "0x1.e111900000000p+6 0x1.ef5dec6100000p+8 0x1.7b4d18c5c9600p+6 0x1.56e75d99b4580p+8 0x1.561d1b2a30580p+8",
    65: "0x1.368cd8e000000p+6 0x1.27b188b591484p+8 0x1.962722873ec00p+7 0x1.5f9c48cb38580p+8 0x1.5e3c627197b04p+8",
    100: "0x1.6476dc0000000p+8 0x1.6733b44131a40p+10 -0x1.6892106729c50p+7 0x1.0cefbc7dfcbbcp+9 0x1.0d2ea3d0d1a9cp+9",
    4096: "0x1.e938080000000p+13 0x1.e953180000000p+15 -0x1.27d244a513500p+13"
    " 0x1.556b56b8f6580p+14 0x1.556894a1f6580p+14",
    8191: "0x1.5eecf85400000p+9 0x1.66067e25ec9d0p+11 0x1.4a1ab3e7cad3ap+15"
    " 0x1.554aa19c8f11dp+15 0x1.554b2e15655f4p+15",
    8192: "0x1.5561680000000p+14 0x1.554ef00000000p+16 0x1.0d389f6580000p+3"
    " 0x1.5569f5ad76580p+15 0x1.5555916676580p+15",
}


def samples(length: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return values that no version of a generator can change."""
    step = np.arange(2 * length, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(1 << 24)
    both = (step.astype(np.float64) / 2.0**21 - 4).astype(np.float32)
    return both[:length], both[length:]


def by_hand(a: list[float], b: list[float], tolerance: Tolerance) -> dict[str, float]:
    """Return the tally of one set, one pair after the other; sums of values that need no scale."""
    kept = [(x, y) for x, y in zip(a, b, strict=True) if math.isfinite(x) and math.isfinite(y)]
    gaps = [abs(x - y) for x, y in kept]
    by_nan = [
        math.isnan(x) or math.isnan(y) if tolerance.nan_differs else math.isnan(x) != math.isnan(y)
        for x, y in zip(a, b, strict=True)
    ]
    by_inf = [
        not (math.isnan(x) or math.isnan(y)) and x != y and (math.isinf(x) or math.isinf(y))
        for x, y in zip(a, b, strict=True)
    ]
    excess = [gap - tolerance.rtol * abs(y) for gap, (_, y) in zip(gaps, kept, strict=True)]
    ranked = [abs(x - y) if math.isfinite(x) and math.isfinite(y) else -1.0 for x, y in zip(a, b, strict=True)]
    either = [x or y for x, y in zip(by_nan, by_inf, strict=True)]
    return {
        "n": len(kept),
        "nan": sum(by_nan),
        "inf": sum(by_inf),
        "first": either.index(True) if any(either) else -1,
        "outside": sum(gap > tolerance.atol + tolerance.rtol * abs(y) for gap, (_, y) in zip(gaps, kept, strict=True)),
        "low": min((y for _, y in kept), default=math.inf),
        "high": max((y for _, y in kept), default=-math.inf),
        "worst": max(gaps, default=-1.0),
        "rank": ranked.index(max(ranked)) if kept else -1,
        "excess": max(excess, default=-math.inf),
    }


@pytest.mark.parametrize("length", [5, 63, 64, 65, 100, 4096, 8191, 8192])
def test_the_bits_of_a_block_are_those_of_the_table(each: Loops, length: int) -> None:
    a, b = samples(length)
    found = each.tally(a[None], b[None], Tolerance(0.0, 0.0))
    assert " ".join(float(found[name][0]).hex() for name in SUMS) == TABLE[length]


@pytest.mark.parametrize("nan_differs", slow_but([False, True], False))
@pytest.mark.parametrize(("rtol", "atol"), [(0.0, 0.0), (1e-3, 1e-2), (0.5, 0.0)])
def test_counts_extremes_and_places_are_those_found_by_hand(
    each: Loops, rtol: float, atol: float, nan_differs: bool
) -> None:
    rng, tolerance = np.random.default_rng(7), Tolerance(rtol, atol, nan_differs)
    for shape in ((3, 5), (3, 64), (2, 200), (2, 7, 3), (1, 256, 70)):
        for bad in (0.0, 0.02, 1.0):
            b = rng.integers(-3, 4, shape).astype(np.float32)  # many pairs are the worst
            a = (b * rng.choice([1, 1.25, 1.002], shape)).astype(np.float32)
            for values in (a, b):
                spoiled = rng.random(shape) < bad
                values[spoiled] = rng.choice([np.nan, np.inf, -np.inf], int(spoiled.sum()))
            with np.errstate(all="ignore"):
                found = each.tally(a, b, tolerance)
            for place in np.ndindex(shape[0], *shape[2:]):
                one = (place[0], slice(None), *place[1:])
                expected = by_hand(a[one].tolist(), b[one].tolist(), tolerance)
                assert {name: found[name][place].item() for name in expected} == expected, (shape, bad, place)


def test_the_first_mismatch_is_the_first_in_c_order() -> None:
    rng = np.random.default_rng(1)
    for order in ("C", "F"):
        for shape in ((9, 8, 7), (70, 3), (300,)):
            a = rng.standard_normal(shape)
            b = a.copy()
            places = rng.choice(a.size, 5, replace=False)
            b[np.unravel_index(places, shape)] = [np.nan, np.inf, np.nan, -np.inf, np.nan]
            walk = Walk.of(by_axes(shape, order, ()))
            (region,) = walk.regions(1 << 20)
            stored = [np.ravel(values, order="F" if order == "F" else "C") for values in (a, b)]
            values: NDArray[Any] = np.concatenate(stored).view(np.dtype((np.void, 16)))
            found = TallyOf(a.dtype, b.dtype, shape, order, Tolerance(0.0, 0.0)).measure(
                Visit(walk, region, values, 64)
            )
            assert (found.first.tolist(), found.nan.tolist(), found.inf.tolist()) == ([places.min()], [3], [2]), shape
            assert found.size.tolist() == [a.size]


def test_zero_is_positive_where_it_is_an_extreme(each: Loops) -> None:
    for zeros in (np.full((1, 70), -0.0), np.full((1, 3), -0.0)):
        found = each.tally(zeros, zeros, Tolerance(1.0, 0.0))
        for name in ("low", "high", "worst", "excess", *SUMS):
            assert float(found[name][0]).hex() == "0x0.0p+0", name


@pytest.mark.parametrize("power", [-900, 900])
def test_what_has_no_squares_in_float64_is_summed_on_scales_of_its_own(each: Loops, power: int) -> None:
    b = np.array([[1.0, -3.0, 2.0] * 30])
    a, exact = b * 1.5, Tolerance(0.0, 0.0)
    expected = each.tally(a, b, exact)
    found = each.tally(np.ldexp(a, power), np.ldexp(b, power), exact)
    gap, left, right = (power - found[name] for name in ("power", "a_power", "b_power"))
    for name, shift in zip(SUMS, (gap, 2 * gap, left + right, 2 * left, 2 * right), strict=True):
        assert np.array_equal(found[name], np.ldexp(expected[name], shift)), name


def test_folding_gives_the_bits_of_merging_along_the_tree() -> None:
    rng = np.random.default_rng(11)
    for sizes in ((1,), (7,), (3, 5), (4, 1, 6), (2, 3, 4, 5)):
        count = int(np.prod(sizes))
        b = rng.choice([1.0, 2.0, 0.1, -3.0], (count, 70))
        a = b + rng.choice([0.0, 0.0, 0.1, 1e-3], b.shape)
        a[rng.random(count) < 0.3] = np.nan
        b[rng.random(b.shape) < 0.01] = np.inf
        for scale in (1.0, 1e-250):
            with np.errstate(all="ignore"):
                found = tally(a, b * scale, np.arange(count) * 70, 1, Tolerance(0.0, 1e-2))
            assert (found.b_power is None) == (scale == 1.0)
            for cells in range(1 << len(sizes)):
                axes = tuple(Axis(bool(cells >> axis & 1), size) for axis, size in enumerate(sizes))
                for keep_first in (False, True):
                    expected = fold_axes(found, axes, merge, keep_first=keep_first)
                    both = fold(found, axes, keep_first), expected
                    left, right = ([None if f is None else f.tobytes() for f in record] for record in both)
                    assert left == right, (sizes, cells, keep_first)


# --- all kernels -----------------------------------------------------------------------------------------------------

FLOATS = ["f2", ">f2", "f4", ">f4", "f8", ">f8"]


def near(rng: np.random.Generator, b: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return values of a dtype that are those of `b`, or some units off, or any others, at any address."""
    a = hostile(rng, dtype, b.shape)
    if rng.random() < 0.6:
        with np.errstate(all="ignore"):
            a[...] = b.astype(a.dtype)
        some = rng.random(a.shape) < rng.choice([0.0, 0.001, 0.2, 1.0])
        bits = a.view(f"{a.dtype.byteorder}u{a.dtype.itemsize}")
        bits[some] ^= rng.choice([1] if a.dtype == np.bool_ else [1, 1, 3, 5, 64], int(some.sum())).astype(bits.dtype)
    return a


def assert_same(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], what: object) -> None:
    """Raise unless both hold the same bits; powers that are missing are zeros."""
    zeros = {name: np.zeros(found["n"].shape, np.int32) for name in ("power", "a_power", "b_power")}
    left, right = zeros | dict(found), zeros | dict(expected)
    assert left.keys() == right.keys(), what
    for name, a in left.items():
        b = right[name]
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), (what, name)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", slow_but(DTYPES, "u1", ">f4"))
def test_every_body_gives_the_bits_of_plain(body: Loops, dtype: str) -> None:
    rng = np.random.default_rng(DTYPES.index(dtype))
    for turn in range(70):
        if turn % 2:
            shape: tuple[int, ...] = (int(rng.integers(1, 5)), int(rng.integers(1, 257)), int(rng.integers(1, 140)))
        else:
            shape = (int(rng.integers(1, 70)), int(rng.integers(1, 301))) if turn % 10 else (2, 8192 - turn)
        b = hostile(rng, dtype, shape)
        a = near(rng, b, dtype if rng.random() < 0.7 else str(rng.choice(DTYPES)))
        step = 1 + int(rng.random() < 0.2)
        a, b = a[::step], b[::step]
        rtol, atol = rng.choice([0.0, 1e-7, 1e-3, 0.5, 1e308], 2).tolist()
        tolerance = Tolerance(rtol, atol, bool(rng.random() < 0.5))
        with np.errstate(all="ignore"):
            assert_same(body.tally(a, b, tolerance), plain.tally(a, b, tolerance), (turn, shape, a.dtype, tolerance))


def test_a_set_has_the_same_tally_in_any_layout(each: Loops) -> None:
    rng = np.random.default_rng(3)
    for rows in (40, 70):
        b = rng.standard_normal((6, rows, 9))
        a = b * rng.choice([1.0, 1.0, 1.25], b.shape)
        a[2, 3, 4] = np.nan
        tolerance = Tolerance(0.0, 0.1)
        expected = each.tally(a, b, tolerance)
        turned = [values.transpose(0, 2, 1) for values in (a, b)]
        assert_same(each.tally(np.asfortranarray(a), b, tolerance), expected, "one of them in another order")
        if rows < plain.LANES:  # those are summed first to last along memory, too
            left, right = (np.ascontiguousarray(values).reshape(-1, rows) for values in turned)
            along = each.tally(left, right, tolerance)
            assert_same({name: found.reshape(6, 9) for name, found in along.items()}, expected, "along memory")


@pytest.mark.parametrize("dtype", slow_but(FLOATS, "f2", ">f4"))
def test_every_body_counts_the_same_distances(body: Loops, dtype: str) -> None:
    rng = np.random.default_rng(FLOATS.index(dtype))
    for turn in range(60):
        b = hostile(rng, dtype, (int(rng.choice([1, 40, 511, 512, 513, 3000])),))
        a = near(rng, b, dtype if turn % 3 else dtype.removeprefix(">"))
        found = body.ulps(a, b)
        assert np.flatnonzero(found != plain.ulps(a, b)).tolist() == [], (turn, a.dtype)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_distances_are_counted_one_by_one_and_those_beyond_together(each: Loops, dtype: str) -> None:
    for steps in (0, 1, FEW - 1, FEW, FEW + 1, 1000, 30_000):
        below = np.zeros(600, dtype)
        above = below.copy()
        above.view(f"i{above.itemsize}")[:] = steps
        for a, b, times in ((below, above, 1), (above, below, 1), (-above, above, 2), (-above, -below, 1)):
            counts = each.ulps(a, b)
            assert {int(at): int(counts[at]) for at in np.flatnonzero(counts)} == {min(steps * times, ULPS - 1): 600}
    largest = np.full(600, np.finfo(dtype).max)
    counts = each.ulps(largest, -largest)
    assert np.flatnonzero(counts).tolist() == [min(2 * 0x7BFF, ULPS - 1) if dtype == "f2" else ULPS - 1]


def test_what_is_not_finite_has_no_distance(each: Loops) -> None:
    for dtype in FLOATS:
        a = np.ones(1000, dtype)
        b = a.copy()
        a[[3, 600]], b[[4, 600]], a[601] = [np.nan, np.nan], [-np.inf, 1.0], np.inf
        counts = each.ulps(a, b)
        assert (counts[0], counts.sum()) == (996, 996)


def test_distances_of_widened_values_are_those_of_their_bits(each: Loops) -> None:
    a, b = np.array([[1.0, 2.0, np.inf], [1.0078125, 2.0, 0.0]], np.float32)
    counts = each.ulps(a, b, lambda values: (values.view(np.int32) >> 16).astype(np.int16))
    assert {int(at): int(counts[at]) for at in np.flatnonzero(counts)} == {0: 1, 1: 1}
