"""What ``gncli stats`` does: every tensor in turn, its cells if asked for, expectations, and all of them together."""

from __future__ import annotations

import contextlib
import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gncli import io
from gncli.errors import GncliError, LimitError, ParameterError
from gncli.io.source import Source
from gncli.kernels.finish import finished, pooled
from gncli.kernels.heatmap import Plane
from gncli.kernels.moments import Moments
from gncli.kernels.partition import whole
from gncli.names import DEFAULT_STATISTICS, STRICT, Draw, Policy, Value, statistic
from gncli.report.lines import place_line
from gncli.report.records import MOST_DRAWN, Broken, Cell, Failure, Histogram, Picture, StatsReport, TensorStats, Total
from gncli.run.engine import Engine
from gncli.run.executors import engine_on
from gncli.tasks.by import By, cut
from gncli.tasks.survey import Found, OnCells, Wanted, measured, reads_twice, survey, survey_cells

if TYPE_CHECKING:
    from gncli.tasks.expect import Expectation

MAX_BROKEN = 20  # expectations that did not hold, in words
MAPPED = ("mean", "std")  # what of cells a picture shows


def stats(
    tensors: Sequence[str],
    *,
    random: Draw | None = None,
    statistics: Sequence[str] = (),
    ddof: int = 0,
    by: str | None = None,
    layout: str | None = None,
    num_groups: int | None = None,
    group_size: int | None = None,
    bins: int | None = None,
    picture: int | None = None,
    zeros: bool = False,
    expect: Sequence[Expectation] = (),
    match: str | None = None,
    sort: str | None = None,
    total: bool = False,
    keep_cells: int = 1000,
    most_cells: int | None = None,
    on_cells: OnCells | None = None,
    policy: Policy = STRICT,
    workers: int | None = None,
    tile: int | None = None,
    executor: str = "threads",
    scheduler: str | None = None,
) -> StatsReport:
    """Return the statistics of `tensors`, or of a drawn one.

    Parameters
    ----------
    tensors : sequence of str
        As the command line names them.
    random : Draw, optional
        Instead: what to draw.
    statistics : sequence of str
        By contract name; the default ones if there are none.
    ddof : int
        Taken from the number of elements in variance and deviation.
    by : str, optional
        The cell axes, as ``--by`` takes them.
    layout, num_groups, group_size
        As for `GroupNorm`, with `by`.
    bins : int, optional
        Of a histogram, which is made if they are given.
    picture : int, optional
        Bins of the histogram of a picture, whose data are gathered if they are given.
    zeros : bool
        Whether zeros are counted, where anything is.
    expect : sequence of Expectation
        What every tensor, or every cell, should be.
    match : str, optional
        A pattern that the names of tensors, or of members of a file, must match.
    sort : str, optional
        The statistic to order tensors by; with ``-`` before it, the largest first.
    total : bool
        Whether there is one more record, of all tensors together.
    keep_cells : int
        How many cells of a tensor the report keeps.
    most_cells : int, optional
        How many cells a tensor may have.
    on_cells : callable, optional
        Takes every cell, as they are complete.
    policy : Policy, optional
        What the files may do and ask for.
    workers, tile : int, optional
        As for `Engine`.
    executor, scheduler : str
        As for `engine_on`.

    Returns
    -------
    StatsReport
        In which a tensor that cannot be read is a `Failure`; the others go on.

    Raises
    ------
    ParameterError
        If nothing matches.
    """
    order = sort.removeprefix("-") if sort else None
    more = [*(e.name for e in expect), *([order] if order else [])]
    asked = measured([*(statistics or DEFAULT_STATISTICS), *more], zeros=zeros)
    with engine_on(executor, scheduler, workers, tile, policy) as engine:
        run = _Run(engine, Wanted(asked, ddof, bins), tuple(expect), keep_cells, most_cells, on_cells)
        run.cutting = (by, layout, num_groups, group_size)
        run.picture, run.drawn_first = picture, sort is None
        seed = None
        if random is not None:
            drawn = io.RandomSource(random.shape, random.dist, random.seed, random.dtype)
            run.add(drawn)
            seed = drawn.seed if random.seed is None else None
        for name in tensors:
            run.add_all(name, match, policy)
        if match is not None and run.passed_over and not run.records:
            raise ParameterError(f"--match {match!r} matches none of {run.passed_over:,} tensors")
        records = run.records if order is None or sort is None else _sorted(run.records, order, sort.startswith("-"))
        return StatsReport(
            tuple(records),
            tuple(statistics),
            skipped=tuple(run.skipped),
            seed=seed,
            total=run.total() if total else None,
            broken=Broken(tuple(run.broken), run.broken_count),
            notes=(*run.notes, *engine.notes),
            by=by is not None,
        )


