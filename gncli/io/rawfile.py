"""Regular files, read and written by offset: the tensor of a .npy and a contiguous dataset are both a run of bytes.

Notes
-----
Files are read with ``preadv`` and written with ``pwrite``, and are not mapped: a mapped file that shrinks kills the
process by SIGBUS, and reading through a mapping counts the whole file as resident memory.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gncli.errors import ChangedError, GncliError, InputError, LimitError, OutputError
from gncli.io.source import Committing, Identity, NewFile, Order, Sink, Source, StoredFile, list_names

if TYPE_CHECKING:
    from numpy.typing import NDArray


F = TypeVar("F", bound=StoredFile)


def reason(error: OSError) -> str:
    """Return why the system call failed, in words; `tofile` and h5py raise errors without a number or a text."""
    return error.strerror or str(error).partition("\n")[0] or type(error).__name__


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn an OSError inside into an InputError about `name`."""
    try:
        yield
    except GncliError:  # an InputError is an OSError, and says more
        raise
    except OSError as error:
        raise InputError(f"cannot be read ({reason(error)})", subject=name) from error


def identity_of(status: os.stat_result) -> Identity:
    """Return what distinguishes this state of the file from another."""
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def as_bytes(data: NDArray[Any]) -> memoryview:
    """Return the memory of a contiguous array as bytes, without a copy."""
    return data.view(np.uint8).data


