"""gncli in a process of its own: one that can be stopped at a known read or write, and the memory that it took."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent

# From the k-th read or write on each one takes so long that the rest would take minutes; the k-th says so.
HOOK = """
import itertools, os, sys, time
from gncli.io.rawfile import RawFile
from gncli.io.atomic import OutputFile
import gncli.io.rawfile

def stopping(real, at):
    count = itertools.count()
    def call(*given):
        number = next(count)
        if number == at:
            os.write(2, b"at tile\\n")
        if number >= at:
            time.sleep(0.3)
        return real(*given)
    return call

RawFile.read = stopping(RawFile.read, {read})
OutputFile.write = stopping(OutputFile.write, {write})
"""
NEVER = 10**9

WATCH = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "gncli", *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, file=sys.stderr)
"""


def uncovered() -> dict[str, str]:
    """Return the environment of a process whose lines are not counted: that takes time, and a kill loses the counts."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def start(
    arguments: list[str],
    hook: str = "",
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.PIPE,
    at_start: Callable[[], object] | None = None,
    covered: bool = False,
    **environment: str,
) -> subprocess.Popen[bytes]:
    # A process that is sent a signal is not covered: coverage would hang if one came while it holds its lock.
    left_out = ("PYTHONUNBUFFERED", "GNCLI_", *(() if covered else ("COV",)))
    inherited = {k: v for k, v in os.environ.items() if k == "GNCLI_KERNEL" or not k.startswith(left_out)}
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys\n{hook}\nfrom gncli.__main__ import main\nsys.exit(main())", *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        preexec_fn=at_start,
    )


def ended(process: subprocess.Popen[bytes], limit: float = 60) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=limit)
    return process.returncode, out or b"", err


IN_SMALL_PARTS = """
import sys
from gncli.io.remote import upload
upload.LEAST_PART, upload.MIB = 1 << 17, 1 << 10
from gncli.__main__ import main
sys.argv[1:] = {words!r}
sys.exit(main())
"""


def killed_in_an_upload(words: list[str], begun: threading.Event, signum: int) -> tuple[int, str, str]:
    """Run gncli, whose uploads have small parts, and send it a signal once its upload has begun; return its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", IN_SMALL_PARTS.format(words=words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=uncovered(),
    )
    assert begun.wait(30)
    process.send_signal(signum)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def peak(arguments: list[str]) -> int:
    """Run gncli, and return the most bytes that it held at once.

    A process is counted with what its parent held when it was begun, so a small one stands between.
    """
    command = [sys.executable, "-c", WATCH, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    status, kilobytes = map(int, done.stderr.split())
    assert status == 0
    return kilobytes * (1 if sys.platform == "darwin" else 1024)
