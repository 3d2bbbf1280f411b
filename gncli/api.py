"""The public Python functions that work on arrays in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import io
from gncli.errors import ParameterError
from gncli.kernels.groupnorm import DEFAULT_EPS, Affine, GroupNorm, output_dtype
from gncli.kernels.moments import Floats
from gncli.report.records import TensorStats
from gncli.run.engine import Engine
from gncli.run.normalization import Normalization
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
