"""Many runs of gncli in little time: a process that has imported everything forks a child for each.

Notes
-----
`runner` starts it, with `faults.c` preloaded if calls are to fail. On stdin comes a run a line, a `Run` as JSON; on
stdout goes what became of it, an `End`. A child ends as any process does, by way of `sys.exit`: what libhdf5 does at
exit is a part of what is tested.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import mmap
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
HOWS = {"once": 0, "forever": 1, "short": 2, "signal": 3}
LINES = tuple("atomic atomic_folder cli group __init__ rehearsal pipe signals terminal".split())
"""Modules whose lines count for the call ``line``: they make, remove and end what is temporary."""


class Run(NamedTuple):
    """A command line, the directory that it is run in, and what shall fail.

    Attributes
    ----------
    call : str
        write, pwrite, fsync, fallocate, truncate, rename, unlink, close, open or mmap; or ``line``, of Python, for a
        signal. Nothing fails without one.
    nth : int
        Which call of that kind, from 1 on.
    how : str
        A key of `HOWS`.
    error : int
        The errno, or the signal.
    seconds : float
        When to kill it; 0 never does.
    stdin : str
        A file whose bytes, 64 KiB at most, come to it through a pipe.
    quick : bool
        Whether it ends without taking the interpreter apart, which takes longer than a small run.
    """

    arguments: list[str]
    directory: str
    call: str = ""
    nth: int = 0
    how: str = "once"
    error: int = 0
    seconds: float = 0.0
    stdin: str = ""
    quick: bool = False


class End(NamedTuple):
    """How it ended: status, or minus a signal; what it said; whether the call that shall fail was made."""

    status: int
    out: str
    err: str
    fired: bool


Do = Callable[[Run], End]


@contextlib.contextmanager
def runner(preload: Path | None = None, *, imported: bool = True) -> Iterator[Do]:
    """Give a function that does a run; unless gncli is `imported` once for all, each run imports what it needs."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "COVERAGE_", "GNCLI_"))}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults", *["imported"] * imported],
        cwd=Path(__file__).parent.parent,
        env=environment | ({} if preload is None else {"LD_PRELOAD": str(preload)}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def do(run: Run) -> End:
            stdin.write(json.dumps(run) + "\n")
            stdin.flush()
            return End(*json.loads(stdout.readline()))

        yield do
        stdin.close()


def child(run: Run, stdin: int, streams: list[tuple[int, int]], arm: Any, fired: ctypes.c_int) -> int:
    """Do the run, and return its status."""
    from gncli.cli import main

    os.chdir(run.directory)
    os.dup2(stdin, 0)
    os.close(stdin)
    for fd, (reader, writer) in enumerate(streams, 1):
        os.dup2(writer, fd)
        os.close(reader)
        os.close(writer)
    if run.call == "line":
        sys.settrace(interrupting(run, fired))
    elif arm is not None:
        arm(run.call.encode(), run.nth, HOWS[run.how], run.error, ctypes.byref(fired))
    status = main(run.arguments, program=True)
    if run.quick:
        os._exit(status)
    return status


def interrupting(run: Run, fired: ctypes.c_int) -> Callable[..., Any]:
    """Return a function to trace with, which sends the signal before the n-th line of the modules of `LINES`.

    The lines before gncli has taken the signals do not count: Python handles what comes there.
    """
    from gncli import signals

    seen = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Callable[..., Any] | None:
        nonlocal seen
        if "/gncli/" not in frame.f_code.co_filename or Path(frame.f_code.co_filename).stem not in LINES:
            return None
        if event == "line" and signals._taken:
            seen += 1
            if seen == run.nth:
                fired.value = 1
                signal.raise_signal(run.error)
        return trace

    return trace


def piped(data: bytes) -> int:
    """Return the end of a pipe from which `data` can be read."""
    reader, writer = os.pipe()
    assert os.write(writer, data) == len(data)
    os.close(writer)
    return reader


def main() -> int:
    """Do the runs that stdin tells of, one after the other."""
    import h5py  # noqa: F401

    import gncli

    if sys.argv[1:] == ["imported"]:
        for module in pkgutil.walk_packages(gncli.__path__, "gncli."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    library = ctypes.CDLL(None)
    arm = getattr(library, "fault_arm", None)
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(shared))  # faults.c writes to it as long as a child makes calls
    fired = ctypes.c_int.from_buffer(shared)
    gc.collect()
    gc.freeze()  # what is never looked through stays shared with the children
    for line in sys.stdin:
        run = Run(*json.loads(line))
        fired.value = 0
        streams = [os.pipe(), os.pipe()]
        stdin = piped(Path(run.directory, run.stdin).read_bytes() if run.stdin else b"")
        pid = os.fork()
        if pid == 0:
            return child(run, stdin, streams, arm if run.call else None, fired)
        os.close(stdin)
        for _, writer in streams:
            os.close(writer)
        if run.seconds:
            time.sleep(run.seconds)
            os.kill(pid, signal.SIGKILL)
        out, err = (os.fdopen(reader, "rb").read().decode() for reader, _ in streams)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps(End(status, out, err, bool(fired.value))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
