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
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.moments import NOWHERE, Extra, Floats, Moments, Union, counted, is_wide_integer, shifted
from gncli.kernels.reduction import Rows, each, in_c_order, reshape
from gncli.kernels.scratch import room
from gncli.kernels.walk import SHORT

PIECE = 1 << 17  # elements worked on at a time: large calls, on scratch that stays in the cache (2**15 to 2**19 tried)


class Zeros(NamedTuple):
    """How many values are zero."""

    zeros: Floats

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

    def merged(self, other: FirstNaN, _union: Union) -> FirstNaN:
        """Return the place in the unions."""
        return FirstNaN(np.minimum(self.first_nan, other.first_nan))


class FirstInfinity(NamedTuple):
    """Where the first infinity is: the first place in C order, or `NOWHERE`."""

    first_inf: NDArray[np.int64]

    def merged(self, other: FirstInfinity, _union: Union) -> FirstInfinity:
        """Return the place in the unions."""
        return FirstInfinity(np.minimum(self.first_inf, other.first_inf))


RECORDS: Mapping[str, type[Any]] = {
    "zeros": Zeros,
    "skewness": Cubes,
    "kurtosis": Quartics,
    "l1": Absolute,
    "sum": WholeSum,
    "argmin": ArgMin,
    "argmax": ArgMax,
    "first_nan": FirstNaN,
    "first_inf": FirstInfinity,
}
"""The record behind each statistic that needs more than plain moments."""

