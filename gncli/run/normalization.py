"""Group Normalization of a source into a sink: one pass, or two passes over each span of cells."""

from __future__ import annotations

import operator
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.io.source import Sink, Source
from gncli.kernels.exact import settle
from gncli.kernels.extras import Extras, is_extra
from gncli.kernels.floats import Float
from gncli.kernels.groupnorm import (
    Check,
    Grouping,
    GroupNorm,
    all_checks,
    beyond,
    check,
    factor,
    normalize_region,
    standardization,
    verify_region,
)
from gncli.kernels.moments import Floats, Moments, MomentsOf, fold, merge
from gncli.kernels.partition import Axis, Partition
from gncli.kernels.plain import Affine, Standardization
from gncli.kernels.proof import Proof, about_zero, given_moments, without_bounds
from gncli.kernels.reduction import Both, Fold, Tree, Visit, each
from gncli.kernels.refined import standardized
from gncli.kernels.scratch import arithmetic
from gncli.kernels.walk import Region, Walk
from gncli.run.engine import DEFAULT_TILE, TILES_PER_VISIT, Engine
from gncli.run.plan import MAX_OPEN_CELLS, Pass, Plan, Program


class _Cells(NamedTuple):
    """The moments of whole cells before and after, their standardization, and what became of their elements."""

    before: Moments
    by: Moments  # that they are standardized by
    mapping: Standardization
    z: Moments
    y: Moments
    counts: _Counts


class _Counts(NamedTuple):
    """How many elements were settled, overflowed, became 0 and are not the rounding of their float64 value."""

    settled: int = 0
    overflowed: int = 0
    became_zero: int = 0
    misrounded: int = 0

    def plus(self, other: _Counts) -> _Counts:
        return _Counts._make(map(operator.add, self, other))


class _Mapped(NamedTuple):
    """The result of a normalized visit: its moments per cell, and its elements if the caller must write them."""

    moments: tuple[Moments | None, tuple[Moments, Moments]] | None  # of the input if others are given; of the results
    counts: _Counts
    result: NDArray[Any] | None


@dataclass(frozen=True)
class Outcome:
    """The result of a run of Group Normalization. Moments are settled, of shape (1,).

    Attributes
    ----------
    before, after : Moments
        The moments of the input and of the output.
    normalized : Moments
        The moments of the standardized values, before gamma and beta.
    means, variances : Moments
        The moments of the groups' means, and of their variances; of no values unless the stages are kept.
    check : Check
        The check of the standardized values.
    checked : numpy.dtype
        Their dtype.
    kept : tuple of three ndarray of float64, shape (N, G), or None
        The mean, the variance, and the factor of the deviations, of each group.
    """

    before: Moments
    after: Moments
    normalized: Moments
    means: Moments
    variances: Moments
    check: Check
    checked: np.dtype[Any]
    kept: tuple[Floats, ...] | None = None


class _Summary(NamedTuple):
    """The summary of some whole spans that a run keeps."""

    nodes: dict[str, Moments]
    check: Check
    kept: tuple[Floats, ...] | None
    shown: tuple[Floats, ...] | None


class _Written(NamedTuple):
    """The result of normalized whole spans: their summary, and their elements if the caller must write them."""

    summary: _Summary | None
    result: NDArray[Any] | None


RESULTS: tuple[type[Any], ...] = (_Counts, _Mapped, _Summary, _Written)
"""What the results of visits are made of, besides moments and checks."""


