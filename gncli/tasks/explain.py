"""The task of ``gncli explain``: moments once, hypotheses on a sample of elements, and the best on all of them.

Notes
-----
The input is read once for the moments of each (sample, channel), from which the statistics of every hypothesis are
pooled; once more for each other layout, and for the statistics of positions, if nothing else explains the output. All
hypotheses are compared with the same sample of elements, and those that pass with all elements, in one pass over both
tensors.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gncli import io
from gncli.errors import InputError, LimitError, ParameterError
from gncli.io.pairs import InCOrder, Pair, paired, storage, stored
from gncli.io.source import Source
from gncli.kernels.affine import Scaling
from gncli.kernels.conventions import (
    EPS,
    Convention,
    Elements,
    Errors,
    Statistics,
    affine,
    combined,
    errors,
    faults,
    from_outputs,
    inside,
    labels,
    layouts,
    merge,
    predicted,
    said,
    ulp,
)
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import Grouping
from gncli.kernels.layout import Layout, axes_between, doubt
from gncli.kernels.moments import Floats, MomentsOf
from gncli.kernels.partition import by_axes, whole
from gncli.kernels.reduction import Reduction, Visit, concatenate
from gncli.kernels.walk import boxes
from gncli.report.explain_records import ExplainReport, Hypothesis
from gncli.run.engine import Engine
from gncli.run.plan import MAX_OPEN_CELLS, Plan, kept_in_file
from gncli.tasks.normalize import read_fitting
from gncli.tasks.pairs import operand
from gncli.tasks.requests import Explain

SAMPLE = 1 << 14  # elements that every hypothesis is compared with
RUN = 128  # of them lie together
PIECE = 1 << 16  # elements that are compared at a time, so that scratch stays in the cache
MOST = 8  # hypotheses that are compared with all elements in one pass
NEAREST = 5  # that are listed where nothing explains the output
EXACT = 0.5 + 1 / 16  # of the last rounding: an output that is correctly rounded, but for near-ties
STEPS = 16  # towards an eps: as many as it takes from the nearest power of ten
TINY = 1e-300
GOLDEN = (math.sqrt(5) - 1) / 2


class _Model:
    """The tensors as hypotheses see them: statistics of the input, and factors per channel.

    Parameters
    ----------
    x, y : Source
        The input, or an output that stands for it; and the output that is to be explained.
    asked : Convention
        What was asked for.
    gamma, beta : ndarray of float64, shape (C,)
        The factors that were given.
    is_input : bool
        Whether `x` is the input.
    engine : Engine
        Runs the passes.
    """

    def __init__(
        self, x: Source, y: Source, asked: Convention, gamma: Floats, beta: Floats, is_input: bool, engine: Engine
    ) -> None:
        self.x, self.y, self.asked, self.engine = x, y, asked, engine
        self.gamma, self.beta, self.is_input = gamma, beta, is_input
        self.output, self.reference = FLOATS[y.dtype_name], None if is_input else FLOATS[x.dtype_name]
        self._finest: dict[tuple[Source, tuple[int, ...]], Statistics] = {}
        self._pooled: dict[Convention, Statistics] = {}

    def errors(self, elements: Elements, convention: Convention) -> Errors:
        """Return the errors of elements under a hypothesis."""
        return errors(elements, convention, self.output, self.reference)

    def cell_axes(self, convention: Convention) -> tuple[int, ...]:
        """Return the axes of the smallest cells that the statistics of a convention are pooled from."""
        layout = Layout(convention.layout)
        if convention.over == "position":
            return tuple(axis for axis in range(len(self.x.shape)) if axis != layout.channel)
        axes = {layout.channel} | (set() if layout.batch is None else {layout.batch})
        if not self.is_input and convention.layout != self.asked.layout:
            axes |= set(self.cell_axes(self.asked))
        return tuple(sorted(axes))

    def possible(self, convention: Convention) -> bool:
        """Return whether a convention fits the shape, can be seen in the tensors, and its statistics fit the memory."""
        channels = self.x.shape[Layout(convention.layout).channel]
        sizes = {values.size for values in affine(convention, self.gamma, self.beta) if (values != values[0]).any()}
        return (
            channels % convention.groups == 0
            and sizes <= {channels}
            and math.prod(self.x.shape[axis] for axis in self.cell_axes(convention)) <= MAX_OPEN_CELLS
            and (self.is_input or self._seen_in_outputs(convention))
        )

    def _seen_in_outputs(self, convention: Convention) -> bool:
        """Return whether two outputs are enough; cells of an activated one must then lie in those of the reference."""
        seen = not convention.rounded and convention.over != "position"
        return seen and (convention.activation == "none" or inside(convention, self.asked, self.x.shape))

    def finest(self, source: Source, axes: tuple[int, ...]) -> Statistics:
        """Return the statistics of each cell of `source` along `axes`, NaN where a value is not finite."""
        if (source, axes) not in self._finest:
            partition = by_axes(source.shape, source.order, axes)
            law = MomentsOf(source.dtype)
            moments = concatenate(list(Plan.of(source, partition, self.engine).begin().reduce(law))).settled()
            kept = [size if axis in axes else 1 for axis, size in enumerate(source.shape)]
            mean, m2 = np.where(moments.finite, moments.mean, np.nan), moments.var() * moments.n
            arranged = (partition.arrange(values).reshape(kept) for values in (mean, m2, moments.n))
            self._finest[source, axes] = Statistics(*arranged)
        return self._finest[source, axes]

    def _line(self, convention: Convention) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the slope and the offset that make the input of `x`, and the doubt and the drift of that."""
        if self.reference is None:
            nothing = np.zeros([1] * len(self.x.shape))
            return nothing + 1, nothing, nothing, nothing
        axes = self.cell_axes(convention)
        factors = [self.factors(each) for each in (self.asked, convention)]
        one, two = (
            self.finest(source, axes).moved(1 / scale, -shift / scale)
            for source, (scale, shift) in zip((self.x, self.y), factors, strict=True)
        )
        linear = convention.activation == "none"
        made = (self.asked, convention)
        (scale, shift), (scale_y, _) = factors
        spacings = [
            ulp(kind, np.abs(shift) + np.abs(scale) * 2 * np.sqrt(found.var)) / np.abs(scale)
            for found, kind, (scale, shift) in zip((one, two), (self.reference, self.output), factors, strict=True)
        ]
        weight = scale_y**2
        slope, offset, doubt, drift = from_outputs(one, two, made, self.reference, weight, spacings, affine_y=linear)
        return slope / scale, offset - slope * shift / scale, doubt, drift

    def factors(self, convention: Convention) -> tuple[Floats, Floats]:
        """Return what scales and what is added, in shapes that broadcast to the tensor."""
        axis, ndim = Layout(convention.layout).channel, len(self.x.shape)
        scale, shift = (
            (values[:1] if (values == values[0]).all() else values).reshape(
                [-1 if at == axis else 1 for at in range(ndim)]
            )
            for values in affine(convention, self.gamma, self.beta)
        )
        return scale, shift

    def terms(self, convention: Convention) -> tuple[Floats, ...]:
        """Return the fields of `Elements` after `x` and `y`, in shapes that broadcast to the tensor."""
        key = convention._replace(
            eps=0.0, ddof=0, denominator="std", gamma="1", beta="0", rounded=False, activation="none"
        )
        line = self._line(convention)
        if not self.is_input or key not in self._pooled:
            cells = self.finest(self.x, self.cell_axes(convention)).moved(*line[:2])
            self._pooled[key] = cells.pooled(labels(convention, cells.mean.shape))
        return (*line, *self._pooled[key], *self.factors(convention))


