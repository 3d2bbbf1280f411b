"""What each command does, on sources and sinks: walk the tensor, gather moments, say what was found."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import histogram, io
from gncli.describe import Heatmap, Histogram, NormalizeReport, Parameters, Picture, Stage, StatsReport, TensorStats
from gncli.engine import Engine
from gncli.errors import InputError, OutputError, ParameterError
from gncli.executors import engine_on
from gncli.groupnorm import DEFAULT_EPS, Affine, Grouping, GroupNorm
from gncli.heatmap import Plane, in_storage
from gncli.inspection import stats as stats  # an operation like those below
from gncli.io.source import Sink, Source
from gncli.io.stream import StreamSource
from gncli.moments import Floats, Moments
from gncli.pairs import stored
from gncli.passes import Normalization, Outcome
from gncli.policy import STRICT, Policy
from gncli.statistics import finished
from gncli.survey import CountingSink, Wanted, counted, measured, survey
from gncli.vocabulary import Draw

# --- stats -----------------------------------------------------------------------------------------------------------


def describe(source: Source, engine: Engine, statistics: Sequence[str] = (), ddof: int = 0) -> TensorStats:
    """Return the statistics of `source`; its data are read only if one of `statistics` needs them."""
    return survey(source, engine, Wanted(tuple(statistics), ddof)).stats


def _tensor_stats(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], total: Moments) -> TensorStats:
    """Return the record of one tensor from its moments, of shape (1,) and settled."""
    columns = finished(total, dtype, shape)
    return TensorStats(shape, dtype.name, {key: column[0] for key, column in columns.items()}, name)


def _chosen(draw: Draw, source: Source) -> int | None:
    """Return the seed, if it was not the user who said it."""
    return getattr(source, "seed", None) if draw.seed is None else None


# --- random ----------------------------------------------------------------------------------------------------------


def random(
    draw: Draw,
    *,
    output: str | None = None,
    force: bool = False,
    compression: int | None = None,
    statistics: Sequence[str] = (),
    zeros: bool = False,
    before_commit: Callable[[StatsReport], None] | None = None,
    workers: int | None = None,
    tile: int | None = None,
) -> StatsReport:
    """Draw a tensor, write it to `output` (if that is not None), and return its statistics.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    source = io.RandomSource(draw.shape, draw.dist, draw.seed, draw.dtype)
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(Engine(workers, tile))
        sink = None
        if output is not None:
            attributes = {"dist": draw.dist, "seed": source.seed}
            sink = io.open_sink(
                output,
                shape=source.shape,
                dtype=source.dtype,
                attributes=attributes,
                force=force,
                compression=compression,
            )
            stack.callback(sink.abort)
        found = describe(_Tee(source, sink) if sink else source, engine, measured(statistics, zeros=zeros))
        seed = _chosen(draw, source)
        report = StatsReport((found,), tuple(statistics), seed=seed, command="random", output=output)
        if before_commit is not None:
            before_commit(report)
        if sink:
            sink.commit()
    return report


