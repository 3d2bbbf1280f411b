"""Which dtypes are read, how the ones that NumPy does not have are widened, and a sentence for every other dtype."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError

NUMERIC = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
"""Kind and size of every dtype that gncli reads: boolean, integer and float16/32/64."""

MAX_NBYTES = (1 << 63) - 1
MAX_NDIM = 64  # NumPy's own limit

_WORDS: dict[str, tuple[str, str | None]] = {
    "O": ("Python objects, which only unpickling could read, and that would run code from the file", None),
    "S": ("byte strings, not numbers", None),
    "a": ("byte strings, not numbers", None),
    "U": ("strings, not numbers", None),
    "M": ("dates, not numbers", "save them as integers, with .astype('int64')"),
    "m": ("time differences, not numbers", "save them as integers, with .astype('int64')"),
    "c": ("complex numbers, which have no order and no group norm", "save .real and .imag, or abs(), instead"),
    "f": ("floats of a size whose format differs between machines", "save them as float64"),
    "V": ("raw or structured records, not numbers", "save each field as an array of its own"),
}


class NotNumericError(InputError):
    """An input is undamaged, but its elements are no numbers, or of a dtype that gncli does not read."""


def refuse_dtype(kind: str, itemsize: int, shown: str, name: str) -> NotNumericError:
    """Return the error that says in words why a dtype is not read.

    Parameters
    ----------
    kind : str
        NumPy's letter for the kind of dtype.
    itemsize : int
        Size of an element in bytes.
    shown : str
        The dtype, as the file names it.
    name : str
        The input that the error is about.
    """
    words, hint = _WORDS.get(kind, ("elements of a type that is not a number", None))
    if (kind, itemsize) == ("V", 2):
        words, hint = "2-byte raw elements: bfloat16 saved as raw bytes?", "save it as float32"
    return NotNumericError(f"holds {words} (dtype {shown})", subject=name, hint=hint)


def refuse_type(shown: str, name: str) -> NotNumericError:
    """Return the error about a dtype that neither NumPy nor gncli has, as the file names it."""
    problem = f"holds elements of a type that is not read (dtype {shown})"
    return NotNumericError(problem, subject=name, hint="save it as bfloat16 or float32")


def check_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return `dtype`, which is boolean, integer or float16/32/64.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if dtype.subdtype is not None:
        raise NotNumericError(f"holds small arrays as elements (dtype {dtype})", subject=name)
    if f"{dtype.kind}{dtype.itemsize}" not in NUMERIC:
        raise refuse_dtype(dtype.kind, dtype.itemsize if dtype.names is None else 0, str(dtype), name)
    return dtype


def holdable(shape: Sequence[int], itemsize: int) -> bool:
    """Return whether NumPy could have an array of this shape; as NumPy counts, a size of 0 does not excuse the others.

    Examples
    --------
    >>> holdable((2, 3), 4), holdable((0, 1 << 40, 1 << 40), 4)
    (True, False)
    """
    return len(shape) <= MAX_NDIM and math.prod(filter(None, shape)) * itemsize <= MAX_NBYTES


class Widening(NamedTuple):
    """A floating dtype that NumPy does not have. Each of its values is a float32 too, and is read as that.

    Parameters
    ----------
    name : str
        Its name in ml_dtypes, JAX and PyTorch.
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
    def raw(self) -> np.dtype[Any]:
        """The little-endian unsigned integer dtype that has the size of an element."""
        return np.dtype(f"<u{(1 + self.exponent + self.mantissa) // 8}")

    def widen(self, raw: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Fill `out` with the values whose bits are in `raw`."""
        if self.raw.itemsize == 2:
            np.left_shift(raw, 16, out=out.view(np.uint32), dtype=np.uint32)
        else:
            np.take(_values(self), raw, out=out, mode="clip")  # "raise" would make a copy

    def bits(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return the bits that finite `values` were widened from, as integers with a sign.

        Examples
        --------
        >>> WIDENED["BF16"].bits(np.float32([1, -1])), WIDENED["F8_E5M2"].bits(np.float32([1, -1]))
        (array([ 16256, -16512], dtype=int16), array([ 60, -68], dtype=int8))
        """
        if self.raw.itemsize == 2:
            return np.asarray(values.view(np.uint32) >> 16).astype(np.uint16).view(np.int16)
        table = _values(self)
        positive = np.searchsorted(table[: int(np.isfinite(table[:128]).sum())], np.abs(values))
        return np.asarray(positive + 128 * np.signbit(values)).astype(np.uint8).view(np.int8)


@functools.cache
def _values(kind: Widening) -> NDArray[np.float32]:
    """Return the value of each byte, of shape (256,)."""
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
    values[last] = np.nan
    return np.asarray(np.copysign(values, np.where(codes < 128, 1, -1)), np.float32)


WIDENED = {
    "BF16": Widening("bfloat16", 8, 7),
    "F8_E4M3": Widening("float8_e4m3fn", 4, 3, infinite=False),
    "F8_E5M2": Widening("float8_e5m2", 5, 2),
}
"""The dtypes that NumPy does not have, by their name in .safetensors."""
