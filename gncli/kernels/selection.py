"""Selection of elements by cell and rank, exact and in constant memory, from passes that count bits.

A pass counts one 16-bit step of the elements that share a path so far (see `gncli.kernels.percentiles`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels import percentiles
from gncli.kernels.counts import Counting, Counts
from gncli.kernels.loops import loops
from gncli.kernels.moments import Floats
from gncli.kernels.partition import Axis
from gncli.kernels.plain import STEP, num_steps
from gncli.kernels.reduction import Reduction, Visit, spread
from gncli.kernels.walk import Walk

MAX_COUNTS = 64  # histograms of 64 Ki buckets, 512 KB each, held at once

Key = tuple[int, int]
"""A cell of a span, and a rank among its finite elements, counted from 0."""
Path = tuple[int, tuple[int, ...]]
"""A cell of a span, and the first steps of the bits of an element in it."""


def cells_at_once(chosen: int) -> int:
    """Return for how many cells `chosen` percentiles, two neighbours each, are selected in the same passes."""
    return max(1, MAX_COUNTS // (2 * chosen))


def num_passes(walk: Walk, dtype: np.dtype[Any], chosen: int) -> int:
    """Return the number of passes over a span that `chosen` percentiles of all its cells take."""
    return -(-walk.span_cells // cells_at_once(chosen)) * percentiles.steps(dtype)


class Selection:
    """Selects elements of a span by rank, in `steps` passes over it.

    Parameters
    ----------
    walk : Walk
        The walk over the tensor.
    dtype : numpy.dtype
        The dtype of its elements.
    cells : range
        The cells of the span to select from, at most `cells_at_once` of them.
    wanted : collection of (int, int)
        The elements to select: pairs of a cell and a rank.
    """

    def __init__(self, walk: Walk, dtype: np.dtype[Any], cells: range, wanted: Collection[Key]) -> None:
        self._walk, self._dtype, self._cells = walk, dtype, cells
        self._paths: dict[Key, tuple[int, ...]] = dict.fromkeys(wanted, ())
        self._ranks = {key: key[1] for key in wanted}
        self._level = 0

    @property
    def steps(self) -> int:
        """The number of passes."""
        return percentiles.steps(self._dtype)

    def _shared(self) -> list[Path]:
        return sorted({(cell, path) for (cell, _), path in self._paths.items()})

    def counting(self) -> BitCounts:
        """Return the reduction of the next pass."""
        return BitCounts(self._walk, self._dtype, self._cells, self._shared(), self._level)

    def take(self, counts: Counts) -> None:
        """Extend each path by the step that the counts of the pass determine."""
        shared, level, finite = self._shared(), self._level, percentiles.finite_steps(self._dtype)
        table = counts.number.reshape(-1, finite.size)
        if level == 0:
            table[:, ~finite] = 0
            table = table[[cell - self._cells.start for cell, _ in shared]]
        for key, path in self._paths.items():
            row = table[shared.index((key[0], path))]
            negative = bool(path) and path[0] >= percentiles.BUCKETS // 2
            ordered = percentiles.order(self._dtype, level, negative)
            step, self._ranks[key] = percentiles.find(row, ordered, self._ranks[key])
            self._paths[key] = (*path, step)
        self._level += 1

    def values(self) -> Mapping[Key, int | float]:
        """Return the selected elements, after the last pass."""
        return {key: percentiles.value_of(path, self._dtype) for key, path in self._paths.items()}


class BitCounts(Counting):
    """Counts the finite elements of each (cell, path) by their next step.

    Parameters
    ----------
    walk : Walk
        The walk over the tensor.
    dtype : numpy.dtype
        The dtype of its elements.
    cells : range
        The cells of the span whose elements are counted.
    paths : sequence of Path
        The sorted paths; at level 0, where all paths are empty, every cell has its own slots.
    level : int
        The index of the step that is counted; 0 is the highest 16 bits.
    """

    def __init__(self, walk: Walk, dtype: np.dtype[Any], cells: range, paths: Sequence[Path], level: int) -> None:
        self._level = level
        buckets = num_steps(dtype)
        super().__init__((len(paths) if level else len(cells)) * buckets)
        self._paths = np.array([_code(cell - cells.start, path) for cell, path in paths], np.uint64)
        self._top = np.zeros((len(cells) + 1) * buckets, np.bool_)
        if level:
            self._top[[(cell - cells.start) * buckets + path[0] for cell, path in paths]] = True
        self._local = np.full(walk.span_cells, len(cells))
        self._local[cells.start : cells.stop] = np.arange(len(cells))

    def measure(self, visit: Visit) -> Counts:
        """Return the counts of a visit, without slots whose count is 0."""
        cells = self._cells_of(visit)
        if self._level:
            found = loops().steps_on_paths(visit.values, cells, self._top, self._paths, self._level)
        else:
            found = loops().steps(visit.values, cells, self.num_slots // num_steps(visit.values.dtype))
        counts = found.reshape(-1)
        used = np.flatnonzero(counts)
        return Counts(counts[used], used)

    def _cells_of(self, visit: Visit) -> NDArray[np.int64]:
        """Return the cell of the elements of a visit among those that are counted, in shape (X, 1, Q)."""
        if self._local.size == 1:
            return self._local.reshape(1, 1, 1)
        walk, region = visit.walk, visit.region
        num_x, _, width = walk.view(region)
        return spread(walk, region, self._local).reshape(num_x, 1, width)


def _code(cell: int, path: tuple[int, ...]) -> int:
    code = cell
    for step in path:
        code = code << STEP | step
    return code


class Percentiles(NamedTuple):
    """The percentiles of cells: a record whose array has one row, not one entry, per cell.

    Attributes
    ----------
    values : ndarray of float64, shape (cells, percentiles)
        NaN where a cell has no finite value.
    """

    values: Floats


class RowPercentiles(Reduction[Percentiles]):
    """The percentiles of cells that lie within one visit, so that there is nothing to merge.

    Parameters
    ----------
    chosen : sequence of float
        The percentiles, 0 to 100.
    """

    def __init__(self, chosen: Sequence[float]) -> None:
        self._chosen = tuple(chosen)

    def measure(self, visit: Visit) -> Percentiles:
        """Return the percentiles of the cells of a visit to whole spans."""
        walk, region = visit.walk, visit.region
        run = Axis(True, region.last - region.first)
        axes = (run, *walk.outer[1:], Axis(False, walk.length), *walk.columns)
        seen = visit.values.reshape([axis.size for axis in axes])
        cells = [place for place, axis in enumerate(axes) if axis.cell]
        rest = [place for place, axis in enumerate(axes) if not axis.cell]
        rows = seen.transpose(*cells, *rest).reshape(math.prod(axes[place].size for place in cells), -1)
        return Percentiles(percentiles.of_rows(rows, self._chosen).T)

    def nothing(self, num_cells: int = 1) -> Percentiles:
        """Return the percentiles of no values."""
        return Percentiles(np.full((num_cells, len(self._chosen)), np.nan))
