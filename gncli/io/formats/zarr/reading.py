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
from collections import deque
from collections.abc import Iterable, Iterator
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
from gncli.io.formats.zarr.store import ABSENT, ARRAY, ATTRIBUTES, V3, Store, state_of
from gncli.io.rawfile import as_bytes
from gncli.io.source import MAX_MEMBERS, Container, Source, StoredChunks, StoredFile, list_names, not_found
from gncli.text import natural

SPARSE_NBYTES = 4 << 30  # an array may declare as much, however little it stores
SPARSE_FACTOR = 1000

WHOLE_NBYTES = 8 << 20  # of an object on a store that one request asks for
MAX_ANNOUNCED_NBYTES = 64 << 20  # of chunks that are asked for, and not decoded yet

_MISSING = (1 << 64) - 1  # offset and size of an inner chunk that is not stored


class ZarrStore(Container):
    """A Zarr store, or a group or an array in one: its numeric arrays by their path.

    Parameters
    ----------
    store : Store
        Its files; errors call it as the user typed it.
    policy : Policy, optional
        The limits that the user has lifted.

    Attributes
    ----------
    skipped : list of str
        The paths of arrays that hold no numbers; known after `names`.
    """

    hint = "name an array, as STORE::/group/array"

    def __init__(self, store: Store, policy: Policy = STRICT) -> None:
        self.skipped: list[str] = []
        self._store, self._name, self._policy = store, store.name, policy

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
            kind = self._store.kind(path.lstrip("/"))
            if kind is None:  # a folder that belongs to no group
                continue
            if kind == "array" or (kind == "v3" and not self._is_group(path)):
                yield path
                continue
            below = self._store.below(path.lstrip("/"))
            met += len(below)
            if met > MAX_MEMBERS:
                problem = f"has more than {MAX_MEMBERS:,} groups and arrays"
                raise LimitError(problem, subject=self._name, hint="name one array, as STORE::/group/array")
            todo.extend(f"{path}/{name}" for name in below)

    def _is_group(self, path: str) -> bool:
        """Return whether a node of version 3 is a group; one that cannot be read is none, and opening it says why."""
        with suppress(GncliError):
            file, text = self._store.metadata(f"{path}/{V3}".lstrip("/"))
            file.close()
            return parsed(text, self._name).get("node_type") == "group"
        return False

    def _known(self) -> list[str]:
        """Return the paths of all arrays, for a hint; none where they cannot be listed."""
        with suppress(InputError):
            return sorted(self._arrays(), key=natural)
        return []

    def _metadata(self, path: str, name: str) -> tuple[StoredFile, ArrayMetadata]:
        """Return the metadata of the array at a path, and their file, open."""
        store = self._store.within("", name)
        at = path.lstrip("/")
        kind = store.kind(at)
        if kind is None or kind == "group" or (kind == "v3" and path and self._is_group(path)):
            known = self._known()
            inside = [array for array in known if array.startswith(f"{path}/")]
            if kind is not None and (inside or not known):
                hint = f"name one of {list_names(inside)}" if inside else None
                raise InputError("is a group, not an array", subject=name, hint=hint)
            raise not_found(path, known, "array", name)
        file, text = store.metadata(f"{at}/{V3 if kind == 'v3' else ARRAY}".lstrip("/"))
        try:
            if kind == "v3":
                return file, array_of_v3(text, name, self._policy.max_chunk)
            attributes = None
            beside = f"{at}/{ATTRIBUTES}".lstrip("/")
            if store.look(beside) is not None:
                with store.metadata(beside)[0] as other:
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
            store = self._store.within("/".join(parts), name)
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
    for _, nbytes in _stored(store, meta, Grid(meta.shape, meta.file)):
        stored += nbytes
        if declared <= SPARSE_FACTOR * stored:
            return
    problem = f"declares {declared:,} bytes and stores {stored:,}"
    raise LimitError(problem, subject=name, hint="--allow-sparse reads it")


def _stored(store: Store, meta: ArrayMetadata, files: Grid) -> Iterator[tuple[int, int]]:
    """Yield the number and the size of each file of an array that is there."""

    def number(key: str) -> int | None:
        cell = meta.cell(key)
        if cell is None or not all(map(operator.lt, cell, files.grid)):
            return None
        return sum(at * stride for at, stride in zip(cell, files.strides, strict=True))

    found = store.files(lambda key: number(key) is not None)
    if found is not None:
        for key, nbytes in found:
            at = number(key)
            assert at is not None  # it is wanted
            yield at, nbytes
        return
    for at, identity in enumerate(store.looks(meta.key(files.cell(at)) for at in range(len(files)))):
        if identity is not None:
            yield at, identity.nbytes


