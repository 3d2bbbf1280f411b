"""Every body of native.c against plain.py, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from gncli.kernels import native, plain
from gncli.kernels.loops import Loops, kernel, loops
from gncli.kernels.moments import Floats

RNG = np.random.default_rng(5)


def test_the_widest_body_runs_unless_another_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNCLI_KERNEL", raising=False)
    loops.cache_clear()
    assert kernel() == (*("plain",), *native.bodies())[-1]
    monkeypatch.setenv("GNCLI_KERNEL", "plain")
    assert kernel() == "plain"
    loops.cache_clear()
    assert loops() is plain
    loops.cache_clear()


def test_counts_that_a_call_returned_are_not_written_by_the_next(each: Loops) -> None:
    odd = np.array([[np.nan, np.inf, 1.0], [-np.inf, 1e-300, 2e-300]])
    with np.errstate(all="ignore"):
        found = each.moments(odd)
        before = {name: array.tolist() for name, array in found.items()}
        assert (before["nan"], before["posinf"], before["neginf"]) == ([1, 0], [1, 0], [0, 1])
        for values in (np.ones((9, 3)), np.full((2, 3), -np.inf), np.full((2, 3), 1e300), np.ones((2, 3))):
            again = each.moments(values)
            assert again.keys() >= {"nan"} if np.isinf(values).any() else "nan" not in again
            assert ("power" in again) == (values[0, 0] == 1e300)
    assert {name: array.tolist() for name, array in found.items()} == before


def numbers(shape: tuple[int, ...]) -> Floats:
    """Return magnitudes from 1e-300 to 1e300, with zeros, an infinity and a NaN."""
    found = np.exp(RNG.uniform(-690, 690, shape))
    found.flat[::7] = 0.0
    found.flat[3::50] = np.inf
    found.flat[4::60] = np.nan
    return found


@pytest.mark.parametrize("shape", [(1,), (64,), (300,), (5, 70)])
def test_bounds_of_blocks_are_those_of_plain(each: Loops, shape: tuple[int, ...]) -> None:
    n, lo, m2, lost = RNG.integers(0, 9000, shape).astype(np.float64), -numbers(shape), numbers(shape), numbers(shape)
    with np.errstate(all="ignore"):
        for added in (np.array(134.0), RNG.integers(1, 257, (shape[0], *[1] * (len(shape) - 1))).astype(np.float64)):
            for part, given in ((plain.LOWER, None), (1.0, None), (plain.LOWER, lost)):
                found = each.bounds(n, lo, m2, added, part, given)
                np.testing.assert_array_equal(found, plain.bounds(n, lo, m2, added, part, given))


@pytest.mark.parametrize("size", [1, 63, 64, 65, 300])
def test_errors_of_cells_are_those_of_plain(each: Loops, size: int) -> None:
    with np.errstate(all="ignore"):
        for s in (np.array([2.0**-150]), RNG.uniform(0, 1, size)):
            expected, shift, mean, var, summed = (RNG.uniform(0.5, 2, size) for _ in range(5))
            for found in (mean, numbers((size,))):
                one, other = (loop.ratios(expected, shift, found, var, summed, 2.0**-24, s) for loop in (each, plain))
                np.testing.assert_array_equal(one, other)
