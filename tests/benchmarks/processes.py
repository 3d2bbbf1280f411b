"""Whole processes, timed from outside, so that start-up and the writing of a report count."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

USAGE = 2  # gncli's status for an option that it does not have


@dataclass(frozen=True)
class Sample:
    """What one run of a process took.

    Attributes
    ----------
    seconds : float
        From before its start to after its end.
    cpu : float
        Seconds of processors, its own and the system's.
    peak : int
        The most bytes it held in memory at once. That of the process it was started from is the least there can be.
    """

    seconds: float
    cpu: float
    peak: int


class Skipped(Exception):
    """Why a competitor did not run, in a few words."""


def _environment() -> dict[str, str]:
    """Return ours, in which gncli may keep its bytecode, as it is kept where pip has installed it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(command: Sequence[str]) -> Sample:
    """Run a command without input, its output thrown away, and return what it took.

    Raises
    ------
    Skipped
        If gncli does not know an option, or Python a module.
    RuntimeError
        If it fails in any other way.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=_environment()
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = code = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    last = said.splitlines()[-1] if said else ""
    if code == USAGE:
        raise Skipped(f"refused: {last}")
    if "No module named" in last:
        raise Skipped(last.removeprefix("ModuleNotFoundError: "))
    if code:
        raise RuntimeError(f"{' '.join(command)}: status {code}: {said[-2000:]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Sample(seconds, usage.ru_utime + usage.ru_stime, peak)
