"""A file or a folder that many processes write, perhaps on many machines; the process that began it commits it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from gncli.io.atomic import OutputFile, writing
from gncli.io.rawfile import as_bytes
from gncli.io.source import Files, Sink

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
            self._file = OutputFile(_begun_elsewhere(path, inode, os.O_RDWR), name)

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


class FolderRanges(Files):
    """A worker's end of a folder that is being written: whole files of it.

    Nothing is written if the folder was removed meanwhile, since it is known by its descriptor.

    Parameters
    ----------
    name : str
        The output as the user typed it, for errors.
    path : str
        The folder, which exists.
    inode : int
        The inode of the folder, as the caller sees it.
    """

    def __init__(self, name: str, path: str, inode: int) -> None:
        self.name = name
        self._keys: list[str] = []
        with writing(name):
            self._fd = _begun_elsewhere(path, inode, os.O_RDONLY)

    def file(self, key: str) -> OutputFile:
        """Return a file in the folder, by its path there; if it exists, the same bytes are written again."""
        with writing(self.name):
            for at in range(key.count("/")):
                with suppress(FileExistsError):
                    os.mkdir("/".join(key.split("/")[: at + 1]), dir_fd=self._fd)
            self._keys.append(key)
            return OutputFile(self._opened(key, os.O_RDWR | os.O_CREAT), self.name)

    def commit(self) -> None:
        """Write everything to the disk, or to the server of the file system."""
        with writing(self.name):
            for key in self._keys:
                file = OutputFile(self._opened(key, os.O_RDWR), self.name)
                file.sync()
                file.abort()

    def _opened(self, key: str, flags: int) -> int:
        return os.open(key, flags | os.O_CLOEXEC, 0o666, dir_fd=self._fd)

    def abort(self) -> None:
        """Close the folder; a second time, do nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _begun_elsewhere(path: str, inode: int, flags: int) -> int:
    """Return the descriptor of what another process, perhaps on another machine, has begun."""
    fd = os.open(path, flags | os.O_CLOEXEC)
    if os.fstat(fd).st_ino != inode:
        os.close(fd)
        raise OSError(f"{path} is another file where a worker sees it")
    return fd
