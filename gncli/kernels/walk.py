"""Walks over a partition: blocks to sum, tiles to compute, visits to read. Only sizes are used here, never data.

There are three sizes, and only the first one has an effect on a result:

* A *block* is the unit of summation. It follows from the canonical form alone.
* A *tile* is a piece that is widened to float64 and processed while it lies in the cache.
* A *visit* is a run of storage that is read, processed and written at once.

For any partition, the kernel reduces one axis, the *leaf*. In storage order a tensor is outer x leaf x columns.
Without columns the sum runs along memory; with columns it runs across memory, for a whole row of cells at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from gncli.kernels.partition import Axis, Partition

ROW_BLOCK = 8192  # elements of a row summed at once, 128 to a lane; as many upper digits are summed without an error
COLUMN_BLOCK = 256  # rows summed one under the other, first to last
SEARCHED = 4096  # candidates for a number of blocks that divides a leaf evenly
WIDE = 1024  # columns that make NumPy's inner loop long enough
SHORT = 64  # a row below this length is too short to be summed alone
VISIT_BLOCKS = 1 << 16  # moments of a visit, about 100 bytes each: the limit of a visit where cells are tiny
BLOCK_LIMIT = 1 << 20  # elements of a block of rows, all columns together


class Region(NamedTuple):
    """A visit: the entries ``[first, last)`` of unit axis `axis`, at `prefix` on the axes before it."""

    start: int
    stop: int
    axis: int
    prefix: tuple[int, ...]
    first: int
    last: int


class Tile(NamedTuple):
    """A part of a visit seen as (X, L, Q): ``[x, blocks, q]``; all blocks of it have `length` rows."""

    x: slice
    blocks: slice
    length: int
    q: slice


@dataclass(frozen=True)
class Walk:
    """A partition whose leaf is chosen and divided into blocks.

    Attributes
    ----------
    outer : tuple of Axis
        The axes before the leaf; the first is a cell axis.
    length : int
        The size of the leaf, L.
    block : int
        The number of rows of a block; the last block of a leaf may be shorter.
    columns : tuple of Axis
        The axes after the leaf.
    """

    outer: tuple[Axis, ...]
    length: int
    block: int
    columns: tuple[Axis, ...]

    @classmethod
    @lru_cache(maxsize=256)  # many arrays have one shape
    def of(cls, partition: Partition) -> Walk:
        """Return the walk over `partition`, which has at least one element."""
        axes = partition.axes
        reduced = [place for place, axis in enumerate(axes) if not axis.cell]
        if not reduced:
            axes, reduced = (*axes, Axis(False, 1)), [len(axes)]
        # The innermost axis that is long enough to be summed at once, else the longest.
        long = [place for place in reduced if axes[place].size >= SHORT]
        leaf = long[-1] if long else max(reduced, key=lambda place: (axes[place].size, place))
        outer, length, columns = axes[:leaf], axes[leaf].size, axes[leaf + 1 :]
        width = math.prod(axis.size for axis in columns)
        if not columns:
            return cls(outer, length, _even(length, ROW_BLOCK), columns)
        # A few narrow rows are taken as one wide one, so that NumPy's inner loop is long.
        rows = min(length // 32, WIDE // width)
        if fold := max((f for f in range(2, rows + 1) if length % f == 0), default=0):
            length, columns, width = length // fold, (Axis(False, fold), *columns), width * fold
        return cls(outer, length, _even(length, max(1, min(COLUMN_BLOCK, BLOCK_LIMIT // width))), columns)

    @cached_property
    def width(self) -> int:
        """The number of columns, Q."""
        return math.prod(axis.size for axis in self.columns)

    @property
    def blocks(self) -> int:
        """The number of blocks of a leaf."""
        return -(-self.length // self.block)

    @cached_property
    def units(self) -> tuple[Axis, ...]:
        """The axes that visits are cut along: the outer ones, then the leaf, counted in blocks."""
        return (*self.outer, Axis(False, self.blocks))

    def entry(self, axis: int) -> int:
        """Return the number of elements of one entry of unit axis `axis`."""
        if axis == len(self.outer):
            return self.block * self.width
        return math.prod(unit.size for unit in self.outer[axis + 1 :]) * self.length * self.width

    def _blocks_of(self, axis: int) -> int:
        """Return the number of moments in one entry of unit axis `axis`, columns included."""
        return math.prod(unit.size for unit in self.units[axis + 1 :]) * self.width

    @property
    def span(self) -> int:
        """The number of elements of a span, the shortest run of storage that holds only whole cells."""
        return self.entry(0)

    @property
    def span_cells(self) -> int:
        """The number of cells of a span, which are all open at once."""
        return math.prod(axis.size for axis in (*self.outer[1:], *self.columns) if axis.cell)

    def cut(self, visit: int) -> int:
        """Return the unit axis along which visits of at most `visit` elements are cut.

        A block is never cut, however long its rows are.
        """
        for axis in range(len(self.outer)):
            if self.entry(axis) <= visit:
                return axis
        return len(self.outer)

    def regions(self, visit: int, spans: range | None = None) -> Iterator[Region]:
        """Yield visits of about `visit` elements, in storage order, over `spans` (by default all of them).

        Each is an aligned run of a power of two of entries, so that its record is a node of the balanced tree.
        """
        axis = self.cut(visit)
        sizes = [unit.size for unit in self.units]
        entry = self.entry(axis)
        blocks = self._blocks_of(axis)
        step = 1 << (max(1, min(visit // entry, VISIT_BLOCKS // blocks)).bit_length() - 1)
        last = self.length * self.width if axis == len(self.outer) else sizes[axis] * entry
        if axis == 0:
            prefixes: Iterator[tuple[int, ...]] = iter([()])
        else:
            prefixes = _indices([spans or range(sizes[0]), *(range(size) for size in sizes[1:axis])])
        for prefix in prefixes:
            base = sum(index * self.entry(place) for place, index in enumerate(prefix))
            for first in range(0, sizes[axis], step):
                stop = min(first + step, sizes[axis])
                yield Region(base + first * entry, base + min(stop * entry, last), axis, prefix, first, stop)

    def dims(self, region: Region) -> tuple[Axis, ...]:
        """Return the axes of the blocks of `region`: the axis it runs along, those inside it, then the columns."""
        run = Axis(self.units[region.axis].cell, region.last - region.first)
        return (run, *self.units[region.axis + 1 :], *self.columns)

    def view(self, region: Region) -> tuple[int, int, int]:
        """Return (X, L, Q), the shape of the elements of `region`."""
        length = self.length if region.axis < len(self.outer) else (region.stop - region.start) // self.width
        return (region.stop - region.start) // (length * self.width), length, self.width

    def tiles(self, region: Region, tile: int) -> Iterator[Tile]:
        """Yield tiles of about `tile` elements that cover `region`, each of whole blocks of one length."""
        num_x, length, width = self.view(region)
        strip = width if self.block * width <= tile else max(WIDE, tile // self.block)
        whole = length // self.block
        rest = length - whole * self.block
        for left in range(0, width, strip):
            q = slice(left, min(left + strip, width))
            per_x = max(1, tile // max(1, whole * self.block * strip))
            per_block = whole if per_x > 1 and whole else max(1, tile // (self.block * strip))
            for x in range(0, num_x, per_x):
                xs = slice(x, min(x + per_x, num_x))
                for block in range(0, whole, per_block):
                    yield Tile(xs, slice(block, min(block + per_block, whole)), self.block, q)
                if rest:
                    yield Tile(xs, slice(whole, whole + 1), rest, q)


def boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[tuple[slice, ...]]:
    """Yield the boxes that make up the run ``[start, stop)`` of an array of `shape` in C order, in order.

    There are at most ``2 * len(shape) - 1`` boxes, each contiguous. They grow by one axis at a time up to the longest
    slab that fits, then shrink again.

    Examples
    --------
    >>> for rows, columns in boxes((3, 4), 3, 9):
    ...     print(rows.start, rows.stop, columns.start, columns.stop)
    0 1 3 4
    1 2 0 4
    2 3 0 1
    """
    if not shape:
        if start < stop:
            yield ()
        return
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    while start < stop:
        axis = next(k for k, stride in enumerate(strides) if start % stride == 0 and start + stride <= stop)
        corner = [start // stride % size for stride, size in zip(strides, shape, strict=True)]
        count = min(shape[axis] - corner[axis], (stop - start) // strides[axis])
        extent = [1] * axis + [count, *shape[axis + 1 :]]
        yield tuple(slice(at, at + size) for at, size in zip(corner, extent, strict=True))
        start += count * strides[axis]


def _even(length: int, most: int) -> int:
    """Return a block size of at most `most` that divides `length` evenly, or nearly so if no divisor fits."""
    fewest = -(-length // most)
    # Not all candidates are tried: a leaf of 10 TB has about 10**8.
    counts = range(fewest, min(2 * fewest, length, fewest + SEARCHED) + 1)
    return -(-length // next((count for count in counts if length % count == 0), fewest))


def _indices(ranges: list[range]) -> Iterator[tuple[int, ...]]:
    """Yield the indices of `ranges` in C order, one at a time (`itertools.product` would hold each range in memory)."""
    if not ranges:
        yield ()
        return
    for index in ranges[0]:
        for rest in _indices(ranges[1:]):
            yield (index, *rest)
