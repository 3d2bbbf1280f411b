"""The public Python functions: on arrays in memory, and on files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import io
from gncli.errors import ParameterError
from gncli.inputs import STRICT, Draw, Policy
from gncli.kernels.groupnorm import DEFAULT_EPS, Affine, GroupNorm, output_dtype
from gncli.kernels.moments import Floats
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
        ``std`` divides by ``sqrt(var + eps)``, as the paper does; ``variance`` by ``var + eps``.

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
    """Return the statistics of `x`; as a string they are one line per statistic.

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
        ``std`` divides by ``sqrt(var + eps)``, as the paper does; ``variance`` by ``var + eps``.
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
    compression : int, optional
        Level of deflate of an HDF5 output; by default it is stored as it is.
    policy : Policy, optional
        What the inputs may do and ask for.
    workers, tile : int, optional
        Threads, by default one per CPU; and bytes of input that each works on at a time. Neither changes a bit.
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
    request = Normalize(
        tensor=tensor,
        norm=GroupNorm(num_groups, group_size, eps, layout, denominator),
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
