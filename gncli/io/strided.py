"""A tensor whose elements lie at strides in a file: a view of a storage that it may share with others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from gncli.io.rawfile import FileSource, as_bytes
from gncli.io.source import Order, StoredFile
from gncli.kernels.walk import boxes

WINDOW_NBYTES = 16 << 20  # read at a time, however little of it is used


def order_of(shape: tuple[int, ...], strides: tuple[int, ...]) -> Order | None:
    """Return the order in which the elements lie one after the other; None if they do not.

    Examples
    --------
    >>> order_of((2, 1, 3), (3, 9, 1)), order_of((2, 3), (1, 2)), order_of((2, 3), (6, 2))
    ('C', 'F', None)
    """
    axes = [(size, stride) for size, stride in zip(shape, strides, strict=True) if size != 1]

    def dense(axes: list[tuple[int, int]]) -> bool:
        return all(stride == math.prod(size for size, _ in axes[:k]) for k, (_, stride) in enumerate(axes))

    if dense(axes[::-1]):
        return "C"
    return "F" if dense(axes) else None


class StridedSource(FileSource):
    """A tensor whose elements lie at strides in a file: it is read in C order, a window of the file at a time.

    Parameters
    ----------
    file : StoredFile
        The file, which is closed with the source.
    offset : int
        Where the first element begins, in bytes.
    shape : tuple of int
        Shape of the tensor, which has elements.
    strides : tuple of int
        How far the next element along each axis is, in elements; 0 repeats one.
    stored : numpy.dtype
        Dtype of the elements in the file; they are read as little-endian.
    name : str
        As the user typed it.
    """

    def __init__(
        self,
        file: StoredFile,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        stored: np.dtype[Any],
        name: str,
    ) -> None:
        super().__init__(file, shape, stored.newbyteorder("<"), "C", name)
        self._offset, self._strides, self._stored = offset, strides, stored

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on."""
        done = 0
        for box in boxes(self.shape, start, start + out.size):
            extent = [part.stop - part.start for part in box]
            piece = out[done : done + math.prod(extent)].reshape(extent)
            self._fill(piece, sum(part.start * stride for part, stride in zip(box, self._strides, strict=True)))
            done += piece.size

    def _fill(self, out: NDArray[Any], first: int) -> None:
        """Fill the box `out`, whose first element is the `first` one of the storage, from windows."""
        itemsize = self._stored.itemsize
        reach = [(size - 1) * stride for size, stride in zip(out.shape, self._strides, strict=True)]
        if out.size == 1 or (sum(reach) + 1) * itemsize <= WINDOW_NBYTES:
            window = np.empty(sum(reach) + 1, self._stored)
            self.file.read(as_bytes(window), self._offset + first * itemsize)
            out[...] = as_strided(window, out.shape, [stride * itemsize for stride in self._strides])
            return
        axis = reach.index(max(reach))
        half = out.shape[axis] // 2
        for piece, skipped in zip(np.split(out, [half], axis), (0, half), strict=True):
            self._fill(piece, first + skipped * self._strides[axis])
