"""The task of ``gncli stats``: each tensor in turn with its cells and expectations, and a total over all tensors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np

from gncli import io
from gncli.errors import GncliError, LimitError, ParameterError
from gncli.io.source import Source
from gncli.kernels.finish import finished, pooled
from gncli.kernels.heatmap import Plane
from gncli.kernels.layout import doubt
from gncli.kernels.moments import Moments
from gncli.names import DEFAULT_STATISTICS, Value, statistic
from gncli.report.lines import place_line
from gncli.report.records import (
    MAX_BROKEN,
    MOST_DRAWN,
    Broken,
    Cell,
    Failure,
    Histogram,
    Picture,
    StatsReport,
    TensorStats,
    Total,
)
from gncli.run.engine import Engine
from gncli.run.executors import engine_on
from gncli.tasks.by import By, cut
from gncli.tasks.manifest import Manifest, matches
from gncli.tasks.requests import Stats
from gncli.tasks.survey import FINGERPRINT, Survey, Wanted, measured

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
        self._order = request.sort.removeprefix("-") if request.sort else None
        more = [*(e.name for e in request.expect), *([self._order] if self._order else [])]
        self._manifest = None if request.manifest is None else Manifest.read(request.manifest)
        more += [] if self._manifest is None else [FINGERPRINT]
        asked = measured([*(request.statistics or DEFAULT_STATISTICS), *more], zeros=request.zeros)
        self._wanted = Wanted(asked, request.ddof, request.bins)
        self._records: list[TensorStats | Failure] = []
        self._described: list[TensorStats] = []  # without their cells
        self._skipped: list[tuple[str, int]] = []
        self._broken: list[str] = []
        self._broken_count = 0
        self._notes: list[str] = []
        self._passed_over = 0
        self._totals: list[tuple[Moments, Source]] = []
        self._seed: int | None = None

    def cells(self) -> Generator[tuple[TensorStats, list[Cell]], None, None]:
        """Read all tensors; yield each one, without values, with its next cells in C order, as they are complete.

        Raises
        ------
        ParameterError
            If ``--match`` matches no tensor.
        """
        request, asked = self.request, self.request.execution
        with engine_on(asked.executor, asked.scheduler, asked.workers, asked.tile, request.policy) as engine:
            if request.random is not None:
                draw = request.random
                drawn = io.RandomSource(draw.shape, draw.dist, draw.seed, draw.dtype)
                yield from self._surveyed(drawn, engine)
                self._seed = drawn.seed if draw.seed is None else None
            for tensor in request.tensors:
                yield from self._all_of(tensor, engine)
            if request.match is not None and self._passed_over and not self._records:
                raise ParameterError(f"--match {request.match!r} matches none of {self._passed_over:,} tensors")
            if self._manifest is not None:
                self._check_manifest(self._manifest)
            self._notes += engine.notes

    def report(self) -> StatsReport:
        """Return the report, after all cells have been iterated over."""
        request, records = self.request, self._records
        if request.sort is not None and self._order is not None:
            records = _sorted(records, self._order, request.sort.startswith("-"))
        return StatsReport(
            tensors=tuple(records),
            selected=request.statistics,
            skipped=tuple(self._skipped),
            seed=self._seed,
            total=self._total() if request.total else None,
            broken=Broken(tuple(self._broken), self._broken_count),
            notes=tuple(self._notes),
            by=request.cutting.by is not None,
        )

    def _all_of(self, tensor: str | io.Listing, engine: Engine) -> Iterator[tuple[TensorStats, list[Cell]]]:
        """Survey all tensors that a name stands for; a tensor that fails becomes a `Failure`."""
        name = io.name_of(tensor)
        engine.rest()  # a file is tried in a forked process first, and only a process of one thread may fork
        try:
            listing = io.open_sources(tensor, policy=self.request.policy)
        except GncliError as error:
            self._records.append(Failure(name, error))
            return
        for source in self._opened(listing, name, engine):
            with contextlib.closing(source):
                if self._passes_over(source.name):
                    continue
                try:
                    yield from self._surveyed(source, engine)
                except GncliError as error:
                    self._records.append(Failure(error.subject or name, error))
        if listing.skipped:
            self._skipped.append(("<stdin>" if name == "-" else name, listing.skipped))

    def _passes_over(self, name: str) -> bool:
        """Return whether ``--match`` leaves out a tensor, and count it."""
        left_out = self.request.match is not None and not matches(name, self.request.match)
        self._passed_over += left_out
        return left_out

    def _opened(self, listing: io.Listing, name: str, engine: Engine) -> Iterator[Source]:
        while True:
            engine.rest()  # in a folder, the next file may be one that is tried first
            try:
                source = next(listing, None)
            except GncliError as error:
                if not self._passes_over(error.subject or name):
                    self._records.append(Failure(error.subject or name, error))
                continue
            if source is None:
                return
            yield source

    def _surveyed(self, source: Source, engine: Engine) -> Iterator[tuple[TensorStats, list[Cell]]]:
        """Survey one tensor."""
        request, by = self.request, self._by(source)
        # A picture shows the first tensors only; with --sort, the first ones are not known yet.
        pictured = request.picture is not None and (request.sort is not None or len(self._described) < MOST_DRAWN)
        wanted = self._wanted._replace(bins=request.picture) if pictured else self._wanted
        planes = {name: Plane(by.names, by.sizes) for name in MAPPED} if pictured and by is not None else {}
        survey = Survey(source, engine, wanted, by, request.keep_cells)
        for cells in survey:
            for cell in cells if request.expect else ():
                self._check(cell.stats, f"{source.name}: {place_line(cell.place, cell.note)}")
            for name, plane in planes.items() if cells else ():
                index = np.array([tuple(cell.place.values()) for cell in cells], np.int64).reshape(len(cells), -1)
                plane.add(index, np.array([cell.stats.value(name) for cell in cells], np.float64))
            yield survey.header, cells
        stats = survey.stats
        if pictured:
            maps = {name: plane.heatmap() for name, plane in planes.items()}
            picture = Picture(stats.histogram or Histogram((), ()), maps)
            stats = replace(stats, picture=picture, histogram=None if request.bins is None else stats.histogram)
        self._notes += survey.notes
        self._records.append(stats)
        self._described.append(stats)
        if survey.moments is not None:
            self._totals.append((survey.moments, source))
        if by is None:
            self._check(stats, source.name)

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
        if request.most_cells is not None and by.count > request.most_cells:
            raise LimitError(
                f"has {by.count:,} cells; json shows at most {request.most_cells:,}",
                subject=source.name,
                hint="--format jsonl streams them all",
            )
        return by

    def _check(self, stats: TensorStats, name: str) -> None:
        for expectation in self.request.expect:
            value = stats.value(expectation.name)
            if not expectation.holds(value):
                self._break(f"{name}: {expectation.broken(value)}")

    def _check_manifest(self, manifest: Manifest) -> None:
        """Compare all tensors with the manifest, as far as ``--match`` leaves it."""
        if self.request.match is not None:
            manifest = manifest.matching(self.request.match)
        failed = [record.name for record in self._records if isinstance(record, Failure)]
        for text in manifest.broken(self._described, failed):
            self._break(text)

    def _break(self, text: str) -> None:
        self._broken_count += 1
        if len(self._broken) < MAX_BROKEN:
            self._broken.append(text)

    def _total(self) -> Total:
        """Return the record of all tensors together; statistics that do not follow from moments are undefined."""
        values: dict[str, Value] = {name: None for name in self._wanted.statistics if statistic(name).reads}
        if self._totals:
            moments, dtype = pooled([(moments, source.dtype) for moments, source in self._totals])
            columns = finished(moments.settled(), dtype, (), self._wanted.statistics, self._wanted.ddof)
            values |= {name: column[0] for name, column in columns.items()}
        size, nbytes = (sum(getattr(stats, what) for stats in self._described) for what in ("size", "nbytes"))
        return Total(values, size, nbytes)


def _sorted(records: list[TensorStats | Failure], name: str, falling: bool) -> list[TensorStats | Failure]:
    """Return `records` sorted by a statistic; those without it come last, in their original order."""

    def has(record: TensorStats | Failure) -> bool:
        return isinstance(record, TensorStats) and record.value(name) is not None

    def key(record: TensorStats | Failure) -> Value:
        assert isinstance(record, TensorStats)  # has() said so
        value = record.value(name)
        return -math.inf if value is None else value

    ordered = sorted(filter(has, records), key=key, reverse=falling)  # type: ignore[arg-type]
    return ordered + [record for record in records if not has(record)]
