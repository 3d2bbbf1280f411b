"""The public Python functions, on arrays and on files: each fills a request, as the command of its name does."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from gncli import io
from gncli.errors import GncliError, ParameterError
from gncli.inputs import STRICT, Draw, Policy
from gncli.kernels.affine import Scaling, no_affine, per_channel_moments
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.groupnorm import DEFAULT_EPS, LARGEST, Grouping, GroupNorm, output_float
from gncli.kernels.parameters import Grid
from gncli.names import difference_names, in_python, layouts_of, statistic_names
from gncli.report.normalize_records import NormalizeReport
from gncli.report.records import TensorStats
from gncli.run.engine import Engine
from gncli.run.gradients import Backward
from gncli.run.normalization import Normalization, at_once
from gncli.tasks.backward import gradient_pair, param_float
from gncli.tasks.diff import DiffRun
from gncli.tasks.expect import OF_DIFFERENCES, OF_STATISTICS, ExpectationError, Vocabulary, parse
from gncli.tasks.normalize import NormalizeRun
from gncli.tasks.requests import Choice, Criteria, Cutting, Diff, Execution, Normalize, Output, Pairing, Stats
from gncli.tasks.stats import StatsRun

MOST_CELLS = 1 << 20
UNSCALED = Scaling()
RANGES: Mapping[str, tuple[float, float]] = {
    "rtol": (0, LARGEST),
    "atol": (0, LARGEST),
    "max_fraction": (0, 1),
    "ddof": (0, 1),
    "bins": (1, 1 << 16),
    "top": (1, LARGEST),
    "workers": (1, 1024),
    "tile": (1, LARGEST),
    "factor": (0, LARGEST),
    "max_ulp": (0, LARGEST),
    "near_zero": (0, LARGEST),
}
"""The least and the largest value of a parameter, as the options of the command line have them."""

Path: TypeAlias = str | os.PathLike[str]
"""A tensor as the command line names it, ``FILE`` or ``FILE::NAME``, or a path."""

By: TypeAlias = str | int | Iterable[str | int]
P = ParamSpec("P")
R = TypeVar("R")


def in_words_of_python(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with errors that name parameters, not options, also where a number is out of its range."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            for name in sorted(kwargs.keys() & RANGES.keys()):
                _check(name, kwargs[name])
            return function(*args, **kwargs)
        except GncliError as error:
            error.problem, error.subject = in_python(error.problem), error.subject and in_python(error.subject)
            error.hint = error.hint and in_python(error.hint)
            raise

    return called


def _check(name: str, number: Any) -> None:
    """Raise unless a number is in its range; None is a default."""
    low, high = RANGES[name]
    if number is not None and not low <= number <= high:
        hint = f"give a finite number, at least {low}" if high == LARGEST else f"give {low} to {high}"
        raise ParameterError(f"{name} is {number}", hint=hint)


@in_words_of_python
def group_norm(
    x: Any,
    num_groups: int | None = None,
    eps: float = DEFAULT_EPS,
    layout: str | None = None,
    gamma: Any = None,
    beta: Any = None,
    denominator: str = "std",
    *,
    interleaved: bool = False,
    dtype: Any = None,
    over: str | None = None,
    rms: bool = False,
    mean: Any = None,
    var: Any = None,
    gamma_axes: str | None = None,
    gamma_per_group: bool = False,
    gamma_offset: float = 0.0,
    round_before_affine: bool = False,
    activation: str | None = None,
) -> NDArray[Any]:
    """Return the group normalization of `x` (Wu & He 2018), or another norm of its family, each element rounded once.

    Parameters
    ----------
    x : array_like
        The tensor: boolean, integer or floating-point, in any layout and memory order. It is anything that NumPy takes
        or that speaks DLPack on the CPU, such as a tensor of PyTorch, bfloat16 and float8 too.
    num_groups : int, optional
        The number of groups G; it must divide the number of channels C. By default there are 32.
    eps : float
        Added to the variance, inside the root.
    layout : str, optional
        One letter per axis, such as ``"NHWC"``; by default NC, NCL, NCHW or NCDHW for 2 to 5 axes.
    gamma, beta : array_like of shape (C,), or float, optional
        Scale and shift after the normalization; 1 and 0 by default. With `over` they may have the reduced axes.
    denominator : {"std", "variance"}
        ``std`` divides by ``sqrt(var + eps)``, as the paper does; ``variance`` by ``var + eps``.
    interleaved : bool
        Whether channel c is in group c % G, as in MLX; by default groups are contiguous blocks of channels.
    dtype : dtype, optional
        float16, float32 or float64, to which each element is rounded; by default that of a floating-point `x` (float32
        for bfloat16 and float8), else ``np.result_type(x, np.float32)``.
    over : str, optional
        The axes that are reduced, instead of groups: letters of the layout, or numbers; ``"-1"`` for layer norm.
    rms : bool
        Whether the mean is not subtracted: ``x / sqrt(mean(x^2) + eps)``.
    mean, var : array_like of shape (C,), or float, optional
        The mean and variance of each channel, if they are not measured: batch norm in inference.
    gamma_axes : str, optional
        The axes that gamma and beta have; by default the channels, or with `over` the reduced axes.
    gamma_per_group : bool
        Whether gamma and beta have shape (G,).
    gamma_offset : float
        Added to gamma, exactly: with 1 the factor is 1 + gamma.
    round_before_affine : bool
        Whether standardized values are rounded to the dtype of the result before gamma and beta, besides the last
        rounding.
    activation : {"relu", "silu", "gelu", "gelu-tanh"}, optional
        What is applied after gamma and beta, before the result is rounded.

    Returns
    -------
    ndarray
        An array with the shape and memory order of `x`.

    Raises
    ------
    ParameterError
        If the parameters do not fit `x`.
    InputError
        If `x` is not numeric, or masked, or lies on another device.

    Examples
    --------
    >>> import numpy as np
    >>> group_norm(np.array([[1.0, 3.0, 10.0, 30.0]]), num_groups=2, eps=0)
    array([[-1.,  1., -1.,  1.]])
    >>> group_norm(np.array([[3.0, 4.0], [0.0, 2.0]]), over="-1", rms=True, eps=0, denominator="variance")
    array([[0.24, 0.32],
           [0.  , 1.  ]])
    """
    source = io.lend(x, "x")
    norm = _norm(num_groups, None, eps, layout, denominator, interleaved, over, rms, mean, var)
    grouping = norm.on(source.shape, source.order)
    scaling = Scaling(gamma_axes, gamma_per_group, gamma_offset, round_before_affine, activation)
    if gamma is None and beta is None and scaling == UNSCALED:
        affine = no_affine(math.prod(source.shape))
    else:
        affine = scaling.affine(grouping, _values(gamma, "gamma", 1.0), _values(beta, "beta", 0.0))
    given = _given(grouping, mean, var) if norm.given else None
    made = _made(dtype, output_float(source.dtype))
    values = None if given else source.lent(0, math.prod(source.shape))
    y = None if values is None else at_once(values, grouping, affine, made)
    if y is not None:
        return y.reshape(source.shape, order=source.order)
    sink = io.ArraySink(source.shape, made.dtype, source.order)
    with Engine() as engine:
        Normalization(source, sink, grouping, affine, made, engine, verify=False, reports=False, given=given).write()
    return sink.array


@in_words_of_python
def group_norm_backward(
    x: Any,
    dy: Any,
    num_groups: int | None = None,
    eps: float = DEFAULT_EPS,
    layout: str | None = None,
    gamma: Any = None,
    denominator: str = "std",
    *,
    interleaved: bool = False,
    over: str | None = None,
    rms: bool = False,
    mean: Any = None,
    var: Any = None,
    gamma_axes: str | None = None,
    gamma_per_group: bool = False,
    gamma_offset: float = 0.0,
    beta: Any = None,
    activation: str | None = None,
    dtype: Any = None,
    param_dtype: Any = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the gradients of `group_norm`, each element rounded once: of `x`, of gamma and of beta.

    Parameters
    ----------
    x, dy : array_like
        The input of the forward pass, and the gradient of its output, floating-point and of the same shape.
    num_groups, eps, layout, gamma, denominator, interleaved, over, rms, mean, var, gamma_axes, gamma_per_group
    gamma_offset, beta, activation
        Those of the forward pass; see `group_norm`. Beta changes a gradient only where there is an activation.
    dtype : dtype, optional
        That of the gradient of `x`; by default as in `group_norm`.
    param_dtype : dtype, optional
        That of the gradients of gamma and beta; by default float32 for float16, bfloat16 and float8, else that of `x`.

    Returns
    -------
    dx, dgamma, dbeta : ndarray
        dx has the shape of `x`; dgamma and dbeta have that of gamma: (C,), where it is a number.

    Raises
    ------
    ParameterError
        If the parameters do not fit `x`.
    InputError
        If a tensor is not numeric, or masked, or lies on another device, or `dy` is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> x, dy = np.array([[1.0, 3.0, 10.0, 30.0]]), np.array([[1.0, 0.0, 2.0, 2.0]])
    >>> dx, dgamma, dbeta = group_norm_backward(x, dy, num_groups=2, eps=0)
    >>> dgamma, dbeta
    (array([-1.,  0., -2.,  2.]), array([1., 0., 2., 2.]))
    """
    norm = _norm(num_groups, None, eps, layout, denominator, interleaved, over, rms, mean, var)
    with contextlib.ExitStack() as stack:
        pair = gradient_pair(stack, io.lend(x, "x"), io.lend(dy, "dy"))
        grouping = norm.on(pair.shape, pair.order)
        scaling = Scaling(gamma_axes, gamma_per_group, gamma_offset, activation=activation)
        factors = _values(gamma, "gamma", 1.0)
        affine = scaling.affine(grouping, factors, _values(beta, "beta", 0.0))
        given = _given(grouping, mean, var) if norm.given else None
        made = _made(dtype, output_float(pair.a.dtype))
        param = _made(param_dtype, param_float(pair.a))
        sink = io.ArraySink(pair.shape, made.dtype, pair.order)
        grid = Grid.of(scaling, grouping, factors.shape)
        engine = stack.enter_context(Engine())
        found = Backward(pair, sink, grouping, affine, grid, made, param, engine, given=given).run()
    dgamma, dbeta = (values.reshape(grid.shape) for values in found.parameters)
    return sink.array, dgamma, dbeta


