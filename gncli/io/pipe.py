"""The pipe: .npy streams from standard input, and one to standard output.

Notes
-----
A signal that arrives while a read waits may be handed to another thread by the system, and then the read does not
notice. Reads therefore poll together with the file descriptor at the far end of `signal.set_wakeup_fd` (see `listen`),
and go back to Python, where the handler runs and raises.
"""

from __future__ import annotations

import fcntl
import os
import select
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import progress
from gncli.descriptors import write_fully
from gncli.errors import InputError, LimitError
from gncli.io.atomic import writing
from gncli.io.formats.npy import header_bytes, read_header, size_error
from gncli.io.rawfile import RawFile, as_bytes, read_fully, reading, reason
from gncli.io.source import Order, Sink, Source

STDIN = "<stdin>"
STDOUT = "<stdout>"

_PIECE = 1 << 20
_wakeup_fd: int | None = None


def listen(fd: int | None) -> None:
    """Let `fd`, the readable end of `signal.set_wakeup_fd`, end every wait for standard input; None: none does."""
    global _wakeup_fd
    _wakeup_fd = fd


def _widen(fd: int) -> None:
    """Let a pipe hold as much as an unprivileged process may ask for: with 64 KiB its ends wait for each other.

    From `cat` to `stats` that takes a third of the time away. What is no pipe, and systems that cannot, stay as they
    are.
    """
    with suppress(OSError, AttributeError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIECE)


def interruptible_read(fd: int, view: memoryview, wakeup_fd: int | None = None) -> int:
    """Read at least one byte into `view`, and return how many: 0 at the end of the stream.

    Parameters
    ----------
    fd : int
        The stream.
    view : memoryview
        Writable, of bytes, not empty.
    wakeup_fd : int, optional
        A non-blocking descriptor that becomes readable when a signal came.
    """
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    if wakeup_fd is not None:
        waiting.register(wakeup_fd, select.POLLIN)
    while True:
        ready = [which for which, _ in waiting.poll()]
        if wakeup_fd in ready:
            with suppress(BlockingIOError):
                os.read(wakeup_fd, 4096)
        if fd in ready:
            # Another reader of the same pipe may have been faster.
            with suppress(BlockingIOError):
                return os.readv(fd, [view])


class Pipe:
    """A descriptor that is read forwards, with a look at its first bytes.

    Parameters
    ----------
    fd : int
        The stream; it is not closed.
    name : str
        What errors call it.
    """

    def __init__(self, fd: int = 0, name: str = STDIN) -> None:
        self.fd = fd
        self.name = name
        self._peeked = b""
        _widen(fd)

    def read_into(self, view: memoryview) -> int:
        """Fill `view`, and return how many bytes there were: fewer only at the end of the stream."""
        done = min(len(view), len(self._peeked))
        view[:done] = self._peeked[:done]
        self._peeked = self._peeked[done:]
        with reading(self.name):
            while done < len(view):
                count = interruptible_read(self.fd, view[done:], _wakeup_fd)
                if count == 0:
                    break
                done += count
        return done

    def read(self, nbytes: int) -> bytes:
        """Return the next `nbytes` bytes: fewer only at the end of the stream."""
        buffer = bytearray(nbytes)
        return bytes(buffer[: self.read_into(memoryview(buffer))])

    def peek(self, nbytes: int) -> bytes:
        """Return the next `nbytes` bytes, which will be read again."""
        data = self.read(nbytes)
        self._peeked = data + self._peeked
        return data

    def spool(self) -> RawFile:
        """Return all that is still to come, in an unlinked file in $TMPDIR."""
        spool = Spool()
        try:
            buffer = memoryview(bytearray(_PIECE))
            size = 0
            progress.begin("copy", self.name, None)
            while count := self.read_into(buffer):
                spool.write(buffer[:count], size)
                size += count
                progress.advance(count)
            return RawFile.spooled(os.dup(spool.fd), self.name)
        finally:
            spool.close()


