"""A folder that appears under its name whole, or not at all, as `atomic` has it for a file.

It is made as a hidden folder beside OUT: its files, the fsync of each, and then one rename. A folder that is replaced
changes places with the new one in one step where the system can do that (Linux, on most of its file systems). Elsewhere
the old one is moved away first: if the machine stops between the two renames, the old one is beside OUT under a hidden
name, and nothing is under OUT's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from gncli import signals
from gncli.errors import OutputError
from gncli.io.atomic import NEW, Atomic, OutputFile, sync_directory, temporary_path, writing
from gncli.io.ranges import FolderRanges
from gncli.io.rawfile import RawFile
from gncli.io.source import NewFolder, Source

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2
_LIBC = ctypes.CDLL(None, use_errno=True)
_UNABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


class AtomicFolder(Atomic, NewFolder):
    """A new folder, whose files any thread writes, and which is visible only after `commit`; see `Atomic`."""

    def _made(self, mode: int) -> int:
        os.mkdir(self._temporary, mode)
        return os.open(self._temporary, os.O_RDONLY | os.O_CLOEXEC)

    def _replaceable(self, old: os.stat_result, inputs: Sequence[Source]) -> bool:
        """Return False; refuse to replace what is no folder, and a folder that holds an input."""
        if not stat.S_ISDIR(old.st_mode):
            raise OutputError("is no folder", subject=self.name, hint="choose another name")
        known = {source.identity[:2]: source.name for source in inputs if source.identity}
        for path in _files(self.target):
            found = os.lstat(path)
            if (found.st_dev, found.st_ino) in known:
                problem = f"holds the input {known[found.st_dev, found.st_ino]}"
                raise OutputError(problem, subject=self.name, hint="choose another name")
        return False

    def file(self, key: str) -> OutputFile:
        """Return a new file in the folder, by its path there."""
        return OutputFile(self._opened(key, NEW), self.name)

    def _opened(self, key: str, flags: int) -> int:
        """Return the descriptor of a file in the folder, whose own folders are made."""
        path = os.path.join(self._temporary, key)
        with writing(self.name):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return os.open(path, flags, 0o666)

    def elsewhere(self) -> partial[FolderRanges]:
        """Return what opens the folder in another process."""
        return partial(FolderRanges, self.name, self.working_path, os.stat(self.working_path).st_ino)

    def files(self) -> Iterator[str]:
        """Yield the paths of the files in the folder that will be replaced."""

        def fail(error: OSError) -> None:
            raise error

        return (os.path.relpath(path, self.target) for path in _files(self.target, fail))

    def replaced(self, key: str) -> RawFile:
        """Return the reader of a file in the folder that will be replaced."""
        return RawFile(os.path.join(self.target, key), self.name)

    def _place(self) -> None:
        """Write everything to the disk; give the folder its name, and remove the one that it replaces."""
        for path in (*_files(self._temporary), *_folders(self._temporary)):
            _sync(path)
        with signals.Deferred():  # what is under the hidden name is then the old folder, or the new one
            if not self.replaces:
                self._put()
            elif not _renamed(self._temporary, self.target, _EXCHANGE):
                self._swap()
            sync_directory(self._directory)
            removed(self._temporary)

    def _put(self) -> None:
        """Give the folder its name, which nothing has."""
        if not _renamed(self._temporary, self.target, _NOREPLACE):
            if os.path.lexists(self.target):
                raise FileExistsError(errno.EEXIST, "was created by someone else meanwhile")
            os.rename(self._temporary, self.target)

    def _swap(self) -> None:
        """Give the folder its name, and the one that has it the hidden name, in three steps."""
        aside = temporary_path(self._directory, os.path.basename(self.target))
        os.rename(self.target, aside)
        try:
            os.rename(self._temporary, self.target)
        except BaseException:
            os.rename(aside, self.target)
            raise
        os.rename(aside, self._temporary)

    def _remove(self) -> None:
        os.stat(self._temporary)
        removed(self._temporary)


def _files(folder: str, fail: Callable[[OSError], None] | None = None) -> Iterator[str]:
    for at, _, files in os.walk(folder, onerror=fail):
        yield from (os.path.join(at, file) for file in files)


def _folders(folder: str) -> Iterator[str]:
    yield from (at for at, _, _ in os.walk(folder, topdown=False))


def _sync(path: str) -> None:
    """Have what lies at a path written to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def removed(folder: str) -> int:
    """Remove a folder with all that is in it, as far as that can be removed, and return the bytes of its files.

    What another process puts into it meanwhile is removed too.
    """
    nbytes, goes_on = 0, True
    while goes_on:
        goes_on = False
        for at, _, files in os.walk(folder, topdown=False):
            with suppress(OSError):
                for path in (os.path.join(at, file) for file in files):
                    found = os.lstat(path).st_size
                    os.unlink(path)
                    nbytes, goes_on = nbytes + found, True
                os.rmdir(at)
    return nbytes


def _renamed(old: str, new: str, flag: int) -> bool:
    """Rename by Linux's ``renameat2``; return False where the system or the file system does not have it."""
    call = getattr(_LIBC, "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flag):
        number = ctypes.get_errno()
        if number in _UNABLE:
            return False
        raise OSError(number, os.strerror(number), new)
    return True
