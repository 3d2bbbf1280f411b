"""How a tensor uses its dtype, and what it loses where its elements are rounded to another one.

The records are measured block by block, and merged as those of `gncli.kernels.extras` are.

Notes
-----
An element is scaled and rounded once, from its exact value, so the counts are exact. With y the scaled elements that
are finite and do not overflow, and q(y) their roundings, the signal-to-noise ratio is 10 log10(Σ y² / Σ (y - q(y))²).
Both sums are of float64, in the order of the law of `gncli.kernels.plain`. Squares of elements below 2**-400 would
underflow: they are summed apart, times 2**1200, and count where there are no others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.exact import rounded
from gncli.kernels.floats import FLOATS
from gncli.kernels.moments import Floats, Moments, Union, is_wide_integer
from gncli.kernels.plain import LANES, counted, cuts, native_order, sums
from gncli.kernels.twofold import two_product, two_sum
from gncli.names import Cast

MOST_DISTINCT = 4096  # different values that are told apart in a set
MOST_DISTINCT_CELLS = 1 << 14  # that are open at once, with up to 32 KiB of values each
TINY = 2.0**-400
OVERFLOW, ZERO, SUBNORMAL = 1, 2, 3  # what a rounding makes of a value
LIFT = 600  # the power of two that tiny values are multiplied by before they are squared


class Subnormal(NamedTuple):
    """How many values are subnormal in their own dtype."""

    subnormal: Floats

    def merged(self, other: Subnormal, _union: Union) -> Subnormal:
        """Return the count of the unions."""
        return Subnormal(self.subnormal + other.subnormal)


class SmallestNonzero(NamedTuple):
    """The least |x| of values that are not 0; infinity where there is none. Of 64-bit integers it is |x| - 1."""

    smallest_nonzero: NDArray[Any]

    def merged(self, other: SmallestNonzero, _union: Union) -> SmallestNonzero:
        """Return the least of the unions."""
        return SmallestNonzero(np.minimum(self.smallest_nonzero, other.smallest_nonzero))


class AtMin(NamedTuple):
    """How many values equal the minimum."""

    at_min: Floats

    def merged(self, other: AtMin, union: Union) -> AtMin:
        """Return the count of the unions."""
        a, b = union.a.min, union.b.min
        return AtMin(np.where(a <= b, self.at_min, 0) + np.where(b <= a, other.at_min, 0))


class AtMax(NamedTuple):
    """How many values equal the maximum."""

    at_max: Floats

    def merged(self, other: AtMax, union: Union) -> AtMax:
        """Return the count of the unions."""
        a, b = union.a.max, union.b.max
        return AtMax(np.where(a >= b, self.at_max, 0) + np.where(b >= a, other.at_max, 0))


class Distinct(NamedTuple):
    """The different values of each set, in ascending order: the least `MOST_DISTINCT` of them."""

    distinct: NDArray[Any]

    def merged(self, other: Distinct, _union: Union) -> Distinct:
        """Return the different values of the unions."""
        both = zip(self.distinct.reshape(-1), other.distinct.reshape(-1), strict=True)
        return Distinct(_in_array([np.union1d(a, b)[:MOST_DISTINCT] for a, b in both], self.distinct.shape))


class Loss(NamedTuple):
    """What one rounding loses.

    Attributes
    ----------
    overflow, zero, subnormal : ndarray of float64
        How many values overflow; of those that are not 0, become 0; become subnormal.
    signal, noise : ndarray of float64
        The sums of squares of values that do not overflow, and of the errors of their roundings.
    low_signal, low_noise : ndarray of float64
        The same of values below `TINY`, times ``4**LIFT``.
    """

    overflow: Floats
    zero: Floats
    subnormal: Floats
    signal: Floats
    noise: Floats
    low_signal: Floats
    low_noise: Floats


class Losses(NamedTuple):
    """What each of several roundings loses, in the order of `gncli.names.casts`."""

    every: tuple[Loss, ...]

    def merged(self, other: Losses, _union: Union) -> Losses:
        """Return what is lost of the unions."""
        both = zip(self.every, other.every, strict=True)
        return Losses(tuple(Loss._make(a + b for a, b in zip(one, two, strict=True)) for one, two in both))


RECORDS = {
    "subnormal": Subnormal,
    "smallest_nonzero": SmallestNonzero,
    "at_min": AtMin,
    "at_max": AtMax,
    "distinct": Distinct,
}
"""The record behind each statistic; that of roundings is `Losses`."""


def nothing(kind: type[Any], dtype: np.dtype[Any], shape: tuple[int, ...], casts: Sequence[Cast]) -> Any:
    """Return the record of no values of `dtype`."""
    none = np.zeros(shape)
    if kind is Losses:
        return Losses(tuple(Loss._make([none] * len(Loss._fields)) for _ in casts))
    if kind is Distinct:
        return Distinct(_in_array([np.empty(0, dtype.newbyteorder("="))] * none.size, shape))
    if kind is SmallestNonzero:
        return SmallestNonzero(np.full(shape, _largest(dtype)))
    return kind(none)


def measured(kind: type[Any], values: NDArray[Any], moments: Moments, least: float, casts: Sequence[Cast]) -> Any:
    """Return the record of `values` along axis 1.

    Parameters
    ----------
    kind : type
        The kind of record.
    values : ndarray, shape (A, R) or (A, R, Q)
        The values, in any byte order; R is at least 1.
    moments : Moments, shape (A,) or (A, Q)
        Their moments.
    least : float
        The smallest normal number of their own dtype; 0 where no number is subnormal.
    casts : sequence of Cast
        The roundings of `Losses`.
    """
    values = native_order(values)
    if kind is Losses:
        return _losses(values, casts)
    if kind is Distinct:
        return Distinct(_in_array(_distinct(values), moments.n.shape))
    if kind is SmallestNonzero:
        return SmallestNonzero(_piecewise(values, lambda part, _: _smallest(part)))
    if kind is Subnormal:
        return Subnormal(_piecewise(values, lambda part, _: _subnormal(part, least)))
    extreme = moments.min if kind is AtMin else moments.max
    found = _piecewise(values, lambda part, sets: counted(part == extreme[sets][:, None]))
    return kind(np.where(moments.n > 0, found, 0.0))


def _piecewise(
    values: NDArray[Any], measure: Callable[[NDArray[Any], tuple[slice, ...]], NDArray[Any]]
) -> NDArray[Any]:
    """Return what `measure` finds of pieces of `values` that stay in the cache; it is told which sets these are."""
    pieces = [(cut, (cut[0], *cut[2:])) for cut in cuts(values.shape)]
    parts = [measure(values[cut], sets) for cut, sets in pieces]
    found = np.empty((*values.shape[:1], *values.shape[2:]), parts[0].dtype)
    for (_, sets), part in zip(pieces, parts, strict=True):
        found[sets] = part
    return found


def _losses(values: NDArray[Any], casts: Sequence[Cast]) -> Losses:
    if values.ndim == 2 and values.shape[1] < LANES:  # in columns, as `plain.moments` has them
        columns = _losses(values.T[None], casts)
        return Losses(tuple(Loss._make(field.reshape(-1) for field in one) for one in columns.every))
    shape = (*values.shape[:1], *values.shape[2:])
    every = [Loss._make(np.zeros(shape) for _ in Loss._fields) for _ in casts]
    for cut in cuts(values.shape):
        part = np.ascontiguousarray(values[cut])
        for whole, cast in zip(every, casts, strict=True):
            for field, found in zip(whole, _loss(part, cast), strict=True):
                field[(cut[0], *cut[2:])] = found
    return Losses(tuple(every))


def _largest(dtype: np.dtype[Any]) -> Any:
    return np.uint64(0xFFFFFFFFFFFFFFFF) if is_wide_integer(dtype) else np.inf


def _in_array(items: Sequence[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    found = np.empty(len(items), object)
    for at, item in enumerate(items):  # at once, NumPy would see one array of all of them
        found[at] = item
    return found.reshape(shape)


def _smallest(values: NDArray[Any]) -> NDArray[Any]:
    if is_wide_integer(values.dtype):
        size = np.where(values < 0, ~values, values - 1).view(np.uint64)  # |x| - 1, without overflow; of 0 the largest
        return np.asarray(np.where(values == 0, _largest(values.dtype), size).min(axis=1))
    wide = np.abs(values.astype(np.float64))
    return np.asarray(np.where(wide > 0, wide, np.inf).min(axis=1))  # NaN is not above 0


def _distinct(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the different finite values of each set, in ascending order."""
    rows = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
    if rows.dtype.kind == "f":
        rows = np.where(np.isfinite(rows), rows + rows.dtype.type(0), np.inf).astype(rows.dtype)  # -0.0 is 0.0
    rows = np.sort(rows, axis=1)
    new = np.ones(rows.shape, np.bool_)
    new[:, 1:] = rows[:, 1:] != rows[:, :-1]
    if rows.dtype.kind == "f":
        new &= rows < np.inf
    ends = np.cumsum(new.sum(axis=1))
    return [part[:MOST_DISTINCT] for part in np.split(rows[new], ends[:-1])]


