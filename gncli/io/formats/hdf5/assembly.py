"""A tensor in chunks of whole samples: the worker that completes a chunk compresses it; chunks are stored in order.

Each chunk of a C-ordered tensor is one contiguous run: whole samples, or a part of one. The file does not depend on
which worker was first: a chunk that is early waits for those before it, and at most as many wait as there are visits
in progress.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io.transposition import Cut, Gathering


class ChunkAssembly:
    """The compressed chunks of a tensor whose runs come roughly in order, from any thread.

    Parameters
    ----------
    cut : Cut
        Where one ends and the next begins.
    dtype : numpy.dtype
        Dtype of the elements.
    level : int
        Level of deflate, 0 to 9.
    store : callable
        ``store(corner, data)`` is called for each chunk, in order, by one thread at a time.
    """

    def __init__(
        self, cut: Cut, dtype: np.dtype[Any], level: int, store: Callable[[tuple[int, ...], bytes], None]
    ) -> None:
        self.cut, self.level = cut, level
        self.write_from = Gathering(cut, dtype, self._compress).write_from
        self._store = store
        self._size = math.prod(cut.chunk)
        self._early: dict[int, bytes] = {}
        self._next = 0
        self._lock = threading.Lock()

    def _compress(self, number: int, values: NDArray[Any]) -> None:
        if values.size < self._size:  # the last chunk of a row: HDF5 stores it whole
            values = np.append(values, np.zeros(self._size - values.size, values.dtype))
        data = compressed(values, self.level)
        with self._lock:
            self._early[number] = data
            while self._next in self._early:
                self._store(self.cut.corner(self._next), self._early.pop(self._next))
                self._next += 1


def compressed(chunk: NDArray[Any], level: int) -> bytes:
    r"""Return a chunk after HDF5's filters shuffle (all first bytes, then all second bytes, ...) and deflate.

    Examples
    --------
    >>> zlib.decompress(compressed(np.array([1, 2], "<u2"), 4))
    b'\x01\x02\x00\x00'
    """
    planes = np.ascontiguousarray(chunk.view(np.uint8).reshape(-1, chunk.dtype.itemsize).T)
    return zlib.compress(planes.data, level)
