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
from collections.abc import Iterator, Sequence
from contextlib import suppress

from gncli import signals
from gncli.errors import OutputError
from gncli.io.atomic import NEW, OutputFile, locked, sync_directory, temporary_path, unnamed_file, writing
from gncli.io.rawfile import reason
from gncli.io.source import Committing, Source
from gncli.text import printable

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2
_LIBC = ctypes.CDLL(None, use_errno=True)
_UNABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


class AtomicFolder(Committing):
    """A new folder, whose files any thread writes, and which is visible only after `commit`.

    Parameters
    ----------
    path : str
        Where it will appear. A symlink is followed: its target is replaced.
    name : str
        The output as the user typed it, for errors.
    force : bool
        Whether an existing folder may be replaced.
    inputs : sequence of Source
        What is being read: none of these may lie in the folder.

    Attributes
    ----------
    target : str
        The path of the folder, symlinks followed.
    replaces : bool
        Whether a folder existed there when this one was begun.

    Raises
    ------
    OutputError
        If the output exists, holds an input, is no folder, or cannot be created there.
    """

    def __init__(self, path: str, *, name: str, force: bool = False, inputs: Sequence[Source] = ()) -> None:
        self.name = name
        self.target = os.path.realpath(path)
        mode = self._permitted_mode(force, inputs)
        self.replaces = mode is not None
        self._directory = os.path.dirname(self.target)
        self._temporary = self._working_path()
        self._fd = -1
        try:
            with writing(name):
                self._begin()
                if mode is not None:
                    os.chmod(self._temporary, mode)
        except BaseException as error:
            self.abort()
            if isinstance(error, OutputError) and isinstance(error.__cause__, FileNotFoundError):
                error.hint = f"there is no folder {os.path.dirname(path.rstrip('/')) or self._directory}"
            raise

    def _working_path(self) -> str:
        """Return where the folder will be until `commit`."""
        return temporary_path(*os.path.split(self.target))

    def _begin(self) -> None:
        """Make the folder, which a signal removes."""
        signals.cleanups[self._temporary] = self._removed
        os.mkdir(self._temporary)
        self._fd = os.open(self._temporary, os.O_RDONLY | os.O_CLOEXEC)
        locked(self._fd, wait=False)  # whoever finds it later knows by that whether it is in use

    def _permitted_mode(self, force: bool, inputs: Sequence[Source]) -> int | None:
        """Return the permissions of the folder that will be replaced, or None where nothing exists."""
        try:
            old = os.stat(self.target)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"cannot be written ({reason(error)})", subject=self.name) from error
        if not stat.S_ISDIR(old.st_mode):
            raise OutputError("is no folder", subject=self.name, hint="choose another name")
        known = {source.identity[:2]: source.name for source in inputs if source.identity}
        for path in _files(self.target):
            found = os.lstat(path)
            if (found.st_dev, found.st_ino) in known:
                problem = f"holds the input {known[found.st_dev, found.st_ino]}"
                raise OutputError(problem, subject=self.name, hint="choose another name")
        if not force:
            raise OutputError("already exists", subject=self.name, hint="--force replaces it")
        return stat.S_IMODE(old.st_mode)

    def file(self, key: str) -> OutputFile:
        """Return a new file in the folder, by its path there."""
        path = os.path.join(self._temporary, key)
        with writing(self.name):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return OutputFile(os.open(path, NEW, 0o666), self.name)

    def scratch(self) -> OutputFile:
        """Return a file without a name beside the folder, for intermediate data; it disappears with the process."""
        with writing(self.name):
            return OutputFile(unnamed_file(self._directory), self.name, lasting=False)

    def commit(self) -> None:
        """Make the folder visible under its name, and durable; a second time, do nothing.

        Raises
        ------
        OutputError
            If that fails. The old folder is then untouched, unless only the fsync of the directory failed.
        """
        if not self._temporary:
            return
        try:
            with writing(self.name):
                for path in (*_files(self._temporary), *_folders(self._temporary)):
                    _sync(path)
                with signals.Deferred():  # what is under the hidden name is then the old folder, or the new one
                    self._place()
                    sync_directory(self._directory)
                    self._discard()
        except BaseException:
            self.abort()
            raise

    def _place(self) -> None:
        """Give the folder its name, and the one that it replaces the hidden name."""
        if not self.replaces:
            if not _renamed(self._temporary, self.target, _NOREPLACE):
                if os.path.lexists(self.target):
                    raise FileExistsError(errno.EEXIST, "was created by someone else meanwhile")
                os.rename(self._temporary, self.target)
        elif not _renamed(self._temporary, self.target, _EXCHANGE):
            aside = temporary_path(self._directory, os.path.basename(self.target))
            os.rename(self.target, aside)
            try:
                os.rename(self._temporary, self.target)
            except BaseException:
                os.rename(aside, self.target)
                raise
            os.rename(aside, self._temporary)

    def abort(self) -> None:
        """Remove what was begun; after `commit` or a second `abort`, do nothing."""
        self._discard()

    def _discard(self) -> None:
        """Remove what is under the hidden name."""
        if self._temporary:
            removed(self._temporary)
            signals.cleanups.pop(self._temporary, None)
            self._temporary = ""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _removed(self) -> str:
        """Remove what was begun, and return the output as it is shown; an error if there is nothing to remove."""
        os.stat(self._temporary)
        removed(self._temporary)
        return printable(self.name)


def _files(folder: str) -> Iterator[str]:
    for at, _, files in os.walk(folder):
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
    """Remove a folder with all that is in it, as far as that can be removed, and return the bytes of its files."""
    nbytes = 0
    for at, _, files in os.walk(folder, topdown=False):
        with suppress(OSError):
            for path in (os.path.join(at, file) for file in files):
                nbytes += os.lstat(path).st_size
                os.unlink(path)
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
