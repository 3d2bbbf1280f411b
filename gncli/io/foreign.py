"""Tensors of dtypes that NumPy lacks: bfloat16 and float8, read as float32, and written from it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io.source import Sink, Source, StoredChunks, Wrapping
from gncli.kernels.floats import Float
from gncli.kernels.loops import loops

PIECE = 1 << 17  # elements that are converted at a time: their bits and their floats stay in the cache


class Widened(Wrapping):
    """A tensor of a dtype that NumPy lacks: reading it widens each element to float32, exactly.

    Parameters
    ----------
    inner : Source
        The bits of its elements, of the dtype ``kind.stored``; closed with this.
    kind : Float
        Its dtype.
    """

    def __init__(self, inner: Source, kind: Float) -> None:
        super().__init__(inner)
        self.dtype, self.stored_as = kind.dtype, kind
        self._kind = kind

    @property
    def stored_chunks(self) -> StoredChunks | None:
        """How much of the bits is stored."""
        return self.inner.stored_chunks

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on."""
        raw = np.empty(min(PIECE, out.size), self._kind.stored)
        for done in range(0, out.size, PIECE):
            part = raw[: out.size - done]
            self.read_stored(part, start + done)
            self._kind.widen(part, out[done : done + part.size])

    def read_stored(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the bits of the elements from `start` on."""
        self.inner.read_into(out, start)

    def will_need(self, start: int, stop: int) -> None:
        """Declare that the run is read next."""
        self.inner.will_need(start, stop)

    def close(self) -> None:
        """Close the bits."""
        self.inner.close()


class Narrowed(Sink):
    """A place for a tensor of a dtype that NumPy lacks; its numbers come as float32.

    Parameters
    ----------
    inner : Sink
        Takes the bits of the elements, of the dtype ``kind.stored``; committed or aborted with this.
    kind : Float
        The dtype.
    """

    def __init__(self, inner: Sink, kind: Float) -> None:
        self.name, self.sequential = inner.name, inner.sequential
        self.inner, self._kind = inner, kind

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data` as the elements from `start` on."""
        raw = np.empty(data.size, self._kind.stored)
        for done in range(0, data.size, PIECE):
            loops().narrow(self._kind, data[done : done + PIECE], raw[done : done + PIECE])
        self.inner.write_from(raw, start)

    def commit(self) -> None:
        """Make the tensor visible under its name, whole."""
        self.inner.commit()

    def abort(self) -> None:
        """Remove what was begun."""
        self.inner.abort()
