"""Moments: how they are measured, merged and finished. The one currency of every stream of numbers in gncli.

Notes
-----
The mean is the unevaluated sum ``hi + lo`` of two float64. A block has ``hi = sum(x) / n``, ``d = x - hi``,
``lo = sum(d) / n`` and ``m2 = sum(d^2) - n lo^2``. With one float64 instead, 1.2 % of a float32 output at offset 1e6
is misrounded. Blocks are merged by Chan, Golub and LeVeque (1979), along the balanced binary tree of their index, so
that the bits depend on the tensor alone and never on how its blocks were dealt out to tiles, visits and workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.partition import Axis
from gncli.kernels.scratch import room
from gncli.kernels.walk import SHORT, Region, Tile, Walk

Floats = NDArray[np.float64]
SMALL, LARGE = 2.0**-200, 2.0**200  # beyond them a sum of fourth powers may leave float64
ZERO = -(1 << 14)  # the power of nothing but zeros: below every other
NOWHERE = np.int64(2**63 - 1)  # the place of what is not there: behind every place


class Moments(NamedTuple):
    """The moments of many sets of values at once: each field is an array of one and the same shape.

    Attributes
    ----------
    n : ndarray of float64
        How many values are finite; the moments and extremes are over those.
    hi, lo : ndarray of float64
        The mean is ``(hi + lo) * 2**power``, above `min` where `min` is of integers.
    m2 : ndarray of float64
        The sum of squared deviations from the mean, over ``4**power``.
    min, max : ndarray of float64, or of int64 or uint64 for 64-bit integers
        Extremes; infinity and -infinity where `n` is 0.
    nan, posinf, neginf : ndarray of float64, optional
        How many values are not finite; None says none at all.
    power : ndarray of int32, optional
        The scale of `hi`, `lo` and `m2`; None says 0, as it is but for float64 whose largest |x| is beyond 2**200 or
        below 2**-200.
    zeros : ndarray of float64, optional
        How many values are zero; None says that nobody asked, as for all that follow.
    m3, m4 : ndarray of float64, optional
        The sums of third and fourth powers of deviations, over ``8**power`` and ``16**power``.
    l1 : ndarray of float64 or object, optional
        The sum of absolute values, over ``2**power``; of integers a Python integer.
    sum : ndarray of object, optional
        The sum of integers, as Python integers.
    argmin, argmax, first_nan, first_inf : ndarray of int64, optional
        Where the extremes and the first NaN or infinity are: the first place in C order, or `NOWHERE`.
    """

    n: Floats
    hi: Floats
    lo: Floats
    m2: Floats
    min: NDArray[Any]
    max: NDArray[Any]
    nan: Floats | None = None
    posinf: Floats | None = None
    neginf: Floats | None = None
    power: NDArray[np.int32] | None = None
    zeros: Floats | None = None
    m3: Floats | None = None
    m4: Floats | None = None
    l1: NDArray[Any] | None = None
    sum: NDArray[Any] | None = None
    argmin: NDArray[np.int64] | None = None
    argmax: NDArray[np.int64] | None = None
    first_nan: NDArray[np.int64] | None = None
    first_inf: NDArray[np.int64] | None = None

    @classmethod
    def nothing(cls, dtype: np.dtype[Any], *, zeros: bool = False) -> Moments:
        """Return the moments of no values of `dtype`, in shape (1,)."""
        none = np.zeros(1)
        if is_wide_integer(dtype):
            info = np.iinfo(dtype)
            low, high = np.array([info.max], info.dtype), np.array([info.min], info.dtype)
        else:
            low, high = np.array([np.inf]), np.array([-np.inf])
        return cls(none, none, none, none, low, high, zeros=none if zeros else None)

    @classmethod
    def of_values(cls, values: Floats) -> Moments:
        """Return the moments of single values, each a set of one; those that are not finite count as NaN."""
        finite = np.isfinite(values)
        value = np.where(finite, values, 0.0)
        none = np.zeros_like(value)
        low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
        power = _scale(np.abs(value))
        hi = value if power is None else np.ldexp(value, -power)
        return cls(finite.astype(np.float64), hi, none, none, low, high, (~finite).astype(np.float64), power=power)

    def each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Moments:
        """Return the moments whose arrays are `change` of these (a reshape, an index)."""
        return Moments._make([None if array is None else change(array) for array in self])

    def reshape(self, *shape: int) -> Moments:
        """Return these moments in `shape`."""
        return self.each(lambda array: array.reshape(shape))

    def fold(self, axis: int) -> Moments:
        """Return the moments of the unions along `axis`, merged along the balanced binary tree of its index."""
        folded = self.each(lambda array: array.swapaxes(0, axis)) if axis else self
        while (count := folded.n.shape[0]) > 1:
            paired = slice(0, count - count % 2, 2), slice(1, count, 2), slice(count - count % 2, count)
            left, right, odd = (folded.each(itemgetter(which)) for which in paired)
            folded = concatenate([merge(left, right), odd]) if count % 2 else merge(left, right)
        return folded.each(lambda array: array.swapaxes(0, axis).squeeze(axis))

    @property
    def values(self) -> Floats:
        """How many values there are, finite or not."""
        return self.n + self.number("nan") + self.number("posinf") + self.number("neginf")

    def number(self, name: str) -> Floats:
        """Return the counts called `name`, zeros where none were kept."""
        found: Floats | None = getattr(self, name)
        return np.zeros_like(self.n) if found is None else found

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Whether all values are finite."""
        return np.ones(self.n.shape, np.bool_) if self.nan is None else np.equal(self.values, self.n)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Whether all finite values are equal, and there is one."""
        return np.asarray((self.min == self.max) & (self.n > 0))

    def settled(self) -> Moments:
        """Return the same with constant sets made exact: the mean is the value, and m2 is 0.

        The float64 constant 0.3 would otherwise leave rounding noise, which a division by it would blow up.
        """
        constant = self.constant
        if not constant.any():
            return self
        value = 0.0 if _integral(self.min) else np.ldexp(self.min, -_power(self))
        hi, lo, m2 = np.where(constant, value, self.hi), np.where(constant, 0, self.lo), np.where(constant, 0, self.m2)
        return self._replace(hi=hi, lo=lo, m2=m2)

    @property
    def mean(self) -> Floats:
        """The mean of the finite values; NaN where there are none."""
        mean = self._unscaled(self.hi + self.lo)
        if _integral(self.min):
            mean = self.min.astype(np.float64) + mean
        return np.asarray(np.where(self.n > 0, mean, np.nan))

    def scaled_var(self, ddof: int = 0) -> Floats:
        """Return the variance over ``4**power``; NaN where it is not defined."""
        left = self.n - ddof
        return np.asarray(self.m2 / np.where(left > 0, left, np.nan))

    def var(self, ddof: int = 0) -> Floats:
        """Return the variance; NaN where it is not defined, infinity where it leaves float64."""
        with np.errstate(over="ignore"):
            return self._unscaled(self.scaled_var(ddof), 2)

    def std(self, ddof: int = 0) -> Floats:
        """Return the standard deviation, which is right even where the variance leaves float64."""
        return self._unscaled(np.sqrt(self.scaled_var(ddof)))

    def rescaled(self, power: NDArray[np.int32]) -> Moments:
        """Return the same mean and m2 on the scale of `power`, without what else was asked for."""
        by = _power(self) - power
        hi, lo, m2 = np.ldexp(self.hi, by), np.ldexp(self.lo, by), np.ldexp(self.m2, 2 * by)
        return Moments(self.n, hi, lo, m2, *self[4:9], power)

    def _unscaled(self, values: Floats, times: int = 1) -> Floats:
        return values if self.power is None else np.asarray(np.ldexp(values, times * self.power))


_EXTRA = Moments._fields.index("m3")
ExtraKernel = Callable[[NDArray[Any], Moments, NDArray[np.int64], int], Moments]
"""Adds what else is wanted to the moments of sets of values: `extras.Extras.measure`."""


def is_wide_integer(dtype: np.dtype[Any]) -> bool:
    """Return whether values of `dtype` may not fit a float64, so that they must be shifted before they are widened."""
    return dtype.kind in "iu" and dtype.itemsize == 8


def _integral(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "iu"


def _scale(largest: Floats) -> NDArray[np.int32] | None:
    """Return the powers of two by which values of up to `largest` are scaled down; None if none is."""
    scaled = (largest > LARGE) | (largest < SMALL) & (largest > 0)
    return np.where(scaled, np.frexp(largest)[1], 0).astype(np.int32) if scaled.any() else None


def _power(moments: Moments) -> Any:
    return 0 if moments.power is None else moments.power


def shifted(values: NDArray[Any], base: NDArray[Any]) -> Floats:
    """Return float64(values - base), the difference of 64-bit integers taken exactly; `base` is nowhere larger."""
    return np.asarray(np.subtract(values, base).view(np.uint64), np.float64)


def merge(a: Moments, b: Moments) -> Moments:
    """Return the moments of the unions of `a` and `b`, set by set (Chan, Golub and LeVeque, 1979).

    Sets that are both empty stay so. Commutative and associative to rounding.
    """
    low, high = np.minimum(a.min, b.min), np.maximum(a.max, b.max)
    power = None
    down: Any = 0
    up: Any = 0
    a_hi, a_lo, a_m2, b_hi, b_lo, b_m2 = a.hi, a.lo, a.m2, b.hi, b.lo, b.m2
    if _integral(low):
        a_hi, a_lo = two_sum(a.hi, shifted(a.min, low), a.lo)
        b_hi, b_lo = two_sum(b.hi, shifted(b.min, low), b.lo)
    elif a.power is not None or b.power is not None:
        powers = [np.where((m.hi == 0) & (m.lo == 0) & (m.m2 == 0), ZERO, _power(m)) for m in (a, b)]
        power = np.maximum(*powers)
        power = np.where(power == ZERO, 0, power).astype(np.int32)
        down, up = powers[0] - power, powers[1] - power
        a_hi, a_lo, a_m2 = np.ldexp(a.hi, down), np.ldexp(a.lo, down), np.ldexp(a.m2, 2 * down)
        b_hi, b_lo, b_m2 = np.ldexp(b.hi, up), np.ldexp(b.lo, up), np.ldexp(b.m2, 2 * up)
    n = a.n + b.n
    share = b.n / np.maximum(n, 1.0)
    delta = (b_hi - a_hi) + (b_lo - a_lo)
    hi, lo = a_hi, a_lo + delta * share
    if not a.n.all():  # nothing finite in a: the mean of b is kept as it is, both halves of it
        hi, lo = np.where(a.n > 0, hi, b_hi), np.where(a.n > 0, lo, b_lo)
    m2 = (a_m2 + b_m2) + delta * delta * (a.n * share)
    nan, posinf, neginf = _add(a.nan, b.nan), _add(a.posinf, b.posinf), _add(a.neginf, b.neginf)
    merged = Moments(n, hi, lo, m2, low, high, nan, posinf, neginf, power, _add(a.zeros, b.zeros))
    if all(array is None for array in a[_EXTRA:]):
        return merged
    if power is not None:
        a, b = _rescaled(a, down), _rescaled(b, up)
    return _with_extras(merged, a._replace(m2=a_m2), b._replace(m2=b_m2), delta)


def _rescaled(moments: Moments, by: Any) -> Moments:
    """Return `moments` with what else was asked for on a scale that is ``2**-by`` times as large."""
    powers = {"l1": 1, "m3": 3, "m4": 4}
    given = {name: getattr(moments, name) for name in powers}
    return moments._replace(**{k: np.ldexp(v, powers[k] * by) for k, v in given.items() if v is not None})


def _with_extras(merged: Moments, a: Moments, b: Moments, delta: Floats) -> Moments:
    """Return `merged` with what else was asked for, of `a` and `b` on its scale (Pébay 2008)."""
    found: dict[str, NDArray[Any]] = {}
    n = np.maximum(merged.n, 1.0)
    p, q = a.n / n, b.n / n
    if a.m3 is not None and b.m3 is not None:
        found["m3"] = (a.m3 + b.m3) + delta**3 * (a.n * q * (p - q)) + 3 * delta * (p * b.m2 - q * a.m2)
    if a.m4 is not None and b.m4 is not None and a.m3 is not None and b.m3 is not None:
        fourth = delta**4 * (a.n * q * (p * p - p * q + q * q))
        second = 6 * delta * delta * (p * p * b.m2 + q * q * a.m2)
        found["m4"] = (a.m4 + b.m4) + fourth + second + 4 * delta * (p * b.m3 - q * a.m3)
    for name in ("l1", "sum"):
        left, right = getattr(a, name), getattr(b, name)
        if left is not None:
            found[name] = left + right
    for name, ahead, behind in (("argmin", a.min < b.min, a.min > b.min), ("argmax", a.max > b.max, a.max < b.max)):
        left, right = getattr(a, name), getattr(b, name)
        if left is not None:
            found[name] = np.where(ahead, left, np.where(behind, right, np.minimum(left, right)))
    for name in ("first_nan", "first_inf"):
        left, right = getattr(a, name), getattr(b, name)
        if left is not None:
            found[name] = np.minimum(left, right)
    return merged._replace(**found)


def two_sum(hi: Floats, shift: Floats, lo: Floats) -> tuple[Floats, Floats]:
    """Return (hi, lo) moved by `shift`, with what the sum of the larger two rounds away in `lo` (Knuth's two-sum)."""
    total = hi + shift
    part = total - hi
    return total, lo + ((hi - (total - part)) + (shift - part))


def _add(a: Floats | None, b: Floats | None) -> Floats | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def concatenate(parts: Sequence[Moments]) -> Moments:
    """Return the moments of all `parts`, one after the other along their first axis."""
    if len(parts) == 1:
        return parts[0]
    joined: list[NDArray[Any] | None] = []
    for arrays in zip(*parts, strict=True):
        if all(array is None for array in arrays):
            joined.append(None)
            continue
        dtype = next(array.dtype for array in arrays if array is not None)
        filled = (np.zeros(p.n.shape, dtype) if a is None else a for a, p in zip(arrays, parts, strict=True))
        joined.append(np.concatenate(list(filled)))
    return Moments._make(joined)


def measure(values: NDArray[Any], scratch: Floats, *, zeros: bool = False, center: float | None = None) -> Moments:
    """Return the moments of `values` along axis 1: the one kernel.

    Parameters
    ----------
    values : ndarray, shape (A, R) or (A, R, Q)
        Of any boolean, integer or floating dtype, in any byte order; R is at least 1.
    scratch : ndarray of float64, 1-D
        Room to work in, overwritten; too little of it is not used.
    zeros : bool
        Whether zeros are counted.
    center : float, optional
        A mean that is known to be nearly right, which saves a pass over the values.

    Returns
    -------
    Moments
        Of shape (A,) or (A, Q).
    """
    if values.ndim == 2 and values.shape[1] < SHORT:
        return measure(values.T[None], scratch, zeros=zeros, center=center).reshape(-1)
    if values.ndim == 3 and values.shape[2] == 1:
        # NumPy drops an axis of size 1, and would sum along the rows in another order than it does for more columns.
        return measure(np.repeat(values, 2, axis=2), scratch, zeros=zeros, center=center).each(lambda a: a[:, :1])
    wide = scratch[: values.size].reshape(values.shape) if values.size <= scratch.size else np.empty(values.shape)
    rows = float(values.shape[1])
    if is_wide_integer(values.dtype):
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        low, high = np.minimum.reduce(native, axis=1), np.maximum.reduce(native, axis=1)
        wide[...] = shifted(native, low[:, None])
    else:
        np.copyto(wide, values)
        # NumPy's extremes are fast on native values that lie side by side, but not of half precision.
        fast = values.dtype.isnative and values.dtype.kind == "f" and values.dtype.itemsize > 2
        of = values if fast and values.strides[-1] == values.dtype.itemsize else wide
        low = np.minimum.reduce(of, axis=1).astype(np.float64)
        high = np.maximum.reduce(of, axis=1).astype(np.float64)
    num_zeros = counted(values == 0) if zeros else None
    n = np.full(low.shape, rows)
    nan = posinf = neginf = power = finite = None
    if not np.isfinite(high - low).all():  # a NaN or an infinity, or extremes too far apart for their difference
        finite = np.isfinite(wide)
        nan, posinf, neginf = (counted(which) for which in (np.isnan(wide), wide == np.inf, wide == -np.inf))
        n = rows - nan - posinf - neginf
        low = np.minimum.reduce(wide, axis=1, initial=np.inf, where=finite)
        high = np.maximum.reduce(wide, axis=1, initial=-np.inf, where=finite)
        wide[~finite] = 0.0
    if values.dtype.itemsize == 8 and values.dtype.kind == "f":
        largest = np.where(n > 0, np.maximum(np.abs(low), np.abs(high)), 0.0)
        power = _scale(largest)
        if power is not None:
            np.ldexp(wide, -power[:, None], out=wide)
    count = n if finite is None else np.maximum(n, 1.0)
    hi = np.add.reduce(wide, axis=1) / count if center is None else np.full(low.shape, center)
    if center != 0.0:
        np.subtract(wide, hi[:, None], out=wide)
        if finite is not None:
            wide[~finite] = 0.0
    lo = np.add.reduce(wide, axis=1) / count
    square = np.vecdot(wide, wide) if wide.ndim == 2 else np.einsum("arq,arq->aq", wide, wide)
    m2 = np.maximum(square - n * (lo * lo), 0.0)
    return Moments(n, hi, lo, m2, low, high, nan, posinf, neginf, power, num_zeros)


def counted(which: NDArray[np.bool_]) -> Floats:
    """Return how many of `which` (A, R) or (A, R, Q) are true along axis 1: five times as fast as `numpy.sum`."""
    bytes_ = np.ascontiguousarray(which).view(np.uint8)
    if which.ndim == 2:
        if which.shape[1] % 8 == 0:
            bytes_ = np.bitwise_count(bytes_.view(np.uint64))
        return np.asarray(np.add.reduce(bytes_, axis=1, dtype=np.float64))
    most = np.iinfo(np.uint8).max
    parts = (bytes_[:, start : start + most] for start in range(0, which.shape[1], most))
    return sum((np.add.reduce(part, axis=1, dtype=np.uint8) for part in parts), np.zeros(1))


def measure_region(
    walk: Walk,
    region: Region,
    values: NDArray[Any],
    tile: int,
    *,
    zeros: bool = False,
    center: float | None = None,
    extras: ExtraKernel | None = None,
) -> Moments:
    """Return the moments of a visit, merged as far as the visit reaches.

    Parameters
    ----------
    walk : Walk
        Of the whole tensor.
    region : Region
        Of `walk`.
    values : ndarray, 1-D
        Its elements, in storage order.
    tile : int
        How many elements are worked on at a time.
    zeros, center
        As for `measure`.
    extras : callable, optional
        Measures what else is wanted.

    Returns
    -------
    Moments
        1-D: a value for each cell that the region touches, in storage order; where the region runs over a cell axis,
        the entries of that axis one after the other.
    """
    num_x, length, width = walk.view(region)
    num_blocks = -(-length // walk.block)
    seen = values.reshape(num_x, length, width) if walk.columns else values.reshape(num_x, length)
    tail = seen.shape[2:]
    scratch = room(max(1, min(values.size, max(tile, walk.block * min(width, tile)))))
    blocks = _Blocks((num_x, num_blocks, *tail))
    for part in walk.tiles(region, tile):
        count = part.blocks.stop - part.blocks.start
        first = part.blocks.start * walk.block
        picked = seen[part.x, first : first + count * part.length, *([part.q] if tail else [])]
        num = picked.shape[0]
        rows = picked.reshape(num * count, part.length, *picked.shape[2:])
        measured = measure(rows, scratch, zeros=zeros, center=center)
        if extras is not None:
            measured = extras(rows, measured, places(walk, region, part, (num * count, *picked.shape[2:])), width)
        index = (part.x, part.blocks, part.q) if tail else (part.x, part.blocks)
        blocks.put(index, measured.reshape(num, count, *picked.shape[2:]))
    return fold_axes(blocks.moments(), walk.dims(region), keep_first=walk.units[region.axis].cell)


def places(walk: Walk, region: Region, part: Tile, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return where in storage the first value of each block of a tile is."""
    _, length, width = walk.view(region)
    x = np.arange(part.x.start, part.x.stop)[:, None, None] * length
    rows = x + np.arange(part.blocks.start, part.blocks.stop)[:, None] * walk.block
    found = region.start + rows * width + np.arange(part.q.start, part.q.stop)
    return np.asarray(found if walk.columns else found[..., 0], np.int64).reshape(shape)


def fold_axes(moments: Moments, axes: Sequence[Axis], *, keep_first: bool = True) -> Moments:
    """Return `moments`, one for each index of `axes`, folded over the reduced ones, innermost first; 1-D."""
    folded = moments.reshape(*(axis.size for axis in axes))
    for place in reversed(range(len(axes))):
        if not axes[place].cell and not (place == 0 and keep_first):
            folded = folded.fold(place)
    return folded.reshape(-1)


class _Blocks:
    """The moments of a visit's blocks, gathered tile by tile."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.arrays: dict[str, NDArray[Any]] = {}

    def put(self, index: tuple[slice, ...], moments: Moments) -> None:
        """Take the moments of the blocks at `index`."""
        for name, array in zip(Moments._fields, moments, strict=True):
            if array is None:
                continue
            if array.shape == self.shape:
                self.arrays[name] = array
            elif name not in self.arrays:
                self.arrays[name] = np.zeros(self.shape, array.dtype)
            self.arrays[name][index] = array

    def moments(self) -> Moments:
        """Return the moments of all blocks."""
        return Moments(**self.arrays)


class Tree:
    """Moments that come one node after the other, merged along the balanced binary tree of their index.

    What `Moments.fold` does to an array at once; nodes that are runs of one power of two of leaves give the same bits
    as their leaves would.
    """

    join = staticmethod(merge)

    def __init__(self) -> None:
        self._nodes: list[tuple[int, Moments]] = []

    def push(self, node: Moments) -> None:
        """Take the next node."""
        level = 0
        while self._nodes and self._nodes[-1][0] == level:
            node = self.join(self._nodes.pop()[1], node)
            level += 1
        self._nodes.append((level, node))

    def total(self) -> Moments | None:
        """Return the moments of everything taken so far; None if that is nothing."""
        total = None
        for _, node in reversed(self._nodes):
            total = node if total is None else self.join(node, total)
        return total


class Fold:
    """The moments of visits, which come in storage order, merged along the axes of a walk.

    Parameters
    ----------
    walk : Walk
        The walk that the visits belong to.
    top : int
        The first unit axis to be folded: 0 for a whole tensor, 1 for one span of it.
    """

    tree = Tree
    chain = staticmethod(concatenate)

    def __init__(self, walk: Walk, top: int = 0) -> None:
        self._units = walk.units
        self._top = top
        self._trees = [self.tree() for _ in self._units]
        self._cells: list[list[Moments]] = [[] for _ in self._units]
        self._counts = [0] * len(self._units)
        self.result: Moments | None = None

    def push(self, region: Region, moments: Moments) -> None:
        """Take what `measure_region` gave for the next region."""
        axis, count = region.axis, region.last - region.first
        while True:
            cell, size = self._units[axis]
            if cell:
                self._cells[axis].append(moments)
            else:
                self._trees[axis].push(moments)
            self._counts[axis] += count
            if self._counts[axis] < size:
                return
            whole = self.chain(self._cells[axis]) if cell else self._trees[axis].total()
            assert whole is not None  # a unit axis has at least one entry
            self._cells[axis], self._trees[axis], self._counts[axis] = [], self.tree(), 0
            if axis == self._top:
                self.result = whole
                return
            moments, axis, count = whole, axis - 1, 1
