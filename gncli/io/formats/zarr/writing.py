"""Zarr stores, written: a new store with one array of version 3, in shards, with a checksum in every chunk.

Notes
-----
A chunk is a run of the C-ordered tensor, of up to `CHUNK_NBYTES`: whole samples, or a part of one that is cut along the
axis after. A shard is a run of chunks of up to `SHARD_NBYTES`, which zarr-python holds whole in memory when it writes
into it. Chunks are written one by one, in order, and the index of a shard after the last of them, so one shard is open
at a time. ``zarr.json`` comes last: that of the array, then of the groups around it, the store's own after all.
"""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import GncliError, OutputError
from gncli.io.assembly import ChunkAssembly
from gncli.io.atomic import aborting
from gncli.io.formats.zarr.codecs import CRC_NBYTES, check_installed, crc32c, zstandard
from gncli.io.formats.zarr.metadata import parsed
from gncli.io.formats.zarr.store import ARRAY, ATTRIBUTES, GROUP, MAX_METADATA_NBYTES, V3
from gncli.io.rawfile import as_bytes, lost
from gncli.io.source import Files, NewFolder, Order, Sink, Writable
from gncli.io.transposition import Cut, in_c_order
from gncli.kernels.floats import Float

CHUNK_NBYTES = 4 << 20
SHARD_NBYTES = 64 << 20

_MISSING = (1 << 64) - 1  # offset and size of a chunk that is not there: beyond the edge of the array
_ENTRY_NBYTES = 16
_METADATA = {V3, GROUP, ATTRIBUTES, ".zmetadata"}
_GROUP = {"zarr_format": 3, "node_type": "group", "attributes": {}}


