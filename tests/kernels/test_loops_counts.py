"""The loops that count bits: every body of native.c and plain.py against the definition, element by element."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels import plain
from gncli.kernels.histogram import Bins
from gncli.kernels.loops import Loops
from tests.marks import slow_but

DTYPES = "b1 i1 u1 f2 >f2 i2 >u2 f4 >f4 i4 >i4 u4 f8 >f8 i8 >i8 u8".split()
INT64 = np.dtype(np.int64).str
SHAPES = [(1, n, 1) for n in (0, 1, 3, 4, 5, 8, 300)] + [(300, 1, 1), (7, 5, 1), (2, 6, 3), (3, 1, 2), (1, 2, 4099)]


def hostile(dtype: str, size: int) -> NDArray[Any]:
    """Return elements of all bit patterns, about half of them alike, not aligned."""
    kind = np.dtype(dtype)
    rng = np.random.default_rng(size)
    drawn = rng.integers(0, 256, (size, kind.itemsize), np.uint8)
    ends = np.array([0, 1, 0x7F, 0x80, 0xFF, 0xFE], np.uint8)
    drawn[::2] = ends[rng.integers(0, ends.size, (drawn[::2].shape[0], 1))]
    drawn[::3] = drawn[:1]
    raw = np.append(np.uint8(0), drawn.reshape(-1))[1:]
    found: NDArray[Any] = raw.view(kind)
    return found


def numbers(values: NDArray[Any]) -> list[int]:
    """Return the bits of elements as unsigned numbers."""
    raw, width = values.tobytes(), values.dtype.itemsize
    return [
        int.from_bytes(raw[k : k + width], "big" if values.dtype.str[0] == ">" else "little")
        for k in range(0, len(raw), width)
    ]


def placed(shape: tuple[int, int, int], num_cells: int) -> tuple[NDArray[np.int64], list[int]]:
    """Return the cell of each (x, q), and of each element; the cell `num_cells` is not counted."""
    num_x, _, width = shape
    cells = (np.arange(num_x * width) * 7 % (num_cells + 1)).reshape(num_x, 1, width)
    return cells, np.broadcast_to(cells, shape).reshape(-1).tolist()


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "u1", "i8", "f2", ">f4", "f8"))
def test_elements_are_counted_between_bounds_of_their_bits(each: Loops, dtype: str) -> None:
    width = np.dtype(dtype).itemsize
    last = (1 << 8 * width) - 1
    starts = np.arange(1 << min(16, 8 * width), dtype=np.uint64) << np.uint64(max(0, 8 * width - 16))
    for size in (0, 1, 7, 300):
        values = hostile(dtype, size)
        bits = numbers(values)
        ends_of_steps = {(number | (1 << max(0, 8 * width - 16)) - 1) - less for number in bits[:9] for less in (0, 1)}
        near = {min(max(number + step, 0), last) for number in bits[:40] for step in (-2, -1, 0, 3)}
        for ends in (
            {last},
            {*ends_of_steps, last} - {-1},
            {0, last >> 1, last},
            {*near, last},
            {*range(min(last, 30)), 255, last},
        ):
            upper = np.array(sorted(ends), np.uint64)
            first = np.searchsorted(upper, starts).astype(np.uint32)
            found = each.between(values, first, upper)
            assert found.dtype == np.int64
            assert (
                found.tolist()
                == np.bincount(np.searchsorted(upper, np.array(bits, np.uint64)), minlength=upper.size).tolist()
            )


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "u1", "i8", "f2", ">f4", "f8"))
def test_the_highest_steps_are_counted_by_cell(each: Loops, dtype: str) -> None:
    buckets = plain.num_steps(np.dtype(dtype))
    for shape in SHAPES:
        values = hostile(dtype, shape[0] * shape[1] * shape[2])
        high = [bits >> max(0, 8 * values.dtype.itemsize - 16) for bits in numbers(values)]
        for num_cells in (1, 3):
            cells, of = placed(shape, num_cells)
            wanted = np.zeros((num_cells + 1, buckets), np.int64)
            np.add.at(wanted, (of, high), 1)
            found = each.steps(values, cells, num_cells)
            assert (found.dtype.str, found.shape) == (INT64, (num_cells, buckets))
            assert (found == wanted[:-1]).all()


@pytest.mark.parametrize("dtype", slow_but([dtype for dtype in DTYPES if dtype[-1] in "48"], "i4", ">f4", "f8"))
def test_the_next_steps_are_counted_on_each_path(each: Loops, dtype: str) -> None:
    width = np.dtype(dtype).itemsize
    for shape in SHAPES:
        values = hostile(dtype, shape[0] * shape[1] * shape[2])
        bits = numbers(values)
        for num_cells in (1, 3):
            cells, of = placed(shape, num_cells)
            for level in range(1, width // 2):
                begun = [
                    cell << 16 * level | number >> 8 * width - 16 * level for cell, number in zip(of, bits, strict=True)
                ]
                last = [number >> 8 * width - 16 * (level + 1) & 0xFFFF for number in bits]
                # Some paths of elements, and some beside them.
                chosen = begun[:: len(begun) // 4 + 1]
                chosen = [*chosen[1:], *(path ^ 1 for path in chosen)]
                paths = list({path for path in chosen if path >> 16 * level < num_cells})
                paths = sorted(paths or [0])
                top = np.zeros((num_cells + 1) * 65536, np.bool_)
                top[[path >> 16 * (level - 1) for path in paths]] = True
                wanted = Counter(
                    (paths.index(path), step) for path, step in zip(begun, last, strict=True) if path in paths
                )
                found = each.steps_on_paths(values, cells, top, np.array(paths, np.uint64), level)
                assert (found.dtype.str, found.shape) == (INT64, (len(paths), 65536))
                assert {(k, m): found[k, m] for k, m in np.argwhere(found).tolist()} == wanted


def test_many_equal_elements_are_all_counted(each: Loops) -> None:
    values = np.zeros(300_001, np.float32)
    one = np.zeros((1, 1, 1), np.int64)
    top = np.zeros(2 * 65536, np.bool_)
    top[0] = True
    assert each.steps(values, one, 1)[0, 0] == values.size
    assert each.steps_on_paths(values, one, top, np.array([0], np.uint64), 1)[0, 0] == values.size
    upper = np.array([0, 0xFFFFFFFF], np.uint64)
    first = (np.arange(65536) > 0).astype(np.uint32)
    assert each.between(values, first, upper).tolist() == [values.size, 0]


def histogram(values: NDArray[Any], at: NDArray[np.float64]) -> list[int]:
    """Return the counts that NumPy's histogram of the finite values between the edges has."""
    with np.errstate(invalid="ignore"):
        wide = values.astype(np.float64)
    wide = wide[(wide >= at[0]) & (wide <= at[-1])]
    index = np.searchsorted(at, wide, side="right") - 1
    return np.bincount(np.minimum(index, at.size - 2), minlength=at.size - 1).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", DTYPES)
def test_bins_count_what_lies_between_their_edges(dtype: str) -> None:
    kind = np.dtype(dtype)
    values = hostile(dtype, 300)
    with np.errstate(invalid="ignore"):
        finite = np.sort(values.astype(np.float64)[np.isfinite(values.astype(np.float64))])
    extremes = finite[0], finite[-1]
    tables = [
        np.linspace(extremes[0] / 2, extremes[1] / 2, 65) * 2,
        finite[::9],  # edges that are elements
        np.nextafter(finite[::9], np.inf),
        np.nextafter(finite[::9], -np.inf),
        np.array([-1.0, -0.0, 0.0, 0.0, 1.0]),
        np.array([finite[0], finite[0], finite[-1], finite[-1]]),
        np.array([-1e308, 1e308]),  # further than most dtypes reach
        np.array([1e300, 1e301, 1e308]),
        np.array([-1e308, -1e301, -1e300]),
    ]
    for at in tables:
        with np.errstate(over="ignore"):
            counts = Bins(at, kind).count(values)
        assert counts.tolist() == histogram(values, at), at
