"""The loops over elements, in NumPy: the specification of every number, and what runs where no compiler was.

`gncli.kernels.native` has the same functions in C, which give the same bits. `gncli.kernels.loops` chooses.

Notes
-----
*The law of summation.* Along memory, a block of 64 elements or more (and at most 8192) is laid out as rows of 64 lanes.
Each lane starts at +0 and is summed from the first row to the last. Then the lanes are added by halves: lane j and lane
j + 32, then 16, 8, 4, 2, 1. The end of the last row is filled up with +0 in the terms of the sum, not in the elements.
Across memory, and in blocks of fewer than 64 elements, a sum starts at +0 and runs from first to last. Deviations from
the mean are summed in two parts (`_unit`), each by this law. A product is rounded before it is added. An
extreme that is zero is +0.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.activations import activate, activate_in_two
from gncli.kernels.activations import derivative as slope_at
from gncli.kernels.activations import derivative_in_two as slope_in_two
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.scratch import room
from gncli.kernels.twofold import two_product, two_sum
from gncli.kernels.walk import boxes

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Reals = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

STEP = 16
"""The bits of an element that are counted at once."""
LANES = 64  # of a sum along memory; a block of fewer elements has none
LONG = 32 * LANES  # a set whose lanes are worth laying side by side (4, 8 and 16 rows are not)
SMALL, LARGE = 2.0**-200, 2.0**200  # beyond them a sum of fourth powers may leave float64
U = 2.0**-53  # half a unit of float64
UP = 1 + 2.0**-20  # covers what a bound itself loses to rounding, and all terms of second order
TINY = 2.0**-900  # the error of a smaller product need not be a float64
_WORDS = 4096  # summed at once in a checksum: weighted by at most as much they stay exact in float64
LOWER = 2.0**-39  # of the largest deviation: what lower digits are at most, see `_measured`
NO_DIGITS = 1 << 20  # see `digits`
LIMB = 22  # bits: see `limbs`
FEW = 8  # distances below it are counted by comparing, which costs a tenth of bincount per distance
ULPS = 1 << 16  # distances in ULP are counted one by one below this, and together from ULPS - 1 on
PIECE = 1 << 16  # elements worked on at a time: large calls, on scratch that stays in the cache (2**14 to 2**18 tried)
SHORT = 1 << 13  # the same where many arrays are made of each


# --- sums ------------------------------------------------------------------------------------------------------------


def sums(terms: Floats) -> Floats:
    """Return the sums of `terms`, (A, R) or (A, R, Q) and contiguous, along axis 1, in the order that the law says."""
    if terms.ndim == 3:
        if terms.shape[2] > 1:
            return np.asarray(np.add.reduce(terms, axis=1) + 0.0)  # NumPy's inner loop runs along the last axis
        return np.asarray(np.add.accumulate(terms, axis=1)[:, -1] + 0.0)
    count, length = terms.shape
    full = length // LANES
    lanes = np.add.reduce(terms[:, : full * LANES].reshape(count, full, LANES), axis=1)
    lanes[:, : length - full * LANES] += terms[:, full * LANES :]
    lanes += 0.0  # the sum of -0.0 alone
    return _by_halves(lanes)


def _by_halves(lanes: Floats) -> Floats:
    """Return the sums of lanes, (A, 64), in the order that the law says."""
    half = LANES // 2
    while half:
        lanes = lanes[:, :half] + lanes[:, half:]
        half //= 2
    return np.asarray(lanes[:, 0])


class _Terms(NamedTuple):
    """How the terms of sums lie in scratch memory, so that NumPy's inner loops are long.

    The lanes of long sets (A, R) lie side by side, as (1, ceil(R / 64), A * 64): a sum along axis 1 is then that of
    each lane, and takes half the time. Others lie as they are.

    Attributes
    ----------
    lanes : bool
        Whether sets are summed in lanes.
    sets, length : int
        The number of sets, and R.
    laid_out : tuple of int
        The shape in scratch memory.
    """

    lanes: bool
    sets: int
    length: int
    laid_out: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> _Terms:
        """Return how sets of `shape`, (A, R) or (A, R, Q), lie."""
        sets, length = shape[:2]
        lanes = len(shape) == 2 and length >= LONG
        return cls(lanes, sets, length, (1, -(-length // LANES), sets * LANES) if lanes else shape)

    def _padding(self, terms: Floats) -> Floats:
        """Return what fills up the last row of the lanes of each set."""
        return np.asarray(terms[0, -1].reshape(self.sets, LANES)[:, self.length % LANES or LANES :])

    def fill(self, terms: Floats, values: NDArray[Any]) -> None:
        """Widen `values` into `terms`; lanes are filled up with an element of their set."""
        if not self.lanes:
            np.copyto(terms, values)
            return
        rows = terms.reshape(-1, self.sets, LANES).transpose(1, 0, 2)
        full, left = divmod(self.length, LANES)
        np.copyto(rows[:, :full], values[:, : full * LANES].reshape(self.sets, full, LANES))
        if left:
            rows[:, full, :left] = values[:, full * LANES :]
            self._padding(terms)[...] = values[:, :1]

    def clear(self, terms: Floats) -> None:
        """Make what fills up lanes 0."""
        if self.lanes and self.length % LANES:
            self._padding(terms)[...] = 0.0

    def spread(self, each: NDArray[Any]) -> NDArray[Any]:
        """Return numbers, one for each set, in a shape that broadcasts to the terms."""
        return each.repeat(LANES) if self.lanes else each[:, None]

    def sums(self, terms: Floats) -> Floats:
        """Return the sums of sets, or those of their lanes, (A, 64)."""
        return sums(terms).reshape(self.sets, LANES) if self.lanes else sums(terms)

    def extreme(self, ufunc: np.ufunc, terms: Floats) -> Floats:
        """Return the minimum or the maximum of sets."""
        found = ufunc.reduce(terms, axis=1)
        return np.asarray(ufunc.reduce(found.reshape(-1, LANES), axis=1) if self.lanes else found)


# --- moments ---------------------------------------------------------------------------------------------------------


def moments(
    values: NDArray[Any], about_zero: bool = False, wanted: Collection[str] = (), by: Reals | None = None
) -> Mapping[str, NDArray[Any]]:
    """Return the moments of `values` along axis 1; every moment is measured here.

    Parameters
    ----------
    values : ndarray, shape (A, R) or (A, R, Q)
        The values, of any boolean, integer or floating dtype, in any byte order; R is at least 1.
    about_zero : bool
        Whether the mean is known to be nearly 0, which saves a pass: ``hi`` is 0 then.
    wanted : collection of str
        What is measured besides, of "zeros", "total", "l1", "cube", "fourth", "argmin", "argmax", "first_nan" and
        "first_inf".
    by : ndarray of float32 or float64, in the same shape, optional
        Factors of `values`, which are float64: then the products are measured.

    Returns
    -------
    mapping of str to ndarray, shape (A,) or (A, Q)
        The fields of `gncli.kernels.moments.Moments`; those that would be zeros everywhere may be missing. Sums of
        powers are of deviations from ``hi``: "square", and those that are wanted. Places are ranks along axis 1, or -1.
    """
    if by is not None:
        values = np.multiply(values, by)
    if values.ndim == 2 and values.shape[1] < LANES:
        return {name: found.reshape(-1) for name, found in moments(values.T[None], about_zero, wanted).items()}
    pieces = cuts(values.shape)
    scratch = room(2 * max(math.prod(_Terms.of(values[cut].shape).laid_out) for cut in pieces)).reshape(2, -1)
    terms = _Terms.of(values.shape)
    if terms.lanes:  # as many sums of lanes as a piece has elements are halved at once
        pieces = cuts(values.shape, PIECE * terms.laid_out[1])
    return _put_together(
        values.shape, pieces, [_finished(_of_pieces(values[cut], about_zero, wanted, scratch)) for cut in pieces]
    )


def _of_pieces(
    values: NDArray[Any], about_zero: bool, wanted: Collection[str], scratch: Floats
) -> dict[str, NDArray[Any]]:
    """Return what `_measured` does of each piece of `values`, together."""
    pieces = cuts(values.shape)
    return _put_together(values.shape, pieces, [_measured(values[cut], about_zero, wanted, scratch) for cut in pieces])


def _finished(found: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the moments of sets whose sums, of lanes perhaps, were `found`."""
    if found["square"].ndim == 2 and found["n"].ndim == 1:
        names = [name for name in _SUMS if name in found]
        halved = _by_halves(np.concatenate([found[name] for name in names]))
        found |= zip(names, halved.reshape(len(names), -1), strict=True)
    n, count = found["n"], np.maximum(found["n"], 1.0)
    deviations = found.pop("upper") + found.pop("lower") if "upper" in found else found.pop("deviations")
    found["lo"] = lo = deviations / count
    found["m2"] = np.maximum(found["square"] - n * (lo * lo), 0.0)
    return found


_SUMS = ("l1", "upper", "lower", "square", "cube", "fourth")


