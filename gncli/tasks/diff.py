"""What ``gncli diff`` does: one pass over two tensors together, and further ones for what one cannot tell."""

from __future__ import annotations

import contextlib
import decimal
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import io, progress
from gncli.errors import LimitError, ParameterError
from gncli.io.pairs import Derived, InCOrder, Pair, stored
from gncli.io.source import Source
from gncli.kernels import histogram, percentiles
from gncli.kernels.heatmap import Heatmap, Plane, in_storage
from gncli.kernels.moments import NOWHERE, fold_axes
from gncli.kernels.partition import Axis, whole
from gncli.kernels.tally import ULPS, Tally, TallyFold, Tolerance, delta, distance, tally_region, ulps
from gncli.kernels.walk import Region, Walk
from gncli.names import STRICT, Policy
from gncli.report.diff_records import DiffCell, DiffReport, Operand, Ulps, Worst
from gncli.report.records import Cells, Histogram, Picture
from gncli.run.engine import Engine
from gncli.run.passes import MAX_OPEN_CELLS
from gncli.tasks.by import By, cut
from gncli.tasks.survey import counted, select_ranks

TOLERANCES = {
    "float8_e5m2": (0.25, 1e-5),
    "float8_e4m3fn": (0.125, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float16": (1e-3, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}
"""rtol and atol by the name of a float, as torch.testing.assert_close; of float8, which it has not, an epsilon."""

ATOL_DIGITS = 3
LARGEST = sys.float_info.max
MAX_MAPPED = 1 << 18  # cells of a map that nobody asked for cell by cell: 500 bytes each


def diff(
    a: str,
    b: str,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    max_fraction: float = 0.0,
    nan_differs: bool = False,
    by: str | None = None,
    layout: str | None = None,
    num_groups: int | None = None,
    group_size: int | None = None,
    bins: int | None = None,
    picture: int | None = None,
    before_commit: Callable[[DiffReport], None] | None = None,
    most_cells: int | None = None,
    output: str | None = None,
    force: bool = False,
    policy: Policy = STRICT,
    workers: int | None = None,
    tile: int | None = None,
) -> DiffReport:
    """Return how `a` differs from `b`, the reference.

    Parameters
    ----------
    a, b : str
        Tensors, as the command line names them.
    rtol, atol : float, optional
        An element is outside where |a - b| > atol + rtol |b|; by default by the coarser dtype.
    max_fraction : float
        The tensors are the same if at most this part of the elements is outside.
    nan_differs : bool
        Whether a NaN differs from a NaN.
    by : str, optional
        The cell axes, as ``--by`` takes them.
    layout, num_groups, group_size
        As for `GroupNorm`, with `by`.
    bins : int, optional
        Of a histogram of a - b, which is made if they are given.
    picture : int, optional
        Bins of the histogram of a picture, whose data are gathered if they are given.
    before_commit : callable, optional
        Takes the report before the output replaces anything; what it raises leaves everything as it was.
    most_cells : int, optional
        How many cells there may be.
    output : str, optional
        Where a - b is written to.
    force : bool
        Whether an existing output is replaced.
    policy : Policy, optional
        What the files may do and ask for.
    workers, tile : int, optional
        As for `Engine`.

    Raises
    ------
    GncliError
        If a tensor cannot be read, or the output written. A difference is not an error: the report says it.
    """
    with contextlib.ExitStack() as stack:
        sources = []
        for name in (a, b):
            sources.append(io.open_source(name, policy=policy))
            stack.callback(sources[-1].close)
        left, right = sources
        given = default_tolerance(left.dtype_name, right.dtype_name)
        tolerance = Tolerance(given[0] if rtol is None else rtol, given[1] if atol is None else atol, nan_differs)
        operands = (_operand(left), _operand(right))
        if left.shape != right.shape:
            report = DiffReport(
                *operands,
                rtol=tolerance.rtol,
                atol=tolerance.atol,
                max_fraction=max_fraction,
                nan_differs=nan_differs,
            )
            if before_commit is not None:
                before_commit(report)
            return report
        pair = _paired(left, right, stack)
        cells = None
        if by is not None:
            try:
                cells = cut(by, pair.shape, pair.order, layout, num_groups, group_size)
            except ParameterError as error:
                raise error.about(a) from None
            limit = MAX_OPEN_CELLS if most_cells is None else most_cells
            if cells.count > limit:
                raise LimitError(f"has {cells.count:,} cells; diff shows at most {limit:,}", subject=a)
        mapped = cells
        if picture is not None and cells is None:
            mapped = _mapped(pair)
        sink = None
        if output is not None:
            kind = np.result_type(left.dtype, right.dtype) if left.dtype.kind == right.dtype.kind == "f" else np.float64
            dtype = np.dtype(kind).newbyteorder("=")
            sink = io.open_sink(output, shape=pair.shape, dtype=dtype, order=pair.order, force=force, inputs=sources)
            stack.callback(sink.abort)
        engine = stack.enter_context(Engine(workers, tile))
        bars = picture if bins is None else bins
        again = bars is not None or max_fraction > 0
        if again:
            pair.hold(0, math.prod(pair.shape))
        found, counts = _tallied(pair, mapped, tolerance, engine, sink)
        total = _total(found)
        histogram = None if bars is None else _histogram(pair, total, bars, engine)
        report = DiffReport(
            *operands,
            rtol=tolerance.rtol,
            atol=tolerance.atol,
            max_fraction=max_fraction,
            nan_differs=nan_differs,
            compared=True,
            size=math.prod(pair.shape),
            nan_mismatches=int(total.nan[0]),
            inf_mismatches=int(total.inf[0]),
            outside=int(total.outside[0] + total.nan[0] + total.inf[0]),
            first_mismatch=_index(total.first, pair),
            worst=_worst(total, pair),
            **_numbers(total),
            ulp=None if counts is None else _ulps(counts),
            smallest_atol=_smallest_atol(pair, total, tolerance, max_fraction, engine),
            cells=None if cells is None else _cells(found, cells),
            histogram=None if bins is None else histogram,
            picture=None if picture is None or histogram is None else Picture(histogram, _maps(found, mapped)),
            output=output,
            notes=(*_notes(sources, pair, again=again), *engine.notes),
        )
        pair.verify_unchanged()
        if before_commit is not None:
            before_commit(report)
        if sink is not None:
            sink.commit()
        return report


def default_tolerance(a: str, b: str) -> tuple[float, float]:
    """Return rtol and atol for tensors of dtypes of these names: of the coarser float; integers are exact.

    Examples
    --------
    >>> default_tolerance("float16", "float64"), default_tolerance("int32", "int64")
    ((0.001, 1e-05), (0.0, 0.0))
    """
    return max((TOLERANCES[name] for name in (a, b) if name in TOLERANCES), default=(0.0, 0.0))


def _operand(source: Source) -> Operand:
    return Operand(source.name, source.shape, source.dtype_name, source.not_stored)


def _paired(a: Source, b: Source, stack: contextlib.ExitStack) -> Pair:
    """Return both as one source, in the storage order they share, or in C order."""
    if a.order == b.order or sum(size > 1 for size in a.shape) < 2 or 0 in a.shape:
        return Pair(a, b)

    def turned(source: Source) -> Source:
        if source.order == "C":
            return source
        return InCOrder(_kept(source, stack) if source.sequential else source)

    return Pair(turned(a), turned(b))


def _kept(source: Source, stack: contextlib.ExitStack) -> Source:
    found = stored(source)
    stack.callback(found.close)
    return found


def _notes(sources: list[Source], pair: Pair, *, again: bool) -> tuple[str, ...]:
    turned = [s for s in sources if s.sequential and s is not pair.a and s is not pair.b]
    streamed = [s for s in sources if s in turned or (again and s.holds_in_file)]
    notes = [f"{s.name}: kept in a file in $TMPDIR, to be read more than once" for s in streamed]
    if any(isinstance(source, InCOrder) for source in (pair.a, pair.b)):
        notes.append(
            "the tensors lie in different memory orders: the Fortran-ordered one is read again for every 64 MiB"
        )
    return (*(note for source in sources for note in source.notes), *notes)


def _tallied(
    pair: Pair, cells: By | None, tolerance: Tolerance, engine: Engine, sink: Any
) -> tuple[Tally, NDArray[np.int64] | None]:
    """Return the tally of each cell, in storage order, and how far floats of one dtype lie apart; and write a - b."""
    partition = whole(pair.shape) if cells is None else cells.partition()
    floats = pair.a.dtype.kind == "f" and pair.a.dtype_name == pair.b.dtype_name
    narrow = pair.a.stored_as
    bits = None if narrow is None else narrow.bits
    if not partition.size:
        nothing = Tally.nothing(pair.a.dtype, pair.b.dtype)
        counts = np.zeros(ULPS, np.int64) if floats else None
        return nothing.each(lambda array: np.repeat(array, partition.num_cells)), counts
    walk, tile = Walk.of(partition), engine.tile_of(pair.dtype)
    progress.begin("compare", pair.name, partition.size * pair.dtype.itemsize)

    def job(region: Region, values: NDArray[Any]) -> tuple[Tally, NDArray[np.int64] | None]:
        a, b = pair.split(values)
        found = tally_region(walk, region, a, b, tile, tolerance, _in_c_order(pair))
        if sink is not None:
            sink.write_from(delta(a, b).astype(sink.dtype), region.start)
        return found, ulps(a, b, bits) if floats else None

    fold = TallyFold(walk)
    total = np.zeros(ULPS, np.int64)
    for region, (found, counts) in engine.run(job, pair, walk.regions(engine.visit_of(pair))):
        fold.push(region, found)  # type: ignore[arg-type]
        if counts is not None:
            total += counts
    result: Any = fold.result
    return result, total if floats else None


def _in_c_order(pair: Pair) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    def moved(places: NDArray[np.int64]) -> NDArray[np.int64]:
        if pair.order == "C" or len(pair.shape) < 2:
            return places
        return np.asarray(np.ravel_multi_index(np.unravel_index(places, pair.shape, order="F"), pair.shape), np.int64)

    return moved


def _total(found: Tally) -> Tally:
    if not found.n.size:
        return Tally.nothing(found.a.dtype, found.b.dtype)
    cells: Any = found
    total: Any = fold_axes(cells, (Axis(False, found.n.size),), keep_first=False)
    return total  # type: ignore[no-any-return]


def _index(place: NDArray[np.int64], pair: Pair) -> tuple[int, ...] | None:
    if place[0] == NOWHERE:
        return None
    return tuple(int(at) for at in np.unravel_index(int(place[0]), pair.shape))


def _worst(total: Tally, pair: Pair) -> Worst | None:
    if total.place[0] == NOWHERE:
        return None
    index = _index(_in_c_order(pair)(total.place), pair)
    assert index is not None  # there is a place
    a, b = total.a[0].item(), total.b[0].item()
    return Worst(index, a, b, abs(int(a) - int(b)) if _both_whole(total) else float(total.worst[0]))


def _both_whole(total: Tally) -> bool:
    return total.a.dtype.kind in "iub" and total.b.dtype.kind in "iub"


def _numbers(total: Tally) -> dict[str, Any]:
    """Return the numbers of the report that are sums over finite pairs; None where there are none."""
    n = float(total.n[0])
    if not n:
        return dict.fromkeys(("mean_abs", "rmse", "psnr", "cosine"))
    rmse = math.sqrt(float(total.square[0]) / n)
    spread = float(total.high[0]) - float(total.low[0])
    squares = float(total.a_square[0]), float(total.b_square[0])
    lengths = math.sqrt(squares[0] * squares[1])  # of equal tensors exactly the square
    if not 0 < lengths < math.inf:
        lengths = math.sqrt(squares[0]) * math.sqrt(squares[1])
    psnr = None
    if 0 < rmse < math.inf and 0 < spread < math.inf:
        ratio = spread / rmse
        psnr = 20 * (math.log10(ratio) if 0 < ratio < math.inf else math.log10(spread) - math.log10(rmse))
    cosine = float(total.product[0]) / lengths if 0 < lengths < math.inf else None
    return {
        "mean_abs": float(total.total[0]) / n,
        "rmse": rmse,
        "psnr": psnr,
        "cosine": None if cosine is None else max(-1.0, min(1.0, cosine)),
    }


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
    """Return an atol with which the tensors are the same, as small as three digits go; None if there is none."""
    allowed = math.floor(max_fraction * math.prod(pair.shape)) - int(total.nan[0]) - int(total.inf[0])
    n = int(total.n[0])
    if allowed < 0:
        return None
    if allowed >= n:
        return 0.0
    needed = float(total.excess[0])
    if allowed:

        def excess(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
            native = [values.astype(values.dtype.newbyteorder("="), copy=False) for values in (a, b)]
            x, y = (values.astype(np.float64) for values in native)
            gap, _ = distance(native[0], native[1], x, y)
            found = np.nan_to_num(gap - tolerance.rtol * np.abs(y), nan=-LARGEST)  # only what is finite is ranked
            return np.where(np.isfinite(x) & np.isfinite(y), found, np.nan)

        chosen = float(select_ranks(Derived(pair, excess), [n - 1 - allowed], engine)[0])
        needed = needed if chosen == LARGEST else chosen
    return _rounded_up(needed, exactly=not tolerance.rtol)


def _rounded_up(value: float, *, exactly: bool) -> float | None:
    """Return a number of three digits that is not below `value`; with room for a rounding unless `value` has none.

    Of more digits where three would pass the largest float; None where that is not enough.

    Examples
    --------
    >>> _rounded_up(0.012301, exactly=True), _rounded_up(0.5, exactly=False), _rounded_up(-1.0, exactly=True)
    (0.0124, 0.501, 0.0)
    """
    if value <= 0:
        return 0.0
    needed = value if exactly else math.nextafter(math.nextafter(value, math.inf), math.inf)
    if math.isinf(needed):
        return None
    context = decimal.Context(prec=ATOL_DIGITS, rounding=decimal.ROUND_CEILING)
    found = context.create_decimal(decimal.Decimal(value))
    while float(found) < needed:
        found = found.next_plus(context)
    return needed if math.isinf(float(found)) else float(found)


def _cells(found: Tally, by: By) -> Cells[DiffCell]:
    """Return the cells in C order of their index."""
    place = by.partition().arrange(np.arange(found.n.size)).reshape(-1)
    index = np.stack(np.unravel_index(np.arange(found.n.size), by.sizes), axis=1)
    cells = []
    for at, cell in zip(index, place.tolist(), strict=True):
        one = found.each(lambda array, cell=cell: array[cell : cell + 1])  # type: ignore[misc]
        numbers = _numbers(one)
        where = tuple(int(i) for i in at)
        cells.append(
            DiffCell(
                place=dict(zip(by.names, where, strict=True)),
                note=by.note(where),
                size=int(one.size[0]),
                outside=int(one.outside[0] + one.nan[0] + one.inf[0]),
                nan_mismatches=int(one.nan[0]),
                inf_mismatches=int(one.inf[0]),
                max_abs=float(one.worst[0]) if one.n[0] else None,
                mean_abs=numbers["mean_abs"],
                rmse=numbers["rmse"],
            )
        )
    return Cells(tuple(by.names), tuple(cells), len(cells))


def _mapped(pair: Pair) -> By | None:
    """Return the cells of a picture where none were asked for: (sample, channel), or what comes near to it."""
    ndim = len(pair.shape)
    for axes in ("N,C" if 2 <= ndim <= 5 else "0,1", "0"):
        if ndim > axes.count(",") and (cells := cut(axes, pair.shape, pair.order)).count <= MAX_MAPPED:
            return cells
    return None


def _maps(found: Tally, by: By | None) -> dict[str, Heatmap]:
    """Return the map of the largest |a - b| of each cell, infinite where the tensors differ by a NaN or an infinity."""
    if by is None:
        return {}
    plane = Plane(by.names, by.sizes, largest=True)
    worst = np.where(found.n > 0, found.worst, np.nan)
    plane.add(in_storage(by.partition(), 0, worst.size), np.where(found.nan + found.inf > 0, np.inf, worst))
    return {"max_abs": plane.heatmap()}


def _histogram(pair: Pair, total: Tally, bins: int, engine: Engine) -> Histogram:
    """Return the histogram of a - b, as far on either side of 0 as the worst element lies."""
    worst = float(total.worst[0])
    if worst < 0 or math.isinf(worst):
        return Histogram((), ())
    edges = histogram.edges(-worst, worst, bins)
    return Histogram(tuple(edges.tolist()), tuple(counted(Derived(pair, delta), engine, edges).tolist()))
