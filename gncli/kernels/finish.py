"""Statistics from moments: for each cell the numbers of a report, as plain Python values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.moments import NOWHERE, Floats, Moments, Tree, two_sum
from gncli.names import Value

BASIC = ("mean", "std", "var", "min", "max", "nan", "posinf", "neginf")
SMALL = 2.0**-450  # a variance below it has a fourth moment that is not a number any more


@np.errstate(all="ignore")
def finished(
    moments: Moments, dtype: np.dtype[Any], shape: tuple[int, ...], wanted: Collection[str] = (), ddof: int = 0
) -> Mapping[str, list[Value]]:
    """Return what `moments` say of each cell: the basic statistics, and those `wanted` that were measured.

    Parameters
    ----------
    moments : Moments
        1-D and settled.
    dtype : numpy.dtype
        Of the tensor.
    shape : tuple of int
        Of the tensor, which places are in.
    wanted : collection of str
        Further statistics, by contract name.
    ddof : int
        Taken from the number of values in variance and deviation.

    Returns
    -------
    mapping of str to list
        A value for each cell; None where it is undefined, infinity where it left float64.
    """
    some = moments.n > 0
    whole = dtype.kind in "iub"
    found: dict[str, list[Value]] = {
        "mean": _numbers(moments.mean, some),
        "std": _numbers(moments.std(ddof)),
        "var": _numbers(moments.var(ddof)),
        "min": _extremes(moments.min, some, whole),
        "max": _extremes(moments.max, some, whole),
    }
    for kind in ("nan", "posinf", "neginf"):
        found[kind] = moments.number(kind).astype(np.int64).tolist()
    if moments.zeros is not None:
        found["zeros"] = moments.zeros.astype(np.int64).tolist()
    makers: Mapping[str, Callable[[], list[Value]]] = {
        "sum": lambda: moments.sum.tolist() if moments.sum is not None else _numbers(total(moments)),
        "l1": lambda: _norm1(moments),
        "l2": lambda: _numbers(norm2(moments)),
        "skewness": lambda: _numbers(skewness(moments)),
        "kurtosis": lambda: _numbers(kurtosis(moments)),
    }
    found |= {name: make() for name, make in makers.items() if name in wanted}
    for name in ("argmin", "argmax", "first_nan", "first_inf"):
        places = getattr(moments, name)
        if name in wanted and places is not None:
            found[name] = _places(places, shape)
    return found


def _numbers(values: NDArray[Any], defined: NDArray[np.bool_] | None = None) -> list[Value]:
    shown = np.isfinite(values) | np.isinf(values) if defined is None else defined & ~np.isnan(values)
    return [value if is_one else None for value, is_one in zip(values.tolist(), shown.tolist(), strict=True)]


def _extremes(values: NDArray[Any], defined: NDArray[np.bool_], whole: bool) -> list[Value]:
    kept = [value if is_one else None for value, is_one in zip(values.tolist(), defined.tolist(), strict=True)]
    return [int(value) if whole and value is not None else value for value in kept]


def _places(places: NDArray[np.int64], shape: tuple[int, ...]) -> list[Value]:
    there = places != NOWHERE
    if not there.any():
        return [None] * places.size
    index = np.stack(np.unravel_index(np.where(there, places, 0), shape or (1,)), axis=1)[:, : len(shape)]
    return [tuple(at) if is_one else None for at, is_one in zip(index.tolist(), there.tolist(), strict=True)]


def _power(moments: Moments) -> Any:
    return 0 if moments.power is None else moments.power


def total(moments: Moments) -> Floats:
    """Return the sum of finite floats, from both halves of their mean; 0 where there are none."""
    high, low = _product(moments.n, moments.hi)
    found = np.ldexp(high + (low + moments.n * moments.lo), _power(moments))
    return np.asarray(np.where(moments.n > 0, found, 0.0))


def _product(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return a * b, and what that rounds away (Dekker 1971)."""
    product = a * b
    split = 2.0**27 + 1

    def halves(x: Floats) -> tuple[Floats, Floats]:
        high = split * x - (split * x - x)
        return high, x - high

    (a1, a2), (b1, b2) = halves(a), halves(b)
    rest = ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
    return product, np.where(np.isfinite(rest), rest, 0.0)


