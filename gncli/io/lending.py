"""Arrays of any library as sources: what NumPy takes, and what speaks DLPack, read in place wherever that is possible.

No library but NumPy is imported: an array says itself what it is.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import GncliError, InputError
from gncli.io.arrays import ArraySource
from gncli.io.dtypes import FOREIGN, NotNumericError, check_dtype
from gncli.io.foreign import Widened
from gncli.io.source import Container, Source
from gncli.kernels.floats import Float
from gncli.kernels.walk import boxes

HOSTS = frozenset({1, 3, 11, 13})
"""DLPack's numbers of the devices whose memory the CPU reads: its own, pinned, and managed."""

KINDS = {0: "i", 1: "u", 2: "f", 4: "bfloat", 5: "c", 6: "b", 10: "float8_e4m3fn", 12: "float8_e5m2"}
"""NumPy's letter, or the name, of a kind of number by DLPack's code."""

_FOREIGN = {kind.name: kind for kind in FOREIGN.values()}


class StridedSource(Source):
    """An array whose elements do not lie one after the other, such as a transposed one: read in C order, by pieces."""

    def __init__(self, array: NDArray[Any], name: str) -> None:
        self.name, self.shape, self.dtype = name, array.shape, check_dtype(array.dtype, name)
        self._array = array

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on."""
        done = 0
        for box in boxes(self.shape, start, start + out.size):
            piece = self._array[box]
            out[done : done + piece.size].reshape(piece.shape)[...] = piece
            done += piece.size


class Lent(Container):
    """An array as what a name stands for: one tensor, without a name of its own."""

    def __init__(self, source: Source) -> None:
        self.skipped = []
        self._source = source

    def names(self) -> list[str]:
        """Return the one name, which is empty."""
        return [""]

    def open(self, member: str, name: str) -> Source:  # the array has a name already
        """Return the array."""
        return self._source


def lend(x: Any, name: str) -> Source:
    """Return an array of any library as a source, which reads it in place.

    Parameters
    ----------
    x : array_like
        An array; what has ``__array__``, such as a list, a scalar, an array of JAX; or what has ``__dlpack__``, such as
        a tensor of PyTorch, on the CPU. bfloat16 and float8 (of PyTorch, of ml_dtypes) are read as their values. Or a
        source, which is returned.
    name : str
        What errors and reports call it.

    Raises
    ------
    InputError
        If it is a path, is masked, lies on another device, or its elements are no numbers that gncli reads.
    """
    if isinstance(x, Source):
        return x
    if isinstance(x, str) or hasattr(x, "__fspath__"):
        hint = "gncli.stats, gncli.diff and gncli.normalize_file read files"
        raise InputError("is a path, not an array", subject=name, hint=hint)
    if _masked(x):
        raise InputError(
            "is a masked array", subject=name, hint="give its .filled(value), or its .compressed() elements"
        )
    if hasattr(x, "detach"):  # a tensor of PyTorch that needs a gradient gives its elements to nobody
        x = x.detach()
    array, kind = _array_of(x, name)
    if array.dtype.kind == "O":
        raise NotNumericError(f"holds Python objects, not numbers ({type(x).__name__})", subject=name)
    contiguous = array.flags.c_contiguous or array.flags.f_contiguous
    source = ArraySource(array, name) if contiguous else StridedSource(array, name)
    return source if kind is None else Widened(source, kind)


def _masked(x: Any) -> bool:
    """Return whether an array has a mask, or one in a list: NumPy would ignore that."""
    if isinstance(x, list | tuple):
        return any(map(_masked, x))
    ma = sys.modules.get("numpy.ma")  # whoever made a masked array has imported it
    return ma is not None and isinstance(x, ma.MaskedArray)


def _array_of(x: Any, name: str) -> tuple[NDArray[Any], Float | None]:
    """Return an array that shares the memory of `x` if it can, and what its integers stand for if they are bits."""
    speaks = hasattr(x, "__dlpack__")
    try:
        # What has both is asked for __array__ first: DLPack passes over a sign that a tensor of PyTorch applies late.
        if speaks and not hasattr(x, "__array__"):
            return _from_dlpack(x, name)
        try:
            array = np.asarray(x)
        except (TypeError, ValueError, RuntimeError):
            if speaks and (lent := _from_dlpack(x, name))[1] is not None:  # of a dtype that NumPy does not have
                return lent
            raise
    except (GncliError, MemoryError):
        raise
    except Exception as error:  # libraries raise what they like
        text = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"cannot be read as an array ({text})", subject=name) from error
    # The name of a dtype takes long to make; one that another library defined has 2 here.
    float_ = _FOREIGN.get(array.dtype.name) if array.dtype.isbuiltin == 2 else None
    return (array, None) if float_ is None else (array.view(f"u{array.dtype.itemsize}"), float_)


# --- DLPack (https://dmlc.github.io/dlpack/latest/c_api.html) --------------------------------------------------------


class _Tensor(ctypes.Structure):
    """DLTensor: where the elements are. Strides count elements; without any, the order is C."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Lender:
    """What NumPy asks for the memory of a tensor. It keeps the capsule, and so the tensor, while that lives."""

    def __init__(self, capsule: object, interface: dict[str, object]) -> None:
        self.capsule, self.__array_interface__ = capsule, interface


def _from_dlpack(x: Any, name: str) -> tuple[NDArray[Any], Float | None]:
    """Return the array, or the bits, of what speaks DLPack: of any dtype that gncli reads, and NumPy may not."""
    device = int(x.__dlpack_device__()[0])
    if device not in HOSTS:
        hint = "copy it to the CPU first, as .cpu() does in PyTorch"
        raise InputError(f"lies on another device than the CPU (DLPack's device {device})", subject=name, hint=hint)
    capsule = x.__dlpack__()
    tensor = _Tensor.from_address(_pointer(capsule, b"dltensor"))  # the first member of DLManagedTensor
    kind = KINDS.get(tensor.code)
    if kind is None or tensor.lanes != 1 or tensor.bits % 8:
        shown = f"code {tensor.code}, {tensor.bits} bits, {tensor.lanes} lanes"
        raise NotNumericError(f"holds elements that gncli does not read (DLPack's {shown})", subject=name)
    float_ = _FOREIGN.get(f"{kind}{tensor.bits}" if kind == "bfloat" else kind)
    letter = kind if float_ is None else "u"
    size = tensor.bits // 8
    interface: dict[str, object] = {
        "version": 3,
        "typestr": f"{'|' if size == 1 else '<' if sys.byteorder == 'little' else '>'}{letter}{size}",
        "shape": tuple(tensor.shape[: tensor.ndim]),
        "strides": tuple(step * size for step in tensor.strides[: tensor.ndim]) if tensor.strides else None,
        "data": ((tensor.data or 0) + tensor.byte_offset, True),
    }
    return np.asarray(_Lender(capsule, interface)), float_
