"""A file that appears under its name whole, or not at all.

It is written as a temporary file in the same directory: `posix_fallocate`, `pwrite`, fsync, rename, fsync of the
directory. Every rule about what may be replaced is checked when the file is begun, before anything is computed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from gncli import signals
from gncli.descriptors import write_fully
from gncli.errors import GncliError, OutputError
from gncli.io.rawfile import FileSink, RawFile, reason
from gncli.io.source import Committing, NewFile, Source, Writable
from gncli.io.urls import is_url
from gncli.text import printable

SPOOL_DIRECTORIES = ("/tmp", "/var/tmp")  # noqa: S108
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
WRITE_BACK = 1 << 20  # bytes; smaller writes are left to the fsync


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Turn an OSError inside into an OutputError about `name`, except where the reader of a pipe went away."""
    try:
        yield
    except (BrokenPipeError, GncliError):  # an OutputError is an OSError, and says more
        raise
    except OSError as error:
        raise OutputError(f"cannot be written ({reason(error)})", subject=name) from error


def same_file(one: str, other: str) -> bool:
    """Return whether two paths name the same file, which may not exist yet."""
    if is_url(one) or is_url(other):
        return one == other
    one, other = os.path.realpath(one), os.path.realpath(other)
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:
        return False


def locked(fd: int, *, shared: bool = False, wait: bool) -> bool | None:
    """Lock a file for this process, alone or with others; the lock ends when the file is closed, also by a kill.

    Returns
    -------
    bool or None
        Whether it is locked now: not if another process has locked it. None where the file system has no locks.
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a FIFO" if stat.S_ISFIFO(mode) else "a device"


def _begin_write_back(fd: int, offset: int, nbytes: int) -> None:
    """Let Linux begin to write a range to the disk, so that the fsync of `commit` has little left to do."""
    if hasattr(_LIBC, "sync_file_range"):  # pragma: no branch  # Linux has it, macOS does not
        _LIBC.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(nbytes), 2)  # SYNC_FILE_RANGE_WRITE: a hint


def unnamed_file(directory: str) -> int:
    """Return the descriptor of a new file in `directory` that has no name; it is gone with the process."""
    if hasattr(os, "O_TMPFILE"):  # pragma: no branch  # Linux has it
        with suppress(OSError):  # not every file system does
            return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    path = temporary_path(directory, "gncli")
    signals.cleanups[path] = partial(os.unlink, path)
    try:
        fd = os.open(path, NEW, 0o600)
        os.unlink(path)
    finally:
        del signals.cleanups[path]
    return fd


def spool_file() -> int:
    """Return the descriptor of a new file without a name in $TMPDIR, or where the system keeps temporary files.

    Notes
    -----
    `tempfile` does the same, but it is slow to import, and makes a file with a name to try each directory.
    """
    wanted = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    for directory in filter(None, (*wanted, *SPOOL_DIRECTORIES)):
        with suppress(OSError):
            return unnamed_file(directory)
    return unnamed_file(os.curdir)


def temporary_path(directory: str, base: str) -> str:
    """Return a hidden name in a directory, which no other process has."""
    return os.path.join(directory, f".{base[:40]}.{os.urandom(6).hex()}.tmp")


def parts_beside(path: str) -> str:
    """Return where the parts of an output are until it is whole, spelled as its path is."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(os.path.realpath(path))}.parts")


def stale_files(target: str) -> Iterator[tuple[str, bool]]:
    """Yield what runs with this output have left, files and folders, each with whether it may still be in use."""
    directory, base = os.path.split(os.path.realpath(target))
    for name in sorted(os.listdir(directory)):
        if re.fullmatch(re.escape(f".{base[:40]}.") + r"[0-9a-f]{12}\.tmp", name):
            path = os.path.join(directory, name)
            with suppress(FileNotFoundError):  # it was committed just now
                fd = os.open(path, os.O_CLOEXEC | (os.O_RDONLY if os.path.isdir(path) else os.O_RDWR))
                try:
                    yield path, not locked(fd, wait=False)
                finally:
                    os.close(fd)