class _Tee:
    """A sequential source that writes what is read from it to a sink."""

    sequential = True

    def __init__(self, source: Source, sink: Sink) -> None:
        self.name, self.shape, self.dtype, self.order = source.name, source.shape, source.dtype, source.order
        self.identity = source.identity
        self._source, self._sink, self._written = source, sink, 0
        self.hold, self.verify_unchanged, self.close = source.hold, source.verify_unchanged, source.close

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` from the source, and write what of it has not been written yet."""
        self._source.read_into(out, start)
        new = out[max(0, self._written - start) :]
        if new.size:
            self._sink.write_from(new, start + out.size - new.size)
            self._written = start + out.size


# --- normalize -------------------------------------------------------------------------------------------------------


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
            "histograms are not made by a cluster", way_out="leave out --hist and --plot, or --executor dask"
        )
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(engine_on(executor, scheduler, workers, tile, policy))
        source: Source
        if isinstance(tensor, Draw):
            source = io.RandomSource(tensor.shape, tensor.dist, tensor.seed, tensor.dtype)
        else:
            source = io.open_source(tensor, policy=policy)
        stack.callback(source.close)
        notes: tuple[str, ...] = ()
        if bars is not None and isinstance(source, StreamSource):
            notes = (f"{source.name}: kept in a file in $TMPDIR, to be read more than once",)
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
        if dtype is None and io.stored_as(source) is not None:
            raise ParameterError(
                f"{io.dtype_name(source)} is read, and not written",
                subject=source.name,
                way_out="say --dtype float16, float32 or float64",
            )
        kept = np.dtype(dtype) if dtype else output_dtype(source.dtype)
        if kept.kind != "f" or kept.itemsize > 8:
            raise ParameterError(f"{kept} cannot hold the result", way_out="choose float16, float32 or float64")
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
                raise OutputError(
                    "is the output too", subject=save_moments, way_out="choose another name for one of them"
                )
            archive = io.open_npz(save_moments, force=force, inputs=inputs)
            stack.callback(archive.abort)
        cells = None if picture is None else _Mapped(grouping)
        outcome = Normalization(
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
            on_cells=cells,
        ).run()
        histograms = None if bars is None else _histograms(source, grouping, affine, kept, engine, outcome, bars)
        source.verify_unchanged()
        found = outcome.check if verify else None
        held = found is None or found.ok
        if not held and output != "-":
            output = None
        before = _tensor_stats(source.name, source.shape, source.dtype, outcome.before)
        before = replace(before, dtype=io.dtype_name(source), axis_names=io.dimensions(source))
        after = replace(
            _tensor_stats(output or "", source.shape, kept, outcome.after), axis_names=io.dimensions(source)
        )
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
            seed=_chosen(tensor, source) if isinstance(tensor, Draw) else None,
            notes=notes,
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

    def __call__(self, found: tuple[Floats, ...]) -> None:
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

    def again() -> Source:
        if isinstance(source, io.RandomSource):  # drawn once more from its seed
            return io.RandomSource(source.shape, source.dist, source.seed, source.dtype)
        return source

    sink = CountingSink(histogram.Bins(edges, dtype), bins)
    before = counted(again(), engine, edges)
    Normalization(again(), sink, grouping, affine, dtype, engine, verify=False).run()
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


def output_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a result made from `dtype`, if nothing else is asked for.

    Examples
    --------
    >>> output_dtype(np.dtype(">f2")), output_dtype(np.dtype(np.uint8)), output_dtype(np.dtype(np.int64))
    (dtype('float16'), dtype('float32'), dtype('float64'))
    """
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.result_type(dtype, np.float32)


def _in_place(tensor: str | Draw, source: Source, dtype: np.dtype[Any]) -> str:
    if isinstance(tensor, Draw) or not (tensor.lower().endswith(".npy") and io.is_npy(tensor)):
        raise ParameterError(
            "--in-place needs a .npy file", subject=source.name, way_out="write to another file with -o"
        )
    if source.dtype != dtype:
        raise ParameterError(
            f"--in-place would turn {source.dtype.name} into {dtype.name}",
            subject=source.name,
            way_out="write to another file with -o",
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
            raise ParameterError(f"{what} is {given}", way_out="give a finite number, or a tensor")
        return np.full(channels, float(given))
    source = io.open_source(given, policy=policy)
    stack.callback(source.close)
    inputs.append(source)
    if source.shape != (channels,):
        raise ParameterError(
            f"{what} has shape {source.shape}", subject=source.name, way_out=f"the tensor needs ({channels},)"
        )
    values = np.empty(channels, source.dtype)
    source.read_into(values, 0)
    source.verify_unchanged()
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        channel = int(np.argmin(np.isfinite(wide)))
        raise InputError(f"{what} is {wide[channel]} for channel {channel}", subject=source.name, way_out="mend it")
    return wide


# --- the Python API --------------------------------------------------------------------------------------------------


def group_norm(
    x: NDArray[Any],
    num_groups: int,
    eps: float = DEFAULT_EPS,
    layout: str | None = None,
    gamma: NDArray[Any] | float | None = None,
    beta: NDArray[Any] | float | None = None,
    denominator: str = "std",
) -> NDArray[Any]:
    """Return `x`, group-normalized (Wu & He 2018), each element the formula's value rounded once.

    Parameters
    ----------
    x : ndarray
        Boolean, integer or floating, of any layout and memory order.
    num_groups : int
        G, which must divide the number of channels.
    eps : float
        Added to the variance, inside the root.
    layout : str, optional
        One letter an axis, as ``"NHWC"``; by default NC, NCL, NCHW or NCDHW for 2 to 5 axes.
    gamma, beta : ndarray of shape (C,), or float, optional
        The affine map after the normalization; 1 and 0 by default.
    denominator : {"std", "variance"}
        ``sqrt(var + eps)``, the paper; or ``var + eps``, as the walkthrough article divides.

    Returns
    -------
    ndarray
        Of the shape and memory order of `x`, in its dtype if that is floating, else in the dtype of
        ``np.result_type(x, np.float32)``.

    Raises
    ------
    ParameterError
        If the parameters do not fit `x`.
    InputError
        If `x` is not numeric.

    Examples
    --------
    >>> import numpy as np
    >>> group_norm(np.array([[1.0, 3.0, 10.0, 30.0]]), num_groups=2, eps=0)
    array([[-1.,  1., -1.,  1.]])
    """
    source = io.ArraySource(np.asarray(x), "x")
    grouping = GroupNorm(num_groups, None, eps, layout, denominator).on(source.shape, source.order)

    def channel_values(given: NDArray[Any] | float | None, what: str, default: float) -> Floats:
        values = np.asarray(default if given is None else given, dtype=np.float64)
        if values.shape not in ((), (grouping.channels,)):
            raise ParameterError(f"{what} has shape {values.shape}, and x needs ({grouping.channels},)")
        return np.ascontiguousarray(np.broadcast_to(values, grouping.channels))

    affine = Affine(channel_values(gamma, "gamma", 1.0), channel_values(beta, "beta", 0.0), grouping.channel_shape)
    dtype = output_dtype(source.dtype)
    sink = io.ArraySink(source.shape, dtype, source.order)
    with Engine() as engine:
        Normalization(source, sink, grouping, affine, dtype, engine, verify=False).run()
    return sink.array


def get_stats(x: NDArray[Any]) -> TensorStats:
    """Return the statistics of `x`; as a string they are the lines of the walkthrough article's ``get_stats``.

    Parameters
    ----------
    x : ndarray
        Boolean, integer or floating.

    Returns
    -------
    TensorStats
        Of the finite elements; NaN and infinities are counted.

    Raises
    ------
    InputError
        If `x` is not numeric.

    Examples
    --------
    >>> import numpy as np
    >>> stats = get_stats(np.array([1.0, 2.0, 6.0]))
    >>> stats.value("mean"), stats.value("max")
    (3.0, 6.0)
    """
    with Engine() as engine:
        return describe(io.ArraySource(np.asarray(x), ""), engine, ())
