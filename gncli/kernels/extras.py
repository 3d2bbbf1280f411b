"""Extra statistics that the pass over the moments measures too, each only if it is requested.

A statistic costs one record here (its fields, and how two of them are merged), the lines that measure it, its row in
`RECORDS`, the line that finishes it in `gncli.kernels.finish`, and its row in `gncli.names`.

Notes
-----
Third and fourth moments are sums over the deviations from ``hi``, moved to the mean by its second half ``lo``, and
merged by Pébay (2008). Sums of integers are Python integers, so they are always exact. A place is the flat index in
C order, in every storage order. Among equal values the first one counts, as for `np.argmin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels import precision
from gncli.kernels.moments import NOWHERE, Extra, Floats, Moments, Union, is_wide_integer
from gncli.kernels.plain import native_order
from gncli.kernels.reduction import Rows, Visit, in_c_order
from gncli.names import casts, loss_of


class Zeros(NamedTuple):
    """How many values are zero."""

    zeros: Floats

    @property
    def union(self) -> np.ufunc:
        """What merges the field of any number of records: see `moments.fold`."""
        return np.add

    def merged(self, other: Zeros, _union: Union) -> Zeros:
        """Return the count of the unions."""
        return Zeros(self.zeros + other.zeros)


class Cubes(NamedTuple):
    """The sum of third powers of deviations from the mean, over ``8**power``."""

    m3: Floats

    def merged(self, other: Cubes, union: Union) -> Cubes:
        """Return the sum of the unions (Pébay 2008)."""
        return Cubes(_third(self.m3, other.m3, union))


class Quartics(NamedTuple):
    """The sums of third and fourth powers of deviations from the mean, over ``8**power`` and ``16**power``."""

    m3: Floats
    m4: Floats

    def merged(self, other: Quartics, union: Union) -> Quartics:
        """Return the sums of the unions (Pébay 2008)."""
        a, b, delta, p, q = _shares(union)
        a_m3, b_m3 = _scaled(self.m3, 3 * union.down), _scaled(other.m3, 3 * union.up)
        fourth = delta**4 * (a.n * q * (p * p - p * q + q * q))
        second = 6 * delta * delta * (p * p * b.m2 + q * q * a.m2)
        both = _scaled(self.m4, 4 * union.down) + _scaled(other.m4, 4 * union.up)
        m4 = both + fourth + second + 4 * delta * (p * b_m3 - q * a_m3)
        return Quartics(_third(self.m3, other.m3, union), m4)


class Absolute(NamedTuple):
    """The sum of absolute values, over ``2**power``; for integers it is a Python integer."""

    l1: NDArray[Any]

    def merged(self, other: Absolute, union: Union) -> Absolute:
        """Return the sum of the unions."""
        return Absolute(_scaled(self.l1, union.down) + _scaled(other.l1, union.up))


class WholeSum(NamedTuple):
    """The sum of integers, as Python integers; the sum of floats follows from their moments."""

    sum: NDArray[Any]

    def merged(self, other: WholeSum, _union: Union) -> WholeSum:
        """Return the sum of the unions."""
        return WholeSum(self.sum + other.sum)


class ArgMin(NamedTuple):
    """Where the minimum is: the first place in C order, or `NOWHERE`."""

    argmin: NDArray[np.int64]

    def merged(self, other: ArgMin, union: Union) -> ArgMin:
        """Return the place in the unions."""
        a, b = union.a.min, union.b.min
        return ArgMin(_nearer(a < b, a > b, self.argmin, other.argmin))


class ArgMax(NamedTuple):
    """Where the maximum is: the first place in C order, or `NOWHERE`."""

    argmax: NDArray[np.int64]

    def merged(self, other: ArgMax, union: Union) -> ArgMax:
        """Return the place in the unions."""
        a, b = union.a.max, union.b.max
        return ArgMax(_nearer(a > b, a < b, self.argmax, other.argmax))


class FirstNaN(NamedTuple):
    """Where the first NaN is: the first place in C order, or `NOWHERE`."""

    first_nan: NDArray[np.int64]

    @property
    def union(self) -> np.ufunc:
        """What merges the field of any number of records: see `moments.fold`."""
        return np.minimum

    def merged(self, other: FirstNaN, _union: Union) -> FirstNaN:
        """Return the place in the unions."""
        return FirstNaN(np.minimum(self.first_nan, other.first_nan))


class FirstInfinity(NamedTuple):
    """Where the first infinity is: the first place in C order, or `NOWHERE`."""

    first_inf: NDArray[np.int64]

    @property
    def union(self) -> np.ufunc:
        """What merges the field of any number of records: see `moments.fold`."""
        return np.minimum

    def merged(self, other: FirstInfinity, _union: Union) -> FirstInfinity:
        """Return the place in the unions."""
        return FirstInfinity(np.minimum(self.first_inf, other.first_inf))


RECORDS: Mapping[str, type[Any]] = {
    "zeros": Zeros,
    "zero_fraction": Zeros,
    "skewness": Cubes,
    "kurtosis": Quartics,
    "l1": Absolute,
    "sum": WholeSum,
    "argmin": ArgMin,
    "argmax": ArgMax,
    "first_nan": FirstNaN,
    "first_inf": FirstInfinity,
    **precision.RECORDS,
}
"""The record behind each statistic that needs more than plain moments."""

PLACES = (ArgMin, ArgMax, FirstNaN, FirstInfinity)
"""The records that hold places; a place has no meaning outside its tensor."""


def is_extra(name: str) -> bool:
    """Return whether a statistic needs a record of its own."""
    return name in RECORDS or loss_of(name) is not None


def _shares(union: Union) -> tuple[Moments, Moments, Floats, Floats, Floats]:
    n = np.maximum(union.n, 1.0)
    return union.a, union.b, union.delta, union.a.n / n, union.b.n / n


def _third(left: Floats, right: Floats, union: Union) -> Floats:
    a, b, delta, p, q = _shares(union)
    both = _scaled(left, 3 * union.down) + _scaled(right, 3 * union.up)
    return np.asarray(both + delta**3 * (a.n * q * (p - q)) + 3 * delta * (p * b.m2 - q * a.m2))


def _scaled(values: NDArray[Any], power: Any) -> NDArray[Any]:
    return np.ldexp(values, power) if isinstance(power, np.ndarray) else values


def _nearer(
    ahead: NDArray[np.bool_], behind: NDArray[np.bool_], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    return np.where(ahead, left, np.where(behind, right, np.minimum(left, right)))


class Extras(NamedTuple):
    """The extra statistics that are requested of a tensor.

    Attributes
    ----------
    names : frozenset of str
        The statistics, among the keys of `RECORDS`, or of a rounding: those that `is_extra` knows.
    shape : tuple of int
        The shape of the tensor, for its places.
    order : {"C", "F"}
        The storage order of the tensor; "F" where its first axis runs fastest.
    least : float
        The smallest normal number of its dtype; 0 where no number is subnormal.
    """

    names: frozenset[str]
    shape: tuple[int, ...]
    order: str = "C"
    least: float = 0.0

    def nothing(self, moments: Moments, dtype: np.dtype[Any]) -> Moments:
        """Return `moments`, which are those of no values, with the extras of no values of `dtype`."""
        none = np.zeros(moments.n.shape)
        nowhere = np.full(moments.n.shape, NOWHERE)
        whole = none.astype(np.int64).astype(object) if _exact(dtype) else none
        arrays: dict[str, Any] = {"zeros": none, "m3": none, "m4": none, "l1": whole, "sum": whole}
        arrays |= dict.fromkeys(("argmin", "argmax", "first_nan", "first_inf"), nowhere)
        for kind in self._precise(dtype):
            arrays |= precision.nothing(kind, dtype, moments.n.shape, casts(self.names))._asdict()
        return self._joined(moments, dtype, arrays)

    def sums(self, dtype: np.dtype[Any]) -> list[str]:
        """Return what `plain.moments` measures for them; sums of 64-bit integers are taken apart, exactly."""
        apart = self._precise(dtype)
        fields = [field for kind in self._records(dtype) if kind not in apart for field in kind._fields]
        alone = ("sum", "l1") if is_wide_integer(dtype) else ()
        return [_SUMS.get(field, field) for field in fields if field not in alone]

    def of_visit(self, _visit: Visit, moments: Moments) -> Moments:
        """Return `moments`: all extras are measured block by block."""
        return moments

    def finish(self, rows: Rows, values: NDArray[Any], found: Mapping[str, NDArray[Any]], moments: Moments) -> Moments:
        """Return `moments` with their extras.

        Parameters
        ----------
        rows : Rows
            The blocks.
        values : ndarray, shape (A, R) or (A, R, Q)
            Their elements.
        found : mapping of str to ndarray
            What `plain.moments` measured of them.
        moments : Moments, shape (A,) or (A, Q)
            Their moments.
        """
        apart = self._precise(values.dtype)
        arrays: dict[str, Any] = {}
        for kind in apart:
            arrays |= precision.measured(kind, values, moments, self.least, casts(self.names))._asdict()
        others = [kind for kind in self._records(values.dtype) if kind not in apart]
        for field in (field for kind in others for field in kind._fields):
            if field in ("argmin", "argmax", "first_nan", "first_inf"):
                arrays[field] = self._places(field, rows, values, found[field], moments)
            elif field in ("sum", "l1") and is_wide_integer(values.dtype):
                native = native_order(values)
                arrays[field] = _exact_sum(native if field == "sum" else np.abs(native).view(np.uint64))
            elif field in ("sum", "l1") and _exact(values.dtype):  # fewer than 2**14 values of at most 32 bits
                arrays[field] = found[_SUMS.get(field, field)].astype(np.int64).astype(object)
            elif field in ("m3", "m4"):
                arrays[field] = _about_mean(field, found, moments)
            else:
                arrays[field] = found[field]
        return self._joined(moments, values.dtype, arrays)

    def _records(self, dtype: np.dtype[Any]) -> list[type[Any]]:
        """Return the kinds of records to measure for values of `dtype`."""
        passed_over = set() if _exact(dtype) else {"sum"}
        if "kurtosis" in self.names:
            passed_over.add("skewness")  # the record of kurtosis contains it
        found = [kind for name, kind in RECORDS.items() if name in self.names - passed_over]
        found += [precision.Losses] if casts(self.names) else []
        return list(dict.fromkeys(found))

    def _precise(self, dtype: np.dtype[Any]) -> list[type[Any]]:
        """Return those of them that `gncli.kernels.precision` measures."""
        kinds = (*precision.RECORDS.values(), precision.Losses)
        return [kind for kind in self._records(dtype) if kind in kinds]

    def _joined(self, moments: Moments, dtype: np.dtype[Any], arrays: Mapping[str, Any]) -> Moments:
        records: list[Extra] = [kind._make(arrays[field] for field in kind._fields) for kind in self._records(dtype)]
        return moments._replace(extras=tuple(records))

    def _places(
        self, name: str, rows: Rows, values: NDArray[Any], ranks: NDArray[np.int64], moments: Moments
    ) -> NDArray[np.int64]:
        """Return the first place of each block in C order, from its rank; `NOWHERE` where there is none."""
        first, stride = rows.places(), rows.stride
        if self.order == "C" or not (ranks >= 0).any():
            return np.where(ranks < 0, NOWHERE, first + ranks * stride)
        if name in ("argmin", "argmax"):
            extreme = moments.min if name == "argmin" else moments.max
            which = (values == extreme[:, None]) & np.isfinite(values)
        else:
            which = np.isnan(values) if name == "first_nan" else np.isinf(values)
        row, rank, *column = np.nonzero(which)
        sets, places = (row, *column), np.full(first.shape, NOWHERE)
        np.minimum.at(places, sets, in_c_order(first[sets] + rank * stride, self.shape, self.order))
        return places


_SUMS = {"m3": "cube", "m4": "fourth", "sum": "total"}


def _about_mean(field: str, found: Mapping[str, NDArray[Any]], moments: Moments) -> Floats:
    """Return the sum of third or fourth powers of deviations from the mean, from those of deviations from ``hi``."""
    lo, n, square, cube = moments.lo, moments.n, found["square"], found["cube"]
    if field == "m3":
        return np.asarray(cube - 3 * lo * square + 2 * n * lo**3)
    return np.asarray(found["fourth"] - 4 * lo * cube + 6 * lo * lo * square - 3 * n * lo**4)


def _exact(dtype: np.dtype[Any]) -> bool:
    """Return whether sums of `dtype` are integers."""
    return dtype.kind in "iub"


def _exact_sum(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of 64-bit integers along axis 1 as Python integers, from their upper and lower halves."""
    low = np.add.reduce(values & np.array(0xFFFFFFFF, values.dtype), axis=1)
    high = np.add.reduce(values >> np.array(32, values.dtype), axis=1)
    return np.asarray(high.astype(object) * (1 << 32) + low.astype(object))