class OutputFile(Writable):
    """A file that is being written, at any offset, by any thread.

    Parameters
    ----------
    fd : int
        The file, which is closed with this.
    name : str
        The output as the user typed it, for errors.
    lasting : bool
        Whether it will be kept: then writing it to the disk begins early.
    """

    def __init__(self, fd: int, name: str, *, lasting: bool = True) -> None:
        self.fd = fd
        self.name = name
        self.lasting = lasting

    def allocate(self, nbytes: int) -> None:
        """Make the file `nbytes` long, and reserve room on the disk where the system can."""
        with writing(self.name):
            try:
                os.posix_fallocate(self.fd, 0, nbytes)
            except (AttributeError, OSError) as error:  # macOS has none; some file systems refuse it
                if isinstance(error, OSError) and error.errno not in _NO_FALLOCATE:
                    raise
                os.ftruncate(self.fd, nbytes)

    def truncate(self, nbytes: int) -> None:
        """Make the file `nbytes` long."""
        with writing(self.name):
            os.ftruncate(self.fd, nbytes)

    def write(self, view: memoryview, offset: int) -> None:
        """Write `view` at `offset`."""
        with writing(self.name):
            write_fully(self.fd, view, offset)
        if self.lasting and len(view) >= WRITE_BACK:
            _begin_write_back(self.fd, offset, len(view))

    def sync(self) -> None:
        """Write everything to the disk, or to the server of a network file system."""
        with writing(self.name):
            os.fsync(self.fd)

    def abort(self) -> None:
        """Close the file; a second time, do nothing."""
        with suppress(OSError):
            self._close()

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Atomic(Committing, ABC):
    """A file or a folder that is made under a hidden name, and gets its own on `commit`: a base class.

    Parameters
    ----------
    path : str
        Where it will appear. A symlink is followed: its target is replaced.
    name : str
        The output as the user typed it, for errors.
    force : bool
        Whether what exists there may be replaced.
    inputs : sequence of Source
        What is being read: none of these files may be replaced.

    Attributes
    ----------
    target : str
        The path, symlinks followed.
    replaces : bool
        Whether something existed there when this was begun.
    fd : int
        What is made, opened; -1 when it is closed.

    Raises
    ------
    OutputError
        If the output exists, is or holds an input, is something else, or cannot be created there.
    """

    fd = -1

    def __init__(self, path: str, *, name: str, force: bool = False, inputs: Sequence[Source] = ()) -> None:
        if is_url(path):
            problem, hint = "is on a store, and this is written to a file", "write it to a file, and copy that"
            raise OutputError(problem, subject=name, hint=hint)
        self.name = name
        self.target = os.path.realpath(path)
        mode = self._permitted_mode(force, inputs)
        self.replaces = mode is not None
        self._directory = os.path.dirname(self.target)
        self._temporary = self._working_path()
        try:
            with writing(name):
                self._begin(0o777 if mode is None else mode)
                if mode is not None:
                    os.fchmod(self.fd, mode)
        except BaseException as error:
            self.abort()
            if isinstance(error, OutputError) and isinstance(error.__cause__, FileNotFoundError):
                folder = os.path.dirname(path.rstrip("/")) or self._directory
                error.hint = None if os.path.isdir(folder) else f"there is no folder {folder}"
            raise

    def _permitted_mode(self, force: bool, inputs: Sequence[Source]) -> int | None:
        """Return the permissions of what will be replaced, or None where nothing exists."""
        try:
            old = os.stat(self.target)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"cannot be written ({reason(error)})", subject=self.name) from error
        if not (self._replaceable(old, inputs) or force):
            raise OutputError("already exists", subject=self.name, hint="--force replaces it")
        return stat.S_IMODE(old.st_mode)

    @abstractmethod
    def _replaceable(self, old: os.stat_result, inputs: Sequence[Source]) -> bool:
        """Return whether what exists may be replaced even without `force`; refuse what must not be replaced at all."""

    def _working_path(self) -> str:
        """Return where it will be until `commit`."""
        return temporary_path(*os.path.split(self.target))

    def _begin(self, mode: int) -> None:
        """Make it, let a signal remove it, and lock it: whoever finds it later knows by that whether it is in use."""
        signals.cleanups[self._temporary] = self._removed
        self.fd = self._made(mode)
        locked(self.fd, wait=False)

    @abstractmethod
    def _made(self, mode: int) -> int:
        """Make it under its hidden name, with no more permissions than these, and return its descriptor."""

    @property
    def working_path(self) -> str:
        """Where it is until `commit`."""
        return self._temporary

    def scratch(self) -> OutputFile:
        """Return a file without a name in the same directory, for intermediate data; it disappears with the process."""
        with writing(self.name):
            return OutputFile(unnamed_file(self._directory), self.name, lasting=False)

    def commit(self) -> None:
        """Make it visible under its name, and durable; a second time, do nothing.

        Raises
        ------
        OutputError
            If that fails. What was there before is then untouched, unless only the fsync of the directory failed.
        """
        if not self._temporary:
            return
        try:
            with writing(self.name):
                self._place()
        except BaseException:
            self.abort()
            raise
        self._forget()

    @abstractmethod
    def _place(self) -> None:
        """Write what was made to the disk, and give it its name."""

    def abort(self) -> None:
        """Remove what was begun; after `commit` or a second `abort`, do nothing."""
        if self._temporary:
            with suppress(OSError):
                self._remove()
        self._forget()

    @abstractmethod
    def _remove(self) -> None:
        """Remove what is under the hidden name; an error if nothing is."""

    def _removed(self) -> str:
        """Remove what was begun, and return the output as it is shown; an error if it was committed just now."""
        self._remove()
        return printable(self.name)

    def _forget(self) -> None:
        """Close what is open; from now on nothing is under the hidden name."""
        signals.cleanups.pop(self._temporary, None)
        self._temporary = ""
        fd, self.fd = self.fd, -1
        with suppress(OSError):
            if fd >= 0:
                os.close(fd)


