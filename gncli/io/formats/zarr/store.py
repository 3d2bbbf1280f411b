"""What a Zarr store is read from: files by their keys, and what must not change of them; here those in a folder.

A file that is not there is told from one that cannot be read: the first stands for the fill value, the second is an
error. No file outside the folder is read, whatever its links say.
"""

from __future__ import annotations

import itertools
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from gncli.errors import ChangedError, InputError, LimitError
from gncli.io.rawfile import RawFile, identity_of, reading
from gncli.io.source import Closing, Identity, StoredFile

MAX_METADATA_NBYTES = 16 << 20
V3, ARRAY, GROUP, ATTRIBUTES = "zarr.json", ".zarray", ".zgroup", ".zattrs"

ABSENT = 1

Kind = Literal["v3", "array", "group"]


KINDS: tuple[tuple[str, Kind], ...] = ((V3, "v3"), (ARRAY, "array"), (GROUP, "group"))
"""Which file describes what: a node of version 3, an array or a group of version 2."""


def state_of(identity: Identity | None) -> int:
    """Return a number for the state of a file: `ABSENT` if there is none, and never 0.

    Examples
    --------
    >>> state_of(None), state_of(Identity(1, 2, 3, 4, 5)) == state_of(Identity(1, 2, 3, 4, 5))
    (1, True)
    """
    return ABSENT if identity is None else hash(identity) | 2


class Store(Closing, ABC):
    """Files by their keys, in a folder or below a prefix of an object store: a base class.

    Parameters
    ----------
    name : str
        What errors call it.

    Attributes
    ----------
    ahead : int
        How many files are asked for before they are opened; 0 where that would gain nothing.
    """

    ahead = 0

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def within(self, path: str, name: str) -> Store:
        """Return the store below a path, which errors call `name`."""

    @abstractmethod
    def kind(self, path: str) -> Kind | None:
        """Return what describes the node at a path; None if nothing does, which is then no node."""

    @abstractmethod
    def below(self, path: str) -> list[str]:
        """Return the names of what may be nodes in the group at a path.

        Raises
        ------
        InputError
            If it cannot be listed.
        """

    @abstractmethod
    def files(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int]] | None:
        """Yield the key and the size of each file of which `wanted` holds; None if files may only be looked at.

        Raises
        ------
        InputError
            If they cannot be listed.
        """

    @abstractmethod
    def looks(self, keys: Iterable[str]) -> Iterator[Identity | None]:
        """Yield the state of each file; None if there is none.

        Raises
        ------
        InputError
            If it cannot be looked at.
        """

    def look(self, key: str) -> Identity | None:
        """Return the state of a file; None if there is none."""
        return next(self.looks([key]))

    def will_open(self, key: str, first: int, nbytes: int) -> None:
        """Declare that a file is opened next, for its first bytes, or with ``-nbytes`` for the last ones."""

    def will_read(self, key: str, state: int, offset: int, nbytes: int) -> None:
        """Declare that these bytes of a file are read next."""

    @abstractmethod
    def open(self, key: str, state: int | None = None, *, often: bool = False) -> StoredFile:
        """Return a file, which must be in this state, of `state_of`, if one is given.

        Parameters
        ----------
        key : str
            The file.
        state : int, optional
            What it was when it was first looked at.
        often : bool
            Whether it is opened for each piece of it.

        Raises
        ------
        InputError
            If it cannot be opened, or is not a regular file.
        ChangedError
            If it is in another state, or is not there any more.
        """

    def check(self, states: Iterable[tuple[str, int]]) -> None:
        """Raise ChangedError if one of the files is not in its state any more."""
        one, other = itertools.tee(states)
        for (key, state), identity in zip(one, self.looks(key for key, _ in other), strict=True):
            if state_of(identity) != state:
                raise self.changed(key)

    def changed(self, key: str) -> ChangedError:
        """Return the error about a file that is not what it was."""
        return ChangedError(f"was changed while it was read: {key}", subject=self.name)

    def lost(self, key: str) -> ChangedError:
        """Return the error about a file that is not there any more."""
        return ChangedError(f"lost {key} while it was read", subject=self.name)

    def metadata(self, key: str) -> tuple[StoredFile, bytes]:
        """Return a file of metadata, open, and all that it says.

        Raises
        ------
        LimitError
            If it is longer than `MAX_METADATA_NBYTES`.
        """
        file = self.open(key)
        try:
            nbytes = file.identity.nbytes
            if nbytes > MAX_METADATA_NBYTES:
                problem = f"has metadata of {nbytes:,} bytes; the limit is {MAX_METADATA_NBYTES:,}"
                raise LimitError(problem, subject=self.name)
            text = file.head(nbytes)
            file.verify_unchanged()
            return file, text
        except BaseException:
            file.close()
            raise


