"""The statistics of one tensor, as a whole or per cell: the passes behind ``stats``."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.errors import LimitError, ParameterError
from gncli.io.fingerprint import Fingerprint
from gncli.io.part import Box
from gncli.io.source import Source
from gncli.kernels import percentiles
from gncli.kernels.extras import Extras, is_extra
from gncli.kernels.finish import finished
from gncli.kernels.floats import smallest_normal
from gncli.kernels.moments import Floats, Moments, MomentsOf, merge
from gncli.kernels.partition import Axis
from gncli.kernels.precision import MOST_DISTINCT_CELLS
from gncli.kernels.reduction import Both, Reduction, Tree, concatenate, each, fold_axes
from gncli.kernels.selection import Key, RowPercentiles, Selection, cells_at_once, num_passes
from gncli.kernels.walk import Walk
from gncli.names import DEFAULT_STATISTICS, Value, statistic
from gncli.report.records import Cell, Cells, Histogram, TensorStats
from gncli.run.engine import Engine
from gncli.run.plan import MAX_OPEN_CELLS, Plan, Program
from gncli.tasks.by import By
from gncli.tasks.histograms import Bars, counted

FINGERPRINT = "sha256"
PLACES = ("argmin", "argmax", "first_nan", "first_inf")


class Wanted(NamedTuple):
    """The statistics that are requested of a tensor, or of each of its cells.

    Attributes
    ----------
    statistics : tuple of str
        The names of the statistics; an empty tuple is the default statistics.
    ddof : int
        Subtracted from the number of elements in variance and deviation.
    bars : tuple of Bars
        The histograms of the whole tensor, whose `Bars.needs` are among the statistics.
    """

    statistics: tuple[str, ...] = ()
    ddof: int = 0
    bars: tuple[Bars, ...] = ()

    @property
    def reads(self) -> bool:
        """Whether data must be read; otherwise the header is enough, and the hash of a fingerprint."""
        reading = any(statistic(name).reads for name in self.statistics if name != FINGERPRINT)
        return bool(self.bars) or not self.statistics or reading

    @property
    def percentiles(self) -> Mapping[str, float]:
        """The percentiles by name."""
        named = {name: statistic(name).percentile for name in self.statistics}
        return {name: percentile for name, percentile in named.items() if percentile is not None}

    def law(self, source: Source) -> MomentsOf:
        """Return the reduction that measures all statistics of `source` except percentiles."""
        names = frozenset(filter(is_extra, self.statistics))
        extras = Extras(names, source.shape, source.order, smallest_normal(source.dtype, source.stored_as))
        return MomentsOf(source.dtype, extras if names else None)

    def passes(self, dtype: np.dtype[Any], walk: Walk, once: bool) -> Sequence[str]:
        """Return the name of each pass over a span of cells."""
        if once or not self.percentiles:
            return ("measure",)
        return ("measure", *["percentiles"] * num_passes(walk, dtype, len(self.percentiles)))


def measured(statistics: Sequence[str], *, zeros: bool = False) -> tuple[str, ...]:
    """Return the statistics to measure: `statistics`, or the default ones if that is empty, and zeros if requested.

    Zeros are not added to statistics that the header alone answers, nor to the fingerprint, which measures nothing.

    Examples
    --------
    >>> measured(["mean"], zeros=True), measured(["shape"], zeros=True)
    (('mean', 'zeros'), ('shape',))
    """
    asked = tuple(statistics) or DEFAULT_STATISTICS
    joined = zeros and Wanted(asked).reads
    return tuple(dict.fromkeys((*asked, *(["zeros"] if joined else []))))


class Survey:
    """The measurement of a tensor and of its cells: iterate over the cells, then read `stats` and `histograms`.

    Parameters
    ----------
    source : Source
        The tensor; its data are read only if `wanted` needs them.
    engine : Engine
        Runs the passes.
    wanted : Wanted
        The statistics of each cell, and of the whole tensor.
    by : By, optional
        The cells; by default the whole tensor is one cell, and no cell is yielded.
    keep : int
        The largest number of cells that the record keeps; further cells are only counted.
    """

    def __init__(
        self, source: Source, engine: Engine, wanted: Wanted, by: By | None = None, keep: int = MAX_OPEN_CELLS
    ) -> None:
        self.source, self.wanted, self.keep = source, wanted, keep
        missing = source.not_stored
        self.header = TensorStats(
            source.shape, source.dtype_name, {}, source.name, axis_names=source.dimensions, not_stored=missing
        )
        self.notes = source.notes
        self.moments: Moments | None = None
        self._engine = engine
        self._shown = by is not None
        self._by = By(source.shape, source.order, (), ()) if by is None else by
        self._kept: list[Cell] = []
        self._values: dict[str, Value] = {}
        self.histograms: dict[Bars, Histogram] = {}
        self._read: Source = source

    def __iter__(self) -> Iterator[list[Cell]]:
        """Yield the requested cells in C order of their index, as soon as they are complete.

        Raises
        ------
        LimitError
            If a pipe has more open cells than are held at once, or percentiles would take too many passes.
        """
        if FINGERPRINT not in self.wanted.statistics:
            yield from self._batches()
            return
        with Fingerprint(self.source) as self._read:
            yield from self._batches()
            self._values = {**self._values, FINGERPRINT: self._read.hex()}
            if self._read.transposed:
                self.notes = (*self.notes, f"{self.source.name}: put into C order in a file in $TMPDIR, to be hashed")

    def _batches(self) -> Iterator[list[Cell]]:
        for batch in self._cells() if self.wanted.reads else self._headers():
            self._kept += batch[: max(0, self.keep - len(self._kept))]
            if self._shown:
                yield batch

    def _headers(self) -> Iterator[list[Cell]]:
        """Yield cells without measuring them."""
        for start in range(0, self._by.count, MAX_OPEN_CELLS):
            stop = min(start + MAX_OPEN_CELLS, self._by.count)
            yield self._batch(_places(self._by, start, stop, [0] * len(self._by.names)), {})

    def _cells(self) -> Iterator[list[Cell]]:
        boxes = Tree(merge)
        wanted, source = self.wanted, self._read
        after = ("histogram",) * len(wanted.bars)
        columns: Columns = {}
        for plan, box in plans(source, self._by, self._engine, wanted, after):
            self.notes = (*plan.notes, *self.source.notes)
            _check_distinct(plan, wanted)
            done = 0
            part = replace(self._by, shape=plan.source.shape)
            corner = [box[axis][0] // self._by.unit(axis) for axis in self._by.axes]
            corner = [0] * (len(self._by.names) - len(corner)) + corner  # the N of groups without one
            cells = plan.partition
            runs = _measured(plan, wanted)
            spans, inner = Tree(merge), plan.walk.span_cells
            for moments, selected in runs if cells.in_order else _in_one(runs):
                count = moments.n.size
                if count:
                    run = (Axis(False, count // inner), Axis(False, inner))
                    spans.push(fold_axes(moments, run, merge, keep_first=False))
                if not cells.in_order:
                    place = cells.arrange(np.arange(count)).reshape(-1)
                    moments, selected = each(moments, itemgetter(place)), selected[place]
                columns = _columns(moments.settled(), selected, plan.source, box, wanted)
                yield self._batch(_places(part, done, done + count, corner), columns)
                done += count
            if (united := spans.total()) is not None:
                boxes.push(united)
        total = boxes.total()
        if total is not None:
            self.moments = total.settled()
            if self._shown:
                columns = finished(self.moments, source.dtype, source.shape, wanted.statistics, wanted.ddof)
            self._values = {name: column[0] for name, column in columns.items()}
            for bars in wanted.bars:
                edges, counting = bars.edges(self._values), partial(counted, source, self._engine)
                self.histograms[bars] = bars.drawn(edges, self._values, counting)
        source.verify_unchanged()

    def _batch(self, places: NDArray[np.int64], columns: Columns) -> list[Cell]:
        """Return the cells of a batch: row i of `places` is the index of one, ``columns[name][i]`` a statistic."""
        shape, by = self._by.cell_shape, self._by
        names = tuple(columns)
        rows: Any = zip(*columns.values(), strict=True) if columns else [()] * len(places)
        cells = []
        for place, row in zip(places.tolist(), rows, strict=True):
            values, header = dict(zip(names, row, strict=True)), self.header
            stats = TensorStats(shape, header.dtype, values, header.name, not_stored=header.not_stored)
            cells.append(Cell(dict(zip(by.names, place, strict=True)), stats, by.note(tuple(place))))
        return cells

    @property
    def stats(self) -> TensorStats:
        """The record of the tensor, after all cells have been iterated over."""
        cells = Cells(self._by.names, tuple(self._kept), self._by.count) if self._shown else None
        return replace(self.header, values=self._values, cells=cells)


def survey(source: Source, engine: Engine, wanted: Wanted, by: By | None = None, keep: int = MAX_OPEN_CELLS) -> Survey:
    """Return the completed `Survey` of these parameters."""
    done = Survey(source, engine, wanted, by, keep)
    for _ in done:
        pass
    return done


def describe(source: Source, engine: Engine, statistics: Sequence[str] = (), ddof: int = 0) -> TensorStats:
    """Return the statistics of `source`; its data are read only if one of `statistics` needs them."""
    return survey(source, engine, Wanted(tuple(statistics), ddof)).stats


Columns = Mapping[str, Sequence[Value]]


def _check_distinct(plan: Plan, wanted: Wanted) -> None:
    """Raise if the different values of too many cells would be held at once."""
    cells = plan.partition
    held = plan.walk.span_cells if cells.in_order else cells.num_cells
    if "distinct" in wanted.statistics and held > MOST_DISTINCT_CELLS:
        raise LimitError(
            f"the distinct values of {held:,} open cells, more than {MOST_DISTINCT_CELLS:,}, are too many to hold",
            subject=plan.source.name,
            hint="ask for fewer cells, or leave out distinct",
        )


def plans(
    source: Source, by: By, engine: Engine, wanted: Wanted, after: Sequence[str] = ()
) -> Iterator[tuple[Plan, Box]]:
    """Yield the plans that measure what is wanted of the cells of a tensor, or of parts of it."""
    passes = partial(wanted.passes, source.dtype)
    return Plan.over_cells(source, by, engine, passes, after)


def record(plan: Plan, wanted: Wanted) -> None:
    """Measure what is wanted in a single pass, of which the engine keeps the results (`gncli.run.parts`).

    Raises
    ------
    ParameterError
        If percentiles take more passes.
    """
    _check_distinct(plan, wanted)
    reduction: Reduction[Any] = wanted.law(plan.source)
    if wanted.percentiles:
        if not plan.once:
            raise ParameterError(
                "percentiles of cells that are larger than 16 MiB are not measured in parts",
                subject=plan.source.name,
                hint="leave out median and pNN, or ask for smaller cells with --by",
            )
        reduction = Both(reduction, RowPercentiles(tuple(wanted.percentiles.values())))
    deque(plan.visits(reduction.measure), maxlen=0)


def _measured(plan: Plan, wanted: Wanted) -> Iterator[tuple[Moments, Floats]]:
    """Yield the moments and the percentiles, of shape (cells, percentiles), of cells in storage order."""
    law, chosen = wanted.law(plan.source), tuple(wanted.percentiles.values())
    if not chosen:
        for moments in plan.reduce(law):
            yield moments, np.empty((moments.n.size, 0))
    elif plan.once or not plan.partition.size:
        for moments, rows in plan.reduce(Both(law, RowPercentiles(chosen))):
            yield moments, rows.values
    else:

        def passes(_span: range) -> Program[tuple[Moments, Floats]]:
            moments = yield plan.reducing(law)
            return moments, (yield from _percentiles(plan, moments.n, chosen))

        yield from plan.side_by_side(passes)


def _in_one(runs: Iterator[tuple[Moments, Floats]]) -> Iterator[tuple[Moments, Floats]]:
    """Yield all runs of cells as one, so that they can be put into another order."""
    every = list(runs)
    yield concatenate([moments for moments, _ in every]), np.concatenate([selected for _, selected in every])


def _percentiles(plan: Plan, sizes: Floats, chosen: Sequence[float]) -> Program[Floats]:
    """Yield the passes over a span that count bits; return the percentiles of its cells, shape (cells, chosen).

    Parameters
    ----------
    plan : Plan
        The plan, begun; its source can be read again.
    sizes : ndarray of float64, shape (cells,)
        The number of finite elements of each cell.
    chosen : sequence of float
        The percentiles, 0 to 100.
    """
    points = np.full((sizes.size, len(chosen)), np.nan)
    step = cells_at_once(len(chosen))
    for first in range(0, sizes.size, step):
        cells = range(first, min(first + step, sizes.size))
        ranks = {
            (cell, place): percentiles.rank(percentile, int(sizes[cell]))
            for cell in cells
            for place, percentile in enumerate(chosen)
            if sizes[cell]
        }
        wanted = {(cell, at) for (cell, _), rank in ranks.items() for at in (rank.below, rank.above)}
        values = yield from select(plan, cells, wanted)
        for (cell, place), rank in ranks.items():
            points[cell, place] = percentiles.between(values[cell, rank.below], values[cell, rank.above], rank.share)
    return points


def select(plan: Plan, cells: range, wanted: Collection[Key]) -> Program[Mapping[Key, int | float]]:
    """Yield the passes over a span that select from it; return the element of each (cell, rank).

    Ranks count from 0 among the finite elements of a cell of the span.
    """
    selection = Selection(plan.walk, plan.source.dtype, cells, wanted)
    for _ in range(selection.steps):
        selection.take((yield plan.totalling(selection.counting())))
    return selection.values()


def _places(by: By, start: int, stop: int, corner: Sequence[int]) -> NDArray[np.int64]:
    """Return the index of the cells from `start` to `stop`, one row per cell, counted from `corner`."""
    places = np.unravel_index(np.arange(start, stop), by.sizes or (1,))
    return np.stack(places, axis=1)[:, : len(by.sizes)] + np.asarray(corner, np.int64)


def _columns(moments: Moments, selected: Floats, source: Source, box: Box, wanted: Wanted) -> Columns:
    """Return the statistics of cells; a place is an index into the whole tensor, of which `box` is a part."""
    columns = dict(finished(moments, source.dtype, source.shape, wanted.statistics, wanted.ddof))
    offsets = [start for start, _ in box]
    for name in PLACES:
        if any(offsets) and name in columns:
            columns[name] = [_moved(place, offsets) for place in columns[name]]
    for name, column in zip(wanted.percentiles, selected.T, strict=True):
        columns[name] = [None if math.isnan(value) else value for value in column.tolist()]
    return columns


def _moved(place: Value, offsets: Sequence[int]) -> Value:
    return tuple(at + offset for at, offset in zip(place, offsets, strict=True)) if isinstance(place, tuple) else place
