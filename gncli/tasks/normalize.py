"""The task of ``gncli normalize``: open and check everything, run, report, commit."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gncli import io
from gncli.errors import InputError, OutputError, ParameterError
from gncli.inputs import Draw, Policy
from gncli.io.atomic import parts_beside
from gncli.io.formats import written
from gncli.io.pairs import stored
from gncli.io.source import Archive, Sink, Source
from gncli.kernels.affine import Scaling, per_channel_moments
from gncli.kernels.finish import finished
from gncli.kernels.floats import Float, chosen
from gncli.kernels.groupnorm import Grouping, output_float
from gncli.kernels.heatmap import Heatmap, Plane, in_storage
from gncli.kernels.layout import doubt
from gncli.kernels.moments import Floats, Moments
from gncli.report.normalize_records import NormalizeReport, Parameters, Stage
from gncli.report.records import Histogram, Picture, TensorStats
from gncli.run.engine import Engine
from gncli.run.executors import engine_on
from gncli.run.normalization import Normalization, Outcome
from gncli.run.plan import kept_in_file
from gncli.tasks.histograms import Bars, CountingSink, counted
from gncli.tasks.requests import Backward, Normalize

if TYPE_CHECKING:  # seldom needed
    from gncli.io.shared import SharedFolder


def tensor_stats(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], total: Moments, wanted: Collection[str] = ()
) -> TensorStats:
    """Return the record of one tensor from its moments, of shape (1,) and settled; for `wanted` see `finished`."""
    columns = finished(total, dtype, shape, wanted)
    return TensorStats(shape, dtype.name, {key: column[0] for key, column in columns.items()}, name)


class NormalizeRun:
    """A run of ``normalize``: entering it opens and checks everything; then call `report` and `commit`.

    A check that fails is not an error: the report says so (``check.ok``), and `commit` then writes nothing.

    Parameters
    ----------
    request : Normalize
        The tensor and the options.
    """

    def __init__(self, request: Normalize) -> None:
        self.request = request
        self._keeps = request.save_moments is not None
        self._stack = contextlib.ExitStack()
        self._sink: Sink | None = None
        self._archive: Archive | None = None
        self._outcome: Outcome | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._open_inputs(stack)
            self._open_outputs(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def _bars(self) -> tuple[Bars, ...]:
        """The histograms of each tensor: for the report, and for a picture."""
        request = self.request
        return tuple(dict.fromkeys((*Bars.of(request.bins, request.scale), *Bars.of(request.picture))))

    @property
    def _extras(self) -> frozenset[str]:
        """The statistics that are measured besides those of moments."""
        return frozenset(["zeros"] * self.request.zeros).union(*(bars.needs for bars in self._bars))

    def _open_inputs(self, stack: contextlib.ExitStack) -> None:
        request, asked = self.request, self.request.execution
        if self._bars and asked.executor != "threads":
            raise ParameterError(
                "histograms are not made by a cluster", hint="leave out --hist and --plot, or --executor dask"
            )
        self._engine = stack.enter_context(self._make_engine())
        tensor, source = request.tensor, self._source_of(request.tensor)
        self._source = stack.enter_context(source)
        self._notes = source.notes
        if self._bars and source.holds_in_file:
            self._notes += (kept_in_file(source.name),)
            self._source = source = stack.enter_context(stored(source))
        try:
            self._grouping = grouping = request.norm.on(source.shape, source.order)
        except ParameterError as error:
            raise error.about(source.name) from None
        if request.norm.layout is None and (doubted := doubt(source.shape)):
            self._notes += (f"{source.name}: {doubted}",)
        self._inputs = [source]
        scaling = request.scaling
        operands = Operands(grouping, request.policy, stack, self._inputs)
        gamma, beta = operands.values(request.gamma, "gamma", scaling), operands.values(request.beta, "beta", scaling)
        self._affine = scaling.affine(grouping, gamma, beta)
        self._given = operands.moments(request.mean, request.var)
        default = source.stored_as or output_float(source.dtype)
        self._made = made = chosen(request.dtype, default, request.output.overflow)
        self._path = _in_place(tensor, source, made) if request.output.in_place else request.output.path
        self._parameters = parameters_of(request, grouping, made, request.output.overflow)

    def _make_engine(self) -> Engine:
        asked = self.request.execution
        return engine_on(asked.executor, asked.scheduler, asked.workers, asked.tile, self.request.policy)

    def _source_of(self, tensor: str | Draw) -> Source:
        if isinstance(tensor, Draw):
            return io.RandomSource(tensor.shape, tensor.dist, tensor.seed, tensor.dtype)
        return io.open_source(tensor, policy=self.request.policy)

    def _open_outputs(self, stack: contextlib.ExitStack) -> None:
        output, save_moments = self.request.output, self.request.save_moments
        if self._path is not None:
            self._notes += self._left_over(self._path)
            self._sink = self._open_sink(self._path)
            self._notes += self._sink.notes
            stack.callback(self._sink.abort)
        if save_moments is not None:
            if self._path is not None and io.same_file(save_moments, self._path):
                raise OutputError("is the output too", subject=save_moments, hint="choose another name for one of them")
            self._archive = io.open_npz(save_moments, force=output.force, inputs=self._inputs)
            stack.callback(self._archive.abort)

    def _left_over(self, path: str) -> tuple[str, ...]:
        """Return a note where parts of an earlier run are left."""
        file = written(path)[1]
        if path == "-" or not os.path.lexists(os.path.join(parts_beside(os.path.realpath(file)), "data")):
            return ()
        shown = parts_beside(file)
        return (f"{shown}: left by an earlier run; --resume goes on with it, gncli clean {path} removes it",)

    def _open_sink(self, path: str, folder: SharedFolder | None = None, *, alone: bool = False) -> Sink:
        output = self.request.output
        return io.open_sink(
            path,
            shape=self._source.shape,
            dtype=self._made,
            order=self._source.order,
            attributes=self._parameters.attributes(),
            force=output.force or output.in_place,
            inputs=self._inputs,
            in_place=output.in_place,
            compression=output.compression,
            npy_bits=output.npy_bits,
            folder=folder,
            alone=alone,
            network=self.request.policy.network,
        )

    def _normalization(self, *, shows: bool = False) -> Normalization:
        request = self.request
        return Normalization(
            self._source,
            self._sink,
            self._grouping,
            self._affine,
            self._made,
            self._engine,
            overflow=request.output.overflow,
            keep=self._keeps,
            stages=request.stages,
            extras=self._extras,
            verify=request.verify or request.stages,
            shows=shows,
            given=self._given,
        )

    def report(self) -> NormalizeReport:
        """Return the report of before and after; the result is then written, but not yet visible under its name.

        Raises
        ------
        GncliError
            If an input cannot be read, or the output written.
        """
        request = self.request
        maps = None if request.picture is None else _Maps(self._grouping)
        normalization = self._normalization(shows=maps is not None)
        for shown in normalization:
            assert maps is not None  # nothing is shown where there is no picture
            maps.add(shown)
        self._outcome = outcome = normalization.outcome()
        output = self._path if self._holds or self._path == "-" else None
        before, after = self._described(outcome, output)
        histograms = {bars: self._histograms(bars, before, after) for bars in self._bars}
        self._source.verify_unchanged()
        stages = _stages(self._grouping, outcome, before, after) if request.stages else ()
        for bars in Bars.of(request.bins, request.scale):
            before, after = (replace(s, histogram=h) for s, h in zip((before, after), histograms[bars], strict=True))
        if maps is not None and request.picture is not None:
            drawn = histograms[Bars(request.picture)]
            pictures = (Picture(h, planes) for h, planes in zip(drawn, maps.heatmaps(), strict=True))
            before, after = (replace(s, picture=p) for s, p in zip((before, after), pictures, strict=True))
        chosen = isinstance(request.tensor, Draw) and request.tensor.seed is None
        return NormalizeReport(
            input=self._source.name,
            output=output,
            parameters=self._parameters,
            before=before,
            after=after,
            check=outcome.check if request.verify else None,
            stages=stages,
            seed=self._source.seed if chosen else None,
            notes=(*self._notes, *self._engine.notes),
        )

    @property
    def _holds(self) -> bool:
        """Whether the check holds, or was not requested."""
        return self._outcome is not None and (not self.request.verify or self._outcome.check.ok)

    def commit(self) -> None:
        """Make the outputs visible under their names, unless the check failed."""
        if not self._holds:
            return
        if self._archive is not None and self._outcome is not None and self._outcome.kept is not None:
            self._archive.write(dict(zip(("mean", "var", "rstd"), self._outcome.kept, strict=True)))
            self._archive.commit()
        if self._sink is not None:
            self._sink.commit()

    def _described(self, outcome: Outcome, output: str | None) -> tuple[TensorStats, TensorStats]:
        """Return the records of input and output."""
        source = self._source
        before = tensor_stats(source.name, source.shape, source.dtype, outcome.before, self._extras)
        before = replace(before, dtype=source.dtype_name, axis_names=source.dimensions, not_stored=source.not_stored)
        after = tensor_stats(output or "", source.shape, self._made.dtype, outcome.after, self._extras)
        return before, replace(after, dtype=self._made.name, axis_names=source.dimensions)

    def _histograms(self, bars: Bars, before: TensorStats, after: TensorStats) -> tuple[Histogram, Histogram]:
        """Return the histograms before and after on the same edges, from two more passes."""
        edges = bars.edges(before.values, after.values)
        drawn = partial(bars.drawn, edges)
        return drawn(before.values, self._count_before), drawn(after.values, self._count_after)

    def _count_before(self, edges: Floats) -> NDArray[np.int64]:
        return counted(self._source.again(), self._engine, edges)

    def _count_after(self, edges: Floats) -> NDArray[np.int64]:
        sink = CountingSink(edges, self._made.dtype)
        Normalization(
            self._source.again(),
            sink,
            self._grouping,
            self._affine,
            self._made,
            self._engine,
            overflow=self.request.output.overflow,
            verify=False,
            given=self._given,
        ).run()
        return sink.counts


@dataclass(frozen=True)
class Operands:
    """Reads the numbers and tensors that a norm has besides its input.

    Attributes
    ----------
    grouping : Grouping
        The norm on the input.
    policy : Policy
        The limits for their files.
    stack : ExitStack
        Closes them.
    inputs : list of Source
        Takes those that were opened.
    """

    grouping: Grouping
    policy: Policy
    stack: contextlib.ExitStack
    inputs: list[Source]

    def values(self, given: str | float, what: str, scaling: Scaling) -> Floats:
        """Return gamma, beta, a mean or a variance: from a number in shape (), or from a tensor that fits.

        Raises
        ------
        GncliError
            If it is not finite, does not fit or cannot be read.
        """
        if not isinstance(given, str):
            if not math.isfinite(given):
                raise ParameterError(f"{what} is {given}", hint="give a finite number, or a tensor")
            return np.array(float(given))
        source = self.stack.enter_context(io.open_source(given, policy=self.policy))
        self.inputs.append(source)
        return read_fitting(source, what, scaling, self.grouping)

    def moments(self, mean: str | float | None, var: str | float | None) -> tuple[Floats, Floats] | None:
        """Return the mean and the variance of each channel, if they are given.

        Raises
        ------
        GncliError
            As for `values`; also if a variance is negative.
        """
        if mean is None or var is None:
            return None
        per_channel = Scaling()
        return per_channel_moments(
            self.grouping, self.values(mean, "mean", per_channel), self.values(var, "var", per_channel)
        )


def parameters_of(request: Normalize | Backward, grouping: Grouping, made: Float, overflow: str | None) -> Parameters:
    """Return what is computed, with every default resolved."""
    norm, scaling = request.norm, request.scaling
    return Parameters(
        groups=grouping.num_groups,
        group_size=None if grouping.num_groups is None else grouping.group_size,
        eps=norm.eps,
        layout=None if grouping.layout is None else str(grouping.layout),
        denominator=norm.denominator,
        gamma=request.gamma,
        beta=request.beta,
        dtype=made.name,
        interleaved=norm.interleaved,
        cells=grouping.partition.cells,
        over=norm.over,
        rms=norm.rms,
        mean=request.mean,
        var=request.var,
        gamma_axes=scaling.gamma_axes,
        gamma_per_group=scaling.gamma_per_group,
        gamma_offset=scaling.gamma_offset,
        round_before_affine=scaling.round_before_affine,
        activation=scaling.activation,
        overflow=overflow,
    )


def read_fitting(source: Source, what: str, scaling: Scaling, grouping: Grouping) -> Floats:
    """Return a tensor of finite values, such as gamma, as float64.

    Raises
    ------
    ParameterError
        If its shape does not fit, see `Scaling.axes`.
    InputError
        If a value is not finite.
    """
    try:
        scaling.axes(grouping, what, source.shape)
    except ParameterError as error:
        raise error.about(source.name) from None
    values = np.empty(math.prod(source.shape), source.dtype)
    source.read_into(values, 0)
    source.verify_unchanged()
    wide = values.astype(np.float64).reshape(source.shape, order=source.order)
    if not np.isfinite(wide).all():
        index = np.unravel_index(int(np.argmin(np.isfinite(wide))), wide.shape)
        place = ",".join(map(str, index))
        raise InputError(
            f"{what} is {wide[index]} for {f'channel {place}' if wide.ndim == 1 else f'index {place}'}",
            subject=source.name,
            hint="all its values must be finite",
        )
    return scaling.fitted(grouping, what, wide)


class _Maps:
    """Collects the numbers of the groups for a picture."""

    def __init__(self, grouping: Grouping) -> None:
        self._partition = grouping.partition
        self._done = 0
        self._planes = [Plane(grouping.names, grouping.partition.cells) for _ in range(4)]

    def add(self, numbers: tuple[Floats, ...]) -> None:
        """Add mean and deviation, before and after, of the next groups in storage order."""
        index = in_storage(self._partition, self._done, numbers[0].size)
        self._done += numbers[0].size
        for plane, values in zip(self._planes, numbers, strict=True):
            plane.add(index, values)

    def heatmaps(self) -> list[dict[str, Heatmap]]:
        """Return the maps by statistic, before and after."""
        mean, std, mean_after, std_after = (plane.heatmap() for plane in self._planes)
        return [{"mean": mean, "std": std}, {"mean": mean_after, "std": std_after}]


def _stages(grouping: Grouping, outcome: Outcome, before: TensorStats, after: TensorStats) -> tuple[Stage, ...]:
    """Return the stages of ``--stages``, each with its shape and statistics."""
    double = np.dtype(np.float64)
    return (
        Stage("input", before),
        Stage("reshaped", replace(before, shape=grouping.split_shape, axis_names=())),
        Stage("mean", tensor_stats("", grouping.cell_shape, double, outcome.means)),
        Stage("var", tensor_stats("", grouping.cell_shape, double, outcome.variances)),
        Stage("normalized", tensor_stats("", grouping.split_shape, outcome.checked, outcome.normalized)),
        Stage("output", after),
    )


def _in_place(tensor: str | Draw, source: Source, made: Float) -> str:
    if isinstance(tensor, Draw) or not (tensor.lower().endswith(".npy") and io.is_npy(tensor)):
        raise ParameterError("--in-place needs a .npy file", subject=source.name, hint="write to another file with -o")
    if source.dtype_name != made.name or not source.dtype.isnative:
        raise ParameterError(
            f"--in-place would turn {source.dtype_name} into {made.name}",
            subject=source.name,
            hint="write to another file with -o",
        )
    return tensor
