"""A tensor that comes in Fortran order, for a sink that stores it in C order: a transposition in bounded memory.

Notes
-----
Elements that are neighbours in one order are scattered in the other: a C-ordered file would take a visit in Fortran
order a few bytes at a time, one write for each. So the runs are joined to chunks of the Fortran order. Each chunk is
transposed in memory and spooled as a whole to an unlinked file. At the end the C order is gathered, one region after
the other, from a contiguous piece of each chunk. These pieces are contiguous because both cuts take all of the axes
that vary fastest, each in its own order. Every read and write is large, whatever the shape: for a tensor of S bytes the
pieces have ``SPOOLED_NBYTES * REGION_NBYTES / S`` bytes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.io.atomic import OutputFile, writing
from gncli.io.rawfile import as_bytes, read_fully
from gncli.io.source import Order, Sink

CHUNK_NBYTES = 1 << 20  # a target: a good size according to h5py's documentation, and the unit that a reader decodes
SPOOLED_NBYTES = 8 << 20  # per chunk
REGION_NBYTES = 16 << 20  # gathered at a time
PASSED_NBYTES = 1 << 20  # passed on at a time


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

    def evened(self) -> Cut:
        """Return the cut into as many chunks, none of which is much smaller than the others.

        Examples
        --------
        >>> Cut((2, 9, 5), 1, 8).evened()
        Cut(shape=(2, 9, 5), axis=1, step=5)
        """
        return self._replace(step=-(-self.shape[self.axis] // self._columns))

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


class TransposingSink(Sink):
    """A C-ordered sink that takes its runs in Fortran order.

    Parameters
    ----------
    sink : Sink
        The sink that takes runs in C order, committed and aborted with this.
    scratch : OutputFile
        The file that takes the spooled chunks, closed with this.
    shape, dtype
        Shape and dtype of the tensor, which has elements.

    Raises
    ------
    OutputError
        If the disk has no space for a copy of the tensor.
    """

    def __init__(self, sink: Sink, scratch: OutputFile, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.name, self.shape, self.dtype = sink.name, shape, dtype
        self._sink, self._scratch = sink, scratch
        self._itemsize = self.dtype.itemsize
        self._spooled = Cut.of(self.shape[::-1], self._itemsize, SPOOLED_NBYTES)
        self._gathering = Gathering(self._spooled, self.dtype, self._spool)
        scratch.allocate(math.prod(self.shape) * self._itemsize)

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Take `data`, the elements from `start` on, counted in Fortran order."""
        self._gathering.write_from(data, start)

    def _spool(self, number: int, values: NDArray[Any]) -> None:
        box = self._spooled.box(number)
        block = values.reshape([part.stop - part.start for part in box]).T
        first, _ = self._spooled.run(number)
        self._scratch.write(as_bytes(np.ascontiguousarray(block).reshape(-1)), first * self._itemsize)

    def commit(self) -> None:
        """Pass everything on in C order, and commit the sink.

        Raises
        ------
        OutputError
            If a spooled chunk cannot be read, or the sink fails.
        """
        regions = Cut.of(self.shape, self._itemsize, REGION_NBYTES)
        step = max(1, PASSED_NBYTES // self._itemsize)
        for number in range(regions.chunks):
            values = self._gathered(regions.box(number)).reshape(-1)
            first, _ = regions.run(number)
            for start in range(0, values.size, step):
                self._sink.write_from(values[start : start + step], first + start)
        self._sink.commit()
        self._scratch.abort()

    def _gathered(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the elements of a region, from a piece of every chunk that overlaps it."""
        values = np.empty([part.stop - part.start for part in region], self.dtype)
        for first, box in self._overlapping(region):
            both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(region, box, strict=True)]
            piece = np.empty([part.stop - part.start for part in both], self.dtype)
            at = 0
            for part, whole in zip(both, box, strict=True):
                at = at * (whole.stop - whole.start) + part.start - whole.start
            with writing(self.name):
                found = read_fully(self._scratch.fd, as_bytes(piece.reshape(-1)), (first + at) * self._itemsize)
                if found < piece.nbytes:
                    raise OSError("the spooled data became shorter")
            values[tuple(slice(p.start - r.start, p.stop - r.start) for p, r in zip(both, region, strict=True))] = piece
        return values

    def _overlapping(self, region: tuple[slice, ...]) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """Yield where the chunks that overlap a region begin in the scratch file, in elements, and their boxes."""
        for number in range(self._spooled.chunks):
            box = self._spooled.box(number)[::-1]
            if all(a.start < b.stop and b.start < a.stop for a, b in zip(region, box, strict=True)):
                yield self._spooled.run(number)[0], box

    def abort(self) -> None:
        """Remove both files."""
        self._scratch.abort()
        self._sink.abort()


def in_c_order(
    sink: Sink, scratch: Callable[[], OutputFile], shape: tuple[int, ...], dtype: np.dtype[Any], order: Order
) -> Sink:
    """Return a sink of the tensor that takes its runs in `order`; `sink` takes them in C order.

    A file of `scratch` takes a copy of the tensor if the orders differ.
    """
    if order == "C" or len(shape) < 2 or 0 in shape:
        return sink
    try:
        return TransposingSink(sink, scratch(), shape, dtype)
    except BaseException:
        sink.abort()
        raise
