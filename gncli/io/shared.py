"""An output that several processes write, each its own range, and that one of them makes visible; and their records.

Beside ``y.npy`` there is a folder ``.y.npy.parts`` until then: the file ``data``, of its final size, and a record of
each part. ``data`` of a store is a folder. A record is a .npz that holds what the part found and which bytes it wrote,
with their CRC-32.

Notes
-----
Several clients of a network file system write back whole pages, so no two of them may write into the same one. A part
writes only the grains that lie whole in its range. The bytes at both ends go into its record, and whoever makes the
file visible writes them.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError, OutputError
from gncli.inputs import STRICT, Policy
from gncli.io.atomic import AtomicFile, OutputFile, locked, parts_beside, stale_files, writing
from gncli.io.atomic_folder import AtomicFolder, removed
from gncli.io.folder import opened
from gncli.io.formats import npz_sink, written
from gncli.io.ranges import GRAIN_NBYTES
from gncli.io.rawfile import RawFile, RawSink, read_fully, reading
from gncli.io.source import Archive, Container, NewFile, NewFolder, Sink, Source, StoredChunks
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
        import json  # a run without parts needs none

        text = json.dumps(self.about).encode()
        arrays = {"about": np.frombuffer(text, np.uint8), **self.arrays}
        with sink:
            sink.write({"sha256": _digest(arrays), **arrays})
            sink.commit()


def read_record(path: str, name: str, policy: Policy = STRICT) -> Record:
    """Return the record in a .npz.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    import json  # a run without parts needs none

    arrays = {}
    with opened(path, name, policy) as file:
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
    about = None
    with suppress(ValueError):
        about = json.loads(arrays.pop("about").tobytes())
    if not isinstance(about, dict) or not isinstance(about.get("run"), dict):
        raise InputError("is damaged: it does not say what run it is of", subject=name, hint="do this part again")
    return Record(name, about, arrays)


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

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.kind}-{self.part}-of-{self.parts}.npz"


def place_of(name: str) -> Place | None:
    """Return which record a file of this name is; None if it is none.

    Examples
    --------
    >>> place_of("part-1-of-3.npz"), place_of("data")
    (Place(kind='part', part=1, parts=3), None)
    """
    match = _RECORD.fullmatch(name)
    return Place(match[1], int(match[2]), int(match[3])) if match else None


class SharedFolder:
    """The folder of the parts of an output.

    Parameters
    ----------
    output : str
        The output, as the user typed it.

    Attributes
    ----------
    run : str
        What tells the parts of one run from those of another before there is a record: a digest of what they share.
    """

    run = ""

    def __init__(self, output: str) -> None:
        self.output = output
        path = written(output)[1]
        self.path, self.shown = parts_beside(os.path.realpath(path)), parts_beside(path)

    def places(self) -> list[Place]:
        """Return the records that are there, in order."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OutputError(f"cannot be listed ({error.strerror})", subject=self.shown) from error
        return sorted(filter(None, map(place_of, names)))

    def exists(self) -> bool:
        """Return whether there is such a folder."""
        return os.path.isdir(self.path)

    def read(self, place: Place) -> Record:
        """Return a record; see `read_record`."""
        return read_record(os.path.join(self.path, place.name), os.path.join(self.shown, place.name))

    def save(self, place: Place, about: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a record; an older one of the same place is replaced."""
        file = AtomicFile(os.path.join(self.path, place.name), name=self.output, force=True)
        Record(self.output, about, arrays).save(npz_sink(file))

    def begin(self, *, alone: bool, force: bool, inputs: Sequence[Source]) -> NewFile:
        """Return the file that the parts write; see `SharedFile`."""
        return SharedFile(self, alone=alone, force=force, inputs=inputs)

    def begin_store(self, *, alone: bool, force: bool, inputs: Sequence[Source]) -> SharedFiles:
        """Return the folder that the parts write; see `SharedStore`."""
        return SharedStore(self, alone=alone, force=force, inputs=inputs)

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
            data = os.path.join(self.path, "data")
            with suppress(FileNotFoundError):
                fd = os.open(data, os.O_CLOEXEC | (os.O_RDONLY if os.path.isdir(data) else os.O_RDWR))
            try:
                if fd >= 0 and not locked(fd, wait=False):
                    raise _in_use(self.output)
                return self.emptied()
            finally:
                if fd >= 0:
                    os.close(fd)

    def emptied(self) -> list[tuple[str, int]]:
        """Remove the files of parts, and return them: path and bytes. The folder stays if it holds other files."""
        names = [
            name
            for name in sorted(os.listdir(self.path))
            if name == "data" or _RECORD.fullmatch(name) or re.fullmatch(r"\..*\.[0-9a-f]{12}\.tmp", name)
        ]
        gone = [(os.path.join(self.shown, name), _unlinked(os.path.join(self.path, name))) for name in names]
        with suppress(OSError):
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
            gone.append((os.path.join(os.path.dirname(path), os.path.basename(stale)), _unlinked(stale)))
    return gone