class _Misfits(Reduction[Errors]):
    """The errors of all elements under each of some hypotheses."""

    def __init__(self, pair: Pair, model: _Model, conventions: Sequence[Convention]) -> None:
        self.pair, self.model, self.conventions = pair, model, conventions
        axes = range(len(pair.shape))[:: 1 if pair.order == "C" else -1]
        self.terms = [[values.transpose(axes) for values in model.terms(convention)] for convention in conventions]
        self.shape = pair.shape if pair.order == "C" else pair.shape[::-1]

    def measure(self, visit: Visit) -> Errors:
        """Return the errors of a visit."""
        x, y = self.pair.split(visit.values)
        found = self.nothing()
        first, stop = visit.region.start, visit.region.stop
        for start in range(first, stop, PIECE):
            at = start
            for box in boxes(self.shape, start, min(start + PIECE, stop)):
                sizes = [part.stop - part.start for part in box]
                run = slice(at - first, at - first + math.prod(sizes))
                at = first + run.stop
                values = [each[run].astype(np.float64).reshape(sizes) for each in (x, y)]
                found = merge(found, self._errors(values[0], values[1], box))
        return found

    def _errors(self, x: Floats, y: Floats, box: tuple[slice, ...]) -> Errors:
        def part(values: Floats) -> Floats:
            return np.asarray(
                values[tuple(at if n > 1 else slice(None) for at, n in zip(box, values.shape, strict=True))]
            )

        rows = [
            self.model.errors(Elements(x, y, *map(part, terms)), convention)
            for terms, convention in zip(self.terms, self.conventions, strict=True)
        ]
        return concatenate(rows)

    def nothing(self, num_cells: int = 1) -> Errors:
        """Return the errors of no elements."""
        return Errors.nothing(len(self.conventions))

    def merge(self, a: Errors, b: Errors) -> Errors:
        """Return the errors over both sets of elements."""
        return merge(a, b)


