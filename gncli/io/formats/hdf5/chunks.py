"""Tensors stored in compressed chunks: workers decode them in parallel, each chunk once per pass.

libhdf5 has one lock, and decodes one chunk at a time under it. So libhdf5 only says where the chunks lie. This module
reads their bytes and decodes the filters that nearly every file uses: deflate, during which zlib releases the
interpreter's lock, shuffle and fletcher32.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError
from gncli.io.chunked import Bytes, ChunkedSource, DamagedError, Grid, check_size, damaged, inflated
from gncli.io.rawfile import RawFile, as_bytes
from gncli.io.source import StoredChunks
from gncli.kernels.loops import loops

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3

_CHECKSUM_NBYTES = 4


class Filter(NamedTuple):
    """A step of the pipeline that encoded the chunks: its number and its parameters."""

    code: int
    values: tuple[int, ...]

    def known(self, dtype: np.dtype[Any]) -> bool:
        """Return whether `decode` knows the step, for elements of `dtype`."""
        if self.code == SHUFFLE:
            return self.values == (dtype.itemsize,)
        return self.code in (DEFLATE, FLETCHER32)


class Stored(NamedTuple):
    """Where the bytes of a chunk lie; a filter whose bit is set in `skipped` was not applied to it."""

    offset: int
    nbytes: int
    skipped: int


def decode(data: Bytes, filters: tuple[Filter, ...], skipped: int, nbytes: int) -> Bytes:
    """Return the `nbytes` bytes of a chunk before its filters were applied."""
    # A checksum under the compression is part of what is compressed; nothing else makes a chunk longer.
    most = nbytes + _CHECKSUM_NBYTES * sum(step.code == FLETCHER32 for step in filters)
    for place in reversed(range(len(filters))):
        code, values = filters[place]
        if skipped >> place & 1:
            continue
        if code == DEFLATE:
            data = inflated(data, most)
        elif code == SHUFFLE:
            data = loops().unshuffle(data, values[0])
        else:
            data = _verified(data)
    if data.size != nbytes:
        raise DamagedError(f"it has {data.size:,} bytes, not {nbytes:,}")
    return data


def _verified(data: Bytes) -> Bytes:
    data, stored = data[:-_CHECKSUM_NBYTES], int.from_bytes(data[-_CHECKSUM_NBYTES:].tobytes(), "little")
    found = loops().fletcher32(data)
    # Some old versions of libhdf5 wrote the bytes of each half in reverse; newer ones accept that.
    swapped = (found & 0x00FF00FF) << 8 | (found & 0xFF00FF00) >> 8
    if stored not in (found, swapped):
        raise DamagedError("its checksum does not match")
    return data


def check_stored(corner: tuple[int, ...], stored: int, nbytes: int, name: str) -> None:
    """Raise InputError if a chunk of `nbytes` takes more than any filter makes of it."""
    try:
        check_size(stored, nbytes)
    except DamagedError as error:
        raise damaged(corner, error, name) from error


class ChunkIndex(Grid):
    """Where the chunks of a tensor lie, 16 bytes per chunk.

    Parameters
    ----------
    shape : tuple of int
        Shape of the tensor.
    chunk : tuple of int
        Shape of a chunk; the chunks at the far edges may reach beyond the tensor.
    name : str
        What errors call the tensor.

    Attributes
    ----------
    stored : int
        How many chunks are stored. The elements of the others are the fill value.
    nbytes : int
        How many bytes the stored chunks take together.
    end : int
        Where the last of the stored chunks ends, in bytes.
    """

    def __init__(self, shape: tuple[int, ...], chunk: tuple[int, ...], name: str) -> None:
        super().__init__(shape, chunk)
        self.name = name
        self.stored = self.nbytes = self.end = 0
        self._offsets = array("q", [-1]) * len(self)
        self._sizes = array("I", [0]) * len(self)
        self._skipped = array("I", [0]) * len(self)

    def add(self, corner: tuple[int, ...], stored: Stored) -> None:
        """Add the chunk whose first element is at `corner`.

        Raises
        ------
        InputError
            If the tensor has no such chunk, or it was added before.
        """
        axes = list(zip(corner, self.chunk, self.shape, strict=True))
        if any(at % step or at >= extent for at, step, extent in axes):
            raise self.damaged(f"it names a chunk at {corner}, which is off the grid")
        number = sum(at // step * stride for (at, step, _), stride in zip(axes, self.strides, strict=True))
        if number in self:
            raise self.damaged(f"it names the chunk at {corner} twice")
        self.stored += 1
        self.nbytes += stored.nbytes
        self.end = max(self.end, stored.offset + stored.nbytes)
        # No file is as long, and no chunk as large, as these arrays can say.
        self._offsets[number] = min(stored.offset, (1 << 63) - 1)
        self._sizes[number] = min(stored.nbytes, (1 << 32) - 1)
        self._skipped[number] = stored.skipped

    def check(self, count: int, nbytes: int, file_nbytes: int, metadata: Sequence[tuple[int, int]] = ()) -> None:
        """Raise InputError unless the chunks lie apart in the file, and are those that the dataset declares.

        Parameters
        ----------
        count, nbytes : int
            How many stored chunks the dataset declares, and how many bytes they take together.
        file_nbytes : int
            Size of the file.
        metadata : sequence of (int, int)
            Where metadata lie in the file: offsets, and sizes in bytes.
        """
        if self.end > file_nbytes:
            problem = f"is truncated: its chunks end at {self.end:,}, and the file has {file_nbytes:,}"
            raise InputError(problem, subject=self.name)
        if (self.stored, self.nbytes) != (count, nbytes):
            found = f"it lists {self.stored:,} chunks of {self.nbytes:,} bytes together"
            raise self.damaged(f"{found}, and the dataset has {count:,} of {nbytes:,}")
        offsets, sizes = np.frombuffer(self._offsets, np.int64), np.frombuffer(self._sizes, np.uint32)
        numbers = np.flatnonzero(offsets >= 0)
        known = np.array(metadata, np.int64).reshape(-1, 2)
        starts = np.append(offsets[numbers], known[:, 0])
        ends = starts + np.append(sizes[numbers], known[:, 1])
        order = np.argsort(starts)
        for at in np.flatnonzero(starts[order[1:]] < ends[order[:-1]])[:1]:
            first, second = sorted(int(place) for place in order[at : at + 2])
            chunk = f"the chunk at {self.corner(int(numbers[first]))}"
            other = f"the chunk at {self.corner(int(numbers[second]))}" if second < numbers.size else "the metadata"
            raise self.damaged(f"{chunk} overlaps {other}")

    def damaged(self, why: object) -> InputError:
        """Return the error that says why the index cannot be right."""
        return InputError(f"cannot be read (its index of chunks is damaged: {why})", subject=self.name)

    def __contains__(self, number: int) -> bool:
        """Return whether chunk `number` is stored."""
        return self._offsets[number] >= 0

    def __getitem__(self, number: int) -> Stored:
        """Return where chunk `number` lies."""
        return Stored(self._offsets[number], self._sizes[number], self._skipped[number])


class FilteredSource(ChunkedSource):
    """A dataset whose chunks the workers decode themselves.

    Parameters
    ----------
    file : RawFile
        The file, which is closed with the source.
    index : ChunkIndex
        Where the chunks lie, checked.
    filters : tuple of Filter
        The steps that encoded the chunks, in this order; all of them known.
    dtype : numpy.dtype
        The stored dtype, byte order included.
    fill : ndarray, shape ()
        The value of the elements of chunks that are not stored.
    """

    def __init__(
        self, file: RawFile, index: ChunkIndex, filters: tuple[Filter, ...], dtype: np.dtype[Any], fill: NDArray[Any]
    ) -> None:
        super().__init__(file, index, dtype, fill, index.name)
        self._index, self._filters = index, filters

    @property
    def stored_chunks(self) -> StoredChunks:
        """How many chunks the index has."""
        return StoredChunks(self._index.stored, len(self._index), self._fill.item())

    def stores(self, number: int) -> bool:
        """Return whether the index has the chunk."""
        return number in self._index

    def decode(self, number: int) -> NDArray[Any]:
        """Return a chunk, without its filters."""
        stored = self._index[number]
        try:
            check_size(stored.nbytes, self._nbytes)
            data = decode(self._read(stored), self._filters, stored.skipped, self._nbytes)
        except DamagedError as error:
            raise damaged(self._index.corner(number), error, self.name) from error
        return data.view(self.dtype).reshape(self._index.chunk)

    def _read(self, stored: Stored) -> Bytes:
        data = np.empty(stored.nbytes, np.uint8)
        self.file.read(as_bytes(data), stored.offset)
        return data