def _unlinked(path: str) -> int:
    """Remove a file or a folder, and return its bytes."""
    if os.path.isdir(path):
        return removed(path)
    nbytes = os.lstat(path).st_size
    os.unlink(path)
    return nbytes


def _in_use(output: str) -> OutputError:
    return OutputError("is being written by another process", subject=output, hint="wait for it, or end it")


# --- the file --------------------------------------------------------------------------------------------------------


class Written(NamedTuple):
    """A run of bytes that a part wrote, and its CRC-32: by its offset in the file, or by its path in the store."""

    place: Any
    nbytes: int
    crc: int


Edge = tuple[int, bytes]
"""Bytes at an end of a range, which fill no grain: their offset in the file, and the bytes."""


class Ranged(NewFile):
    """A file of which a process writes a range, but for the ends that fill no grain: a base class."""

    _alone: bool

    @abstractmethod
    def grains(self, start: int, stop: int) -> tuple[int, int]:
        """Return where the first grain begins, and the last one ends, that lie whole in a range."""

    def limits(self, start: int, stop: int) -> None:
        """Set the range of bytes that is written from now on, and forget what was."""
        self._range = start, stop
        first, last = self.grains(start, stop)
        self._inner = (first, last) if first < last else (start, start)
        self._edges: list[Edge] = []

    def write(self, view: memoryview, offset: int) -> None:
        """Write what lies in whole grains of the range; keep its ends; leave out what is outside."""
        if self._alone and not any(self._range):
            super().write(view, offset)  # type: ignore[safe-super]  # the other base class writes
            return
        start, stop = self._range
        first, last = self._inner
        ends = filter(None, (_cut(view, offset, start, first), _cut(view, offset, last, stop)))
        self._edges += [(at, bytes(piece)) for at, piece in ends]  # one operation, whichever thread
        inside = _cut(view, offset, first, last)
        if inside is not None:
            super().write(inside[1], inside[0])  # type: ignore[safe-super]
            self.wrote(*inside)

    def wrote(self, offset: int, view: memoryview) -> None:
        """Take note of what was written of the range."""

    def fill(self, edges: Iterable[Edge]) -> None:
        """Write the ends of ranges."""
        for at, data in edges:
            super().write(memoryview(data), at)  # type: ignore[safe-super]

    @abstractmethod
    def finish(self) -> tuple[list[Written], list[Edge]]:
        """Make what was written durable, and return it, and the ends of the range, sorted by offset."""

    @abstractmethod
    def holds(self, run: Written) -> bool:
        """Return whether the file has the bytes of a run that was written."""

    def stores(self, run: Written) -> bool:
        """Return whether a run that was written is there, without reading it."""
        return self.holds(run)


