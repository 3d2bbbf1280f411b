"""The public Python functions: on arrays in memory, and on files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import io
from gncli.errors import ParameterError
from gncli.inputs import STRICT, Draw, Policy
from gncli.kernels.groupnorm import DEFAULT_EPS, GroupNorm, output_dtype
from gncli.kernels.moments import Floats
from gncli.kernels.plain import Affine
from gncli.report.records import NormalizeReport, TensorStats
from gncli.run.engine import Engine
from gncli.run.normalization import Normalization
from gncli.tasks.normalize import NormalizeRun
from gncli.tasks.requests import Execution, Normalize, Output
from gncli.tasks.survey import describe


def group_norm(
    x: NDArray[Any],
    num_groups: int,
    eps: float = DEFAULT_EPS,
    layout: str | None = None,
    gamma: NDArray[Any] | float | None = None,
    beta: NDArray[Any] | float | None = None,
    denominator: str = "std",
    *,
    interleaved: bool = False,
) -> NDArray[Any]:
    """Return the group normalization of `x` (Wu & He 2018); each element is the value of the formula, rounded once.

    Parameters
    ----------
    x : ndarray
        The tensor: boolean, integer or floating-point, in any layout and memory order.
    num_groups : int
        The number of groups G; it must divide the number of channels C.
    eps : float
        Added to the variance, inside the root.
    layout : str, optional
        One letter per axis, such as ``"NHWC"``; by default NC, NCL, NCHW or NCDHW for 2 to 5 axes.
    gamma, beta : ndarray of shape (C,), or float, optional
        Scale and shift after the normalization; 1 and 0 by default.
    denominator : {"std", "variance"}
        ``std`` divides by ``sqrt(var + eps)``, as the paper does; ``variance`` by ``var + eps``.
    interleaved : bool
        Whether channel c is in group c % G, as in MLX; by default groups are contiguous blocks of channels.

    Returns
    -------
    ndarray
        An array with the shape and memory order of `x`. Its dtype is that of a floating-point `x`, else
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
    grouping = GroupNorm(num_groups, None, eps, layout, denominator, interleaved).on(source.shape, source.order)

    def channel_values(given: NDArray[Any] | float | None, what: str, default: float) -> Floats:
        values = np.asarray(default if given is None else given, dtype=np.float64)
        if values.shape not in ((), (grouping.channels,)):
            raise ParameterError(f"{what} has shape {values.shape}, and x needs ({grouping.channels},)")
        return np.ascontiguousarray(np.broadcast_to(values, grouping.channels))

    affine = Affine(channel_values(gamma, "gamma", 1.0), channel_values(beta, "beta", 0.0), grouping.channel_shape)
    dtype = output_dtype(source.dtype)
    sink = io.ArraySink(source.shape, dtype, source.order)
    with Engine() as engine:
        Normalization(source, sink, grouping, affine, dtype, engine, verify=False, reports=False).write()
    return sink.array


def get_stats(x: NDArray[Any]) -> TensorStats:
    """Return the statistics of `x`; as a string they are one line per statistic.

    Parameters
    ----------
    x : ndarray
        The tensor: boolean, integer or floating-point.

    Returns
    -------
    TensorStats
        The statistics of the finite elements, and the number of NaN and infinities.

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


def normalize_file(
    tensor: str | Draw,
    *,
    num_groups: int | None = None,
    group_size: int | None = None,
    eps: float = DEFAULT_EPS,
    layout: str | None = None,
    denominator: str = "std",
    interleaved: bool = False,
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
    compression: int | None = None,
    policy: Policy = STRICT,
    workers: int | None = None,
    tile: int | None = None,
    executor: str = "threads",
    scheduler: str | None = None,
) -> NormalizeReport:
    """Return the statistics before and after Group Normalization (Wu & He 2018), and write the result to `output`.

    This is what ``gncli normalize`` does. The tensor is streamed, so it may be larger than memory.

    Parameters
    ----------
    tensor : str or Draw
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
    output : str, optional
        Where the result is written, such as ``y.npy`` or ``y.h5::NAME``; by default nowhere.
    force, in_place : bool
        Whether an existing output is replaced; whether the input is, instead of an `output`.
    gamma, beta : str or float
        A number, or a tensor of shape (C,).
    dtype : str, optional
        The dtype of the result; by default that of a floating-point input, else ``np.result_type(input, np.float32)``.
    save_moments : str, optional
        A .npz file for the arrays mean, var and rstd, each of shape (N, G).
    stages, verify, zeros : bool
        Whether the report has every stage from input to output, the result is checked, and zeros are counted.
    bins : int, optional
        The number of bins of histograms before and after; by default there are none.
    compression : int, optional
        The deflate level of an HDF5 output, 0 to 9; by default it is not compressed.
    policy : Policy, optional
        What the inputs may do and ask for.
    workers, tile : int, optional
        The number of threads, by default one per CPU, and the bytes of input that each works on at a time, by default
        2 MiB. The result does not depend on them.
    executor : {"threads", "dask"}
        What does the work: threads of this process, or a dask cluster.
    scheduler : str, optional
        The address of a dask cluster; by default processes on this machine.

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
    request = Normalize(
        tensor=tensor,
        norm=GroupNorm(num_groups, group_size, eps, layout, denominator, interleaved),
        gamma=gamma,
        beta=beta,
        dtype=dtype,
        output=Output(path=output, force=force, in_place=in_place, compression=compression),
        save_moments=save_moments,
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
    return report
