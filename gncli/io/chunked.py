"""Tensors stored in chunks: workers decode them in parallel, each chunk once per pass.

A format says which chunks it stores and decodes one of them; all else is here, for HDF5 and Zarr alike.

Notes
-----
Runs of elements cross chunks, and a chunk crosses runs. A decoded chunk is kept until as many elements were taken from
it as it holds. A pass takes each element once, in any order, so a chunk is decoded at most once per pass, and the kept
chunks are those that the current runs share. A worker that would have to wait for a chunk that another worker is
decoding decodes the next chunk instead.

That is true as long as the chunks that cross a run at once, a band of them, fit `MAX_KEPT_NBYTES`. Chunks of a few
samples fit; h5py's own automatic chunks fit up to tensors of about 1 GB, since it cuts the first axis into 16 or so. If
a band is larger, the least recently used chunks are dropped, and each chunk is decoded once for each run that crosses
it: as often as a band is larger than a visit. libhdf5 with a cache of that size does the same.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
from abc import abstractmethod
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError
from gncli.io.rawfile import FileSource, as_bytes
from gncli.io.source import StoredFile
from gncli.kernels.walk import boxes

if TYPE_CHECKING:
    import zlib as inflate
else:
    try:  # gncli[fast]: decodes in a half to a third of the time
        from isal import isal_zlib as inflate
    except ImportError:
        import zlib as inflate

MAX_KEPT_NBYTES = 96 << 20  # all decoded chunks: one worker may still be in a band when another is in the next
MAX_AHEAD_NBYTES = 32 << 20  # all decoded chunks, if one more is to be decoded before it is needed

_SLACK_NBYTES = 1024  # that an encoding may add to a small chunk

Bytes = NDArray[np.uint8]
_Place = tuple[slice, ...]


class DamagedError(Exception):
    """The bytes of a chunk are damaged."""


def inflated(data: Bytes, most: int, wbits: int = 15) -> Bytes:
    """Return the decompressed bytes of a deflated chunk, at most `most`, whatever the bytes say.

    Raises
    ------
    DamagedError
        If they make no sense, end early, or are more.
    """
    inflater = inflate.decompressobj(wbits)
    try:
        found = inflater.decompress(as_bytes(data), most + 1)
    except inflate.error as error:
        raise DamagedError("its compressed data make no sense") from error
    if not inflater.eof:
        raise DamagedError("its compressed data are cut short" if len(found) <= most else "it is longer than a chunk")
    return np.frombuffer(found, np.uint8)


def check_size(stored: int, nbytes: int) -> None:
    """Raise DamagedError if a chunk of `nbytes` takes more bytes in the file than any encoding makes of it."""
    if stored > 2 * nbytes + _SLACK_NBYTES:
        raise DamagedError(f"its {stored:,} bytes are more than it can need")


def damaged(corner: tuple[int, ...], why: object, name: str) -> InputError:
    """Return the error about the chunk at `corner`."""
    return InputError(f"cannot be read (the chunk at {corner} is damaged: {why})", subject=name)


class Grid:
    """The chunks of a tensor, by number: counted in C order.

    Parameters
    ----------
    shape : tuple of int
        Shape of the tensor.
    chunk : tuple of int
        Shape of a chunk; the chunks at the far edges may reach beyond the tensor.

    Attributes
    ----------
    grid : tuple of int
        How many chunks there are along each axis.
    """

    def __init__(self, shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
        self.shape, self.chunk = shape, chunk
        self.grid = tuple(-(-extent // step) for extent, step in zip(shape, chunk, strict=True))
        self.strides = tuple(math.prod(self.grid[axis + 1 :]) for axis in range(len(shape)))

    def __len__(self) -> int:
        return math.prod(self.grid)

    def cell(self, number: int) -> tuple[int, ...]:
        """Return the place of chunk `number` in the grid."""
        return tuple(map(operator.mod, [number // stride for stride in self.strides], self.grid))

    def corner(self, number: int) -> tuple[int, ...]:
        """Return the index of the first element of chunk `number`."""
        return tuple(map(operator.mul, self.cell(number), self.chunk))

    def elements(self, number: int) -> int:
        """Return how many elements of the tensor are in chunk `number`: those on the far edges may hold more."""
        return math.prod(map(min, self.chunk, map(operator.sub, self.shape, self.corner(number))))

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
            for axes in itertools.product(*steps):
                number = sum(share for share, _, _ in axes)
                yield number, run, extent, tuple(there for _, there, _ in axes), tuple(here for _, _, here in axes)


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
    """A tensor in chunks that the workers decode themselves: a base class.

    Parameters
    ----------
    file : StoredFile
        The file whose state the tensor depends on, which is closed with the source.
    grid : Grid
        The chunks.
    dtype : numpy.dtype
        The stored dtype, byte order included.
    fill : ndarray, shape ()
        The value of the elements of chunks that are not stored.
    name : str
        What errors call the tensor.
    """

    in_chunks = True

    def __init__(self, file: StoredFile, grid: Grid, dtype: np.dtype[Any], fill: NDArray[Any], name: str) -> None:
        super().__init__(file, grid.shape, dtype, "C", name)
        self.grid = grid
        self._fill = fill
        self._nbytes = math.prod(grid.chunk) * dtype.itemsize
        self._slots: dict[int, _Slot] = {}  # the least recently used one first
        self._turns = array("I", [0]) * len(grid)  # how often each chunk was decoded
        self._changed = threading.Condition()

    @property
    def decoded(self) -> int:
        """How often a chunk was decoded, those that are being decoded included."""
        return sum(self._turns)

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on."""
        todo = list(self.grid.pieces(start, start + out.size))
        while todo:
            waiting = []
            for piece in todo:
                number, run, extent, there, here = piece
                whole: Any = out[run].reshape(extent)
                target = whole[(..., *there)]  # of a scalar too a view
                if not self.stores(number):
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
        slot = self._slots[number] = _Slot(self.grid.elements(number))
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
            values = self.decode(number)
        except BaseException:
            with self._changed:
                del self._slots[number]  # a thread that waits for it tries itself, and gets the error
                self._changed.notify_all()
            raise
        with self._changed:
            slot.values = values
            self._changed.notify_all()
        return values

    @abstractmethod
    def stores(self, number: int) -> bool:
        """Return whether chunk `number` is stored; otherwise its elements are the fill value."""

    @abstractmethod
    def decode(self, number: int) -> NDArray[Any]:
        """Return chunk `number`, which is stored, decoded: an array of the shape of a chunk.

        Raises
        ------
        InputError
            If it is damaged.
        ChangedError
            If what it is in was changed.
        """

    def _took(self, number: int, count: int) -> None:
        with self._changed:
            slot = self._slots.get(number)  # it may have been dropped since
            if slot is not None:
                slot.left -= count
                if slot.left == 0:
                    del self._slots[number]
                elif slot.left < 0:  # two passes in turn: it was read again before the first pass was over
                    slot.left += self.grid.elements(number)

    def _decode_ahead(self, number: int) -> bool:
        """Decode the first chunk after `number` that no thread has begun in this pass, if the memory allows it."""
        with self._changed:
            room = max(2, MAX_AHEAD_NBYTES // self._nbytes) - len(self._slots)
            after = next((n for n in self._after(number, room) if self._turns[n] < self._turns[number]), None)
            if after is None:
                return False
            slot = self._begin(after)
        try:
            self._decode_into(slot, after)
        except InputError:
            return False  # the run that needs it reports it
        return True

    def _after(self, number: int, count: int) -> Iterator[int]:
        """Yield the stored ones among the next `count` chunks after `number`."""
        return (n for n in range(number + 1, min(number + 1 + count, len(self.grid))) if self.stores(n))

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