PLACES = (ArgMin, ArgMax, FirstNaN, FirstInfinity)
"""The records that hold places; a place has no meaning outside its tensor."""


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
        The statistics, among the keys of `RECORDS`.
    shape : tuple of int
        The shape of the tensor, for its places.
    order : {"C", "F"}
        The storage order of the tensor; "F" where its first axis runs fastest.
    """

    names: frozenset[str]
    shape: tuple[int, ...]
    order: str = "C"

    def nothing(self, moments: Moments, dtype: np.dtype[Any]) -> Moments:
        """Return `moments`, which are those of no values, with the extras of no values of `dtype`."""
        none = np.zeros(moments.n.shape)
        nowhere = np.full(moments.n.shape, NOWHERE)
        whole = none.astype(np.int64).astype(object) if _exact(dtype) else none
        arrays: dict[str, NDArray[Any]] = {"zeros": none, "m3": none, "m4": none, "l1": whole, "sum": whole}
        arrays |= dict.fromkeys(("argmin", "argmax", "first_nan", "first_inf"), nowhere)
        return self._joined(moments, dtype, arrays)

    def measure(self, rows: Rows, values: NDArray[Any], moments: Moments) -> Moments:
        """Return `moments` with the extras of `values`, the elements of `rows`."""
        placed = not self.names.isdisjoint(("argmin", "argmax", "first_nan", "first_inf"))
        first = rows.places() if placed else np.broadcast_to(NOWHERE, moments.n.shape)
        return self.of_blocks(values, moments, first, rows.stride)

    def of_blocks(self, values: NDArray[Any], moments: Moments, first: NDArray[np.int64], stride: int) -> Moments:
        """Return `moments` with the extras of `values` along axis 1.

        Parameters
        ----------
        values : ndarray, shape (A, R) or (A, R, Q)
            The values, as `moments.measure` takes them.
        moments : Moments, shape (A,) or (A, Q)
            The moments of these values.
        first : ndarray of int64, shape (A,) or (A, Q)
            The storage index of the first value of each set.
        stride : int
            The distance in storage between neighbours along axis 1, in elements.
        """
        if values.ndim == 2 and values.shape[1] < SHORT:
            flat = self.of_blocks(values.T[None], reshape(moments, 1, -1), first.reshape(1, -1), stride)
            return reshape(flat, -1)
        if values.ndim == 3 and values.shape[2] == 1:  # as in `moments.measure`: NumPy sums a lone column differently
            twice = each(moments, lambda a: np.repeat(a, 2, axis=1))
            both = self.of_blocks(np.repeat(values, 2, axis=2), twice, np.repeat(first, 2, axis=1), stride)
            return each(both, lambda a: a[:, :1])
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        arrays: dict[str, NDArray[Any]] = {}
        step = max(1, PIECE // max(1, values[0].size))
        scratch = room(2 * min(step, values.shape[0]) * values[0].size).reshape(2, -1)
        for start in range(0, values.shape[0], step):
            rows = slice(start, start + step)
            piece = each(moments, itemgetter(rows))
            for name, array in self._piece(native[rows], piece, first[rows], stride, scratch).items():
                if name not in arrays:
                    arrays[name] = np.empty(first.shape, array.dtype)
                arrays[name][rows] = array
        return self._joined(moments, native.dtype, arrays)

    def _records(self, dtype: np.dtype[Any]) -> list[type[Any]]:
        """Return the kinds of records to measure for values of `dtype`."""
        passed_over = set() if _exact(dtype) else {"sum"}
        if "kurtosis" in self.names:
            passed_over.add("skewness")  # the record of kurtosis contains it
        return [kind for name, kind in RECORDS.items() if name in self.names - passed_over]

    def _joined(self, moments: Moments, dtype: np.dtype[Any], arrays: Mapping[str, NDArray[Any]]) -> Moments:
        records: list[Extra] = [kind._make(arrays[field] for field in kind._fields) for kind in self._records(dtype)]
        return moments._replace(extras=tuple(records))

    def _piece(
        self, values: NDArray[Any], moments: Moments, first: NDArray[np.int64], stride: int, scratch: Floats
    ) -> dict[str, NDArray[Any]]:
        fields = [field for kind in self._records(values.dtype) for field in kind._fields]
        found: dict[str, NDArray[Any]] = {}
        if "zeros" in fields:
            found["zeros"] = counted(values == 0)
        finite = None if values.dtype.kind != "f" or moments.finite.all() else np.isfinite(values)
        if {"m3", "m4", "l1", "sum"} & set(fields):
            found |= self._sums(values, moments, finite, fields, scratch)
        for name in ("argmin", "argmax"):
            if name in fields:
                extreme, pick = (moments.min, np.argmin) if name == "argmin" else (moments.max, np.argmax)
                if self.order == "C" and finite is None:
                    found[name] = first + pick(values, axis=1) * stride
                else:
                    which = values == extreme[:, None]
                    found[name] = self._first(which if finite is None else which & finite, first, stride)
        if "first_nan" in fields:
            found["first_nan"] = self._first(None if finite is None else np.isnan(values), first, stride)
        if "first_inf" in fields:
            found["first_inf"] = self._first(None if finite is None else np.isinf(values), first, stride)
        return found

    def _sums(
        self,
        values: NDArray[Any],
        moments: Moments,
        finite: NDArray[np.bool_] | None,
        fields: list[str],
        scratch: Floats,
    ) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        wide_integer = is_wide_integer(values.dtype)
        if wide_integer:
            if "sum" in fields:
                found["sum"] = _exact_sum(values)
            if "l1" in fields:
                found["l1"] = _exact_sum(np.abs(values).view(np.uint64))
            if not {"m3", "m4"} & set(fields):
                return found
            wide = shifted(values, moments.min[:, None])
        else:
            wide = scratch[0, : values.size].reshape(values.shape)
            np.copyto(wide, values)
        if finite is not None:
            wide[~finite] = 0.0
        if moments.power is not None:
            np.ldexp(wide, -moments.power[:, None], out=wide)
        other = scratch[1, : values.size].reshape(values.shape)
        if not wide_integer:
            whole = _exact(values.dtype)  # then these sums are exact: fewer than 2**14 values of at most 32 bits
            if "sum" in fields:
                found["sum"] = np.add.reduce(wide, axis=1).astype(np.int64).astype(object)
            if "l1" in fields:
                total = np.add.reduce(np.abs(wide, out=other), axis=1)
                found["l1"] = total.astype(np.int64).astype(object) if whole else total
        if "m3" in fields:
            hi, lo, n = moments.hi, moments.lo, moments.n
            np.subtract(wide, hi[:, None], out=wide)
            if finite is not None:
                wide[~finite] = 0.0
            np.multiply(wide, wide, out=other)
            square, cube = moments.m2 + n * lo * lo, _dot(other, wide)
            found["m3"] = cube - 3 * lo * square + 2 * n * lo**3
            if "m4" in fields:
                found["m4"] = _dot(other, other) - 4 * lo * cube + 6 * lo * lo * square - 3 * n * lo**4
        return found

    def _first(self, which: NDArray[np.bool_] | None, first: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
        """Return the first place in C order, per set, where `which` is true; NOWHERE if it is true nowhere."""
        places = np.full(first.shape, NOWHERE)
        if which is None:
            return places
        row, rank, *column = np.nonzero(which)
        sets = (row, *column)
        np.minimum.at(places, sets, in_c_order(first[sets] + rank * stride, self.shape, self.order))
        return places


def _exact(dtype: np.dtype[Any]) -> bool:
    """Return whether sums of `dtype` are integers."""
    return dtype.kind in "iub"


def _exact_sum(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of 64-bit integers along axis 1 as Python integers, from their upper and lower halves."""
    low = np.add.reduce(values & np.array(0xFFFFFFFF, values.dtype), axis=1)
    high = np.add.reduce(values >> np.array(32, values.dtype), axis=1)
    return np.asarray(high.astype(object) * (1 << 32) + low.astype(object))


def _dot(a: Floats, b: Floats) -> Floats:
    return np.vecdot(a, b) if a.ndim == 2 else np.asarray(np.einsum("arq,arq->aq", a, b))
