"""Signals: what is temporary is removed, and gncli ends by the signal, wherever it was.

Nothing is imported here that Python has not imported already, besides `signal` itself.

Notes
-----
The handler does all of it and does not return. An exception would have to find its way out of imports of extension
modules, callbacks of C libraries and locks of the standard library, and each of these can turn it into another error,
lose it, or stay locked. So whatever must not outlive the process is entered in `cleanups` before it is made.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # `typing` takes longer to import than everything here
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

cleanups: dict[object, Callable[[], object]] = {}
"""What is to be done before the process dies of a signal, under any key; the last entered is done first.

A cleanup that removes an output returns its name, fit to be shown: after Ctrl-C a line says what was not written.
"""

_received = 0
_taken = False
_wakeup_fd: int | None = None


def take() -> None:
    """Let a signal end the process in order from now on; one that is ignored on entry, as under nohup, stays so."""
    global _taken
    _taken = True
    for signum in [signum for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]:
        signal.signal(signum, _receive)


def wakeup_fd() -> int | None:
    """Return a descriptor that becomes readable when a signal arrives; None if gncli has not taken the signals.

    A wait for input polls it too, since the system may hand a signal to another thread, or just before the wait begins.
    """
    global _wakeup_fd
    if _taken and _wakeup_fd is None:
        _wakeup_fd, woken = os.pipe()
        os.set_blocking(_wakeup_fd, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    return _wakeup_fd


def end(signum: int) -> NoReturn:
    """Remove what is temporary, and end by the signal itself, so that a shell and a parent see which."""
    lost: list[str] = []
    try:
        while cleanups:
            _, cleanup = cleanups.popitem()
            try:
                name = cleanup()
            except Exception:  # noqa: BLE001, S112  # one that fails must not keep the others from being done
                continue
            lost[:0] = [name] if isinstance(name, str) else []
        if lost and signum == signal.SIGINT:
            names = " and ".join(filter(None, [", ".join(lost[:-1]), lost[-1]]))
            said = f"gncli: interrupted; {names} {'was' if len(lost) == 1 else 'were'} not written\n"
            os.write(2, said.encode(errors="backslashreplace"))
    except OSError:  # there is nobody left to tell
        pass
    finally:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        os._exit(128 + signum)  # the first process of a container does not die of it


def _receive(signum: int, _frame: FrameType | None) -> None:
    """End the process; a second signal does not break the cleaning up, and a third ends one that hangs."""
    global _received
    _received += 1
    if _received == 1 and Deferred.depth:
        Deferred.pending = signum
        return
    if _received > 2:
        cleanups.clear()
    if _received != 2:
        end(signum)


class Deferred:
    """A section in which a signal waits: until `checkpoint`, or until the end of the section, however that comes.

    It is for what cannot be entered in `cleanups` before it is made, and for what a cleanup must not find half done.
    """

    depth = 0
    pending: int | None = None

    def __enter__(self) -> None:
        Deferred.depth += 1

    def __exit__(self, *_: object) -> None:
        Deferred.depth -= 1
        if not Deferred.depth:
            checkpoint()


def checkpoint() -> None:
    """End the process if a signal is waiting."""
    signum, Deferred.pending = Deferred.pending, None
    if signum is not None:
        end(signum)
