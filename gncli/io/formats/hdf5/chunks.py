"""Tensors stored in compressed chunks, which are decoded side by side, each once a pass.

libhdf5 has one lock, and decodes one chunk at a time under it. So it is asked only where the chunks lie; their bytes
are read here, and undone here are the filters that nearly every file uses: deflate, during which zlib lets go of the
interpreter's lock, shuffle and fletcher32.

Notes
-----
Runs of elements cross chunks, and a chunk crosses runs. A decoded chunk is kept until as many elements were taken from
it as it holds; since a pass takes each element once, in whatever order, a chunk is decoded at most once a pass, and
what is kept is what the runs under way have in common. A worker that would wait for a chunk that another one is
decoding decodes the next one instead.

That holds as long as the chunks that cross a run at once, a band of them, fit `MAX_BAND_NBYTES`. Chunks of a few
samples do; h5py's own automatic chunks do up to tensors of about 1 GB, since it cuts the first axis into 16 or so. Of
a larger band the chunks taken from least recently are dropped, and each chunk is decoded once for each run that crosses
it: as often as a band is larger than a visit. libhdf5 with a cache of that size does the same.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError
from gncli.io.rawfile import FileSource, RawFile, as_bytes
from gncli.kernels.walk import boxes

if TYPE_CHECKING:
    import zlib as inflate
else:
    try:  # gncli[fast]: decodes in a half to a third of the time
        from isal import isal_zlib as inflate
    except ImportError:
        import zlib as inflate

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
MAX_BAND_NBYTES = 64 << 20  # of the decoded chunks that cross a run
MAX_KEPT_NBYTES = 96 << 20  # of all, since one worker may still be in a band when another one is in the next
MAX_AHEAD_NBYTES = 32 << 20  # of all, for another one to be decoded before it is needed

_CHECKSUM_NBYTES = 4
_SLACK_NBYTES = 1024  # what a filter may add to a small chunk
_WORDS = 4096  # of a checksum, summed at once: weighted by at most as much they stay exact in float64

Bytes = NDArray[np.uint8]
_Place = tuple[slice, ...]


class Filter(NamedTuple):
    """A step of the pipeline that chunks went through when they were written: its number and its parameters."""

    code: int
    values: tuple[int, ...]

    def known(self, dtype: np.dtype[Any]) -> bool:
        """Return whether the step can be undone here, for elements of `dtype`."""
        if self.code == SHUFFLE:
            return self.values == (dtype.itemsize,)
        return self.code in (DEFLATE, FLETCHER32)


class Stored(NamedTuple):
    """Where the bytes of a chunk lie; filters whose bit is in `skipped` were left out for it."""

    offset: int
    nbytes: int
    skipped: int


class _DamagedError(Exception):
    """What is wrong with the bytes of a chunk."""


def decode(data: Bytes, filters: tuple[Filter, ...], skipped: int, nbytes: int) -> Bytes:
    """Return the `nbytes` bytes that a chunk was made of, the filters undone in turn."""
    # A checksum under the compression is part of what is compressed; nothing else makes a chunk longer.
    most = nbytes + _CHECKSUM_NBYTES * sum(step.code == FLETCHER32 for step in filters)
    for place in reversed(range(len(filters))):
        code, values = filters[place]
        if skipped >> place & 1:
            continue
        if code == DEFLATE:
            data = _inflated(data, most)
        elif code == SHUFFLE:
            data = _unshuffled(data, values[0])
        else:
            data = _verified(data)
    if data.size != nbytes:
        raise _DamagedError(f"it has {data.size:,} bytes, not {nbytes:,}")
    return data


def _inflated(data: Bytes, most: int) -> Bytes:
    inflater = inflate.decompressobj()
    try:
        found = inflater.decompress(
            as_bytes(data), most + 1
        )  # never more memory than a chunk takes, whatever the bytes say
    except inflate.error as error:
        raise _DamagedError("its compressed data make no sense") from error
    if not inflater.eof:
        raise _DamagedError("its compressed data are cut short" if len(found) <= most else "it is longer than a chunk")
    return np.frombuffer(found, np.uint8)


def _unshuffled(data: Bytes, width: int) -> Bytes:
    count = data.size // width
    found = np.empty_like(data)
    elements, planes = found[: count * width].reshape(count, width), data[: count * width].reshape(width, count)
    for place in range(width):  # a plane at a time: three times faster than a transposed copy
        elements[:, place] = planes[place]
    found[count * width :] = data[count * width :]
    return found


def _verified(data: Bytes) -> Bytes:
    data, stored = data[:-_CHECKSUM_NBYTES], int.from_bytes(data[-_CHECKSUM_NBYTES:].tobytes(), "little")
    found = fletcher32(data)
    # Some old versions of libhdf5 wrote the bytes of each half the other way round; newer ones accept that.
    swapped = (found & 0x00FF00FF) << 8 | (found & 0xFF00FF00) >> 8
    if stored not in (found, swapped):
        raise _DamagedError("its checksum does not match")
    return data


def fletcher32(data: Bytes) -> int:
    """Return Fletcher's checksum of bytes, as HDF5 defines it: over big-endian words, modulo 65535, never folded to 0.

    Examples
    --------
    >>> hex(fletcher32(np.frombuffer(b"abcdef", np.uint8)))
    '0x50562a2d'
    """
    words = np.append(data, np.uint8(0)) if data.size % 2 else data
    values = words.view(">u2").astype(np.float64)
    whole = values[: values.size - values.size % _WORDS].reshape(-1, _WORDS)
    rest = values[whole.size :]
    plain = [int(total) for total in np.add.reduce(whole, axis=1)]
    weighted = [int(total) for total in np.vecdot(whole, np.arange(_WORDS, 0.0, -1))]
    first = second = 0
    for total, inner in zip(plain, weighted, strict=True):
        second += first * _WORDS + inner
        first += total
    second += first * rest.size + int(np.vecdot(rest, np.arange(rest.size, 0.0, -1)))
    first += int(rest.sum())
    return _folded(second) << 16 | _folded(first)


def _folded(total: int) -> int:
    """Return `total` modulo 65535, as adding the carries gives it: 0 is left to a sum of nothing but zeros."""
    return (total - 1) % 65535 + 1 if total else 0


def check_stored(corner: tuple[int, ...], stored: int, nbytes: int, name: str) -> None:
    """Raise InputError if `stored` bytes are more than any filter makes of a chunk of `nbytes`."""
    if stored > 2 * nbytes + _SLACK_NBYTES:
        raise _damaged(corner, f"its {stored:,} bytes are more than it can need", name)


def _damaged(corner: tuple[int, ...], why: object, name: str) -> InputError:
    return InputError(f"cannot be read (the chunk at {corner} is damaged: {why})", subject=name)


class ChunkIndex:
    """Where the chunks of a tensor lie, by number: the chunk grid counted in C order. 16 bytes for each of them.

    Parameters
    ----------
    shape, chunk : tuple of int
        Of the tensor, and of a chunk.

    Attributes
    ----------
    end : int
        Where the last of the stored chunks ends.
    """

    def __init__(self, shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
        self.shape, self.chunk = shape, chunk
        self.grid = tuple(-(-extent // step) for extent, step in zip(shape, chunk, strict=True))
        self.strides = tuple(math.prod(self.grid[axis + 1 :]) for axis in range(len(shape)))
        self.end = 0
        self._offsets = array("q", [-1]) * math.prod(self.grid)
        self._sizes = array("I", [0]) * len(self._offsets)
        self._skipped = array("I", [0]) * len(self._offsets)

    def add(self, corner: tuple[int, ...], stored: Stored) -> None:
        """Say where the chunk whose first element is at `corner` lies."""
        # A dataset that was made smaller may still have chunks outside; what no array takes, no file and no chunk has.
        if all(at < extent for at, extent in zip(corner, self.shape, strict=True)):
            cells = (at // step for at, step in zip(corner, self.chunk, strict=True))
            number = sum(map(operator.mul, cells, self.strides))
            self.end = max(self.end, stored.offset + stored.nbytes)
            self._offsets[number] = min(stored.offset, (1 << 63) - 1)
            self._sizes[number] = min(stored.nbytes, (1 << 32) - 1)
            self._skipped[number] = stored.skipped

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, number: int) -> bool:
        """Return whether chunk `number` was ever written."""
        return self._offsets[number] >= 0

    def __getitem__(self, number: int) -> Stored:
        """Return where chunk `number` lies."""
        return Stored(self._offsets[number], self._sizes[number], self._skipped[number])

    def corner(self, number: int) -> tuple[int, ...]:
        """Return the index of the first element of chunk `number`."""
        cells = (number // stride % extent for stride, extent in zip(self.strides, self.grid, strict=True))
        return tuple(map(operator.mul, cells, self.chunk))

    def elements(self, number: int) -> int:
        """Return how many elements of the tensor are in chunk `number`: those on the far edges may hold more."""
        corner = self.corner(number)
        return math.prod(min(c, s - at) for c, s, at in zip(self.chunk, self.shape, corner, strict=True))

    def after(self, number: int, count: int) -> Iterator[int]:
        """Yield those of the next `count` chunks after `number` that are stored."""
        return (after for after in range(number + 1, min(number + 1 + count, len(self))) if after in self)

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, slice, tuple[int, ...], _Place, _Place]]:
        """Yield what the run ``[start, stop)`` takes from chunks.

        Each is the number of a chunk, the part of the run that the piece is in and the shape of that part, and the
        place of the piece there and in the chunk.
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
    """Return for each chunk along an axis its share of the number, and where it meets `part`, seen from both."""
    found = []
    for cell in range(part.start // chunk, -(-part.stop // chunk)):
        first, last = max(part.start, cell * chunk), min(part.stop, (cell + 1) * chunk)
        here = slice(first - cell * chunk, last - cell * chunk)
        found.append((cell * stride, slice(first - part.start, last - part.start), here))
    return found


class _Slot:
    """A chunk that is kept, or about to be: `values` are None while a thread is decoding it."""

    __slots__ = ("left", "values")

    def __init__(self, left: int) -> None:
        self.left = left
        self.values: NDArray[Any] | None = None


class ChunkedSource(FileSource):
    """A tensor in chunks whose filters are undone here, by as many workers as read at once.

    Parameters
    ----------
    file : RawFile
        The file, which is closed with the source.
    index : ChunkIndex
        Where the chunks lie, all of them inside the file.
    filters : tuple of Filter
        What the chunks went through, in that order; all of them known.
    dtype : numpy.dtype
        As stored.
    fill : numpy scalar
        The value of the elements of chunks that were never written.
    name : str
        What errors call it.
    """

    def __init__(
        self, file: RawFile, index: ChunkIndex, filters: tuple[Filter, ...], dtype: np.dtype[Any], fill: Any, name: str
    ) -> None:
        super().__init__(file, index.shape, dtype, "C", name)
        self._index, self._filters, self._fill = index, filters, fill
        self._nbytes = math.prod(index.chunk) * dtype.itemsize
        self._slots: dict[int, _Slot] = {}  # from the one taken from least recently on
        self._turns = array("I", [0]) * len(index)  # how often each was decoded
        self._changed = threading.Condition()

    @property
    def decoded(self) -> int:
        """How many chunks have been decoded, or begun to be."""
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
        """Return chunk `number`, decoded by this thread if need be; None if another one is at it."""
        with self._changed:
            slot = self._slots.pop(number, None)
            if slot is not None:
                self._slots[number] = slot
                return slot.values
            slot = self._begin(number)
            self._make_room()
        return self._decode_into(slot, number)

    def _begin(self, number: int) -> _Slot:
        self._turns[number] += 1
        slot = self._slots[number] = _Slot(self._index.elements(number))
        return slot

    def _make_room(self) -> None:
        """Drop what was taken from least recently, but for one chunk a worker that is about to be used."""
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
                del self._slots[number]  # who waits for it tries himself, and meets the error
                self._changed.notify_all()
            raise
        with self._changed:
            slot.values = values
            self._changed.notify_all()
        return values

    def _decode(self, number: int) -> NDArray[Any]:
        stored = self._index[number]
        corner = self._index.corner(number)
        check_stored(corner, stored.nbytes, self._nbytes, self.name)
        try:
            data = decode(self._read(stored), self._filters, stored.skipped, self._nbytes)
        except _DamagedError as error:
            raise _damaged(corner, error, self.name) from error
        return data.view(self.dtype).reshape(self._index.chunk)

    def _read(self, stored: Stored) -> Bytes:
        data = np.empty(stored.nbytes, np.uint8)
        self.file.read(as_bytes(data), stored.offset)
        return data

    def _took(self, number: int, count: int) -> None:
        with self._changed:
            slot = self._slots.get(number)  # it may have been dropped for others since
            if slot is not None:
                slot.left -= count
                if slot.left == 0:
                    del self._slots[number]
                elif slot.left < 0:  # it was read a second time before the first time was over, by two passes in turns
                    slot.left += self._index.elements(number)

    def _decode_ahead(self, number: int) -> bool:
        """Decode the first of the chunks after `number` that nobody has begun in this pass, if there is room for it."""
        with self._changed:
            room = max(2, MAX_AHEAD_NBYTES // self._nbytes) - len(self._slots)
            after = next((n for n in self._index.after(number, room) if self._turns[n] < self._turns[number]), None)
            if after is None:
                return False
            slot = self._begin(after)
        try:
            self._decode_into(slot, after)
        except InputError:
            return False  # it is not this run's: who needs it says so
        return True

    def _wait(self, numbers: list[int]) -> None:
        """Wait until one of the chunks has been decoded, or given up."""

        def ready(number: int) -> bool:
            slot = self._slots.get(number)
            return slot is None or slot.values is not None

        with self._changed:
            self._changed.wait_for(lambda: any(map(ready, numbers)))

    def close(self) -> None:
        """Close the file, and let go of what was decoded."""
        self._slots.clear()
        super().close()
