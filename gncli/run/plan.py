"""Plans: how often a source is read and in which visits, decided before the first byte is read.

A task makes a plan and iterates over its results; the engine runs it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from numpy.typing import NDArray

from gncli import progress
from gncli.errors import LimitError
from gncli.io.part import Box, Part
from gncli.io.source import Sink, Source
from gncli.kernels.partition import Partition, whole
from gncli.kernels.reduction import Fold, R, Reduction, Visit, folded
from gncli.kernels.walk import Region, Walk
from gncli.run.engine import Engine, Step

MAX_OPEN_CELLS = 1 << 20  # cells that are open at once in the storage order; the moments of each take 100 bytes
MAX_PASSES = 16  # over a cell that does not fit a visit

T = TypeVar("T")


class Cells(Protocol):
    """The cells that a tensor is divided into: `gncli.tasks.by.By`."""

    def partition(self, shape: tuple[int, ...] | None = None) -> Partition:
        """Return the partition of the tensor, or of a part that has `shape`."""

    def ranges(self, most: int) -> Iterator[Box]:
        """Yield parts of the tensor that have at most `most` cells, in C order of their cells."""


class _Job(NamedTuple):
    """The work on a visit."""

    measure: Callable[[Visit], Any]
    walk: Walk
    tile: int
    step: str  # what a part's record calls it

    def __call__(self, region: Region, values: NDArray[Any]) -> Any:
        return self.measure(Visit(self.walk, region, values, self.tile))


class Pass(NamedTuple):
    """A pass over a span.

    Attributes
    ----------
    measure : callable
        Takes a `Visit`, in a worker, and returns its result.
    take : callable
        Takes each region and its result, in storage order. What it returns for the last one is the value of the pass.
    step : str
        What a part's record calls it.
    sink : Sink, optional
        Where `measure` writes.
    """

    measure: Callable[[Visit], Any]
    take: Callable[[Region, Any], Any]
    step: str = "measure"
    sink: Sink | None = None


Program = Generator[Pass, Any, T]
"""The passes over a span, one after the other: it yields a pass, is sent its value, and returns a result."""


@dataclass(frozen=True)
class Plan:
    """The passes and visits in which a source is read.

    Attributes
    ----------
    source : Source
        The tensor.
    partition : Partition
        The cells of its elements.
    engine : Engine
        Runs the plan.
    passes : tuple of str
        The name of each pass over a span of cells; a single one if spans fit a visit.
    after : tuple of str
        The name of each further pass over the whole source, after all spans.
    once : bool
        Whether whole spans fit a visit, so that each is read once.
    walk : Walk
        The walk over the partition.
    visit : int
        The number of elements that are read at once.
    """

    source: Source
    partition: Partition
    engine: Engine
    passes: tuple[str, ...]
    after: tuple[str, ...]
    once: bool
    walk: Walk
    visit: int

    @classmethod
    def of(
        cls,
        source: Source,
        partition: Partition,
        engine: Engine,
        passes: Callable[[Walk, bool], Sequence[str]] = lambda _walk, _once: ("measure",),
        after: Sequence[str] = (),
        most: int | None = None,
    ) -> Plan:
        """Return the plan, after all checks.

        Parameters
        ----------
        source, partition, engine
            The attributes of the plan.
        passes : callable, optional
            Takes the walk, and whether whole spans fit a visit; returns the names of the passes over a span.
        after : sequence of str
            The names of further passes over the whole source.
        most : int, optional
            The bytes that are read at once, where they are to be fewer than those of the engine's visit.

        Raises
        ------
        LimitError
            If more than `MAX_OPEN_CELLS` cells are open at once, or percentiles take more than `MAX_PASSES` passes.
        """
        # A tensor without elements has no walk of its own, so it gets that of one element.
        walk = Walk.of(partition if partition.size else whole((1,)))
        if partition.size and walk.span_cells > MAX_OPEN_CELLS:
            raise LimitError(
                f"{walk.span_cells} cells are open at once in this storage order, more than {MAX_OPEN_CELLS}",
                subject=source.name,
                hint="store the tensor in another order, or in parts",
            )
        visit = engine.visit_of(source)
        if most is not None:
            visit = min(visit, max(1, most // source.dtype.itemsize))
        once = walk.cut(visit) == 0
        named = tuple(passes(walk, once))
        if len(named) - 1 > MAX_PASSES and walk.span_cells > 1:
            raise LimitError(
                f"percentiles of {walk.span_cells:,} open cells would take {len(named) - 1:,} passes, "
                f"more than {MAX_PASSES}",
                subject=source.name,
                hint="ask for fewer percentiles or cells, or store the tensor in another order",
            )
        return cls(source, partition, engine, named, tuple(after), once, walk, visit)

    @classmethod
    def over_cells(
        cls,
        source: Source,
        cells: Cells,
        engine: Engine,
        passes: Callable[[Walk, bool], Sequence[str]],
        after: Sequence[str] = (),
    ) -> Iterator[tuple[Plan, Box]]:
        """Yield one plan, begun, over all of `source`, or one for each part of it if too many cells are open at once.

        Cells are open together if they are interleaved in storage, or if the report shows them in another order.

        Raises
        ------
        LimitError
            See `of`; also if too many cells are open and the source cannot be read in parts.
        """
        partition = cells.partition()
        shown = partition.in_order and partition.size
        held = Walk.of(partition).span_cells if shown else partition.num_cells
        if held <= MAX_OPEN_CELLS:
            yield cls.of(source, partition, engine, passes, after).begin(), tuple((0, size) for size in source.shape)
        elif source.sequential:
            raise LimitError(
                f"{held:,} cells are open at once in this storage order, more than {MAX_OPEN_CELLS:,}",
                subject=source.name,
                hint="a file can be read in parts; store this as a .npy first",
            )
        else:
            progress.begin("measure", source.name, partition.size * source.dtype.itemsize)
            for box in cells.ranges(MAX_OPEN_CELLS):
                part = Part(source, box)
                yield cls.of(part, cells.partition(part.shape), engine, passes, after), box

    @property
    def held(self) -> tuple[str, ...]:
        """The names of the tensors that are kept in a file, because a pipe must be read more than once."""
        return self.source.held_names if len(self.passes) > 1 or self.after else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the plan for the user."""
        return tuple(map(kept_in_file, self.held))

    def begin(self, parts: int = 1) -> Plan:
        """Announce the passes to the progress bar, and repeated reads to the source; return the plan.

        Only one of so many `parts` is done.
        """
        nbytes = self.partition.size * self.source.dtype.itemsize // parts
        progress.begin(self.passes[-1], self.source.name, nbytes, len(self.passes), self.walk.units[0].size)
        if self.after:
            self.source.hold(0, math.prod(self.source.shape))
        return self

    def spans(self) -> Iterator[range]:
        """Yield the spans of cells to read together, each once per pass: one span, or all of them."""
        if self.once or not self.partition.size:
            yield range(self.walk.units[0].size)
            return
        for span in range(self.walk.units[0].size):
            if len(self.passes) > 1 and not self.after:
                self.source.hold(span * self.walk.span, (span + 1) * self.walk.span)
            yield range(span, span + 1)

    def visits(
        self,
        measure: Callable[[Visit], T],
        spans: range | None = None,
        step: str = "measure",
        sink: Sink | None = None,
    ) -> Iterator[tuple[Region, T]]:
        """Yield each region with the result of `measure`, in storage order: one pass over `spans`, by default all.

        `step` tells the passes over one span apart, where results are kept (`gncli.run.parts`); `sink` is where
        `measure` writes, if it does.
        """
        if self.partition.size:
            for done, result in self.engine.run(self.source, self.steps(measure, spans, step, sink)):
                yield done.region, result

    def steps(
        self, measure: Callable[[Visit], Any], spans: range | None, step: str, sink: Sink | None
    ) -> Iterator[Step]:
        """Yield the steps of a pass; see `visits`."""
        job: Any = _Job(measure, self.walk, self.engine.tile_of(self.source.dtype), step)
        for region in self.walk.regions(self.visit, spans):
            yield Step(job, region, sink, self.walk.entry(region.axis))

    def side_by_side(self, program: Callable[[range], Program[T]], spans: Iterable[range] | None = None) -> Iterator[T]:
        """Yield the result of `program` for each of `spans`, by default all, in storage order.

        Spans are in flight side by side, so that nobody waits for the last visit of a pass. The oldest span has
        precedence, and all open cells together are at most `MAX_OPEN_CELLS`. Spans of a source in chunks come one after
        the other, since a chunk that two of them share would be decoded for each.
        """
        flight = _Flight(self, program, self.spans() if spans is None else spans)
        for step, result in self.engine.run(self.source, flight.steps()):
            flight.land(step, result)
            yield from flight.finished()
        yield from flight.finished()  # those without a pass

    def reducing(self, reduction: Reduction[R]) -> Pass:
        """Return the pass over a span whose value is the record of its cells."""
        return Pass(reduction.measure, Fold(self.walk, reduction).push)

    def totalling(self, reduction: Reduction[R]) -> Pass:
        """Return the pass over a span whose value is the record of all its cells together, such as counts."""
        total = reduction.nothing()

        def take(_region: Region, record: R) -> R:
            nonlocal total
            total = reduction.merge(total, record)
            return total

        return Pass(reduction.measure, take)

    def reduce(self, reduction: Reduction[R], spans: range | None = None) -> Iterator[R]:
        """Yield the records of runs of whole spans of cells, in storage order, from one pass over `spans`."""
        if not self.partition.size:
            return iter((reduction.nothing(self.partition.num_cells),))
        return folded(self.walk, reduction, self.visits(reduction.measure, spans))

    def total(self, reduction: Reduction[R], spans: range | None = None) -> R:
        """Return the record of all cells together, such as counts, from one pass over `spans`."""
        total = reduction.nothing()
        for _, record in self.visits(reduction.measure, spans):
            total = reduction.merge(total, record)
        return total


