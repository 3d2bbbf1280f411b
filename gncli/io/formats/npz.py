"""The .npz format: several .npy in one zip archive, as `np.savez` and `np.savez_compressed` write them.

Notes
-----
A stored member is read like a .npy: by its offset, from any thread. Its checksum in the archive is not checked, as a
.npy has none. A deflated member is inflated forwards, by the thread that submits the work; to read a span again, it is
inflated again, from a copy of zlib's state at the beginning of the span.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError
from gncli.inputs import STRICT, Policy
from gncli.io.atomic import AtomicFile, writing
from gncli.io.dtypes import NotNumericError
from gncli.io.formats.npy import header_at, open_npy, read_header, size_error
from gncli.io.formats.zip import Inflater, Member, check_size, members
from gncli.io.rawfile import FileSink, FileSource, as_bytes
from gncli.io.source import Archive, Container, Source, StoredFile, not_found

_SUFFIX = ".npy"
_KERAS = "model.weights.h5"  # in a .keras


class NpzFile(Container):
    """A .npz: its numeric arrays by name, each of which can be opened.

    Parameters
    ----------
    file : StoredFile
        The file, which is closed with this.
    name : str
        The file as the user typed it.
    policy : Policy, optional
        Whether it may declare far more than it stores.

    Attributes
    ----------
    skipped : list of str
        The names of members that are not numeric arrays; known after `names`.

    Raises
    ------
    InputError
        If it is damaged.
    LimitError
        If it has more members than gncli lists.
    """

    def __init__(self, file: StoredFile, name: str, policy: Policy = STRICT) -> None:
        self.skipped: list[str] = []
        self._file, self._name, self._policy = file, name, policy
        self._members: dict[str, Member] = {}
        for member in members(file, name):
            if member.name == _KERAS:
                hint = f"extract its weights: unzip FILE {_KERAS}, and give that"
                raise InputError("is a model of Keras", subject=name, hint=hint)
            called = member.name.removesuffix(_SUFFIX) or member.name
            if called in self._members:
                raise InputError(f"has more than one member {called}", subject=name, hint="write it again")
            if not called.endswith("/"):  # no directory
                self._members[called] = member

    def names(self) -> list[str]:
        """Return the names of the numeric arrays, without their suffix, in the order of the archive."""
        found: list[str] = []
        self.skipped = []
        for called, member in self._members.items():
            (found if self._numeric(member) else self.skipped).append(called)
        return found

    def _numeric(self, member: Member) -> bool:
        """Return whether a member is a numeric array; a damaged one counts, and raises its error when it is opened."""
        if not member.name.endswith(_SUFFIX):
            return False
        try:
            start = member.begin(self._file, self._name)
            if member.deflated:
                read_header(Inflater(self._file, member, start, self._name).read, self._name, self._policy.as_dtype)
            else:
                header_at(self._file, start, start + member.nbytes, self._name, self._policy.as_dtype)
        except NotNumericError:
            return False
        except InputError:
            pass
        return True

    def open(self, member: str, name: str) -> Source:
        """Return the array of that name, with or without its suffix.

        Parameters
        ----------
        member : str
            The name.
        name : str
            What errors call it.

        Raises
        ------
        InputError
            If there is none, or it is damaged, or not numeric.
        LimitError
            If it declares far more than it stores.
        """
        found = self._members.get(member) or self._members.get(member.removesuffix(_SUFFIX))
        if found is None:
            raise not_found(member, self.names(), "array", name)
        start = found.begin(self._file, name)
        if not self._policy.sparse:
            check_size(found.nbytes, found.stored, name)
        file = self._file.duplicate()
        try:
            if found.deflated:
                inflater = Inflater(file, found, start, name)
                source = DeflatedSource(file, inflater, found.nbytes, name, self._policy.as_dtype)
                return source.header.meant(source)
            return open_npy(file, name, start, start + found.nbytes, self._policy.as_dtype)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the file; sources that were opened keep what they need of it."""
        self._file.close()


class DeflatedSource(FileSource):
    """A deflated member: read forwards, and again from where it was held, or from its beginning.

    Parameters
    ----------
    file : StoredFile
        The archive, which is closed with the source.
    inflater : Inflater
        The reader of the member, at its first byte.
    nbytes : int
        The size of the inflated member.
    name : str
        What errors call it.
    as_dtype : str, optional
        What raw elements are.

    Raises
    ------
    InputError
        If it is not a .npy, or not as long as its header says.
    """

    sequential = True

    def __init__(
        self, file: StoredFile, inflater: Inflater, nbytes: int, name: str, as_dtype: str | None = None
    ) -> None:
        self.header = header = read_header(inflater.read, name, as_dtype)
        if nbytes - header.offset != header.nbytes:
            raise size_error(header, nbytes - header.offset, name)
        super().__init__(file, header.shape, header.dtype, header.order, name)
        self._offset = header.offset
        self._inflater = inflater
        self._first = self._held = inflater.copy()
        self._lock = threading.Lock()

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on; for earlier elements, inflate again."""
        with self._lock:
            self._go_to(start)
            self._inflater.read_into(as_bytes(out))

    def hold(self, start: int, stop: int) -> None:
        """Keep zlib's state at `start`, so that what follows can be inflated again from there."""
        with self._lock:
            self._go_to(start)
            self._held = self._inflater.copy()

    def _go_to(self, start: int) -> None:
        place = self._offset + start * self.dtype.itemsize
        if self._inflater.position > place:
            self._inflater = (self._held if self._held.position <= place else self._first).copy()
        self._inflater.skip(place - self._inflater.position)


class NpzSink(FileSink, Archive):
    """Several small arrays in one file, which appears whole, on `commit`."""

    file: AtomicFile

    def write(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the arrays under their names, once."""
        import zipfile  # takes 10 ms, with all its ways to compress

        # Not np.savez: in NumPy 2.0 it stores allow_pickle=False as one more array.
        with writing(self.name), open(self.file.fd, "wb", closefd=False) as out, zipfile.ZipFile(out, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
