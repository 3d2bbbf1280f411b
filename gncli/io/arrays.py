"""Arrays in memory, as sources and sinks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io.dtypes import check_dtype
from gncli.io.source import Order, Sink, Source


class ArraySource(Source):
    """An array as a source.

    Parameters
    ----------
    array : ndarray
        Boolean, integer or floating. C- and Fortran-ordered arrays are read as they lie, others are copied.
    name : str
        What errors call it.

    Raises
    ------
    InputError
        If its dtype is not numeric.
    """

    def __init__(self, array: NDArray[Any], name: str = "") -> None:
        self.name = name
        self.dtype = check_dtype(array.dtype, name)
        self.shape = array.shape
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        self.order: Order = "F" if fortran else "C"
        self._flat = (array.T if fortran else array).reshape(-1)

    def lent(self, start: int, stop: int) -> NDArray[Any] | None:
        """Return these elements without a copy; None if they do not lie side by side."""
        return self._flat[start:stop] if self._flat.flags.c_contiguous else None

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on."""
        out[...] = self._flat[start : start + out.size]


class ArraySink(Sink):
    """An array as a sink.

    Parameters
    ----------
    shape, dtype : tuple of int, numpy.dtype
        Shape and dtype of the array.
    order : {"C", "F"}
        The memory order of the array, in which the runs come.
    name : str
        What errors call it.

    Attributes
    ----------
    array : ndarray
        The array; what was not written is undefined.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order = "C", name: str = "") -> None:
        self.name = name
        self._flat: NDArray[Any] = np.empty(math.prod(shape), dtype)
        self.array: NDArray[Any] = self._flat.reshape(shape, order=order)

    def lent(self, start: int, stop: int) -> NDArray[Any]:
        """Return where these elements belong."""
        return self._flat[start:stop]

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data` as the elements from `start` on."""
        self._flat[start : start + data.size] = data
