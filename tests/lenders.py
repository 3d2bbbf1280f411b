"""Arrays of other libraries, in a few lines: what has ``__array__``, and what speaks DLPack and nothing else."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODE = 20  # the offset of the dtype's code in DLPack's struct, after a pointer, the device and ndim
BITS, LANES = CODE + 1, CODE + 2

_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class Speaker:
    """An array that speaks DLPack: NumPy's capsule, in which the dtype's code may be another.

    Parameters
    ----------
    array : ndarray
        What it lends.
    code : int, optional
        DLPack's code of the dtype: 4 makes bfloat16 of 16-bit integers.
    device : int
        DLPack's number of the device; 1 is the CPU, 2 CUDA.
    """

    def __init__(self, array: NDArray[Any], code: int | None = None, device: int = 1, lanes: int = 1) -> None:
        self.array, self.code, self.device, self.lanes = array, code, device, lanes

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self) -> object:
        capsule = self.array.__dlpack__()
        struct = _pointer(capsule, b"dltensor")
        if self.code is not None:
            ctypes.c_uint8.from_address(struct + CODE).value = self.code
        ctypes.c_uint16.from_address(struct + LANES).value = self.lanes
        return capsule


class Holder:
    """An object with ``__array__``."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return np.array(self.array, dtype=dtype, copy=copy)


class Foreign(Speaker):
    """A tensor like PyTorch's of a dtype that NumPy does not have: NumPy is refused."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        raise TypeError("Got unsupported ScalarType BFloat16")


class Reluctant(Foreign):
    """The same, where it needs a gradient: it must be detached first."""

    def __dlpack__(self) -> object:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")

    def detach(self) -> Speaker:
        return Foreign(self.array, self.code)
