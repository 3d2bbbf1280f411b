"""Exact sums of digits: every body of native.c against plain.py, and against Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels import plain
from gncli.kernels.loops import Loops
from gncli.kernels.plain import NO_DIGITS

RNG = np.random.default_rng(4)


def rows() -> list[NDArray[np.float32]]:
    """Return hostile rows of float32."""
    found = [RNG.normal(size=(3, length)).astype(np.float32) for length in (1, 2, 7, 64, 300, 8192)]
    found += [(RNG.normal(size=(2, 65)) * scale + scale).astype(np.float32) for scale in (1e-30, 1e-3, 1e30)]
    found += [np.array([[-0.0, 0.0, 1.5]], np.float32), np.zeros((2, 5), np.float32)]
    found += [np.full((1, 9), value, np.float32) for value in (1e-45, np.nan, -np.inf, 3.4028235e38, -1.1754944e-38)]
    found.append(np.array([[1.0, 2**-23, 3.0], [1.0, 2**-47, 5.0], [1.0, 2**-49, 7.0]], np.float32))
    found.append(np.full((1, 8192), 1 - 2**-24, np.float32))
    return found


def in_units(values: NDArray[np.float32], top: int) -> tuple[list[int], NDArray[np.bool_]]:
    """Return values as multiples of 2^(top - 48), exact, and which are whole ones; 0 for what is not finite."""
    scaled = np.ldexp(np.where(np.isfinite(values), values, 0).astype(np.float64), 48 - top)
    return [int(value) for value in scaled.tolist()], scaled == np.rint(scaled)


def test_digits_are_those_of_plain_and_their_sums_are_exact(each: Loops) -> None:
    for whole in rows():
        for values in (whole, whole[:, ::2], np.asfortranarray(whole), _moved(whole)):
            found = each.digits(values)
            assert found.tolist() == plain.digits(values).tolist()
            for row, (high, low, squares, mixed, low_squares, top) in zip(values, found.T.tolist(), strict=True):
                if top == NO_DIGITS:
                    assert not np.isfinite(row).all() or max(row) == 1 or max(map(abs, row)) < 1e-38 or len(row) < 4
                    continue
                exact, whole_units = in_units(row, top)
                assert whole_units.all()
                assert sum(exact) == (high << 24) + low
                assert sum(value**2 for value in exact) == (squares << 48) + (mixed << 25) + low_squares


@pytest.mark.slow
def test_digits_of_columns_are_those_of_plain_and_their_sums_are_exact(each: Loops) -> None:
    for row in rows():
        for columns in (1, 3, 70):
            whole = np.stack([np.roll(row, shift, axis=1) for shift in range(columns)], axis=2)
            top = int(np.frexp(np.abs(whole, where=np.isfinite(whole), out=np.zeros_like(whole)).max())[1])
            for values in (whole, np.asfortranarray(whole)):
                found, late = each.column_digits(values, top)
                expected, too = plain.column_digits(values, top)
                assert (found.tolist(), late.tolist()) == (expected.tolist(), too.tolist())
            for a, q in ((0, 0), (-1, -1)):
                exact, whole_units = in_units(whole[a, :, q], top)
                lost = not whole_units.all() or not np.isfinite(whole[a, :, q]).all()
                assert late[a, q] == lost
                high, low, squares, mixed, low_squares = found[:, a, q].tolist()
                first, second = (high << 24) + low, (squares << 48) + (mixed << 25) + low_squares
                right = (0, 0) if lost else (sum(exact), sum(value * value for value in exact))
                assert (first, second) == right


def _moved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a copy that is not aligned."""
    raw = np.zeros(values.nbytes + 1, np.uint8)
    raw[1:] = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
    return raw[1:].view(np.float32).reshape(values.shape)
