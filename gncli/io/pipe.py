"""Standard input: bytes that are read forwards, once, and a file in $TMPDIR for those that are read again.

Notes
-----
The system may hand a signal that arrives while a read waits to another thread, and then the read goes on waiting.
Reads therefore also poll `signals.wakeup_fd`, and return to Python, where the handler runs.
"""

from __future__ import annotations

import fcntl
import os
import select
from contextlib import suppress

from gncli import progress, signals
from gncli.descriptors import write_fully
from gncli.errors import LimitError
from gncli.io.atomic import spool_file
from gncli.io.rawfile import RawFile, reading, reason

STDIN = "<stdin>"
STDOUT = "<stdout>"
PIECE = 1 << 20  # bytes that are read or copied at a time


def widen(fd: int) -> None:
    """Let a pipe hold 1 MiB, as much as an unprivileged process may ask for: with 64 KiB its ends wait for each other.

    From `cat` to `stats` this saves a third of the time. Other files stay as they are, and so do pipes where the system
    cannot widen them.
    """
    with suppress(OSError, AttributeError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIECE)


def interruptible_read(fd: int, view: memoryview, wakeup_fd: int | None = None) -> int:
    """Read at least one byte into `view`, and return the number of bytes: 0 at the end of the stream.

    Parameters
    ----------
    fd : int
        The stream.
    view : memoryview
        A writable view of bytes, not empty.
    wakeup_fd : int, optional
        A non-blocking descriptor that becomes readable when a signal arrives.
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
            # Another reader of the same pipe may have taken the bytes.
            with suppress(BlockingIOError):
                return os.readv(fd, [view])


class Pipe:
    """A descriptor that is read forwards, and whose next bytes can be looked at first.

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
        widen(fd)

    def read_into(self, view: memoryview) -> int:
        """Fill `view`, and return the number of bytes read: fewer only at the end of the stream."""
        done = min(len(view), len(self._peeked))
        view[:done] = self._peeked[:done]
        self._peeked = self._peeked[done:]
        with reading(self.name):
            while done < len(view):
                count = interruptible_read(self.fd, view[done:], signals.wakeup_fd())
                if count == 0:
                    break
                done += count
        return done

    def read(self, nbytes: int) -> bytes:
        """Return the next `nbytes` bytes: fewer only at the end of the stream."""
        buffer = bytearray(nbytes)
        return bytes(buffer[: self.read_into(memoryview(buffer))])

    def head(self, nbytes: int, offset: int = 0) -> bytes:
        """Return up to `nbytes` of the next bytes, which will be read again; none from a later `offset` on."""
        return b"" if offset else self.peek(nbytes)

    def peek(self, nbytes: int) -> bytes:
        """Return the next `nbytes` bytes, which will be read again."""
        data = self.read(nbytes)
        self._peeked = data + self._peeked
        return data

    def spool(self) -> RawFile:
        """Return all remaining bytes, copied to an unlinked file in $TMPDIR."""
        spool = Spool(self.name)
        try:
            buffer = memoryview(bytearray(PIECE))
            size = 0
            progress.begin("copy", self.name, None)
            while count := self.read_into(buffer):
                spool.write(buffer[:count], size)
                size += count
                progress.advance(count)
            return spool.file()
        finally:
            spool.close()


class Spool:
    """An unlinked file in $TMPDIR: it disappears with the process, however that ends.

    Parameters
    ----------
    subject : str
        What is kept there, for errors.

    Raises
    ------
    LimitError
        If it cannot be created, or $TMPDIR has no room for what is written.
    """

    def __init__(self, subject: str = STDIN) -> None:
        self.subject = subject
        try:
            self.fd = spool_file()
        except OSError as error:
            raise _no_room(subject, error) from error

    def file(self, *, copied: bool = False) -> RawFile:
        """Return a reader of what was written, to be closed on its own; `copied` is that of `StoredFile`."""
        return RawFile.spooled(os.dup(self.fd), self.subject, copied=copied)

    def write(self, view: memoryview, offset: int) -> None:
        """Write `view` at `offset`."""
        try:
            write_fully(self.fd, view, offset)
        except OSError as error:
            raise _no_room(self.subject, error) from error

    def clear(self) -> None:
        """Make it empty, which frees its room on the disk."""
        os.ftruncate(self.fd, 0)

    def close(self) -> None:
        """Close and so remove it; a second time, do nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _no_room(subject: str, error: OSError) -> LimitError:
    where = os.environ.get("TMPDIR") or "the temporary directory"
    return LimitError(
        f"what must be read twice cannot be kept in {where} ({reason(error)})",
        subject=subject,
        hint="set TMPDIR to a directory with room, or give a file",
    )