class _Open(Generic[T]):
    """A span in flight.

    Attributes
    ----------
    span : range
        The span.
    steps : iterator of Step
        The steps of its pass that have not been begun.
    """

    def __init__(self, plan: Plan, span: range, program: Program[T]) -> None:
        self.span = span
        self._plan, self._program = plan, program
        self._result: list[T] = []
        self.steps: Iterator[Step] = iter(())
        self._go_on(None)

    def __lt__(self, other: _Open[T]) -> bool:
        return self.span.start < other.span.start

    @property
    def done(self) -> bool:
        return bool(self._result)

    @property
    def result(self) -> T:
        return self._result[0]

    def take(self, region: Region, result: Any) -> bool:
        """Take the result of a step; return whether another pass begins."""
        value = self._pass.take(region, result)
        if region.stop < self.span.stop * self._plan.walk.span:
            return False
        self._go_on(value)
        return not self.done

    def _go_on(self, value: Any) -> None:
        try:
            self._pass = self._program.send(value)
        except StopIteration as end:
            self._result.append(end.value)
        else:
            self.steps = self._plan.steps(self._pass.measure, self.span, self._pass.step, self._pass.sink)


class _Flight(Generic[T]):
    """The spans in flight; see `Plan.side_by_side`."""

    def __init__(self, plan: Plan, program: Callable[[range], Program[T]], spans: Iterable[range]) -> None:
        self._plan, self._program, self._spans = plan, program, iter(spans)
        alone = plan.source.sequential or plan.source.in_chunks
        self._most = 1 if alone else max(1, MAX_OPEN_CELLS // plan.walk.span_cells)
        self._open: deque[_Open[T]] = deque()
        self._ready: list[_Open[T]] = []  # a heap, the oldest first: those that may have a step to begin
        self._pending: deque[_Open[T]] = deque()  # one per step that is begun

    def steps(self) -> Iterator[Step | None]:
        """Yield the next step of the oldest span that has one; None if all depend on results."""
        while True:
            if self._ready:
                if (step := next(self._ready[0].steps, None)) is None:
                    heapq.heappop(self._ready)
                    continue
                self._pending.append(self._ready[0])
                yield step
            elif len(self._open) < self._most and (span := next(self._spans, None)) is not None:
                self._open.append(_Open(self._plan, span, self._program(span)))
                heapq.heappush(self._ready, self._open[-1])
            elif self._pending:
                yield None
            else:
                return

    def land(self, step: Step, result: Any) -> None:
        """Take the result of a step."""
        opened = self._pending.popleft()
        if opened.take(step.region, result):
            heapq.heappush(self._ready, opened)

    def finished(self) -> Iterator[T]:
        """Yield the results of the oldest spans that are done."""
        while self._open and self._open[0].done:
            yield self._open.popleft().result


def kept_in_file(name: str) -> str:
    """Return the note about a tensor that is kept in a file."""
    return f"{name}: kept in a file in $TMPDIR, to be read more than once"
