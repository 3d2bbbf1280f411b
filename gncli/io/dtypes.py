"""Which dtypes are read, those that NumPy lacks included, and a sentence for every other dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gncli.errors import InputError
from gncli.kernels.floats import FLOATS

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


FOREIGN = {
    "BF16": FLOATS["bfloat16"],
    "F8_E4M3": FLOATS["float8_e4m3fn"],
    "F8_E5M2": FLOATS["float8_e5m2"],
}
"""The dtypes that NumPy lacks, by their name in .safetensors."""
