"""The loops over bytes: every body of native.c and plain.py against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.loops import Loops


def test_the_planes_of_shuffled_bytes_are_put_together(each: Loops) -> None:
    for size in (*range(40), 120, 127, 128, 129, 300, 4096, 4099):
        data = np.random.default_rng(size).integers(0, 256, size + 1, np.uint8)[1:]  # not aligned
        for width in (1, 2, 3, 4, 8, 16):
            count = size // width
            planes = [data[k * count : (k + 1) * count].tolist() for k in range(width)]
            whole = [byte for element in zip(*planes, strict=True) for byte in element]
            assert each.unshuffle(data, width).tolist() == whole + data[count * width :].tolist()


@pytest.mark.parametrize("nbytes", [*range(5), 31, 32, 33, 95, 300, 8190, 8191, 8192, 8194, 8225, 50_001])
def test_the_checksum_is_the_one_in_the_specification(each: Loops, nbytes: int) -> None:
    for data in (np.random.default_rng(nbytes).bytes(nbytes), b"\xff" * nbytes, b"\0" * nbytes, b"\0" * nbytes + b"\1"):
        first = second = 0
        for at in range(0, len(data), 2):
            first += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
            first = (first & 0xFFFF) + (first >> 16)
            second += first
            second = (second & 0xFFFF) + (second >> 16)
        assert each.fletcher32(np.frombuffer(data, np.uint8)) == second << 16 | first


@pytest.mark.parametrize("kind", [kind for kind in FLOATS.values() if kind.foreign], ids=lambda kind: kind.name)
def test_a_float_loses_its_lower_digits(each: Loops, kind: Float) -> None:
    for size in (0, 1, 31, 4099):
        bits = np.random.default_rng(size).integers(0, 1 << 32, size, np.uint32)
        found, right = np.empty((2, size), kind.stored)
        each.narrow(kind, bits.view(np.float32), found)
        kind.narrow(bits.view(np.float32), right)
        assert found.tolist() == right.tolist()
