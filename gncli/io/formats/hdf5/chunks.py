"""Tensors stored in compressed chunks: workers decode them in parallel, each chunk once per pass.

libhdf5 has one lock, and decodes one chunk at a time under it. So libhdf5 only says where the chunks lie. This module
reads their bytes and decodes the filters that nearly every file uses: deflate, during which zlib releases the
interpreter's lock, shuffle and fletcher32.

Notes
-----
Runs of elements cross chunks, and a chunk crosses runs. A decoded chunk is kept until as many elements were taken from
it as it holds. A pass takes each element once, in any order, so a chunk is decoded at most once per pass, and the kept
chunks are those that the current runs share. A worker that would have to wait for a chunk that another worker is
decoding decodes the next chunk instead.

That is true as long as the chunks that cross a run at once, a band of them, fit `MAX_BAND_NBYTES`. Chunks of a few
samples fit; h5py's own automatic chunks fit up to tensors of about 1 GB, since it cuts the first axis into 16 or so. If
a band is larger, the least recently used chunks are dropped, and each chunk is decoded once for each run that crosses
it: as often as a band is larger than a visit. libhdf5 with a cache of that size does the same.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError
from gncli.io.rawfile import FileSource, RawFile, as_bytes
from gncli.io.source import StoredChunks
from gncli.kernels.loops import loops
from gncli.kernels.walk import boxes

if TYPE_CHECKING:
    import zlib as inflate
else:
    try:  # gncli[fast]: decodes in a half to a third of the time
        from isal import isal_zlib as inflate
    except ImportError:
        import zlib as inflate

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
MAX_BAND_NBYTES = 64 << 20  # decoded chunks that cross a run
MAX_KEPT_NBYTES = 96 << 20  # all decoded chunks: one worker may still be in a band when another is in the next
MAX_AHEAD_NBYTES = 32 << 20  # all decoded chunks, if one more is to be decoded before it is needed

_CHECKSUM_NBYTES = 4
_SLACK_NBYTES = 1024  # that a filter may add to a small chunk

Bytes = NDArray[np.uint8]
_Place = tuple[slice, ...]


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


class _DamagedError(Exception):
    """The bytes of a chunk are damaged."""


def decode(data: Bytes, filters: tuple[Filter, ...], skipped: int, nbytes: int) -> Bytes:
    """Return the `nbytes` bytes of a chunk before its filters were applied."""
    # A checksum under the compression is part of what is compressed; nothing else makes a chunk longer.
    most = nbytes + _CHECKSUM_NBYTES * sum(step.code == FLETCHER32 for step in filters)
    for place in reversed(range(len(filters))):
        code, values = filters[place]
        if skipped >> place & 1:
            continue
        if code == DEFLATE:
            data = _inflated(data, most)
        elif code == SHUFFLE:
            data = loops().unshuffle(data, values[0])
        else:
            data = _verified(data)
    if data.size != nbytes:
        raise _DamagedError(f"it has {data.size:,} bytes, not {nbytes:,}")
    return data


def _inflated(data: Bytes, most: int) -> Bytes:
    inflater = inflate.decompressobj()
    try:
        # At most the memory of a chunk, whatever the bytes say.
        found = inflater.decompress(as_bytes(data), most + 1)
    except inflate.error as error:
        raise _DamagedError("its compressed data make no sense") from error
    if not inflater.eof:
        raise _DamagedError("its compressed data are cut short" if len(found) <= most else "it is longer than a chunk")
    return np.frombuffer(found, np.uint8)


def _verified(data: Bytes) -> Bytes:
    data, stored = data[:-_CHECKSUM_NBYTES], int.from_bytes(data[-_CHECKSUM_NBYTES:].tobytes(), "little")
    found = loops().fletcher32(data)
    # Some old versions of libhdf5 wrote the bytes of each half in reverse; newer ones accept that.
    swapped = (found & 0x00FF00FF) << 8 | (found & 0xFF00FF00) >> 8
    if stored not in (found, swapped):
        raise _DamagedError("its checksum does not match")
    return data


def check_stored(corner: tuple[int, ...], stored: int, nbytes: int, name: str) -> None:
    """Raise InputError if a chunk of `nbytes` takes more than any filter makes of it."""
    try:
        _check_size(stored, nbytes)
    except _DamagedError as error:
        raise _damaged(corner, error, name) from error


def _check_size(stored: int, nbytes: int) -> None:
    if stored > 2 * nbytes + _SLACK_NBYTES:
        raise _DamagedError(f"its {stored:,} bytes are more than it can need")


def _damaged(corner: tuple[int, ...], why: object, name: str) -> InputError:
    return InputError(f"cannot be read (the chunk at {corner} is damaged: {why})", subject=name)


class ChunkIndex:
    """Where the chunks of a tensor lie, by number: the chunk grid counted in C order, 16 bytes per chunk.

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
        self.shape, self.chunk, self.name = shape, chunk, name
        self.grid = tuple(-(-extent // step) for extent, step in zip(shape, chunk, strict=True))
        self.strides = tuple(math.prod(self.grid[axis + 1 :]) for axis in range(len(shape)))
        self.stored = self.nbytes = self.end = 0
        self._offsets = array("q", [-1]) * math.prod(self.grid)
        self._sizes = array("I", [0]) * len(self._offsets)
        self._skipped = array("I", [0]) * len(self._offsets)

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

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, number: int) -> bool:
        """Return whether chunk `number` is stored."""
        return self._offsets[number] >= 0

    def __getitem__(self, number: int) -> Stored:
        """Return where chunk `number` lies."""
        return Stored(self._offsets[number], self._sizes[number], self._skipped[number])

    def corner(self, number: int) -> tuple[int, ...]:
        """Return the index of the first element of chunk `number`."""
        cells = map(operator.mod, [number // stride for stride in self.strides], self.grid)
        return tuple(map(operator.mul, cells, self.chunk))

    def elements(self, number: int) -> int:
        """Return how many elements of the tensor are in chunk `number`: those on the far edges may hold more."""
        return math.prod(map(min, self.chunk, map(operator.sub, self.shape, self.corner(number))))

    def after(self, number: int, count: int) -> Iterator[int]:
        """Yield the stored ones among the next `count` chunks after `number`."""
        return (after for after in range(number + 1, min(number + 1 + count, len(self))) if after in self)

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, slice, tuple[int, ...], _Place, _Place]]:
        """Yield the pieces of chunks that the run ``[start, stop)`` is made of.

        A piece is the number of its chunk, the part of the run that it is in, the shape of that part, and its place in
        that part and in the chunk.
        """
        done = 0
        for box in boxes(self.shape, start, stop):
            extent = tuple(part.stop - part.start for part in box)
            run = slice(done, done + math.prod(extent))
            done = run.stop
            steps = [_steps(*axis) for axis in zip(box, self.chunk, self.strides, strict=True)]
            for numbers, there, here in (zip(*step, strict=True) for step in itertools.product(*steps)):
                yield sum(numbers), run, extent, there, here


def _steps(part: slice, chunk: int, stride: int) -> list[tuple[int, slice, slice]]:
    """Return for each chunk along an axis its share of the number, and its overlap with `part`, indexed in both."""
    found = []
    for cell in range(part.start // chunk, -(-part.stop // chunk)):
        first, last = max(part.start, cell * chunk), min(part.stop, (cell + 1) * chunk)
        here = slice(first - cell * chunk, last - cell * chunk)
        found.append((cell * stride, slice(first - part.start, last - part.start), here))
    return found


class _Slot:
    """A chunk that is kept, or will be: `values` is None while a thread is decoding it."""

    __slots__ = ("left", "values")

    def __init__(self, left: int) -> None:
        self.left = left
        self.values: NDArray[Any] | None = None


class ChunkedSource(FileSource):
    """A tensor in chunks that the workers decode themselves.

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
        super().__init__(file, index.shape, dtype, "C", index.name)
        self.stored_chunks = StoredChunks(index.stored, len(index), fill.item())
        self._index, self._filters, self._fill = index, filters, fill
        self._nbytes = math.prod(index.chunk) * dtype.itemsize
        self._slots: dict[int, _Slot] = {}  # the least recently used one first
        self._turns = array("I", [0]) * len(index)  # how often each chunk was decoded
        self._changed = threading.Condition()

    @property
    def decoded(self) -> int:
        """How often a chunk was decoded, those that are being decoded included."""
        return sum(self._turns)

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on."""
        todo = list(self._index.pieces(start, start + out.size))
        while todo:
            waiting = []
            for piece in todo:
                number, run, extent, there, here = piece
                target = out[run].reshape(extent)[there]
                if number not in self._index:
                    target[...] = self._fill
                    continue
                values = self._get(number)
                if values is None:
                    waiting.append(piece)
                    continue
                target[...] = values[here]
                self._took(number, target.size)
            if len(waiting) == len(todo) and not self._decode_ahead(waiting[-1][0]):
                self._wait([piece[0] for piece in waiting])
            todo = waiting

    def _get(self, number: int) -> NDArray[Any] | None:
        """Return chunk `number`, decoded by this thread if necessary; None if another thread is decoding it."""
        with self._changed:
            slot = self._slots.pop(number, None)
            if slot is not None:
                self._slots[number] = slot
                return slot.values
            slot = self._begin(number)
            self._drop_old()
        return self._decode_into(slot, number)

    def _begin(self, number: int) -> _Slot:
        self._turns[number] += 1
        slot = self._slots[number] = _Slot(self._index.elements(number))
        return slot

    def _drop_old(self) -> None:
        """Drop the least recently used chunks; those that are being decoded stay."""
        while len(self._slots) > max(2, MAX_KEPT_NBYTES // self._nbytes):
            old = next((number for number, slot in self._slots.items() if slot.values is not None), None)
            if old is None:
                break
            del self._slots[old]

    def _decode_into(self, slot: _Slot, number: int) -> NDArray[Any]:
        try:
            values = self._decode(number)
        except BaseException:
            with self._changed:
                del self._slots[number]  # a thread that waits for it tries itself, and gets the error
                self._changed.notify_all()
            raise
        with self._changed:
            slot.values = values
            self._changed.notify_all()
        return values

    def _decode(self, number: int) -> NDArray[Any]:
        stored = self._index[number]
        try:
            _check_size(stored.nbytes, self._nbytes)
            data = decode(self._read(stored), self._filters, stored.skipped, self._nbytes)
        except _DamagedError as error:
            raise _damaged(self._index.corner(number), error, self.name) from error
        return data.view(self.dtype).reshape(self._index.chunk)

    def _read(self, stored: Stored) -> Bytes:
        data = np.empty(stored.nbytes, np.uint8)
        self.file.read(as_bytes(data), stored.offset)
        return data

    def _took(self, number: int, count: int) -> None:
        with self._changed:
            slot = self._slots.get(number)  # it may have been dropped since
            if slot is not None:
                slot.left -= count
                if slot.left == 0:
                    del self._slots[number]
                elif slot.left < 0:  # two passes in turn: it was read again before the first pass was over
                    slot.left += self._index.elements(number)

    def _decode_ahead(self, number: int) -> bool:
        """Decode the first chunk after `number` that no thread has begun in this pass, if the memory allows it."""
        with self._changed:
            room = max(2, MAX_AHEAD_NBYTES // self._nbytes) - len(self._slots)
            after = next((n for n in self._index.after(number, room) if self._turns[n] < self._turns[number]), None)
            if after is None:
                return False
            slot = self._begin(after)
        try:
            self._decode_into(slot, after)
        except InputError:
            return False  # the run that needs it reports it
        return True

    def _wait(self, numbers: list[int]) -> None:
        """Wait until one of the chunks has been decoded, or has failed to be."""

        def ready(number: int) -> bool:
            slot = self._slots.get(number)
            return slot is None or slot.values is not None

        with self._changed:
            self._changed.wait_for(lambda: any(map(ready, numbers)))

    def close(self) -> None:
        """Close the file and drop the decoded chunks."""
        self._slots.clear()
        super().close()