def read_fully(fd: int, view: memoryview, offset: int) -> int:
    """Fill `view` from `offset` on, and return the number of bytes read: fewer only at the end of the file."""
    done = 0
    while done < len(view):
        count = os.preadv(fd, [view[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


class RawFile(StoredFile):
    """A regular file, open for reading by offset, from any thread.

    Parameters
    ----------
    path : str
        The file.
    name : str
        The file as the user typed it, for errors.

    Raises
    ------
    InputError
        If it cannot be opened, or is not a regular file.
    """

    fd = -1

    def __init__(self, path: str, name: str) -> None:
        self.path = path
        self.name = name
        with reading(name):
            # O_NONBLOCK: opening a FIFO without a writer would wait for one.
            self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._adopt()

    @classmethod
    def spooled(cls, fd: int, name: str, *, copied: bool = False) -> RawFile:
        """Return the reader of an unlinked file, which it owns: no other process can replace or change it."""
        file = cls.__new__(cls)
        file.path, file.name, file.fd, file.copied = None, name, fd, copied
        file._adopt()
        return file

    def duplicate(self) -> RawFile:
        """Return another reader of the same open file, to be closed on its own."""
        file = RawFile.__new__(RawFile)
        file.path, file.name, file.identity, file.copied = self.path, self.name, self.identity, self.copied
        with reading(self.name):
            file.fd = os.dup(self.fd)
        return file

    def _adopt(self) -> None:
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            if stat.S_ISDIR(status.st_mode):
                raise InputError("is a directory", subject=self.name)
            if stat.S_ISFIFO(status.st_mode):
                raise InputError("is a FIFO", subject=self.name, hint="to read a pipe, give - and redirect it")
            raise InputError("is a device, not a file", subject=self.name, hint="to read a stream, give -")
        self.identity = identity_of(status)

    def read(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on.

        Raises
        ------
        ChangedError
            If the file ends before that: its size was checked when it was opened.
        """
        with reading(self.name):
            count = read_fully(self.fd, view, offset)
        if count < len(view):
            raise ChangedError(
                f"became shorter while it was read ({offset + count:,} bytes, was {self.identity.nbytes:,})",
                subject=self.name,
            )

    def head(self, nbytes: int, offset: int = 0) -> bytes:
        """Return up to `nbytes` bytes from `offset` on: fewer only at the end of the file."""
        view = memoryview(bytearray(nbytes))
        with reading(self.name):
            return bytes(view[: read_fully(self.fd, view, offset)])

    def local(self) -> RawFile:
        """Return this file."""
        return self

    def beside(self, name: str, subject: str | None = None) -> RawFile:
        """Return the file of that name in the same folder, which errors call `subject`, by default by its path.

        Raises
        ------
        FileNotFoundError
            If there is none.
        InputError
            If it is a link out of the folder, or cannot be opened.
        """
        folder = self._folder
        path = os.path.join(folder, name)
        real = os.path.realpath(path)
        if os.path.dirname(real) != os.path.realpath(folder):
            hint = "copy the file into the folder, with cp -L"
            raise InputError(f"names the shard {name}, which is a link out of its folder", subject=self.name, hint=hint)
        if not os.path.lexists(real):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return RawFile(real, subject or path)

    def neighbours(self) -> list[str]:
        """Return the names of the files in the same folder."""
        with reading(self.name):
            return os.listdir(self._folder or ".")

    @property
    def _folder(self) -> str:
        assert self.path is not None  # a pipe is no index of files next to it
        return os.path.dirname(self.path)

    def verify_unchanged(self) -> None:
        """Raise ChangedError if the file is not what it was when it was opened, or its path names another one now."""
        if self.path is None:
            return
        with reading(self.name):
            now = identity_of(os.fstat(self.fd))
        if now != self.identity:
            raise ChangedError("was changed while it was read", subject=self.name)
        try:
            named = os.stat(self.path)
        except OSError as error:
            raise ChangedError(f"was removed while it was read ({reason(error)})", subject=self.name) from error
        if (named.st_dev, named.st_ino) != self.identity[:2]:
            raise ChangedError("was replaced while it was read", subject=self.name)

    def close(self) -> None:
        """Close the file; a second time, do nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):  # a file that was only read loses nothing
                os.close(fd)

    def __del__(self) -> None:  # a worker process keeps some files open, and drops the oldest
        self.close()


def check_lost(opened: Callable[[], F], name: str, kept: str, others: Callable[[F], list[str]]) -> None:
    """Raise OutputError if a file that will be replaced holds anything besides `kept`, which a new file would lose.

    Parameters
    ----------
    opened : callable
        Opens the file.
    name : str
        The output as the user typed it.
    kept : str
        The name of what is written.
    others : callable
        Takes the file, which it closes, and returns the names of what else it holds.
    """
    try:
        raw = opened()
        if raw.identity.nbytes == 0:
            raw.close()
            return
        found = others(raw)
    except (InputError, LimitError) as error:
        problem = f"holds what cannot be listed, and would be lost: {error.problem}"
        raise OutputError(problem, subject=name, hint="choose another name") from error
    lost(name, kept, found)


def lost(name: str, kept: str, found: list[str]) -> None:
    """Raise OutputError if there is anything in `found`: what an output besides `kept` holds, and would lose."""
    if found:
        problem = f"holds more than {kept}, and would lose {list_names(found)}"
        raise OutputError(problem, subject=name, hint="choose another name")


class FileSource(Source):
    """A tensor in a file: a base class.

    Parameters
    ----------
    file : StoredFile
        The file, which is closed with the source.
    shape, dtype, order, name
        As of `Source`.
    """

    def __init__(self, file: StoredFile, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, name: str) -> None:
        self.file = file
        self.shape, self.dtype, self.order, self.name = shape, dtype, order, name
        self.identity = file.identity

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report must say of the file: also that it was copied first."""
        if not self.file.copied:
            return super().notes
        return (f"{self.file.name}: copied to a file in $TMPDIR, since HDF5 is not read in ranges", *super().notes)

    def verify_unchanged(self) -> None:
        """Raise ChangedError if the file is not what it was when it was opened."""
        self.file.verify_unchanged()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class RawSource(FileSource):
    """A tensor whose elements lie one after the other in a file: a .npy, stored in a .npz, or a contiguous dataset.

    Parameters
    ----------
    file : StoredFile
        The file, which is closed with the source.
    offset : int
        Where the first element begins, in bytes.
    shape, dtype, order, name
        As of `Source`.
    """

    def __init__(
        self, file: StoredFile, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, name: str
    ) -> None:
        super().__init__(file, shape, dtype, order, name)
        self.offset = offset

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on."""
        self.file.read(as_bytes(out), self.offset + start * self.dtype.itemsize)

    def will_need(self, start: int, stop: int) -> None:
        """Declare that the run is read next."""
        itemsize = self.dtype.itemsize
        end = self.offset + math.prod(self.shape) * itemsize
        self.file.will_need(self.offset + start * itemsize, (stop - start) * itemsize, end)


class FileSink(Committing):
    """What is written to a file that appears whole, on `commit`: a base class.

    Parameters
    ----------
    file : NewFile
        The file, begun.
    """

    name: str

    def __init__(self, file: NewFile) -> None:
        self.file = file
        self.name = file.name

    def commit(self) -> None:
        """Make the file visible under its name, whole."""
        self.file.commit()

    def abort(self) -> None:
        """Remove what was begun."""
        self.file.abort()


class RawSink(FileSink, Sink):
    """A tensor whose elements are written one after the other into a file that appears whole, on `commit`.

    Parameters
    ----------
    file : NewFile
        The file, begun.
    pieces : list of (int, bytes)
        What the file holds besides the tensor: offset in bytes, and content.
    offset : int
        Where the first element begins, in bytes.
    shape, dtype : tuple of int, numpy.dtype
        Shape and dtype of the tensor.
    nbytes : int, optional
        Size of the whole file in bytes, where something follows the tensor.
    """

    def __init__(
        self,
        file: NewFile,
        pieces: list[tuple[int, bytes]],
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        nbytes: int = 0,
    ) -> None:
        super().__init__(file)
        self.offset = offset
        self.shape = shape
        self.dtype = dtype
        # Allocate first, so that a full disk is an error here and not half-way.
        file.allocate(max(nbytes, offset + math.prod(shape) * dtype.itemsize))
        for at, piece in pieces:
            file.write(memoryview(piece), at)

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data` as the elements from `start` on."""
        self.file.write(as_bytes(data), self.offset + start * self.dtype.itemsize)