def _put_together(
    shape: tuple[int, ...], pieces: list[tuple[slice, ...]], parts: Sequence[dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Return what was found in an array (A, R) or (A, R, Q), from what was found in its `cuts`; sums of lanes too."""
    if len(parts) == 1:
        return parts[0]
    found: dict[str, NDArray[Any]] = {}
    for cut, part in zip(pieces, parts, strict=True):
        for name, array in part.items():
            if name not in found:
                found[name] = np.zeros((*shape[:1], *(shape[2:] or array.shape[1:])), array.dtype)
            found[name][(cut[0], *cut[2:])] = array
    return found


def native_order(values: NDArray[Any]) -> NDArray[Any]:
    """Return `values` in native byte order, which they may be in already."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def cuts(shape: tuple[int, ...], size: int = 0) -> list[tuple[slice, ...]]:
    """Return the pieces of an array (A, R) or (A, R, Q) that are worked on one after the other: whole sets.

    A piece has about `size` elements, by default `PIECE`.
    """
    size = size or PIECE
    width = shape[2] if len(shape) == 3 else 1
    strip = max(1024, size // shape[1])
    step = max(1, size // (shape[1] * min(width, strip)))
    sets = [slice(start, start + step) for start in range(0, shape[0], step)]
    if len(shape) == 2:
        return [(some, slice(None)) for some in sets]
    strips = [slice(start, start + strip) for start in range(0, width, strip)]
    return [(some, slice(None), columns) for some in sets for columns in strips]


def _measured(
    values: NDArray[Any], about_zero: bool, wanted: Collection[str], scratch: Floats
) -> dict[str, NDArray[Any]]:
    """Return what `_finished` needs for the moments of `values`; sums of long sets are those of their lanes."""
    values = native_order(values)
    terms = _Terms.of(values.shape)
    wide, other = (part[: math.prod(terms.laid_out)].reshape(terms.laid_out) for part in scratch)
    found: dict[str, NDArray[Any]] = {}
    low: NDArray[Any]
    high: NDArray[Any]
    if wide_integer := values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        low, high = np.minimum.reduce(values, axis=1), np.maximum.reduce(values, axis=1)
        terms.fill(wide, np.subtract(values, low[:, None]).view(np.uint64))
    else:
        terms.fill(wide, values)
        low, high = (terms.extreme(ufunc, wide) for ufunc in (np.minimum, np.maximum))
    n, lost = np.full(low.shape, float(values.shape[1])), None
    if not wide_integer and not np.isfinite(high - low).all():  # NaN, infinities, or extremes far apart
        lost = ~np.isfinite(wide)
        for name, which in (("nan", np.isnan(values)), ("posinf", values == np.inf), ("neginf", values == -np.inf)):
            found[name] = counted(which)
            n = n - found[name]
        finite = np.isfinite(values)
        low = np.minimum.reduce(values, axis=1, initial=np.inf, where=finite).astype(np.float64)
        high = np.maximum.reduce(values, axis=1, initial=-np.inf, where=finite).astype(np.float64)
    found |= {"n": n, "min": low, "max": high} | _ranks(values, low, high, wanted)
    if not wide_integer:
        found["min"], found["max"] = low + 0.0, high + 0.0
    terms.clear(wide)
    if lost is not None:
        wide[lost] = 0.0
    if values.dtype.kind == "f" and values.dtype.itemsize == 8:
        power = scale(np.where(n > 0, np.maximum(np.abs(low), np.abs(high)), 0.0))
        if power is not None:
            np.ldexp(wide, -terms.spread(power), out=wide)
            found["power"] = power
    total = terms.sums(wide)
    if terms.lanes:
        total = _by_halves(total)
    if "total" in wanted:
        found["total"] = total
    if "l1" in wanted:
        found["l1"] = terms.sums(np.abs(wide, out=other))
    if about_zero:
        found["hi"], found["deviations"] = np.zeros(low.shape), total
    else:
        found["hi"] = _middle(total / np.maximum(n, 1.0), values.dtype)
        np.subtract(wide, terms.spread(found["hi"]), out=wide)
        terms.clear(wide)
        if lost is not None:
            wide[lost] = 0.0
        low, high = (_scaled(extreme, low, found) for extreme in (low, high))
        unit = terms.spread(_unit(np.maximum(high - found["hi"], found["hi"] - low)))
        # Up to 8192 upper parts are summed without an error, in any order. What is left is smaller by `LOWER`.
        np.subtract(np.add(wide, unit, out=other), unit, out=other)
        exact = other.ndim == 2 and other.shape[1] <= 8192
        found["upper"] = np.add.reduce(other, axis=1) + 0.0 if exact else terms.sums(other)
        found["lower"] = terms.sums(np.subtract(wide, other, out=other))
    found["square"] = terms.sums(np.multiply(wide, wide, out=other))
    if "cube" in wanted:
        found["cube"] = terms.sums(np.multiply(other, wide, out=wide))
    if "fourth" in wanted:
        found["fourth"] = terms.sums(np.multiply(other, other, out=other))
    return found


def _middle(mean: Floats, dtype: np.dtype[Any]) -> Floats:
    """Return what deviations are taken from: the mean, for narrow dtypes its upper 24 bits.

    The difference from a float32 is then exact, as a rule, and so are ``hi`` and ``lo`` together (Dekker 1971).
    """
    if dtype.itemsize > 4:
        return mean
    wide = mean * (2.0**29 + 1)
    return np.asarray(wide - (wide - mean))


def _scaled(extreme: NDArray[Any], low: NDArray[Any], found: Mapping[str, NDArray[Any]]) -> Floats:
    """Return an extreme as the sums see it: 64-bit integers above the least, large and small values scaled."""
    if extreme.dtype.kind in "iu":
        return np.asarray(np.subtract(extreme, low).view(np.uint64), np.float64)
    return np.asarray(np.ldexp(extreme, -found["power"]) if "power" in found else extreme)


def _unit(largest: Floats) -> Floats:
    """Return what, added to deviations of up to `largest` and subtracted, rounds them to 40 bits below it.

    So their sum is taken in two parts (Rump, Ogita and Oishi 2008).
    """
    known = (largest > 0) & (largest < np.inf)
    return np.where(known, np.ldexp(1.5, np.frexp(largest)[1] + 13), 0.0)


def _ranks(
    values: NDArray[Any], low: NDArray[Any], high: NDArray[Any], wanted: Collection[str]
) -> dict[str, NDArray[Any]]:
    """Return the count of zeros and the ranks of places, those that are wanted."""
    found: dict[str, NDArray[Any]] = {}
    for name in wanted:
        if name == "zeros":
            found[name] = counted(values == 0)
        elif name == "argmin":
            found[name] = first_of((values == low[:, None]) & np.isfinite(values))
        elif name == "argmax":
            found[name] = first_of((values == high[:, None]) & np.isfinite(values))
        elif name == "first_nan":
            found[name] = first_of(np.isnan(values))
        elif name == "first_inf":
            found[name] = first_of(np.isinf(values))
    return found


def united(a: Sequence[Floats], b: Sequence[Floats]) -> tuple[Floats, ...]:
    """Return n, hi, lo and m2 of the unions of sets, and the differences of their means (Chan and others 1979).

    Parameters
    ----------
    a, b : sequence of four ndarray of float64
        n, hi, lo and m2 of the sets.
    """
    (a_n, a_hi, a_lo, a_m2), (b_n, b_hi, b_lo, b_m2) = a, b
    n = a_n + b_n
    share = b_n / np.maximum(n, 1.0)
    delta = (b_hi - a_hi) + (b_lo - a_lo)
    hi, lo = a_hi, a_lo + delta * share
    if not a_n.all():  # where a has no finite value, both halves of the mean of b are kept
        hi, lo = np.where(a_n > 0, hi, b_hi), np.where(a_n > 0, lo, b_lo)
    return n, hi, lo, (a_m2 + b_m2) + delta * delta * (a_n * share), delta


def united_bounds(
    share: Floats,
    weight: Floats,
    far: Floats,
    apart: Floats,
    lo: Floats,
    m2: Floats,
    a: Sequence[Floats],
    b: Sequence[Floats],
) -> tuple[Floats, Floats]:
    """Return the bounds of the errors of the mean and of m2 of the unions of sets a and b.

    Parameters
    ----------
    share, weight : ndarray of float64
        n of b over n of the union, and n of a times that.
    far, apart, lo, m2 : ndarray of float64
        The size of the difference of the means; a bound of what was subtracted for it; the size of the lower half of
        the mean; the sum of both m2.
    a, b : sequence of two ndarray of float64
        The bounds of the sets.
    """
    (a_mean, a_m2), (b_mean, b_m2) = a, b
    r = 3 * U * apart
    error = a_mean + b_mean + r
    mean = (1 - share) * a_mean + share * (b_mean + r) + U * (2 * far * share + lo)
    of_m2 = a_m2 + b_m2 + 2 * U * (m2 + far * far * weight)
    of_m2 = of_m2 + weight * ((2 * far + error) * error + 4 * U * far * far)
    return mean * UP, of_m2 * UP


def bounds(n: Floats, lo: Floats, m2: Floats, added: Floats, part: float, lost: Floats | None) -> Floats:
    """Return the bounds of the errors of the mean and of m2 of blocks, each in a row.

    Parameters
    ----------
    n, lo, m2 : ndarray of float64, of one shape
        Those of the moments of each block.
    added : ndarray of float64
        How many terms its sums add one after the other; of the same shape, or one number.
    part : float
        What part of the largest deviation the lower digits are at most, whose sum is rounded: `LOWER`, or 1 where all
        digits are summed at once.
    lost : ndarray of float64, optional
        What each element may have lost when it was widened.
    """
    n, lo = np.maximum(n, 1.0), np.abs(lo)
    square = n * lo * lo
    whole = m2 + square
    each = np.sqrt(whole / n)  # at least the mean of their sizes
    # Each deviation is rounded; their upper parts are summed exactly.
    mean = U * each + 3 * U * lo + added * U * np.minimum(part * np.sqrt(whole), each)
    m2 = (added + 3) * U * whole + 4 * U * square
    if lost is not None:
        mean = mean + lost
        m2 = m2 + lost * (2 * np.sqrt(n * whole) + n * lost)
    return np.stack([mean * UP, (m2 + n * (2 * lo + mean) * mean) * UP])


def ratios(
    expected: Floats, shift: Floats, mean: Floats, var: Floats, summed: Floats, u: float, s: Floats
) -> tuple[float, float]:
    """Return the largest errors of the mean and of the variance of cells, as fractions of what rounding allows.

    `gncli.kernels.groupnorm.check` has the formulas; an error that is NaN is the largest.

    Parameters
    ----------
    expected, shift : ndarray of float64, 1-D
        The variance and the mean that are expected.
    mean, var : ndarray of float64, 1-D
        Those that were found.
    summed : ndarray of float64, 1-D
        A bound of what sums over the cell may lose, as a part of them.
    u : float
        Half the machine epsilon of the values.
    s : ndarray of float64, 1-D
        Half their smallest subnormal number, of each cell or one for all.
    """
    root, far = np.sqrt(expected), np.abs(shift)
    of_mean = np.abs(mean - shift) / (16 * (u * (root + far) + s) + summed * (root + far))
    allowed = 16 * (2 * u * (expected + far * root) + 2 * s * root + s * s + (u * far) ** 2) + 2 * summed * expected
    return float(of_mean.max()), float((np.abs(var - expected) / allowed).max())


def pool(sets: Sequence[Floats]) -> Floats:
    """Return the moments of the unions of sets along axis 1, united along the balanced binary tree of their index.

    Parameters
    ----------
    sets : sequence of six or eight ndarray of float64, shape (A, R, Q)
        n, hi, lo, m2, min and max, and the bounds of the errors of the mean and of m2 if there are any; R is at least
        1.

    Returns
    -------
    ndarray of float64, shape (6 or 8, A, Q)
        The same of each union.
    """
    fields = np.stack(sets)
    while (count := fields.shape[2]) > 1:
        a, b, odd = fields[:, :, 0 : count - 1 : 2], fields[:, :, 1::2], fields[:, :, count - count % 2 :]
        *both, delta = united(tuple(a[:4]), tuple(b[:4]))
        both += [np.minimum(a[4], b[4]), np.maximum(a[5], b[5])]
        if len(sets) > 6:
            share, far = b[0] / np.maximum(both[0], 1.0), np.abs(delta)
            apart = np.abs(b[1] - a[1]) + np.abs(a[2]) + np.abs(b[2]) + far
            lo = np.abs(a[2] + delta * share)
            both += united_bounds(share, a[0] * share, far, apart, lo, a[3] + b[3], tuple(a[6:]), tuple(b[6:]))
        fields = np.concatenate([np.stack(both), odd], axis=2)
    return np.asarray(fields[:, :, 0])


def digits(values: NDArray[np.float32]) -> Integers:
    """Return exact sums of `values` along axis 1, and of their squares, as integers.

    With `top` the exponent of the largest value of a set, ``x = (high * 2**24 + low) * 2**(top - 48)``, where `high` is
    rounded, ties to even.

    Parameters
    ----------
    values : ndarray of float32, shape (A, R)
        The values; R is at most 2**13.

    Returns
    -------
    ndarray of int64, shape (6, A)
        The sums of high, low, high * high, high * low and low * low, and top. Where these do not hold all digits of a
        value, or not all values are finite, or all are subnormal, top is `NO_DIGITS`, and the sums are 0.
    """
    found = np.empty((6, values.shape[0]), np.int64)
    for cut in cuts(values.shape):
        some = values[cut]
        largest = np.abs(some).max(axis=1)
        fits = np.isfinite(largest) & ((largest == 0) | (largest >= np.finfo(np.float32).tiny))
        top = np.where(fits, np.frexp(np.where(fits, largest, 0))[1], 0)
        sums, late = _digits(np.where(fits[:, None], some, 0), top[:, None])
        found[:5, cut[0]] = np.where(fits, sums, 0)
        found[5, cut[0]] = np.where(fits & ~late, top, NO_DIGITS)
    return found


def column_digits(values: NDArray[np.float32], top: int) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the sums that `digits` returns, of each column and with one `top`, which no finite value exceeds.

    Parameters
    ----------
    values : ndarray of float32, shape (A, R, Q)
        The values; R is at most 2**13.
    top : int
        An exponent: all finite values are below ``2**top``.

    Returns
    -------
    sums : ndarray of int64, shape (5, A, Q)
        The sums along axis 1; 0 where they are late.
    late : ndarray of bool, shape (A, Q)
        Where these do not hold all digits of a value, or a value is not finite.
    """
    shape = values.shape[0], values.shape[2]
    found, late = np.zeros((5, *shape), np.int64), np.zeros(shape, np.bool_)
    step = max(1, PIECE // min(values.shape[2], 1024))
    for start in range(0, values.shape[1], step):
        rows = values[:, start : start + step]
        for cut in cuts(rows.shape):
            sets, _, columns = cut
            finite = np.isfinite(rows[cut])
            sums, more = _digits(np.where(finite, rows[cut], 0), top)
            found[:, sets, columns] += sums
            late[sets, columns] |= more | ~finite.all(axis=1)
    return np.where(late, 0, found), late


def _digits(values: NDArray[np.float32], top: Any) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the five sums along axis 1, 0 where they are late, and where these do not hold all digits of a value."""
    scaled = np.ldexp(values.astype(np.float64), 48 - top)
    high = np.rint(scaled * 2.0**-24)
    low = scaled - high * 2.0**24
    late = (low != np.rint(low)).any(axis=1)
    products = (high, low, high * high, high * low, low * low)
    return np.stack([np.where(late, 0, np.add.reduce(part.astype(np.int64), axis=1)) for part in products]), late


def limbs(values: NDArray[Any], center: Floats, unit: Floats) -> tuple[Integers, NDArray[np.bool_]]:
    """Return exact sums along axis 1 of deviations from `center`, and of their products, as integers.

    A deviation is ``(a + b / 2**22 + c / 2**44 + d / 2**66) * unit`` with integers a to d of at most 2**21, or a little
    more. The differences and sums that take it apart are exact: `center` is a multiple of `unit`.

    Parameters
    ----------
    values : ndarray, shape (A, R) or (A, R, Q)
        The values, of any dtype whose values a float64 holds, in any byte order; R is at least 1, and at most 2**13.
    center, unit : ndarray of float64, shape (A,) or (A, Q)
        What deviations are taken from, and a power of two: at least 2**-21 of the largest deviation.

    Returns
    -------
    sums : ndarray of int64, shape (11, A) or (11, A, Q)
        The sums of a, b, c and d, and those of a a, a b, 2 a c + b b, a d + b c, 2 b d + c c, c d and d d; 0 where they
        are late.
    late : ndarray of bool, shape (A,) or (A, Q)
        Where these do not hold all digits of a value, or a value is not finite.
    """
    shape = (*values.shape[:1], *values.shape[2:])
    found, late = np.zeros((11, *shape), np.int64), np.zeros(shape, np.bool_)
    for cut in cuts(values.shape):
        at = (cut[0], *cut[2:])
        middle, scale = center[at][:, None], unit[at][:, None]
        wide = values[cut].astype(np.float64)
        shift = 1.5 * 2.0**52 * scale
        upper = ((wide - middle) + shift) - shift
        wide -= upper + middle
        parts = [upper]
        for _ in range(3):
            shift = shift * 2.0**-LIMB
            parts.append((wide + shift) - shift)
            wide -= parts[-1]
        late[at] = wide.any(axis=1)
        for k, part in enumerate(parts):
            part *= 2.0 ** (LIMB * k) / scale
            if late[at].any():
                part[np.broadcast_to(late[at][:, None], part.shape)] = 0.0
        starts = np.arange(0, values.shape[1], 256)  # sums of so many terms, each below 2**45, are exact in float64
        for k, term in enumerate(itertools.chain(parts, _products(*parts))):
            sums = np.add.reduceat(term, starts, axis=1)
            found[k][at] = np.add.reduce(sums.astype(np.int64), axis=1)
    return found, late


def _products(a: Floats, b: Floats, c: Floats, d: Floats) -> Iterator[Floats]:
    """Yield the products of `limbs`, one after the other in the same memory."""
    found, other = np.empty_like(a), np.empty_like(a)
    yield np.multiply(a, a, out=found)
    yield np.multiply(a, b, out=found)
    for one, two, middle in ((a, c, b), (b, d, c)):
        np.multiply(one, two, out=found)
        found += found
        found += np.multiply(middle, middle, out=other)
        yield found
        if middle is b:
            np.multiply(a, d, out=found)
            found += np.multiply(b, c, out=other)
            yield found
    yield np.multiply(c, d, out=found)
    yield np.multiply(d, d, out=found)


def first_of(which: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rank of the first true element along axis 1; -1 where there is none."""
    return np.asarray(np.where(which.any(axis=1), which.argmax(axis=1), -1))


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


def scale(largest: Floats) -> NDArray[np.int32] | None:
    """Return the powers of two by which values of up to `largest` are scaled down; None if all are 0."""
    scaled = (largest > LARGE) | (largest < SMALL) & (largest > 0)
    return np.where(scaled, np.frexp(largest)[1], 0).astype(np.int32) if scaled.any() else None


# --- the map ---------------------------------------------------------------------------------------------------------


class Standardization(NamedTuple):
    """How the elements of each cell are standardized: ``((x * 2**-power - hi) - lo) * rstd``.

    All arrays have one shape: one value per cell, or (X, Q) for a visit seen as (X, L, Q).

    Attributes
    ----------
    hi, lo, rstd : ndarray of float64
        The mean in two parts, and the factor of deviations; `rstd` is NaN where the cell holds a NaN or an infinity.
    base : ndarray of int64 or uint64, or None
        Subtracted from 64-bit integers before they are widened; None for other dtypes.
    power : ndarray of int32, or None
        The scale of each cell; None where all powers are 0.
    slope, offset : ndarray of float64, or None
        A standardized element z is within ``|z| * slope + offset`` of the exact one (`gncli.kernels.proof`); None where
        the moments have no bounds.
    tail, rest : ndarray of float64, or None
        What is subtracted besides, and a second part of the factor: elements are then sums of two float64, for a result
        of float64 (`gncli.kernels.refined`).
    """

    hi: Floats
    lo: Floats
    rstd: Floats
    base: NDArray[Any] | None = None
    power: NDArray[np.int32] | None = None
    slope: Floats | None = None
    offset: Floats | None = None
    tail: Floats | None = None
    rest: Floats | None = None


class Factors(NamedTuple):
    """The affine map of some elements, or of one: ``(gamma + rest) z + beta``, in exact arithmetic.

    Attributes
    ----------
    gamma, rest, beta : ndarray of float64, 1-D
        The factor of each element in two parts, and its offset.
    """

    gamma: Floats
    rest: Floats
    beta: Floats

    @classmethod
    def none(cls, count: int) -> Factors:
        """Return those of `count` elements that stay as they are."""
        return cls(np.ones(count), np.zeros(count), np.zeros(count))

    def at(self, which: Any) -> Factors:
        """Return those of some of the elements, or of one."""
        return Factors._make(part[which] for part in self)


class Affine(NamedTuple):
    """The affine map after the normalization: gamma and beta, one pair per channel, or per index of other axes.

    Attributes
    ----------
    gamma, beta : ndarray of float64, 1-D
        The factors and the offsets, in storage order.
    shape : tuple of int
        The tensor's elements in storage order: the sizes of runs of axes, in turn of axes that gamma and beta lack, and
        of those that they have; such as (before the channels, C, after them).
    rest : ndarray of float64, 1-D, or None
        What the factors lost when an offset was added to gamma: exactly, they are ``gamma + rest``. None is 0.
    rounds : bool
        Whether standardized values are rounded to the dtype of the result first; float64 is not.
    overflow : {"saturate", "nonfinite"}, optional
        What becomes of values that overflow when they are rounded first; see `Float.beyond`.
    activation : str, optional
        One of `ACTIVATIONS`, which is applied last.
    """

    gamma: Floats
    beta: Floats
    shape: tuple[int, ...]
    rest: Floats | None = None
    rounds: bool = False
    overflow: str | None = None
    activation: str | None = None

    @property
    def identity(self) -> bool:
        """Whether the map changes nothing: gamma is 1 and beta 0 for every channel, and there is nothing else.

        A rounding before them is something else: a -0 that it gives becomes 0 when beta is added.
        """
        scales = np.count_nonzero(self.gamma != 1) or np.count_nonzero(self.beta)
        return self.rest is None and self.activation is None and not (self.rounds or scales)

    def of(self, places: NDArray[np.int64]) -> Factors:
        """Return the factors and the offsets of the elements at these places in storage."""
        pairs, outer, unit = np.zeros_like(places), places, 1
        for k in range(len(self.shape) - 1, 0, -2):
            outer, own = np.divmod(outer // self.shape[k], self.shape[k - 1])
            pairs += own * unit
            unit *= self.shape[k - 1]
        rest = np.zeros(pairs.shape) if self.rest is None else self.rest[pairs]
        return Factors(self.gamma[pairs], rest, self.beta[pairs])

    def along(self, start: int, size: int, parts: Sequence[Floats]) -> list[Floats]:
        """Return arrays that are like gamma, each as one value per element of a run in storage."""
        shape = [count if place % 2 else 1 for place, count in enumerate(self.shape)]
        found = [np.empty(size) for _ in parts]
        done = 0
        for box in boxes(self.shape, start, start + size):
            extents = tuple(part.stop - part.start for part in box)
            piece = slice(done, done + math.prod(extents))
            done = piece.stop
            own = tuple(part if place % 2 else slice(None) for place, part in enumerate(box))
            for out, part in zip(found, parts, strict=True):
                out[piece].reshape(extents)[...] = part.reshape(shape)[own]
        return found

    def of_run(self, start: int, size: int) -> Factors:
        """Return what `of` does, of the elements of a run in storage."""
        rest = np.zeros(self.gamma.size) if self.rest is None else self.rest
        return Factors(*self.along(start, size, (self.gamma, rest, self.beta)))

    def at(self, places: NDArray[np.int64]) -> Affine:
        """Return the map of the elements at these places in storage, as if each had a channel of its own."""
        gamma, rest, beta = self.of(places)
        return self._replace(gamma=gamma, beta=beta, shape=(1, places.size, 1), rest=rest if rest.any() else None)

    @property
    def largest(self) -> tuple[float, float]:
        """The largest sizes of gamma and of beta; NaN if one is NaN."""
        return float(np.abs(self.gamma).max(initial=0.0)), float(np.abs(self.beta).max(initial=0.0))

    def on_axes(self) -> tuple[Floats, Floats]:
        """Return gamma and beta in a shape that broadcasts to `shape`."""
        shape = [size if place % 2 else 1 for place, size in enumerate(self.shape)]
        return self.gamma.reshape(shape), self.beta.reshape(shape)


def normalize(
    values: NDArray[Any],
    length: int,
    cells: Standardization,
    affine: Affine | None,
    start: int,
    made: Float,
    y: NDArray[Any],
    z: NDArray[Any] | None = None,
) -> Integers:
    """Standardize the elements of a visit, apply gamma and beta, and round once; return which elements are open.

    Let e be the bound of the error of the float64 result: ``|z| slope + offset``, and with gamma and beta
    ``|gamma| (|z| slope + offset) + 2**-52 (|gamma z| + |y|)``. If y - e and y + e are rounded to the same number, that
    is the correctly rounded one. Other elements are open, unless y is not finite. If z is rounded before gamma and beta
    (`Affine.rounds`), it must be proved in the same way; an element is open where it is not. The bound of the rounded z
    is 0, and that of y is 0 if product and sum are exact. An activation carries the bound on (`activations.activate`).

    Parameters
    ----------
    values : ndarray, 1-D
        The elements of the visit, in storage order, of any dtype and byte order.
    length : int
        L of the visit, seen as (X, L, Q).
    cells : Standardization
        That of its cells, in arrays of shape (X, Q).
    affine : Affine or None
        Gamma and beta; None for 1 and 0.
    start : int
        The storage index of the first element of the visit.
    made : Float
        The dtype of the result.
    y : ndarray of ``made.dtype``, 1-D
        Takes the result: y - e rounded, or y where there is no bound. NaN is the canonical one.
    z : ndarray of a floating dtype, 1-D, optional
        Takes the standardized values before gamma and beta, rounded.

    Returns
    -------
    ndarray of int64
        The positions of open elements in the visit, in ascending order; none where there are no bounds.
    """
    num_x, width = cells.hi.shape
    if width == 1 and length < LANES:  # NumPy's inner loop would be as short as a row
        cells = Standardization._make(
            None if array is None else np.repeat(array, length).reshape(1, -1) for array in cells
        )
        num_x, length, width = 1, 1, values.size
    found = []
    pieces = []
    for x, rows, columns in _boxes(num_x, length, width):
        shape = x.stop - x.start, rows.stop - rows.start, columns.stop - columns.start
        pieces.append(((x.start * length + rows.start) * width + columns.start, shape, x, columns))
    scratch = room(3 * max((math.prod(shape) for _, shape, _, _ in pieces), default=0)).reshape(3, -1)
    largest = (0.0, 0.0) if affine is None else affine.largest
    for first, shape, x, columns in pieces:
        last = first + math.prod(shape)
        here = Standardization._make(None if array is None else array[x, None, columns] for array in cells)
        if here.tail is not None and here.rest is not None:
            values_here, z_here = values[first:last].reshape(shape), None if z is None else z[first:last]
            opened = _refined(values_here, here, here.tail, here.rest, affine, start + first, z_here, y[first:last])
            found.append(first + opened)
            continue
        wide, limit, other = scratch[:, : last - first]
        _standardize(values[first:last].reshape(shape), here, wide.reshape(shape))
        if z is not None:
            z[first:last] = wide
            canonical(z[first:last])
        out = y[first:last]
        if here.slope is None or here.offset is None or made.mantissa == _MANTISSA:
            if affine is not None:
                apply(affine, start + first, made, wide, None)
            made.round_into(wide, out)
            canonical(out)
        elif affine is not None and (affine.rounds or affine.activation is not None):
            bound = np.abs(wide, out=limit)
            shaped = limit.reshape(shape)
            shaped *= here.slope
            shaped += here.offset
            apply(affine, start + first, made, wide, bound)
            found.append(first + _enclosed(wide, bound, other, made, out))
        else:
            result, gamma, beta = wide, 1.0, 0.0
            if affine is not None:
                result, (gamma, beta) = limit, largest
                _scale_and_shift(affine, start + first, wide, result)
            slope, offset = here.slope, here.offset
            few = _near_ties(result, float(slope.max()), float(offset.max()), gamma, beta, made, other, out)
            some, columns = wide[few], slope.shape[2]
            cell = few // (shape[1] * columns), 0, few % columns
            bound = np.abs(some) * slope[cell] + offset[cell]
            if affine is not None:
                apply(affine.at(start + first + few), 0, made, some, bound)
            rounded = np.empty(few.size, out.dtype)
            found.append(first + few[_enclosed(some, bound, np.empty(few.size), made, rounded)])
            out[few] = rounded
    return np.concatenate(found) if found else np.zeros(0, np.int64)


FAR = 2.0**900  # beyond it, or below one over it, products are not taken apart
LEAST = 2.0**-1065  # what products of scaled values lose to underflow, and more


def _refined(
    values: NDArray[Any],
    cells: Standardization,
    tail: Floats,
    rest: Floats,
    affine: Affine | None,
    start: int,
    z: Floats | None,
    y: Floats,
) -> Integers:
    """Do what `normalize` does for a result of float64, in sums of two float64; return which elements are open.

    The bound of an element is NaN where a product might not be what Dekker's is without over- and underflow.
    """
    assert cells.slope is not None and cells.offset is not None
    x, d, product, left = _standardized_in_two(values, cells, tail, rest)
    scaled = np.zeros((), np.bool_) if cells.power is None else cells.power != 0
    high = product + left
    low = left - (high - product)
    bound = np.abs(high) * cells.slope + cells.offset
    size = np.abs(d)
    far = (size > FAR) | ((np.abs(product) < 1 / FAR) & (size > 0) & ~scaled)
    bound[far] = np.nan
    high = np.where(np.isfinite(high) & ~far, high, product)
    simple, known = ((x - cells.hi) - cells.lo) * cells.rstd, np.isfinite(x) & np.isfinite(cells.rstd)
    if z is not None:
        z[...] = high.reshape(-1)
        canonical(z)
    known = np.broadcast_to(known, values.shape).reshape(-1).copy()
    high, low, bound, simple = (part.reshape(-1) for part in (high, low, bound, simple))
    if affine is not None:
        small = np.broadcast_to(scaled, values.shape).reshape(-1)
        _scale_refined(affine, start, (high, low, bound, simple), known, small)
    activation = None if affine is None else affine.activation
    if activation == "relu":
        simple[simple <= 0] = 0.0
    elif activation is not None:
        _activate_refined(activation, (high, low, bound, simple), known)
    sure = _ends(high, low, bound, activation, y)
    np.copyto(y, simple, where=~(sure | known))
    canonical(y)
    return np.flatnonzero(~sure & known)


def _standardized_in_two(
    values: NDArray[Any], cells: Standardization, tail: Floats, rest: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return values on the scale of their cells, their distances from the mean, and what z is the sum of."""
    x, more = _in_two(values, cells)
    d, low = two_sum(x, -cells.hi)
    if more is not None:
        d, lost = two_sum(d, more)
        low = low + lost
    d, lost = two_sum(d, -cells.lo)
    low = (low + lost) - tail
    product, lost = two_product(d, cells.rstd)
    return x, d, product, lost + (d * rest + low * cells.rstd)


def _in_two(values: NDArray[Any], cells: Standardization) -> tuple[Floats, Floats | None]:
    """Return values on the scale of their cells, less the base, as float64, and what that lost of 64-bit integers."""
    x, more = values, None
    if cells.base is not None:
        x = np.subtract(values.astype(cells.base.dtype, copy=False), cells.base).view(np.uint64)
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        x = native_order(x)
        below = x & x.dtype.type(0xFFFFFFFF)
        return two_sum((x - below).astype(np.float64), below.astype(np.float64))
    x = x.astype(np.float64)
    if cells.power is not None:
        np.ldexp(x, -cells.power, out=x)
    return x, more


def _scale_refined(
    affine: Affine, start: int, values: Sequence[Floats], known: NDArray[np.bool_], scaled: NDArray[np.bool_]
) -> None:
    """Apply gamma and beta to the values of `_refined`: in two parts, their bounds, and in one float64.

    What is `known` to be finite stays so if gamma and beta are; `scaled` says which values are.
    """
    high, low, bound, simple = values
    rests = Affine(np.zeros_like(affine.gamma) if affine.rest is None else affine.rest, affine.beta, affine.shape)
    pairs = zip(_factors(affine, start, high.size), _factors(rests, start, high.size), strict=True)
    for (piece, shape, gamma, beta), (_, _, rest, _) in pairs:
        z, of_z, size = high[piece].reshape(shape), low[piece].reshape(shape), np.abs(gamma)
        product, lost = two_product(z, gamma)
        sum_, more = two_sum(product, beta)
        left = more + (lost + (of_z * gamma + z * rest))
        y = sum_ + left
        limit = bound[piece].reshape(shape) * size + (np.abs(product) + np.abs(beta)) * 2.0**-99
        tiny = (np.abs(product) < 1 / FAR) & (z != 0) & (gamma != 0)
        small = scaled[piece].reshape(shape)
        limit = np.where(small & (limit > 0), limit + LEAST, limit)
        limit = np.where((size > FAR) | (np.abs(z) > FAR) | (tiny & ~small), np.nan, limit)
        known[piece] &= np.broadcast_to(np.isfinite(gamma) & np.isfinite(beta), shape).reshape(-1)
        low[piece], bound[piece], high[piece] = (part.reshape(-1) for part in (left - (y - sum_), limit, y))
        simple[piece] = (simple[piece].reshape(shape) * gamma + beta).reshape(-1)


def _activate_refined(name: str, values: Sequence[Floats], known: NDArray[np.bool_]) -> None:
    """Replace the values of `_refined` by their activation: in two parts, their bounds, and in one float64."""
    high, low, bound, simple = values
    for start in range(0, high.size, SHORT):
        here = slice(start, start + SHORT)
        u, error = (high[here].copy(), low[here].copy()), bound[here].copy()
        (high[here], low[here]), bound[here] = activate_in_two(name, u, error, quick=True)
        sure = _ends(high[here], low[here], bound[here], name, np.empty(error.size))
        if (some := np.flatnonzero(~sure & np.isfinite(u[0]))).size:
            at, left = start + some, (u[0][some], u[1][some])
            (high[at], low[at]), bound[at] = activate_in_two(name, left, error[some], quick=False)
    odd = np.flatnonzero(~known)
    rest = simple[odd]
    activate(name, rest, None)
    simple[odd] = np.where(simple[odd] == -np.inf, -0.0, rest)


def _ends(high: Floats, low: Floats, bound: Floats, activation: str | None, y: Floats) -> NDArray[np.bool_]:
    """Write the lower ends of what results are within to `y`; return which are the upper ends too, and finite."""
    y[...] = high + (low - bound)
    upper = high + (low + bound)
    sure = np.isfinite(y)
    for part in () if activation is None else (y, upper):
        if activation == "relu":
            part[part <= 0] = 0.0
        else:  # the sign is known; a sum has lost that of -0
            part[np.signbit(high) & (part >= 0)] = -0.0
    return np.asarray(sure & (y.view(np.int64) == upper.view(np.int64)))


NEAR = 2.0**-10  # times the largest gamma: elements below it are looked at one by one
HUGE = 2.0**1000  # so are those beyond it, whose bound may overflow


def _near_ties(
    y: Floats, slope: float, offset: float, gamma: float, beta: float, made: Float, other: Floats, out: NDArray[Any]
) -> Integers:
    """Round `y` to `out`; return which elements may be open, in ascending order, and others: few, as a rule.

    Two neighbours of `made` meet in a tie, so an element farther from each tie than its bound is proved. In float64 the
    bits below the mantissa of `made` say how far the next tie is, in multiples of at least ``2**-53 |y|``. As
    ``|gamma z|`` is at most ``|y| + |beta|``, the bound is at most ``|y| (slope + 2**-51)`` and what does not depend on
    the element.

    Parameters
    ----------
    y, out
        The result in float64, and room for the rounded one.
    slope, offset, gamma, beta : float
        The largest of the cells, and the largest sizes of gamma and beta.
    made : Float
        The dtype of the result.
    other
        Scratch memory.
    """
    made.round_into(y, out)
    least, dropped = max(NEAR * gamma, made.least), _MANTISSA - made.mantissa
    fixed = gamma * offset + beta * (slope + 4 * U)
    reach = 2.0 + (1 + NEAR) * (slope + 4 * U + fixed / least) / U
    if not reach < 1 << dropped - 3:
        return np.arange(y.size)
    size, bits = np.abs(y, out=other), other.view(np.int64)
    far = (size >= least) & (size < HUGE)
    width = 1 << 1 + int(reach).bit_length()  # of what is near a tie, a power of two
    np.add(y.view(np.int64), (width >> 1) - (1 << dropped - 1), out=bits)
    np.bitwise_and(bits, (1 << dropped) - width, out=bits)
    return np.flatnonzero(far <= (bits == 0))


def _enclosed(values: Floats, bound: Floats, other: Floats, made: Float, out: NDArray[Any]) -> Integers:
    """Write `values` less `bound` to `out`, rounded; return which are open. `other` is scratch memory."""
    made.round_into(np.subtract(values, bound, out=other), out)
    upper = np.empty_like(out)
    made.round_into(np.add(values, bound, out=other), upper)
    bits = np.dtype(f"u{out.dtype.itemsize}")
    differ = out.view(bits) != upper.view(bits)
    if not np.isfinite(np.add.reduce(other)):
        finite = np.isfinite(values)
        differ = (differ | np.isnan(out)) & finite  # NaN: the bound is infinity times 0
        out[~finite] = values[~finite]
        canonical(out)
    return np.flatnonzero(differ)


class Blocks(NamedTuple):
    """How a visit, seen as (X, L, Q), is measured: in blocks of `rows` along L, the last of which may be shorter.

    Without `columns` Q is 1, and blocks have no such axis.
    """

    length: int
    rows: int
    columns: bool


class Verified(NamedTuple):
    """What a map gives that is measured on the way.

    Attributes
    ----------
    open : ndarray of int64
        The positions of open elements, as `normalize` returns them.
    moments : mapping
        What `moments` returns of the blocks of z.
    wrong, zeros : int
        What `audit` counts of the elements that are not open; 0 for dtypes that NumPy has.
    """

    open: Integers
    moments: Mapping[str, NDArray[Any]]
    wrong: int = 0
    zeros: int = 0


def verify(
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
    """Do what `normalize` does; measure z, rounded to a dtype, block by block, and compare y with what it was.

    Parameters
    ----------
    values, cells, affine, start, made, y
        See `normalize`.
    blocks : Blocks
        The blocks.
    checked : numpy.dtype
        The dtype of z; float64 for dtypes that NumPy lacks.
    about_zero : bool
        See `moments`.
    """
    z = np.empty(values.size, checked)
    opened = normalize(values, blocks.length, cells, affine, start, made, y, z)
    of_blocks = _of_blocks(z, blocks, cells.hi.shape, about_zero)
    if not made.foreign:
        return Verified(opened, of_blocks)
    for first in range(0, z.size if affine is not None else 0, PIECE):
        assert affine is not None
        apply(affine, start + first, made, z[first : first + PIECE], None)
    return Verified(opened, of_blocks, *audit(np.delete(z, opened), made, np.delete(y, opened)))


def _of_blocks(
    values: NDArray[Any], blocks: Blocks, shape: tuple[int, int], about_zero: bool = False
) -> Mapping[str, NDArray[Any]]:
    """Return the moments of the blocks of a visit, of which `shape` is (X, Q)."""
    length, rows, columns = blocks
    seen = values.reshape(shape[0], length, shape[1]) if columns else values.reshape(shape[0], length)
    whole = length // rows
    found: dict[str, NDArray[Any]] = {}
    for some, part in ((slice(whole), seen[:, : whole * rows]), (slice(whole, None), seen[:, whole * rows :])):
        if part.size:
            size = min(rows, part.shape[1])
            for name, field in moments(part.reshape(-1, size, *part.shape[2:]), about_zero).items():
                if name not in found:
                    found[name] = np.zeros((shape[0], -(-length // rows), *part.shape[2:]), field.dtype)
                found[name][:, some] = field.reshape(shape[0], -1, *part.shape[2:])
    return {name: field.reshape(-1, *field.shape[2:]) for name, field in found.items()}


def audit(w: Floats, made: Float, y: NDArray[np.float32]) -> tuple[int, int]:
    """Return how many elements of `y` are not the nearest numbers of `made`, and how many became zero.

    An element is right if it is a multiple of the unit of the last place of w, and no further from w than half of that
    unit; or, if w is beyond the largest number by more than half a unit, if it is infinite; or, if w is not finite,
    if it is not. Both neighbours of a tie are right.

    Parameters
    ----------
    w : ndarray of float64, 1-D
        The values before they were rounded.
    made : Float
        The dtype of the result, one that NumPy lacks.
    y : ndarray of float32, 1-D
        The result; what overflows is infinite.
    """
    wrong = zeros = 0
    for first in range(0, w.size, PIECE):
        value, number = w[first : first + PIECE], y[first : first + PIECE].astype(np.float64)
        size = np.abs(value)
        unit = np.maximum(np.ldexp(1.0, np.frexp(size)[1] - 1), made.least)
        half = unit * 2.0 ** -(made.mantissa + 1)
        # Sums of a number and half a unit are exact; the difference of w and the number need not be.
        right = (np.abs(number) - half <= size) & (size <= np.abs(number) + half) & (number * value >= 0)
        right &= (number + unit * made.shift) - unit * made.shift == number
        beyond = number == np.copysign(np.inf, value)
        right = np.where(size > made.limit, beyond, right | (size == made.limit) & beyond)
        right |= ~(np.isfinite(value) | np.isfinite(number))
        wrong += int(np.count_nonzero(~right))
        zeros += int(np.count_nonzero((number == 0) & (value != 0)))
    return wrong, zeros


def canonical(values: NDArray[Any]) -> None:
    """Make each NaN of `values` the usual one: quiet and positive, whatever the processor gave."""
    values[np.isnan(values)] = np.nan


def _boxes(num_x: int, length: int, width: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield the boxes of (X, L, Q) that are worked on one after the other; each is a run of storage."""
    strip = width if width <= PIECE or length > 1 or num_x > 1 else PIECE
    rows = max(1, min(length, PIECE // strip))
    step = max(1, PIECE // (length * strip))
    for x in range(0, num_x, step):
        for row in range(0, length, rows):
            for column in range(0, width, strip):
                ends = min(x + step, num_x), min(row + rows, length), min(column + strip, width)
                yield slice(x, ends[0]), slice(row, ends[1]), slice(column, ends[2])


def _standardize(values: NDArray[Any], cells: Standardization, out: Floats) -> None:
    if cells.base is None:
        out[...] = values
    else:
        out[...] = np.subtract(values.astype(cells.base.dtype, copy=False), cells.base).view(np.uint64)
    if cells.power is not None:
        np.ldexp(out, -cells.power, out=out)
    np.subtract(out, cells.hi, out=out)
    np.subtract(out, cells.lo, out=out)
    np.multiply(out, cells.rstd, out=out)


def apply(affine: Affine, start: int, made: Float, values: Floats, bound: Floats | None) -> None:
    """Map `values`, whose first one is element `start` of the tensor in storage order, and carry their bound on."""
    rounds = affine.rounds and made.mantissa < _MANTISSA
    if rounds:
        _round_before(values, made, affine.overflow, bound)
    for piece, shape, gamma, beta in _factors(affine, start, values.size):
        z = values[piece].reshape(shape)
        product = z * gamma
        result = product + beta
        if bound is not None:
            more = (np.abs(product) + np.abs(result)) * 2.0**-52
            if rounds:
                more = _where_inexact(more, z, gamma, beta, affine.rest is not None)
            bound[piece] = (bound[piece].reshape(shape) * np.abs(gamma) + more).reshape(-1)
        values[piece] = result.reshape(-1)
    if affine.activation is not None:
        activate(affine.activation, values, bound)


def _scale_and_shift(affine: Affine, start: int, z: Floats, out: Floats) -> None:
    """Write ``gamma z + beta`` to `out`, as `apply` does, without a bound and without temporary arrays."""
    for piece, shape, gamma, beta in _factors(affine, start, z.size):
        result = out[piece].reshape(shape)
        np.multiply(z[piece].reshape(shape), gamma, out=result)
        np.add(result, beta, out=result)


def _factors(affine: Affine, start: int, size: int) -> Iterator[tuple[slice, tuple[int, ...], Floats, Floats]]:
    """Yield runs of `size` elements from `start` on, their shape, and gamma and beta, which broadcast to it."""
    done = 0
    gammas, betas = affine.on_axes()
    for box in boxes(affine.shape, start, start + size):
        shape = tuple(part.stop - part.start for part in box)
        piece = slice(done, done + math.prod(shape))
        done = piece.stop
        own = tuple(part if place % 2 else slice(None) for place, part in enumerate(box))
        yield piece, shape, gammas[own], betas[own]


def _round_before(values: Floats, made: Float, overflow: str | None, bound: Floats | None) -> None:
    """Round `values` to `made`; where their bound leaves two numbers, they stay, and their bound becomes infinite."""

    def rounded(of: Floats) -> Floats:
        narrow = np.empty(of.shape, made.dtype)
        made.round_into(of, narrow)
        if made.foreign:
            made.resolve(narrow, overflow)
        return narrow.astype(np.float64)

    if bound is None:
        values[...] = rounded(values)
        return
    low, high = rounded(values - bound), rounded(values + bound)
    same = (low.view(np.int64) == high.view(np.int64)) & (low == low)
    values[same] = low[same]
    bound[...] = np.where(same, 0.0, np.inf)


def _where_inexact(more: Floats, z: Floats, gamma: Floats, beta: Floats, loses: bool) -> Floats:
    """Return the bound of what product and sum lose: 0 where both are exact, else `more`."""
    product, lost = two_product(z, gamma)
    _, lost_too = two_sum(product, beta)
    tiny = (np.abs(product) < TINY) & (z != 0) & (gamma != 0)
    more = np.where((lost + lost_too != 0) | loses, more, 0.0)
    return np.asarray(more + np.where(tiny, TINY, 0.0))


# --- gradients -------------------------------------------------------------------------------------------------------


class Gradient(NamedTuple):
    """How dx follows from g and z in each cell: ``factor ((g - first) - z second)``, and the bound of its error.

    The bound is ``on_g abs(g) + on_z abs(z) + base``. All arrays have one shape: one value per cell, or (X, Q) for a
    visit seen as (X, L, Q).
    """

    factor: Floats
    first: Floats
    second: Floats
    on_g: Floats
    on_z: Floats
    base: Floats


class MappedGradient(NamedTuple):
    """What `gradient` finds besides dx.

    Attributes
    ----------
    open : ndarray of int64
        The positions of open elements, in ascending order.
    moments, projections : mapping
        What `moments` returns of the blocks of dx before it is rounded, and of that times z.
    zeros : int
        How many elements that are not open became zero, of dtypes that NumPy lacks.
    """

    open: Integers
    moments: Mapping[str, NDArray[Any]]
    projections: Mapping[str, NDArray[Any]]
    zeros: int = 0


def gradient(
    g: Reals,
    z: Floats,
    errors: Floats | None,
    blocks: Blocks,
    cells: Gradient,
    made: Float,
    out: NDArray[Any] | None,
) -> MappedGradient:
    """Compute dx, round it once, and measure it.

    Parameters
    ----------
    g, z : ndarray of float64, 1-D
        The elements of a visit, in storage order; g may be float32.
    errors : ndarray of float64, 1-D, or None
        Bounds of the errors of g; None if it has none but that of a product.
    blocks : Blocks
        What is measured.
    cells : Gradient
        That of its cells, in arrays of shape (X, Q).
    made : Float
        The dtype of the result, of fewer digits.
    out : ndarray of ``made.dtype``, 1-D, or None
        Takes dx; elements that are open, of which NaN is one, need not be right. None if dx is only measured.
    """
    dx, bound = np.empty((2, g.size))
    _gradient(g, z, blocks.length, cells, dx, bound)
    if errors is not None:
        shaped = bound.reshape(cells.base.shape[0], blocks.length, -1)
        shaped += errors.reshape(shaped.shape) * (np.abs(cells.factor) * UP)[:, None]
    opened, zeros = np.zeros(0, np.int64), 0
    if out is not None:
        opened = enclosed(dx, bound, made, out)
        if made.foreign:
            lost = (out == 0) & (dx != 0)
            zeros = int(np.count_nonzero(lost) - np.count_nonzero(lost[opened]))
    of_dx, of_products = (_of_blocks(values, blocks, cells.base.shape, True) for values in (dx, dx * z))
    return MappedGradient(opened, of_dx, of_products, zeros)


def _gradient(g: Reals, z: Floats, length: int, cells: Gradient, found: Floats, bound: Floats) -> None:
    """Compute dx before it is rounded, and the bounds of its error."""
    num_x, width = cells.base.shape
    rate, first, second, on_g, on_z, base = (part[:, None] for part in cells)
    shape = num_x, length, width
    of_g, of_z, to, limit, also = (values.reshape(shape) for values in (g, z, found, bound, room(g.size)))
    np.subtract(of_g, first, out=to)
    np.multiply(of_z, second, out=also)
    np.subtract(to, also, out=to)
    np.multiply(to, rate, out=to)
    np.add(to, 0.0, out=to)
    np.multiply(np.abs(of_g, out=limit), on_g, out=limit)
    np.multiply(np.abs(of_z, out=also), on_z, out=also)
    np.add(limit, also, out=limit)
    np.add(limit, base, out=limit)


class GradientInTwo(NamedTuple):
    """The same of a cell in sums of two float64; `Gradient` has the upper parts, and the bounds."""

    upper: Gradient
    factor: Floats
    first: Floats
    second: Floats


def standardize_in_two(values: NDArray[Any], length: int, cells: Standardization, z: Floats, low: Floats) -> None:
    """Write the standardized elements of a visit to `z` and `low`, whose sums they are; see `normalize`.

    What is farther than `FAR` from the mean is NaN; of a z below one over `FAR` there is no lower part.
    """
    num_x, width = cells.hi.shape
    for x, rows, columns in _boxes(num_x, length, width):
        shape = x.stop - x.start, rows.stop - rows.start, columns.stop - columns.start
        first = (x.start * length + rows.start) * width + columns.start
        here = slice(first, first + math.prod(shape))
        own = Standardization._make(None if array is None else array[x, None, columns] for array in cells)
        assert own.tail is not None and own.rest is not None
        _, d, product, left = _standardized_in_two(values[here].reshape(shape), own, own.tail, own.rest)
        product[np.abs(d) > FAR] = np.nan
        left[(np.abs(product) < 1 / FAR) & (d != 0)] = 0.0
        high = product + left
        z[here], low[here] = high.reshape(-1), (left - (high - product)).reshape(-1)


def multiply_in_two(a: Floats, a_low: Floats, b: Floats, b_low: Floats, found: Floats, low: Floats) -> None:
    """Write the products of two runs of sums of two float64 to `found` and `low`.

    They are NaN where a factor or the product is beyond `FAR`; a product below one over `FAR` has no lower part.
    """
    for start in range(0, a.size, PIECE):
        here = slice(start, start + PIECE)
        found[here], low[here] = _product_in_two(a[here], a_low[here], b[here], b_low[here])


def _product_in_two(a: Any, a_low: Any, b: Any, b_low: Any) -> tuple[Floats, Floats]:
    product, lost = two_product(a, b)
    low = lost + (a * b_low + a_low * b)
    low[np.abs(product) < 1 / FAR] = 0.0
    low[((np.abs(a) > FAR) | (np.abs(b) > FAR)) | (np.abs(product) > FAR)] = np.nan
    return product, low


def gradient_in_two(
    g: Floats, g_low: Floats, z: Floats, z_low: Floats, length: int, cells: GradientInTwo, bound: Floats, lower: Floats
) -> None:
    """Compute dx in sums of two float64, and round both ends of what it is within.

    Parameters
    ----------
    g, g_low, z, z_low : ndarray of float64, 1-D
        The elements of a visit, in storage order.
    length : int
        L of the visit, seen as (X, L, Q).
    cells : GradientInTwo
        That of its cells, in arrays of shape (X, Q).
    bound : ndarray of float64, 1-D
        The errors that the elements have besides those that `cells` says; takes the upper ends.
    lower : ndarray of float64, 1-D
        Takes the lower ends.
    """
    num_x, width = cells.factor.shape
    for x, rows, columns in _boxes(num_x, length, width):
        shape = x.stop - x.start, rows.stop - rows.start, columns.stop - columns.start
        first = (x.start * length + rows.start) * width + columns.start
        here = slice(first, first + math.prod(shape))
        rate, mean, slope, on_g, on_z, base = (part[x, None, columns] for part in cells.upper)
        rate_low, mean_low, slope_low = (part[x, None, columns] for part in cells[1:])
        of_g, of_g_low, of_z, of_z_low, more = (part[here].reshape(shape) for part in (g, g_low, z, z_low, bound))
        total, low = two_sum(of_g, -mean)
        low = low + (of_g_low - mean_low)
        product, lost = _product_in_two(of_z, of_z_low, slope, slope_low)
        total, left = two_sum(total, -product)
        total, low = two_sum(total, left + (low - lost))
        product, low = _product_in_two(total, low, rate, rate_low)
        limit = ((np.abs(of_g) * on_g + np.abs(of_z) * on_z) + base) + more
        limit = limit + ((np.abs(product) < 1 / FAR) & (total != 0)) / FAR
        lower[here] = ((product + (low - limit)) + 0.0).reshape(-1)
        bound[here] = ((product + (low + limit)) + 0.0).reshape(-1)


def enclosed(values: Floats, bound: Floats, made: Float, out: NDArray[Any]) -> Integers:
    """Round numbers that are known within bounds; return which are open, in ascending order.

    Parameters
    ----------
    values, bound : ndarray of float64, 1-D
        The numbers, and the bounds of their errors.
    made : Float
        The dtype of the result, of fewer digits.
    out : ndarray of ``made.dtype``, 1-D
        Takes the numbers; those that are open, of which NaN is one, need not be right.
    """
    found = []
    for start in range(0, values.size, PIECE):
        here = slice(start, start + PIECE)
        upper = np.empty_like(out[here])
        made.round_into(values[here] - bound[here], out[here])
        made.round_into(values[here] + bound[here], upper)
        bits = f"u{out.itemsize}"
        found.append(start + np.flatnonzero((out[here].view(bits) != upper.view(bits)) | np.isnan(upper)))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def derivative(name: str, u: Floats, bound: Floats) -> None:
    """Do what `activations.derivative` does, for 1-D arrays."""
    for start in range(0, u.size, SHORT):
        here = slice(start, start + SHORT)
        slope_at(name, u[here], bound[here])


class Standard(NamedTuple):
    """How elements of a cell are standardized in sums of two float64: ``(x / 2**scale - mean) rstd``."""

    scale: int
    mean: float
    mean_low: float
    rstd: float
    rstd_low: float


def argument(x: Floats, factors: Factors, standard: Standard) -> tuple[Floats, Floats, Floats]:
    """Return elements, standardized and mapped, in two float64 each, and bounds of their errors.

    Parameters
    ----------
    x : ndarray of float64, 1-D
        Elements of a cell.
    factors : Factors
        The affine map of each.
    standard : Standard
        That of the cell.
    """
    gamma, rest, beta = factors
    scale, mean, mean_low, rstd, rstd_low = standard
    values = np.ldexp(x, -scale)
    total, low = two_sum(values, -mean)
    total, lower = two_sum(total, -mean_low)
    d, d_low = two_sum(total, low + lower)
    d_error = 2.0**-100 * (np.abs(values) + abs(mean)) + 2.0**-1060
    z, z_low = two_product(d, rstd)
    z, z_low = two_sum(z, z_low + (d * rstd_low + d_low * rstd))
    z_error = d_error * rstd + 2.0**-98 * np.abs(z) + 2.0**-1000
    y, y_low = two_product(z, gamma)
    y_low += z_low * gamma + z * rest
    sum_, low = two_sum(y, beta)
    y, y_low = two_sum(sum_, low + y_low)
    return y, y_low, np.abs(gamma) * z_error + 2.0**-96 * (np.abs(z * gamma) + np.abs(beta)) + 2.0**-900


def slopes(name: str, x: Floats, factors: Factors, standard: Standard) -> tuple[Floats, Floats, Floats]:
    """Return the derivatives of an activation for elements, in two float64 each, and bounds of their errors.

    Parameters
    ----------
    name : str
        An activation that is not relu.
    x, factors, standard
        See `argument`.
    """
    high, low, error = argument(x, factors, standard)
    derivative_in_two(name, high, low, error)
    return high, low, error


def derivative_in_two(name: str, u: Floats, low: Floats, error: Floats) -> None:
    """Replace ``u + low`` by the derivative of an activation other than relu, and `error` by the bound of its error."""
    for start in range(0, u.size, SHORT):
        here = slice(start, start + SHORT)
        (u[here], low[here]), error[here] = slope_in_two(name, (u[here], low[here]), error[here])


def largest(a: Reals, b: Reals | None) -> float:
    """Return the largest size of the products of two 1-D arrays, or of one array; NaN if one of them is."""
    return float(np.abs(_product(a, b)).max(initial=0.0))


def levels(a: Reals, b: Reals | None, shape: tuple[int, ...], units: Floats) -> tuple[Integers, bool]:
    """Return the sums of what products have at each of some levels, and whether anything is left of them.

    Adding a unit to a size rounds it to a multiple of the last place of the unit, and what the bits have grown by is
    that multiple. So sums are exact, in any order (after Rump, Ogita and Oishi 2008).

    Parameters
    ----------
    a, b : ndarray of float32 or float64, 1-D
        The factors; without `b` it is `a` that is summed.
    shape : tuple of int
        The shape that the products are seen in: the first axis and every other one after that are summed over.
    units : ndarray of float64
        ``1.5 * 2**(52 + power)`` for each level, in descending order. Sizes are at most ``2**51`` times ``2**power`` of
        the first one; sums of the caller's choice fit an int64.

    Returns
    -------
    sums : ndarray of int64, shape (levels, 2, ...)
        The sums of the products and of their sizes over ``2**power``, in the shape of the axes that are kept.
    bool
        Whether a product has more digits.
    """
    rest = _product(a, b)
    sign = np.where(np.signbit(rest), -1, 1)
    np.abs(rest, out=rest)
    found = np.zeros((units.size, 2, *shape[1::2]), np.int64)
    left = True
    for both, unit in zip(found, units, strict=True):
        raised = rest + unit
        rest -= raised - unit
        upper = raised.view(np.int64) - unit.view(np.int64)
        for to, part in zip(both, (upper * sign, upper), strict=True):
            to[...] = np.add.reduce(part.reshape(shape), axis=tuple(range(0, len(shape), 2)))
        if not (left := bool(rest.any())):
            break
    return found, left


def _product(a: Reals, b: Reals | None) -> Floats:
    return a.astype(np.float64) if b is None else np.multiply(a, b, dtype=np.float64)


# --- differences -----------------------------------------------------------------------------------------------------


class Tolerance(NamedTuple):
    """The tolerance of a comparison.

    Attributes
    ----------
    rtol, atol : float
        Two finite values are the same if |a - b| <= atol + rtol |b|.
    nan_differs : bool
        Whether a NaN differs from a NaN.
    """

    rtol: float
    atol: float
    nan_differs: bool = False


def tally(a: NDArray[Any], b: NDArray[Any], tolerance: Tolerance) -> Mapping[str, NDArray[Any]]:
    """Return the tally of pairs along axis 1; every pair is compared here.

    Sums of squares of float64 may leave its range. Where the largest |a - b|, |a| or |b| of a set is beyond 2**200 or
    below 2**-200, these values are divided by two to the power of "power", "a_power" or "b_power" before they are
    multiplied and summed.

    Parameters
    ----------
    a, b : ndarray, shape (A, R) or (A, R, Q)
        The values, of any numeric dtypes and in any byte order; R is at least 1.
    tolerance : Tolerance
        The tolerance of the comparison.

    Returns
    -------
    mapping of str to ndarray, shape (A,) or (A, Q)
        The fields of `gncli.kernels.tally.Tally` but those that need the place of a set: instead of them "rank" and
        "first", the ranks along axis 1 of the worst pair and of the first that differs by a NaN or an infinity, or -1.
        Powers that are 0 everywhere may be missing.
    """
    if a.ndim == 2 and a.shape[1] < LANES:
        return {name: found.reshape(-1) for name, found in tally(a.T[None], b.T[None], tolerance).items()}
    pieces = cuts(a.shape)
    scratch = room(5 * max(a[cut].size for cut in pieces)).reshape(5, -1)
    return _put_together(a.shape, pieces, [_tally(a[cut], b[cut], tolerance, scratch) for cut in pieces])


def _tally(a: NDArray[Any], b: NDArray[Any], tolerance: Tolerance, scratch: Floats) -> dict[str, NDArray[Any]]:
    a, b = (native_order(values) for values in (a, b))
    x, y, gap, size, other = (part[: a.size].reshape(a.shape) for part in scratch)
    np.copyto(x, a)
    np.copyto(y, b)
    gap, exact = distance(a, b, x, y, gap)
    total = sums(gap)
    none = np.zeros(total.shape)
    found = {"nan": none, "inf": none, "n": none + a.shape[1], "first": np.full(total.shape, -1)}
    finite = None
    if not np.isfinite(total).all():  # a NaN or an infinity, or finite differences whose sum overflows
        finite = np.isfinite(x) & np.isfinite(y)
        by_nan, by_inf = mismatches(x, y, tolerance)
        found = {"nan": counted(by_nan), "inf": counted(by_inf), "n": counted(finite)}
        found["first"] = first_of(by_nan | by_inf)
        x[~finite], y[~finite], gap[~finite] = 0.0, 0.0, 0.0
        total = sums(gap)
    found["low"] = _most(np.negative(y, out=size), finite) * -1.0 + 0.0
    found["high"] = _most(y, finite) + 0.0
    np.abs(y, out=size)
    np.multiply(size, tolerance.rtol, out=size)
    np.subtract(gap, size, out=other)
    np.fmax(other, -np.inf, out=other)  # NaN where both overflow: inside
    found["excess"] = excess = _most(other, finite) + 0.0
    found["outside"] = none
    if exact is not None and not tolerance.rtol:
        found["outside"] = counted(exact > np.uint64(min(int(tolerance.atol), 2**64 - 1)))
    elif not (excess <= tolerance.atol / 2).all():  # half, so that the rounding of the sum below does not matter
        np.add(size, tolerance.atol, out=size)
        found["outside"] = counted(gap > size)
    ranked = gap if exact is None else exact
    if finite is not None:
        ranked = np.where(finite, gap, -1.0)
    rank = np.argmax(ranked, axis=1)
    compared = found["n"] > 0
    worst = np.take_along_axis(gap, np.expand_dims(rank, 1), 1)[:, 0]
    found["rank"], found["worst"] = np.where(compared, rank, -1), np.where(compared, worst, -1.0)
    found |= _powers(x, y, found, {a.dtype, b.dtype})
    if "power" in found:
        power = found["power"][:, None]
        apart = np.abs(np.ldexp(x, -power) - np.ldexp(y, -power))  # where a - b may overflow
        gap = np.where(power > 0, apart, np.ldexp(gap, -power))
        total = sums(gap)
    for name, values in (("a_power", x), ("b_power", y)):
        if name in found:
            np.ldexp(values, -found[name][:, None], out=values)
    found["total"] = total
    for name, left, right in (("square", gap, gap), ("product", x, y), ("a_square", x, x), ("b_square", y, y)):
        found[name] = sums(np.multiply(left, right, out=size))
    return found


def _powers(
    x: Floats, y: Floats, found: Mapping[str, NDArray[Any]], dtypes: Collection[np.dtype[Any]]
) -> dict[str, NDArray[Any]]:
    """Return the scales of the sets that have one; only float64 is as large or as small as that."""
    if np.dtype(np.float64) not in dtypes:
        return {}
    largest = {
        "power": np.clip(found["worst"], 0.0, sys.float_info.max),
        "a_power": np.maximum.reduce(np.abs(x), axis=1),
        "b_power": np.maximum.reduce(np.abs(y), axis=1),
    }
    powers = {name: scale(values) for name, values in largest.items()}
    return {name: power for name, power in powers.items() if power is not None}


def mismatches(a: NDArray[Any], b: NDArray[Any], tolerance: Tolerance) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pairs differ by a NaN, and which by an infinity."""
    a_nan, b_nan = np.isnan(a), np.isnan(b)
    by_nan = (a_nan | b_nan) if tolerance.nan_differs else (a_nan != b_nan)
    return by_nan, (np.isinf(a) | np.isinf(b)) & ~a_nan & ~b_nan & (a != b)


def _most(values: Floats, finite: NDArray[np.bool_] | None) -> Floats:
    """Return the largest of the finite values along axis 1; -infinity where there are none."""
    if finite is None:
        return np.asarray(np.maximum.reduce(values, axis=1))
    return np.asarray(np.maximum.reduce(values, axis=1, initial=-np.inf, where=finite))


def distance(
    a: NDArray[Any], b: NDArray[Any], x: Floats, y: Floats, out: Floats | None = None
) -> tuple[Floats, NDArray[np.uint64] | None]:
    """Return |a - b| in float64, and the exact distance of integers if one of the dtypes has 64 bits, else None.

    Parameters
    ----------
    a, b : ndarray
        The values, in native byte order.
    x, y : ndarray of float64
        The same values, widened.
    out : ndarray of float64, optional
        Memory for the result.
    """
    whole = a.dtype.kind in "iub" and b.dtype.kind in "iub"
    if not (whole and max(a.dtype.itemsize, b.dtype.itemsize) == 8):
        gap = np.subtract(x, y, out=out)
        return np.abs(gap, out=gap), None
    below = np.less(a, b)
    left, right = a.astype(np.uint64), b.astype(np.uint64)  # modulo 2^64, which the difference undoes
    exact = np.where(below, right - left, left - right)
    exact[np.abs(x - y) >= 2.0**64] = 2**64 - 1
    return exact.astype(np.float64), exact


def ulps(
    a: NDArray[Any], b: NDArray[Any], bits: Callable[[NDArray[Any]], NDArray[Any]] | None = None
) -> NDArray[np.int64]:
    """Return how many finite pairs lie 0, 1, 2, ... representable values apart.

    Parameters
    ----------
    a, b : ndarray
        Floats of one dtype, in any byte order.
    bits : callable, optional
        Returns the bits of finite values as signed integers. It is needed where the values were widened from a narrower
        dtype, whose bits are compared.

    Returns
    -------
    ndarray of int64, shape (ULPS,)
        The last count is of all pairs that lie `ULPS` - 1 or more apart.
    """
    a, b = (native_order(values) for values in (a, b))
    counts = np.zeros(ULPS, np.int64)
    for start in range(0, a.size, PIECE):
        pieces = a[start : start + PIECE], b[start : start + PIECE]
        if not all(np.isfinite(piece).all() for piece in pieces):
            both = np.isfinite(pieces[0]) & np.isfinite(pieces[1])
            pieces = pieces[0][both], pieces[1][both]
        steps = [piece.view(f"i{piece.itemsize}") if bits is None else bits(piece) for piece in pieces]
        if np.bitwise_xor(*steps).min(initial=0) < 0:  # for two values of one sign, the distance is that of their bits
            steps = [_place(bits) for bits in steps]
        unsigned = np.dtype(f"u{steps[0].itemsize}")
        apart = np.maximum(*steps).view(unsigned) - np.minimum(*steps).view(unsigned)
        most = int(apart.max(initial=0))
        if most < FEW:
            counts[: most + 1] += [np.count_nonzero(apart == step) for step in range(most + 1)]
        else:  # bincount casts other types than int64, slowly
            last = np.array(min(ULPS - 1, np.iinfo(unsigned).max), unsigned)
            counts += np.bincount(np.minimum(apart, last).astype(np.int64), minlength=ULPS)
    return counts


def _place(bits: NDArray[Any]) -> NDArray[Any]:
    """Return the rank of floats among all floats in order, from their bits; -0.0 and 0.0 have the same rank."""
    negative = bits >> np.array(8 * bits.dtype.itemsize - 1, bits.dtype)  # 0 or -1
    return np.asarray((bits ^ (negative & np.iinfo(bits.dtype).max)) - negative)


# --- agreement -------------------------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """The finite values of a dtype: multiples of a quantum, which for floats grows with the exponent.

    Attributes
    ----------
    kind : Float, optional
        The floating dtype; None for integers, whose quantum is 1.
    smallest, largest : float
        The extremes.
    """

    kind: Float | None
    smallest: float
    largest: float

    @classmethod
    def of(cls, dtype: np.dtype[Any], kind: Float | None = None) -> Grid:
        """Return the values of a dtype of NumPy, or of `kind`, whose values have that dtype in memory.

        Examples
        --------
        >>> Grid.of(np.dtype("f2")).largest, Grid.of(np.dtype("i1")).smallest
        (65504.0, -128.0)
        """
        kind = kind or FLOATS.get(dtype.name)
        if kind is not None:
            return cls(kind, -kind.largest, kind.largest)
        smallest, largest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return cls(None, float(smallest), float(largest))

    @property
    def all_of_float64(self) -> bool:
        """Whether every float64 is a value."""
        return self.kind is not None and self.kind.mantissa == _MANTISSA

    def spacing(self, x: float) -> float:
        """Return the distance of the values next to `x`, which is not negative.

        Examples
        --------
        >>> Grid.of(np.dtype("f2")).spacing(1.0) == 2**-10, Grid.of(np.dtype("f8")).spacing(0.0)
        (True, 5e-324)
        """
        if self.kind is None:
            return 1.0
        return math.ldexp(1.0, math.frexp(max(x, self.kind.least))[1] - 1 - self.kind.mantissa)


_MANTISSA = 52  # of float64


def nearest(y: Floats, grid: Grid) -> Floats:
    """Return float64 values rounded once to a grid, ties to even; beyond it, infinity, or NaN where there is none.

    Examples
    --------
    >>> nearest(np.array([1 + 2**-11, 1e-9]), Grid.of(np.dtype("f2"))).tolist()
    [1.0, 0.0]
    """
    if grid.kind is None:
        return np.asarray(np.clip(np.rint(y), grid.smallest, grid.largest))
    if grid.all_of_float64:
        return y
    found = np.empty(y.shape, grid.kind.dtype)
    grid.kind.round_into(y, found)
    grid.kind.resolve(found, None)
    return found.astype(np.float64)


def apart(x: Floats, y: Floats, grid: Grid) -> NDArray[np.uint64]:
    """Return how many steps of a grid of floats lie between finite values of it; -0.0 and 0.0 are one value."""
    left, right = _rank(x, grid), _rank(y, grid)
    return np.where(left < right, right - left, left - right).view(np.uint64)  # modulo 2^64, where it would overflow


def faithful(x: Floats, y: Floats, grid: Grid) -> NDArray[np.bool_]:
    """Return which `x` are one of the two values of a grid next to `y`: `y` itself if it is a value; of a NaN, none.

    Beyond the largest value the neighbours are that and what beyond it rounds to.

    Examples
    --------
    >>> faithful(np.array([1.0, 1 + 2**-10, 1 + 2**-9]), np.full(3, 1 + 2**-12), Grid.of(np.dtype("f2"))).tolist()
    [True, True, False]
    """
    if grid.all_of_float64:
        return np.asarray(x == y)
    if grid.kind is None:
        y = np.clip(y, grid.smallest, grid.largest)
    size, side = np.abs(y), np.where(np.signbit(y), -x, x)
    quantum = _quantum(y, grid)
    below, above = np.floor(size / quantum) * quantum, np.ceil(size / quantum) * quantum
    below = np.where(np.isinf(y), size, np.minimum(below, grid.largest))
    above = np.where(above > grid.largest, np.inf, above)
    found = (below <= side) & (side <= above)
    infinite = grid.kind is None or grid.kind.infinite
    return np.asarray(found if infinite else found | np.isnan(x) & (size > grid.largest))


def _quantum(x: Floats, grid: Grid) -> Floats:
    """Return the distance of the values of a grid next to each `x`, made of the bits of its exponent."""
    if grid.kind is None:
        return np.ones(x.shape)
    return np.asarray(_exponent(x, grid.kind) - grid.kind.mantissa << _MANTISSA).view(np.float64)


def _exponent(x: Floats, kind: Float) -> Integers:
    """Return the exponents of float64 as they are stored, not below that of the smallest normal number of a dtype."""
    return np.asarray(np.maximum(x.view(np.int64) >> _MANTISSA & 0x7FF, _lowest(kind)))


def _lowest(kind: Float) -> int:
    """Return the exponent of the smallest normal number, as float64 stores it."""
    return math.frexp(kind.least)[1] - 1 + 1023


def _rank(x: Floats, grid: Grid) -> Integers:
    """Return the place of finite values among all values of a grid of floats, in order; zeros have place 0."""
    if grid.all_of_float64:
        size = x.view(np.int64) & sys.maxsize
    else:
        assert grid.kind is not None  # integers are compared as such
        size = (np.abs(x) / _quantum(x, grid)).astype(np.int64)
        size += _exponent(x, grid.kind) - _lowest(grid.kind) << grid.kind.mantissa
    return np.where(np.signbit(x), -size, size)


# --- counts ----------------------------------------------------------------------------------------------------------


def between(values: NDArray[Any], first: NDArray[np.uint32], upper: NDArray[np.uint64]) -> Integers:
    """Return how many elements have bits in each of some neighbouring intervals.

    Parameters
    ----------
    values : ndarray, 1-D
        The elements, of any dtype of at most 64 bits and in any byte order. Their bits are unsigned numbers.
    first : ndarray of uint32
        The interval of the lowest number that begins with each step of 16 bits; of each number of 8 bits.
    upper : ndarray of uint64
        The largest number of each interval, in ascending order; the last one is the largest of the dtype.

    Returns
    -------
    ndarray of int64, shape (intervals,)
        The number of elements in each interval.
    """
    counts = np.zeros(upper.size, np.int64)
    number = np.zeros(first.size, np.int64)
    # Most steps lie in one interval whole. Elements with one of the others are searched for.
    rest = 8 * values.dtype.itemsize - STEP if first.size > 1 << 8 else 0
    ends = (np.arange(1, first.size + 1, dtype=np.uint64) << np.uint64(rest)) - np.uint64(1)
    torn = upper[first] < ends
    for start in range(0, values.size, PIECE):
        bits = _bits(values[start : start + PIECE])
        high = _step(bits, 0).astype(np.int64)
        number += np.bincount(high, minlength=number.size)
        searched = np.flatnonzero(torn.take(high))
        if searched.size:
            counts += np.bincount(np.searchsorted(upper, bits[searched].astype(np.uint64)), minlength=counts.size)
    np.add.at(counts, first[~torn], number[~torn])
    return counts


def steps(values: NDArray[Any], cells: Integers, num_cells: int) -> Integers:
    """Return how often each step of the highest 16 bits occurs in each cell.

    Parameters
    ----------
    values : ndarray, 1-D
        The elements, of any dtype of at most 64 bits and in any byte order, seen as (X, L, Q).
    cells : ndarray of int64, shape (X, 1, Q)
        The cell of the elements, 0 to `num_cells`; elements of the cell `num_cells` are not counted.
    num_cells : int
        The number of cells.

    Returns
    -------
    ndarray of int64, shape (num_cells, 65536) or (num_cells, 256)
        The counts of each cell by step; there are 256 where an element has one byte.
    """
    buckets = num_steps(values.dtype)
    counts = np.zeros(num_cells * buckets, np.int64)
    for _, place in _places(values, cells, max(PIECE, counts.size)):
        counts += np.bincount(place, minlength=counts.size)[: counts.size]
    return counts.reshape(-1, buckets)


def steps_on_paths(
    values: NDArray[Any], cells: Integers, top: NDArray[np.bool_], paths: NDArray[np.uint64], level: int
) -> Integers:
    """Return how often each next step of 16 bits occurs among the elements that share a path so far.

    Parameters
    ----------
    values : ndarray, 1-D
        The elements, of a dtype of 32 or 64 bits in any byte order, seen as (X, L, Q).
    cells : ndarray of int64, shape (X, 1, Q)
        The cell of the elements, as in `steps`.
    top : ndarray of bool, shape ((num_cells + 1) * 65536,)
        Whether a path of the cell begins with the step, for each cell and step.
    paths : ndarray of uint64
        The sorted paths: a cell, and after it the first `level` steps of the elements that are counted.
    level : int
        The index of the step that is counted; 0 is that of the highest 16 bits.

    Returns
    -------
    ndarray of int64, shape (paths, 65536)
        The counts of each path by step.
    """
    buckets = num_steps(values.dtype)
    counts = np.zeros(paths.size * buckets, np.int64)
    shift = np.array(8 * values.dtype.itemsize - STEP * level, f"u{values.dtype.itemsize}")
    for bits, place in _places(values, cells, PIECE):
        begun = np.flatnonzero(top.take(place))
        bits, cell = bits[begun], (place[begun] // buckets).astype(np.uint64)
        path = cell << np.uint64(STEP * level) | (bits >> shift).astype(np.uint64)
        index = np.minimum(np.searchsorted(paths, path), paths.size - 1)
        same = paths[index] == path
        used, number = np.unique(index[same] * buckets + _step(bits[same], level), return_counts=True)
        counts[used] += number
    return counts.reshape(-1, buckets)


def num_steps(dtype: np.dtype[Any]) -> int:
    """Return how many different steps there are: 65536, or 256 if an element has one byte."""
    return 1 << min(STEP, 8 * dtype.itemsize)


def _places(values: NDArray[Any], cells: Integers, size: int) -> Iterator[tuple[NDArray[Any], Integers]]:
    """Yield the bits of about `size` elements at a time, and the place of each in a table of cells by highest step."""
    bits, buckets = _bits(values), num_steps(values.dtype)
    num_x, _, width = cells.shape
    rows = bits.reshape(num_x, -1, width)
    per_row = max(1, size // width)
    per_x = max(1, per_row // max(1, rows.shape[1]))
    for x in range(0, num_x, per_x):
        base = cells[x : x + per_x] * buckets
        for row in range(0, rows.shape[1], per_row):
            piece = rows[x : x + per_x, row : row + per_row]
            flat = piece.reshape(-1)
            place = _step(flat, 0).astype(np.int64)
            if base.any():
                place.reshape(piece.shape)[...] += base
            yield flat, place


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return `values` (1-D) as unsigned numbers of as many bits, in native order."""
    native = native_order(values)
    return native.view(np.dtype(f"u{native.dtype.itemsize}"))


def _step(bits: NDArray[Any], level: int) -> NDArray[Any]:
    """Return the 16 bits of each element that pass number `level` counts, the highest first."""
    halves = bits.dtype.itemsize // 2
    if halves < 2:
        return bits
    place = halves - 1 - level if sys.byteorder == "little" else level
    return bits.view(np.uint16)[place::halves]


# --- bytes -----------------------------------------------------------------------------------------------------------


def unshuffle(data: Bytes, width: int) -> Bytes:
    """Return the bytes of elements of `width` bytes, of which `data` holds first all first bytes, then all second ones.

    What is left at the end, fewer bytes than an element has, stays where it is (HDF5's filter ``shuffle``).
    """
    count = data.size // width
    found = np.empty_like(data)
    elements, planes = found[: count * width].reshape(count, width), data[: count * width].reshape(width, count)
    for place in range(width):  # a plane at a time: three times faster than a transposed copy
        elements[:, place] = planes[place]
    found[count * width :] = data[count * width :]
    return found


def narrow(kind: Float, values: NDArray[np.float32], out: NDArray[Any]) -> None:
    """Fill `out` with the bits of `values`, for a dtype that NumPy lacks: see `Float.narrow`."""
    kind.narrow(values, out)


def fletcher32(data: Bytes) -> int:
    """Return Fletcher's checksum as HDF5 defines it: over big-endian words, modulo 65535, never folded to 0.

    Examples
    --------
    >>> hex(fletcher32(np.frombuffer(b"abcdef", np.uint8)))
    '0x50562a2d'
    """
    words = np.append(data, np.uint8(0)) if data.size % 2 else data
    values = words.view(">u2").astype(np.float64)
    whole = values[: values.size - values.size % _WORDS].reshape(-1, _WORDS)
    rest = values[whole.size :]
    plain = [int(total) for total in np.add.reduce(whole, axis=1)]
    weighted = [int(total) for total in np.vecdot(whole, np.arange(_WORDS, 0.0, -1))]
    first = second = 0
    for total, inner in zip(plain, weighted, strict=True):
        second += first * _WORDS + inner
        first += total
    second += first * rest.size + int(np.vecdot(rest, np.arange(rest.size, 0.0, -1)))
    first += int(rest.sum())
    return _folded(second) << 16 | _folded(first)


def _folded(total: int) -> int:
    """Return `total` modulo 65535 as adding the carries gives it: 0 only if all terms are 0."""
    return (total - 1) % 65535 + 1 if total else 0
