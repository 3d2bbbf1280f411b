"""A tensor in chunks of whole samples: the worker that completes a chunk encodes it; chunks are stored in order.

Each chunk of a C-ordered tensor is one contiguous run: whole samples, or a part of one. The file does not depend on
which worker was first: a chunk that is early waits for those before it, and at most as many wait as there are visits
in progress.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io.transposition import Cut, Gathering


class ChunkAssembly:
    """The encoded chunks of a tensor whose runs come roughly in order, from any thread.

    Parameters
    ----------
    cut : Cut
        Where one ends and the next begins.
    fill : ndarray, shape ()
        What the last chunk of a row is filled up with; its dtype is that of the elements.
    encode : callable
        ``encode(values)`` returns the bytes of a whole chunk; it is called by many threads at once.
    store : callable
        ``store(corner, data)`` is called for each chunk, in order, by one thread at a time.
    first : int
        The number of the first chunk that comes.
    """

    def __init__(
        self,
        cut: Cut,
        fill: NDArray[Any],
        encode: Callable[[NDArray[Any]], bytes],
        store: Callable[[tuple[int, ...], bytes], None],
        first: int = 0,
    ) -> None:
        self.cut = cut
        self.write_from = Gathering(cut, fill.dtype, self._take).write_from
        self._fill, self._encode, self._store = fill, encode, store
        self._size = math.prod(cut.chunk)
        self._early: dict[int, bytes] = {}
        self._next = first
        self._lock = threading.Lock()

    def _take(self, number: int, values: NDArray[Any]) -> None:
        if values.size < self._size:  # the last chunk of a row is stored whole
            values = np.append(values, np.full(self._size - values.size, self._fill))
        data = self._encode(values)
        with self._lock:
            self._early[number] = data
            while self._next in self._early:
                self._store(self.cut.corner(self._next), self._early.pop(self._next))
                self._next += 1