class _Sample:
    """A sample of elements, on which hypotheses are tried."""

    def __init__(self, pair: Pair, model: _Model) -> None:
        self.model, size = model, math.prod(pair.shape)
        runs = [(0, size)]
        if size > SAMPLE:
            count = SAMPLE // RUN
            runs = sorted((int((place * GOLDEN) % 1 * (size - RUN)), RUN) for place in range(count))
        found: list[list[NDArray[Any]]] = [[], []]
        for start, length in runs:
            values = np.empty(length, pair.dtype)
            pair.read_into(values, start)
            for kept, part in zip(found, pair.split(values), strict=True):
                kept.append(part.astype(np.float64))
        self.x, self.y = map(np.concatenate, found)
        places = np.concatenate([np.arange(start, start + length) for start, length in runs])
        self.index = np.unravel_index(places, pair.shape, order=pair.order)

    def elements(self, convention: Convention) -> Elements:
        """Return the sample with what a convention needs."""

        def picked(values: Floats) -> Floats:
            return np.asarray(values[tuple(at if n > 1 else 0 for at, n in zip(self.index, values.shape, strict=True))])

        return Elements(self.x, self.y, *map(picked, self.model.terms(convention)))

    def errors(self, convention: Convention) -> Errors:
        """Return the errors of the sample under a hypothesis."""
        return self.model.errors(self.elements(convention), convention)

    def fitted(self, convention: Convention) -> Convention:
        """Return a convention with the eps that fits the sample best, in as few digits as explain it.

        Gauss and Newton's method on the logarithm of eps; without a fit, three digits are given.
        """
        elements, output = self.elements(convention), self.model.output
        theta = math.log(max(convention.eps, 1e-12))
        for _ in range(STEPS):
            (exact, allowed, _), (moved, _, _) = (
                predicted(elements, convention._replace(eps=math.exp(at)), output) for at in (theta, theta + 1e-4)
            )
            weight = 1 / (ulp(output, elements.y) + allowed)
            slope, gap = (moved - exact) * 1e4 * weight, (elements.y - exact) * weight
            known = np.isfinite(slope) & np.isfinite(gap)
            step = float(np.sum(slope[known] * gap[known]) / (np.sum(slope[known] ** 2) + TINY))
            theta = max(-80.0, min(80.0, theta + max(-3.0, min(3.0, step))))
        rounded = [convention._replace(eps=float(f"{math.exp(theta):.{digits}e}")) for digits in (0, 1, 2, 3, 4)]
        return next((one for one in rounded if not self.errors(one).beyond[0]), rounded[2])


