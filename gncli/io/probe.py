"""A rehearsal in another process, which a crash or a hang ends in this one's stead.

Notes
-----
libhdf5 is "not designed to handle maliciously crafted files safely" (its own SECURITY.md), and no care inside a process
helps against a crash in it. So whatever it is asked here, another process has been asked before, and has come back.

That process is a fork where this one has no other thread, which is why files are opened before the workers start; a
forked lock that another thread holds would never be let go. Elsewhere, and on systems where a fork alone is not safe,
it is a Python of its own. It takes requests, one a line, and answers each with one byte.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

CPU_SECONDS = 5.0  # that one request may take: not of the clock, so that a slow disk or a busy machine is no hang

_DONE = b"."


class Rehearsal(Protocol):
    """What is to be tried first. Its `repr` is an expression that makes it again, in the module that it is from."""

    fd: int

    def __call__(self, request: str) -> None:
        """Do what the request says; whatever it raises, it has come back."""


class Probe:
    """The other process, begun when it is first asked, and again after it died.

    Parameters
    ----------
    rehearsal : Rehearsal
        What it does.
    """

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        self._socket: socket.socket | None = None
        self._wait: Callable[[], int] = lambda: 0

    def ask(self, request: str) -> int:
        """Return the signal that the other process died of when it did as `request` says; 0 if it did not die.

        Raises
        ------
        OSError
            If there can be no other process.
        """
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            with theirs:
                safe = sys.platform == "linux" and threading.active_count() == 1
                self._wait = (_forked if safe else _spawned)(self._rehearsal, self._socket, theirs)
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            if self._socket.recv(1) == _DONE:
                return 0
        return self.close() or signal.SIGKILL

    def close(self) -> int:
        """End the other process, and return the signal it died of, if it did; without one, do nothing."""
        if self._socket is None:
            return 0
        self._socket.close()
        self._socket = None
        return self._wait()


def _forked(rehearsal: Rehearsal, ours: socket.socket, theirs: socket.socket) -> Callable[[], int]:
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # leaves by _exit, past what would save the coverage
        try:
            ours.close()
            faulthandler.disable()
            with open(os.devnull, "r+b") as null:  # a dying C library writes to the terminal
                for fd in range(3):
                    os.dup2(null.fileno(), fd)
            serve(rehearsal, theirs)
        finally:  # nothing of what the parent would clean up is for its copy to do
            os._exit(0)

    def wait() -> int:
        return max(0, -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    return wait


def _spawned(rehearsal: Rehearsal, _ours: socket.socket, theirs: socket.socket) -> Callable[[], int]:
    module = type(rehearsal).__module__
    code = (
        f"import socket, sys; sys.path[:] = {sys.path!r}; from {module} import *; from gncli.io.probe import serve; "
        f"serve({rehearsal!r}, socket.socket(fileno={theirs.fileno()}))"
    )
    process = subprocess.Popen(  # noqa: S603, this very Python
        [sys.executable, "-I", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(), rehearsal.fd),
    )
    return lambda: max(0, -process.wait())


def serve(rehearsal: Rehearsal, theirs: socket.socket) -> None:
    """Take requests until there are no more; a request that never ends is ended by SIGPROF."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the parent's to handle: this ends with it
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with theirs, theirs.makefile("rb") as requests:
        for line in requests:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            with suppress(Exception):  # an error is a way of coming back; it will come up again outside
                rehearsal(json.loads(line))
            signal.setitimer(signal.ITIMER_PROF, 0)
            theirs.sendall(_DONE)