def _subnormal(values: NDArray[Any], least: float) -> Floats:
    size = np.abs(values) if least else np.zeros(values.shape, np.bool_)
    return counted((size > 0) & (size < least))


def _loss(values: NDArray[Any], cast: Cast) -> Loss:
    """Return what is lost of `values` along axis 1; of dtypes of at most 16 bits, each number is rounded only once."""
    if values.dtype.itemsize > 2 or values.dtype.kind == "b":
        terms: Terms = _terms(values, cast)
    else:
        bits = values.view(f"u{values.dtype.itemsize}")
        terms = Terms._make(None if of is None else np.take(of, bits) for of in _table(values.dtype, cast))
    flags = (terms.lost == flag for flag in (OVERFLOW, ZERO, SUBNORMAL))
    none = np.zeros((*values.shape[:1], *values.shape[2:]))
    squares = (none if of is None else sums(of) for of in terms[1:])
    return Loss._make([*map(counted, flags), *squares])


class Terms(NamedTuple):
    """What each value adds to the fields of `Loss`.

    Attributes
    ----------
    lost : ndarray of uint8
        OVERFLOW, ZERO, SUBNORMAL, or 0.
    signal, noise, low_signal, low_noise : ndarray of float64
        The squares; None stands for zeros.
    """

    lost: NDArray[np.uint8]
    signal: Floats
    noise: Floats
    low_signal: Floats | None = None
    low_noise: Floats | None = None