def _norm1(moments: Moments) -> list[Value]:
    assert moments.l1 is not None  # it was asked for
    if moments.l1.dtype == object:
        return list(moments.l1.tolist())
    return _numbers(np.ldexp(moments.l1, _power(moments)))


def norm2(moments: Moments) -> Floats:
    """Return the root of the sum of squares, which is right even where the squares leave float64."""
    if moments.min.dtype.kind in "iu":
        mean = np.where(moments.n > 0, moments.mean, 0.0)
        return np.asarray(np.hypot(np.sqrt(moments.m2), np.sqrt(moments.n) * mean))
    spread = np.hypot(np.sqrt(moments.m2), np.sqrt(moments.n) * (moments.hi + moments.lo))
    return np.asarray(np.ldexp(spread, _power(moments)))


def _defined(moments: Moments) -> NDArray[np.bool_]:
    """Return where there is a spread that higher moments can be divided by."""
    return np.asarray((moments.m2 > 0) & (moments.m2 > SMALL * moments.n))


def skewness(moments: Moments) -> Floats:
    """Return m3 / m2^1.5, biased; NaN where it is undefined, as of a constant."""
    assert moments.m3 is not None  # it was asked for
    m2 = np.where(_defined(moments), moments.m2, 1.0)
    return np.where(_defined(moments), np.sqrt(moments.n) * moments.m3 / (m2 * np.sqrt(m2)), np.nan)


def kurtosis(moments: Moments) -> Floats:
    """Return m4 / m2^2 - 3, biased; NaN where it is undefined, as of a constant."""
    assert moments.m4 is not None  # it was asked for
    m2 = np.where(_defined(moments), moments.m2, 1.0)
    return np.where(_defined(moments), moments.n * moments.m4 / m2 / m2 - 3, np.nan)


def pooled(parts: Sequence[tuple[Moments, np.dtype[Any]]]) -> tuple[Moments, np.dtype[Any]]:
    """Return the moments of several tensors together, without places, and the dtype that counts for them.

    Parameters
    ----------
    parts : sequence of (Moments, numpy.dtype)
        Of shape (1,), and what they are of; at least one.
    """
    dtypes = {dtype.newbyteorder("=") for _, dtype in parts}
    nowhere = dict.fromkeys(("argmin", "argmax", "first_nan", "first_inf"))
    every = [moments._replace(**nowhere) for moments, _ in parts]  # type: ignore[arg-type]
    whole = all(dtype.kind in "iub" for dtype in dtypes)
    if len(dtypes) > 1:
        every = [_widened(moments, whole) for moments in every]
    tree = Tree()
    for moments in every:
        tree.push(moments)
    total = tree.total()
    assert total is not None  # there is at least one
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.int64 if whole else np.float64)
    return total, dtype


def _widened(moments: Moments, whole: bool) -> Moments:
    """Return moments of 64-bit integers as those of floats are; sums of integers stay exact if `whole`."""
    if moments.min.dtype.kind in "iu":
        base = moments.min.astype(np.float64)
        rest = np.array(
            [int(exact) - int(near) for exact, near in zip(moments.min.tolist(), base.tolist(), strict=True)]
        )
        hi, lo = two_sum(base, moments.hi, moments.lo + rest.astype(np.float64))
        moments = moments._replace(hi=hi, lo=lo, min=base, max=moments.max.astype(np.float64))
    if whole:
        return moments
    l1 = None if moments.l1 is None else moments.l1.astype(np.float64)
    return moments._replace(l1=l1, sum=None)
