"""A rehearsal in another process, which a crash or a hang ends in this one's stead.

Notes
-----
libhdf5 is "not designed to handle maliciously crafted files safely" (its own SECURITY.md), and no care inside a process
helps against a crash in it. So whatever it is asked here, another process has been asked before, and has come back.

That process is a fork where this one has no other thread, which is why files are opened before the workers start; a
forked lock that another thread holds would never be let go. Elsewhere, and on systems where a fork alone is not safe,
it is a Python of its own. It takes requests and answers them, each a line of JSON: ``{"answer": ...}``, ``{"error":
[status, problem, way out]}``, or ``{}`` where it failed in a way that is for the asking process to meet itself. What
comes back is as little to be trusted as the file: it is bounded, and checked before it is used.
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
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from gncli.errors import ChangedError, GncliError, InputError, LimitError

CPU_SECONDS = 5.0  # that one request may take: not of the clock, so that a slow disk or a busy machine is no hang
MAX_ANSWER_NBYTES = 64 << 20
ROOM_NBYTES = 1 << 30  # of memory, besides what the process has when it begins and what the rehearsal needs

_ERRORS: dict[int, type[GncliError]] = {error.status: error for error in (InputError, LimitError, ChangedError)}


class Rehearsal(Protocol):
    """What is to be tried first. Its `repr` is an expression that makes it again, in the module that it is from."""

    fd: int

    @property
    def room(self) -> int:
        """The bytes of memory that it may take, besides `ROOM_NBYTES`."""

    def __call__(self, request: str) -> object:
        """Do what the request says, and return what JSON can say; whatever it raises, it has come back."""


class Died(Exception):
    """The other process did not come back: it ended by the signal `signum`."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class _Process(NamedTuple):
    pid: int
    wait: Callable[[], int]  # gives the signal that it died of, or 0


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
        self._process = _Process(0, lambda: 0)
        self._busy = False

    def ask(self, request: str, seconds: float | None = None) -> Any:
        """Return what the rehearsal returned when it did as `request` says; None if it failed, but not by a GncliError.

        Raises
        ------
        Died
            If the other process did not come back.
        GncliError
            What the rehearsal raised, without a subject; a LimitError if it takes longer than `seconds`.
        OSError
            If there can be no other process.
        """
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            with theirs:
                safe = sys.platform == "linux" and threading.active_count() == 1
                self._process = (_forked if safe else _spawned)(self._rehearsal, self._socket, theirs)
        self._busy = True
        try:
            answer = self._exchange(self._socket, json.dumps(request).encode() + b"\n", seconds)
        except TimeoutError:
            self.close()
            raise LimitError(f"takes longer than {seconds:g} s") from None
        if answer is None:
            raise Died(self.close() or signal.SIGKILL)
        self._busy = False
        error = answer.get("error")
        if error is not None:
            status, problem, hint = error
            raise _ERRORS[status](problem, hint=hint)
        return answer.get("answer")

    def _exchange(self, ours: socket.socket, request: bytes, seconds: float | None) -> dict[str, Any] | None:
        """Return the message that answers `request`; None if none comes, or one that cannot be right."""
        end = None if seconds is None else time.monotonic() + seconds
        data = bytearray()
        with suppress(BrokenPipeError, ConnectionResetError):
            ours.sendall(request)
            while len(data) <= MAX_ANSWER_NBYTES and not data.endswith(b"\n"):
                ours.settimeout(None if end is None else max(1e-3, end - time.monotonic()))
                piece = ours.recv(1 << 16)
                if not piece:
                    break
                data += piece
        return _message(bytes(data))

    def close(self) -> int:
        """End the other process, and return the signal it died of, if it did; without one, do nothing."""
        if self._socket is None:
            return 0
        self._socket.close()
        self._socket = None
        if self._busy:  # it will not see that nobody listens any more before it has done what it does
            self._busy = False
            os.kill(self._process.pid, signal.SIGKILL)
        return self._process.wait()


def _message(data: bytes) -> dict[str, Any] | None:
    """Return a message of the other process, or None if it is none."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    match message:
        case {"error": [int(status), str(), str() | None]} if status in _ERRORS:
            return {"error": message["error"]}
        case {"answer": answer}:
            return {"answer": answer}
        case {**rest} if not rest:
            return {}
    return None


def _forked(rehearsal: Rehearsal, ours: socket.socket, theirs: socket.socket) -> _Process:
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

    return _Process(pid, wait)


def _spawned(rehearsal: Rehearsal, _ours: socket.socket, theirs: socket.socket) -> _Process:
    module = type(rehearsal).__module__
    code = (
        f"import socket, sys; sys.path[:] = {sys.path!r}; "
        f"from {module} import *; from gncli.io.formats.hdf5.rehearsal import serve; "
        f"serve({rehearsal!r}, socket.socket(fileno={theirs.fileno()}))"
    )
    process = subprocess.Popen(  # noqa: S603, this very Python
        [sys.executable, "-I", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(), rehearsal.fd),
    )
    return _Process(process.pid, lambda: max(0, -process.wait()))


def serve(rehearsal: Rehearsal, theirs: socket.socket) -> None:
    """Take requests until there are no more; a request that never ends is ended by SIGPROF."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the parent's to handle: this ends with it
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _limit_memory(ROOM_NBYTES + rehearsal.room)
    with theirs, theirs.makefile("rb") as requests:
        for line in requests:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            message = _attempt(rehearsal, json.loads(line))
            signal.setitimer(signal.ITIMER_PROF, 0)
            theirs.sendall(message)


def _attempt(rehearsal: Rehearsal, request: str) -> bytes:
    """Return the message that says what came of it."""
    try:
        message = json.dumps({"answer": rehearsal(request)}).encode() + b"\n"
        if len(message) <= MAX_ANSWER_NBYTES:
            return message
        raise LimitError(f"has names of {len(message):,} bytes together")
    except GncliError as error:
        return json.dumps({"error": [error.status, error.problem, error.hint]}).encode() + b"\n"
    except MemoryError:
        problem = "would take more memory than any file should"
        return json.dumps({"error": [LimitError.status, problem, None]}).encode() + b"\n"
    except Exception:  # noqa: BLE001  # it will come up again outside, where it is seen
        return b"{}\n"


def _limit_memory(room: int) -> None:
    """Let this process take no more than `room` bytes besides what it has, so that no file makes it take all."""
    if sys.platform == "linux":  # pragma: no branch  # elsewhere the limit is not kept to
        with open("/proc/self/statm", "rb") as statm:
            has = int(statm.read().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = min(has + room, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY), sys.maxsize)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
