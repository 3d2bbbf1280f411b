"""A Zarr store, read: its arrays by their path, each of them by whole chunks.

Notes
-----
A chunk that has no file is its fill value, and so is an inner chunk that the index of its shard leaves out. Nothing
else is: a file that cannot be read is an error. Files are looked at when a chunk of them is first needed; which chunks
are stored is counted when somebody asks.

The state of a file is kept when it is first looked at, and compared each time that it is opened; `verify_unchanged`
looks at all files once more that were used since it was last called, those that were not there too.
"""

from __future__ import annotations

import math
import operator
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import GncliError, InputError, LimitError
from gncli.inputs import STRICT, Policy
from gncli.io.chunked import Bytes, ChunkedSource, DamagedError, Grid, check_size, damaged
from gncli.io.dtypes import NotNumericError
from gncli.io.foreign import Widened
from gncli.io.formats.zarr.codecs import CRC_NBYTES, check_installed, checked
from gncli.io.formats.zarr.metadata import ArrayMetadata, ShardIndex, array_of_v2, array_of_v3, parsed
from gncli.io.formats.zarr.store import ABSENT, ARRAY, ATTRIBUTES, V3, Store, kind_of, state_of
from gncli.io.rawfile import RawFile, as_bytes, reading
from gncli.io.source import MAX_MEMBERS, Container, Source, StoredChunks, list_names, not_found
from gncli.text import natural

SPARSE_NBYTES = 4 << 30  # an array may declare as much, however little it stores
SPARSE_FACTOR = 1000

_MISSING = (1 << 64) - 1  # offset and size of an inner chunk that is not stored