def _given(grouping: Grouping, mean: Any, var: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a given mean and variance of each channel."""
    moments = (Scaling().fitted(grouping, what, _values(of, what, 0.0)) for what, of in (("mean", mean), ("var", var)))
    return per_channel_moments(grouping, *moments)


def _made(dtype: Any, default: Float) -> Float:
    """Return the dtype of an array that is made, by default `default`."""
    with contextlib.suppress(TypeError):  # NumPy does not know it
        dtype = None if dtype is None else np.dtype(dtype).name
    made = default if dtype is None else FLOATS.get(dtype)
    if made is None or made.foreign:
        raise ParameterError(f"{dtype} cannot hold the result", hint="choose float16, float32 or float64")
    return made


def _norm(
    num_groups: int | None,
    group_size: int | None,
    eps: float,
    layout: str | None,
    denominator: str,
    interleaved: bool,
    over: str | None,
    rms: bool,
    mean: object,
    var: object,
) -> GroupNorm:
    if (mean is None) != (var is None):
        raise ParameterError("mean and var go together", hint="give both or none")
    return GroupNorm(num_groups, group_size, eps, layout, denominator, interleaved, over, rms, mean is not None)


def _values(given: Any, what: str, default: float) -> NDArray[np.float64]:
    """Return gamma, beta, a mean or a variance: in shape () if it is a number."""
    if given is None:
        return np.array(default)
    source = io.lend(given, what)
    values = np.empty(math.prod(source.shape), source.dtype)
    source.read_into(values, 0)
    return values.astype(np.float64).reshape(source.shape, order=source.order)


def opened(x: Any, name: str, policy: Policy = STRICT) -> io.Listing:
    """Return what a path or a name stands for, or an array, which errors call `name`; what is open already stays so."""
    if isinstance(x, io.Listing):
        return x
    if isinstance(x, str | os.PathLike):
        return io.open_sources(os.fspath(x), policy=policy)
    return io.lent(x, name)


def _cutting(by: By | None, layout: str | None, num_groups: int | None, group_size: int | None) -> Cutting:
    names = [by] if isinstance(by, str | int) else by
    return Cutting(
        by=None if names is None else ",".join(map(str, names)),
        layout=layout,
        num_groups=num_groups,
        group_size=group_size,
    )


def _choice(vocabulary: Vocabulary, where: str | None, sort: str | None, top: int | None) -> Choice:
    name = None if sort is None else sort.removeprefix("-")
    try:
        if name is not None and not (name == "name" and vocabulary is OF_DIFFERENCES):
            vocabulary.check(name)
        return Choice(where=None if where is None else parse(where, vocabulary), sort=sort, top=top)
    except (KeyError, ExpectationError) as error:
        raise ParameterError(error.args[0]) from None


@in_words_of_python
def stats(
    x: Any,
    statistics: str | Iterable[str] = (),
    *,
    by: By | None = None,
    layout: str | None = None,
    num_groups: int | None = None,
    group_size: int | None = None,
    ddof: int = 0,
    bins: int | None = None,
    match: str | None = None,
    where: str | None = None,
    sort: str | None = None,
    top: int | None = None,
    policy: Policy = STRICT,
    workers: int | None = None,
    tile: int | None = None,
) -> Any:
    """Return the statistics of a tensor, as ``gncli stats`` finds them.

    Parameters
    ----------
    x : array_like, str, PathLike or Draw
        An array: what NumPy takes, or what speaks DLPack on the CPU. Or a file, or a random tensor, which are streamed.
    statistics : str or iterable of str
        The names of statistics, as ``-s`` takes them: ``"median,p99.9"``, ``["mean", "zeros"]``, ``"all"``; by default
        mean, std, min and max. Where data are read, these and the counts of NaN and infinities are always there.
    by : str, int or iterable of these, optional
        The axes that have a cell per index, as letters of the layout or numbers, or ``"group"``: then `cells` has the
        statistics of each cell. By default the tensor is one cell.
    layout : str, optional
        One letter per axis, such as ``"NHWC"``; by default NC, NCL, NCHW or NCDHW for 2 to 5 axes.
    num_groups, group_size : int, optional
        The number of groups, or of channels in each, for ``by="group"``.
    ddof : {0, 1}
        Subtracted from the number of elements in variance and deviation.
    bins : int, optional
        The number of bins of a histogram; by default there is none.
    match : str, optional
        A pattern for the names of the tensors of a file of several.
    where : str, optional
        What must hold of a tensor, or with `by` of a cell, to be in the result: ``"zeros/size > 0.5"``.
    sort : str, optional
        The statistic to order tensors or cells by; with ``-`` before it, the largest first.
    top : int, optional
        The number of tensors or cells in the result: the first ones of that order.
    policy : Policy, optional
        What a file may do and ask for.
    workers, tile : int, optional
        The number of threads, and the bytes that each works on at a time. The result does not depend on them.

    Returns
    -------
    TensorStats or StatsReport
        The record of the tensor. Of a file of several tensors, of a folder, and of a checkpoint in shards it is a
        `StatsReport`: a sequence of such records, in which a tensor that cannot be read is a failure.

    Raises
    ------
    ParameterError
        If a parameter is wrong, or does not fit the tensor.
    InputError
        If `x` cannot be read, is not numeric, or is masked.
    LimitError
        If a limit was passed.

    Examples
    --------
    >>> import numpy as np
    >>> s = stats(np.array([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]]), "median", by="N")
    >>> s.mean, s["max"], [cell.median for cell in s.cells]
    (3.5, 6.0, [2.0, 4.0])
    """
    try:
        names = statistic_names(statistics)
    except KeyError as error:
        raise ParameterError(error.args[0]) from None
    drawn = x if isinstance(x, Draw) else None
    with contextlib.ExitStack() as stack:
        listings = [] if drawn else [stack.enter_context(opened(x, "x", policy))]
        several = any(listing.many for listing in listings)
        run = StatsRun(
            Stats(
                tensors=tuple(listings),
                random=drawn,
                statistics=names,
                ddof=ddof,
                cutting=_cutting(by, layout, num_groups, group_size),
                bins=bins,
                match=match,
                choice=_choice(OF_STATISTICS, where, sort, top),
                keep_cells=MOST_CELLS,
                most_cells=MOST_CELLS,
                policy=policy,
                execution=Execution(workers=workers, tile=tile),
            )
        )
        for _ in run.cells():
            pass
    report = run.report()
    notes = tuple(map(in_python, report.notes))
    if several:
        return replace(report, notes=notes)
    for failure in report.failures:
        raise failure.error
    (tensor,) = (tensor for tensor in report.tensors if isinstance(tensor, TensorStats))
    return replace(tensor, selected=names, notes=notes)


def get_stats(x: Any) -> TensorStats:
    """Return the default statistics of an array; as a string they are one line per statistic.

    Parameters
    ----------
    x : array_like
        The tensor: boolean, integer or floating-point.

    Returns
    -------
    TensorStats
        The statistics of the finite elements, and the number of NaN and infinities.

    Raises
    ------
    InputError
        If `x` is not numeric, or is masked.

    Examples
    --------
    >>> import numpy as np
    >>> found = get_stats(np.array([1.0, 2.0, 6.0]))
    >>> found.mean, found.max
    (3.0, 6.0)
    """
    found: TensorStats = stats(x)
    return replace(found, name="")


@in_words_of_python
def diff(
    a: Any,
    b: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    max_fraction: float = 0.0,
    nan_differs: bool = False,
    baseline: Any = None,
    factor: float | None = None,
    max_ulp: int | None = None,
    near_zero: float | None = None,
    faithful: bool = False,
    exact: bool = False,
    allow_vacuous: bool = False,
    by: By | None = None,
    layout: str | None = None,
    num_groups: int | None = None,
    group_size: int | None = None,
    bins: int | None = None,
    match: str | None = None,
    rename: Mapping[str, str] | None = None,
    fail_fast: bool = False,
    statistics: str | Iterable[str] = (),
    where: str | None = None,
    sort: str | None = None,
    top: int | None = None,
    output: Path | None = None,
    force: bool = False,
    policy: Policy = STRICT,
    workers: int | None = None,
    tile: int | None = None,
) -> Any:
    """Return how `a` differs from the reference `b`, as ``gncli diff`` finds it.

    Parameters
    ----------
    a, b : array_like, str or PathLike
        Arrays: what NumPy takes, or what speaks DLPack on the CPU. Or files, also of several tensors.
    rtol, atol : float, optional
        An element is outside where ``|a - b| > atol + rtol |b|``; by default those of the coarser dtype, as
        ``torch.testing.assert_close`` has them.
    max_fraction : float
        The fraction of the elements that may be outside.
    nan_differs : bool
        Whether a NaN differs from a NaN.
    baseline : array_like, str or PathLike, optional
        What an accepted implementation gives in the dtype of `a`: the largest error may be `factor` times its own, and
        the rounding floor.
    factor : float, optional
        Used with `baseline`; by default 2.
    max_ulp : int, optional
        The largest distance in units of the dtype of `a` from `b`, which is rounded once to that dtype.
    near_zero : float, optional
        Used with `max_ulp`: below it, the distance may be `max_ulp` times the spacing at it; by default it is the
        smallest normal number of that dtype.
    faithful : bool
        Whether each element must be one of the two neighbours of that of `b` in the dtype of `a`.
    exact : bool
        Whether dtype, shape and all bits must be equal.
    allow_vacuous : bool
        Whether the tensors may be the same where a tensor of zeros would be.
    by : str, int or iterable of these, optional
        The axes that have a cell per index, as letters of the layout or numbers, or ``"group"``: then `cells` says how
        each cell differs.
    layout : str, optional
        One letter per axis, such as ``"NHWC"``, for `by`. Two layouts, ``"NCHW,NHWC"``, are those of `a` and of `b`,
        whose axes are taken in the order of those of `a`.
    num_groups, group_size : int, optional
        The number of groups, or of channels in each, for ``by="group"``.
    bins : int, optional
        The number of bins of a histogram of a - b; by default there is none.
    match : str, optional
        A pattern for the names of the tensors, where there are several.
    rename : mapping of str to str, optional
        Regular expressions, and what replaces them in the names of the tensors of `a`.
    fail_fast : bool
        Whether to stop at the first pair that differs.
    statistics : str or iterable of str
        The names of the numbers to show, as ``diff -s`` takes them. `slope` and `offset` are measured only if named.
    where : str, optional
        What must hold of a cell or a pair to be in the result: ``"outside/size > 0.01"``.
    sort : str, optional
        The number to order cells or pairs by, or ``"name"``, the default; with ``-`` before it, the largest first.
    top : int, optional
        The number of cells or pairs in the result: the first ones of that order.
    output : str or PathLike, optional
        The file for a - b, such as ``"d.npy"``; by default it is not written.
    force : bool
        Whether an existing output is replaced.
    policy : Policy, optional
        What a file may do and ask for.
    workers, tile : int, optional
        The number of threads, and the bytes that each works on at a time. The result does not depend on them.

    Returns
    -------
    DiffReport or PairsReport
        How the tensors differ; `equal` is the verdict. Of files of several tensors it is a `PairsReport`: a sequence of
        rows, one per pair.

    Raises
    ------
    ParameterError
        If a parameter is wrong, or does not fit the tensors.
    InputError
        If a tensor cannot be read, is not numeric, or is masked.
    OutputError
        If the output cannot be written, or exists and `force` is not given.
    LimitError
        If a limit was passed.

    Examples
    --------
    >>> import numpy as np
    >>> d = diff(np.array([1.0, 2.5]), np.array([1.0, 2.0]), rtol=0.1)
    >>> d.equal, d.max_abs, d.worst.index, d.smallest_atol
    (False, 0.5, (1,), 0.301)
    >>> diff(np.array([1.0, 3.0]), np.array([0.0, 1.0]), statistics="slope,offset").slope
    2.0
    """
    try:
        names = difference_names(statistics)
    except KeyError as error:
        raise ParameterError(error.args[0]) from None
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(opened(x, name, policy)) for x, name in ((a, "a"), (b, "b"))]
        accepted = None if baseline is None else stack.enter_context(opened(baseline, "baseline", policy))
        first, both = layouts_of(layout)
        request = Diff(
            a=sides[0],
            b=sides[1],
            rtol=rtol,
            atol=atol,
            max_fraction=max_fraction,
            nan_differs=nan_differs,
            criteria=Criteria(
                baseline=accepted,
                factor=factor,
                max_ulp=max_ulp,
                near_zero=near_zero,
                exact=exact,
                faithful=faithful,
                allow_vacuous=allow_vacuous,
            ),
            layouts=both,
            cutting=_cutting(by, None if by is None and both else first, num_groups, group_size),
            pairing=Pairing(renames=tuple((rename or {}).items()), match=match, fail_fast=fail_fast),
            statistics=names,
            choice=_choice(OF_DIFFERENCES, where, "name" if by is not None and sort is None else sort, top),
            bins=bins,
            output=Output(path=None if output is None else os.fspath(output), force=force),
            policy=policy,
            execution=Execution(workers=workers, tile=tile),
        )
        run = stack.enter_context(DiffRun(request))
        report = run.report()
        run.commit()
    return replace(report, notes=tuple(map(in_python, report.notes)))


@in_words_of_python
def normalize_file(
    tensor: Path | Draw,
    *,
    num_groups: int | None = None,
    group_size: int | None = None,
    eps: float = DEFAULT_EPS,
    layout: str | None = None,
    denominator: str = "std",
    interleaved: bool = False,
    output: Path | None = None,
    force: bool = False,
    in_place: bool = False,
    gamma: Path | float = 1.0,
    beta: Path | float = 0.0,
    dtype: str | None = None,
    save_moments: Path | None = None,
    stages: bool = False,
    verify: bool = True,
    zeros: bool = False,
    bins: int | None = None,
    compression: int | str | None = None,
    npy_bits: bool = False,
    overflow: str | None = None,
    policy: Policy = STRICT,
    workers: int | None = None,
    tile: int | None = None,
    executor: str = "threads",
    scheduler: str | None = None,
    over: str | None = None,
    rms: bool = False,
    mean: str | float | None = None,
    var: str | float | None = None,
    gamma_axes: str | None = None,
    gamma_per_group: bool = False,
    gamma_offset: float = 0.0,
    round_before_affine: bool = False,
    activation: str | None = None,
) -> NormalizeReport:
    """Return the statistics before and after Group Normalization (Wu & He 2018), and write the result to `output`.

    This is what ``gncli normalize`` does. The tensor is streamed, so it may be larger than memory.

    Parameters
    ----------
    tensor : str, PathLike or Draw
        ``FILE`` or ``FILE::NAME``, as on the command line; or a random tensor.
    num_groups, group_size : int, optional
        The number of groups, or the number of channels per group, which must divide the number of channels; by default
        there are 32 groups.
    eps : float
        Added to the variance, inside the root.
    layout : str, optional
        One letter per axis, such as ``"NHWC"``; by default NC, NCL, NCHW or NCDHW for 2 to 5 axes.
    denominator : {"std", "variance"}
        ``std`` divides by ``sqrt(var + eps)``, as the paper does; ``variance`` by ``var + eps``.
    interleaved : bool
        Whether channel c is in group c % G, as in MLX; by default groups are contiguous blocks of channels.
    output : str or PathLike, optional
        Where the result is written, such as ``y.npy`` or ``y.h5::NAME``; by default nowhere.
    force, in_place : bool
        Whether an existing output is replaced; whether the input is, instead of an `output`.
    gamma, beta : str, PathLike or float
        A number, or a tensor of shape (C,).
    dtype : str, optional
        The dtype of the result; by default that of a floating-point input, else ``np.result_type(input, np.float32)``.
    save_moments : str or PathLike, optional
        A .npz file for the arrays mean, var and rstd, each of shape (N, G).
    stages, verify, zeros : bool
        Whether the report has every stage from input to output, the result is checked, and zeros are counted.
    bins : int, optional
        The number of bins of histograms before and after; by default there are none.
    compression : int or str, optional
        The deflate level of an HDF5 output, 0 to 9; ``"zstd"`` or ``"zstd=LEVEL"`` for Zarr; by default the output is
        not compressed.
    npy_bits : bool
        Whether a .npy may hold bfloat16 or float8, which it cannot name.
    overflow : {"saturate", "nonfinite"}, optional
        What becomes of a result beyond the largest number: the largest, or an infinity (NaN in float8_e4m3fn). float8
        needs it, bfloat16 takes it.
    policy : Policy, optional
        What the inputs may do and ask for.
    workers, tile : int, optional
        The number of threads, by default one per CPU, and the bytes of input that each works on at a time, by default
        2 MiB. The result does not depend on them.
    executor : {"threads", "dask"}
        What does the work: threads of this process, or a dask cluster.
    scheduler : str, optional
        The address of a dask cluster; by default processes on this machine.
    over : str, optional
        The axes that are reduced, instead of groups: letters of the layout, or numbers; ``"-1"`` for layer norm.
    rms : bool
        Whether the mean is not subtracted: ``x / sqrt(mean(x^2) + eps)``.
    mean, var : str or float, optional
        The mean and variance of each channel, if they are not measured: a number, or a tensor of shape (C,).
    gamma_axes : str, optional
        The axes that gamma and beta have; by default the channels, or with `over` the reduced axes.
    gamma_per_group : bool
        Whether gamma and beta have shape (G,).
    gamma_offset : float
        Added to gamma, exactly: with 1 the factor is 1 + gamma.
    round_before_affine : bool
        Whether standardized values are rounded to the dtype of the result before gamma and beta, besides the last
        rounding.
    activation : {"relu", "silu", "gelu", "gelu-tanh"}, optional
        What is applied after gamma and beta, before the result is rounded.

    Returns
    -------
    NormalizeReport
        The data that ``gncli normalize`` shows. A failed check is not an error: then ``check.ok`` is False, and no file
        is written.

    Raises
    ------
    ParameterError
        If the parameters do not fit the tensor, or each other.
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

    def named(given: Any) -> Any:
        return os.fspath(given) if isinstance(given, os.PathLike) else given

    request = Normalize(
        tensor=named(tensor),
        norm=_norm(num_groups, group_size, eps, layout, denominator, interleaved, over, rms, mean, var),
        scaling=Scaling(gamma_axes, gamma_per_group, gamma_offset, round_before_affine, activation),
        gamma=named(gamma),
        beta=named(beta),
        mean=named(mean),
        var=named(var),
        dtype=dtype,
        output=Output(
            path=named(output),
            force=force,
            in_place=in_place,
            compression=compression,
            npy_bits=npy_bits,
            overflow=overflow,
        ),
        save_moments=named(save_moments),
        stages=stages,
        verify=verify,
        zeros=zeros,
        bins=bins,
        policy=policy,
        execution=Execution(workers=workers, tile=tile, executor=executor, scheduler=scheduler),
    )
    with NormalizeRun(request) as run:
        report = run.report()
        run.commit()
    return replace(report, notes=tuple(map(in_python, report.notes)))