@dataclass(frozen=True)
class _Worker:
    """The work on a visit; it is picklable, and is sent to other processes."""

    norm: GroupNorm
    affine: Affine
    made: Float
    overflow: str | None
    sink: Sink | None
    engine: Engine
    before: MomentsOf
    after: MomentsOf
    normalized: MomentsOf | None
    keep: bool
    stages: bool
    shows: bool
    reports: bool
    given: Moments | None

    @property
    def checked(self) -> np.dtype[Any]:
        """The dtype of the standardized values that are checked."""
        return self.made.checked if self.normalized is None else self.normalized.dtype

    def normalize(self, visit: Visit) -> _Written:
        """Normalize whole spans."""
        before = None
        if self.given is None:
            before = self.before.measure(visit).settled()
            by = self.reference(before)
        else:
            by = given_to(self.given, visit.walk, range(visit.region.first, visit.region.last))
        mapping = self.mapping(before, by, visit)
        mapped = self.map(by, mapping, visit)
        if mapped.moments is None:
            return _Written(None, mapped.result)
        spans, (measured, (z, y)) = visit.region.last - visit.region.first, mapped.moments
        if before is None:
            assert measured is not None
            before = measured.settled()
        return _Written(self.summary(_Cells(before, by, mapping, z, y, mapped.counts), spans), mapped.result)

    def reference(self, before: Moments) -> Moments:
        """Return the moments that cells are standardized by, from their own."""
        return about_zero(before) if self.norm.rms else before

    def mapping(self, before: Moments | None, by: Moments, visit: Visit | None = None) -> Standardization:
        """Return the standardization of cells; for the parameters see `standardized`."""
        return standardized(before, by, self.norm, self.made, visit)

    def map(self, by: Moments, mapping: Standardization, visit: Visit) -> _Mapped:
        """Normalize a visit, and write it unless the caller must write in order."""
        buffers, size, sink, made = self.engine.buffers, visit.values.size, self.sink, self.made
        lent = None if sink is None or sink.sequential else sink.lent(visit.region.start, visit.region.stop)
        y = buffers.take(size, made.dtype) if lent is None else lent
        of_z, misrounded, became_zero = None, 0, 0
        if self.normalized is None or not self.reports:
            places = normalize_region(visit.walk, visit.region, visit.values, mapping, self.affine, made, y)
        else:
            found = verify_region(visit, mapping, self.affine, made, self.normalized, y)
            places, of_z, misrounded, became_zero = found
        became_zero += settle(visit, places, made, y, by, self.norm, self.affine)
        moments, overflowed = None, 0
        of_y = self.after.measure(visit._replace(values=y)) if self.reports else None
        if made.foreign and (of_y is None or infinite(of_y)):
            overflowed = made.resolve(y, self.overflow)
            of_y = None if of_y is None else self.after.measure(visit._replace(values=y))
        if of_y is not None:
            if not made.foreign:
                overflowed = infinite(of_y)
                if overflowed and self.given is not None:  # an infinity in the input spoils no more than itself
                    overflowed = int(np.count_nonzero(np.isinf(y) & np.isfinite(visit.values)))
            moments = None if self.given is None else self.before.measure(visit), (of_z or of_y, of_y)
        counts = _Counts(int(np.count_nonzero(np.isfinite(y[places]))), overflowed, became_zero, misrounded)
        if lent is not None:
            return _Mapped(moments, counts, None)
        if sink is not None and sink.sequential:
            return _Mapped(moments, counts, y)
        if sink is not None:
            sink.write_from(y, visit.region.start)
        buffers.give(y)
        return _Mapped(moments, counts, None)

    def summary(self, cells: _Cells, spans: int) -> _Summary:
        """Return the summary of `spans` whole spans: a node of each tree, the check, and the values kept per cell."""
        nodes = {"before": without_bounds(cells.before), "after": cells.y}
        if self.normalized is not None:
            nodes["normalized"] = cells.z
        kept = shown = None
        if self.shows:
            after = cells.y.settled()
            shown = (cells.before.mean, cells.before.std(), after.mean, after.std())
        if self.keep or self.stages:
            mean, var = cells.before.mean, cells.before.var()
            if self.keep:
                kept = (mean, var, factor(standardization(cells.by, self.norm)))
            if self.stages:
                nodes |= {"means": Moments.of_values(mean), "variances": Moments.of_values(var)}
        inner = (Axis(False, spans), Axis(False, cells.before.n.size // spans))
        totals = {name: fold(moments, inner, False) for name, moments in nodes.items()}
        counts = cells.counts
        # Finite elements are proved there all the same, and infinite ones fail the check unless they are replaced. But
        # an activation makes finite numbers of infinite ones, which float64 alone settles.
        proves = self.made.mantissa == 52 or (not self.made.foreign and self.affine.activation is None)
        apart = beyond(cells.mapping, cells.z, cells.y) if proves else False
        checked = replace(
            check(cells.before, cells.by, cells.z, self.norm, self.checked, apart),
            overflowed=counts.overflowed,
            overflow=self.overflow,
        )
        if self.made.foreign:
            checked = replace(checked, became_zero=counts.became_zero, misrounded=counts.misrounded)
        if cells.mapping.slope is not None:
            checked = replace(checked, proved=int(cells.y.n.sum()) - counts.settled, settled=counts.settled)
        return _Summary(totals, checked, kept, shown)


def infinite(moments: Moments) -> int:
    """Return how many infinities there are in all cells."""
    return int((moments.number("posinf") + moments.number("neginf")).sum())


def given_to(given: Moments, walk: Walk, spans: range) -> Moments:
    """Return the given moments of the cells of some spans."""
    return each(given, itemgetter(slice(spans.start * walk.span_cells, spans.stop * walk.span_cells)))


def at_once(values: NDArray[Any], grouping: Grouping, affine: Affine, made: Float) -> NDArray[Any] | None:
    """Return an array normalized, if it is a single visit: with no plan, engine or buffers, which take longer than it.

    Parameters
    ----------
    values : ndarray, 1-D
        All elements, in storage order.
    grouping : Grouping
        The parameters, and the groups of the tensor; not given moments.
    affine : Affine
        Gamma and beta.
    made : Float
        The dtype of the result, one that NumPy has.

    Returns
    -------
    ndarray of ``made.dtype``, 1-D, or None
        The bits that `Normalization` writes; None if it takes more than one visit.
    """
    norm, visited = grouping.norm, _single_visit(grouping.partition, values.dtype, made.mantissa < 52)
    if visited is None:
        return None
    walk, region, before = visited
    with arithmetic():
        visit = Visit(walk, region, values, values.size)
        measured = before.measure(visit).settled()
        by = about_zero(measured) if norm.rms else measured
        y = np.empty(values.size, made.dtype)
        mapping = standardized(measured, by, norm, made, visit)
        places = normalize_region(walk, region, values, mapping, affine, made, y)
        settle(visit, places, made, y, by, norm, affine)
    return y


@lru_cache(maxsize=256)  # many arrays have one shape
def _single_visit(partition: Partition, dtype: np.dtype[Any], proves: bool) -> tuple[Walk, Region, MomentsOf] | None:
    """Return the visit that is a whole array of `dtype`, and what is measured of it; None if there is no such visit."""
    if not partition.size:
        return None
    walk, size = Walk.of(partition), TILES_PER_VISIT * DEFAULT_TILE // dtype.itemsize
    regions = list(islice(walk.regions(size), 2))
    if walk.cut(size) or walk.span_cells > MAX_OPEN_CELLS or len(regions) > 1:
        return None
    return walk, regions[0], MomentsOf(dtype, Proof(None, exact=False) if proves else None)


class Normalization:
    """Group Normalization of a source, into a sink if there is one.

    The unit is a span of cells. A span that fits a visit is read once and processed twice in tiles, for its moments
    and for the map; a larger one is read twice, visit by visit, with the same kernels.

    Parameters
    ----------
    source : Source
        The tensor.
    sink : Sink or None
        Receives the result; with None the result is measured and not kept.
    grouping : Grouping
        The parameters, and the groups of the tensor.
    affine : Affine
        Gamma and beta.
    made : Float
        The dtype of the result.
    engine : Engine
        Runs the passes.
    overflow : {"saturate", "nonfinite"}, optional
        What becomes of results that overflow, for dtypes that NumPy lacks; by default they are not finite, and fail the
        check.
    keep : bool
        Whether the moments of each group are kept: 24 bytes per group.
    stages : bool
        Whether the means and variances of the groups are measured as values.
    extras : frozenset of str
        The statistics that are measured besides moments, before and after: those that `is_extra` knows.
    verify : bool
        Whether standardized values are measured apart from the result, where they may differ from it.
    shows : bool
        Whether iteration yields the mean and deviation of each cell, for a picture.
    reports : bool
        Whether there is an outcome; without it the result is written, and not measured.
    given : tuple of two ndarray of float64, shape (C,), optional
        The mean and the variance of each channel, if they are given; the source is then read once.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink | None,
        grouping: Grouping,
        affine: Affine,
        made: Float,
        engine: Engine,
        *,
        overflow: str | None = None,
        keep: bool = False,
        stages: bool = False,
        extras: frozenset[str] = frozenset(),
        verify: bool = True,
        shows: bool = False,
        reports: bool = True,
        given: tuple[Floats, Floats] | None = None,
    ) -> None:
        self.sink, self.grouping = sink, grouping
        affine = affine._replace(overflow=overflow)
        further = Extras(frozenset(filter(is_extra, extras)), source.shape, source.order) if extras else None
        norm, by = grouping.norm, None if given is None else given_moments(*given, source.dtype)
        twice = 1 if norm.given else 2
        self._plan = Plan.of(
            source, grouping.partition, engine, lambda _, once: ("normalize",) * (1 if once else twice)
        )
        # Of a span that is read twice, the exact sums must be known before the second time.
        exact, bounds = not self._plan.once, made.mantissa < 52  # float64 follows from the exact sums
        proof = Proof(further, exact, bounds) if (exact or bounds) and not norm.given else None
        before = MomentsOf(source.dtype, proof or further)
        # Standardized values have a mean of nearly 0, which saves the kernel a pass.
        after = MomentsOf(made.dtype, further, about_zero=affine.identity and norm.centered)
        apart = verify and (made.foreign or norm.given or not affine.identity)
        # By moments that are given, a standardized value may be beyond the dtype of a result that is not.
        checked = np.dtype(np.float64) if norm.given and not affine.rounds else made.checked
        normalized = MomentsOf(checked, about_zero=norm.centered) if apart else None
        self._worker = _Worker(
            *(norm, affine, made, overflow, sink, engine, before, after, normalized, keep, stages, shows, reports, by),
        )
        self._trees: defaultdict[str, Tree[Moments]] = defaultdict(lambda: Tree(merge))
        self._kept: list[tuple[Floats, ...]] = []
        self._check = Check(0, None, None, overflow=overflow, proved=0, settled=0)
        if made.foreign:
            self._check = replace(self._check, became_zero=0, misrounded=0)

    def run(self) -> Outcome:
        """Run all passes and return the outcome.

        Raises
        ------
        GncliError
            If the source cannot be read, or the sink written.
        """
        self.write()
        return self.outcome()

    def write(self) -> None:
        """Run all passes; see `run`."""
        deque(self, maxlen=0)  # nothing is shown

    @property
    def plan(self) -> Plan:
        """The visits, in one or two passes."""
        return self._plan

    def record(self, parts: int, mine: Callable[[range], bool], *, measure: bool, shares: bool) -> None:
        """Do one of so many `parts` of the work. The engine keeps the results (`gncli.run.parts`), with no outcome.

        Parameters
        ----------
        parts : int
            The number of parts.
        mine : callable
            Whether the part has a visit of these spans, as `Plan.spans` yields them.
        measure : bool
            Whether cells that are read twice are measured alone.
        shares : bool
            Whether the part may have only some of the visits of a span.
        """
        worker, plan = self._worker, self._plan.begin(parts)
        spans = filter(mine, plan.spans())
        if not (plan.once or shares):
            deque(plan.side_by_side(self._mapped, spans), maxlen=0)
            return
        for some in spans:
            visits: Iterator[Any]
            if measure:
                visits = plan.visits(worker.before.measure, some)
            elif plan.once:
                visits = plan.visits(worker.normalize, some, sink=self.sink)
            else:
                ((before, by),) = plan.side_by_side(self._known, [some])
                visits = plan.visits(partial(worker.map, by, worker.mapping(before, by)), some, "map", self.sink)
            deque(visits, maxlen=0)

    def _mapped(self, span: range) -> Program[None]:
        """Measure a span that does not fit a visit, unless its moments are given, and map it, with no summary."""
        before, by = yield from self._known(span)
        mapping = self._worker.mapping(before, by)
        yield Pass(partial(self._worker.map, by, mapping), lambda *_: None, "map", self.sink)

    def __iter__(self) -> Iterator[tuple[Floats, ...]]:
        """Run all passes; with `shows`, yield mean and deviation before and after of the next cells in storage."""
        if not self.grouping.partition.size:
            return
        plan = self._plan.begin()
        for summary in self._whole(plan) if plan.once else plan.side_by_side(self._span):
            if summary is not None:
                self._take(summary)
                if summary.shown is not None:
                    yield summary.shown

    def _whole(self, plan: Plan) -> Iterator[_Summary | None]:
        for region, done in plan.visits(self._worker.normalize, sink=self.sink):
            self._write(region, done)
            yield done.summary

    def _known(self, span: range) -> Program[tuple[Moments | None, Moments]]:
        """Return the moments of the cells of a span, and those that they are standardized by: alone if given."""
        worker = self._worker
        if worker.given is not None:
            return None, given_to(worker.given, self._plan.walk, span)
        before = (yield self._plan.reducing(worker.before)).settled()
        return before, worker.reference(before)

    def _span(self, span: range) -> Program[_Summary | None]:
        """Measure a span that does not fit a visit, unless its moments are given, and map it."""
        worker, walk, counts = self._worker, self._plan.walk, _Counts()
        before, by = yield from self._known(span)
        mapping = worker.mapping(before, by)
        results = Both(worker.normalized or worker.after, worker.after)
        of_results, of_all = Fold(walk, results), Fold(walk, Both(worker.before, results))

        def take(region: Region, done: _Mapped) -> Any:
            nonlocal counts
            self._write(region, done)
            counts = counts.plus(done.counts)
            if done.moments is None:
                return None
            measured, after = done.moments
            return of_results.push(region, after) if measured is None else of_all.push(region, (measured, after))

        found = yield Pass(partial(worker.map, by, mapping), take, "map", self.sink)
        if found is None:
            return None
        if before is None:
            measured, found = found
            before = measured.settled()
        z, y = found
        return worker.summary(_Cells(before, by, mapping, z, y, counts), 1)

    def _write(self, region: Region, done: _Mapped | _Written) -> None:
        """Write a result that a worker could not write."""
        if done.result is not None and self.sink is not None:
            self.sink.write_from(done.result, region.start)
            self._worker.engine.buffers.give(done.result)

    def _take(self, summary: _Summary) -> None:
        for name, node in summary.nodes.items():
            self._trees[name].push(node)
        self._check = all_checks([self._check, summary.check])
        if summary.kept is not None:
            self._kept.append(summary.kept)

    def outcome(self) -> Outcome:
        """Return the outcome, after the last pass."""
        worker = self._worker

        def total(name: str, law: MomentsOf) -> Moments:
            found = self._trees[name].total()
            return law.nothing() if found is None else found.settled()

        after, double = total("after", worker.after), MomentsOf(np.dtype(np.float64))
        kept = None
        if worker.keep:
            undefined = [np.full(self.grouping.partition.num_cells, np.nan)]  # for a tensor without elements
            parts = zip(*self._kept, strict=True) if self._kept else (undefined,) * 3
            kept = tuple(self.grouping.partition.arrange(np.concatenate(part)) for part in parts)
        return Outcome(
            before=total("before", worker.before),
            after=after,
            normalized=after if worker.normalized is None else total("normalized", worker.normalized),
            means=total("means", double),
            variances=total("variances", double),
            check=self._check,
            checked=worker.checked,
            kept=kept,
        )
