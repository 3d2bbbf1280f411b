"""`gncli.io.pairs`: tensors of any axes and storage orders, read as one in constant memory."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.io import ArraySource, pairs
from gncli.io.pairs import InCOrder, Pair, paired
from tests.arrays import Forward, assert_same_bits
from tests.marks import slow_but

SHAPES = [(3, 4, 5, 6), (2, 1, 7, 3), (5, 8), (4, 1, 9, 2), (1, 1, 3)]
# SLAB, READ, LONG: one slab; many, read whole; many, piece by piece; many, with what lies between short pieces
SIZES = [(10**6, 10**6, 64), (700, 200, 10**9), (100, 50, 1), (700, 64, 16)]


class Counting(ArraySource):
    """An array that counts the elements that are read."""

    def __init__(self, array: NDArray[Any]) -> None:
        super().__init__(array)
        self.elements = self.most = 0

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Read, and count."""
        self.elements += out.size
        self.most = max(self.most, out.nbytes)
        super().read_into(out, start)


def elements(pair: Pair, size: int, step: int) -> tuple[NDArray[Any], ...]:
    """Return all elements of each tensor of a pair, read in runs of `step`."""
    runs = []
    for start in range(0, size, step):
        values = np.empty(min(step, size - start), pair.dtype)
        pair.read_into(values, start)
        runs.append(pair.split(values))
    return tuple(np.concatenate(run) for run in zip(*runs, strict=True))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("orders", slow_but(["CC", "CF", "FC", "FF"], "CF"))
def test_axes_in_any_order_are_read_in_that_of_a(
    orders: Any, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, nbytes in zip(("SLAB", "READ", "LONG"), sizes, strict=True):
        monkeypatch.setattr(pairs, name, nbytes)
    for shape in SHAPES:
        a = np.array(np.arange(np.prod(shape)).reshape(shape), order=orders[0])
        c = np.array(-a, np.float32, order=orders[1])
        for axes in itertools.permutations(range(a.ndim)):
            b = np.array(a.transpose(np.argsort(axes)), order=orders[1])
            with ExitStack() as stack:
                pair = paired(stack, ArraySource(a), ArraySource(b), ArraySource(c), axes=axes)
                assert pair.shape == shape
                found = elements(pair, a.size, 37)
            expected = a.reshape(-1, order=pair.order)
            for values in found[:2]:
                assert_same_bits(values, expected)
            assert_same_bits(found[2], (-expected).astype(np.float32))


def test_samples_that_fit_in_memory_are_read_once_and_in_large_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SLAB", 4000)
    monkeypatch.setattr(pairs, "READ", 1000)
    a = np.arange(20 * 6 * 5 * 5).reshape(20, 6, 5, 5)
    source = Counting(np.ascontiguousarray(a.transpose(0, 2, 3, 1)))
    with ExitStack() as stack:
        pair = paired(stack, ArraySource(a), source, axes=(0, 3, 1, 2))
        assert_same_bits(elements(pair, a.size, 113)[1], a.reshape(-1))
    turned = pair.b
    assert isinstance(turned, InCOrder)
    assert (turned.rereads, source.elements, source.most) == (False, a.size, 1000)


def test_one_large_sample_is_read_once_per_slab_or_in_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    a = np.arange(8 * 300).reshape(8, 300)
    for long, slab, rereads, times in ((1 << 18, 4800, True, 4), (8, 4800, False, 1)):
        monkeypatch.setattr(pairs, "LONG", long)
        monkeypatch.setattr(pairs, "SLAB", slab)
        source = Counting(np.ascontiguousarray(a.T))
        turned = InCOrder(source, (8, 300), (1, 0))
        out = np.empty(a.size, a.dtype)
        turned.read_into(out, 0)
        assert_same_bits(out, a.reshape(-1))
        assert (turned.rereads, source.elements) == (rereads, times * a.size)


def test_a_stream_in_another_order_is_copied_first() -> None:
    a = np.arange(24).reshape(2, 3, 4)
    with ExitStack() as stack:
        pair = paired(stack, ArraySource(a), Forward(np.ascontiguousarray(a.transpose(0, 2, 1))), axes=(0, 2, 1))
        assert_same_bits(elements(pair, 24, 5)[1], a.reshape(-1))


def test_what_a_pair_needs_next_is_told_to_what_it_is_made_of() -> None:
    told: list[tuple[int, int]] = []

    class Far(ArraySource):
        def will_need(self, start: int, stop: int) -> None:
            told.append((start, stop))

    pairs.Stored(Far(np.zeros(9, np.float32))).will_need(3, 5)
    assert told == [(3, 5)]
