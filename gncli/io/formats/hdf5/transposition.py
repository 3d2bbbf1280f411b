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
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io.atomic import OutputFile, writing
from gncli.io.formats.hdf5.assembly import Cut, Gathering
from gncli.io.rawfile import as_bytes, read_fully
from gncli.io.source import Sink

SPOOLED_NBYTES = 8 << 20  # per chunk
REGION_NBYTES = 16 << 20  # gathered at a time
PASSED_NBYTES = 1 << 20  # passed on at a time


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