def shard_of(cut: Cut, itemsize: int) -> tuple[int, ...]:
    """Return the shape of a shard: as many chunks in a row as fit `SHARD_NBYTES`, or as many whole rows of them.

    Examples
    --------
    >>> shard_of(Cut((1000, 64, 56, 56), 0, 5), 4), shard_of(Cut((1000, 64, 256, 256), 1, 16), 4)
    ((80, 64, 56, 56), (3, 64, 256, 256))
    """
    nbytes = math.prod(cut.chunk) * itemsize
    # What Zstandard makes of noise is a little longer.
    most = max(1, SHARD_NBYTES // (nbytes + nbytes // 128 + CRC_NBYTES + _ENTRY_NBYTES))
    columns = -(-cut.shape[cut.axis] // cut.step)
    found = list(cut.chunk)
    found[cut.axis] *= _even(columns, most)
    if columns <= most and cut.axis:
        found[cut.axis - 1] = _even(cut.shape[cut.axis - 1], most // columns)
    return tuple(found)


def _even(count: int, most: int) -> int:
    """Return how many of `count` things to put together, at most `most`, so that the last are not much fewer."""
    return -(-count // -(-count // most))


def zarr_sink(
    folder: NewFolder,
    member: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    kind: Float | None,
    order: Order,
    attributes: Mapping[str, object],
    level: int | None = None,
) -> Sink:
    """Return the sink of a new store with one array, whose runs come in `order`.

    Parameters
    ----------
    folder : NewFolder
        The store, begun.
    member : str
        The path of the array in the store, without the leading ``/``; the store itself is the array if it is empty.
    shape, dtype, kind
        Of the tensor; `dtype` is that of its bits where NumPy lacks its dtype, `kind`.
    order : {"C", "F"}
        The order in which the elements come.
    attributes : mapping
        What the array says of itself.
    level : int, optional
        Level of Zstandard; by default chunks are not compressed.
    """
    sink = ZarrSink(folder, member, shape, dtype, kind, attributes, level)
    return in_c_order(sink, folder.scratch, shape, dtype, order)


class _Shard:
    """A shard that is being written: its file, and where its chunks lie."""

    def __init__(self, cell: tuple[int, ...], file: Writable, ratio: tuple[int, ...]) -> None:
        self.cell, self.file = cell, file
        self.index = np.full((*ratio, 2), _MISSING, np.uint64)
        self.nbytes = 0

    def add(self, place: tuple[int, ...], data: bytes) -> None:
        self.index[place] = self.nbytes, len(data)
        self._write(data)

    def _write(self, data: bytes) -> None:
        self.file.write(memoryview(data), self.nbytes)
        self.nbytes += len(data)

    def finish(self) -> None:
        with self.file:
            self._write(_with_checksum(self.index.astype("<u8").tobytes()))
            self.file.commit()


class ZarrSink(Sink):
    """An array of a new store, in C order; for the parameters see `zarr_sink`."""

    def __init__(
        self,
        folder: Files,
        member: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        kind: Float | None,
        attributes: Mapping[str, object],
        level: int | None,
    ) -> None:
        self.name, self.shape, self.dtype = folder.name, shape, dtype
        for codec in ("crc32c", *(["zstd"] if level is not None else [])):
            check_installed(codec, self.name)
        self.folder, self._member, self._level = folder, member, level
        self._kind, self._attributes = kind, attributes
        self._open: _Shard | None = None
        # A scalar has no axis to cut, and zarr-python reads no scalar in a shard.
        self._cut = Cut.of(tuple(max(1, size) for size in shape) or (1,), dtype.itemsize, CHUNK_NBYTES).evened()
        self._chunk = self._cut.chunk
        self._file = shard_of(self._cut, dtype.itemsize)
        self._ratio = tuple(outer // inner for outer, inner in zip(self._file, self._chunk, strict=True))
        self._size = math.prod(shape)
        self.limits(0, self._size)

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first element, and the one after the last, of the shards that begin between two elements."""
        return self._shard_from(start), self._shard_from(stop)

    def _shard_from(self, element: int) -> int:
        """Return where the first shard begins that does not begin before an element."""
        first = self.shard_with(element)
        if first < element < self._size:
            number = self._cut.number(element) + 1
            while number < self._cut.chunks and not self._begins_shard(number):
                number += 1
            first = self._cut.run(number)[0] if number < self._cut.chunks else self._size
        return first

    def shard_with(self, element: int) -> int:
        """Return where the shard begins that holds an element; the end of the array is also one."""
        if element == self._size:
            return element
        number = self._cut.number(element)
        while not self._begins_shard(number):
            number -= 1
        return self._cut.run(number)[0]

    def _begins_shard(self, number: int) -> bool:
        return not any(map(operator.mod, self._cut.corner(number), self._file))

    def elsewhere(self, start: int, stop: int) -> Callable[[], Sink]:
        """Return what opens this array in another process, which writes its shards from `start` to `stop`."""
        assert isinstance(self.folder, NewFolder)
        folder = self.folder.elsewhere()
        return partial(_shards, folder, start, stop, self._member, self.shape, self.dtype, self._kind, {}, self._level)

    def limits(self, start: int, stop: int) -> None:
        """Write only the elements from `start` to `stop`, which are whole shards, from now on, and drop others."""
        self._finish()
        self._limits = start, stop
        first = self._cut.number(start) if start < self._size else 0
        self._assembly = ChunkAssembly(self._cut, _fill(self.dtype, self._kind), self._encoded, self._store, first)

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Take `data`, the elements from `start` on."""
        first, stop = self._limits
        kept = data[max(0, first - start) : max(0, stop - start)]
        if kept.size:
            self._assembly.write_from(kept, max(start, first))

    def _encoded(self, values: NDArray[Any]) -> bytes:
        data = as_bytes(values.astype(self.dtype.newbyteorder("<"), copy=False))
        return _with_checksum(data if self._level is None else zstandard(data, self._level))

    def _store(self, corner: tuple[int, ...], data: bytes) -> None:
        if not self.shape:
            with self.folder.file(os.path.join(self._member, "c")) as file:
                file.write(memoryview(data), 0)
                file.commit()
            return
        cell = tuple(at // size for at, size in zip(corner, self._file, strict=True))
        if self._open is None or self._open.cell != cell:
            self._finish()
            key = os.path.join(self._member, "c", *map(str, cell))
            self._open = _Shard(cell, self.folder.file(key), self._ratio)
        axes = zip(corner, self._file, self._chunk, strict=True)
        self._open.add(tuple(at % outer // inner for at, outer, inner in axes), data)

    def _finish(self) -> None:
        if self._open is not None:
            self._open.finish()
            self._open = None

    def _metadata(self) -> dict[str, object]:
        """Return what ``zarr.json`` says of the array."""
        order = {"name": "bytes", "configuration": {"endian": "little"}}
        compressor = {"name": "zstd", "configuration": {"level": self._level, "checksum": False}}
        codecs: list[object] = [order, *([] if self._level is None else [compressor]), {"name": "crc32c"}]
        inner = {
            "chunk_shape": self._chunk,
            "codecs": codecs,
            "index_codecs": [order, {"name": "crc32c"}],
            "index_location": "end",
        }
        file = self._file if self.shape else ()
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": self.shape,
            "data_type": self.dtype.name if self._kind is None else self._kind.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": file}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "NaN" if self._kind is not None or self.dtype.kind == "f" else 0,
            "codecs": [{"name": "sharding_indexed", "configuration": inner}] if self.shape else codecs,
            "attributes": dict(self._attributes),
        }

    def commit(self) -> None:
        """Write what describes the array, and make the store visible under its name, whole."""
        self._finish()
        assert isinstance(self.folder, NewFolder)
        at = self._member
        self.folder.describe(os.path.join(at, V3), _text(self._metadata()))
        while at:
            at = os.path.dirname(at)
            self.folder.describe(os.path.join(at, V3), _text(_GROUP))
        self.folder.commit()

    def abort(self) -> None:
        """Remove what was begun."""
        if self._open is not None:
            self._open.file.abort()
            self._open = None
        self.folder.abort()


class _Shards(ZarrSink):
    """A worker's end of a store that is being written: whole shards of its array."""

    def commit(self) -> None:
        """Write the shards to the disk."""
        self._finish()
        self.folder.commit()


def _shards(folder: Callable[[], Files], start: int, stop: int, *array: Any) -> Sink:
    with aborting(opened := folder()):
        sink = _Shards(opened, *array)
        sink.limits(start, stop)
        return sink


def _text(metadata: Mapping[str, object]) -> bytes:
    return json.dumps(metadata, indent=2).encode()


def _fill(dtype: np.dtype[Any], kind: Float | None) -> NDArray[Any]:
    """Return the fill value of an array: NaN, and 0 of integers."""
    if kind is None:
        return np.array(math.nan if dtype.kind == "f" else 0, dtype)
    raw = np.empty(1, kind.stored)
    kind.narrow(np.array([math.nan], np.float32), raw)
    return raw.reshape(())


def _with_checksum(data: bytes | memoryview) -> bytes:
    checksum = crc32c(np.frombuffer(data, np.uint8))
    return b"".join((data, checksum.to_bytes(CRC_NBYTES, "little")))


def check_replaceable(folder: NewFolder, member: str) -> None:
    """Raise OutputError if what is replaced holds anything besides the array `member`, which a new store would lose."""
    try:
        found = _others(folder, member)
    except (GncliError, OSError) as error:
        problem = f"holds what cannot be listed, and would be lost: {getattr(error, 'problem', error)}"
        raise OutputError(problem, subject=folder.name, hint="choose another name") from error
    lost(folder.name, f"/{member}", found)


def _others(folder: NewFolder, member: str) -> list[str]:
    """Return what a store holds besides an array: other names, and attributes of the groups that lead to it."""
    keys, others, at = [*folder.files()], [], ""
    for part in member.split("/") if member else []:
        below = _below(keys, at)
        others += [f"/{os.path.join(at, entry)}" for entry in sorted(below - _METADATA - {part})]
        if V3 in below and _described(folder, os.path.join(at, V3)).get("attributes"):
            others.append(f"the attributes of /{at}")
        if ATTRIBUTES in below:
            others.append(f"/{os.path.join(at, ATTRIBUTES)}")
        at = os.path.join(at, part)
    below = _below(keys, at)
    is_array = _described(folder, os.path.join(at, V3)).get("node_type") == "array" if V3 in below else ARRAY in below
    return others if is_array else [*others, *(f"/{os.path.join(at, entry)}" for entry in sorted(below))]


def _below(keys: list[str], at: str) -> set[str]:
    """Return the names of what is in a folder."""
    inside = os.path.join(at, "")
    return {key.removeprefix(inside).partition("/")[0] for key in keys if key.startswith(inside)}


def _described(folder: NewFolder, key: str) -> dict[str, Any]:
    """Return what a file of the store that is replaced says."""
    with folder.replaced(key) as file:
        return parsed(file.head(MAX_METADATA_NBYTES), folder.name)
