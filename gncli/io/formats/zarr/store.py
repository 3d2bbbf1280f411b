"""The folder of a Zarr store: files by their keys, and what must not change of them.

A file that is not there is told from one that cannot be read: the first stands for the fill value, the second is an
error. No file outside the folder is read, whatever its links say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Literal

from gncli.errors import ChangedError, InputError, LimitError
from gncli.io.rawfile import RawFile, identity_of, reading
from gncli.io.source import Identity

MAX_METADATA_NBYTES = 16 << 20
V3, ARRAY, GROUP, ATTRIBUTES = "zarr.json", ".zarray", ".zgroup", ".zattrs"

ABSENT = 1

Kind = Literal["v3", "array", "group"]


def kind_of(folder: str) -> Kind | None:
    """Return what a folder is: described by version 3, an array or a group of version 2; None if by neither."""
    kinds: tuple[tuple[str, Kind], ...] = ((V3, "v3"), (ARRAY, "array"), (GROUP, "group"))
    return next((kind for file, kind in kinds if os.path.lexists(os.path.join(folder, file))), None)


def state_of(identity: Identity | None) -> int:
    """Return a number for the state of a file: `ABSENT` if there is none, and never 0.

    Examples
    --------
    >>> state_of(None), state_of(Identity(1, 2, 3, 4, 5)) == state_of(Identity(1, 2, 3, 4, 5))
    (1, True)
    """
    return ABSENT if identity is None else hash(identity) | 2


class Store:
    """A folder and what is below it.

    Parameters
    ----------
    path : str
        The folder.
    name : str
        What errors call it.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name
        self._root = os.path.join(os.path.realpath(path), "")

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

    def look(self, key: str) -> Identity | None:
        """Return the state of a file; None if there is none."""
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

    def open(self, key: str, state: int | None = None) -> RawFile:
        """Return a file, which must be in this state, of `state_of`, if one is given.

        Raises
        ------
        InputError
            If it cannot be opened, or is not a regular file.
        ChangedError
            If it is in another state, or is not there any more.
        """
        try:
            file = RawFile(self.at(key), self.name)
        except InputError as error:
            if state is not None and isinstance(error.__cause__, FileNotFoundError):
                raise ChangedError(f"lost {key} while it was read", subject=self.name) from error
            raise
        if state is not None and state_of(file.identity) != state:
            file.close()
            raise self.changed(key)
        return file

    def changed(self, key: str) -> ChangedError:
        """Return the error about a file that is not what it was."""
        return ChangedError(f"was changed while it was read: {key}", subject=self.name)

    def metadata(self, key: str) -> tuple[RawFile, bytes]:
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

    def files(self) -> Iterator[str]:
        """Yield the keys of all files in the store.

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
            yield from (file if below == os.curdir else f"{below}/{file}" for file in files)
