"""Which dtypes are tensors, and a sentence for every other one."""

from __future__ import annotations

from typing import Any

import numpy as np

from gncli.errors import InputError

NUMERIC = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
"""Kind and size of every dtype that gncli reads: boolean, integer and float16/32/64."""

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


def refuse_dtype(kind: str, itemsize: int, shown: str, name: str) -> InputError:
    """Return the error that says in words why a dtype of this NumPy kind is not read.

    Parameters
    ----------
    kind : str
        NumPy's one-letter kind.
    itemsize : int
        Bytes of an element.
    shown : str
        The dtype, as the file gives it.
    name : str
        The input that the error is about.
    """
    words, way_out = _WORDS.get(kind, ("elements of a type that is not a number", None))
    if (kind, itemsize) == ("V", 2):
        words, way_out = "2-byte raw elements: bfloat16 saved as raw bytes?", "save it as float32"
    return InputError(f"holds {words} (dtype {shown})", subject=name, way_out=way_out)


def check_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return `dtype`, which is boolean, integer or float16/32/64.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if dtype.subdtype is not None:
        raise InputError(f"holds small arrays as elements (dtype {dtype})", subject=name)
    if f"{dtype.kind}{dtype.itemsize}" not in NUMERIC:
        raise refuse_dtype(dtype.kind, dtype.itemsize if dtype.names is None else 0, str(dtype), name)
    return dtype
