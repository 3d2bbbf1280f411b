"""An output that several processes write, each its own range, and that one of them makes visible; and their records.

Beside ``y.npy`` there is a folder ``.y.npy.parts`` until then: the file ``data``, of its final size, and a record of
each part. A record is a .npz that holds what the part found and which bytes it wrote, with their CRC-32.

Notes
-----
Several clients of a network file system write back whole pages, so no two of them may write into the same one. A part
writes only the grains that lie whole in its range. The bytes at both ends go into its record, and whoever makes the
file visible writes them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError, OutputError
from gncli.io.atomic import AtomicFile, locked, stale_files, writing
from gncli.io.atomic_folder import removed
from gncli.io.folder import opened
from gncli.io.formats import npz_sink, written
from gncli.io.ranges import GRAIN_NBYTES
from gncli.io.rawfile import read_fully, reading
from gncli.io.source import Archive, Container, Source, StoredChunks
from gncli.kernels.floats import FLOATS

_RECORD = re.compile(r"(part|measure)-([0-9]+)-of-([0-9]+)\.npz")


# --- records ---------------------------------------------------------------------------------------------------------


class Record(NamedTuple):
    """What a part leaves: facts, which JSON can hold, and arrays without Python objects.

    Attributes
    ----------
    name : str
        What errors call it.
    about : dict
        The facts.
    arrays : mapping of str to ndarray, 1-D
        The numbers.
    """

    name: str
    about: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    def save(self, sink: Archive) -> None:
        """Write the record, so that it appears whole, or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        text = json.dumps(self.about).encode()
        arrays = {"about": np.frombuffer(text, np.uint8), **self.arrays}
        with sink:
            sink.write({"sha256": _digest(arrays), **arrays})
            sink.commit()


def read_record(path: str, name: str) -> Record:
    """Return the record in a .npz.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    arrays = {}
    with opened(path, name) as file:
        names = file.names()
        if not {"sha256", "about"} <= {*names}:
            raise InputError("is no record of a part", subject=name, hint="--part I/N -o FILE.npz writes one")
        for member in names:
            with file.open(member, name) as source:
                array = np.empty(math.prod(source.shape), source.dtype)
                source.read_into(array, 0)
                arrays[member] = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not np.array_equal(arrays.pop("sha256"), _digest(arrays)):
        raise InputError("is damaged: its checksum is wrong", subject=name, hint="do this part again")
    return Record(name, json.loads(arrays.pop("about").tobytes()), arrays)


def _digest(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Return the SHA-256 of arrays and their names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        little = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {little.dtype.str} {little.size}\n".encode())
        digest.update(little.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


class Remembered(Source):
    """A tensor of which a record remembers all but the elements: what was found in these is in the record.

    Parameters
    ----------
    name : str
        What it was called.
    about : dict
        The facts: its shape, dtype, order, dimensions, and chunks.
    """

    def __init__(self, name: str, about: dict[str, Any]) -> None:
        self.name = name
        code, called = about["dtype"]
        self.shape, self.dtype, self.order = tuple(about["shape"]), np.dtype(code), about["order"]
        self.stored_as = FLOATS[called] if called in FLOATS and FLOATS[called].foreign else None
        self.dimensions = tuple(about["dimensions"])
        self._chunks = None if about["chunks"] is None else StoredChunks(*about["chunks"])

    @property
    def stored_chunks(self) -> StoredChunks | None:
        """How much of it was in its file, if that stores it in chunks."""
        return self._chunks

    @staticmethod
    def facts(source: Source) -> dict[str, Any]:
        """Return the facts about a tensor that can be read."""
        return {
            "shape": list(source.shape),
            "dtype": [source.dtype.str, source.dtype_name],
            "order": source.order,
            "dimensions": list(source.dimensions),
            "chunks": source.stored_chunks,
        }

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Refuse: there are no elements."""
        raise NotImplementedError


class RememberedFile(Container):
    """A file of which a record remembers the one tensor, and how many others had no numbers."""

    def __init__(self, about: dict[str, Any], others: int) -> None:
        self._about, self._others = about, others

    def names(self) -> list[str]:
        """Return the one name, which is empty."""
        self.skipped = [""] * self._others
        return [""]

    def open(self, member: str, name: str) -> Source:
        """Return the tensor."""
        return Remembered(name, self._about)