class AtomicFile(Atomic, OutputFile, NewFile):
    """A new file, written at any offset by any thread, and visible only after `commit`.

    Parameters
    ----------
    path, name, force, inputs
        As of `Atomic`.
    in_place : bool
        Whether the output is meant to replace the first of `inputs`.
    """

    def __init__(
        self, path: str, *, name: str, force: bool = False, inputs: Sequence[Source] = (), in_place: bool = False
    ) -> None:
        self._in_place = in_place
        self.lasting = True
        super().__init__(path, name=name, force=force, inputs=inputs)

    def _made(self, mode: int) -> int:
        return os.open(self._temporary, NEW, mode & 0o666)

    def _remove(self) -> None:
        os.unlink(self._temporary)

    def _replaceable(self, old: os.stat_result, inputs: Sequence[Source]) -> bool:
        """Return whether the file is the input that is normalized in place."""
        if not stat.S_ISREG(old.st_mode):
            raise OutputError(f"is {_kind(old.st_mode)}, not a file", subject=self.name)
        same = False
        for position, source in enumerate(inputs):
            if source.identity is None or source.identity[:2] != (old.st_dev, old.st_ino):
                continue
            if not self._in_place:
                hint = "choose another name, or --in-place for a .npy"
                raise OutputError(f"is the same file as the input {source.name}", subject=self.name, hint=hint)
            if position:
                raise OutputError(f"is the same file as {source.name}, which is read too", subject=self.name)
            same = True
        return same

    def replaced(self) -> RawFile:
        """Return the reader of the file that will be replaced."""
        return RawFile(self.target, self.name)

    def _place(self) -> None:
        os.fsync(self.fd)
        self._close()
        if not self.replaces and os.path.lexists(self.target):
            raise OutputError("was created by someone else meanwhile", subject=self.name)
        os.replace(self._temporary, self.target)
        sync_directory(self._directory)


def sync_directory(directory: str) -> None:
    """Have the names in a directory written to the disk."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return  # a directory that this user may write but not read
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system does not support it
            raise
    finally:
        os.close(fd)


@contextmanager
def aborting(file: Committing) -> Iterator[None]:
    """Abort the file if what is done inside fails."""
    try:
        yield
    except BaseException:
        file.abort()
        raise


class Page(FileSink):
    """A small file, a picture or a report, that is written from memory and appears whole, or not at all.

    Parameters
    ----------
    file : AtomicFile
        The file, begun.
    """

    def __init__(self, file: AtomicFile) -> None:
        super().__init__(file)
        self._nbytes = 0

    def write(self, content: bytes) -> None:
        """Write what comes next."""
        self.file.write(memoryview(content), self._nbytes)
        self._nbytes += len(content)


_NO_FALLOCATE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENODEV})
_LIBC = ctypes.CDLL(None)
