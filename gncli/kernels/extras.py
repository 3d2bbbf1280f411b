"""Extras: what moments can tell beside mean and deviation, measured in the same pass, and only when asked for.

Notes
-----
Third and fourth moments are sums over the deviations from ``hi``, moved to the mean by its second half ``lo``, and
merged by Pébay (2008). Sums of integers are Python's own, so they are exact whatever the size. A place is the flat
index in C order, whatever the storage order, and of equal values the first one counts: what `np.argmin` says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.moments import NOWHERE, Floats, Moments, is_wide_integer, shifted
from gncli.kernels.scratch import room
from gncli.kernels.walk import SHORT

EXTRAS = frozenset({"skewness", "kurtosis", "sum", "l1", "argmin", "argmax", "first_nan", "first_inf"})
"""The statistics that need more than plain moments; the sum of floats needs no more than their mean."""

PIECE = 1 << 17  # elements worked on at a time: large calls, on scratch that stays in the cache (2**15 to 2**19 tried)


class Extras(NamedTuple):
    """What is wanted of a tensor.

    Attributes
    ----------
    names : frozenset of str
        Among `EXTRAS`.
    shape : tuple of int
        Of the tensor.
    order : {"C", "F"}
        How it is stored.
    """

    names: frozenset[str]
    shape: tuple[int, ...]
    order: str = "C"

    def nothing(self, moments: Moments, dtype: np.dtype[Any]) -> Moments:
        """Return `moments`, of no values of `dtype`, with what is wanted of them."""
        none = np.zeros(moments.n.shape)
        nowhere = np.full(moments.n.shape, NOWHERE)
        whole = none.astype(np.int64).astype(object) if _exact(dtype) else none
        wanted: dict[str, NDArray[Any]] = {"m3": none, "m4": none, "l1": whole, "sum": whole}
        wanted |= dict.fromkeys(("argmin", "argmax", "first_nan", "first_inf"), nowhere)
        return moments._replace(**{name: wanted[name] for name in self._fields_of(dtype)})

    def measure(self, values: NDArray[Any], moments: Moments, first: NDArray[np.int64], stride: int) -> Moments:
        """Return `moments` with what is wanted of `values` along axis 1.

        Parameters
        ----------
        values : ndarray, shape (A, R) or (A, R, Q)
            As for `moments.measure`.
        moments : Moments, shape (A,) or (A, Q)
            What that found of them.
        first : ndarray of int64, shape (A,) or (A, Q)
            The place in storage of the first value of each set.
        stride : int
            How far the next one is.
        """
        if values.ndim == 2 and values.shape[1] < SHORT:
            flat = self.measure(values.T[None], moments.reshape(1, -1), first.reshape(1, -1), stride)
            return flat.reshape(-1)
        if values.ndim == 3 and values.shape[2] == 1:  # as in `moments.measure`: NumPy sums a lone column differently
            twice = moments.each(lambda a: np.repeat(a, 2, axis=1))
            found = self.measure(np.repeat(values, 2, axis=2), twice, np.repeat(first, 2, axis=1), stride)
            return found.each(lambda a: a[:, :1])
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        found_: dict[str, NDArray[Any]] = {}
        step = max(1, PIECE // max(1, values[0].size))
        scratch = room(2 * min(step, values.shape[0]) * values[0].size).reshape(2, -1)
        for start in range(0, values.shape[0], step):
            rows = slice(start, start + step)
            piece = moments.each(lambda a, rows=rows: a[rows])  # type: ignore[misc]
            for name, array in self._piece(native[rows], piece, first[rows], stride, scratch).items():
                if name not in found_:
                    found_[name] = np.empty(first.shape, array.dtype)
                found_[name][rows] = array
        return moments._replace(**found_)

    def _fields_of(self, dtype: np.dtype[Any]) -> list[str]:
        """Return the fields of `Moments` that hold what is wanted."""
        fields: list[str] = [
            name for name in ("l1", "argmin", "argmax", "first_nan", "first_inf") if name in self.names
        ]
        if self.names & {"skewness", "kurtosis"}:
            fields.append("m3")
        if "kurtosis" in self.names:
            fields.append("m4")
        if "sum" in self.names and _exact(dtype):
            fields.append("sum")
        return fields

    def _piece(
        self, values: NDArray[Any], moments: Moments, first: NDArray[np.int64], stride: int, scratch: Floats
    ) -> dict[str, NDArray[Any]]:
        fields = self._fields_of(values.dtype)
        found: dict[str, NDArray[Any]] = {}
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
        """Return the first place in C order of each set where `which` is true; NOWHERE if none is."""
        places = np.full(first.shape, NOWHERE)
        if which is None:
            return places
        row, rank, *column = np.nonzero(which)
        sets = (row, *column)
        np.minimum.at(places, sets, self._in_c_order(first[sets] + rank * stride))
        return places

    def _in_c_order(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.order == "C" or len(self.shape) < 2:
            return places
        return np.asarray(np.ravel_multi_index(np.unravel_index(places, self.shape, order="F"), self.shape), np.int64)


def _exact(dtype: np.dtype[Any]) -> bool:
    """Return whether sums of `dtype` are integers."""
    return dtype.kind in "iub"


def _exact_sum(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of 64-bit integers along axis 1, as Python integers: of their upper and lower halves."""
    low = np.add.reduce(values & np.array(0xFFFFFFFF, values.dtype), axis=1)
    high = np.add.reduce(values >> np.array(32, values.dtype), axis=1)
    return np.asarray(high.astype(object) * (1 << 32) + low.astype(object))


def _dot(a: Floats, b: Floats) -> Floats:
    return np.vecdot(a, b) if a.ndim == 2 else np.asarray(np.einsum("arq,arq->aq", a, b))