class FolderStore(Store):
    """A folder and what is below it.

    Parameters
    ----------
    path : str
        The folder.
    name : str
        What errors call it.
    """

    def __init__(self, path: str, name: str) -> None:
        super().__init__(name)
        self.path = path
        self._root = os.path.join(os.path.realpath(path), "")

    def within(self, path: str, name: str) -> FolderStore:
        """Return the store in the folder at a path, which errors call `name`."""
        return FolderStore(os.path.join(self.path, path), name)

    def kind(self, path: str) -> Kind | None:
        """Return what describes the folder at a path; None if nothing does."""
        folder = os.path.join(self.path, path)
        return next((kind for file, kind in KINDS if os.path.lexists(os.path.join(folder, file))), None)

    def below(self, path: str) -> list[str]:
        """Return the names of the folders in the one at a path, without links."""
        with reading(self.name):
            entries = os.scandir(os.path.join(self.path, path))
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    def at(self, key: str) -> str:
        """Return the path of a file in the store, links resolved; the file may not be there.

        Raises
        ------
        InputError
            If a link leads out of the store.
        """
        real = os.path.realpath(os.path.join(self._root, key))
        if not os.path.join(real, "").startswith(self._root):
            problem = f"has the file {key}, which is a link out of the store"
            raise InputError(problem, subject=self.name, hint="copy it into the store, with cp -L")
        return real

    def looks(self, keys: Iterable[str]) -> Iterator[Identity | None]:
        """Yield the state of each file; None if there is none."""
        return map(self._state, keys)

    def _state(self, key: str) -> Identity | None:
        path = os.path.join(self._root, key)
        with reading(self.name):
            try:
                status = os.stat(path)
            except FileNotFoundError:
                if os.path.lexists(path):  # a link that leads nowhere
                    raise
                return None
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"has {key}, which is no file", subject=self.name)
        return identity_of(status)

    def open(self, key: str, state: int | None = None, *, often: bool = False) -> RawFile:
        """Return a file, which must be in this state, if one is given."""
        try:
            file = RawFile(self.at(key), self.name)
        except InputError as error:
            if state is not None and isinstance(error.__cause__, FileNotFoundError):
                raise self.lost(key) from error
            raise
        if state is not None and state_of(file.identity) != state:
            file.close()
            raise self.changed(key)
        return file

    def files(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int]]:
        """Yield the key and the size of each file of which `wanted` holds.

        Raises
        ------
        InputError
            If a folder cannot be listed, or is a link.
        """

        def fail(error: OSError) -> None:
            with reading(self.name):
                raise error

        for at, folders, files in os.walk(self._root, onerror=fail):
            for folder in folders:
                if os.path.islink(os.path.join(at, folder)):
                    problem = f"has the folder {os.path.relpath(os.path.join(at, folder), self._root)}, which is a link"
                    raise InputError(problem, subject=self.name, hint="copy the store with cp -rL")
            below = os.path.relpath(at, self._root)
            for key in (file if below == os.curdir else f"{below}/{file}" for file in files):
                identity = self._state(key) if wanted(key) else None
                if identity is not None:
                    yield key, identity.nbytes
