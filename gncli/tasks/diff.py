"""The task of ``gncli diff``: one pass over two tensors together, and further passes for histogram and tolerance."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gncli import io
from gncli.errors import LimitError, ParameterError
from gncli.io.pairs import Derived, InCOrder, Pair, paired
from gncli.io.source import Sink, Source
from gncli.kernels import fit, percentiles
from gncli.kernels.agreement import Agreement
from gncli.kernels.counts import UlpCounts
from gncli.kernels.fit import Fit, FitOf
from gncli.kernels.floats import chosen
from gncli.kernels.groupnorm import output_float
from gncli.kernels.heatmap import Heatmap, Plane, in_storage
from gncli.kernels.layout import Layout, axes_between
from gncli.kernels.moments import NOWHERE
from gncli.kernels.partition import whole
from gncli.kernels.plain import ULPS, Tolerance, distance, native_order
from gncli.kernels.reduction import Both, R, Reduction, Visit, each, fold_cells, folded, in_c_order
from gncli.kernels.tally import Tally, TallyOf, delta, exact_delta, merge, split
from gncli.names import FITTED
from gncli.report.diff_records import DiffCell, DiffReport, Ulps, Worst
from gncli.report.gates import Shapes
from gncli.report.pair_records import PairsReport
from gncli.report.records import Cells, Histogram, Picture
from gncli.run.engine import Engine
from gncli.run.plan import MAX_OPEN_CELLS, Plan, kept_in_file
from gncli.tasks.by import By, cut
from gncli.tasks.histograms import Bars, counted
from gncli.tasks.judging import Judge, check, index_of, rounded_up
from gncli.tasks.order import Chosen
from gncli.tasks.pairs import PairsRun, difference, many, operand
from gncli.tasks.requests import Choice, Cutting, Diff
from gncli.tasks.rounding import Rounding
from gncli.tasks.survey import describe, select
from gncli.text import finite

LARGEST = sys.float_info.max
MAX_MAPPED = 1 << 18  # cells of a map where no ``--by`` was given: 500 bytes each


class DiffRun:
    """A run of ``diff``: entering it opens both sides and checks everything; then call `report` and `commit`.

    Parameters
    ----------
    request : Diff
        The tensors and the options.
    """

    def __init__(self, request: Diff) -> None:
        self.request = request
        self._stack = contextlib.ExitStack()
        self._comparison: Comparison | None = None

    def __enter__(self) -> Self:
        request = self.request
        with contextlib.ExitStack() as stack:
            check(request)
            asked = (request.a, request.b, request.criteria.baseline)
            names = [name for name in asked if name is not None]
            sides = [stack.enter_context(io.open_sources(name, policy=request.policy)) for name in names]
            if many(sides, request):
                engine = stack.enter_context(Engine(request.execution.workers, request.execution.tile))
                self._pairs = PairsRun(sides, request, engine, partial(self._brief, engine))
            else:
                sources = [stack.enter_context(side.only()) for side in sides]
                self._comparison = stack.enter_context(Comparison(request, sources))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _brief(self, engine: Engine, *sources: Source) -> DiffReport:
        with Comparison(self.request, sources, engine) as comparison:
            return comparison.report()

    def report(self) -> DiffReport | PairsReport:
        """Return the report; a - b is then written, but not yet visible under its name.

        Raises
        ------
        GncliError
            If a tensor cannot be read, or the output written; of many pairs, that is a row. A difference is no error.
        """
        return self._pairs.report() if self._comparison is None else self._comparison.report()

    def commit(self) -> None:
        """Make a - b visible under its name, if it was requested."""
        if self._comparison is not None:
            self._comparison.commit()


class Comparison:
    """A comparison of two tensors: entering it checks everything; then call `report` and `commit`.

    Parameters
    ----------
    request : Diff
        The options.
    sources : sequence of Source
        The tensor, the reference, and the baseline if there is one.
    engine : Engine, optional
        Runs the passes, one pair after the other. The report is then brief: without distances in ULP.
    """

    def __init__(self, request: Diff, sources: Sequence[Source], engine: Engine | None = None) -> None:
        self.request, self.sources = request, sources
        self.compared = True
        self._given = engine
        self._stack = contextlib.ExitStack()
        self._sink: Sink | None = None
        self._writing: _Delta | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._prepare(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _prepare(self, stack: contextlib.ExitStack) -> None:
        request = self.request
        left, right, *baseline = self.sources
        self.judge = Judge(request, left, right, baseline[0] if baseline else None)
        for source in (source for source in baseline if source.shape != left.shape):
            problem = f"the baseline {source.name} has the shape {source.shape}, and {left.name} {left.shape}"
            raise ParameterError(problem, hint="a baseline has the shape of A")
        self.axes = self._axes()
        if left.shape != tuple(right.shape[axis] for axis in self.axes or range(len(right.shape))):
            self.compared = False
            return
        self.pair = paired(stack, left, right, *baseline, axes=self.axes)
        self.cells = self._cut()
        self.mapped = self.cells
        if request.picture is not None and self.cells is None:
            self.mapped = _mapped(self.pair)
        if request.output.path is not None:
            floats = left.dtype.kind == right.dtype.kind == "f"
            default = output_float(np.dtype(np.result_type(left.dtype, right.dtype) if floats else np.float64))
            made = chosen(request.dtype, default, request.output.overflow)
            self._sink = io.open_sink(
                request.output.path,
                shape=self.pair.shape,
                dtype=made,
                order=self.pair.order,
                force=request.output.force,
                inputs=self.sources,
                npy_bits=request.output.npy_bits,
                network=request.policy.network,
            )
            stack.callback(self._sink.abort)
            rounding = Rounding(made, request.output.overflow)
            self._writing = _Delta(self._sink, left.dtype, right.dtype, rounding)
        self.engine = self._given or stack.enter_context(Engine(request.execution.workers, request.execution.tile))

    def _axes(self) -> tuple[int, ...] | None:
        """Return the axis of B that is each axis of A; None where they are in the same order."""
        found = []
        for letters, source in zip(self.request.layouts or (), self.sources, strict=False):
            try:
                found.append(Layout.of(letters, source.shape))
            except ParameterError as error:
                raise error.about(source.name) from None
        return axes_between(*found) if found else None

    def _cut(self) -> By | None:
        request = self.request
        if request.cutting.by is None:
            return None
        try:
            cells = cut(request.cutting, self.pair.shape, self.pair.order)
        except ParameterError as error:
            raise error.about(io.name_of(request.a)) from None
        limit = MAX_OPEN_CELLS if request.most_cells is None else request.most_cells
        if cells.count > limit:
            raise LimitError(f"has {cells.count:,} cells; diff shows at most {limit:,}", subject=io.name_of(request.a))
        return cells

    def report(self) -> DiffReport:
        """Return the report of the differences; a - b is then written, but not yet visible under its name.

        Raises
        ------
        GncliError
            If a tensor cannot be read, or the output written. A difference is not an error: the report says it.
        """
        request, left, right = self.request, *self.sources[:2]
        tolerance = self.judge.tolerance
        header = DiffReport(
            a=operand(left),
            b=operand(right),
            rtol=tolerance.rtol,
            atol=tolerance.atol,
            max_fraction=request.max_fraction,
            nan_differs=request.nan_differs,
        )
        if not self.compared:
            return replace(header, gates=(Shapes(left.shape, right.shape),))
        pair, engine, mapped = self.pair, self.engine, self.mapped
        after = [*(["tolerance"] if request.max_fraction > 0 else []), *(["histogram"] if any(self._bars) else [])]
        partition = whole(pair.shape) if mapped is None else mapped.partition()
        most = engine.share_of(math.prod(pair.shape) * pair.dtype.itemsize)
        plan = Plan.of(pair, partition, engine, lambda _walk, _once: ("compare",), after, most).begin()
        tallies, counts, agreement, fits = self._measured(plan)
        total = fold_cells(tallies, merge) if tallies.n.size else Tally.nothing(left.dtype, right.dtype)
        smallest = _smallest_atol(pair, total, tolerance, request.max_fraction, engine)
        gates = self.judge.gates(total, agreement, smallest, pair)
        cells, worst, left_out = None, None, list[str]()
        if self.cells is not None:
            cells, worst, left_out = _cells(tallies, fits, self.cells, request.choice)
        report = replace(
            header,
            compared=True,
            size=math.prod(pair.shape),
            nan_mismatches=int(total.nan[0]),
            inf_mismatches=int(total.inf[0]),
            outside=max(gate.outside for gate in gates),
            first_mismatch=index_of(total.first, pair),
            worst=_worst(total, pair, self.axes),
            **_numbers(total),
            **self._line(fits),
            selected=request.statistics,
            ulp=None if counts is None else _ulps(counts),
            smallest_atol=smallest,
            rounding_floor=self.judge.floor(agreement),
            gates=gates,
            cells=cells,
            most_different=worst,
            output=request.output.path,
            rounded=None if self._writing is None else self._writing.rounding.report(),
            notes=(*self._notes(plan), *engine.notes, *left_out),
        )
        report = self._drawn(report, tallies, total)
        pair.verify_unchanged()
        return report

    @property
    def _bars(self) -> tuple[tuple[Bars, ...], tuple[Bars, ...]]:
        """The histograms of a - b: in the report, and in a picture, or on a page that has no other."""
        request = self.request
        shown = Bars.of(request.bins, request.scale)
        return shown, Bars.of(request.picture) or (() if shown else Bars.of(request.page))

    def _drawn(self, report: DiffReport, tallies: Tally, total: Tally) -> DiffReport:
        """Return `report` with its histogram and picture; a page alone shows the pairs that differ."""
        (shown, pictured), alone = self._bars, self.request.picture is None
        pictured = () if alone and report.equal else pictured
        drawn = {bars: _histogram(self.pair, total, bars, self.engine) for bars in dict.fromkeys((*shown, *pictured))}
        for bars in pictured:
            report = replace(report, picture=Picture(drawn[bars], {} if alone else _maps(tallies, self.mapped)))
        for bars in shown:
            report = replace(report, histogram=drawn[bars])
        return report

    def _measured(self, plan: Plan) -> tuple[Tally, NDArray[np.int64] | None, Agreement | None, Fit | None]:
        """Return the tally of each cell in storage order, the ULP counts, the agreement and the lines; write a - b.

        There are ULP counts for floats of one dtype only, an agreement only where the verdict needs it, and lines only
        if they were asked for.
        """
        request, pair, a, b = self.request, self.pair, self.pair.a, self.pair.b
        law: Reduction[Any] = TallyOf(a.dtype, b.dtype, pair.shape, pair.order, self.judge.tolerance)
        ulps = a.dtype.kind == "f" and a.dtype_name == b.dtype_name and not self._given
        line = not {*request.statistics, *request.choice.names}.isdisjoint(FITTED)
        further: list[Reduction[Any] | None] = [
            UlpCounts(a.dtype, b.dtype, None if a.stored_as is None else a.stored_as.bits) if ulps else None,
            self.judge.reduction(pair),
            FitOf(a.dtype, b.dtype) if line else None,
        ]
        for reduction in filter(None, further):
            law = Both(law, reduction)
        found = _reduced(plan, law, self._writing)
        parts: list[Any] = []
        for reduction in reversed(further):  # the last one is the outermost
            found, part = found if reduction is not None else (found, None)
            parts.append(part)
        fits, agreement, counts = parts
        return found, None if counts is None else counts.number, agreement, fits

    def _line(self, fits: Fit | None) -> dict[str, Any]:
        """Return slope and offset of the whole tensors, if they were asked for."""
        if fits is None:
            return {}
        nothing = FitOf(self.pair.a.dtype, self.pair.b.dtype).nothing()
        slope, offset = (fold_cells(fits, fit.merge) if fits.product.size else nothing).line()
        return {"slope": finite(slope[0]), "offset": finite(offset[0])}

    def _notes(self, plan: Plan) -> tuple[str, ...]:
        read = self.pair.sources
        kept = [s for s in self.sources if s.name in plan.held or (s.sequential and s not in read)]
        notes = [kept_in_file(source.name) for source in kept]
        notes += [
            f"{source.name}: its axes are stored in another order, so it is read again for every 64 MiB"
            for source in read
            if isinstance(source, InCOrder) and source.rereads
        ]
        before = () if self._sink is None else self._sink.notes
        return (*before, *(note for source in self.sources for note in source.notes), *notes)

    def commit(self) -> None:
        """Make a - b visible under its name, if it was requested."""
        if self._sink is not None:
            self._sink.commit()


class _Delta:
    """Writes a - b during the comparison."""

    def __init__(self, sink: Sink, a: np.dtype[Any], b: np.dtype[Any], rounding: Rounding) -> None:
        self._sink, self._a, self._b, self.rounding = sink, a, b, rounding

    def write(self, visit: Visit) -> None:
        """Write a - b for a visit, whose values hold the elements of both tensors."""
        difference = exact_delta(*split(visit.values, self._a, self._b))
        self._sink.write_from(self.rounding.rounded(*difference), visit.region.start)


def _reduced(plan: Plan, law: Reduction[R], writing: _Delta | None) -> R:
    """Return the record of all cells, and write a - b if `writing` is set."""
    if writing is None or not plan.partition.size:
        return law.concatenate(list(plan.reduce(law)))

    def measure(visit: Visit) -> R:
        writing.write(visit)
        return law.measure(visit)

    return law.concatenate(list(folded(plan.walk, law, plan.visits(measure))))


def _worst(total: Tally, pair: Pair, axes: tuple[int, ...] | None) -> Worst | None:
    if total.place[0] == NOWHERE:
        return None
    index = index_of(in_c_order(total.place, pair.shape, pair.order), pair)
    assert index is not None  # there is a place
    a, b = total.a[0].item(), total.b[0].item()
    apart = abs(int(a) - int(b)) if _both_whole(total) else float(total.worst[0])
    in_b = None if axes is None else tuple(index[axes.index(axis)] for axis in range(len(axes)))
    return Worst(index, a, b, apart, in_b)


def _both_whole(total: Tally) -> bool:
    return total.a.dtype.kind in "iub" and total.b.dtype.kind in "iub"


def _numbers(total: Tally) -> dict[str, Any]:
    """Return the numbers of the report that are sums over finite pairs; None where there are none."""
    n = float(total.n[0])
    if not n:
        return dict.fromkeys(("mean_abs", "rmse", "rel", "psnr", "cosine"))
    power, b_power = (0 if found is None else int(found[0]) for found in (total.power, total.b_power))
    square, a_square, b_square = float(total.square[0]), float(total.a_square[0]), float(total.b_square[0])
    root = math.sqrt(square / n)
    lengths = math.sqrt(a_square * b_square)  # exactly the square for equal tensors
    return {
        "mean_abs": _scaled(float(total.total[0]) / n, power),
        "rmse": _scaled(root, power),
        "rel": _scaled(math.sqrt(square) / math.sqrt(b_square), power - b_power) if b_square else None,
        "psnr": _psnr(float(total.low[0]), float(total.high[0]), root, power),
        "cosine": max(-1.0, min(1.0, float(total.product[0]) / lengths)) if lengths else None,
    }


def _scaled(value: float, power: int) -> float:
    """Return `value` times two to the power of `power`; infinity where that overflows."""
    return float(np.ldexp(value, power)) if power else value


def _psnr(low: float, high: float, root: float, power: int) -> float | None:
    """Return 20 log10 of the range from `low` to `high` over ``root * 2**power``; None where one of both is 0."""
    if not (low < high and root):
        return None
    spread = high - low
    if not power and 0 < (ratio := spread / root) < math.inf:
        return 20 * math.log10(ratio)
    half = math.log10(2)
    of_range = math.log10(high / 2 - low / 2) + half if math.isinf(spread) else math.log10(spread)
    return 20 * (of_range - (math.log10(root) + power * half))


def _ulps(counts: NDArray[np.int64]) -> Ulps | None:
    size = int(counts.sum())
    if not size:
        return None
    every = np.arange(ULPS)

    def at(percentile: float) -> float:
        below, above, share = percentiles.rank(percentile, size)
        low, high = (percentiles.find(counts, every, rank)[0] for rank in (below, above))
        return float(percentiles.between(low, high, share))

    return Ulps(at(50.0), at(99.0), at(99.9), int(np.flatnonzero(counts)[-1]))


def _smallest_atol(pair: Pair, total: Tally, tolerance: Tolerance, max_fraction: float, engine: Engine) -> float | None:
    """Return the smallest atol of three digits with which the tensors are the same; None if there is none."""
    allowed = math.floor(max_fraction * math.prod(pair.shape)) - int(total.nan[0]) - int(total.inf[0])
    n = int(total.n[0])
    if allowed < 0:
        return None
    if allowed >= n:
        return 0.0
    needed = float(total.excess[0])
    if allowed:

        def excess(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
            native = [native_order(values) for values in (a, b)]
            x, y = (values.astype(np.float64) for values in native)
            gap, _ = distance(native[0], native[1], x, y)
            found = np.nan_to_num(gap - tolerance.rtol * np.abs(y), nan=-LARGEST)  # only finite values are ranked
            return np.where(np.isfinite(x) & np.isfinite(y), found, np.nan)

        chosen = float(_of_rank(Derived(pair, excess), n - 1 - allowed, engine))
        needed = needed if chosen == LARGEST else chosen
    return rounded_up(needed, exactly=not tolerance.rtol)


def _of_rank(source: Source, rank: int, engine: Engine) -> int | float:
    """Return the element of `rank`, counted from 0, among all finite elements of `source`."""
    passes = ("tolerance",) * percentiles.steps(source.dtype)
    plan = Plan.of(source, whole(source.shape), engine, lambda _walk, _once: passes).begin()
    (found,) = plan.side_by_side(lambda _: select(plan, range(1), {(0, rank)}))
    return found[0, rank]


def _cells(
    tallies: Tally, fits: Fit | None, by: By, choice: Choice
) -> tuple[Cells[DiffCell], DiffCell | None, list[str]]:
    """Return the cells to show, in an order in which equals are in C order of their index, and what is said of all.

    That is the cell that differs most, if any does, and the note about those that are left out.
    """
    chosen: Chosen[DiffCell] = Chosen(choice._replace(sort=choice.sort or "-max"), difference)
    worst: DiffCell | None = None
    for cell in _each_cell(tallies, fits, by):
        chosen.add(cell)
        if cell.distance > ((0, 0.0) if worst is None else worst.distance):
            worst = cell
    return Cells(tuple(by.names), tuple(chosen.rows()), chosen.total), worst, chosen.left_out("cells")


def _each_cell(tallies: Tally, fits: Fit | None, by: By) -> Iterator[DiffCell]:
    """Yield the cells in C order of their index."""
    lines = [values.tolist() for values in fits.line()] if fits is not None else []
    place = by.partition().arrange(np.arange(tallies.n.size)).reshape(-1)
    index = np.stack(np.unravel_index(np.arange(tallies.n.size), by.sizes), axis=1)
    for at, cell in zip(index, place.tolist(), strict=True):
        one = each(tallies, itemgetter(slice(cell, cell + 1)))
        numbers = _numbers(one)
        where = tuple(int(i) for i in at)
        yield DiffCell(
            place=dict(zip(by.names, where, strict=True)),
            note=by.note(where),
            size=int(one.size[0]),
            outside=int(one.outside[0] + one.nan[0] + one.inf[0]),
            nan_mismatches=int(one.nan[0]),
            inf_mismatches=int(one.inf[0]),
            max_abs=float(one.worst[0]) if one.n[0] else None,
            mean_abs=numbers["mean_abs"],
            rmse=numbers["rmse"],
            rel=numbers["rel"],
            cosine=numbers["cosine"],
            **{name: finite(values[cell]) for name, values in zip(FITTED, lines, strict=False)},
        )


def _mapped(pair: Pair) -> By | None:
    """Return the default cells of a picture: (sample, channel), or the first axis; None if there are too many."""
    ndim = len(pair.shape)
    for axes in ("N,C" if 2 <= ndim <= 5 else "0,1", "0"):
        if ndim > axes.count(",") and (cells := cut(Cutting(by=axes), pair.shape, pair.order)).count <= MAX_MAPPED:
            return cells
    return None


def _maps(found: Tally, by: By | None) -> dict[str, Heatmap]:
    """Return the map of the largest |a - b| per cell; infinite where the tensors differ by a NaN or an infinity."""
    if by is None:
        return {}
    plane = Plane(by.names, by.sizes)
    worst = np.where(found.n > 0, found.worst, np.nan)
    plane.add(in_storage(by.partition(), 0, worst.size), np.where(found.nan + found.inf > 0, np.inf, worst))
    return {"max_abs": plane.heatmap()}


def _histogram(pair: Pair, total: Tally, bars: Bars, engine: Engine) -> Histogram:
    """Return the histogram of a - b, symmetric around 0 and as wide as the worst element; or that of |a - b|."""
    apart, worst = Derived(pair, delta), float(total.worst[0])
    least, most = (-worst, worst) if 0 <= worst < math.inf else (None, None)
    found = describe(apart, engine, bars.needs).values if bars.needs else {"min": least, "max": most}
    return bars.drawn(bars.edges(found), found, partial(counted, apart, engine))
