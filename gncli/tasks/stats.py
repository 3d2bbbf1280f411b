"""The task of ``gncli stats``: each tensor in turn with its cells and expectations, and a total over all tensors."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from gncli import io
from gncli.errors import GncliError, LimitError, ParameterError
from gncli.io.source import Source
from gncli.kernels.finish import finished, pooled
from gncli.kernels.heatmap import Plane
from gncli.kernels.layout import doubt
from gncli.kernels.moments import Moments
from gncli.kernels.precision import MOST_DISTINCT
from gncli.names import DEFAULT_STATISTICS, Value, statistic
from gncli.report.lines import place_line
from gncli.report.records import (
    MAX_BROKEN,
    MOST_DRAWN,
    Broken,
    Cell,
    Cells,
    Failure,
    Histogram,
    Picture,
    Ranked,
    StatsReport,
    TensorStats,
    Total,
)
from gncli.run.engine import Engine
from gncli.run.executors import engine_on
from gncli.tasks.by import By, cut
from gncli.tasks.histograms import Bars
from gncli.tasks.order import Chosen
from gncli.tasks.requests import EVERY_ROW, Stats
from gncli.tasks.survey import FINGERPRINT, Survey, Wanted, measured

if TYPE_CHECKING:
    from gncli.tasks.manifest import Manifest

CAPPED = f"distinct values are counted up to {MOST_DISTINCT:,}, which stands for that many and more"
MAPPED = ("mean", "std")  # the statistics of cells that a picture shows


class StatsRun:
    """A run of ``stats``: iterate over the `cells` of the tensors, then call `report`.

    A tensor that cannot be read becomes a `Failure` in the report; the others go on.

    Parameters
    ----------
    request : Stats
        The tensors and the options.
    """

    def __init__(self, request: Stats) -> None:
        self.request = request
        by = request.cutting.by
        more = [*(name for one in request.expect for name in one.names), *request.choice.names]
        self._manifest: Manifest | None = None
        if request.manifest is not None:
            from gncli.tasks.manifest import Manifest

            self._manifest = Manifest.read(request.manifest)
            more.append(FINGERPRINT)
        self._bars = Bars.of(request.bins, request.scale)
        more += [name for bars in self._bars for name in bars.needs]
        asked = measured([*(request.statistics or DEFAULT_STATISTICS), *more], zeros=request.zeros)
        self._wanted = Wanted(asked, request.ddof, self._bars)
        self._chosen: Chosen[TensorStats | Failure] = Chosen(request.choice if by is None else EVERY_ROW, _value)
        self._cells = self._chosen_cells()  # of the tensors that were read to the end
        self._described: list[TensorStats] = []
        self._headers: list[TensorStats] = []  # the same without values, as `cells` yields them
        self._failed: list[str] = []
        self._untold: list[Failure] = []  # which `cells` has not yielded
        self._skipped: list[tuple[str, int]] = []
        self._broken: list[str] = []
        self._broken_count = 0
        self._notes: list[str] = []
        self._passed_over, self._first_passed_over = 0, ""
        self._totals: list[tuple[Moments, np.dtype[Any]]] = []
        self._summed: list[TensorStats] = []
        self._seed: int | None = None

    def cells(self) -> Generator[tuple[TensorStats | Failure, list[Cell]], None, None]:
        """Read all tensors; yield each one, without values, with its next cells that are chosen, in their order.

        Without an order they come as they are complete, in C order of their index. A tensor that cannot be read comes
        in its turn, and in an order before all cells; but not if it is the only one.

        Raises
        ------
        ParameterError
            If ``--match`` matches no tensor.
        """
        request = self.request
        with self._make_engine() as engine:
            if request.random is not None:
                draw = request.random
                drawn = io.RandomSource(draw.shape, draw.dist, draw.seed, draw.dtype)
                yield from self._surveyed(drawn, engine)
                self._seed = drawn.seed if draw.seed is None else None
            for tensor in request.tensors:
                for found in self._all_of(tensor, engine):
                    yield from self._told()
                    yield found
            if request.match is not None and self._passed_over and not (self._described or self._failed):
                from gncli.tasks.manifest import unmatched

                raise unmatched("--match", request.match, self._passed_over, self._first_passed_over)
            if self._manifest is not None:
                self._check_manifest(self._manifest)
            self._notes += engine.notes
        if self._described or len(self._failed) > 1:
            yield from self._told()
        for header, some in itertools.groupby(self._ranked(), key=itemgetter(0)):
            yield header, [cell for _, cell in some]

    def _told(self) -> list[tuple[Failure, list[Cell]]]:
        """Return the failures since the last call, as `cells` yields them."""
        untold, self._untold = self._untold, []
        return [(failure, []) for failure in untold]

    def _make_engine(self) -> Engine:
        asked = self.request.execution
        return engine_on(asked.executor, asked.scheduler, asked.workers, asked.tile, self.request.policy)

    def report(self) -> StatsReport:
        """Return the report, after all cells have been iterated over."""
        request, records = self.request, self._chosen.rows()
        ranked = None
        if request.cutting.by is not None and request.choice.ranks:
            rows = self._ranked()
            ranked = Ranked(tuple((header.name, cell) for header, cell in rows), self._cells.total)
            of: dict[int, list[Cell]] = {id(header): [] for header in self._headers}
            for header, cell in rows:
                of[id(header)].append(cell)
            filled = {id(stats): of[id(header)] for stats, header in zip(self._described, self._headers, strict=True)}
            records = [_filled(record, filled[id(record)]) if id(record) in filled else record for record in records]
        return StatsReport(
            tensors=tuple(records),
            selected=request.statistics,
            skipped=tuple(self._skipped),
            seed=self._seed,
            total=self._total() if request.total else None,
            broken=Broken(tuple(self._broken), self._broken_count),
            notes=(*self._notes, *self._cells.left_out("cells"), *self._chosen.left_out("tensors")),
            by=request.cutting.by is not None,
            ranked=ranked,
            some=self._cells.some or self._chosen.some,
        )

    def _chosen_cells(self) -> Chosen[tuple[TensorStats, Cell]]:
        choice = EVERY_ROW if self.request.cutting.by is None else self.request.choice
        return Chosen(choice, _value_of_cell, self.request.keep_cells if choice.ranks else 0)

    def _ranked(self) -> list[tuple[TensorStats, Cell]]:
        """Return the cells in their order, each with its tensor; nothing if they are shown as they come."""
        return self._cells.rows() if self.request.cutting.by is not None and self.request.choice.ranks else []

    def _fail(self, name: str, error: GncliError) -> None:
        failure = Failure(name, error)
        self._failed.append(name)
        self._untold.append(failure)
        self._chosen.add_unread(failure)

    def _all_of(self, tensor: str | io.Listing, engine: Engine) -> Iterator[tuple[TensorStats, list[Cell]]]:
        """Survey all tensors that a name stands for; a tensor that fails becomes a `Failure`."""
        name = io.name_of(tensor)
        engine.rest()  # a file is tried in a forked process first, and only a process of one thread may fork
        try:
            listing = io.open_sources(tensor, policy=self.request.policy)
        except GncliError as error:
            self._fail(name, error)
            return
        for source in self._opened(listing, name, engine):
            with contextlib.closing(source):
                if self._passes_over(source.name):
                    continue
                try:
                    yield from self._surveyed(source, engine)
                except GncliError as error:
                    self._fail(error.subject or name, error)
        if listing.skipped:
            self._skipped.append(("<stdin>" if name == "-" else name, listing.skipped))

    def _passes_over(self, name: str) -> bool:
        """Return whether ``--match`` leaves out a tensor, and count it."""
        if self.request.match is None:
            return False
        from gncli.tasks.manifest import matches

        left_out = not matches(name, self.request.match)
        if left_out and not self._passed_over:
            self._first_passed_over = name
        self._passed_over += left_out
        return left_out

    def _opened(self, listing: io.Listing, name: str, engine: Engine) -> Iterator[Source]:
        while True:
            engine.rest()  # in a folder, the next file may be one that is tried first
            try:
                source = next(listing, None)
            except GncliError as error:
                if not self._passes_over(error.subject or name):
                    self._fail(error.subject or name, error)
                continue
            if source is None:
                return
            yield source

    def _surveyed(self, source: Source, engine: Engine) -> Iterator[tuple[TensorStats, list[Cell]]]:
        """Survey one tensor."""
        request, by = self.request, self._by(source)
        # A picture shows the first tensors only; where they are chosen, the first ones are not known yet.
        unknown = request.choice != EVERY_ROW and by is None
        pictured = Bars.of(request.picture if unknown or len(self._described) < MOST_DRAWN else None)
        wanted = self._wanted._replace(bars=tuple(dict.fromkeys((*self._bars, *pictured))))
        planes = {name: Plane(by.names, by.sizes) for name in MAPPED} if pictured and by is not None else {}
        survey = Survey(source, engine, wanted, by, 0)
        chosen = self._chosen_cells()
        kept, keep = list[Cell](), 0 if request.choice.ranks else request.keep_cells
        for cells in survey:
            for name, plane in planes.items() if cells else ():
                index = np.array([tuple(cell.place.values()) for cell in cells], np.int64).reshape(len(cells), -1)
                plane.add(index, np.array([cell.stats.value(name) for cell in cells], np.float64))
            shown = [cell for cell in cells if chosen.add((survey.header, cell))]
            self._limit(chosen.held + (self._cells.held if request.choice.ranks else 0), source.name)
            for cell in shown if request.expect else ():
                self._check(cell.stats, f"{source.name}: {place_line(cell.place, cell.note)}")
            kept += shown[: max(0, keep - len(kept))]
            if not request.choice.ranks:
                yield survey.header, shown
        stats = survey.stats
        if by is not None:
            stats = replace(stats, cells=Cells(by.names, tuple(kept), chosen.held))
        for bars in pictured:
            maps = {name: plane.heatmap() for name, plane in planes.items()}
            stats = replace(stats, picture=Picture(survey.histograms.get(bars, Histogram((), ())), maps))
        for bars in self._bars:
            stats = replace(stats, histogram=survey.histograms.get(bars))
        self._notes += survey.notes
        if stats.values.get("distinct") == MOST_DISTINCT and CAPPED not in self._notes:
            self._notes.append(CAPPED)
        self._cells.absorb(chosen)
        self._described.append(stats)
        self._headers.append(survey.header)
        if self._chosen.add(stats):
            self._summed.append(stats)
            if survey.moments is not None:
                self._totals.append((survey.moments, source.dtype))
            if by is None:
                self._check(stats, source.name)

    def _limit(self, count: int, name: str) -> None:
        """Raise if `count` cells are more than can be shown."""
        most, top = self.request.most_cells, self.request.choice.top
        if most is not None and (count if top is None else min(count, top)) > most:
            raise LimitError(
                f"has more than {most:,} cells to show", subject=name, hint="--top 1000 or a --where leaves out some"
            )

    def _by(self, source: Source) -> By | None:
        request = self.request
        if request.cutting.by is None:
            return None
        try:
            by = cut(request.cutting, source.shape, source.order)
        except ParameterError as error:
            raise error.about(source.name) from None
        lettered = any(name.strip().isalpha() for name in request.cutting.by.split(","))
        if lettered and request.cutting.layout is None and (doubted := doubt(source.shape)):
            self._notes.append(f"{source.name}: {doubted}")
        if request.most_cells is not None and by.count > request.most_cells and request.choice == EVERY_ROW:
            raise LimitError(
                f"has {by.count:,} cells; json shows at most {request.most_cells:,}",
                subject=source.name,
                hint="--format jsonl streams them all",
            )
        return by

    def _check(self, stats: TensorStats, name: str) -> None:
        for expectation in self.request.expect:
            if not expectation.holds(stats.compared):
                self._break(f"{name}: {expectation.broken(stats.compared)}")

    def _check_manifest(self, manifest: Manifest) -> None:
        """Compare all tensors with the manifest, as far as ``--match`` leaves it."""
        if self.request.match is not None:
            manifest = manifest.matching(self.request.match)
        for text in manifest.broken(self._described, self._failed):
            self._break(text)

    def _break(self, text: str) -> None:
        self._broken_count += 1
        if len(self._broken) < MAX_BROKEN:
            self._broken.append(text)

    def _total(self) -> Total:
        """Return the record of all chosen tensors; statistics that do not follow from moments are undefined."""
        values: dict[str, Value] = {name: None for name in self._wanted.statistics if statistic(name).reads}
        if self._totals:
            moments, dtype = pooled(self._totals)
            columns = finished(moments.settled(), dtype, (), self._wanted.statistics, self._wanted.ddof)
            values |= {name: column[0] for name, column in columns.items()}
        size, nbytes = (sum(getattr(stats, what) for stats in self._summed) for what in ("size", "nbytes"))
        return Total(values, size, nbytes)


def _value(record: TensorStats | Failure, name: str) -> Value:
    assert isinstance(record, TensorStats)  # a failure has no values, and is not asked for any
    return record.compared(name)


def _value_of_cell(row: tuple[TensorStats, Cell], name: str) -> Value:
    return row[1].stats.compared(name)


def _filled(record: TensorStats | Failure, cells: list[Cell]) -> TensorStats | Failure:
    """Return the record of a tensor with its cells."""
    assert isinstance(record, TensorStats) and record.cells is not None  # it was measured by cells
    return replace(record, cells=Cells(record.cells.names, tuple(cells), len(cells)))