@dataclass
class _Run:
    """The tensors so far."""

    engine: Engine
    wanted: Wanted
    expect: tuple[Expectation, ...]
    keep_cells: int
    most_cells: int | None
    on_cells: OnCells | None
    cutting: tuple[str | None, str | None, int | None, int | None] = (None, None, None, None)
    records: list[TensorStats | Failure] = field(default_factory=list)
    skipped: list[tuple[str, int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    broken_count: int = 0
    notes: list[str] = field(default_factory=list)
    passed_over: int = 0
    picture: int | None = None
    drawn_first: bool = True  # whether the first tensors are those that will be drawn
    _totals: list[tuple[Moments, Source]] = field(default_factory=list)
    _sizes: list[TensorStats] = field(default_factory=list)

    def add_all(self, name: str, match: str | None, policy: Policy) -> None:
        """Add all tensors that `name` stands for; an error about one is its record."""
        self.engine.rest()  # a file is tried in a fork first, and forks are for processes of one thread
        try:
            listing = io.open_sources(name, policy=policy)
        except GncliError as error:
            self.records.append(Failure(name, error))
            return
        for source in self._opened(listing, name):
            with contextlib.closing(source):
                if match is not None and not _matches(source.name, match):
                    self.passed_over += 1
                    continue
                try:
                    self.add(source)
                except GncliError as error:
                    self.records.append(Failure(error.subject or name, error))
        if listing.skipped:
            self.skipped.append(("<stdin>" if name == "-" else name, listing.skipped))

    def _opened(self, listing: io.Listing, name: str) -> Iterator[Source]:
        while True:
            try:
                source = next(listing, None)
            except GncliError as error:
                self.records.append(Failure(error.subject or name, error))
                continue
            if source is None:
                return
            yield source

    def add(self, source: Source) -> None:
        """Add one tensor."""
        by = self._by(source)
        partition = whole(source.shape) if by is None else by.partition()
        drawn = self.picture is not None and not (self.drawn_first and len(self._sizes) >= MOST_DRAWN)
        wanted = self.wanted._replace(bins=self.picture) if drawn else self.wanted
        if source.holds_in_file and reads_twice(source, partition, self.engine, wanted):
            self.notes.append(f"{source.name}: kept in a file in $TMPDIR, to be read more than once")
        planes = {name: Plane(by.names, by.sizes) for name in MAPPED} if drawn and by is not None else {}
        found = self._surveyed(source, by, wanted, planes)
        self.notes += source.notes
        stats = replace(found.stats, not_stored=source.not_stored)
        if drawn:
            picture = Picture(
                stats.histogram or Histogram((), ()), {name: plane.heatmap() for name, plane in planes.items()}
            )
            stats = replace(stats, picture=picture, histogram=None if self.wanted.bins is None else stats.histogram)
        self.records.append(stats)
        self._sizes.append(stats)
        if found.moments is not None:
            self._totals.append((found.moments, source))
        if by is None:
            self._check(stats, source.name)

    def _by(self, source: Source) -> By | None:
        text, layout, num_groups, group_size = self.cutting
        if text is None:
            return None
        try:
            by = cut(text, source.shape, source.order, layout, num_groups, group_size)
        except ParameterError as error:
            raise error.about(source.name) from None
        if self.most_cells is not None and by.count > self.most_cells:
            raise LimitError(
                f"has {by.count:,} cells; json shows at most {self.most_cells:,}",
                subject=source.name,
                hint="--format jsonl streams them all",
            )
        return by

    def _surveyed(self, source: Source, by: By | None, wanted: Wanted, planes: Mapping[str, Plane]) -> Found:
        if by is None:
            return survey(source, self.engine, wanted)

        def taken(tensor: TensorStats, cells: list[Cell]) -> None:
            for cell in cells if self.expect else ():
                self._check(cell.stats, f"{source.name}: {place_line(cell.place, cell.note)}")
            for name, plane in planes.items():
                index = np.array([tuple(cell.place.values()) for cell in cells], np.int64).reshape(len(cells), -1)
                plane.add(index, np.array([cell.stats.value(name) for cell in cells], np.float64))
            if self.on_cells is not None:
                self.on_cells(tensor, cells)

        return survey_cells(source, by, self.engine, wanted, self.keep_cells, taken)

    def _check(self, found: TensorStats, name: str) -> None:
        for expectation in self.expect:
            value = found.value(expectation.name)
            if not expectation.holds(value):
                self.broken_count += 1
                if len(self.broken) < MAX_BROKEN:
                    self.broken.append(f"{name}: {expectation.broken(value)}")

    def total(self) -> Total:
        """Return the record of all tensors together; what cannot be told from theirs is undefined."""
        values: dict[str, Value] = {name: None for name in self.wanted.statistics if statistic(name).reads}
        if self._totals:
            moments, dtype = pooled([(moments, source.dtype) for moments, source in self._totals])
            columns = finished(moments.settled(), dtype, (), self.wanted.statistics, self.wanted.ddof)
            values |= {name: column[0] for name, column in columns.items()}
        size, nbytes = (sum(getattr(found, what) for found in self._sizes) for what in ("size", "nbytes"))
        return Total(values, size, nbytes)


def _matches(name: str, pattern: str) -> bool:
    """Return whether a tensor's name, or its name in its file, matches."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in (name, name.rpartition("::")[2]))


def _sorted(records: list[TensorStats | Failure], name: str, falling: bool) -> list[TensorStats | Failure]:
    """Return `records` by a statistic; those that have none last, in the order they came."""

    def has(record: TensorStats | Failure) -> bool:
        return isinstance(record, TensorStats) and record.value(name) is not None

    def key(record: TensorStats | Failure) -> Value:
        assert isinstance(record, TensorStats)  # has() said so
        value = record.value(name)
        return -math.inf if value is None else value

    ordered = sorted(filter(has, records), key=key, reverse=falling)  # type: ignore[arg-type]
    return ordered + [record for record in records if not has(record)]
