"""A folder as one container: its .npy files by their path without the ending, its other files by path::name."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gncli.errors import GncliError, InputError, LimitError
from gncli.inputs import STRICT, Policy
from gncli.io.formats import FOLDERS, FORMATS, NPY, SHARDED, recognized
from gncli.io.rawfile import RawFile, reading
from gncli.io.source import MAX_MEMBERS, Container, Source, StoredFile, not_found
from gncli.io.urls import is_url, parsed
from gncli.text import natural

_SAFETENSORS = ".safetensors"  # the suffix of shards


def opened(path: str, name: str, policy: Policy = STRICT) -> Container:
    """Return the tensors of the file or folder at `path`.

    A folder may be of a format of its own, and one with a single index of shards stands for that.

    Parameters
    ----------
    path : str
        The file or folder.
    name : str
        What errors call it.
    policy : Policy, optional
        The limits for the files.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if is_url(path):
        url, _ = parsed(path)
        for format_ in FOLDERS:
            if url.names_folder(format_.suffixes):
                return format_.open(path, name, policy)
        from gncli.io.remote import open_object  # only who names a store needs it

        return open_file(open_object(url, name, policy.network), name, policy)
    if os.path.isdir(path):
        for format_ in FOLDERS:
            if format_.stands_for(path):
                return format_.open(path, name, policy)
        with reading(name):
            indexes = [entry for entry in os.listdir(path) if entry.endswith(SHARDED.suffixes)]
        if len(indexes) != 1:
            return Folder(path, policy)
        path = os.path.join(path, indexes[0])
    return open_file(RawFile(path, name), name, policy)


def open_file(file: StoredFile, name: str, policy: Policy) -> Container:
    """Return the tensors of an open file, which it owns from now on."""
    try:
        return recognized(file).open(file, name, policy)
    except BaseException:
        file.close()
        raise


def _is_tensors(path: str) -> bool:
    """Return whether a file is of a format that is read; one that cannot be opened counts as one that is not."""
    try:
        with RawFile(path, path) as file:
            return bool(recognized(file))
    except GncliError:
        return False


def _is_store(path: str) -> bool:
    return not os.path.islink(path) and any(format_.stands_for(path) for format_ in FOLDERS)


class Folder(Container):
    """A folder and those below it: all files that have the suffix of a format, in natural order.

    What is hidden is left out, and links to folders are not followed. Where an index of shards lies, it stands for the
    .safetensors next to it; a folder of a format of its own is one of the files.

    Parameters
    ----------
    path : str
        The folder, as the user typed it.
    policy : Policy
        The limits for its files.

    Attributes
    ----------
    skipped : list of str
        What holds no numbers in its files; known after `names`.

    Raises
    ------
    InputError
        If it cannot be listed, or two files have one name.
    LimitError
        If it has more tensors than gncli lists.
    """

    many = True
    hint = "only files that end as those of a format do are looked at: .npy, .npz, .pt, .safetensors, .h5, ..."

    def __init__(self, path: str, policy: Policy) -> None:
        self.skipped: list[str] = []
        self._path, self._policy = path, policy
        self._container: tuple[str, Container] | None = None  # the last one, whose tensors are opened one by one
        self._files: dict[str, str] = {}
        for relative in self._walk():
            called = relative[: -len(NPY.suffixes[0])] if relative.lower().endswith(NPY.suffixes) else relative
            if called in self._files:
                problem = f"has two tensors of the name {called}: {self._files[called]} and {relative}"
                raise InputError(problem, subject=path)
            self._files[called] = relative
            if len(self._files) > MAX_MEMBERS:
                raise LimitError(f"has more than {MAX_MEMBERS:,} files of tensors", subject=path)

    def _walk(self) -> Iterator[str]:
        """Yield the path of each file of tensors, as seen from the folder."""

        def fail(error: OSError) -> None:
            with reading(self._path):
                raise error

        suffixes = tuple(suffix for format_ in FORMATS for suffix in format_.suffixes)
        shared = tuple(suffix for format_ in FORMATS for suffix in format_.shared)
        for folder, folders, files in os.walk(self._path, onerror=fail):
            folders[:] = [entry for entry in folders if not entry.startswith(".")]
            stores = [entry for entry in folders if _is_store(os.path.join(folder, entry))]
            yield from (os.path.relpath(os.path.join(folder, entry), self._path) for entry in stores)
            folders[:] = [entry for entry in folders if entry not in stores]
            indexed = any(entry.endswith(SHARDED.suffixes) for entry in files)
            for entry in files:
                shard = indexed and entry.endswith(_SAFETENSORS)
                if entry.lower().endswith(suffixes) and not entry.startswith(".") and not shard:
                    path = os.path.join(folder, entry)
                    if not entry.lower().endswith(shared) or _is_tensors(path):
                        yield os.path.relpath(path, self._path)

    def _is_npy(self, called: str) -> bool:
        return self._files[called] != called

    def names(self) -> list[str]:
        """Return the names of the numeric tensors, in natural order; a file that cannot be listed is one, by its path.

        Raises
        ------
        LimitError
            If there are more than gncli lists.
        """
        found: list[str] = []
        self.skipped = []
        for called in sorted(self._files, key=natural):
            if self._is_npy(called):
                found.append(called)
                continue
            try:
                container = self._open(called)
                found += [f"{called}::{member}" if member else called for member in container.names()]
                self.skipped += [f"{called}::{member}" for member in container.skipped]
            except GncliError:  # which is raised again when it is opened
                found.append(called)
            if len(found) > MAX_MEMBERS:
                raise LimitError(f"has more than {MAX_MEMBERS:,} tensors", subject=self._path)
        return sorted(found, key=natural)

    def open(self, member: str, name: str) -> Source:
        """Return the tensor of a name, as `names` has it, which errors call `name`.

        Raises
        ------
        InputError
            If there is none, or it cannot be read.
        """
        cuts = [at for at in range(len(member)) if member.startswith("::", at)]
        cut = next((at for at in (len(member), *cuts) if member[:at] in self._files), None)
        if cut is None:
            raise not_found(member, self.names(), "tensor", name)
        called, inner = member[:cut], member[cut + 2 :]
        if self._is_npy(called):
            with opened(os.path.join(self._path, self._files[called]), name, self._policy) as container:
                return container.open(inner, name)
        container = self._open(called)
        return container.open(inner, name)

    def _open(self, called: str) -> Container:
        """Return the file of a name, which stays open until the next one is."""
        if self._container is None or self._container[0] != called:
            self.close()
            self._container = called, opened(os.path.join(self._path, called), f"{self._path}::{called}", self._policy)
        return self._container[1]

    def close(self) -> None:
        """Close the file that was opened last; sources keep what they need of it."""
        if self._container is not None:
            self._container[1].close()
            self._container = None
