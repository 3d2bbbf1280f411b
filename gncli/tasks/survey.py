"""What is found out of one tensor: the passes behind ``stats``, over all of it or cell by cell."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli import progress
from gncli.errors import LimitError
from gncli.io.source import Sink, Source
from gncli.kernels import histogram, percentiles
from gncli.kernels.extras import EXTRAS, PIECE, Extras
from gncli.kernels.finish import finished
from gncli.kernels.groupnorm import spread
from gncli.kernels.moments import Floats, Fold, Moments, Tree, concatenate, fold_axes, measure_region
from gncli.kernels.partition import Axis, Partition, whole
from gncli.kernels.walk import Region, Walk
from gncli.names import DEFAULT_STATISTICS, Value, statistic
from gncli.report.records import Cell, Cells, Histogram, TensorStats
from gncli.run.engine import Engine
from gncli.run.passes import MAX_OPEN_CELLS, measure_spans
from gncli.tasks.by import By, Part

MAX_PASSES = 16  # over a cell that does not fit a visit
MAX_COUNTS = 64  # histograms of 64 Ki buckets, 512 KB each, held at once

Batch = list[Cell]
OnCells = Callable[[TensorStats, Batch], None]
"""Takes the tensor, without values, and its next cells, in order."""


class Wanted(NamedTuple):
    """What is wanted of a tensor, or of each of its cells.

    Attributes
    ----------
    statistics : tuple of str
        By contract name; none stands for the default ones.
    ddof : int
        Taken from the number of elements in variance and deviation.
    bins : int or None
        Of the histogram, if there is to be one.
    """

    statistics: tuple[str, ...] = ()
    ddof: int = 0
    bins: int | None = None

    @property
    def reads(self) -> bool:
        """Whether data must be read, or headers are enough."""
        reading = any(statistic(name).reads for name in self.statistics)
        return self.bins is not None or not self.statistics or reading

    @property
    def percentiles(self) -> Mapping[str, float]:
        """The percentiles by contract name."""
        found = {name: statistic(name).percentile for name in self.statistics}
        return {name: percentile for name, percentile in found.items() if percentile is not None}

    def extras(self, source: Source) -> Extras | None:
        """Return what is wanted beside plain moments, or None."""
        names = EXTRAS & set(self.statistics)
        return Extras(names, source.shape, source.order) if names else None


def measured(statistics: Sequence[str], *, zeros: bool = False) -> tuple[str, ...]:
    """Return what is measured for `statistics`, none of which stands for the default ones; and zeros, if asked for.

    Statistics that the header answers are not joined by one that reads the data.

    Examples
    --------
    >>> measured(["mean"], zeros=True), measured(["shape"], zeros=True)
    (('mean', 'zeros'), ('shape',))
    """
    asked = tuple(statistics) or DEFAULT_STATISTICS
    joined = zeros and any(statistic(name).reads for name in asked)
    return tuple(dict.fromkeys((*asked, *(["zeros"] if joined else []))))


class Found(NamedTuple):
    """What a survey found: the record, and the moments behind it, settled, of shape (1,); None if nothing was read."""

    stats: TensorStats
    moments: Moments | None = None


def survey(source: Source, engine: Engine, wanted: Wanted) -> Found:
    """Return what is found out of all of `source`; its data are read only if something wanted needs them."""
    header = TensorStats(source.shape, source.dtype_name, {}, source.name, axis_names=source.dimensions)
    if not wanted.reads:
        return Found(header)
    if wanted.bins is not None:
        source.hold(0, math.prod(source.shape))
    _announce(source, whole(source.shape), engine, wanted)
    ((moments, selected),) = _spans(source, whole(source.shape), engine, wanted, held=wanted.bins is not None)
    moments = moments.settled()
    columns = finished(moments, source.dtype, source.shape, wanted.statistics, wanted.ddof)
    values = {name: column[0] for name, column in columns.items()} | {
        name: _defined(column[0]) for name, column in zip(wanted.percentiles, selected, strict=True)
    }
    stats = replace(header, values=values)
    if wanted.bins is not None:
        stats = replace(stats, histogram=histogram_of(source, engine, moments, wanted.bins))
    source.verify_unchanged()
    return Found(stats, moments)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def histogram_of(source: Source, engine: Engine, moments: Moments, bins: int) -> Histogram:
    """Return the histogram of `source` between the extremes in `moments`, from one more pass."""
    if not moments.n[0]:
        return Histogram((), ())
    edges = histogram.edges(float(moments.min[0]), float(moments.max[0]), bins)
    return Histogram(tuple(edges.tolist()), tuple(counted(source, engine, edges).tolist()))


def counted(source: Source, engine: Engine, edges: Floats) -> NDArray[np.int64]:
    """Return how many elements of `source` lie between `edges`, from one pass."""
    counts = np.zeros(edges.size - 1, np.int64)
    walk, bins = Walk.of(whole(source.shape)), histogram.Bins(edges, source.dtype)
    progress.begin("histogram", source.name, _nbytes(source))

    def job(_region: Region, values: NDArray[Any]) -> NDArray[np.int64]:
        return bins.count(values)

    for _, part in engine.run(job, source, walk.regions(engine.visit_of(source))):
        counts += part
    return counts


def _nbytes(source: Source) -> int:
    return math.prod(source.shape) * source.dtype.itemsize


def _announce(source: Source, partition: Partition, engine: Engine, wanted: Wanted) -> None:
    """Say how often a survey is going to read the source, but for its histogram."""
    passes = spans = 1
    if reads_twice(source, partition, engine, wanted._replace(bins=None)):
        walk = Walk.of(partition)
        passes, spans = 1 + _selecting(walk, source, len(wanted.percentiles)), walk.units[0].size
    progress.begin("measure" if passes == 1 else "percentiles", source.name, _nbytes(source), passes, spans)


def reads_twice(source: Source, partition: Partition, engine: Engine, wanted: Wanted) -> bool:
    """Return whether the survey of `source` takes more than one pass."""
    if wanted.bins is not None:
        return True
    return bool(wanted.percentiles and partition.size) and Walk.of(partition).cut(engine.visit_of(source)) > 0


class CountingSink(Sink):
    """A sink that keeps no more of a tensor than its histogram.

    Parameters
    ----------
    bins : histogram.Bins
        Of the dtype that is written.
    number : int
        How many there are.
    """

    def __init__(self, bins: histogram.Bins, number: int) -> None:
        self.counts = np.zeros(number, np.int64)
        self._bins = bins
        self._lock = threading.Lock()

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Count `data`."""
        counts = self._bins.count(data)
        with self._lock:
            self.counts += counts