class Spool:
    """An unlinked file in $TMPDIR: gone with the process, however that ends.

    Raises
    ------
    LimitError
        If there is no room for it.
    """

    def __init__(self) -> None:
        import tempfile  # slow to import, and seldom needed

        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                self.fd = os.dup(file.fileno())
        except OSError as error:
            raise _no_room(error) from error

    def write(self, view: memoryview, offset: int) -> None:
        """Write `view` at `offset`."""
        try:
            write_fully(self.fd, view, offset)
        except OSError as error:
            raise _no_room(error) from error

    def clear(self) -> None:
        """Give its room back."""
        os.ftruncate(self.fd, 0)

    def close(self) -> None:
        """Remove it; a second time, do nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _no_room(error: OSError) -> LimitError:
    where = os.environ.get("TMPDIR") or "the temporary directory"
    return LimitError(
        f"what must be read twice cannot be kept in {where} ({reason(error)})",
        subject=STDIN,
        hint="set TMPDIR to a directory with room, or give a file",
    )


class StreamSource(Source):
    """A .npy from a pipe.

    Parameters
    ----------
    pipe : Pipe
        At the first byte of the header, which is read at once; nothing past the array is ever read.
    name : str
        What errors call it.
    alone : bool
        Whether nothing may follow the array; `verify_unchanged` then looks for the end of the stream.

    Raises
    ------
    InputError
        If the header is malformed.
    """

    sequential = True
    holds_in_file = True

    def __init__(self, pipe: Pipe, name: str = STDIN, *, alone: bool = True) -> None:
        self.name = name
        self._pipe = pipe
        self._alone = alone
        self._header = read_header(pipe.read, name)
        self.shape, self.dtype, self.order = self._header.shape, self._header.dtype, self._header.order
        self._position = 0  # in bytes, of the data
        self._held = (0, 0)
        self._spool: Spool | None = None

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on: the next ones, or held ones, and these from any thread."""
        view = as_bytes(out)
        offset = start * self.dtype.itemsize
        behind = min(len(view), max(0, self._position - offset))
        if behind:
            self._reread(view[:behind], offset)
        if behind < len(view):
            self._skip_to(offset + behind)
            self._advance(view[behind:])

    def hold(self, start: int, stop: int) -> None:
        """Keep a copy of ``[start, stop)`` when it is read; the span held before is let go."""
        first, last = start * self.dtype.itemsize, stop * self.dtype.itemsize
        if first < self._position:
            raise ValueError(f"element {start} of a pipe was read before it was held")
        if self._spool is None:
            self._spool = Spool()
        self._spool.clear()
        self._held = (first, last)

    def verify_unchanged(self) -> None:
        """Raise InputError if the array was read to its end, should be alone, and bytes follow it."""
        if self._alone and self._position == self._header.nbytes and self._pipe.peek(1):
            raise InputError(
                f"has bytes after the array, whose header declares {self._header.nbytes:,} bytes of data",
                subject=self.name,
                hint="several concatenated arrays are for stats",
            )

    def finish(self) -> None:
        """Read what is left of the array, so that the next one can be read."""
        self._skip_to(self._header.nbytes)

    def close(self) -> None:
        """Remove the copy."""
        if self._spool is not None:
            self._spool.close()

    def _advance(self, view: memoryview) -> None:
        count = self._pipe.read_into(view)
        here = self._position
        if count < len(view):
            self._position = self._header.nbytes  # nothing more will come, so that nothing is left to skip
            raise size_error(self._header, here + count, self.name)
        first, last = max(self._held[0], here), min(self._held[1], here + count)
        if self._spool is not None and first < last:
            self._spool.write(view[first - here : last - here], first - self._held[0])
        self._position = here + count

    def _skip_to(self, offset: int) -> None:
        if self._position < offset:
            buffer = memoryview(bytearray(min(_PIECE, offset - self._position)))
            while self._position < offset:
                self._advance(buffer[: offset - self._position])

    def _reread(self, view: memoryview, offset: int) -> None:
        first, last = self._held
        if self._spool is None or not first <= offset <= offset + len(view) <= last:
            raise ValueError(f"bytes {offset} to {offset + len(view)} of a pipe were not held")
        with reading(self.name):
            count = read_fully(self._spool.fd, view, offset - first)
        if count < len(view):
            raise ValueError(f"the held span was let go before byte {offset + count} was read again")


class StreamSink(Sink):
    """A .npy to a pipe, in order, from the first element to the last; a reader that went away is a BrokenPipeError.

    Parameters
    ----------
    shape, dtype, order
        Of the tensor.
    fd : int
        The stream; it is not closed.
    """

    sequential = True
    name = STDOUT

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, fd: int = 1) -> None:
        self._fd = fd
        _widen(fd)
        self._dtype = dtype
        self._header = header_bytes(shape, dtype, order)
        self._position = 0

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data`, the next elements."""
        if start != self._position:
            raise ValueError(f"element {start} of a stream cannot follow element {self._position}")
        self._begin()
        self._write(as_bytes(data))
        self._position += data.size

    def commit(self) -> None:
        """Write the header of an empty tensor; everything else is written."""
        self._begin()

    def _begin(self) -> None:
        # Not before the first data: a parameter that is refused should leave nothing on stdout.
        header, self._header = self._header, b""
        self._write(memoryview(header))

    def _write(self, view: memoryview) -> None:
        with writing(self.name):
            write_fully(self._fd, view)
