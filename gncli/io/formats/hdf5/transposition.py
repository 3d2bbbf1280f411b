"""A tensor that comes in Fortran order, for a sink that stores it in C order: a transposition in bounded memory.

Notes
-----
What lies together in one order is scattered in the other: of a visit in Fortran order a C-ordered file would take a few
bytes here and a few there, a write for each. So the runs are put together to chunks of the Fortran order, each chunk is
transposed in memory and put by, whole, in an unlinked file; and at the end the C order is gathered, one region after
the other, from a contiguous piece of each chunk. That these pieces are contiguous is because both cuts take whole ones
of the axes that vary fastest, each in its own order. All that is read or written is large, whatever the shape: of a
tensor of S bytes the pieces have ``STORED_NBYTES * REGION_NBYTES / S``.
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
from gncli.signals import Deferred

STORED_NBYTES = 8 << 20  # of a chunk that is put by
REGION_NBYTES = 16 << 20  # of what is gathered at a time
PASSED_NBYTES = 1 << 20  # of what is passed on at a time, while a signal waits


class TransposingSink(Sink):
    """A C-ordered sink, to which runs are given in Fortran order.

    Parameters
    ----------
    sink : Sink
        Takes runs in C order, and is committed and aborted with this.
    scratch : OutputFile
        Takes what is put by; closed with this.
    shape, dtype
        Of the tensor, which has elements.

    Raises
    ------
    OutputError
        If there is no room for a copy of the tensor.
    """

    def __init__(self, sink: Sink, scratch: OutputFile, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.name, self.shape, self.dtype = sink.name, shape, dtype
        self._sink, self._scratch = sink, scratch
        self._itemsize = self.dtype.itemsize
        self._stored = Cut.of(self.shape[::-1], self._itemsize, STORED_NBYTES)
        self._gathering = Gathering(self._stored, self.dtype, self._put_by)
        scratch.allocate(math.prod(self.shape) * self._itemsize)

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Take `data`, the elements from `start` on, counted in Fortran order."""
        self._gathering.write_from(data, start)

    def _put_by(self, number: int, values: NDArray[Any]) -> None:
        box = self._stored.box(number)
        block = values.reshape([part.stop - part.start for part in box]).T
        first, _ = self._stored.run(number)
        self._scratch.write(as_bytes(np.ascontiguousarray(block).reshape(-1)), first * self._itemsize)

    def commit(self) -> None:
        """Pass everything on in C order, and commit the sink.

        Raises
        ------
        OutputError
            If what was put by cannot be read, or the sink fails.
        """
        regions = Cut.of(self.shape, self._itemsize, REGION_NBYTES)
        step = max(1, PASSED_NBYTES // self._itemsize)
        for number in range(regions.chunks):
            values = self._gathered(regions.box(number)).reshape(-1)
            first, _ = regions.run(number)
            for start in range(0, values.size, step):
                with Deferred():  # in this thread libhdf5 must not meet the exception of a signal
                    self._sink.write_from(values[start : start + step], first + start)
        self._sink.commit()
        self._scratch.abort()

    def _gathered(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return the elements of a region, from a piece of every chunk that meets it."""
        values = np.empty([part.stop - part.start for part in region], self.dtype)
        for first, box in self._meeting(region):
            both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(region, box, strict=True)]
            piece = np.empty([part.stop - part.start for part in both], self.dtype)
            at = 0
            for part, whole in zip(both, box, strict=True):
                at = at * (whole.stop - whole.start) + part.start - whole.start
            with writing(self.name):
                found = read_fully(self._scratch.fd, as_bytes(piece.reshape(-1)), (first + at) * self._itemsize)
                if found < piece.nbytes:
                    raise OSError("what was put by has become shorter")
            values[tuple(slice(p.start - r.start, p.stop - r.start) for p, r in zip(both, region, strict=True))] = piece
        return values

    def _meeting(self, region: tuple[slice, ...]) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """Yield where the chunks that meet a region begin in the scratch file, counted in elements, and their boxes."""
        for number in range(self._stored.chunks):
            box = self._stored.box(number)[::-1]
            if all(a.start < b.stop and b.start < a.stop for a, b in zip(region, box, strict=True)):
                yield self._stored.run(number)[0], box

    def abort(self) -> None:
        """Remove what was begun."""
        self._scratch.abort()
        self._sink.abort()
