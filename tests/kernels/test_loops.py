"""Every body of native.c against plain.py, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from gncli.kernels import native, plain
from gncli.kernels.loops import Loops, kernel, loops


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