class ZarrStore(Container):
    """A Zarr store, or a group or an array in one: its numeric arrays by their path.

    Parameters
    ----------
    path : str
        The folder.
    name : str
        The folder as the user typed it.
    policy : Policy, optional
        The limits that the user has lifted.

    Attributes
    ----------
    skipped : list of str
        The paths of arrays that hold no numbers; known after `names`.
    """

    hint = "name an array, as STORE::/group/array"

    def __init__(self, path: str, name: str, policy: Policy = STRICT) -> None:
        self.skipped: list[str] = []
        self._store, self._name, self._policy = Store(path, name), name, policy

    def names(self) -> list[str]:
        """Return the paths of the numeric arrays, in natural order; the array that a store is has an empty one.

        Raises
        ------
        InputError
            If a group cannot be listed.
        LimitError
            If there are more groups and arrays than gncli lists.
        """
        found: list[str] = []
        self.skipped = []
        for path in self._arrays():
            try:
                self._metadata(path, self._name)[0].close()
            except NotNumericError:
                self.skipped.append(path)
                continue
            except GncliError:  # which is raised again when it is opened
                pass
            found.append(path)
        return sorted(found, key=natural)

    def _arrays(self) -> Iterator[str]:
        """Yield the path of each array; links to folders are not followed."""
        todo = deque([""])
        met = 0
        while todo:
            path = todo.popleft()
            folder = os.path.join(self._store.path, path.lstrip("/"))
            kind = kind_of(folder)
            if kind is None:  # a folder that belongs to no group
                continue
            if kind == "array" or (kind == "v3" and not self._is_group(path)):
                yield path
                continue
            with reading(self._name):
                below = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
            met += len(below)
            if met > MAX_MEMBERS:
                problem = f"has more than {MAX_MEMBERS:,} groups and arrays"
                raise LimitError(problem, subject=self._name, hint="name one array, as STORE::/group/array")
            todo.extend(f"{path}/{name}" for name in below)

    def _is_group(self, path: str) -> bool:
        """Return whether a node of version 3 is a group; one that cannot be read is none, and opening it says why."""
        with suppress(GncliError):
            file, text = self._store.metadata(os.path.join(path.lstrip("/"), V3))
            file.close()
            return parsed(text, self._name).get("node_type") == "group"
        return False

    def _metadata(self, path: str, name: str) -> tuple[RawFile, ArrayMetadata]:
        """Return the metadata of the array at a path, and their file, open."""
        below = path.lstrip("/")
        store = Store(self._store.path, name)
        kind = kind_of(os.path.join(store.path, below))
        if kind is None or kind == "group" or (kind == "v3" and path and self._is_group(path)):
            inside = [array for array in self._arrays() if array.startswith(f"{path}/")]
            if kind is not None and inside:
                hint = f"name one of {list_names(inside)}"
                raise InputError("is a group, not an array", subject=name, hint=hint)
            raise not_found(path, sorted(self._arrays(), key=natural), "array", name)
        file, text = store.metadata(os.path.join(below, V3 if kind == "v3" else ARRAY))
        try:
            if kind == "v3":
                return file, array_of_v3(text, name, self._policy.max_chunk)
            attributes = None
            if store.look(os.path.join(below, ATTRIBUTES)) is not None:
                with store.metadata(os.path.join(below, ATTRIBUTES))[0] as other:
                    attributes = other.head(other.identity.nbytes)
            return file, array_of_v2(text, attributes, name, self._policy.max_chunk)
        except BaseException:
            file.close()
            raise

    def open(self, member: str, name: str) -> Source:
        """Return the array at a path, with or without the leading ``/``.

        Raises
        ------
        InputError
            If there is none, or its metadata are malformed, or it is not numeric, or encoded in a way not known.
        LimitError
            If a chunk is too large, or it declares far more than it stores.
        ParameterError
            If the library that decodes it is not installed.
        """
        parts = [part for part in member.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise InputError("has .. in the path of an array", subject=name)
        path = "".join(f"/{part}" for part in parts)
        file, meta = self._metadata(path, name)
        try:
            for step in meta.pipeline.steps:
                check_installed(step.codec, name)
            store = Store(os.path.join(self._store.path, *parts), name)
            if not self._policy.sparse:
                _check_sizes(store, meta, name)
            source = ZarrSource(file, store, meta, name)
        except BaseException:
            file.close()
            raise
        return source if meta.kind is None else Widened(source, meta.kind)


def _check_sizes(store: Store, meta: ArrayMetadata, name: str) -> None:
    """Raise LimitError if an array declares far more than its files can hold."""
    declared = math.prod(meta.shape) * meta.dtype.itemsize
    if declared <= SPARSE_NBYTES:
        return
    stored = 0
    for key in store.files():
        identity = None if meta.cell(key) is None else store.look(key)
        stored += identity.nbytes if identity else 0
        if declared <= SPARSE_FACTOR * stored:
            return
    problem = f"declares {declared:,} bytes and stores {stored:,}"
    raise LimitError(problem, subject=name, hint="--allow-sparse reads it")


class ZarrSource(ChunkedSource):
    """An array of a Zarr store.

    Parameters
    ----------
    file : RawFile
        The file of its metadata, which is closed with the source.
    store : Store
        The folder of the array.
    meta : ArrayMetadata
        What the file says.
    name : str
        What errors call it.
    """

    def __init__(self, file: RawFile, store: Store, meta: ArrayMetadata, name: str) -> None:
        super().__init__(file, Grid(meta.shape, meta.chunk), meta.dtype, meta.fill, name)
        self.dimensions = meta.dimensions
        self._store, self._meta = store, meta
        self._files = Grid(meta.shape, meta.file)
        self._ratio = tuple(outer // inner for outer, inner in zip(meta.file, meta.chunk, strict=True))
        self._states = np.zeros(len(self._files), np.int64)  # the state of each file; 0 says that nobody has looked yet
        self._stored: StoredChunks | None = None
        self._used = bytearray(len(self._files))  # since the last `verify_unchanged`
        # Where inner chunks lie, and how many bytes they take: 0 of those that are not stored.
        self._places = np.zeros((*self.grid.grid, 2) if meta.shards else (0,), np.uint64)

    def stores(self, number: int) -> bool:
        """Return whether a chunk is stored: whether it has a file, or the index of its shard has it."""
        at = self._file_of(number)
        self._used[at] = 1
        if not self._states[at]:
            self._look(at)
        if self._states[at] == ABSENT:
            return False
        return self._meta.shards is None or bool(self._places[self.grid.cell(number)][1])

    def _file_of(self, number: int) -> int:
        """Return the number of the file that a chunk is in."""
        cells = zip(self.grid.cell(number), self._ratio, self._files.strides, strict=True)
        return sum(cell // ratio * stride for cell, ratio, stride in cells)

    def _key(self, at: int) -> str:
        return self._meta.key(self._files.cell(at))

    def _look(self, at: int) -> None:
        """Keep the state of a file, and of a shard its index."""
        identity = self._store.look(self._key(at))
        if identity is not None and self._meta.shards is not None:
            with self._store.open(self._key(at), state_of(identity)) as file:
                self._keep(at, file, self._meta.shards)
        self._states[at] = state_of(identity)

    def _keep(self, at: int, file: RawFile, index: ShardIndex) -> None:
        """Keep the index of a shard, after it was checked."""
        count = math.prod(self._ratio)
        nbytes = 16 * count + CRC_NBYTES * index.checked
        size = file.identity.nbytes
        if size < nbytes:
            raise self._damaged(at, f"it has {size:,} bytes, and its index {nbytes:,}")
        data = np.empty(nbytes, np.uint8)
        file.read(as_bytes(data), 0 if index.first else size - nbytes)
        try:
            found = (checked(data) if index.checked else data).view(index.dtype).reshape(count, 2)
        except DamagedError as error:
            raise self._damaged(at, f"the checksum of its index: {error}") from error
        missing = np.logical_and.reduce(found == _MISSING, axis=1)
        # A sum of two could wrap around, so neither is larger than the file.
        inside = (found <= size).all(axis=1) & (found.sum(axis=1) <= size) & (found[:, 1] > 0)
        if not (missing | inside).all():
            raise self._damaged(at, "its index names bytes that it does not have")
        places = np.where(missing[:, None], 0, found).astype(np.uint64).reshape(*self._ratio, 2)
        corner = tuple(map(operator.mul, self._files.cell(at), self._ratio))
        box = tuple(
            slice(first, min(first + n, size))
            for first, n, size in zip(corner, self._ratio, self.grid.grid, strict=True)
        )
        self._places[box] = places[tuple(slice(part.stop - part.start) for part in box)]

    def _damaged(self, at: int, why: str) -> InputError:
        return InputError(f"cannot be read (the shard {self._key(at)} is damaged: {why})", subject=self.name)

    def decode(self, number: int) -> NDArray[Any]:
        """Return a chunk, read and decoded."""
        try:
            return self._meta.pipeline.decode(self._bytes_of(number), self._meta.chunk, self.dtype)
        except DamagedError as error:
            raise damaged(self.grid.corner(number), error, self.name) from error

    def _bytes_of(self, number: int) -> Bytes:
        at = self._file_of(number)
        with self._store.open(self._key(at), int(self._states[at])) as file:
            offset, nbytes = 0, file.identity.nbytes
            if self._meta.shards is not None:
                offset, nbytes = map(int, self._places[self.grid.cell(number)])
            check_size(nbytes, self._nbytes)
            data = np.empty(nbytes, np.uint8)
            file.read(as_bytes(data), offset)
            file.verify_unchanged()
            return data

    @property
    def stored_chunks(self) -> StoredChunks:
        """How many chunks are stored: the folder is listed, and every shard is looked at that was not before."""
        if self._stored is None:
            for key in self._store.files():
                cell = self._meta.cell(key)
                if cell is not None and all(map(operator.lt, cell, self._files.grid)):
                    at = sum(map(operator.mul, cell, self._files.strides))
                    if not self._states[at]:
                        self._look(at)
            self._states[self._states == 0] = ABSENT
            sizes = self._places[..., 1] if self._meta.shards else self._states != ABSENT
            self._stored = StoredChunks(int(np.count_nonzero(sizes)), len(self.grid), self._fill_value())
        return self._stored

    def _fill_value(self) -> float:
        fill: Any = self._meta.fill
        if self._meta.kind is not None:
            wide = np.empty(1, np.float32)
            self._meta.kind.widen(fill.astype(self._meta.kind.stored).reshape(1), wide)
            fill = wide[0]
        value: float = fill.item()
        return value

    def verify_unchanged(self) -> None:
        """Raise ChangedError if the metadata, or a file that was used since the last call, is not what it was."""
        super().verify_unchanged()
        at = self._used.find(1)
        while at >= 0:
            if state_of(self._store.look(self._key(at))) != self._states[at]:
                raise self._store.changed(self._key(at))
            self._used[at] = 0
            at = self._used.find(1, at + 1)
