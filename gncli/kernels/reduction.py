"""Reductions: measure a piece, merge two results. All statistics of a tensor are computed this way.

A *record* is a `NamedTuple` of arrays of one shape, one entry per set of values; a field may be None, which stands for
zeros, or a record itself. A `Reduction` measures the sets of a visit and merges records set by set. The rest is here,
shared by all of them: folding along axes, the tree, and the fold of consecutive visits.

Notes
-----
Results are merged along the balanced binary tree of their index. A visit is an aligned run of a power of two of
entries, so its record is a node of that tree. Therefore the bits of a result depend on the tensor alone, and never on
how its blocks were divided into tiles, visits and workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.partition import Axis
from gncli.kernels.walk import Region, Tile, Walk

Array = NDArray[Any]
R = TypeVar("R", bound=tuple[Any, ...])
S = TypeVar("S", bound=tuple[Any, ...])


class Visit(NamedTuple):
    """The input of a worker: a region of a walk, and its elements.

    Attributes
    ----------
    walk : Walk
        The walk over the whole tensor.
    region : Region
        The position of this visit in the walk.
    values : ndarray, 1-D
        The elements, in storage order.
    tile : int
        The number of elements that are widened to float64 at once.
    """

    walk: Walk
    region: Region
    values: Array
    tile: int


class Reduction(ABC, Generic[R]):
    """A statistic of each cell, measured on pieces and merged. It is picklable, and workers share it.

    `measure` and `nothing` make records; `merge` is associative and commutative to rounding.
    """

    @abstractmethod
    def measure(self, visit: Visit) -> R:
        """Return the record of a visit: one entry per cell that it touches.

        Returns
        -------
        record, 1-D
            One entry per cell, in storage order; where the region runs along a cell axis, the entries of that axis one
            after the other.
        """

    @abstractmethod
    def nothing(self, num_cells: int = 1) -> R:
        """Return the record of `num_cells` cells without values."""

    def merge(self, a: R, b: R) -> R:
        """Return the record of the unions of `a` and `b`, set by set."""
        raise TypeError(f"{type(self).__name__} measures whole cells and cannot merge")

    def concatenate(self, parts: Sequence[R]) -> R:
        """Return the records of neighbouring cells as one."""
        return concatenate(parts)


class Both(Reduction[tuple[R, S]]):
    """Two reductions in one pass; a record is a pair of records."""

    def __init__(self, first: Reduction[R], second: Reduction[S]) -> None:
        self.first, self.second = first, second

    def measure(self, visit: Visit) -> tuple[R, S]:
        """Return both records of a visit."""
        return self.first.measure(visit), self.second.measure(visit)

    def nothing(self, num_cells: int = 1) -> tuple[R, S]:
        """Return both records of cells without values."""
        return self.first.nothing(num_cells), self.second.nothing(num_cells)

    def merge(self, a: tuple[R, S], b: tuple[R, S]) -> tuple[R, S]:
        """Return both unions."""
        return self.first.merge(a[0], b[0]), self.second.merge(a[1], b[1])

    def concatenate(self, parts: Sequence[tuple[R, S]]) -> tuple[R, S]:
        """Return both records of neighbouring cells."""
        return self.first.concatenate([a for a, _ in parts]), self.second.concatenate([b for _, b in parts])


# --- records ---------------------------------------------------------------------------------------------------------


def each(record: R, change: Callable[[Array], Array]) -> R:
    """Return the record whose arrays are `change` of these, such as a reshape or an index."""
    fields = [each(f, change) if isinstance(f, tuple) else None if f is None else change(f) for f in record]
    return _like(record, fields)


def join(records: Sequence[R], how: Callable[[list[Array]], Array]) -> R:
    """Return the record whose arrays are `how` of the arrays of `records`; a None among arrays stands for zeros."""
    shapes = [shape_of(record) for record in records]

    def joined(fields: tuple[Any, ...]) -> Any:
        if isinstance(fields[0], tuple):
            return join(fields, how)
        if all(field is None for field in fields):
            return None
        dtype = next(field.dtype for field in fields if field is not None)
        return how([np.zeros(s, dtype) if f is None else f for f, s in zip(fields, shapes, strict=True)])

    return _like(records[0], [joined(fields) for fields in zip(*records, strict=True)])


def concatenate(records: Sequence[R]) -> R:
    """Return all `records`, one after the other along their first axis."""
    return records[0] if len(records) == 1 else join(records, np.concatenate)


def shape_of(record: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the shape of the arrays of a record; () if it has no arrays."""
    for field in record:
        if isinstance(field, np.ndarray):
            return tuple(field.shape)
    return next((shape_of(field) for field in record if isinstance(field, tuple) and field), ())


def repeat(record: R, count: int) -> R:
    """Return the record of one set `count` times."""
    return each(record, lambda array: np.repeat(array, count, axis=0))


def reshape(record: R, *shape: int) -> R:
    """Return the record in `shape`."""
    return each(record, lambda array: array.reshape(shape))


