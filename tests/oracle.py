"""The longhand oracle: Group Normalization and moments as they are defined, slow, in NumPy's longdouble."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


def group_norm(
    x: NDArray[Any],
    num_groups: int,
    layout: str,
    eps: float = 1e-5,
    gamma: NDArray[Any] | None = None,
    beta: NDArray[Any] | None = None,
    denominator: str = "std",
) -> NDArray[np.longdouble]:
    """Return the formula's values, not rounded to any output dtype."""
    axes = [layout.index(letter) for letter in "NC" if letter in layout]
    wide = widened(np.moveaxis(x, axes, range(len(axes))))
    wide = wide if "N" in layout else wide[None]
    groups = wide.reshape(wide.shape[0], num_groups, -1)
    residuals = groups - groups.mean(axis=2, keepdims=True)
    residuals -= residuals.mean(axis=2, keepdims=True)  # longdouble alone is not enough at offset 1e6
    var = (residuals**2).mean(axis=2, keepdims=True)
    z = (residuals / (np.sqrt(var + eps) if denominator == "std" else var + eps)).reshape(wide.shape)
    per_channel = (-1, *[1] * (wide.ndim - 2))
    y = z * np.reshape(1.0 if gamma is None else gamma, per_channel) + np.reshape(
        0.0 if beta is None else beta, per_channel
    )
    return np.moveaxis(y if "N" in layout else y[0], range(len(axes)), axes)


def widened(x: NDArray[Any]) -> NDArray[np.longdouble]:
    """Return `x` in longdouble; 64-bit integers above their minimum, since longdouble is 64 bits on some machines."""
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8 and x.size:
        native = x.astype(x.dtype.newbyteorder("="))
        x = (native - native.min()).view(np.uint64)
    return x.astype(np.longdouble)


def rounded(exact: NDArray[np.longdouble], dtype: Any) -> NDArray[Any]:
    """Return `exact` rounded to `dtype`, by way of float64: NumPy's cast from longdouble to float16 goes by float32."""
    with np.errstate(over="ignore"):
        return exact.astype(np.float64).astype(dtype)


class Expected(NamedTuple):
    """What `moments` gives, for the finite values of each row; NaN where there are none."""

    n: NDArray[np.int64]
    min: list[Any]
    max: list[Any]
    mean: NDArray[np.longdouble]
    var: NDArray[np.longdouble]


def moments(rows: NDArray[Any]) -> Expected:
    """Return the moments of each of `rows`."""
    finite = [row[np.isfinite(row)] for row in rows]
    mean, var = np.full((2, len(finite)), np.nan, np.longdouble)
    for place, row in enumerate(finite):
        if row.size:
            wide = widened(row)
            mean[place] = wide.mean()
            residuals = wide - mean[place]
            mean[place] += residuals.mean()
            var[place] = ((residuals - residuals.mean()) ** 2).mean()
            mean[place] += np.longdouble(row.min()) if row.dtype.kind in "iu" and row.dtype.itemsize == 8 else 0
    low, high = ([pick(row).item() if row.size else None for row in finite] for pick in (np.min, np.max))
    return Expected(np.array([row.size for row in finite]), low, high, mean, var)