class SharedFile(Ranged, AtomicFile):
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
        self.limits(0, 0)
        super().__init__(written(folder.output)[1], name=folder.output, force=force, inputs=inputs)

    def _working_path(self) -> str:
        return os.path.join(self._folder.path, "data")

    def _begin(self, mode: int) -> None:
        with suppress(FileExistsError):
            os.mkdir(self._folder.path)
        self.fd = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode & 0o666)

    def allocate(self, nbytes: int) -> None:
        """Lock the file, and make it `nbytes` long unless it is."""
        with writing(self.name):
            first = _joined(self.fd, self._temporary, self.name, self._alone)
            if os.fstat(self.fd).st_size != nbytes:
                if first is False:
                    raise OSError("parts of another size are being written")
                os.ftruncate(self.fd, 0)
                # Without a lock another part may write already, and what reserves room could write over it.
                super().allocate(nbytes) if first else os.ftruncate(self.fd, nbytes)
            if not self._alone:
                locked(self.fd, shared=True, wait=True)

    def grains(self, start: int, stop: int) -> tuple[int, int]:
        """Return where the first grain begins, and the last one ends, that lie whole in a range."""
        grain = 1 if self._alone else GRAIN_NBYTES
        return -(-start // grain) * grain, stop // grain * grain

    def limits(self, start: int, stop: int) -> None:
        """Set the range of bytes that is written from now on, and forget what was."""
        super().limits(start, stop)
        self._written: list[Written] = []

    def wrote(self, offset: int, view: memoryview) -> None:
        """Take note of what was written of the range, and of its CRC-32."""
        self._written.append(Written(offset, len(view), zlib.crc32(view)))

    def finish(self) -> tuple[list[Written], list[Edge]]:
        """Make what was written durable, and return it, and the ends of the range, sorted by offset."""
        with writing(self.name):
            os.fsync(self.fd)
        return sorted(self._written), sorted(self._edges)

    def holds(self, run: Written) -> bool:
        """Return whether the file has the bytes of a run that was written."""
        view = memoryview(bytearray(run.nbytes))
        with reading(self.name):
            count = read_fully(self.fd, view, run.place)
        return count == run.nbytes and zlib.crc32(view) == run.crc

    def stores(self, run: Written) -> bool:
        """Return whether a run that was written is there, without reading it: the file has its final size."""
        return True

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

    def _remove(self) -> None:
        """Leave the file for the next run."""


class _Shard(OutputFile):
    """A file of a store that is written from its beginning to its end; then it is made durable."""

    def __init__(self, fd: int, name: str, key: str, take: Callable[[Written], None]) -> None:
        super().__init__(fd, name)
        self._found, self._take = Written(key, 0, 0), take

    def write(self, view: memoryview, offset: int) -> None:
        super().write(view, offset)
        key, nbytes, crc = self._found
        self._found = Written(key, nbytes + len(view), zlib.crc32(view, crc))

    def commit(self) -> None:
        self.sync()
        self._take(self._found)


class SharedFiles(NewFolder):
    """A folder, or objects below a prefix, of which parts write whole files: a base class."""

    @abstractmethod
    def finish(self) -> tuple[list[Written], list[Edge]]:
        """Make durable what was written since, and return it, sorted by path; there are no ends of a range."""

    @abstractmethod
    def holds(self, run: Written) -> bool:
        """Return whether a file has the bytes that were written."""

    def stores(self, run: Written) -> bool:
        """Return whether a file is there with its size, without reading it."""
        return self.holds(run)


class SharedStore(AtomicFolder, SharedFiles):
    """The folder that the parts of an output write, which is a store: each part whole files of it.

    Parameters
    ----------
    folder : SharedFolder
        Where it is until `commit`.
    alone, force, inputs
        As of `SharedFile`.
    """

    def __init__(self, folder: SharedFolder, *, alone: bool, force: bool, inputs: Sequence[Source]) -> None:
        self._folder, self._alone = folder, alone
        self._written: list[Written] = []
        super().__init__(written(folder.output)[1], name=folder.output, force=force, inputs=inputs)

    def _working_path(self) -> str:
        return os.path.join(self._folder.path, "data")

    def _begin(self, mode: int) -> None:
        for path, allowed in ((self._folder.path, 0o777), (self._temporary, mode)):
            with suppress(FileExistsError):
                os.mkdir(path, allowed)
        self.fd = os.open(self._temporary, os.O_RDONLY | os.O_CLOEXEC)
        _joined(self.fd, self._temporary, self.name, self._alone)
        if not self._alone:
            locked(self.fd, shared=True, wait=True)

    def file(self, key: str) -> OutputFile:
        """Return a file in the folder, by its path there; an older one is written anew."""
        fd = self._opened(key, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        return _Shard(fd, self.name, key, self._written.append)

    def finish(self) -> tuple[list[Written], list[Edge]]:
        """Return the files that were written since, sorted by path."""
        found, self._written = sorted(self._written), []
        return found, []

    def holds(self, run: Written) -> bool:
        """Return whether a file has the bytes that were written."""
        try:
            with RawFile(os.path.join(self._temporary, run.place), self.name) as file:
                data = file.head(run.nbytes + 1)
        except InputError:
            return False
        return len(data) == run.nbytes and zlib.crc32(data) == run.crc

    def stores(self, run: Written) -> bool:
        """Return whether a file is there with its size, without reading it."""
        with writing(self.name), suppress(FileNotFoundError):
            return os.stat(run.place, dir_fd=self.fd).st_size == run.nbytes
        return False

    def _remove(self) -> None:
        """Leave the folder for the next run."""

    def _place(self) -> None:
        super()._place()
        self._folder.emptied()


class Shared:
    """A part's end of a .npy: a range of the file that all parts write.

    Parameters
    ----------
    sink : RawSink
        The sink, whose file is `Ranged`.
    """

    def __init__(self, sink: RawSink) -> None:
        assert isinstance(sink.file, Ranged)
        self._file, self._offset, self._itemsize = sink.file, sink.offset, sink.dtype.itemsize
        self.finish, self.fill = sink.file.finish, sink.file.fill
        self.holds, self.stores = sink.file.holds, sink.file.stores

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """Return the elements that a part writes which has those from `start` to `stop`: the same."""
        return start, stop

    def limits(self, start: int, stop: int) -> None:
        """Write only these elements from now on."""
        self._file.limits(self._offset + start * self._itemsize, self._offset + stop * self._itemsize)


class SharedShards:
    """A part's end of a store: the shards that begin in its range, whole.

    Parameters
    ----------
    sink : Sink
        The sink of a store, whose folder is `SharedFiles`.
    """

    def __init__(self, sink: Any) -> None:
        assert isinstance(sink.folder, SharedFiles)
        self.reach, self._sink, self._store = sink.reach, sink, sink.folder
        self.limits, self.holds, self.stores = sink.limits, sink.folder.holds, sink.folder.stores

    def finish(self) -> tuple[list[Written], list[Edge]]:
        """Make what was written durable, and return it; there are no ends of ranges."""
        self._sink.limits(0, 0)
        return self._store.finish()

    def fill(self, edges: Iterable[Edge]) -> None:
        """Write no ends of ranges."""


def shared_end(sink: Sink) -> Shared | SharedShards:
    """Return a part's end of what all parts write."""
    return Shared(sink) if isinstance(sink, RawSink) else SharedShards(sink)


def _joined(fd: int, path: str, name: str, alone: bool) -> bool | None:
    """Lock what parts write, and return what `locked` does at first: whether no other process writes it."""
    first = locked(fd, wait=False)
    if first is False:
        if alone:
            raise _in_use(name)
        locked(fd, shared=True, wait=True)  # whoever makes the file holds it for a moment
    if not os.path.samestat(os.fstat(fd), os.stat(path)):
        raise OSError("its parts were put together meanwhile")
    return first


def _cut(view: memoryview, offset: int, start: int, stop: int) -> tuple[int, memoryview] | None:
    """Return what of `view`, which lies at `offset`, is in a range, with its own offset; None if nothing is."""
    first, last = max(offset, start), min(offset + len(view), stop)
    return (first, view[first - offset : last - offset]) if first < last else None
