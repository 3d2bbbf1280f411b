"""Where the time of one run goes: ``python -m tests.benchmarks.stages normalize FILE -G 4 -o OUT``.

The run has one worker. Functions of gncli and of the system are replaced by ones that look at the clock, in this
process alone; what one of them calls counts for the innermost. A function that is no longer there is an error here,
so that the table cannot go out of date in silence.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

STAGES = {
    "read": [("os", "preadv")],
    "decode": [("gncli.io.formats.hdf5.chunks", "decode")],
    "moments": [("gncli.kernels.moments", "measure_blocks")],
    "map": [("gncli.run.normalization", "normalize_region"), ("gncli.run.normalization", "verify_region")],
    "settle": [("gncli.run.normalization", "settle")],
    "write": [("os", "pwrite"), ("os", "posix_fallocate")],
    "sync": [("os", "fsync")],
}


class Clock:
    """Seconds by stage; what a thread does in a stage inside another one counts for the inner one."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._local = threading.local()

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, whose time counts for `stage`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            outer = getattr(self._local, "inner", None)
            self._local.inner = inner = [0.0]
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - started
                self.seconds[stage] += took - inner[0]
                if outer is not None:
                    outer[0] += took
                self._local.inner = outer

        return call


def main() -> int:
    """Run gncli with the words of the command line, and print the seconds as JSON."""
    import importlib

    started = time.perf_counter()
    importlib.import_module("gncli.cli")
    importlib.import_module("gncli.run.normalization")
    imported = time.perf_counter() - started
    clock = Clock()
    for stage, places in STAGES.items():
        for name, function in places:
            module = importlib.import_module(name)
            setattr(module, function, clock.timed(stage, getattr(module, function)))
    from gncli.cli import main as gncli

    started = time.perf_counter()
    sys.argv = ["gncli", *sys.argv[1:], "-q", "--workers", "1"]
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            gncli()
    except SystemExit as done:
        if done.code:
            raise
    total = time.perf_counter() - started
    found = {"import": imported, **{stage: clock.seconds[stage] for stage in STAGES}}
    print(json.dumps({**found, "the rest": total - sum(clock.seconds.values()), "all": imported + total}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
