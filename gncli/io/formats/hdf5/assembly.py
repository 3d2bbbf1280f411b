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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK_NBYTES = 1 << 20  # a target: a good size according to h5py's documentation, and the unit that a reader decodes


class Cut(NamedTuple):
    """How a tensor is cut: a chunk has `step` entries of `axis`, all of the axes after it, one of each before it.

    Attributes
    ----------
    shape : tuple of int
        Shape of the tensor, which has elements and axes.
    axis : int
        The axis that is cut.
    step : int
        Entries of that axis per chunk.
    """

    shape: tuple[int, ...]
    axis: int
    step: int

    @classmethod
    def of(cls, shape: tuple[int, ...], itemsize: int, nbytes: int = CHUNK_NBYTES) -> Cut:
        """Return the cut into chunks of at most `nbytes`: samples, or parts of one where a sample is larger.

        Examples
        --------
        >>> Cut.of((64, 16, 8, 8), 4).chunk, Cut.of((64, 64, 112, 112), 4).chunk
        ((64, 16, 8, 8), (1, 20, 112, 112))
        """
        axis, inner = 0, math.prod(shape[1:]) * itemsize
        while inner > nbytes and axis < len(shape) - 1:
            axis += 1
            inner //= shape[axis]
        return cls(shape, axis, min(shape[axis], max(1, nbytes // inner)))

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of a chunk."""
        return (1,) * self.axis + (self.step,) + self.shape[self.axis + 1 :]

    def corner(self, number: int) -> tuple[int, ...]:
        """Return the index of the first element of a chunk."""
        row, column = divmod(number, self._columns)
        before = (int(k) for k in np.unravel_index(row, self.shape[: self.axis])) if self.axis else ()
        return (*before, column * self.step, *(0,) * (len(self.shape) - self.axis - 1))

    def box(self, number: int) -> tuple[slice, ...]:
        """Return the slices of the tensor that a chunk holds; the last chunk of a row may be short."""
        corner, shape = self.corner(number), self.shape
        return tuple(slice(at, min(at + n, size)) for at, n, size in zip(corner, self.chunk, shape, strict=True))

    def number(self, element: int) -> int:
        """Return the chunk that an element is in."""
        row, rest = divmod(element, self.shape[self.axis] * self._inner)
        return row * self._columns + rest // (self.step * self._inner)

    def run(self, number: int) -> tuple[int, int]:
        """Return the run of elements that a chunk holds; the last chunk of a row may be short."""
        row, column = divmod(number, self._columns)
        length = self.shape[self.axis] * self._inner
        first = column * self.step * self._inner
        return row * length + first, row * length + min(length, first + self.step * self._inner)

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return math.prod(self.shape[: self.axis]) * self._columns

    @property
    def _inner(self) -> int:
        return math.prod(self.shape[self.axis + 1 :])

    @property
    def _columns(self) -> int:
        return -(-self.shape[self.axis] // self.step)


class Gathering:
    """Runs of a tensor, in any order and from any thread, joined to whole chunks.

    Parameters
    ----------
    cut : Cut
        Where one chunk ends and the next begins.
    dtype : numpy.dtype
        Dtype of the elements.
    take : callable
        ``take(number, values)`` is called for each chunk by the thread that completed it. The values are valid only
        during the call.
    """

    def __init__(self, cut: Cut, dtype: np.dtype[Any], take: Callable[[int, NDArray[Any]], None]) -> None:
        self.cut, self.dtype = cut, dtype
        self._take = take
        self._open: dict[int, tuple[NDArray[Any], int]] = {}  # and how many elements are missing
        self._lock = threading.Lock()

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Take `data`, the elements from `start` on."""
        done = 0
        while done < data.size:
            number = self.cut.number(start + done)
            first, stop = self.cut.run(number)
            piece = data[done : done + stop - start - done]
            values = piece if piece.size == stop - first else self._filled(number, piece, start + done - first)
            if values is not None:
                self._take(number, values)
            done += piece.size

    def _filled(self, number: int, piece: NDArray[Any], at: int) -> NDArray[Any] | None:
        """Put a piece into its chunk, and return the chunk if that completes it."""
        first, stop = self.cut.run(number)
        with self._lock:
            fresh = number not in self._open
            chunk, missing = (np.empty(stop - first, self.dtype), stop - first) if fresh else self._open.pop(number)
            chunk[at : at + piece.size] = piece
            if missing == piece.size:
                return chunk
            self._open[number] = (chunk, missing - piece.size)
            return None


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