def describe(source: Source, engine: Engine, statistics: Sequence[str] = (), ddof: int = 0) -> TensorStats:
    """Return the statistics of `source`; its data are read only if one of `statistics` needs them."""
    return survey(source, engine, Wanted(tuple(statistics), ddof)).stats


# --- cell by cell ----------------------------------------------------------------------------------------------------


def survey_cells(source: Source, by: By, engine: Engine, wanted: Wanted, keep: int, on_cells: OnCells | None) -> Found:
    """Return what is found out of each cell of `source`, and of all of them together.

    Parameters
    ----------
    source : Source
    by : By
        Which cells.
    engine : Engine
    wanted : Wanted
        Of each cell.
    keep : int
        How many cells the record keeps; the others are counted.
    on_cells : callable, optional
        Takes every cell, as they are complete.

    Raises
    ------
    LimitError
        If a pipe has more open cells than are held at once, or percentiles would take too many passes.
    """
    header = TensorStats(source.shape, source.dtype_name, {}, source.name, axis_names=source.dimensions)
    kept: list[Cell] = []
    tree = Tree()
    first = 0
    if wanted.bins is not None:
        source.hold(0, math.prod(source.shape))
    for index, columns, total in _batches(source, by, engine, wanted):
        cells = _cells(source, by, index, columns)
        first += len(cells)
        kept += cells[: max(0, keep - len(kept))]
        if on_cells is not None:
            on_cells(header, cells)
        if total is not None:
            tree.push(total)
    found = replace(header, cells=Cells(by.names, tuple(kept), by.count))
    moments = tree.total()
    if moments is None:
        return Found(found)
    moments = moments.settled()
    columns = finished(moments, source.dtype, source.shape, wanted.statistics, wanted.ddof)
    found = replace(found, values={name: column[0] for name, column in columns.items()})
    if wanted.bins is not None:
        found = replace(found, histogram=histogram_of(source, engine, moments, wanted.bins))
    source.verify_unchanged()
    return Found(found, moments)


Columns = Mapping[str, Sequence[Value]]


