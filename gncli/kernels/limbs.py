"""Exact sums of the deviations of whole cells from a center, as integers that are added up in any order.

Notes
-----
`plain.limbs` takes a block apart. Its sums become digits to the base ``2**44``, which are the same for equal sums, and
so are those of the union of blocks: what is computed from them does not depend on how a tensor was cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.loops import loops
from gncli.kernels.moments import Floats, Moments, is_wide_integer, shifted, width
from gncli.kernels.plain import LIMB
from gncli.kernels.reduction import Rows, Visit, fold_axes, measure_blocks
from gncli.kernels.twofold import two_sum

Integers = NDArray[np.int64]

DIGIT = 2 * LIMB  # bits
LAST = 3 * LIMB  # the last bit of a deviation is 2**-LAST of the unit
TOP = 21  # bits of the largest deviation, over the unit


class Limbs(NamedTuple):
    """Sums of deviations over ``unit * 2**-LAST``, and of their squares over the square of that, digit by digit.

    The lowest digit comes first; all but the last are from 0 to ``2**DIGIT - 1``.
    """

    first_0: Integers
    first_1: Integers
    first_2: Integers
    second_0: Integers
    second_1: Integers
    second_2: Integers
    second_3: Integers
    second_4: Integers
    late: NDArray[np.bool_]  # where the digits are not all there

    @classmethod
    def of(cls, sums: Integers, late: NDArray[np.bool_]) -> Limbs:
        """Return the digits of what `plain.limbs` found."""
        a, b, c, d, *products = sums
        none = np.zeros_like(a)
        aa, ab, ac, ad, bd, cd, dd = products
        second = [dd, 2 * cd, bd, 2 * ad, ac, 2 * ab, aa, none, none]
        return cls._make([*_paired([d, c, b, a, none]), *_paired(second), late])

    @property
    def first(self) -> tuple[Integers, ...]:
        """The digits of the sum of deviations."""
        return self[:3]

    @property
    def second(self) -> tuple[Integers, ...]:
        """The digits of the sum of their squares."""
        return self[3:8]


def merge(a: Limbs, b: Limbs) -> Limbs:
    """Return the sums of unions."""
    digits = [one + other for one, other in zip(a[:8], b[:8], strict=True)]
    return Limbs._make([*_carried(digits[:3], DIGIT), *_carried(digits[3:], DIGIT), a.late | b.late])


def _carried(digits: Sequence[Integers], bits: int) -> list[Integers]:
    """Return digits, the lowest first, so that all but the last have so many bits."""
    found, more = [], np.zeros_like(digits[0])
    for digit in digits[:-1]:
        total = digit + more
        found.append(total & (1 << bits) - 1)
        more = total >> bits
    return [*found, digits[-1] + more]


def _paired(digits: Sequence[Integers]) -> list[Integers]:
    """Return digits of `DIGIT` bits, and a last one of any size, from an odd number of those of `LIMB` bits."""
    *low, last = _carried(digits, LIMB)
    return [*(a + (b << LIMB) for a, b in zip(low[::2], low[1::2], strict=True)), last]


def center(cells: Moments, *, about_zero: bool) -> tuple[Floats, Floats]:
    """Return what deviations are taken from in each cell, a multiple of two units, and that unit, a power of two.

    Two units, so that the multiple of a unit next to a value is the value's own one wherever two are as near: 0 then
    wins over 1, and what is left of a value near half a unit is a float64.

    Parameters
    ----------
    cells : Moments
        The moments; the center and the unit are on the scale of their `hi`. The center is next to their mean, so that
        the sum of squares about it is next to the least one.
    about_zero : bool
        Whether deviations are taken from 0.
    """
    if cells.min.dtype.kind in "iu":
        low, high = np.zeros(cells.n.shape), width(cells.min, cells.max)
    else:
        power = 0 if cells.power is None else cells.power
        low, high = np.ldexp(cells.min, -power), np.ldexp(cells.max, -power)
    mean = np.zeros(cells.n.shape) if about_zero else cells.hi + cells.lo
    largest = np.maximum(high - mean, mean - low)
    known = (largest > 0) & (largest < np.inf)
    unit = np.ldexp(1.0, np.where(known, np.frexp(largest)[1] - TOP, 0))
    shift = 3 * 2.0**52 * unit
    return np.where(known, (mean + shift) - shift, mean), unit


def over_blocks(visit: Visit, cells: NDArray[Any]) -> NDArray[Any]:
    """Return what each row of a visit has of `cells`, which are as `Reduction.measure` has them; in shape (X, Q)."""
    walk, region = visit.walk, visit.region
    num_x, _, columns = walk.view(region)
    dims = walk.dims(region)
    block = len(dims) - 1 - len(walk.columns)  # the axis of the blocks of a leaf, which are in one cell
    sizes = [1 if place == block else axis.size for place, axis in enumerate(dims)]
    own = cells.reshape([axis.size if axis.cell else 1 for axis in dims])
    return np.broadcast_to(own, sizes).reshape(num_x, columns)


def cell_limbs(visit: Visit, cells: Moments, middle: Floats, unit: Floats) -> Limbs:
    """Return the sums of the cells of a visit; late ones of cells that are scaled.

    Parameters
    ----------
    visit : Visit
        The visit, with its elements.
    cells : Moments
        Of its cells, as `Reduction.measure` has them. Integer minima are subtracted from the elements. The sums of
        64-bit integers are late if a float64 does not hold every difference, or every element.
    middle, unit : ndarray of float64, 1-D
        The center and the unit of each cell.
    """
    walk, wide, based = visit.walk, is_wide_integer(visit.values.dtype), cells.min.dtype.kind in "iu"
    if cells.power is not None:
        middle = np.where(cells.power != 0, np.nan, middle)
    placed = [over_blocks(visit, each) for each in (middle, unit, *([cells.min] * based))]

    def kernel(rows: Rows) -> Limbs:
        values, part = rows.of(visit.values), rows.part
        repeats = part.blocks.stop - part.blocks.start
        own = [np.repeat(each[part.x, part.q], repeats, axis=0) for each in placed]
        if not walk.columns:
            own = [each[:, 0] for each in own]
        if based:
            values = shifted(values, own[2][:, None])
        return Limbs.of(*loops().limbs(values, own[0], own[1]))

    visit = visit if based else visit._replace(tile=visit.values.size)
    found = measure_blocks(visit, kernel, lambda record, axes, first: fold_axes(record, axes, merge, keep_first=first))
    if not wide:
        return found
    reach = width(cells.min, cells.max) if based else np.maximum(np.abs(cells.min), np.abs(cells.max))
    return found._replace(late=found.late | (reach >= 2.0**53))


def digits_of(number: int, count: int) -> list[int]:
    """Return the digits of an integer, the lowest first, the last one of any size."""
    low = [number >> DIGIT * k & (1 << DIGIT) - 1 for k in range(count - 1)]
    return [*low, number >> DIGIT * (count - 1)]


def halves(digits: Sequence[NDArray[Any]], least: int) -> tuple[Floats, Floats]:
    """Return numbers as sums of two float64, from their digits; the last bit of these stands for ``2**least``."""
    high, low = digits[-1].astype(np.float64), np.zeros(digits[-1].shape)
    for digit in reversed(digits[:-1]):
        high, lost = two_sum(np.ldexp(high, DIGIT), digit.astype(np.float64))
        low = np.ldexp(low, DIGIT) + lost
    high, low = two_sum(high, low)
    return np.ldexp(high, least), np.ldexp(low, least)


def integers(digits: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return numbers as Python integers, from their digits."""
    total = digits[-1].astype(object)
    for digit in reversed(digits[:-1]):
        total = (total << DIGIT) + digit.astype(object)
    return np.asarray(total, object)


def exponent(unit: Floats) -> Integers:
    """Return e of powers of two, ``2**e``."""
    return np.frexp(unit)[1].astype(np.int64) - 1
