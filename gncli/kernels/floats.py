"""The floating dtypes that tensors have, those that NumPy lacks included, and how a float64 is rounded to each."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.errors import ParameterError

_EXPONENT = np.int64(0x7FF << 52)  # of a float64


class Float(NamedTuple):
    """A floating dtype.

    Values of a dtype that NumPy lacks are float32 in memory: each of them is a float32 too.

    Parameters
    ----------
    name : str
        Its name in NumPy; for the others in ml_dtypes, JAX and PyTorch.
    exponent, mantissa : int
        The number of bits of the exponent and of the mantissa; the sign is the bit before them.
    infinite : bool
        Whether the largest exponent stands for infinities and NaN, as in IEEE 754. Without infinities, the only NaN has
        all bits set.
    """

    name: str
    exponent: int
    mantissa: int
    infinite: bool = True

    @property
    def foreign(self) -> bool:
        """Whether NumPy lacks it; all of these have fewer than 10 bits of mantissa."""
        return self.mantissa < 10

    @property
    def ambiguous(self) -> bool:
        """Whether overflow has two conventions, and no default: that of float8."""
        return self.mantissa < 7

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its values in memory, in native byte order."""
        return np.dtype(np.float32 if self.foreign else self.name)

    @property
    def checked(self) -> np.dtype[Any]:
        """The dtype of standardized values in the check; of coarser ones mean and variance say nothing."""
        return np.dtype(np.float64) if self.foreign else self.dtype

    @property
    def stored(self) -> np.dtype[Any]:
        """The little-endian dtype of an element in a file: unsigned integers where NumPy lacks it."""
        nbytes = (1 + self.exponent + self.mantissa) // 8
        return np.dtype(f"<{'u' if self.foreign else 'f'}{nbytes}")

    @property
    def least(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (2 - (1 << self.exponent - 1))

    @property
    def largest(self) -> float:
        """The largest finite number."""
        bias, full = (1 << self.exponent - 1) - 1, 2.0 - 2.0**-self.mantissa
        return full * 2.0**bias if self.infinite else (full - 2.0**-self.mantissa) * 2.0 ** (bias + 1)

    @property
    def limit(self) -> float:
        """The middle between the largest number and the one that would follow it."""
        return self.largest + math.ldexp(1.0, math.frexp(self.largest)[1] - 2 - self.mantissa)

    @property
    def shift(self) -> float:
        """A number that, times the power of two at or below a number, has its last place where that is rounded."""
        return 1.5 * 2.0 ** (52 - self.mantissa)

    def beyond(self, overflow: str | None) -> float:
        """Return what stands for a result that overflows: the largest number if `overflow` is "saturate"."""
        if overflow == "saturate":
            return self.largest
        return np.inf if self.infinite else np.nan

    def round_into(self, values: NDArray[np.float64], out: NDArray[Any]) -> None:
        """Fill `out` with `values`, rounded once, to nearest even; what overflows is infinite.

        An element overflows if its rounding with unbounded exponent is beyond the largest number. A value is
        rounded by adding and subtracting a float64 that has its last place there.

        Parameters
        ----------
        values : ndarray of float64
            The values.
        out : ndarray of `dtype`
            Takes the numbers.

        Examples
        --------
        >>> out = np.empty(4, np.float32)
        >>> FLOATS["float8_e4m3fn"].round_into(np.array([0.3, 464.0, 464.1, -0.0]), out)
        >>> out
        array([ 3.125e-01,  4.480e+02,        inf, -0.000e+00], dtype=float32)
        """
        if not self.foreign:
            out[...] = values
            return
        size = np.abs(values)
        unit = np.asarray(size.view(np.int64) & _EXPONENT).view(np.float64)
        np.maximum(unit, self.least, out=unit)
        unit *= self.shift
        size += unit
        size -= unit
        size[~(size <= self.largest)] = np.inf  # infinity less infinity is NaN
        out[...] = np.copysign(size, values)
        out[np.isnan(values)] = np.nan

    def resolve(self, values: NDArray[Any], overflow: str | None) -> int:
        """Replace infinities, which stand for what overflowed, by what `beyond` says; return how many there are."""
        which = np.flatnonzero(np.isinf(values))
        if which.size:
            values[which] = np.copysign(self.beyond(overflow), values[which])
        return which.size

    def widen(self, raw: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Fill `out` with the values whose bits are in `raw`, for a dtype that NumPy lacks."""
        if raw.itemsize == 2:
            np.left_shift(raw, 16, out=out.view(np.uint32), dtype=np.uint32)
        else:
            np.take(_values(self), raw, out=out, mode="clip")  # "raise" would make a copy

    def narrow(self, values: NDArray[np.float32], out: NDArray[Any]) -> None:
        """Fill `out` with the bits of `values`, for a dtype that NumPy lacks.

        A number that has more digits loses them, and so does a NaN.
        """
        upper = np.right_shift(values.view(np.uint32), 16)
        if out.itemsize == 2:
            out[...] = upper
        else:
            np.take(self.codes, upper, out=out, mode="clip")

    @property
    def codes(self) -> NDArray[np.uint8]:
        """The byte of each number of a float8 by the upper half of its float32."""
        return _codes(self)

    def bits(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return the bits of finite `values`, as integers with a sign.

        Examples
        --------
        >>> FLOATS["bfloat16"].bits(np.float32([1, -1])), FLOATS["float8_e5m2"].bits(np.float32([1, -1]))
        (array([ 16256, -16512], dtype=int16), array([ 60, -68], dtype=int8))
        """
        found = np.empty(values.shape, self.stored)
        self.narrow(values, found)
        return found.view(f"i{found.itemsize}")


@functools.cache
def _values(kind: Float) -> NDArray[np.float32]:
    """Return the value of each byte, of shape (256,); a NaN is quiet, and keeps its mantissa in its lowest bits."""
    codes = np.arange(256)
    exponents, mantissas = codes >> kind.mantissa & (1 << kind.exponent) - 1, codes & (1 << kind.mantissa) - 1
    bias = (1 << kind.exponent - 1) - 1
    normal = exponents > 0
    significands = (normal << kind.mantissa) + mantissas
    values = np.ldexp(significands.astype(np.float32), np.maximum(exponents, 1) - bias - kind.mantissa)
    last = codes & 127 == 127
    if kind.infinite:
        last = exponents == (1 << kind.exponent) - 1
        values[last & (mantissas == 0)] = np.inf
        last &= mantissas > 0
    nans = 0x7F800000 | mantissas.astype(np.uint32) << (23 - kind.mantissa)  # which differ as their bytes do
    values[last] = nans.view(np.float32)[last]
    signs = (codes >> 7).astype(np.uint32) << 31
    return np.asarray(values.view(np.uint32) | signs).view(np.float32)


@functools.cache
def _codes(kind: Float) -> NDArray[np.uint8]:
    """Return the byte of each number by the upper half of its float32, of shape (65536,).

    Numbers between two neighbours have the code of the one nearer to 0. A NaN has the code that it was widened from.
    """
    upper = (np.arange(1 << 15, dtype=np.uint32) << 16).view(np.float32)
    values = _values(kind)[:128]
    numbers = values[~np.isnan(values)]
    codes = np.searchsorted(numbers, upper, side="right").astype(np.uint8) - np.uint8(1)
    nans = np.flatnonzero(np.isnan(upper))
    upper_bits = nans >> 7 - kind.mantissa & (1 << kind.mantissa) - 1 if kind.infinite else 7
    codes[nans] = (0x7F - ((1 << kind.mantissa) - 1)) | upper_bits
    return np.concatenate([codes, codes | np.uint8(0x80)])


FLOATS = {
    kind.name: kind
    for kind in (
        Float("float16", 5, 10),
        Float("float32", 8, 23),
        Float("float64", 11, 52),
        Float("bfloat16", 8, 7),
        Float("float8_e4m3fn", 4, 3, infinite=False),
        Float("float8_e5m2", 5, 2),
    )
}
"""The floating dtypes, by name."""


def smallest_normal(dtype: np.dtype[Any], stored_as: Float | None = None) -> float:
    """Return the smallest normal number of the elements of a tensor; 0 of integers."""
    if dtype.kind != "f":
        return 0.0
    return (FLOATS[dtype.name] if stored_as is None else stored_as).least


def chosen(name: str | None, default: Float, overflow: str | None) -> Float:
    """Return the dtype of a result.

    Parameters
    ----------
    name : str, optional
        The dtype that was asked for, as NumPy or the table above names it.
    default : Float
        The dtype without a name.
    overflow : {"saturate", "nonfinite"}, optional
        What becomes of results that overflow.

    Raises
    ------
    ParameterError
        If there is no such dtype, or `overflow` is missing, or means nothing.
    """
    made = default if name is None else FLOATS.get(name) or FLOATS.get(np.dtype(name).name)
    if made is None:
        *names, last = FLOATS
        raise ParameterError(f"{name} cannot hold the result", hint=f"choose {', '.join(names)} or {last}")
    if made.ambiguous and overflow is None:
        what = "infinity" if made.infinite else "NaN"
        raise ParameterError(
            f"{made.name} has two conventions for a result beyond its largest number, {made.largest:g}",
            hint=f"say --overflow saturate (it becomes {made.largest:g}) or --overflow nonfinite (it becomes {what})",
        )
    if overflow is not None and not made.foreign:
        raise ParameterError(
            f"--overflow is about bfloat16 and float8, and the result is {made.name}", hint="leave it out"
        )
    return made