def _cells(source: Source, by: By, index: NDArray[np.int64], columns: Columns) -> list[Cell]:
    """Return the cells of a batch, of which row i of `index` is the place and ``columns[name][i]`` a statistic."""
    shape, dtype = by.cell_shape, source.dtype_name
    names = tuple(columns)
    rows: Any = zip(*columns.values(), strict=True) if columns else [()] * len(index)
    found = []
    for place, row in zip(index.tolist(), rows, strict=True):
        stats = TensorStats(shape, dtype, dict(zip(names, row, strict=True)), source.name)
        found.append(Cell(dict(zip(by.names, place, strict=True)), stats, by.note(tuple(place))))
    return found


def _batches(
    source: Source, by: By, engine: Engine, wanted: Wanted
) -> Iterator[tuple[NDArray[np.int64], Columns, Moments | None]]:
    """Yield cells in C order of their index: their places, their columns, and the moments of all of them together."""
    partition = by.partition()
    in_order = partition.stored == tuple(range(len(partition.stored)))
    if not wanted.reads:
        for start in range(0, by.count, MAX_OPEN_CELLS):
            yield _index(by, start, min(start + MAX_OPEN_CELLS, by.count), [0] * len(by.names)), {}, None
        return
    held = Walk.of(partition).span_cells if in_order and partition.size else by.count
    if held <= MAX_OPEN_CELLS:
        _announce(source, partition, engine, wanted)
        parts: Iterator[tuple[Source, list[tuple[int, int]]]] = iter([(source, [(0, size) for size in source.shape])])
    elif source.sequential:
        raise LimitError(
            f"{held:,} cells are open at once in this storage order, more than {MAX_OPEN_CELLS:,}",
            subject=source.name,
            hint="a file can be read in parts; store this as a .npy first",
        )
    else:
        progress.begin("measure", source.name, _nbytes(source))
        parts = ((Part(source, box), [*box]) for box in by.ranges(MAX_OPEN_CELLS))
    for part, box in parts:
        part_by = replace(by, shape=part.shape)
        partition = by.partition(part.shape)
        corner = [box[axis][0] // by.unit(axis) for axis in by.axes]
        corner = [0] * (len(by.names) - len(corner)) + corner  # the N of groups without one
        offsets = [start for start, _ in box]
        spans = _spans(part, partition, engine, wanted, held=wanted.bins is not None)
        done = 0
        if not in_order:
            whole_part = list(spans)
            moments = concatenate([m for m, _ in whole_part])
            selected = np.concatenate([s for _, s in whole_part], axis=1)
            place = partition.arrange(np.arange(partition.num_cells)).reshape(-1)
            total = _pooled(moments)
            spans = iter([(moments.each(lambda a, place=place: a[place]), selected[:, place])])  # type: ignore[misc]
        for moments, selected in spans:
            count = moments.n.size
            if in_order:
                total = _pooled(moments)
            columns = _columns(moments.settled(), selected, source, part.shape, offsets, wanted)
            yield _index(part_by, done, done + count, corner), columns, total
            done += count


def _pooled(moments: Moments) -> Moments | None:
    """Return the moments of all cells of a batch together; None where there are none."""
    return fold_axes(moments, (Axis(False, moments.n.size),), keep_first=False) if moments.n.size else None


def _index(by: By, start: int, stop: int, corner: Sequence[int]) -> NDArray[np.int64]:
    places = np.unravel_index(np.arange(start, stop), by.sizes or (1,))
    return np.stack(places, axis=1)[:, : len(by.sizes)] + np.asarray(corner, np.int64)


def _columns(
    moments: Moments,
    selected: Floats,
    source: Source,
    shape: tuple[int, ...],
    offsets: Sequence[int],
    wanted: Wanted,
) -> Columns:
    columns = dict(finished(moments, source.dtype, shape, wanted.statistics, wanted.ddof))
    for name in ("argmin", "argmax", "first_nan", "first_inf"):
        if any(offsets) and name in columns:
            columns[name] = [_moved(place, offsets) for place in columns[name]]
    for name, column in zip(wanted.percentiles, selected, strict=True):
        columns[name] = [_defined(value) for value in column.tolist()]
    return columns


def _moved(place: Value, offsets: Sequence[int]) -> Value:
    return tuple(at + offset for at, offset in zip(place, offsets, strict=True)) if isinstance(place, tuple) else place


# --- percentiles -----------------------------------------------------------------------------------------------------


def _spans(
    source: Source, partition: Partition, engine: Engine, wanted: Wanted, *, held: bool = False
) -> Iterator[tuple[Moments, Floats]]:
    """Yield moments and percentiles, shape (percentiles, cells), of runs of whole spans of cells, in storage order."""
    zeros, extras = "zeros" in wanted.statistics, wanted.extras(source)
    chosen = tuple(wanted.percentiles.values())
    if not chosen or not partition.size:
        for moments in measure_spans(source, partition, engine, zeros=zeros, extras=extras):
            yield moments, np.full((len(chosen), moments.n.size), np.nan)
        return
    walk, visit, tile = Walk.of(partition), engine.visit_of(source), engine.tile_of(source.dtype)
    kernel = None if extras is None else extras.measure

    def moments_of(region: Region, values: NDArray[Any]) -> Moments:
        return measure_region(walk, region, values, tile, zeros=zeros, extras=kernel)

    if walk.cut(visit) == 0:

        def job(region: Region, values: NDArray[Any]) -> tuple[Moments, Floats]:
            return moments_of(region, values), percentiles.of_rows(_rows(walk, region, values), chosen)

        for _, pair in engine.run(job, source, walk.regions(visit)):
            yield pair
        return
    _refuse_many_passes(source, walk, len(chosen))
    for span in range(walk.units[0].size):
        if not held:
            source.hold(span * walk.span, (span + 1) * walk.span)
        fold = Fold(walk, top=1)
        for region, moments in engine.run(moments_of, source, walk.regions(visit, range(span, span + 1))):
            fold.push(region, moments)
        assert fold.result is not None  # every region of the span was pushed
        yield fold.result, select(source, walk, span, fold.result.n, chosen, engine)


def _rows(walk: Walk, region: Region, values: NDArray[Any]) -> NDArray[Any]:
    """Return the elements of whole spans as (cells, elements of a cell), cells in storage order."""
    run = Axis(True, region.last - region.first)
    axes = (run, *walk.outer[1:], Axis(False, walk.length), *walk.columns)
    seen = values.reshape([axis.size for axis in axes])
    cells = [place for place, axis in enumerate(axes) if axis.cell]
    rest = [place for place, axis in enumerate(axes) if not axis.cell]
    return seen.transpose(*cells, *rest).reshape(math.prod(axes[place].size for place in cells), -1)


def _cells_at_once(chosen: int) -> int:
    """Return of how many cells percentiles are selected in the same passes: two neighbours each."""
    return max(1, MAX_COUNTS // (2 * chosen))


def _selecting(walk: Walk, source: Source, chosen: int) -> int:
    """Return how many passes the percentiles of cells that do not fit a visit take."""
    return -(-walk.span_cells // _cells_at_once(chosen)) * percentiles.steps(source.dtype)


def _refuse_many_passes(source: Source, walk: Walk, chosen: int) -> None:
    passes = _selecting(walk, source, chosen)
    if passes > MAX_PASSES and walk.span_cells > 1:
        raise LimitError(
            f"percentiles of {walk.span_cells:,} open cells would take {passes:,} passes, more than {MAX_PASSES}",
            subject=source.name,
            hint="ask for fewer, or for fewer cells, or store the tensor in another order",
        )


def select(source: Source, walk: Walk, span: int, sizes: Floats, chosen: Sequence[float], engine: Engine) -> Floats:
    """Return the percentiles of the cells of one span, from passes that count the bits of their elements.

    Parameters
    ----------
    source : Source
        Which can be read again.
    walk : Walk
        Over its cells.
    span : int
        Which span.
    sizes : ndarray of float64
        How many finite elements each of its cells has.
    chosen : sequence of float
        Which percentiles.
    engine : Engine

    Returns
    -------
    ndarray of float64, shape (chosen, cells)
    """
    found = np.full((len(chosen), sizes.size), np.nan)
    step = _cells_at_once(len(chosen))
    for first in range(0, sizes.size, step):
        cells = range(first, min(first + step, sizes.size))
        ranks = {
            (cell, place): percentiles.rank(percentile, int(sizes[cell]))
            for cell in cells
            for place, percentile in enumerate(chosen)
            if sizes[cell]
        }
        wanted = {(cell, at) for (cell, _), rank in ranks.items() for at in (rank.below, rank.above)}
        values = _selected(source, walk, span, cells, wanted, engine)
        for (cell, place), rank in ranks.items():
            found[place, cell] = percentiles.between(values[cell, rank.below], values[cell, rank.above], rank.share)
    return found


def select_ranks(source: Source, ranks: Sequence[int], engine: Engine) -> list[int | float]:
    """Return the elements of these ranks, counted from 0, among the finite ones of all of `source`."""
    walk = Walk.of(whole(source.shape))
    progress.begin("tolerance", source.name, _nbytes(source), percentiles.steps(source.dtype))
    found = _selected(source, walk, 0, range(1), {(0, rank) for rank in ranks}, engine)
    return [found[0, rank] for rank in ranks]


def _selected(
    source: Source, walk: Walk, span: int, cells: range, wanted: Collection[tuple[int, int]], engine: Engine
) -> Mapping[tuple[int, int], int | float]:
    """Return the element of each (cell, rank), counted from 0 among the finite ones."""
    dtype = source.dtype
    paths: dict[tuple[int, int], tuple[int, ...]] = dict.fromkeys(wanted, ())
    rest = {key: key[1] for key in wanted}
    for level in range(percentiles.steps(dtype)):
        shared = sorted({(cell, paths[cell, rank]) for cell, rank in wanted})
        counts = _counts(source, walk, span, cells, shared, level, engine)
        for key in wanted:
            path = paths[key]
            row = counts[shared.index((key[0], path))]
            ordered = percentiles.order(dtype, level, bool(path) and path[0] >= percentiles.BUCKETS // 2)
            found, rest[key] = percentiles.find(row, ordered, rest[key])
            paths[key] = (*path, found)
    return {key: percentiles.value_of(path, dtype) for key, path in paths.items()}


def _counts(
    source: Source,
    walk: Walk,
    span: int,
    cells: range,
    shared: Sequence[tuple[int, tuple[int, ...]]],
    level: int,
    engine: Engine,
) -> NDArray[np.int64]:
    """Return for each (cell, path) how many finite elements of the cell go on from the path by each step."""
    dtype, buckets = source.dtype, percentiles.finite_steps(source.dtype).size
    codes = np.array([_code(cell - cells.start, path) for cell, path in shared], np.uint64)
    # Of each cell the steps at the top of a path; by them most elements are passed over at once.
    top = np.zeros(len(cells) * buckets, np.bool_)
    if level:
        top[[(cell - cells.start) * buckets + path[0] for cell, path in shared]] = True
    finite = percentiles.finite_steps(dtype)
    alone = walk.span_cells == 1
    local = np.full(walk.span_cells, len(cells))
    local[cells.start : cells.stop] = np.arange(len(cells))

    slots = len(cells) if level == 0 else codes.size

    def counted(bits: NDArray[Any], place: NDArray[np.int64]) -> NDArray[np.int64]:
        if level == 0:
            return np.bincount(place, minlength=slots * buckets)[: slots * buckets]
        on_path = np.flatnonzero(top.take(place))
        bits, place = bits[on_path], place[on_path]
        prefix = (bits >> np.array(dtype.itemsize * 8 - percentiles.STEP * level, bits.dtype)).astype(np.uint64)
        code = (place // buckets).astype(np.uint64) << np.uint64(percentiles.STEP * level) | prefix
        slot = np.minimum(np.searchsorted(codes, code), slots - 1)
        same = codes[slot] == code
        return np.asarray(slot[same] * buckets + percentiles.step_of(bits[same], level), np.int64)

    def job(region: Region, values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        bits = percentiles.bits_of(values)
        high = percentiles.step_of(bits, 0)
        found: list[NDArray[np.int64]] = []
        number = np.zeros(slots * buckets if alone and level == 0 else 0, np.int64)
        if alone:
            # In pieces, for the cache; and bincount takes other types than its own by way of a slow cast.
            for start in range(0, bits.size, PIECE):
                part = slice(start, start + PIECE)
                one = counted(bits[part], high[part].astype(np.int64))
                if level == 0:
                    number += one
                else:
                    found.append(one)
        else:
            shape = walk.view(region) if walk.columns else walk.view(region)[:2]
            place = np.add(high.reshape(shape), spread(walk, region, local) * buckets, dtype=np.int64).reshape(-1)
            inside = np.flatnonzero(place < len(cells) * buckets) if level else slice(None)
            one = counted(bits[inside], place[inside])
            if level == 0:
                number = one
            else:
                found.append(one)
        if level:
            return np.unique(np.concatenate(found), return_counts=True)
        some = np.flatnonzero(number)
        return some, number[some]

    counts = np.zeros(len(shared if level else cells) * buckets, np.int64)
    visit = engine.visit_of(source)
    for _, (some, number) in engine.run(job, source, walk.regions(visit, range(span, span + 1))):
        counts[some] += number
    table = counts.reshape(-1, buckets)
    if level == 0:
        table[:, ~finite] = 0
        return table[[cell - cells.start for cell, _ in shared]]
    return table


def _code(cell: int, path: tuple[int, ...]) -> int:
    code = cell
    for step in path:
        code = code << percentiles.STEP | step
    return code
