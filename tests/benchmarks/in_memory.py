"""`gncli.group_norm` against PyTorch's in memory.

``python -m tests.benchmarks.in_memory PYTHON_WITH_TORCH [ROUNDS [SHAPE]]``

Both run in turns, in processes of their own that stay: neither start-up nor imports count.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

CODE = """
import os, sys, time
import numpy as np
x = np.random.default_rng(0).standard_normal({shape}, np.float32)
{setup}
for _ in sys.stdin:
    started = time.perf_counter()
    {call}
    print(time.perf_counter() - started, flush=True)
"""
SHAPE = "(64, 16, 112, 112)"
OURS = ("import gncli", "gncli.group_norm(x, 4)")
THEIRS = (
    "import torch; torch.set_num_threads(len(os.sched_getaffinity(0))); t = torch.from_numpy(x)",
    "torch.nn.functional.group_norm(t, 4)",
)


def main(arguments: list[str]) -> int:
    """Print the medians, and their ratio."""
    python, rounds, shape = (*arguments, *("20", SHAPE)[len(arguments) - 1 :])
    ours, theirs = medians(python, int(rounds), shape)
    print(line(ours, theirs))
    return 0


def line(ours: float, theirs: float) -> str:
    """Return what is printed of the medians."""
    return f"gncli.group_norm {ours:.4f} s, PyTorch {theirs:.4f} s: {ours / theirs:.2f} x its time (target 0.6)"


def medians(python: str, rounds: int, shape: str = SHAPE) -> tuple[float, float]:
    """Return the medians of both in seconds, with as many threads as there are processors."""
    found: list[list[float]] = []
    processes = []
    for program, (setup, call) in ((sys.executable, OURS), (python, THEIRS)):
        code = CODE.format(shape=shape, setup=setup, call=call)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen([program, "-c", code], **pipes))  # type: ignore[call-overload]
        found.append([])
    for _ in range(rounds):
        for process, times in zip(processes, found, strict=True):
            process.stdin.write("\n")
            process.stdin.flush()
            times.append(float(process.stdout.readline()))
    for process in processes:
        process.communicate()
    ours, theirs = (statistics.median(times) for times in found)
    return ours, theirs


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
