"""The process at its edges: what is delivered to stdout and said on stderr, and how a signal ends it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from gncli import progress
from gncli.errors import LimitError, OutputError, ParameterError

_PIECE = 1 << 20
"""Bytes written at once. Larger writes make the page cache take large pages, of which a virtual machine has few warm
ones: 822 MB cost 1.0 s of system time in pieces of 4 MiB, 0.3 s in pieces of 1 MiB; smaller ones cost the threads."""


def write_fully(fd: int, view: memoryview, offset: int | None = None) -> None:
    """Write all of `view`, at `offset`, or where a stream stands; a stream that is full is waited for."""
    done = 0
    while done < len(view):
        piece = view[done : done + _PIECE]
        try:
            done += os.write(fd, piece) if offset is None else os.pwrite(fd, piece, offset + done)
        except BlockingIOError:  # whoever shares the pipe has made it non-blocking
            waiting = select.poll()
            waiting.register(fd, select.POLLOUT)
            waiting.poll()


def deliver(text: str) -> None:
    """Write all of `text` to stdout, past Python's buffer: what exits with 0 has been delivered."""
    if sys.stdout is None:
        raise OutputError("it is closed, and there is a report to write", subject="<stdout>")
    data = text.encode(sys.stdout.encoding, "backslashreplace")
    progress.clear()
    try:
        write_fully(sys.stdout.fileno(), memoryview(data))
    except BrokenPipeError:  # pragma: no cover  # dies of it, and with it what it covered
        raise
    except OSError as error:
        raise OutputError(error.strerror or "it cannot be written", subject="<stdout>") from error


def say(line: str) -> None:
    """Write a line to stderr; where that cannot be written there is nobody left to tell."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    progress.clear()
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(encoding, "backslashreplace"))


def is_terminal(stream: Any) -> bool:
    """Return whether `stream` is a terminal; a closed one, None, is not."""
    return stream is not None and bool(stream.isatty())


def refuse_unfit_stdout() -> None:
    """Raise unless stdout can take binary data."""
    if sys.stdout is None:
        raise OutputError("it is closed", subject="<stdout>")
    if is_terminal(sys.stdout):
        raise ParameterError("binary data are not written to a terminal; send them to a pipe or a file", subject="-o -")


class Interrupted(BaseException):
    """A signal has come: everything temporary is to go, and gncli after it."""

    def __init__(self, signum: int) -> None:  # pragma: no cover  # as for `die`
        super().__init__(signum)
        self.signum = signum


def die(signum: int) -> int:  # pragma: no cover  # a process that dies of a signal cannot save what it covered
    """End by the signal itself, so that a shell and a parent see which."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    return 128 + signum


class Deferred:
    """A section in which a signal waits: `Interrupted` comes from `checkpoint`, or at its end.

    Notes
    -----
    A handler that raises while the standard library takes the lock of a future leaves that lock taken, and the worker
    that waits for it waits for ever. So whoever submits to an executor, or waits for it, does it in such a section.
    """

    depth = 0
    pending: int | None = None

    def __enter__(self) -> None:
        Deferred.depth += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        Deferred.depth -= 1
        if kind is None and not Deferred.depth:
            checkpoint()


def checkpoint() -> None:
    """Raise `Interrupted` if a signal is waiting."""
    signum, Deferred.pending = Deferred.pending, None
    if signum is not None:
        raise Interrupted(signum)


@contextlib.contextmanager
def signals_as_interruptions() -> Iterator[int]:
    """Turn signals into `Interrupted`; give a descriptor that is readable once one has come.

    Notes
    -----
    A second signal must not break the cleaning up that the first began; a third ends a cleaning up that hangs. A signal
    that is ignored on entry (nohup) stays so.
    """
    received = 0

    def receive(signum: int, _frame: FrameType | None) -> None:  # pragma: no cover  # as for `die`
        nonlocal received
        received += 1
        if received == 1 and Deferred.depth:
            Deferred.pending = signum
        elif received == 1:
            raise Interrupted(signum)
        if received > 2:
            die(signum)

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {signum: signal.getsignal(signum) for signum in wanted}
    try:
        wake, woken = os.pipe()
    except OSError as error:  # pragma: no cover  # nor can one without descriptors
        raise LimitError(f"no descriptor is to be had ({error.strerror})", way_out="raise ulimit -n") from error
    os.set_blocking(woken, False)
    previous_fd = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        for signum, handler in previous.items():
            if handler is not signal.SIG_IGN:
                signal.signal(signum, receive)
        yield wake
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(previous_fd)
        os.close(wake)
        os.close(woken)


def hold_standard_descriptors() -> None:
    """Plug closed standard streams, or the next file opened would take the number of one."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
