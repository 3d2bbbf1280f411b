"""The task of ``gncli backward``: open and check everything, run, report, commit."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gncli import io
from gncli.errors import InputError, OutputError, ParameterError
from gncli.io.formats import written
from gncli.io.pairs import InCOrder, Pair, paired, stored
from gncli.io.source import Sink, Source
from gncli.kernels.extras import Extras, FirstInfinity, FirstNaN
from gncli.kernels.floats import FLOATS, Float, chosen
from gncli.kernels.groupnorm import output_float
from gncli.kernels.layout import doubt
from gncli.kernels.moments import MomentsOf
from gncli.kernels.parameters import Grid, Sums
from gncli.kernels.partition import whole
from gncli.report.backward_records import MOST_CONDITIONS, BackwardReport, ParameterGradient
from gncli.report.lines import counted, noun
from gncli.run.engine import Engine
from gncli.run.gradients import Backward as Pass
from gncli.run.gradients import Gradients
from gncli.run.plan import Plan, kept_in_file
from gncli.tasks.judging import index_of
from gncli.tasks.normalize import Operands, parameters_of, tensor_stats
from gncli.tasks.requests import Backward

NAMES = ("dx", "dgamma", "dbeta")


def gradient_pair(stack: contextlib.ExitStack, x: Source, dy: Source) -> Pair:
    """Return x and dy as one source that can be read again; `stack` closes what that needs.

    Raises
    ------
    InputError
        If dy has another shape, or is not floating-point.
    LimitError
        If a stream must be kept in a file, and there is no room for it.
    """
    if x.shape != dy.shape:
        raise InputError(f"has shape {dy.shape}, and {x.name} {x.shape}", subject=dy.name, hint="both need one shape")
    if dy.dtype.kind != "f":
        raise InputError(f"is {dy.dtype_name}", subject=dy.name, hint="a gradient is a floating-point tensor")
    x, dy = (stack.enter_context(stored(source)) if source.sequential else source for source in (x, dy))
    return paired(stack, x, dy)


def param_float(x: Source) -> Float:
    """Return the default dtype of the gradients of gamma and beta: float32 for fewer bits, else that of the result."""
    return max(FLOATS["float32"], output_float(x.dtype), key=lambda kind: kind.mantissa)


class BackwardRun:
    """A run of ``backward``: entering it opens and checks everything; then call `report` and `commit`.

    A check that fails is not an error: the report says so (``check.ok``), and `commit` then writes nothing.

    Parameters
    ----------
    request : Backward
        The tensors and the options.
    """

    def __init__(self, request: Backward) -> None:
        self.request = request
        self._stack = contextlib.ExitStack()
        self._sinks: dict[str, Sink] = {}
        self._held = False

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._open_inputs(stack)
            self._open_outputs(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open_inputs(self, stack: contextlib.ExitStack) -> None:
        request = self.request
        if request.scaling.round_before_affine:
            raise ParameterError("--round-before-affine has no derivative", hint="leave it out")
        self._engine = stack.enter_context(Engine(request.execution.workers, request.execution.tile))
        x, dy = (stack.enter_context(io.open_source(name, policy=request.policy)) for name in (request.x, request.dy))
        self._x, self._dy, self._inputs = x, dy, [x, dy]
        self._notes = [*x.notes, *dy.notes]
        self._notes += [kept_in_file(source.name) for source in (x, dy) if source.sequential]
        self._pair = pair = gradient_pair(stack, x, dy)
        try:
            self._grouping = grouping = request.norm.on(pair.shape, pair.order)
        except ParameterError as error:
            raise error.about(x.name) from None
        if request.norm.layout is None and (doubted := doubt(pair.shape)):
            self._notes.append(f"{x.name}: {doubted}")
        self._notes += [
            f"{source.name}: its axes are stored in another order, so it is read again for every 64 MiB"
            for source in pair.sources
            if isinstance(source, InCOrder) and source.rereads
        ]
        operands = Operands(grouping, request.policy, stack, self._inputs)
        gamma = operands.values(request.gamma, "gamma", request.scaling)
        beta = operands.values(request.beta, "beta", request.scaling)
        self._affine = request.scaling.affine(grouping, gamma, beta)
        self._grid = Grid.of(request.scaling, grouping, gamma.shape)
        self._given = operands.moments(request.mean, request.var)
        default = x.stored_as or output_float(x.dtype)
        self._made = chosen(request.dtype, default, request.output.overflow)
        self._param = param_float(x) if request.param_dtype is None else FLOATS[request.param_dtype]
        self._parameters = parameters_of(request, grouping, self._made, request.output.overflow)

    def _open_outputs(self, stack: contextlib.ExitStack) -> None:
        request, output = self.request, self.request.output
        self._paths = {
            name: path for name, path in zip(NAMES, (output.path, request.dgamma, request.dbeta), strict=True) if path
        }
        for name, path in self._paths.items():
            for other in self._sinks:
                if io.same_file(*(written(each)[1] for each in (path, self._paths[other]))):
                    hint = "choose another name for one of them"
                    raise OutputError(f"is the output of --{other} too", subject=path, hint=hint)
            main = name == "dx"
            sink = io.open_sink(
                path,
                shape=self._pair.shape if main else self._grid.shape,
                dtype=self._made if main else self._param,
                order=self._pair.order if main else "C",
                attributes=self._parameters.attributes(),
                force=output.force,
                inputs=self._inputs,
                compression=output.compression if main else None,
                npy_bits=output.npy_bits and (main or self._param.foreign),
                network=request.policy.network,
            )
            stack.callback(sink.abort)
            self._sinks[name] = sink
            self._notes += sink.notes

    def report(self) -> BackwardReport:
        """Return the report; the gradients are then written, but not yet visible under their names.

        Raises
        ------
        GncliError
            If an input cannot be read, or an output written.
        """
        request, pair = self.request, self._pair
        found = Pass(
            pair,
            self._sinks.get("dx"),
            self._grouping,
            self._affine,
            self._grid,
            self._made,
            self._param,
            self._engine,
            overflow=request.output.overflow,
            given=self._given,
            zeros=request.zeros,
        ).run()
        pair.verify_unchanged()
        for name, values in zip(NAMES[1:], found.parameters, strict=True):
            if name in self._sinks:
                self._sinks[name].write_from(np.ascontiguousarray(values), 0)
        self._held = not request.verify or found.check.ok
        dy = tensor_stats(self._dy.name, pair.shape, self._dy.dtype, found.dy)
        dx = tensor_stats(self._paths.get("dx", ""), pair.shape, self._made.dtype, found.dx)
        dgamma, dbeta = (
            self._described(name, values, sums)
            for name, values, sums in zip(NAMES[1:], found.parameters, (found.dgamma, found.dbeta), strict=True)
        )
        return BackwardReport(
            input=self._x.name,
            upstream=self._dy.name,
            outputs=self._paths,
            parameters=self._parameters,
            param_dtype=self._param.name,
            dy=replace(dy, dtype=self._dy.dtype_name, axis_names=self._dy.dimensions),
            dx=replace(dx, dtype=self._made.name, axis_names=self._x.dimensions),
            dgamma=dgamma,
            dbeta=dbeta,
            settled=found.settled,
            check=found.check if request.verify else None,
            notes=(*self._notes, *self._spoiled(found, dgamma, dbeta), *self._engine.notes),
        )

    def _described(self, name: str, values: NDArray[Any], sums: Sums) -> ParameterGradient:
        """Return the record of dgamma or dbeta."""
        zeros = Extras(frozenset({"zeros"}), values.shape) if self.request.zeros else None
        plan = Plan.of(io.ArraySource(values), whole(values.shape), self._engine)
        total = plan.total(MomentsOf(values.dtype, zeros)).settled()
        stats = tensor_stats(self._paths.get(name, ""), self._grid.shape, values.dtype, total)
        condition = sums.condition
        conditions = [float(f"{each:.3g}") if math.isfinite(each) else None for each in condition.tolist()]
        defined = np.flatnonzero(sums.undefined == 0)
        place: tuple[int, ...] = ()
        if defined.size:
            first = int(defined[np.argmax(condition[defined])])
            place = tuple(int(at) for at in np.unravel_index(first, self._grid.shape))
        return ParameterGradient(
            stats=replace(stats, dtype=self._param.name),
            condition=conditions[first] if place else None,
            place=place,
            conditions=tuple(conditions) if len(conditions) <= MOST_CONDITIONS else (),
            undefined=int((sums.undefined > 0).sum()),
        )

    def _spoiled(self, found: Gradients, dgamma: ParameterGradient, dbeta: ParameterGradient) -> list[str]:
        """Return the note about what a NaN or an infinity made NaN."""
        counts = {name: int(found.dy.number(name)[0]) for name in ("nan", "posinf", "neginf")}
        if not (sum(counts.values()) or found.check.nonfinite_groups):
            return []
        told = []
        nans, infinities = found.dy.asked(FirstNaN), found.dy.asked(FirstInfinity)
        if sum(counts.values()) and nans is not None and infinities is not None:
            index = index_of(np.minimum(nans.first_nan, infinities.first_inf), self._pair)
            held = f"{counts['nan']:,} NaN and {counted(counts['posinf'] + counts['neginf'], 'infinite element')}"
            told.append(f"{self._dy.name} holds {held}, the first at {index}")
        where = f"{found.check.nonfinite_groups:,} of {counted(found.check.groups, noun(self._parameters))}"
        if self._given is not None:
            where = f"{int(found.dx.number('nan')[0]):,} of {counted(math.prod(self._pair.shape), 'element')}"
        told.append(
            f"dx is NaN in {where}, "
            f"dgamma in {dgamma.undefined:,} and dbeta in {dbeta.undefined:,} of "
            f"{counted(found.dbeta.undefined.size, 'element')}"
        )
        return told

    def commit(self) -> None:
        """Make the outputs visible under their names, dx last, unless the check failed."""
        if self._held:
            for name in reversed(NAMES):
                if name in self._sinks:
                    self._sinks[name].commit()
