"""Every body of native.c against plain.py, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from gncli.kernels import native, plain
from gncli.kernels.loops import Loops, kernel, loops


def test_the_planes_of_shuffled_bytes_are_put_together(body: Loops) -> None:
    for size in (*range(20), 4096, 4099):
        data = np.arange(size + 1, dtype=np.int64).astype(np.uint8)[1:]  # not aligned
        for width in (1, 2, 3, 4, 8):
            found = body.unshuffle(data, width)
            assert found.tolist() == plain.unshuffle(data, width).tolist()
            count = size // width
            assert found[: count * width].reshape(count, width).T.ravel().tolist() == data[: count * width].tolist()


def test_the_widest_body_runs_unless_another_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNCLI_KERNEL", raising=False)
    assert kernel() == (*("plain",), *native.bodies())[-1]
    monkeypatch.setenv("GNCLI_KERNEL", "plain")
    assert kernel() == "plain"
    loops.cache_clear()
    assert loops() is plain
    loops.cache_clear()