class _Search:
    """The search for the hypothesis that explains the output."""

    def __init__(self, model: _Model, pair: Pair) -> None:
        self.model, self.pair = model, pair
        self.sample = _Sample(pair, model)
        # From two outputs, an error is that of both roundings, and no smaller one is the better explanation.
        self.exact = EXACT if model.is_input else 1.0
        self.tried: dict[Convention, Errors] = {}
        self.checked: dict[Convention, Errors] = {}

    def run(self) -> None:
        """Try what was asked for, then one fault, then two; stop where the output is explained to the last rounding."""
        model, asked = self.model, self.model.asked
        changes = faults(asked, model.x.shape, model.gamma, model.beta)
        one = [asked, *combined(asked, changes, 1)]
        axes = model.cell_axes(asked)
        near = [convention for convention in one if model.cell_axes(convention) == axes]
        for stage in (near, one):
            if self.explained(stage):
                return
        if self.explained(self.fitted([asked])):
            return
        if self.explained(combined(asked, changes, 2)):
            return
        if self.explained(self.fitted([other for other in one if other.eps == asked.eps and other in self.tried])):
            return
        nearest = sorted(self.tried, key=lambda convention: self._rank(self.tried, convention))[:NEAREST]
        self.check([convention for convention in nearest if convention not in self.checked])

    def fitted(self, companions: Iterable[Convention]) -> Iterator[Convention]:
        """Yield conventions with the eps that fits best, from the best of those that were tried, if it fits better."""
        for companion in companions:
            known = [found for eps in EPS if (found := companion._replace(eps=eps)) in self.tried]
            start = min(known, key=lambda found: self._rank(self.tried, found), default=companion)
            found = self.sample.fitted(start)
            if self.sample.errors(found).square[0] < 0.9 * self.sample.errors(start).square[0]:
                yield found

    def explained(self, conventions: Iterable[Convention]) -> bool:
        """Try hypotheses on the sample, and those that pass on all elements; return whether one explains them."""
        fresh = [one for one in conventions if one not in self.tried and self.model.possible(one)]
        self.tried |= {one: self.sample.errors(one) for one in fresh}
        passed = [one for one in fresh if not self.tried[one].beyond[0]]
        passed.sort(
            key=lambda one: (
                self.tried[one].excess[0] > self.exact,
                one.faults(self.model.asked),
                *self._rank(self.tried, one),
            )
        )
        self.check(passed[:MOST])
        return any(not found.beyond[0] and found.excess[0] <= self.exact for found in self.checked.values())

    def check(self, conventions: Sequence[Convention]) -> None:
        """Compare hypotheses with every element, in one pass over both tensors."""
        if not conventions:
            return
        plan = Plan.of(self.pair, whole(self.pair.shape), self.model.engine, lambda _walk, _once: ("verify",)).begin()
        total = plan.total(_Misfits(self.pair, self.model, conventions))
        for place, convention in enumerate(conventions):
            self.checked[convention] = Errors._make(field[place : place + 1] for field in total)

    def ordered(self) -> list[Convention]:
        """Return the explanation and those that the data cannot tell from it; if there is none, the nearest first."""
        found = [one for one, errors in self.checked.items() if not errors.beyond[0]]
        if not found:
            return sorted(self.checked, key=lambda one: self._rank(self.checked, one))[:NEAREST]
        exact = [one for one in found if self.checked[one].excess[0] <= self.exact]
        rivals = exact or found
        fewest = min(one.faults(self.model.asked) for one in rivals)
        kept = [one for one in rivals if one.faults(self.model.asked) <= max(fewest, 1)]
        if not self.model.is_input:  # what is standardized in small cells is so in all cells made of them
            kept = [one for one in kept if not any(self._follows(one, two) for two in kept)]
        return sorted(kept, key=lambda one: (one.faults(self.model.asked), *self._rank(self.checked, one)))

    def _follows(self, one: Convention, two: Convention) -> bool:
        """Return whether `one` differs from `two` only by larger cells, which are made of those of `two`."""
        cells = ("groups", "interleaved", "over", "layout")
        same = one == two._replace(**{field: getattr(one, field) for field in cells})
        shape = self.model.x.shape
        return one != two and same and inside(two, one, shape) and not inside(one, two, shape)

    @staticmethod
    def _rank(among: dict[Convention, Errors], convention: Convention) -> tuple[float, float]:
        """Return a key that grows with the error."""
        return float(among[convention].unmatched[0]), float(among[convention].square[0])


