"""A part of a tensor, read as a tensor of its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io.source import Source, Wrapping
from gncli.kernels.walk import boxes

Box = tuple[tuple[int, int], ...]
"""For each axis of a tensor, where it begins and ends."""


class Part(Wrapping):
    """A part of a tensor as a source of its own: the same storage order, read piece by contiguous piece.

    Parameters
    ----------
    source : Source
        Read anywhere.
    box : Box
        Which part.
    """

    def __init__(self, source: Source, box: Box) -> None:
        super().__init__(source)
        self.shape = tuple(stop - start for start, stop in box)
        stored = slice(None) if source.order == "C" else slice(None, None, -1)
        self._corner = tuple(start for start, _ in box)[stored]
        self._extent = self.shape[stored]
        whole = source.shape[stored]
        self._strides = [math.prod(whole[axis + 1 :]) for axis in range(len(whole))]
        # From this axis on, what is read is contiguous.
        self._axis = max((axis for axis in range(len(whole)) if self._extent[axis] != whole[axis]), default=0)

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on, counted in the part."""
        done = 0
        for box in boxes(self._extent, start, start + out.size):
            first = sum((s.start + c) * stride for s, c, stride in zip(box, self._corner, self._strides, strict=True))
            starts = np.full((), first)
            for side, stride in zip(box[: self._axis], self._strides, strict=False):
                starts = starts[..., None] + np.arange(side.stop - side.start) * stride
            length = math.prod(side.stop - side.start for side in box[self._axis :])
            for at in starts.flat:
                self.inner.read_into(out[done : done + length], int(at))
                done += length
