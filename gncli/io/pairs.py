"""Two tensors read as one: the same elements of both at a time, in whatever order each is stored."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import progress
from gncli.io.pipe import Spool
from gncli.io.rawfile import RawFile, RawSource, as_bytes
from gncli.io.source import Source, Wrapping
from gncli.kernels.tally import split

PIECE = 1 << 20  # elements of a stream that are copied at a time
SLAB = 64 << 20  # bytes in memory, to turn one memory order into the other


class InCOrder(Wrapping):
    """A Fortran-ordered tensor, read in C order.

    Parameters
    ----------
    source : Source
        A Fortran-ordered tensor that is not sequential.

    Notes
    -----
    A slab of the first axis is kept in memory, at most `SLAB` bytes. To fill it, the whole tensor is read once, so that
    a tensor of n bytes is read n / `SLAB` times. To compare it more than once, store it in C order first.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.sequential, self.order = True, "C"
        self._row = math.prod(self.shape[1:])
        self._rows = max(1, SLAB // max(1, self._row * self.dtype.itemsize))
        self._first = -self._rows
        self._slab: NDArray[Any] = np.empty((0, self._row), self.dtype)
        self._lock = threading.Lock()

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on, counted in C order."""
        done = 0
        with self._lock:
            while done < out.size:
                row, rest = divmod(start + done, self._row)
                if not self._first <= row < self._first + self._slab.shape[0]:
                    self._fill(row // self._rows * self._rows)
                have = self._slab.reshape(-1)[(row - self._first) * self._row + rest :][: out.size - done]
                out[done : done + have.size] = have
                done += have.size

    def _fill(self, first: int) -> None:
        rows = min(self._rows, self.shape[0] - first)
        slab = np.empty((*self.shape[1:][::-1], rows), self.dtype).reshape(-1, rows)
        at_once = max(1, SLAB // 4 // (self.shape[0] * self.dtype.itemsize))
        for begin in range(0, slab.shape[0], at_once):
            count = min(at_once, slab.shape[0] - begin)
            values = np.empty(count * self.shape[0], self.dtype)
            self.inner.read_into(values, begin * self.shape[0])
            slab[begin : begin + count] = values.reshape(count, -1)[:, first : first + rows]
        turned = slab.reshape((*self.shape[1:][::-1], rows)).transpose()
        self._first, self._slab = first, np.ascontiguousarray(turned).reshape(rows, self._row)


class Pair(Source):
    """Two tensors of one shape and order as one source: a run holds the bytes of `a`, then those of `b`.

    Parameters
    ----------
    a, b : Source
        Two tensors of one shape and one storage order.
    """

    def __init__(self, a: Source, b: Source) -> None:
        self.a, self.b = a, b
        self.name, self.shape, self.order = f"{a.name} and {b.name}", a.shape, a.order
        self.dtype = np.dtype((np.void, a.dtype.itemsize + b.dtype.itemsize))
        self.sequential = a.sequential or b.sequential
        self.holds_in_file = a.holds_in_file or b.holds_in_file

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with a run of `a`, and the same run of `b`."""
        a, b = self.split(out)
        self.a.read_into(a, start)
        self.b.read_into(b, start)

    def split(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the elements of `a` and of `b` in a run that was read, without a copy."""
        return split(values, self.a.dtype, self.b.dtype)

    @property
    def held_names(self) -> tuple[str, ...]:
        """The names of those that `hold` keeps in a file."""
        return (*self.a.held_names, *self.b.held_names)

    def hold(self, start: int, stop: int) -> None:
        """Declare that the run will be read again."""
        self.a.hold(start, stop)
        self.b.hold(start, stop)

    def verify_unchanged(self) -> None:
        """Raise ChangedError if one of the files is not what it was when it was opened."""
        self.a.verify_unchanged()
        self.b.verify_unchanged()


def paired(a: Source, b: Source, stack: ExitStack) -> Pair:
    """Return both as one source, in the storage order they share, or in C order; `stack` closes what that needs."""
    if a.order == b.order or sum(size > 1 for size in a.shape) < 2 or 0 in a.shape:
        return Pair(a, b)

    def turned(source: Source) -> Source:
        if source.order == "C":
            return source
        return InCOrder(stack.enter_context(stored(source)) if source.sequential else source)

    return Pair(turned(a), turned(b))


class Stored(Wrapping):
    """The bits of a tensor's elements, for a dtype that NumPy does not have; another tensor as it is.

    Parameters
    ----------
    source : Source
        The tensor.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.dtype, self.stored_as = source.stored_dtype, None

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the bits of the elements from `start` on."""
        self.inner.read_stored(out, start)


class Derived(Wrapping):
    """The values of a function of each pair, as a float64 tensor.

    Parameters
    ----------
    pair : Pair
        The two tensors.
    function : callable
        Takes runs of `a` and `b`, and returns a run of float64.
    """

    def __init__(self, pair: Pair, function: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> None:
        super().__init__(pair)
        self.dtype = np.dtype(np.float64)
        self._pair, self._function = pair, function

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the values of the function for the pairs from `start` on."""
        values = np.empty(out.size, self._pair.dtype)
        self._pair.read_into(values, start)
        with np.errstate(all="ignore"):
            out[...] = self._function(*self._pair.split(values))


def stored(source: Source) -> RawSource:
    """Return a copy of a stream, from its first element on, in an unlinked file in $TMPDIR, which can be read anywhere.

    Raises
    ------
    LimitError
        If $TMPDIR has no room for it.
    """
    spool = Spool()
    try:
        size = math.prod(source.shape)
        progress.begin("copy", source.name, size * source.dtype.itemsize)
        for start in range(0, size, PIECE):
            values = np.empty(min(PIECE, size - start), source.dtype)
            source.read_into(values, start)
            spool.write(as_bytes(values), start * source.dtype.itemsize)
            progress.advance(values.nbytes)
        source.verify_unchanged()
        file = RawFile.spooled(os.dup(spool.fd), source.name)
    finally:
        spool.close()
    return RawSource(file, 0, source.shape, source.dtype, source.order, source.name)
