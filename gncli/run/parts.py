"""Parts of a run, which need no scheduler: each is done by a process of its own, and its results are merged later.

A part is a share of the visits of a plan. An engine does them and keeps what it found; another one, which has the
records of all parts, does nothing and yields the same results. Whoever merges them cannot tell the difference, so what
was done in parts is the same to the bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from numpy.typing import NDArray

from gncli.io.shared import Record
from gncli.io.source import Source
from gncli.run.engine import DEFAULT_TILE, TILES_PER_VISIT, Engine, Step
from gncli.run.plan import Plan
from gncli.run.records import Packed, unpacked

Item = TypeVar("Item")

VISIT_NBYTES = TILES_PER_VISIT * DEFAULT_TILE  # that are read at once, whatever the tile
RECORDED = 2  # records that are in memory at once: one of each step


class Cut(NamedTuple):
    """Where a plan is cut into parts: between whole spans if there are enough of them, else between any visits.

    Attributes
    ----------
    parts : int
        The number of parts.
    size : int
        The number of elements.
    unit : int
        No cut is inside of so many elements.
    shares : bool
        Whether parts may have a share of the visits of a span.
    divides : bool
        Whether these spans are read twice: then all parts measure before any can go on.
    """

    parts: int
    size: int
    unit: int
    shares: bool
    divides: bool

    @classmethod
    def of(cls, plan: Plan, parts: int) -> Cut:
        """Return where `plan` is cut."""
        spans = plan.walk.units[0].size
        whole = plan.once or spans >= parts
        unit = plan.walk.span if whole else 1
        return cls(parts, plan.partition.size, unit, not whole, not whole and len(plan.passes) > 1)

    def part(self, start: int) -> int:
        """Return the part, from 1 on, that has the visit from element `start` on."""
        return start // self.unit * self.unit * self.parts // max(1, self.size) + 1

    @staticmethod
    def overlaps(start: int, stop: int, plan: Plan, spans: range) -> bool:
        """Return whether `spans` have any of the elements from `start` to `stop`."""
        return spans.start * plan.walk.span < stop and start < spans.stop * plan.walk.span

    def sharing(self, start: int, stop: int, plan: Plan) -> range:
        """Return the parts that have visits of the spans which the elements from `start` to `stop` are in."""
        span = plan.walk.span
        return range(self.part(start // span * span), self.part(-(-stop // span) * span - 1) + 1) if stop else range(0)

    def run_of(self, part: int, plan: Plan) -> tuple[int, int]:
        """Return the elements of a part: the first one, and the one after the last."""
        start = stop = 0
        for region in plan.walk.regions(plan.visit) if self.size else ():
            if self.part(region.start) == part:
                start, stop = start if stop else region.start, region.stop
        return start, stop


class PartsEngine(Engine):
    """An engine on threads that does one part, or that recalls what all parts found.

    Its visits do not depend on the tile, which may differ from part to part.

    Parameters
    ----------
    workers, tile : int, optional
        As for `Engine`.

    Attributes
    ----------
    cut : Cut
        Set before the engine runs.
    part : int
        The part to do, from 1 on; 0 recalls everything.
    """

    cut: Cut

    def __init__(self, workers: int | None = None, tile: int | None = None) -> None:
        super().__init__(workers, tile, VISIT_NBYTES)
        self._recall: Callable[[str, int], Any] | None = None
        self.begin(0)

    def begin(self, part: int, stop: int = 0, last: int = 0) -> None:
        """Begin the record of a part.

        The visits from element `stop` to `last` are done too, since a file of the output ends there, and not kept.
        """
        self.part, self._next, self._last = part, stop, last
        self._packed = Packed()
        self._facts: list[list[Any]] = []

    def recalling(self, read: Callable[[str, int], Record], *, measured: bool) -> None:
        """Recall what other parts found, instead of doing it.

        Parameters
        ----------
        read : callable
            Takes ``"part"`` or ``"measure"`` and the number of a part, and returns its record.
        measured : bool
            Whether the step ``"measure"`` is in records of its own.
        """
        load = lru_cache(RECORDED)(lambda kind, part: _Recorded(read(kind, part)))

        def recall(step: str, start: int) -> Any:
            kind = "measure" if measured and step == "measure" else "part"
            return load(kind, self.cut.part(start)).result(step, start)

        self._recall = recall
        self._recalls_measures = measured

    def run(self, source: Source, steps: Iterable[Step | None]) -> Iterator[tuple[Step, Any]]:
        """Yield each step with its result, in order; of steps that are done here, those of the part alone."""
        rest = iter(steps)
        first = next(rest, None)
        if first is None:
            return
        every = chain([first], rest)
        if self._recall is not None and (not self.part or (self._recalls_measures and _name(first) == "measure")):
            for step in filter(None, every):
                yield step, self._recall(_name(step), step.region.start)
            return
        mine = (
            step
            for step in every
            if step is None or self._is_mine(step) or self._next <= step.region.start < self._last
        )
        for step, result in super().run(source, mine):
            if self._is_mine(step):
                self._facts.append([_name(step), step.region.start, self._packed.pack(result)])
            yield step, result

    def _is_mine(self, step: Step) -> bool:
        return self.cut.part(step.region.start) == self.part

    def record(self) -> tuple[list[list[Any]], dict[str, NDArray[Any]]]:
        """Return what was found since `begin`, as facts and arrays."""
        return self._facts, self._packed.arrays()

    def all_hold(self, test: Callable[[Item], bool], items: Iterable[Item]) -> bool:
        """Return whether `test` holds of all items; threads do it."""
        pending = deque[Any]()
        held = True
        for item in items:
            pending.append(self._executor().submit(test, item))
            if len(pending) >= 2 * self.workers:
                held &= pending.popleft().result()
        while pending:
            held &= pending.popleft().result()
        return held


def _name(step: Step) -> str:
    """Return what a record calls the pass of a step."""
    return str(getattr(step.job, "step"))  # noqa: B009  # all jobs of plans have one


class _Recorded:
    """The results in a record, by step and first element."""

    def __init__(self, record: Record) -> None:
        self._arrays: Mapping[str, NDArray[Any]] = record.arrays
        self._facts = {(step, start): facts for step, start, facts in record.about["visits"]}

    def result(self, step: str, start: int) -> Any:
        return unpacked(self._facts[step, start], self._arrays)