def _like(record: R, fields: list[Any]) -> R:
    make: Callable[[list[Any]], Any] = getattr(type(record), "_make", tuple)
    return cast("R", make(fields))


# --- folding ---------------------------------------------------------------------------------------------------------


def fold(record: R, axis: int, merge: Callable[[R, R], R]) -> R:
    """Return the record of the unions along `axis`, merged along the balanced binary tree of its index."""
    folded = each(record, lambda array: array.swapaxes(0, axis)) if axis else record
    while (count := shape_of(folded)[0]) > 1:
        paired = slice(0, count - count % 2, 2), slice(1, count, 2), slice(count - count % 2, count)
        left, right, odd = (each(folded, itemgetter(which)) for which in paired)
        folded = concatenate([merge(left, right), odd]) if count % 2 else merge(left, right)
    return each(folded, lambda array: array.swapaxes(0, axis).squeeze(axis))


def fold_axes(record: R, axes: Sequence[Axis], merge: Callable[[R, R], R], *, keep_first: bool = True) -> R:
    """Return `record`, one entry per index of `axes`, folded over the reduced axes, innermost first; 1-D."""
    folded = reshape(record, *(axis.size for axis in axes))
    for place in reversed(range(len(axes))):
        if not axes[place].cell and not (place == 0 and keep_first):
            folded = fold(folded, place, merge)
    return reshape(folded, -1)


def fold_cells(record: R, merge: Callable[[R, R], R]) -> R:
    """Return the record of the union of all cells of `record`, 1-D and not empty, in shape (1,)."""
    return fold_axes(record, (Axis(False, shape_of(record)[0]),), merge, keep_first=False)


class Tree(Generic[R]):
    """Merges records that arrive one after the other along the balanced binary tree of their index.

    The result is that of `fold` on an array. Nodes that each stand for the same power of two of leaves give the same
    bits as their leaves.
    """

    def __init__(self, merge: Callable[[R, R], R]) -> None:
        self._merge = merge
        self._nodes: list[tuple[int, R]] = []

    def push(self, node: R) -> None:
        """Add the next node."""
        level = 0
        while self._nodes and self._nodes[-1][0] == level:
            node = self._merge(self._nodes.pop()[1], node)
            level += 1
        self._nodes.append((level, node))

    def total(self) -> R | None:
        """Return the record of all nodes so far; None if there are none."""
        total = None
        for _, node in reversed(self._nodes):
            total = node if total is None else self._merge(node, total)
        return total


def folded(walk: Walk, reduction: Reduction[R], visits: Iterable[tuple[Region, R]]) -> Iterator[R]:
    """Yield the records of runs of whole spans of cells, merged from the records of visits, in storage order.

    Parameters
    ----------
    walk : Walk
        The walk that the visits belong to.
    reduction : Reduction
        The reduction that merges them.
    visits : iterable of (Region, record)
        The records of `Reduction.measure`, in storage order; they cover whole spans.
    """
    span = Fold(walk, reduction)
    for region, record in visits:
        if (whole := span.push(region, record)) is not None:
            yield whole


class Fold(Generic[R]):
    """The records of the visits of a span, merged along the unit axes of a walk below the first; see `folded`."""

    def __init__(self, walk: Walk, reduction: Reduction[R]) -> None:
        self._units, self._reduction = walk.units, reduction
        self._trees = [Tree(reduction.merge) for _ in self._units]
        self._cells: list[list[R]] = [[] for _ in self._units]
        self._counts = [0] * len(self._units)

    def push(self, region: Region, record: R) -> R | None:
        """Add the record of the next visit; return the record of its spans if this visit was their last, else None."""
        axis, count = region.axis, region.last - region.first
        while axis:
            cell, size = self._units[axis]
            if cell:
                self._cells[axis].append(record)
            else:
                self._trees[axis].push(record)
            self._counts[axis] += count
            if self._counts[axis] < size:
                return None
            whole = self._reduction.concatenate(self._cells[axis]) if cell else self._trees[axis].total()
            assert whole is not None  # a unit axis has at least one entry
            self._cells[axis], self._trees[axis] = [], Tree(self._reduction.merge)
            self._counts[axis] = 0
            record, axis, count = whole, axis - 1, 1
        return record