# --- the folder ------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Which record: of the part itself, or of what it measured before, and of how many parts."""

    kind: str
    part: int
    parts: int


class SharedFolder:
    """The folder of the parts of an output.

    Parameters
    ----------
    output : str
        The output, as the user typed it.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        directory, base = os.path.split(os.path.realpath(written(output)[1]))
        self.path = os.path.join(directory, f".{base}.parts")
        self.shown = os.path.join(os.path.dirname(written(output)[1]), f".{base}.parts")

    def places(self) -> list[Place]:
        """Return the records that are there, in order."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OutputError(f"cannot be listed ({error.strerror})", subject=self.shown) from error
        found = filter(None, map(_RECORD.fullmatch, names))
        return sorted(Place(match[1], int(match[2]), int(match[3])) for match in found)

    def exists(self) -> bool:
        """Return whether there is such a folder."""
        return os.path.isdir(self.path)

    def _named(self, place: Place) -> str:
        return f"{place.kind}-{place.part}-of-{place.parts}.npz"

    def read(self, place: Place) -> Record:
        """Return a record; see `read_record`."""
        return read_record(os.path.join(self.path, self._named(place)), os.path.join(self.shown, self._named(place)))

    def save(self, place: Place, about: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a record; an older one of the same place is replaced."""
        file = AtomicFile(os.path.join(self.path, self._named(place)), name=self.output, force=True)
        Record(self.output, about, arrays).save(npz_sink(file))

    def begin(self, *, alone: bool, force: bool, inputs: Sequence[Source]) -> SharedFile:
        """Return the file that the parts write; see `SharedFile`."""
        return SharedFile(self, alone=alone, force=force, inputs=inputs)

    def removed(self) -> list[tuple[str, int]]:
        """Remove the folder, and return the path and the bytes of each file that was in it.

        Raises
        ------
        OutputError
            If a part is being written, or something cannot be removed.
        """
        if not self.exists():
            return []
        with writing(self.output):
            fd = -1
            with suppress(FileNotFoundError):
                fd = os.open(os.path.join(self.path, "data"), os.O_RDWR | os.O_CLOEXEC)
            try:
                if fd >= 0 and not locked(fd, wait=False):
                    raise _in_use(self.output)
                return self.emptied()
            finally:
                if fd >= 0:
                    os.close(fd)

    def emptied(self) -> list[tuple[str, int]]:
        """Remove the folder and the files of parts in it, and return them: path and bytes. Other files stay."""
        gone = []
        for name in sorted(os.listdir(self.path)):
            if name == "data" or _RECORD.fullmatch(name) or re.fullmatch(r"\..*\.[0-9a-f]{12}\.tmp", name):
                path = os.path.join(self.path, name)
                gone.append((os.path.join(self.shown, name), os.lstat(path).st_size))
                os.unlink(path)
        os.rmdir(self.path)
        return gone


def left_over(output: str) -> list[tuple[str, int]]:
    """Remove what killed runs have left of an output, and return it: path and bytes.

    Raises
    ------
    OutputError
        If another process may still use it, or it cannot be removed.
    """
    gone = SharedFolder(output).removed()
    path = written(output)[1]
    with writing(output):
        for stale, in_use in stale_files(path):
            if in_use:
                raise _in_use(output)
            if os.path.isdir(stale):
                nbytes = removed(stale)
            else:
                nbytes = os.lstat(stale).st_size
                os.unlink(stale)
            gone.append((os.path.join(os.path.dirname(path), os.path.basename(stale)), nbytes))
    return gone


def _in_use(output: str) -> OutputError:
    return OutputError("is being written by another process", subject=output, hint="wait for it, or end it")


# --- the file --------------------------------------------------------------------------------------------------------


class Written(NamedTuple):
    """A run of bytes that a part wrote, and its CRC-32."""

    offset: int
    nbytes: int
    crc: int


Edge = tuple[int, bytes]
"""Bytes at an end of a range, which fill no grain: their offset in the file, and the bytes."""


class SharedFile(AtomicFile):
    """The file that the parts of an output write.

    Parameters
    ----------
    folder : SharedFolder
        Where it is until `commit`.
    alone : bool
        Whether this process must be the only one: it writes what is outside of all ranges too, such as a header, and
        may commit. Otherwise it writes nothing but `limits`.
    force : bool
        Whether an existing output may be replaced.
    inputs : sequence of Source
        What is being read: none of these files may be replaced.

    Raises
    ------
    OutputError
        As for `AtomicFile`; also if other processes write it and this one must be alone.
    """

    def __init__(self, folder: SharedFolder, *, alone: bool, force: bool, inputs: Sequence[Source]) -> None:
        self._folder, self._alone = folder, alone
        self._lock = threading.Lock()
        self.limits(0, 0)
        super().__init__(written(folder.output)[1], name=folder.output, force=force, inputs=inputs)

    def _working_path(self) -> str:
        return os.path.join(self._folder.path, "data")

    def _begin(self, mode: int) -> None:
        with suppress(FileExistsError):
            os.mkdir(self._folder.path)
        self.fd = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)

    def allocate(self, nbytes: int) -> None:
        """Lock the file, and make it `nbytes` long unless it is."""
        with writing(self.name):
            first = locked(self.fd, wait=False)
            if first is False:
                if self._alone:
                    raise _in_use(self.name)
                locked(self.fd, shared=True, wait=True)  # whoever makes the file holds it for a moment
            found = os.fstat(self.fd)
            if not os.path.samestat(found, os.stat(self._temporary)):
                raise OSError("its parts were put together meanwhile")
            if found.st_size != nbytes:
                if first is False:
                    raise OSError("parts of another size are being written")
                os.ftruncate(self.fd, 0)
                # Without a lock another part may write already, and what reserves room could write over it.
                super().allocate(nbytes) if first else os.ftruncate(self.fd, nbytes)
            if not self._alone:
                locked(self.fd, shared=True, wait=True)

    def limits(self, start: int, stop: int) -> None:
        """Set the range of bytes that is written from now on, and forget what was."""
        self._range = start, stop
        grain = 1 if self._alone else GRAIN_NBYTES
        first, last = -(-start // grain) * grain, stop // grain * grain
        self._inner = (first, last) if first < last else (start, start)
        self._written: list[Written] = []
        self._edges: list[Edge] = []

    def write(self, view: memoryview, offset: int) -> None:
        """Write what lies in whole grains of the range; keep its ends; leave out what is outside."""
        if self._alone and not any(self._range):
            super().write(view, offset)
            return
        start, stop = self._range
        first, last = self._inner
        inside = _cut(view, offset, first, last)
        if inside is not None:
            super().write(inside[1], inside[0])
            crc = zlib.crc32(inside[1])
        ends = filter(None, (_cut(view, offset, start, first), _cut(view, offset, last, stop)))
        kept = [(at, bytes(piece)) for at, piece in ends]
        with self._lock:
            self._edges += kept
            if inside is not None:
                self._written.append(Written(inside[0], len(inside[1]), crc))

    def finish(self) -> tuple[list[Written], list[Edge]]:
        """Make what was written durable, and return it, and the ends of the range, sorted by offset."""
        with writing(self.name):
            os.fsync(self.fd)
        return sorted(self._written), sorted(self._edges)

    def fill(self, edges: Iterable[Edge]) -> None:
        """Write the ends of ranges."""
        for at, data in edges:
            super().write(memoryview(data), at)

    def holds(self, run: Written) -> bool:
        """Return whether the file has the bytes of a run that was written."""
        view = memoryview(bytearray(run.nbytes))
        with reading(self.name):
            count = read_fully(self.fd, view, run.offset)
        return count == run.nbytes and zlib.crc32(view) == run.crc

    def commit(self) -> None:
        """Make the file visible under its name, and durable, and remove the folder; a second time, do nothing."""
        if self.fd >= 0:
            lock = os.dup(self.fd)  # so that no part begins before the file has its name
            try:
                super().commit()
                with writing(self.name), suppress(FileNotFoundError):
                    self._folder.emptied()
            finally:
                os.close(lock)

    def abort(self) -> None:
        """Close the file, which stays for the next run."""
        self._temporary = ""
        super().abort()


def _cut(view: memoryview, offset: int, start: int, stop: int) -> tuple[int, memoryview] | None:
    """Return what of `view`, which lies at `offset`, is in a range, with its own offset; None if nothing is."""
    first, last = max(offset, start), min(offset + len(view), stop)
    return (first, view[first - offset : last - offset]) if first < last else None