@functools.lru_cache(maxsize=16)
def _table(dtype: np.dtype[Any], cast: Cast) -> Terms:
    """Return the terms of each number of a dtype of at most 16 bits, by its bits."""
    every = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
    return _terms(every, cast)


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def _terms(values: NDArray[Any], cast: Cast) -> Terms:
    made = FLOATS[cast.dtype]
    high, low = _widened(values)
    there, finite = high != 0, np.isfinite(high)
    if not finite.all():
        high = np.where(finite, high, 0.0)
    if cast.scale != 1:
        high, rest = two_product(high, np.float64(cast.scale))
        low = np.where(np.isfinite(rest), rest if low is None else low * cast.scale + rest, 0.0)
    narrow = np.empty(high.shape, made.dtype)
    if low is None:
        made.round_into(high, narrow)
    else:
        narrow = rounded(high.reshape(-1), low.reshape(-1), made).reshape(high.shape)
    found = narrow.astype(np.float64)
    error = high - found if low is None else (high - found) + low
    over = np.isinf(found)
    size = np.abs(found)
    lost = np.where(over, OVERFLOW, 0).astype(np.uint8)
    lost[(size == 0) & there & finite] = ZERO
    lost[(size > 0) & (size < made.least)] = SUBNORMAL
    if over.any():
        high, error = np.where(over, 0.0, high), np.where(over, 0.0, error)
    if values.dtype != np.float64:
        return Terms(lost, high * high, error * error)
    tiny = np.abs(high) < TINY
    lifted = [np.ldexp(np.where(tiny, part, 0.0), LIFT) for part in (high, error)]
    high, error = (np.where(tiny, 0.0, part) for part in (high, error))
    return Terms(lost, high * high, error * error, *(part * part for part in lifted))


def _widened(values: NDArray[Any]) -> tuple[Floats, Floats | None]:
    """Return values as unevaluated sums of two float64, exactly; None stands for zeros."""
    if not is_wide_integer(values.dtype):
        return values.astype(np.float64), None
    high, low = values >> np.array(32, values.dtype), values & np.array(0xFFFFFFFF, values.dtype)
    return two_sum(high.astype(np.float64) * 2.0**32, low.astype(np.float64))


def ratio(moments: Moments, loss: Loss) -> Floats:
    """Return the signal-to-noise ratio in dB; infinity where nothing is lost, NaN where no value is left."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [(loss.signal, loss.low_signal), (loss.noise, loss.low_noise)]
        signal, noise = (
            np.where(high > 0, np.log10(high), np.log10(low) - 2 * LIFT * np.log10(2.0)) for high, low in parts
        )
        found = np.where(np.isneginf(noise), np.inf, 10 * (signal - noise))
    return np.where(moments.n > loss.overflow, found, np.nan)
