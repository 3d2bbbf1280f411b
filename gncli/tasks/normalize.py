"""What each command does, on sources and sinks: walk the tensor, gather moments, say what was found."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gncli import io
from gncli.errors import InputError, OutputError, ParameterError
from gncli.io.pairs import stored
from gncli.io.source import Source
from gncli.kernels import histogram
from gncli.kernels.finish import finished
from gncli.kernels.groupnorm import DEFAULT_EPS, Affine, Grouping, GroupNorm, output_dtype
from gncli.kernels.heatmap import Heatmap, Plane, in_storage
from gncli.kernels.moments import Floats, Moments
from gncli.names import STRICT, Draw, Policy
from gncli.report.records import Histogram, NormalizeReport, Parameters, Picture, Stage, TensorStats
from gncli.run.engine import Engine
from gncli.run.executors import engine_on
from gncli.run.normalization import Normalization, Outcome
from gncli.run.plan import kept_in_file
from gncli.tasks.random import chosen_seed
from gncli.tasks.survey import CountingSink, counted


def _tensor_stats(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], total: Moments) -> TensorStats:
    """Return the record of one tensor from its moments, of shape (1,) and settled."""
    columns = finished(total, dtype, shape)
    return TensorStats(shape, dtype.name, {key: column[0] for key, column in columns.items()}, name)


def normalize_file(
    tensor: str | Draw,
    *,
    num_groups: int | None = None,
    group_size: int | None = None,
    eps: float = DEFAULT_EPS,
    layout: str | None = None,
    denominator: str = "std",
    output: str | None = None,
    force: bool = False,
    in_place: bool = False,
    gamma: str | float = 1.0,
    beta: str | float = 0.0,
    dtype: str | None = None,
    save_moments: str | None = None,
    stages: bool = False,
    verify: bool = True,
    zeros: bool = False,
    bins: int | None = None,
    picture: int | None = None,
    before_commit: Callable[[NormalizeReport], None] | None = None,
    compression: int | None = None,
    policy: Policy = STRICT,
    workers: int | None = None,
    tile: int | None = None,
    executor: str = "threads",
    scheduler: str | None = None,
) -> NormalizeReport:
    """Return what was found before and after Group Normalization (Wu & He 2018), and write the result to `output`.

    It is what ``gncli normalize`` does, streamed: the tensor may be larger than memory.

    Parameters
    ----------
    tensor : str or Draw
        As the command line names it, ``FILE`` or ``FILE::NAME``; or what to draw.
    num_groups, group_size : int, optional
        The number of groups, 32 by default, or else the channels in each; what it leaves must come out even.
    eps : float
        Added to the variance, inside the root.
    layout : str, optional
        One letter an axis, as ``"NHWC"``; by default NC, NCL, NCHW or NCDHW for 2 to 5 axes.
    denominator : {"std", "variance"}
        ``sqrt(var + eps)``, the paper; or ``var + eps``, as the walkthrough article divides.
    output : str, optional
        Where to, as ``y.npy`` or ``y.h5::NAME``; by default nowhere.
    force, in_place : bool
        Whether an existing output, or the input itself, is replaced.
    gamma, beta : str or float
        A number, or a tensor of shape (C,).
    dtype : str, optional
        Of the result; by default that of a floating input, else ``np.result_type(input, np.float32)``.
    save_moments : str, optional
        A .npz for the arrays mean, var and rstd, of shape (N, G).
    stages, verify, zeros : bool
        Whether the stages of the walkthrough are kept, the check made, zeros counted.
    bins : int, optional
        Of histograms before and after, which are made if they are given.
    picture : int, optional
        Bins of the histograms of a picture, whose data are gathered if they are given.
    before_commit : callable, optional
        Takes the report before the output replaces anything; what it raises leaves everything as it was.
    compression : int, optional
        Level of deflate of an HDF5 output; by default it is stored as it is.
    policy : Policy, optional
        What the inputs may do and ask for.
    workers, tile : int, optional
        Threads, by default one a CPU; and bytes of input that each works on at a time. Neither alters a bit.
    executor : {"threads", "dask"}
        What does the work.
    scheduler : str, optional
        The address of a dask cluster; by default processes on this machine.

    Returns
    -------
    NormalizeReport
        What ``gncli normalize`` shows, as data. A check that fails is not an error: the report says so (``check.ok``),
        and no file is written.

    Raises
    ------
    ParameterError
        If parameters do not fit the tensor, or one another.
    InputError
        If an input cannot be read, is malformed, or is refused by `policy`.
    OutputError
        If an output cannot be written, or exists and `force` is not given.
    LimitError
        If a limit was passed.
    ChangedError
        If an input changed while it was read.

    Examples
    --------
    >>> from gncli import Draw
    >>> report = normalize_file(Draw((2, 8, 16), seed=0), num_groups=4)
    >>> report.check.ok, report.check.groups, report.parameters.layout
    (True, 8, 'NCL')
    """
    norm = GroupNorm(num_groups, group_size, eps, layout, denominator)
    bars = picture if bins is None else bins
    if bars is not None and executor != "threads":
        raise ParameterError(
            "histograms are not made by a cluster", hint="leave out --hist and --plot, or --executor dask"
        )
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(engine_on(executor, scheduler, workers, tile, policy))
        source: Source
        if isinstance(tensor, Draw):
            source = io.RandomSource(tensor.shape, tensor.dist, tensor.seed, tensor.dtype)
        else:
            source = io.open_source(tensor, policy=policy)
        stack.callback(source.close)
        notes = source.notes
        if bars is not None and source.holds_in_file:
            notes += (kept_in_file(source.name),)
            source = stored(source)
            stack.callback(source.close)
        try:
            grouping = norm.on(source.shape, source.order)
        except ParameterError as error:
            raise error.about(source.name) from None
        inputs = [source]
        affine = Affine(
            _channel_values(gamma, grouping, "gamma", stack, inputs, policy),
            _channel_values(beta, grouping, "beta", stack, inputs, policy),
            grouping.channel_shape,
        )
        if dtype is None and source.stored_as is not None:
            raise ParameterError(
                f"{source.dtype_name} is read, and not written",
                subject=source.name,
                hint="say --dtype float16, float32 or float64",
            )
        kept = np.dtype(dtype) if dtype else output_dtype(source.dtype)
        if kept.kind != "f" or kept.itemsize > 8:
            raise ParameterError(f"{kept} cannot hold the result", hint="choose float16, float32 or float64")
        if in_place:
            output = _in_place(tensor, source, kept)
        attributes = {
            "num_groups": grouping.num_groups,
            "eps": norm.eps,
            "layout": str(grouping.layout),
            "denominator": norm.denominator,
            "gamma": str(gamma),
            "beta": str(beta),
        }
        sink = None
        if output is not None:
            sink = io.open_sink(
                output,
                shape=source.shape,
                dtype=kept,
                order=source.order,
                attributes=attributes,
                force=force or in_place,
                inputs=inputs,
                in_place=in_place,
                compression=compression,
            )
            stack.callback(sink.abort)
        archive = None
        if save_moments is not None:
            if output is not None and io.same_file(save_moments, output):
                raise OutputError("is the output too", subject=save_moments, hint="choose another name for one of them")
            archive = io.open_npz(save_moments, force=force, inputs=inputs)
            stack.callback(archive.abort)
        cells = None if picture is None else _Mapped(grouping)
        normalization = Normalization(
            source,
            sink,
            grouping,
            affine,
            kept,
            engine,
            keep=archive is not None,
            stages=stages,
            zeros=zeros,
            verify=verify or stages,
            shows=cells is not None,
        )
        for shown in normalization:
            assert cells is not None  # whoever shows nothing yields nothing
            cells.add(shown)
        outcome = normalization.outcome()
        histograms = None if bars is None else _histograms(source, grouping, affine, kept, engine, outcome, bars)
        source.verify_unchanged()
        found = outcome.check if verify else None
        held = found is None or found.ok
        if not held and output != "-":
            output = None
        before = _tensor_stats(source.name, source.shape, source.dtype, outcome.before)
        before = replace(before, dtype=source.dtype_name, axis_names=source.dimensions, not_stored=source.not_stored)
        after = replace(_tensor_stats(output or "", source.shape, kept, outcome.after), axis_names=source.dimensions)
        staged = _stages(grouping, outcome, before, after) if stages else ()
        if histograms is not None and bins is not None:
            before, after = (replace(s, histogram=h) for s, h in zip((before, after), histograms, strict=True))
        if histograms is not None and cells is not None:
            pictures = (Picture(h, maps) for h, maps in zip(histograms, cells.heatmaps(), strict=True))
            before, after = (replace(s, picture=p) for s, p in zip((before, after), pictures, strict=True))
        report = NormalizeReport(
            input=source.name,
            output=output,
            parameters=Parameters(
                groups=grouping.num_groups,
                group_size=grouping.group_size,
                eps=norm.eps,
                layout=str(grouping.layout),
                denominator=norm.denominator,
                gamma=gamma,
                beta=beta,
                dtype=kept.name,
            ),
            before=before,
            after=after,
            check=found,
            stages=staged,
            seed=chosen_seed(tensor, source) if isinstance(tensor, Draw) else None,
            notes=(*notes, *engine.notes),
        )
        if before_commit is not None:
            before_commit(report)
        if held and archive is not None and outcome.kept is not None:
            archive.write(dict(zip(("mean", "var", "rstd"), outcome.kept, strict=True)))
            archive.commit()
        if held and sink is not None:
            sink.commit()
        return report


class _Mapped:
    """Takes what a picture shows of the groups, as they are complete."""

    def __init__(self, grouping: Grouping) -> None:
        self._partition = grouping.partition
        self._done = 0
        self._planes = [Plane(("N", "G"), grouping.partition.cells) for _ in range(4)]

    def add(self, found: tuple[Floats, ...]) -> None:
        """Take mean and deviation, before and after, of the next groups in storage order."""
        index = in_storage(self._partition, self._done, found[0].size)
        self._done += found[0].size
        for plane, values in zip(self._planes, found, strict=True):
            plane.add(index, values)

    def heatmaps(self) -> list[dict[str, Heatmap]]:
        """Return the maps by statistic, before and after."""
        mean, std, mean_after, std_after = (plane.heatmap() for plane in self._planes)
        return [{"mean": mean, "std": std}, {"mean": mean_after, "std": std_after}]


def _histograms(
    source: Source,
    grouping: Grouping,
    affine: Affine,
    dtype: np.dtype[Any],
    engine: Engine,
    outcome: Outcome,
    bins: int,
) -> tuple[Histogram, Histogram]:
    """Return the histograms before and after on the same edges, from two more passes."""
    some = [moments for moments in (outcome.before, outcome.after) if moments.n[0]]
    if not some:
        return Histogram((), ()), Histogram((), ())
    low, high = min(float(m.min[0]) for m in some), max(float(m.max[0]) for m in some)
    edges = histogram.edges(low, high, bins)
    sink = CountingSink(histogram.Bins(edges, dtype), bins)
    before = counted(source.again(), engine, edges)
    Normalization(source.again(), sink, grouping, affine, dtype, engine, verify=False).run()
    at = tuple(edges.tolist())
    return Histogram(at, tuple(before.tolist())), Histogram(at, tuple(sink.counts.tolist()))


def _stages(grouping: Grouping, outcome: Outcome, before: TensorStats, after: TensorStats) -> tuple[Stage, ...]:
    """Return the steps of the walkthrough, each with its shape and statistics."""
    double = np.dtype(np.float64)
    dtype = np.dtype(after.dtype)
    return (
        Stage("input", before),
        Stage("reshaped", replace(before, shape=grouping.split_shape, axis_names=())),
        Stage("mean", _tensor_stats("", grouping.cell_shape, double, outcome.means)),
        Stage("var", _tensor_stats("", grouping.cell_shape, double, outcome.variances)),
        Stage("normalized", _tensor_stats("", grouping.split_shape, dtype, outcome.normalized)),
        Stage("output", after),
    )


def _in_place(tensor: str | Draw, source: Source, dtype: np.dtype[Any]) -> str:
    if isinstance(tensor, Draw) or not (tensor.lower().endswith(".npy") and io.is_npy(tensor)):
        raise ParameterError("--in-place needs a .npy file", subject=source.name, hint="write to another file with -o")
    if source.dtype != dtype:
        raise ParameterError(
            f"--in-place would turn {source.dtype.name} into {dtype.name}",
            subject=source.name,
            hint="write to another file with -o",
        )
    return tensor


def _channel_values(
    given: str | float,
    grouping: Grouping,
    what: str,
    stack: contextlib.ExitStack,
    inputs: list[Source],
    policy: Policy,
) -> Floats:
    """Return gamma or beta, one for each channel, from a number or a tensor."""
    channels = grouping.channels
    if not isinstance(given, str):
        if not math.isfinite(given):
            raise ParameterError(f"{what} is {given}", hint="give a finite number, or a tensor")
        return np.full(channels, float(given))
    source = io.open_source(given, policy=policy)
    stack.callback(source.close)
    inputs.append(source)
    if source.shape != (channels,):
        raise ParameterError(
            f"{what} has shape {source.shape}", subject=source.name, hint=f"the tensor needs ({channels},)"
        )
    values = np.empty(channels, source.dtype)
    source.read_into(values, 0)
    source.verify_unchanged()
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        channel = int(np.argmin(np.isfinite(wide)))
        raise InputError(f"{what} is {wide[channel]} for channel {channel}", subject=source.name, hint="mend it")
    return wide
