"""Every body of native.c against plain.py, to the bit."""

from __future__ import annotations

import pytest

from gncli.kernels import native, plain
from gncli.kernels.loops import kernel, loops


def test_the_widest_body_runs_unless_another_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNCLI_KERNEL", raising=False)
    loops.cache_clear()
    assert kernel() == (*("plain",), *native.bodies())[-1]
    monkeypatch.setenv("GNCLI_KERNEL", "plain")
    assert kernel() == "plain"
    loops.cache_clear()
    assert loops() is plain
    loops.cache_clear()
