"""A tensor of a dtype that NumPy does not have: reading it widens each element to float32, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io.dtypes import Widening
from gncli.io.source import Source, Wrapping

_PIECE = 1 << 17  # elements that are widened at a time: their bytes and their floats stay in the cache


class WidenedSource(Wrapping):
    """A tensor of a dtype that NumPy does not have: reading it widens each element to float32, exactly.

    Parameters
    ----------
    inner : Source
        The bits of the elements, in the unsigned integer dtype of `widening`; closed with this.
    widening : Widening
        The dtype of the elements.
    """

    def __init__(self, inner: Source, widening: Widening) -> None:
        super().__init__(inner)
        self.dtype = np.dtype(np.float32)
        self.stored_as: Widening = widening

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on."""
        raw = np.empty(min(_PIECE, out.size), self.stored_as.raw)
        for done in range(0, out.size, _PIECE):
            part = raw[: out.size - done]
            self.read_stored(part, start + done)
            self.stored_as.widen(part, out[done : done + part.size])

    def read_stored(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the bits of the elements from `start` on."""
        self.inner.read_into(out, start)

    def close(self) -> None:
        """Close the file."""
        self.inner.close()
