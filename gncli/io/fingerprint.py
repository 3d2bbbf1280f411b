"""The SHA-256 of a tensor: the same in every format, storage order and byte order; docs/numbers.md defines it."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import progress
from gncli.errors import LimitError, OutputError
from gncli.io.atomic import OutputFile, spool_file
from gncli.io.rawfile import as_bytes
from gncli.io.source import Sink, Source, Wrapping
from gncli.io.transposition import TransposingSink

PIECE_NBYTES = 1 << 20  # that are read and hashed at a time, where nothing else is measured


class Digest(Sink):
    """A sink for a tensor in C order that keeps only the SHA-256 of it.

    Parameters
    ----------
    source : Source
        The tensor; only its dtype and shape are used.
    """

    def __init__(self, source: Source) -> None:
        import hashlib

        shape = ",".join(map(str, source.shape))
        self._hash = hashlib.sha256(f"{source.dtype_name} {shape}\n".encode())

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Take the next elements, as they are stored."""
        self._hash.update(as_bytes(data.astype(data.dtype.newbyteorder("<"), copy=False)))

    def hex(self) -> str:
        """Return the digest of all that was written, in hexadecimal digits."""
        return self._hash.hexdigest()


class Fingerprint(Wrapping):
    """A tensor that is hashed as it is read.

    A Fortran-ordered tensor is put into C order in an unlinked file in $TMPDIR.

    Parameters
    ----------
    source : Source
        The tensor.

    Attributes
    ----------
    transposed : bool
        Whether a file in $TMPDIR takes a copy of it.

    Raises
    ------
    LimitError
        If $TMPDIR has no room for that copy.

    Notes
    -----
    A hash takes the elements in one order, and workers read them in any. So a worker that read early waits until those
    before it are hashed; each worker reads in storage order, so that the first of them never waits. What is read again
    is not hashed again.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._digest = Digest(source)
        self._sink: Sink = self._digest
        self._done, self._failed = 0, False
        self._turn = threading.Condition()
        self.transposed = source.order == "F" and sum(size > 1 for size in source.shape) > 1 and 0 not in source.shape
        if self.transposed:
            scratch = OutputFile(spool_file(), source.name, lasting=False)
            try:
                self._sink = TransposingSink(self._digest, scratch, source.shape, source.stored_dtype)
            except OutputError as error:
                scratch.abort()
                hint = "set TMPDIR to a directory with room, or store it in C order"
                raise LimitError(
                    f"cannot be copied to $TMPDIR: {error.problem}", subject=source.name, hint=hint
                ) from error

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on, and hash them in their turn."""
        try:
            self.inner.read_into(out, start)
            stored = out
            if self.stored_as is not None:
                stored = np.empty(out.size, self.stored_dtype)
                self.stored_as.narrow(out, stored)
            self._take(stored, start)
        except BaseException:
            with self._turn:  # nobody waits for what does not come
                self._failed = True
                self._turn.notify_all()
            raise

    def _take(self, stored: NDArray[Any], start: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._failed or self._done >= start)
            new = stored[max(0, self._done - start) :]
            if new.size and not self._failed:
                self._sink.write_from(new, self._done)
                self._done += new.size
            self._turn.notify_all()

    def hex(self) -> str:
        """Return the digest in hexadecimal digits; what was not read yet is read now.

        Raises
        ------
        GncliError
            If that fails.
        """
        size = math.prod(self.shape)
        step = max(1, PIECE_NBYTES // self.dtype.itemsize)
        if self._done < size:
            progress.begin("hash", self.name, size * self.dtype.itemsize)
            stored = np.empty(min(step, size), self.stored_dtype)
            for start in range(self._done, size, step):
                piece = stored[: size - start]
                self.inner.read_stored(piece, start)
                self._take(piece, start)
                progress.advance(piece.size * self.dtype.itemsize)
        self.inner.verify_unchanged()
        self._sink.commit()
        return self._digest.hex()

    def close(self) -> None:
        """Remove the copy in $TMPDIR; the tensor stays open."""
        self._sink.abort()
