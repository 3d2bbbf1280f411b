"""The loops of `gncli.kernels.plain` in C, called by ctypes, which releases the interpreter's lock."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.kernels import plain
from gncli.kernels.floats import Float
from gncli.kernels.plain import (
    Affine,
    Blocks,
    Factors,
    Floats,
    Gradient,
    GradientInTwo,
    Integers,
    MappedGradient,
    Reals,
    Standard,
    Standardization,
    Tolerance,
    Verified,
    num_steps,
)
from gncli.kernels.scratch import room
from gncli.names import ACTIVATIONS

_SOURCES = tuple(__file__.removesuffix("native.py") + name for name in ("native.c", "build.py"))
LIBRARY = __file__.removesuffix("native.py") + "native.bin"  # `build` puts it there

_SELDOM = ("nan", "posinf", "neginf", "power", "odd")  # what `moments` writes where a value is not ordinary
PLACES = frozenset(("argmin", "argmax", "first_nan", "first_inf"))
BODIES = ("baseline", "avx2", "avx512")
"""The instruction sets that `native.c` is compiled for, the widest last."""

DTYPES = {kind: number for number, kind in enumerate("b1 i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split())}
"""The number of each dtype in `native.c`."""

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_ssize_t
_address: Callable[[Any], int] = ctypes.addressof
_byte: Callable[[Any], Any] = ctypes.c_char.from_buffer
_SUMS = ("total", "square", "product", "a_square", "b_square")
_TALLIED = ("n", "nan", "inf", "outside", *_SUMS, "low", "high", "worst", "excess")
_RUN = 1 << 14  # elements of z that are measured at once: they stay in the cache
_OPEN = 1 << 12  # open elements of a visit that there is room for at first
_scratch: list[tuple[NDArray[Any], int]] = []  # as many as calls of `moments` ran at once
_zeros: list[Floats] = []  # as many; a row for each of `_SELDOM`, which most calls leave as it is
_LONGEST = 8192  # elements of a block, which is what the scratch of `moments` holds


class _Moments(ctypes.Structure):
    """``struct moments`` of `native.c`."""

    _fields_ = [
        ("values", _POINTER),
        *((name, _SIZE) for name in ("sets", "rows", "columns", "set_stride", "row_stride")),
        *((name, ctypes.c_int64) for name in ("dtype", "swapped", "about_zero")),
        ("by", _POINTER),
        ("by_stride", _SIZE),
        ("by_dtype", ctypes.c_int64),
        ("scratch", _POINTER),
        *((name, _POINTER) for name in ("n", "hi", "lo", "m2", "square", "least", "most", "nan", "posinf", "neginf")),
        *((name, _POINTER) for name in ("power", "zeros", "total", "l1", "cube", "fourth")),
        *((name, _POINTER) for name in ("argmin", "argmax", "first_nan", "first_inf", "odd")),
    ]


class _Limbs(ctypes.Structure):
    """``struct limbs`` of `native.c`."""

    _fields_ = [
        ("values", _POINTER),
        *((name, _SIZE) for name in ("sets", "rows", "columns", "set_stride", "row_stride")),
        *((name, ctypes.c_int64) for name in ("dtype", "swapped")),
        *((name, _POINTER) for name in ("scratch", "center", "unit", "sums", "late")),
    ]


_Sets = _POINTER * 8
"""``struct sets`` of `native.c`."""


class _Tally(ctypes.Structure):
    """``struct tally`` of `native.c`."""

    _fields_ = [
        ("values", _POINTER * 2),
        *((name, _SIZE) for name in ("sets", "rows", "columns")),
        ("set_stride", _SIZE * 2),
        ("row_stride", _SIZE * 2),
        ("dtype", ctypes.c_int64 * 2),
        ("swapped", ctypes.c_int64 * 2),
        ("nan_differs", ctypes.c_int64),
        ("rtol", ctypes.c_double),
        ("atol", ctypes.c_double),
        ("scratch", _POINTER),
        *((name, _POINTER) for name in (*_TALLIED, "rank", "first", "power", "a_power", "b_power")),
    ]


_LANES = 4  # counts of one slot, so that equal neighbours need not wait for each other


class _Map(ctypes.Structure):
    """``struct map`` of `native.c`."""

    _fields_ = [
        ("values", _POINTER),
        *((name, ctypes.c_int64) for name in ("dtype", "swapped", "made", "checked")),
        *((name, ctypes.c_double) for name in ("least", "shift", "largest", "beyond", "limit")),
        *((name, _SIZE) for name in ("num_x", "length", "width")),
        *((name, _POINTER) for name in ("hi", "lo", "rstd", "slope", "offset", "tail", "rest", "base")),
        *((name, _POINTER) for name in ("gamma", "beta", "gamma_rest")),
        *((name, _SIZE) for name in ("channels", "inner", "start")),
        *((name, ctypes.c_int64) for name in ("rounds", "loses", "activation")),
        *((name, _POINTER) for name in ("z", "y", "open")),
        ("room", _SIZE),
        *((name, ctypes.c_int64) for name in ("wrong", "zeros")),
    ]


_ELEMENTS = (_POINTER, _SIZE, _SIZE, _SIZE)  # see `_elements`
_CELLS = (_POINTER, _SIZE, _SIZE, _SIZE)  # see `_cells`
_PRODUCT = (_POINTER, ctypes.c_int64, _POINTER, ctypes.c_int64)  # see `_factor`
_ARGUMENTS = {
    "moments": (ctypes.POINTER(_Moments),),
    "bounds": (*(_POINTER,) * 5, _SIZE, ctypes.c_double, _SIZE, _POINTER, _POINTER),
    "ratios": (*(_POINTER,) * 6, _SIZE, _SIZE, ctypes.c_double, _POINTER),
    "pool": (ctypes.POINTER(_Sets), ctypes.POINTER(_Sets), _SIZE, _SIZE, _SIZE),
    "digits": (_POINTER, _SIZE, _SIZE, _SIZE, _POINTER),
    "column_digits": (_POINTER, _SIZE, _SIZE, _SIZE, _SIZE, _POINTER, _POINTER),
    "limbs": (ctypes.POINTER(_Limbs),),
    "normalize": (ctypes.POINTER(_Map),),
    "tally": (ctypes.POINTER(_Tally),),
    "ulps": (_POINTER, _POINTER, _SIZE, _SIZE, _SIZE, _SIZE, _POINTER, _POINTER),
    "verify": (ctypes.POINTER(_Map), ctypes.POINTER(_Moments), _SIZE, _SIZE),
    "audit": (ctypes.POINTER(_Map),),
    "standardize_in_two": (ctypes.POINTER(_Map),),
    "multiply_in_two": (_POINTER, _POINTER, _POINTER, _POINTER, _SIZE, _POINTER, _POINTER),
    "gradient_in_two": (*(_POINTER,) * 4, _SIZE, _SIZE, _SIZE, _POINTER, _POINTER, _POINTER),
    "derivative_in_two": (ctypes.c_int64, _POINTER, _POINTER, _POINTER, _SIZE),
    "gradient": (ctypes.POINTER(_Map), *_PRODUCT, _POINTER, _POINTER, *(ctypes.POINTER(_Moments),) * 2, _SIZE, _SIZE),
    "derivative": (ctypes.c_int64, _POINTER, _POINTER, _SIZE),
    "slopes": (*(_POINTER,) * 4, _SIZE, _SIZE, _POINTER, ctypes.c_int64, *(_POINTER,) * 3),
    "largest": (*_PRODUCT, _SIZE),
    "levels": (*_PRODUCT, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _POINTER),
    "between": (*_ELEMENTS, _POINTER, _POINTER, _SIZE, _POINTER),
    "steps": (*_ELEMENTS, *_CELLS, _POINTER, _SIZE, _SIZE),
    "steps_on_paths": (*_ELEMENTS, *_CELLS, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER),
    "fletcher32": (_POINTER, _SIZE, _POINTER),
    "unshuffle": (_POINTER, _POINTER, _SIZE, _SIZE),
    "narrow": (_POINTER, _SIZE, _POINTER, _POINTER),
}

_COUNTING = ("normalize", "verify", "gradient", "levels")  # which return how many they name, or whether any is left
_RESULTS: dict[str, Any] = {"largest": ctypes.c_double, **dict.fromkeys(_COUNTING, ctypes.c_int64)}


class Native:
    """The loops of one body.

    Parameters
    ----------
    body : str
        One of `bodies`.
    """

    def __init__(self, body: str) -> None:
        self.name = body
        library = _library()
        assert library is not None  # there are no bodies without it
        self._call = {}
        for name, arguments in _ARGUMENTS.items():
            function = getattr(library, f"{name}_{body}")
            function.argtypes, function.restype = arguments, _RESULTS.get(name)
            self._call[name] = function

    def moments(
        self, values: NDArray[Any], about_zero: bool = False, wanted: Collection[str] = (), by: Reals | None = None
    ) -> Mapping[str, NDArray[Any]]:
        """See `plain.moments`; with extras of 64-bit integers it is what runs."""
        if by is not None and (values.ndim == 3 or values.shape[1] < plain.LANES or by.strides[1] != by.itemsize):
            values, by = np.multiply(values, by), None
        dtype = values.dtype
        wide_integer = dtype.kind in "iu" and dtype.itemsize == 8
        columns = values.shape[2] if values.ndim == 3 else 0
        if (wide_integer and wanted) or values.shape[1] > (256 if columns else _LONGEST) or not values.size:
            return plain.moments(values, about_zero, wanted, by)
        if values.strides[-1] != dtype.itemsize:
            values = np.ascontiguousarray(values)
        task = _Moments(
            values=_at(values),
            sets=values.shape[0],
            rows=values.shape[1],
            set_stride=values.strides[0],
            row_stride=values.strides[1],
            swapped=not dtype.isnative,
            about_zero=about_zero,
            **({} if by is None else {"by": _at(by), "by_stride": by.strides[0], "by_dtype": _number(by.dtype)}),
        )
        sets = _Found(task, dtype, (*values.shape[:1], *values.shape[2:]), columns, wanted)
        self._call["moments"](ctypes.byref(task))
        return sets.found()

    def bounds(self, n: Floats, lo: Floats, m2: Floats, added: Floats, part: float, lost: Floats | None) -> Floats:
        """See `plain.bounds`."""
        given = [None if array is None else np.ascontiguousarray(array) for array in (n, lo, m2, lost)]
        added = np.ascontiguousarray(np.broadcast_to(added, n.shape) if added.size > 1 else added)
        found = np.empty((2, *n.shape))
        pointers = (None if array is None else _at(array) for array in given)
        self._call["bounds"](*pointers, _at(added), added.size > 1, part, n.size, *_rows(found))
        return found

    def ratios(
        self, expected: Floats, shift: Floats, mean: Floats, var: Floats, summed: Floats, u: float, s: Floats
    ) -> tuple[float, float]:
        """See `plain.ratios`."""
        given = [np.ascontiguousarray(array) for array in (expected, shift, mean, var, summed, s)]
        found = np.empty(2)
        self._call["ratios"](*map(_at, given), s.size > 1, expected.size, u, _at(found))
        return float(found[0]), float(found[1])

    def pool(self, sets: Sequence[Floats]) -> Floats:
        """See `plain.pool`."""
        num, count, width = sets[0].shape
        if count < 2:
            return plain.pool(sets)
        kept = [np.ascontiguousarray(field) for field in sets]
        half = np.empty((len(kept), num * ((count + 1) // 2) * width))
        source, target = _Sets(*map(_at, kept)), _Sets(*_rows(half))
        self._call["pool"](ctypes.byref(source), ctypes.byref(target), num, count, width)
        return half[:, : num * width].reshape(-1, num, width)

    def column_digits(self, values: NDArray[np.float32], top: int) -> tuple[Integers, NDArray[np.bool_]]:
        """See `plain.column_digits`."""
        values = np.ascontiguousarray(values)
        shape = values.shape[0], values.shape[2]
        found, late = np.empty((5, *shape), np.int64), np.empty(shape, np.bool_)
        self._call["column_digits"](_at(values), *values.shape, top, _at(found), _at(late))
        return found, late

    def digits(self, values: NDArray[np.float32]) -> Integers:
        """See `plain.digits`."""
        if values.strides[1] != values.itemsize:
            values = np.ascontiguousarray(values)
        found = np.empty((6, values.shape[0]), np.int64)
        self._call["digits"](_at(values), *values.shape, values.strides[0], _at(found))
        return found

    def limbs(self, values: NDArray[Any], center: Floats, unit: Floats) -> tuple[Integers, NDArray[np.bool_]]:
        """See `plain.limbs`."""
        columns = values.shape[2] if values.ndim == 3 else 0
        if values.shape[1] > (256 if columns else _LONGEST):
            return plain.limbs(values, center, unit)
        if values.strides[-1] != values.dtype.itemsize:
            values = np.ascontiguousarray(values)
        center, unit, scratch = np.ascontiguousarray(center), np.ascontiguousarray(unit), _borrowed()
        sums, late = np.empty((11, *center.shape), np.int64), np.empty(center.shape, np.bool_)
        task = _Limbs(
            values=_at(values),
            sets=values.shape[0],
            rows=values.shape[1],
            columns=columns,
            set_stride=values.strides[0],
            row_stride=values.strides[1],
            dtype=_number(values.dtype),
            swapped=not values.dtype.isnative,
            scratch=scratch[1],
            **{
                name: _at(array) for name, array in (("center", center), ("unit", unit), ("sums", sums), ("late", late))
            },
        )
        self._call["limbs"](ctypes.byref(task))
        _scratch.append(scratch)
        return sums, late

    def between(self, values: NDArray[Any], first: NDArray[np.uint32], upper: NDArray[np.uint64]) -> Integers:
        """See `plain.between`."""
        values = np.ascontiguousarray(values)
        counts = np.zeros(upper.size * _LANES, np.int64)
        more = np.full(2 * upper.size, np.iinfo(np.uint64).max, np.uint64)  # which the search may look at
        bounds = np.concatenate([upper, more])
        self._call["between"](*_elements(values), _at(first), _at(bounds), upper.size, _at(counts))
        return counts[: upper.size]

    def steps(self, values: NDArray[Any], cells: Integers, num_cells: int) -> Integers:
        """See `plain.steps`."""
        values = np.ascontiguousarray(values)
        buckets = num_steps(values.dtype)
        lanes = _LANES if num_cells == 1 else 1  # many cells would take too much memory
        counts = np.zeros((num_cells + 1) * buckets * lanes, np.int64)
        slots = num_cells * buckets
        self._call["steps"](*_elements(values), *_cells(values, cells), _at(counts), slots, lanes)
        return counts[:slots].reshape(num_cells, buckets)

    def steps_on_paths(
        self, values: NDArray[Any], cells: Integers, top: NDArray[np.bool_], paths: NDArray[np.uint64], level: int
    ) -> Integers:
        """See `plain.steps_on_paths`."""
        values = np.ascontiguousarray(values)
        counts = np.zeros((paths.size, num_steps(values.dtype)), np.int64)
        where = _elements(values), _cells(values, cells), (_at(top), _at(paths), paths.size, level, _at(counts))
        self._call["steps_on_paths"](*itertools.chain(*where))
        return counts

    def fletcher32(self, data: NDArray[np.uint8]) -> int:
        """See `plain.fletcher32`."""
        data = np.ascontiguousarray(data)
        found = np.empty(1, np.uint32)
        self._call["fletcher32"](_at(data), data.size, _at(found))
        return int(found[0])

    def normalize(
        self,
        values: NDArray[Any],
        length: int,
        cells: Standardization,
        affine: Affine | None,
        start: int,
        made: Float,
        y: NDArray[Any],
    ) -> Integers:
        """See `plain.normalize`, which runs where values are scaled, or the axes of gamma are no neighbours."""
        if cells.power is not None or (affine is not None and len(affine.shape) > 3):
            return plain.normalize(values, length, cells, affine, start, made, y)
        task, _kept = _map_of(values, length, cells)
        task.y = _at(y)
        task.beyond = 0.0 if affine is None else made.beyond(affine.overflow)
        return self._named("normalize", task, made, affine, start)

    def standardize_in_two(
        self, values: NDArray[Any], length: int, cells: Standardization, z: Floats, low: Floats
    ) -> None:
        """See `plain.standardize_in_two`, which runs where values are scaled."""
        if cells.power is not None:
            plain.standardize_in_two(values, length, cells, z, low)
            return
        task, _kept = _map_of(values, length, cells)
        task.z, task.y = _at(z), _at(low)
        self._call["standardize_in_two"](ctypes.byref(task))

    def multiply_in_two(self, a: Floats, a_low: Floats, b: Floats, b_low: Floats, found: Floats, low: Floats) -> None:
        """See `plain.multiply_in_two`."""
        self._call["multiply_in_two"](*map(_at, (a, a_low, b, b_low)), a.size, _at(found), _at(low))

    def gradient_in_two(
        self,
        g: Floats,
        g_low: Floats,
        z: Floats,
        z_low: Floats,
        length: int,
        cells: GradientInTwo,
        bound: Floats,
        lower: Floats,
    ) -> None:
        """See `plain.gradient_in_two`."""
        num_x, width = cells.factor.shape
        numbers = np.stack([*cells.upper, *cells[1:]])
        elements = map(_at, (g, g_low, z, z_low))
        self._call["gradient_in_two"](*elements, num_x, length, width, _at(numbers), _at(bound), _at(lower))

    def verify(
        self,
        values: NDArray[Any],
        blocks: Blocks,
        cells: Standardization,
        affine: Affine | None,
        start: int,
        made: Float,
        y: NDArray[Any],
        checked: np.dtype[Any],
        *,
        about_zero: bool,
    ) -> Verified:
        """See `plain.verify`, which runs where `plain.normalize` does."""
        if cells.power is not None or (affine is not None and len(affine.shape) > 3):
            return plain.verify(values, blocks, cells, affine, start, made, y, checked, about_zero=about_zero)
        task, _kept = _map_of(values, blocks.length, cells)
        num_x, width = cells.hi.shape
        most = _most(blocks, width)
        z = room(most, checked)
        task.z, task.checked, task.y = _at(z), _number(checked), _at(y)
        task.beyond = 0.0 if affine is None else made.beyond(affine.overflow)
        task.limit = made.limit if made.foreign else 0.0
        of_z = _Found(_Moments(about_zero=about_zero), checked, *_shape_of(blocks, num_x, width))
        opened = self._named("verify", task, made, affine, start, ctypes.byref(of_z.task), blocks.rows, most)
        return Verified(opened, of_z.found(), int(task.wrong), int(task.zeros))

    def audit(self, w: Floats, made: Float, y: NDArray[np.float32]) -> tuple[int, int]:
        """See `plain.audit`."""
        task = _Map(length=w.size, z=_at(w), y=_at(y), limit=made.limit)
        task.least, task.shift, task.largest = made.least, made.shift, made.largest
        self._call["audit"](ctypes.byref(task))
        return int(task.wrong), int(task.zeros)

    def gradient(
        self,
        g: Reals,
        z: Floats,
        errors: Floats | None,
        blocks: Blocks,
        cells: Gradient,
        made: Float,
        out: NDArray[Any] | None,
    ) -> MappedGradient:
        """See `plain.gradient`."""
        num_x, width = cells.base.shape
        most, numbers = _most(blocks, width), np.stack(cells)
        scratch = room(3 * most)
        task = _Map(num_x=num_x, length=blocks.length, width=width, z=_at(scratch), y=None if out is None else _at(out))
        both = [
            _Found(_Moments(about_zero=True), np.dtype(np.float64), *_shape_of(blocks, num_x, width)) for _ in range(2)
        ]
        given = *_factor(g), *_factor(z), None if errors is None else _at(errors), _at(numbers)
        pointers = (ctypes.byref(sets.task) for sets in both)
        opened = self._named("gradient", task, made, None, 0, *given, *pointers, blocks.rows, most)
        found, products = (sets.found() for sets in both)
        return MappedGradient(opened, found, products, int(task.zeros))

    def derivative(self, name: str, u: Floats, bound: Floats) -> None:
        """See `plain.derivative`."""
        self._call["derivative"](1 + ACTIVATIONS.index(name), _at(u), _at(bound), u.size)

    def slopes(self, name: str, x: Floats, factors: Factors, standard: Standard) -> tuple[Floats, Floats, Floats]:
        """See `plain.slopes`."""
        kept = [np.ascontiguousarray(part) for part in (x, *factors)]
        cell = np.array(standard[1:])
        found = np.empty((3, x.size))
        arrays = (*map(_at, kept), x.size, -standard.scale, _at(cell), 1 + ACTIVATIONS.index(name), *_rows(found))
        self._call["slopes"](*arrays)
        return found[0], found[1], found[2]

    def derivative_in_two(self, name: str, u: Floats, low: Floats, error: Floats) -> None:
        """See `plain.derivative_in_two`."""
        self._call["derivative_in_two"](1 + ACTIVATIONS.index(name), _at(u), _at(low), _at(error), u.size)

    def largest(self, a: Reals, b: Reals | None) -> float:
        """See `plain.largest`."""
        return float(self._call["largest"](*_factor(a), *_factor(b), a.size))

    def levels(self, a: Reals, b: Reals | None, shape: tuple[int, ...], units: Floats) -> tuple[Integers, bool]:
        """See `plain.levels`, which runs where the axes that are kept are no neighbours."""
        if len(shape) != 3:
            return plain.levels(a, b, shape, units)
        sums = np.zeros((units.size, 2, shape[1]), np.int64)
        left = self._call["levels"](*_factor(a), *_factor(b), *shape, _at(units), units.size, _at(sums))
        return sums, bool(left)

    def _named(self, loop: str, task: _Map, made: Float, affine: Affine | None, start: int, *more: Any) -> Integers:
        """Return the positions of the elements that a loop names, of which there may be any number."""
        task.made = _number(made.dtype)
        if made.foreign:
            task.least, task.shift, task.largest = made.least, made.shift, made.largest
        if affine is not None:
            task.gamma, task.beta, task.start = _at(affine.gamma), _at(affine.beta), start
            _, task.channels, task.inner = affine.shape
            task.rounds, task.loses = affine.rounds, affine.rest is not None
            rest = np.zeros(affine.gamma.size) if affine.rest is None else affine.rest
            task.gamma_rest = _at(rest)
            task.activation = 0 if affine.activation is None else 1 + ACTIVATIONS.index(affine.activation)
        found = np.empty(_OPEN, np.int64)
        while True:
            task.open, task.room = _at(found), found.size
            count = self._call[loop](ctypes.byref(task), *more)
            if count <= found.size:
                return found[:count].copy()
            found = np.empty(count, np.int64)

    def tally(self, a: NDArray[Any], b: NDArray[Any], tolerance: Tolerance) -> Mapping[str, NDArray[Any]]:
        """See `plain.tally`; with integers of which one has 64 bits it is what runs."""
        both = a, b
        columns = a.shape[2] if a.ndim == 3 else 0
        exact = all(of.dtype.kind in "iub" for of in both) and 8 in (a.itemsize, b.itemsize)
        if exact or a.shape[1] > (256 if columns else _LONGEST) or not a.size:
            return plain.tally(a, b, tolerance)
        steps = [[stride // of.itemsize for stride in of.strides] for of in both]
        if steps[0][-1] != 1 or steps[0] != steps[1]:
            both = np.ascontiguousarray(a), np.ascontiguousarray(b)
        shape = (*a.shape[:1], *a.shape[2:])
        found: dict[str, NDArray[Any]] = {name: np.empty(shape) for name in _TALLIED}
        found |= {name: np.empty(shape, np.int64) for name in ("rank", "first")}
        powers = {name: np.empty(shape, np.int32) for name in ("power", "a_power", "b_power")}
        arrays = found | powers | {"scratch": room(2 * 256 * plain.LANES)}
        task = _Tally(
            values=tuple(map(_at, both)),
            sets=a.shape[0],
            rows=a.shape[1],
            columns=columns,
            set_stride=tuple(of.strides[0] for of in both),
            row_stride=tuple(of.strides[1] for of in both),
            dtype=tuple(_number(of.dtype) for of in both),
            swapped=tuple(not of.dtype.isnative for of in both),
            nan_differs=tolerance.nan_differs,
            rtol=tolerance.rtol,
            atol=tolerance.atol,
            **{name: _at(array) for name, array in arrays.items()},
        )
        self._call["tally"](ctypes.byref(task))
        return found | {name: array for name, array in powers.items() if array.any()}

    def ulps(
        self, a: NDArray[Any], b: NDArray[Any], bits: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    ) -> Integers:
        """See `plain.ulps`, which runs where values were widened from a narrower dtype."""
        if bits is not None:
            return plain.ulps(a, b, bits)
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
        counts = np.zeros(plain.ULPS, np.int64)
        table = np.zeros((plain.ULPS + 1) * _LANES, np.uint32)
        swapped = (not of.dtype.isnative for of in (a, b))
        self._call["ulps"](_at(a), _at(b), a.size, a.itemsize, *swapped, _at(table), _at(counts))
        return counts

    def unshuffle(self, data: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
        """See `plain.unshuffle`."""
        data = np.ascontiguousarray(data)
        found = np.empty_like(data)
        count = data.size // width
        self._call["unshuffle"](_at(data), _at(found), count, width)
        found[count * width :] = data[count * width :]
        return found

    def narrow(self, kind: Float, values: NDArray[np.float32], out: NDArray[Any]) -> None:
        """See `plain.narrow`; `values` and `out` are contiguous."""
        codes = None if out.itemsize == 2 else _at(kind.codes)
        self._call["narrow"](_at(values), values.size, codes, _at(out))


def bodies() -> tuple[str, ...]:
    """Return the bodies that this processor can run, the fastest last; none where `native.c` was not compiled."""
    library = _library()
    if library is None:
        return ()
    return tuple(body for number, body in enumerate(BODIES) if library.supports(number))


def why_not() -> str:
    """Return why there are no bodies; an empty text where there are."""
    if _library() is not None:
        return ""
    try:
        open(LIBRARY, "rb").close()
    except FileNotFoundError:
        return "native.c was not compiled"
    return "native.bin does not belong to this native.c; python -m gncli.kernels.build compiles it again"


def _library() -> ctypes.CDLL | None:
    """Return the library; None where there is none, or it was compiled from other sources than those here."""
    try:
        library = ctypes.CDLL(LIBRARY)  # the loader keeps it: this costs little the second time
        found = 0
        for path in _SOURCES:
            with open(path, "rb") as source:
                found = zlib.crc32(source.read(), found)
        same = ctypes.c_uint32.in_dll(library, "source").value == found
    except (OSError, ValueError):
        return None
    return library if same else None


class _Found:
    """Memory for what is measured of sets, which have this shape; `task` is told where it is."""

    def __init__(
        self, task: _Moments, dtype: np.dtype[Any], shape: tuple[int, ...], columns: int, wanted: Collection[str] = ()
    ) -> None:
        self.task, self._dtype, self._shape = task, dtype, shape
        self._kept, self._places, self._names = _fields(tuple(wanted))
        self._block = np.empty((len(self._names), *shape))  # one array, whose rows are written to
        self._seldom, self._scratch = _untouched(math.prod(shape)), _borrowed()
        task.dtype, task.columns, task.scratch = _number(dtype), columns, self._scratch[1]
        for names, block in (self._names, self._block), (_SELDOM, self._seldom):
            for name, address in zip(names, _rows(block), strict=True):
                setattr(task, name, address)

    def found(self) -> dict[str, NDArray[Any]]:
        """Return what was measured, as `plain.moments` does."""
        _scratch.append(self._scratch)
        rows, dtype = dict(zip(self._names, self._block, strict=True)), self._dtype
        extremes = dtype.newbyteorder("=") if dtype.kind in "iu" and dtype.itemsize == 8 else np.float64
        found = {name: rows[name] for name in self._kept}
        found |= {name: rows[name].view(np.int64) for name in self._places}
        found |= {"min": rows["least"].view(extremes), "max": rows["most"].view(extremes)}
        *counts, powers, odd = self._seldom
        if not odd[0]:
            _zeros.append(self._seldom)
            return found
        size = math.prod(self._shape)
        if any(count[:size].any() for count in counts):
            found |= {name: count[:size].reshape(self._shape) for name, count in zip(_SELDOM[:3], counts, strict=True)}
        power = powers.view(np.int32)[:size].reshape(self._shape)
        if power.any():
            found["power"] = power
        return found


def _most(blocks: Blocks, width: int) -> int:
    """Return how many elements are measured at once: at least a block."""
    return max(_RUN, min(blocks.rows, blocks.length) * width)


def _shape_of(blocks: Blocks, num_x: int, width: int) -> tuple[tuple[int, ...], int]:
    """Return the shape of the blocks of a visit, and how many columns each has; 0 if it has no such axis."""
    sets = num_x * -(-blocks.length // blocks.rows)
    return ((sets, width), width) if blocks.columns else ((sets,), 0)


def _map_of(values: NDArray[Any], length: int, cells: Standardization) -> tuple[_Map, object]:
    """Return the task of a map, and what must live as long as it."""
    kept = {name: np.ascontiguousarray(array) for name, array in cells._asdict().items() if array is not None}
    task = _Map(
        values=_at(values),
        dtype=_number(values.dtype),
        swapped=not values.dtype.isnative,
        num_x=cells.hi.shape[0],
        length=length,
        width=cells.hi.shape[1],
        **{name: _at(array) for name, array in kept.items()},
    )
    return task, kept


def _elements(values: NDArray[Any]) -> tuple[int, int, int, int]:
    """Return the address and number of the elements of a 1-D array, their width in bytes, and whether to swap them."""
    return _at(values), values.size, values.dtype.itemsize, not values.dtype.isnative


def _factor(values: Reals | None) -> tuple[int | None, int]:
    """Return the address and the number of the dtype of a 1-D array; none where there is no array."""
    return (None, 0) if values is None else (_at(values), _number(values.dtype))


def _cells(values: NDArray[Any], cells: Integers) -> tuple[int, int, int, int]:
    """Return the address of the cells, and the extents X, L and Q of the elements."""
    num_x, _, width = cells.shape
    return _at(cells), num_x, values.size // max(1, num_x * width), width


def _borrowed() -> tuple[NDArray[Any], int]:
    """Return scratch for `moments`, to be given back to `_scratch`, and its address; a new one takes 10 us."""
    try:
        return _scratch.pop()
    except IndexError:
        new = room(2 * 256 * plain.LANES)
        return new, _at(new)


def _untouched(size: int) -> Floats:
    """Return zeros for `_SELDOM` of so many sets, to be given back to `_zeros` if they are left as they are."""
    try:
        block = _zeros.pop()
    except IndexError:
        block = np.zeros((len(_SELDOM), size))
    return block if block.shape[1] >= size else np.zeros((len(_SELDOM), size))


@functools.cache  # of a small array, making the lists takes as long as its sums
def _fields(wanted: tuple[str, ...]) -> tuple[list[str], list[str], list[str]]:
    """Return what `moments` finds as numbers and as places, and the rows of its memory."""
    kept = ["n", "hi", "lo", "m2", "square", *(name for name in wanted if name not in PLACES)]
    places = [name for name in wanted if name in PLACES]
    return kept, places, [*kept, *places, "least", "most"]


def _number(dtype: np.dtype[Any]) -> int:
    return DTYPES[f"{dtype.kind}{dtype.itemsize}"]


def _rows(block: NDArray[Any]) -> range:
    """Return the addresses of the first elements along axis 0 of a new array."""
    first, step = _at(block), block.strides[0]
    return range(first, first + step * block.shape[0], step or 1)


def _at(array: NDArray[Any]) -> int:
    """Return the address of the first element."""
    try:
        return _address(_byte(array))  # a fifth of the time that the interface takes, but of memory that can be written
    except (TypeError, ValueError):
        return int(array.__array_interface__["data"][0])