class ZarrSource(ChunkedSource):
    """An array of a Zarr store.

    Parameters
    ----------
    file : StoredFile
        The file of its metadata, which is closed with the source.
    store : Store
        The files of the array.
    meta : ArrayMetadata
        What the file says.
    name : str
        What errors call it.
    """

    def __init__(self, file: StoredFile, store: Store, meta: ArrayMetadata, name: str) -> None:
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
        # What is asked for of a file before it is opened: its first bytes, or the last ones.
        index = self._index_nbytes
        self._part = (-index if meta.shards and not meta.shards.first else 0, index or WHOLE_NBYTES)
        self._announced: dict[int, int] = {}  # chunks that are asked for, and the memory that they take

    def stores(self, number: int) -> bool:
        """Return whether a chunk is stored: whether it has a file, or the index of its shard has it."""
        at = self._file_of(number)
        self._used[at] = 1
        if not self._states[at]:
            self._store.will_open(self._key(at), *self._part)
            self._look(at)
        if self._states[at] == ABSENT:
            self._arrived(number)
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
            with self._store.open(self._key(at), state_of(identity), often=True) as file:
                self._keep(at, file, self._meta.shards)
        self._states[at] = state_of(identity)

    @property
    def _index_nbytes(self) -> int:
        """The size of the index of a shard; 0 without shards."""
        index = self._meta.shards
        return 0 if index is None else 16 * math.prod(self._ratio) + CRC_NBYTES * index.checked

    def will_need(self, start: int, stop: int) -> None:
        """Ask for the chunks of a run now, as far as they are known and memory allows it; a folder has no use for it.

        Chunks that follow each other in a shard are asked for together. Of a shard that was not opened yet, the index
        is, so that the next run finds its chunks.
        """
        if not self._store.ahead:
            return
        chunks: dict[int, list[tuple[int, int]]] = {}
        for number in dict.fromkeys(piece[0] for piece in self.grid.pieces(start, stop)):
            at = self._file_of(number)
            if self._states[at] == ABSENT:
                continue
            offset, nbytes = 0, self._nbytes
            if self._meta.shards is not None:
                if not self._states[at]:
                    self._store.will_open(self._key(at), *self._part)
                    continue
                offset, nbytes = map(int, self._places[self.grid.cell(number)])
            if not nbytes or not self._announce(number, nbytes):
                continue
            if self._meta.shards is None:
                self._store.will_open(self._key(at), *self._part)
            else:
                chunks.setdefault(at, []).append((offset, nbytes))
        for at, places in chunks.items():
            for offset, nbytes in _runs(places):
                self._store.will_read(self._key(at), int(self._states[at]), offset, nbytes)

    def _announce(self, number: int, nbytes: int) -> bool:
        """Return whether a chunk of so many bytes is to be asked for: it is not yet, and there is memory for it."""
        with self._changed:
            full = sum(self._announced.values()) + nbytes > MAX_ANNOUNCED_NBYTES
            if full or number in self._slots or number in self._announced:
                return False
            self._announced[number] = nbytes
        return True

    def _arrived(self, number: int) -> None:
        with self._changed:
            self._announced.pop(number, None)

    def _keep(self, at: int, file: StoredFile, index: ShardIndex) -> None:
        """Keep the index of a shard, after it was checked."""
        count = math.prod(self._ratio)
        nbytes = self._index_nbytes
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
        with self._store.open(self._key(at), int(self._states[at]), often=self._meta.shards is not None) as file:
            offset, nbytes = 0, file.identity.nbytes
            if self._meta.shards is not None:
                offset, nbytes = map(int, self._places[self.grid.cell(number)])
            check_size(nbytes, self._nbytes)
            data = np.empty(nbytes, np.uint8)
            file.read(as_bytes(data), offset)
            file.verify_unchanged()
            self._arrived(number)
            return data

    @property
    def stored_chunks(self) -> StoredChunks:
        """How many chunks are stored: what was not looked at before is listed, and of shards the index is read."""
        if self._stored is None:
            there = self._states != ABSENT
            if not self._states.all():
                there = np.zeros(len(self._files), bool)
                for at, _ in _stored(self._store, self._meta, self._files):
                    there[at] = True
                if self._meta.shards is not None:
                    self._look_at(at for at in np.flatnonzero(there).tolist() if not self._states[at])
                self._states[~there & (self._states == 0)] = ABSENT
            sizes = self._places[..., 1] if self._meta.shards else there
            self._stored = StoredChunks(int(np.count_nonzero(sizes)), len(self.grid), self._fill_value())
        return self._stored

    def _look_at(self, files: Iterable[int]) -> None:
        """Look at files, and ask for some of them ahead."""
        waiting: deque[int] = deque()
        for at in files:
            self._store.will_open(self._key(at), *self._part)
            waiting.append(at)
            if len(waiting) > self._store.ahead:
                self._look(waiting.popleft())
        for at in waiting:
            self._look(at)

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
        self._store.check((self._key(at), int(self._states[at])) for at in _ones(self._used))
        self._used = bytearray(len(self._used))

    def close(self) -> None:
        """Close the file of the metadata, and let go of chunks."""
        self._store.close()
        super().close()


def _ones(flags: bytearray) -> Iterator[int]:
    """Yield the places of the ones."""
    at = flags.find(1)
    while at >= 0:
        yield at
        at = flags.find(1, at + 1)


def _runs(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return runs of bytes, those that follow each other together, up to `WHOLE_NBYTES`.

    Examples
    --------
    >>> _runs([(8, 4), (0, 4), (4, 4), (20, 1)])
    [(0, 12), (20, 1)]
    """
    found: list[tuple[int, int]] = []
    for offset, nbytes in sorted(places):
        if found and sum(found[-1]) == offset and found[-1][1] + nbytes <= WHOLE_NBYTES:
            found[-1] = found[-1][0], found[-1][1] + nbytes
        else:
            found.append((offset, nbytes))
    return found
