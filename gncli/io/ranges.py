"""A file that many processes write, perhaps on many machines, while the process that began it waits to commit it."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from gncli.descriptors import write_fully
from gncli.io.atomic import writing
from gncli.io.rawfile import as_bytes
from gncli.io.source import Sink

GRAIN_NBYTES = 1 << 20  # clients of a network file system write whole pages back; this is a multiple of every page size

Edge = tuple[int, bytes]
"""Bytes that fill no whole grain: their offset in the file, and the bytes."""


class Ranges(Sink):
    """A worker's end of a .npy that is being written: whole grains are written, the bytes left over are kept.

    Parameters
    ----------
    path : str
        The file, which exists and has its final size.
    name : str
        The output as the user typed it, for errors.
    inode : int
        The inode of the file, as the caller sees it.
    offset, itemsize : int
        Where the first element begins, and the size of an element, in bytes.
    """

    def __init__(self, path: str, name: str, inode: int, offset: int, itemsize: int) -> None:
        self.name = name
        self._offset, self._itemsize = offset, itemsize
        self._edges: list[Edge] = []
        self._fd = -1
        with writing(name):
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if os.fstat(self._fd).st_ino != inode:
                self.close()
                raise OSError(f"{path} is another file where a worker sees it")

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data` as the elements from `start` on, and keep what fills no whole grain."""
        self._write(as_bytes(data), self._offset + start * self._itemsize)

    def _write(self, view: memoryview, at: int) -> None:
        end = at + len(view)
        first, last = -(-at // GRAIN_NBYTES) * GRAIN_NBYTES, end // GRAIN_NBYTES * GRAIN_NBYTES
        if first >= last:
            first = last = end
        with writing(self.name):
            write_fully(self._fd, view[first - at : last - at], first)
        self._edges += [
            (place, bytes(part)) for place, part in ((at, view[: first - at]), (last, view[last - at :])) if part
        ]

    def finish(self) -> list[Edge]:
        """Write the grains that neighbouring runs fill together, fsync, and return what is left, sorted by offset."""
        edges, self._edges = sorted(self._edges), []
        while edges:
            at, data = edges.pop(0)
            parts = [data]
            while edges and edges[0][0] == at + sum(map(len, parts)):
                parts.append(edges.pop(0)[1])
            self._write(memoryview(b"".join(parts)), at)
        with writing(self.name):
            os.fsync(self._fd)
        return self._edges

    def close(self) -> None:
        """Close the file; a second time, do nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
