"""A child process that does everything first, so that a crash or a hang ends the child and not this process.

Notes
-----
libhdf5 is "not designed to handle maliciously crafted files safely" (its own SECURITY.md), and no care inside a process
helps against a crash in it. So this process asks libhdf5 for nothing that the child has not done before and survived.

The child is a fork if this process has no other thread, which is why files are opened before the workers start: a
forked lock that another thread holds would never be released. Otherwise, and on systems where a fork alone is not safe,
the child is a new Python. It takes requests and answers them, each a line of JSON: ``{"answer": ...}`` or ``{"error":
[status, problem, hint]}``. An answer is trusted as little as the file: its size is limited, and it is checked before it
is used.
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
from functools import partial
from typing import Any, NamedTuple, Protocol

from gncli import signals
from gncli.errors import ChangedError, GncliError, InputError, LimitError
from gncli.io.formats.hdf5.calls import calling

CPU_SECONDS = 5.0  # per request; CPU time, so that a slow disk or a busy machine does not count as a hang
MAX_ANSWER_NBYTES = 64 << 20
EXTRA_NBYTES = 1 << 30  # of memory, besides what the process has at its start and what the rehearsal needs

_ERRORS: dict[int, type[GncliError]] = {error.status: error for error in (InputError, LimitError, ChangedError)}


class Rehearsal(Protocol):
    """What the child does. Its `repr` is an expression that makes it again, evaluated in the module that defines it."""

    fd: int

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it may take, besides `EXTRA_NBYTES`."""

    def __call__(self, task: str, member: str) -> object:
        """Do the task and return something that JSON can represent. Any exception counts as survived."""


class Died(Exception):
    """The child ended by the signal `signum` instead of answering."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class _Process(NamedTuple):
    pid: int
    wait: Callable[[], int]  # returns the signal that ended it, or 0


class Child:
    """The child process. It is started by the first request, and started again after it died.

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

    def ask(self, task: str, member: str = "", seconds: float | None = None) -> Any:
        """Return what the rehearsal returned for this task.

        Raises
        ------
        Died
            If the child did not survive it.
        GncliError
            The error that came up in the child, without a subject; a LimitError if it takes longer than `seconds`.
        OSError
            If no child can be started.
        """
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            with theirs:
                safe = sys.platform == "linux" and threading.active_count() == 1
                with signals.Deferred():
                    self._process = (_forked if safe else _spawned)(self._rehearsal, self._socket, theirs)
                    signals.cleanups[self] = partial(os.kill, self._process.pid, signal.SIGKILL)
        self._busy = True
        try:
            answer = self._exchange(self._socket, json.dumps([task, member]).encode() + b"\n", seconds)
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
        return answer["answer"]

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
        """End the child and return the signal that ended it, or 0; without a child, do nothing."""
        if self._socket is None:
            return 0
        with suppress(OSError):  # a child that was forked later has a copy of the socket, so closing it is not enough
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._socket = None
        if self._busy:  # it notices the closed socket only after the current request
            self._busy = False
            os.kill(self._process.pid, signal.SIGKILL)
        signals.cleanups.pop(self, None)
        return self._process.wait()


def _message(data: bytes) -> dict[str, Any] | None:
    """Return a message of the child, or None if it is malformed."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    match message:
        case {"error": [int(status), str(), str() | None]} if status in _ERRORS:
            return {"error": message["error"]}
        case {"answer": answer}:
            return {"answer": answer}
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
        finally:  # the child must not run any clean-up of the parent
            os._exit(0)

    def wait() -> int:
        return max(0, -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    return _Process(pid, wait)


def _spawned(rehearsal: Rehearsal, _ours: socket.socket, theirs: socket.socket) -> _Process:
    module = type(rehearsal).__module__
    code = (
        f"import socket, sys; sys.path[:] = {sys.path!r}; "
        f"from gncli.inputs import *; from {module} import *; from gncli.io.formats.hdf5.rehearsal import serve; "
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
    """Answer requests until there are no more; SIGPROF ends a request that never ends."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the parent handles them, and ends the child
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _limit_memory(EXTRA_NBYTES + rehearsal.nbytes)
    with theirs, theirs.makefile("rb") as requests:
        for line in requests:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            message = _attempt(rehearsal, *json.loads(line))
            signal.setitimer(signal.ITIMER_PROF, 0)
            theirs.sendall(message)


def _attempt(rehearsal: Rehearsal, task: str, member: str) -> bytes:
    """Return the message that says how it went."""
    ignored: list[BaseException | None] = []
    previous, sys.unraisablehook = sys.unraisablehook, lambda given: ignored.append(given.exc_value)
    try:
        with calling("", "makes libhdf5 fail in a trial run"):
            message = json.dumps({"answer": rehearsal(task, member)}).encode() + b"\n"
            # Python would print an exception of a destructor, as h5py's have one, and go on.
            for error in filter(None, ignored):
                raise error
        if len(message) <= MAX_ANSWER_NBYTES:
            return message
        raise LimitError(f"has names of {len(message):,} bytes together")
    except GncliError as error:
        return json.dumps({"error": [error.status, error.problem, error.hint]}).encode() + b"\n"
    except MemoryError:
        problem = "would take more memory than any file should"
        return json.dumps({"error": [LimitError.status, problem, None]}).encode() + b"\n"
    finally:
        sys.unraisablehook = previous


def _limit_memory(nbytes: int) -> None:
    """Let this process take at most `nbytes` of memory besides what it has, so that no file makes it take all."""
    if sys.platform == "linux":  # pragma: no branch  # other systems ignore the limit
        with open("/proc/self/statm", "rb") as statm:
            has = int(statm.read().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = min(has + nbytes, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY), sys.maxsize)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
