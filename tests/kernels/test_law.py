"""The law of summation: every sum in the order that `plain` says, on every kernel, to the last bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli.kernels import native, plain
from gncli.kernels.loops import Loops
from gncli.kernels.moments import MomentsOf
from gncli.kernels.partition import by_axes
from gncli.kernels.plain import Tolerance
from gncli.kernels.reduction import Visit
from gncli.kernels.tally import tally
from gncli.kernels.walk import Walk
from tests.arrays import DTYPES, hostile
from tests.marks import slow_but

ALL = ("zeros", "total", "l1", "cube", "fourth", "argmin", "argmax", "first_nan", "first_inf")
KERNELS = [plain, *(native.Native(body) for body in native.bodies())]

# float.hex of hi, lo, m2 and of the sums of |x|, d^3 and d^4 of `sample(length, offset)` as float32: one block.
TABLE: dict[tuple[int, float], str] = {
    (5, 0.0): "-0x1.10c9e00000000p-1 0x0.0p+0 0x1.e0dc9c0fef280p+4 0x1.5de6c40000000p+3 0x0.0p+0 0x1.3319879e0a953p+8",
    (5, 1e6): "0x1.e847ee0000000p+19 0x1.999999999999ap-6 0x1.df93333333333p+4"
    " 0x1.312cf54000000p+22 0x1.67b0000000000p+1 0x1.332d920000000p+8",
    (63, 0.0): "-0x1.4dd8100000000p-3 0x1.8618618618618p-28 0x1.53bf9529430e4p+8"
    " 0x1.fb10fea000000p+6 0x1.18d5f3fb2bbe8p+5 0x1.9f8b91a7c0879p+11",
    (63, 1e6): "0x1.e847fa0000000p+19 0x1.9659659659659p-6 0x1.550b145145145p+8"
    " 0x1.e0a6dae000000p+25 0x1.fafd800000000p+5 0x1.a329102000000p+11",
    (64, 0.0): "-0x1.21ae200000000p-3 0x0.0p+0 0x1.559f92ff04d40p+8"
    " 0x1.ffef508000000p+6 0x1.f43898d6c2018p+3 0x1.9fb603ccf2ff0p+11",
    (64, 1e6): "0x1.e847fc0000000p+19 -0x1.1000000000000p-6 0x1.56d67c0000000p+8"
    " 0x1.e847fb7800000p+25 0x1.af50000000000p+0 0x1.a28cd3e000000p+11",
    (65, 0.0): "-0x1.8081ba0000000p-4 0x1.c8dc8dc8dc8ddp-29 0x1.5f09a5ea87970p+8"
    " 0x1.05de6c4000000p+7 -0x1.3a1b552527b88p+2 0x1.aaa8d7dd89e0ap+11",
    (65, 1e6): "0x1.e847fc0000000p+19 0x1.f81f81f81f820p-6 0x1.602c3f03f03f0p+8"
    " 0x1.efe91cf000000p+25 0x1.e686000000000p+4 0x1.ad8bac0000000p+11",
    (100, 0.0): "-0x1.b4752c0000000p-4 0x1.eb851eb851eb8p-30 0x1.0c5e665fff534p+9"
    " 0x1.9104464000000p+7 0x1.0fe454e032c39p+5 0x1.459dc979bb28ap+12",
    (100, 1e6): "0x1.e847fc0000000p+19 0x1.28f5c28f5c28fp-6 0x1.0caa4b851eb85p+9"
    " 0x1.7d783d5400000p+26 0x1.14ddc00000000p+6 0x1.468a031000000p+12",
    (4096, 0.0): "-0x1.26c4000000000p-8 0x0.0p+0 0x1.556b01df44d40p+14"
    " 0x1.0008289680000p+13 0x1.08f65f30f90e2p+5 0x1.99cdb5d283f72p+17",
    (4096, 1e6): "0x1.e848000000000p+19 -0x1.2600000000000p-8 0x1.5575a39700000p+14"
    " 0x1.e847ffdb40000p+31 -0x1.0521600000000p+8 0x1.99f76a1700000p+17",
    (8191, 0.0): "-0x1.8ce78e0000000p-9 -0x1.78ebc75e3af1dp-34 0x1.554a7b27ef8fdp+15"
    " 0x1.fff00e5540000p+13 0x1.5d95d3a848c00p-1 0x1.998cb0a739c1cp+18",
    (8191, 1e6): "0x1.e848000000000p+19 -0x1.8c0c606303182p-9 0x1.555299b5cdae7p+15"
    " 0x1.e838bda740000p+32 -0x1.8c99000000000p+8 0x1.99acf65800000p+18",
    (8192, 0.0): "-0x1.4d88000000000p-9 0x0.0p+0 0x1.5569da84c4d30p+15"
    " 0x1.0007dbf480000p+14 -0x1.22671e075bd00p-1 0x1.99ca34657069ap+18",
    (8192, 1e6): "0x1.e848000000000p+19 -0x1.4d00000000000p-9 0x1.5571a6ed70000p+15"
    " 0x1.e847ffeb30000p+32 -0x1.4f8d100000000p+8 0x1.99e90e1840000p+18",
}


def summed(terms: list[float]) -> float:
    """Return the sum of terms along memory, as the law says, one addition after the other."""
    if len(terms) < plain.LANES:
        total = 0.0
        for term in terms:
            total += term
        return total
    lanes = [0.0] * plain.LANES
    for place, term in enumerate(terms):
        lanes[place % plain.LANES] += term
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


def longhand(values: list[float], narrow: bool) -> dict[str, float]:
    """Return the moments of a block, one operation after the other."""
    n = float(len(values))
    hi = summed(values) / n
    if narrow:
        hi = hi * (2.0**29 + 1) - (hi * (2.0**29 + 1) - hi)
    d = [value - hi for value in values]
    largest = max(max(values) - hi, hi - min(values))
    unit = math.ldexp(1.5, math.frexp(largest)[1] + 13) if largest > 0 else 0.0
    upper = [(x + unit) - unit for x in d]
    lo = (summed(upper) + summed([x - part for x, part in zip(d, upper, strict=True)])) / n
    square = summed([x * x for x in d])
    cube, fourth = summed([x * x * x for x in d]), summed([(x * x) * (x * x) for x in d])
    m2 = max(square - n * (lo * lo), 0.0)
    l1 = summed([abs(value) for value in values])
    return {"hi": hi, "lo": lo, "m2": m2, "square": square, "cube": cube, "fourth": fourth, "l1": l1}


def sample(length: int, offset: float) -> NDArray[np.float32]:
    """Return values that no version of a generator can change."""
    step = np.arange(length, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(1 << 24)
    return (step.astype(np.float64) / 2.0**21 - 4 + offset).astype(np.float32)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
@pytest.mark.parametrize(("length", "offset"), TABLE)
def test_the_bits_of_a_block_are_those_of_the_table(kernel: Loops, length: int, offset: float) -> None:
    found = kernel.moments(sample(length, offset)[None], False, ALL)
    assert (
        " ".join(float(found[name][0]).hex() for name in ("hi", "lo", "m2", "l1", "cube", "fourth"))
        == TABLE[length, offset]
    )


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    length=st.one_of(st.integers(1, 300), st.sampled_from((4096, 8191, 8192))),
    seed=st.integers(0, 100),
    offset=st.sampled_from((0.0, 1e6)),
)
def test_a_block_is_summed_as_by_hand(kernel: Loops, length: int, seed: int, offset: float) -> None:
    values = np.random.default_rng(seed).standard_normal(length) + offset
    expected = longhand(values.tolist(), narrow=False)
    for shaped in (values[None], np.stack([values, values[::-1]])):
        found = kernel.moments(shaped, False, ALL)
        assert {name: float(found[name][0]) for name in expected} == expected


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
def test_columns_are_summed_first_to_last(kernel: Loops) -> None:
    values = np.random.default_rng(0).standard_normal((2, 256, 70))
    for rows, width in ((1, 1), (2, 1), (256, 1), (63, 3), (64, 2), (100, 64), (256, 70)):
        found = kernel.moments(values[:, :rows, :width])
        for place in np.ndindex(2, width):
            column, total = values[place[0], :rows, place[1]].tolist(), 0.0
            for value in column:
                total += value
            assert found["hi"][place] == total / rows


def test_a_tensor_of_many_blocks_has_the_bits_of_the_table() -> None:
    x = sample(3 * 20_000, 1e6).reshape(3, 20_000)
    found = {}
    for axes in ((0,), (1,), ()):
        walk = Walk.of(by_axes(x.shape, "C", axes))
        (region,) = walk.regions(1 << 20)
        moments = MomentsOf(x.dtype).measure(Visit(walk, region, x.reshape(-1), 1 << 18))
        found[axes] = " ".join(float(part[-1]).hex() for part in (moments.hi, moments.lo, moments.m2))
    assert found == {
        (): "0x1.e848000000000p+19 -0x1.3078263ab596ep-10 0x1.38899c91e4b19p+18",
        (0,): "0x1.e848000000000p+19 -0x1.3c36113404ea4p-11 0x1.a0b9f523367a1p+16",
        (1,): "0x1.e8484e0000000p+19 0x1.5555555555555p-6 0x1.2aaaaaaaaaaabp-6",
    }


@settings(derandomize=True, deadline=None, max_examples=40)
@given(length=st.integers(1, 300), seed=st.integers(0, 100))
def test_differences_are_summed_as_by_hand(length: int, seed: int) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, length))
    found = tally(a[None], b[None], np.zeros(1, np.int64), 1, Tolerance(0.0, 0.0), lambda places: places)
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    expected = {
        "total": summed([abs(x - y) for x, y in pairs]),
        "square": summed([abs(x - y) * abs(x - y) for x, y in pairs]),
        "product": summed([x * y for x, y in pairs]),
        "a_square": summed([x * x for x, _ in pairs]),
        "b_square": summed([y * y for _, y in pairs]),
    }
    assert {name: float(getattr(found, name)[0]) for name in expected} == expected


# --- all kernels -----------------------------------------------------------------------------------------------------


def assert_same(found: Any, expected: Any, what: object) -> None:
    """Raise unless both hold the same bits; what is missing is zeros."""
    for name in set(found) | set(expected):
        a, b = found.get(name), expected.get(name)
        a, b = (np.zeros_like(b) if a is None else a), (np.zeros_like(a) if b is None else b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), (what, name)


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "i8", ">f4"))
@pytest.mark.parametrize("body", native.BODIES)
def test_every_body_gives_the_bits_of_plain(body: str, dtype: str) -> None:
    if body not in native.bodies():
        pytest.skip(f"{body} does not run here")
    kernel, rng = native.Native(body), np.random.default_rng(0)
    for turn in range(60):
        if turn % 2:
            shape: tuple[int, ...] = (int(rng.integers(1, 5)), int(rng.integers(1, 257)), int(rng.integers(1, 140)))
        else:
            shape = (int(rng.integers(1, 70)), int(rng.integers(1, 301))) if turn % 10 else (2, 8192 - turn)
        values = hostile(rng, dtype, shape)[:: 1 + int(rng.random() < 0.2)]
        about_zero, wanted = bool(rng.random() < 0.3), ALL if rng.random() < 0.6 else ()
        with np.errstate(all="ignore"):
            expected = plain.moments(values, about_zero, wanted)
        assert_same(kernel.moments(values, about_zero, wanted), expected, (turn, shape, about_zero))


@pytest.mark.parametrize("body", native.BODIES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_body_gives_the_bits_of_plain_for_products(body: str, dtype: str) -> None:
    if body not in native.bodies():
        pytest.skip(f"{body} does not run here")
    kernel, rng = native.Native(body), np.random.default_rng(1)
    for shape in ((3, 8192), (2, 64), (4, 1000), (70, 9), (2, 30, 5), (1, 300)):
        values, by = hostile(rng, "f8", shape), hostile(rng, dtype, shape)
        with np.errstate(all="ignore"):
            expected = plain.moments(np.multiply(values, by))
            assert_same(plain.moments(values, by=by), expected, shape)
            assert_same(kernel.moments(values, by=by), expected, shape)
            strided = np.repeat(by, 2, axis=1)[:, ::2]
            assert_same(kernel.moments(values, by=strided), expected, shape)
