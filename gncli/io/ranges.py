"""A file that many processes write, perhaps on many machines, while the process that began it waits to commit it."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from gncli.io.atomic import OutputFile, writing
from gncli.io.rawfile import as_bytes
from gncli.io.source import Sink

GRAIN_NBYTES = 1 << 20  # clients of a network file system write whole pages back; this is a multiple of every page size


class Ranges(Sink):
    """A worker's end of a .npy that is being written: a window of the file.

    Parameters
    ----------
    name : str
        The output as the user typed it, for errors.
    path : str
        The file, which exists and has its final size.
    inode : int
        The inode of the file, as the caller sees it.
    offset, itemsize : int
        Where the first element begins, and the size of an element, in bytes.
    window : tuple of int
        The first byte of the file that is written, and the one after the last. What is outside is dropped.
    """

    def __init__(self, name: str, path: str, inode: int, offset: int, itemsize: int, window: tuple[int, int]) -> None:
        self.name = name
        self._offset, self._itemsize, self._window = offset, itemsize, window
        with writing(name):
            self._file = OutputFile(os.open(path, os.O_RDWR | os.O_CLOEXEC), name)
            if os.fstat(self._file.fd).st_ino != inode:
                self.abort()
                raise OSError(f"{path} is another file where a worker sees it")

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write those of `data`, the elements from `start` on, that lie in the window."""
        at = self._offset + start * self._itemsize
        first, stop = self._window
        view = as_bytes(data)[max(0, first - at) : max(0, stop - at)]
        if view:
            self._file.write(view, max(at, first))

    def commit(self) -> None:
        """Write everything to the disk, or to the server of the file system."""
        self._file.sync()

    def abort(self) -> None:
        """Close the file; a second time, do nothing."""
        self._file.abort()
