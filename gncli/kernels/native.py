"""The loops of `gncli.kernels.plain` in C, called by ctypes, which releases the interpreter's lock."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIBRARY = __file__.removesuffix("native.py") + "native.bin"  # `build` puts it there

BODIES = ("baseline", "avx2", "avx512")
"""The instruction sets that `native.c` is compiled for, the widest last."""

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_ssize_t
_ARGUMENTS = {
    "unshuffle": (_POINTER, _POINTER, _SIZE, _SIZE),
}


class Native:
    """The loops of one body.

    Parameters
    ----------
    body : str
        One of `bodies`.
    """

    def __init__(self, body: str) -> None:
        self.name = body
        library = _library()
        assert library is not None  # there are no bodies without it
        self._call = {}
        for name, arguments in _ARGUMENTS.items():
            function = getattr(library, f"{name}_{body}")
            function.argtypes, function.restype = arguments, None
            self._call[name] = function

    def unshuffle(self, data: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
        """See `plain.unshuffle`."""
        data = np.ascontiguousarray(data)
        found = np.empty_like(data)
        count = data.size // width
        self._call["unshuffle"](_at(data), _at(found), count, width)
        found[count * width :] = data[count * width :]
        return found


def bodies() -> tuple[str, ...]:
    """Return the bodies that this processor can run, the fastest last; none where `native.c` was not compiled."""
    library = _library()
    if library is None:
        return ()
    return tuple(body for number, body in enumerate(BODIES) if library.supports(number))


def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(LIBRARY)  # the loader keeps it: this costs little the second time
    except OSError:
        return None


def _at(array: NDArray[Any]) -> int:
    """Return the address of the first element; `array.ctypes.data` takes five times as long."""
    return int(array.__array_interface__["data"][0])