# --- blocks ----------------------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """A tile of a visit as rows of blocks: the input of a kernel.

    Attributes
    ----------
    visit : Visit
        The visit, with its elements.
    part : Tile
        The position of the tile in the visit.
    """

    visit: Visit
    part: Tile

    def of(self, values: Array) -> Array:
        """Return the elements of the tile among `values` of the visit, as (A, R) or (A, R, Q): A blocks of R rows."""
        walk, part = self.visit.walk, self.part
        num_x, length, width = walk.view(self.visit.region)
        seen = values.reshape(num_x, length, width) if walk.columns else values.reshape(num_x, length)
        count, first = part.blocks.stop - part.blocks.start, part.blocks.start * walk.block
        picked = seen[part.x, first : first + count * part.length, *([part.q] if walk.columns else [])]
        return picked.reshape(picked.shape[0] * count, part.length, *picked.shape[2:])

    def places(self) -> NDArray[np.int64]:
        """Return the storage index of the first value of each block, in shape (A,) or (A, Q)."""
        walk, region, part = self.visit.walk, self.visit.region, self.part
        _, length, width = walk.view(region)
        x = np.arange(part.x.start, part.x.stop)[:, None, None] * length
        rows = x + np.arange(part.blocks.start, part.blocks.stop)[:, None] * walk.block
        found = np.asarray(region.start + rows * width + np.arange(part.q.start, part.q.stop), np.int64)
        return found.reshape(-1, found.shape[2]) if walk.columns else found[..., 0].reshape(-1)

    @property
    def stride(self) -> int:
        """The distance in storage from one row to the next, in elements."""
        return self.visit.walk.width


def spread(walk: Walk, region: Region, cells: Array) -> Array:
    """Return `cells` in a shape that broadcasts to the elements of `region`, as (X, L, Q).

    Parameters
    ----------
    walk : Walk
        The walk over the whole tensor.
    region : Region
        The visit.
    cells : ndarray, 1-D
        One value per cell, in storage order: for the cells of the region if it runs over whole spans, else for those of
        its span.

    Returns
    -------
    ndarray, shape (X, 1, Q), or (X, 1) where a leaf has no columns
        The value of the cell of each element.
    """
    num_x, _, width = walk.view(region)
    shape = (num_x, 1, width) if walk.columns else (num_x, 1)
    if region.axis == 0 and cells.size == num_x * width:  # no axis is reduced but the leaf
        return cells.reshape(shape)
    axis, run = region.axis, region.last - region.first
    sizes = [unit.size if unit.cell else 1 for unit in (*walk.units, *walk.columns)]
    sizes[0] = run if axis == 0 else 1
    at: list[int | slice] = [region.prefix[p] if p and walk.units[p].cell else 0 for p in range(axis)]
    at.append(slice(region.first, region.last) if axis and walk.units[axis].cell else slice(None))
    found = cells.reshape(sizes)[tuple(at)]
    leaf = axis == len(walk.outer)
    extents = [1 if leaf else run, *(unit.size for unit in walk.outer[axis + 1 :])]
    extents += ([] if leaf else [1]) + [column.size for column in walk.columns]
    return np.broadcast_to(found, extents).reshape(shape)


def over_rows(walk: Walk, region: Region, cells: R) -> R:
    """Return a record of cells in shape (X, Q): the cell of each row and column of `region`. See `spread`."""
    num_x, _, width = walk.view(region)
    if region.axis == 0 and shape_of(cells) == (num_x * width,):  # no axis is reduced but the leaf
        return reshape(cells, num_x, width)
    return each(cells, lambda array: spread(walk, region, array).reshape(num_x, width))


def in_c_order(places: NDArray[np.int64], shape: tuple[int, ...], order: str) -> NDArray[np.int64]:
    """Return the flat index in C order of storage indices, for a tensor of `shape` stored in `order`."""
    if order == "C" or len(shape) < 2:
        return places
    return np.asarray(np.ravel_multi_index(np.unravel_index(places, shape, order="F"), shape), np.int64)


def measure_blocks(visit: Visit, kernel: Callable[[Rows], R], fold: Callable[[R, Sequence[Axis], bool], R]) -> R:
    """Return the record of a visit, from a kernel that measures the blocks of a tile.

    Parameters
    ----------
    visit : Visit
        The visit, with its elements.
    kernel : callable
        Takes the `Rows` of a tile, and returns their record, of shape (A,) or (A, Q).
    fold : callable
        Takes the record of all blocks, its axes, and whether to keep the first; returns what `fold_axes` does.

    Returns
    -------
    record, 1-D
        As `Reduction.measure` returns it.
    """
    walk, region = visit.walk, visit.region
    num_x, length, width = walk.view(region)
    shape = (num_x, -(-length // walk.block), *([width] if walk.columns else []))
    tiles = list(walk.tiles(region, visit.tile))
    if len(tiles) == 1:
        return fold(kernel(Rows(visit, tiles[0])), walk.dims(region), walk.units[region.axis].cell)
    indices: list[tuple[slice, ...]] = []
    records: list[R] = []
    for part in tiles:
        record = kernel(Rows(visit, part))
        blocks = part.blocks.stop - part.blocks.start
        records.append(reshape(record, -1, blocks, *shape_of(record)[1:]))
        indices.append((part.x, part.blocks, *([part.q] if walk.columns else [])))

    def placed(arrays: list[Array]) -> Array:
        whole = np.empty(shape, arrays[0].dtype)
        for index, array in zip(indices, arrays, strict=True):
            whole[index] = array
        return whole

    return fold(join(records, placed), walk.dims(region), walk.units[region.axis].cell)
