"""Signals: they become `Interrupted`, everything temporary is removed, and the process ends by the signal."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from gncli.errors import LimitError


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
        raise LimitError(f"no descriptor is to be had ({error.strerror})", hint="raise ulimit -n") from error
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
