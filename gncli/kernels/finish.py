"""Statistics from moments: the numbers of a report for each cell, as plain Python values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.extras import (
    PLACES,
    Absolute,
    Cubes,
    Quartics,
    WholeSum,
    Zeros,
)
from gncli.kernels.moments import NOWHERE, Floats, Moments, merge, moved_by
from gncli.kernels.precision import AtMax, AtMin, Distinct, Losses, SmallestNonzero, Subnormal, ratio
from gncli.kernels.reduction import Tree
from gncli.kernels.twofold import two_product
from gncli.names import Value, casts, loss_of

T = TypeVar("T")
BASIC = ("mean", "std", "var", "min", "max", "nan", "posinf", "neginf")
SMALL = 2.0**-450  # below this variance, skewness and kurtosis are undefined, since fourth powers underflow


@np.errstate(all="ignore")
def finished(
    moments: Moments, dtype: np.dtype[Any], shape: tuple[int, ...], wanted: Collection[str] = (), ddof: int = 0
) -> Mapping[str, list[Value]]:
    """Return the statistics of each cell: the basic ones, and those of `wanted` that were measured.

    Parameters
    ----------
    moments : Moments
        The moments of each cell, 1-D and settled.
    dtype : numpy.dtype
        The dtype of the tensor; for integers, the extremes are integers.
    shape : tuple of int
        The shape of the tensor, for the index of each place.
    wanted : collection of str
        The names of further statistics, as ``--stat`` takes them.
    ddof : int
        Subtracted from the number of values in variance and deviation.

    Returns
    -------
    mapping of str to list
        One value per cell; None where it is undefined, infinity where it overflows float64.
    """
    defined = moments.n > 0
    whole = dtype.kind in "iub"
    columns: dict[str, list[Value]] = {
        "mean": _numbers(moments.mean, defined),
        "std": _numbers(moments.std(ddof)),
        "var": _numbers(moments.var(ddof)),
        "min": _extremes(moments.min, defined, whole),
        "max": _extremes(moments.max, defined, whole),
    }
    for kind in ("nan", "posinf", "neginf"):
        columns[kind] = moments.number(kind).astype(np.int64).tolist()
    if (zeros := moments.asked(Zeros)) is not None:
        columns["zeros"] = zeros.zeros.astype(np.int64).tolist()
    columns |= {name: make(moments) for name, make in FURTHER.items() if name in wanted}
    if "absmax" in wanted:
        columns["absmax"] = [_largest(low, high) for low, high in zip(columns["min"], columns["max"], strict=True)]
    columns |= _losses(moments, wanted)
    for extra in moments.extras:
        if isinstance(extra, PLACES):
            columns[extra._fields[0]] = _places(extra[0], shape)
    for record, (name, make) in OF_RECORD.items():
        if (found := moments.asked(record)) is not None:
            columns[name] = make(found)
    return columns


def _largest(low: Value, high: Value) -> Value:
    return max(abs(low), abs(high)) if isinstance(low, int | float) and isinstance(high, int | float) else None


def _losses(moments: Moments, wanted: Collection[str]) -> dict[str, list[Value]]:
    """Return what `wanted` names of the roundings that were measured."""
    measured = moments.asked(Losses)
    if measured is None:
        return {}
    of = dict(zip(casts(wanted), measured.every, strict=True))
    columns: dict[str, list[Value]] = {}
    for name, found in ((name, loss_of(name)) for name in wanted):
        if found is not None:
            cast, what = found
            loss = of[cast]
            columns[name] = _numbers(ratio(moments, loss)) if what == "snr" else _counts(getattr(loss, what))
    return columns


def _counts(values: Floats) -> list[Value]:
    return list(values.astype(np.int64).tolist())


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
    """Return the sum of the finite floats, from both halves of their mean; 0 where there are no values."""
    high, low = two_product(moments.n, moments.hi)
    low = np.where(np.isfinite(low), low, 0.0)
    sums = np.ldexp(high + (low + moments.n * moments.lo), _power(moments))
    return np.asarray(np.where(moments.n > 0, sums, 0.0))


def _sum(moments: Moments) -> list[Value]:
    whole = moments.asked(WholeSum)
    return _numbers(total(moments)) if whole is None else list(whole.sum.tolist())


def _norm1(moments: Moments) -> list[Value]:
    absolute = _there(moments.asked(Absolute))
    if absolute.l1.dtype == object:
        return list(absolute.l1.tolist())
    return _numbers(np.ldexp(absolute.l1, _power(moments)))


def norm2(moments: Moments) -> Floats:
    """Return the root of the sum of squares, correct even where the squares overflow or underflow."""
    if moments.min.dtype.kind in "iu":
        mean = np.where(moments.n > 0, moments.mean, 0.0)
        return np.asarray(np.hypot(np.sqrt(moments.m2), np.sqrt(moments.n) * mean))
    spread = np.hypot(np.sqrt(moments.m2), np.sqrt(moments.n) * (moments.hi + moments.lo))
    return np.asarray(np.ldexp(spread, _power(moments)))


def _root_mean_square(moments: Moments) -> list[Value]:
    """Return the root of the mean of squares, from the deviation and the mean; it overflows only if an element does."""
    n = np.maximum(moments.n, 1.0)
    mean = moments.mean if moments.min.dtype.kind in "iu" else moments.hi + moments.lo
    root = np.ldexp(np.hypot(np.sqrt(moments.m2 / n), mean), _power(moments))
    return _numbers(root, moments.n > 0)


def _zero_fraction(moments: Moments) -> list[Value]:
    values = moments.values
    return _numbers(_there(moments.asked(Zeros)).zeros / np.maximum(values, 1.0), values > 0)


def _smallest(found: SmallestNonzero) -> list[Value]:
    least = found.smallest_nonzero
    if least.dtype.kind == "u":
        return [None if less == 2**64 - 1 else less + 1 for less in least.tolist()]
    return _numbers(least, np.isfinite(least))


def _defined(moments: Moments) -> NDArray[np.bool_]:
    """Return where the variance is large enough to divide higher moments by."""
    return np.asarray((moments.m2 > 0) & (moments.m2 > SMALL * moments.n))


def skewness(moments: Moments) -> Floats:
    """Return m3 / m2^1.5, biased; NaN where it is undefined, such as for a constant."""
    record = moments.asked(Quartics) or _there(moments.asked(Cubes))
    m2 = np.where(_defined(moments), moments.m2, 1.0)
    return np.where(_defined(moments), np.sqrt(moments.n) * record.m3 / (m2 * np.sqrt(m2)), np.nan)


def kurtosis(moments: Moments) -> Floats:
    """Return m4 / m2^2 - 3, biased; NaN where it is undefined, such as for a constant."""
    record = _there(moments.asked(Quartics))
    m2 = np.where(_defined(moments), moments.m2, 1.0)
    return np.where(_defined(moments), moments.n * record.m4 / m2 / m2 - 3, np.nan)


def _there(record: T | None) -> T:
    assert record is not None  # a statistic is finished only if its record was measured
    return record


FURTHER: Mapping[str, Callable[[Moments], list[Value]]] = {
    "sum": _sum,
    "l1": _norm1,
    "l2": lambda moments: _numbers(norm2(moments)),
    "skewness": lambda moments: _numbers(skewness(moments)),
    "kurtosis": lambda moments: _numbers(kurtosis(moments)),
    "rms": _root_mean_square,
    "zero_fraction": _zero_fraction,
}
"""How each further statistic is computed from the moments."""

OF_RECORD: Mapping[type[Any], tuple[str, Callable[[Any], list[Value]]]] = {
    Subnormal: ("subnormal", lambda found: _counts(found.subnormal)),
    SmallestNonzero: ("smallest_nonzero", _smallest),
    AtMin: ("at_min", lambda found: _counts(found.at_min)),
    AtMax: ("at_max", lambda found: _counts(found.at_max)),
    Distinct: ("distinct", lambda found: [values.size for values in found.distinct.tolist()]),
}
"""The statistic that a record is kept for, and how it is computed."""


def pooled(parts: Sequence[tuple[Moments, np.dtype[Any]]]) -> tuple[Moments, np.dtype[Any]]:
    """Return the moments of several tensors together, without places, and their common dtype.

    Parameters
    ----------
    parts : sequence of (Moments, numpy.dtype)
        The moments of each tensor, of shape (1,), and the dtype of that tensor; at least one pair.
    """
    dtypes = {dtype.newbyteorder("=") for _, dtype in parts}
    left_out = PLACES if len(dtypes) == 1 else (*PLACES, SmallestNonzero, Distinct)
    every = [_without(moments, left_out) for moments, _ in parts]
    whole = all(dtype.kind in "iub" for dtype in dtypes)
    if len(dtypes) > 1:
        every = [_widened(moments, whole) for moments in every]
    tree = Tree(merge)
    for moments in every:
        tree.push(moments)
    total = tree.total()
    assert total is not None  # there is at least one
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.int64 if whole else np.float64)
    return total, dtype


def _widened(moments: Moments, whole: bool) -> Moments:
    """Return moments in the form that moments of floats have; sums of integers stay exact if `whole`."""
    if moments.min.dtype.kind in "iu":
        base = moments.min.astype(np.float64)
        rest = np.array(
            [int(exact) - int(near) for exact, near in zip(moments.min.tolist(), base.tolist(), strict=True)]
        )
        hi, lo = moved_by(base, moments.hi, moments.lo + rest.astype(np.float64))
        moments = moments._replace(hi=hi, lo=lo, min=base, max=moments.max.astype(np.float64))
    if whole:
        return moments
    floats = _without(moments, (WholeSum,))
    extras = (Absolute(e.l1.astype(np.float64)) if isinstance(e, Absolute) else e for e in floats.extras)
    return floats._replace(extras=tuple(extras))


def _without(moments: Moments, kinds: tuple[type[Any], ...]) -> Moments:
    return moments._replace(extras=tuple(extra for extra in moments.extras if not isinstance(extra, kinds)))