class ExplainRun:
    """A run of ``explain``: entering it opens the tensors and checks everything; then call `report`.

    Parameters
    ----------
    request : Explain
        The tensors and the options.
    """

    def __init__(self, request: Explain) -> None:
        self.request = request
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, stack: contextlib.ExitStack) -> None:
        request = self.request
        self._engine = stack.enter_context(Engine(request.execution.workers, request.execution.tile))
        y, x = (stack.enter_context(io.open_source(n, policy=request.policy)) for n in (request.y, request.given))
        for output in (y, *([] if request.is_input else [x])):
            if output.dtype_name not in FLOATS:
                raise InputError(
                    f"holds {output.dtype_name}, and the output of a norm is floating-point", subject=output.name
                )
        if not math.prod(y.shape):
            raise InputError("has no elements, so there is nothing to explain", subject=y.name)
        try:
            grouping = request.norm.on(x.shape, x.order)
        except ParameterError as error:
            raise error.about(x.name) from None
        assert grouping.layout is not None  # groups are of channels
        axes, letters = _axes(x, y, grouping.layout)
        self.operands = operand(y), operand(x)
        notes = [*x.notes, *y.notes]
        notes += [kept_in_file(source.name) for source in (y, x) if source.sequential]
        if axes is not None:
            notes.append(f"the axes of {x.name} are taken as {grouping.layout}, and those of {y.name} as {letters}")
        if request.norm.layout is None and (doubted := doubt(x.shape)):
            notes.append(f"{x.name}: {doubted}")
        self._notes = tuple(notes)
        gamma, beta = (
            self._channels(given, what, grouping) for given, what in ((request.gamma, "gamma"), (request.beta, "beta"))
        )
        if not request.is_input and not gamma.all():
            raise ParameterError(
                f"gamma is 0 for channel {int(np.argmin(gamma != 0))}, so {x.name} does not show its input",
                hint="explain it with --input",
            )
        asked = Convention(
            grouping.channels // grouping.group_size,
            request.norm.eps,
            str(grouping.layout),
            request.norm.denominator,
            request.norm.interleaved,
        )
        x, y = (stack.enter_context(stored(source)) if source.sequential else source for source in (x, y))
        self._pair = paired(stack, x, y, axes=axes)
        if axes is not None:
            y = InCOrder(y, x.shape, tuple(axes.index(axis) for axis in storage(y)))
        self._model = _Model(x, y, asked, gamma, beta, request.is_input, self._engine)
        if not self._model.possible(asked):
            raise LimitError(
                f"has more than {MAX_OPEN_CELLS:,} channels of samples, whose moments explain keeps",
                subject=x.name,
                hint="a few samples tell as much: explain these",
            )
        batch = [letter for letter in str(grouping.layout) if letter != "C"]
        self._names = {"gamma": str(request.gamma), "beta": str(request.beta), "batch": ",".join(batch)}

    def _channels(self, given: str | float, what: str, grouping: Grouping) -> Floats:
        if not isinstance(given, str):
            return np.full(grouping.channels, float(given))
        with io.open_source(given, policy=self.request.policy) as source:
            return np.broadcast_to(read_fitting(source, what, Scaling(), grouping), grouping.channels)

    def report(self) -> ExplainReport:
        """Return the report: the explanation, or the nearest hypotheses.

        Raises
        ------
        GncliError
            If a tensor cannot be read. That nothing explains the output is no error.
        """
        search = _Search(self._model, self._pair)
        search.run()
        self._pair.verify_unchanged()
        return ExplainReport(
            *self.operands,
            self._model.asked,
            is_input=self.request.is_input,
            names=self._names,
            hypotheses=tuple(self._hypothesis(one, search.checked[one]) for one in search.ordered()),
            tried=len(search.tried),
            notes=(*self._notes, *self._engine.notes),
        )

    def _hypothesis(self, convention: Convention, found: Errors) -> Hypothesis:
        words, options = said(convention, self._model.asked, self._names)
        n = float(found.n[0])
        return Hypothesis(
            convention=convention,
            words=words,
            options=options,
            size=int(n),
            outside=int(found.beyond[0]),
            max_abs=float(found.worst[0]),
            max_ulp=float(found.ulp[0]),
            rmse=math.sqrt(float(found.square[0]) / n),
            rounding=float(found.excess[0]),
        )


def _axes(x: Source, y: Source, layout: Layout) -> tuple[tuple[int, ...] | None, str]:
    """Return the axis of `y` that is each axis of `x`, and the layout of `y`; None where both have the same axes.

    Raises
    ------
    ParameterError
        If no usual layout makes the shape of `y` that of `x`.
    """
    if y.shape == x.shape:
        return None, str(layout)
    for letters in filter(None, layouts(y.shape)):
        if sorted(letters) == sorted(str(layout)):
            axes = axes_between(layout, Layout(letters))
            if tuple(y.shape[axis] for axis in axes) == x.shape:
                return axes, letters
    raise ParameterError(
        f"has shape {y.shape}, and {x.name} has {x.shape}",
        subject=y.name,
        hint=f"explain needs the same axes, in the order of {layout} or of another usual layout",
    )
