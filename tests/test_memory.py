"""Memory does not grow with the input: whole processes, their peak as the system counted it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gncli.io.formats.npy import header_bytes

MIB = 1 << 20

CASES = {
    "NCHW": ((-1, 64, 56, 56), ["--groups", "4"]),
    "NHWC": ((-1, 56, 56, 64), ["--groups", "4", "--layout", "NHWC"]),
    "one group": ((1, 8, -1), ["--groups", "1"]),
}


def sparse_npy(path: Path, shape: tuple[int, ...], nbytes: int) -> None:
    """Make a float32 .npy of about `nbytes` that takes no room on the disk; -1 is the axis that makes it so large."""
    import numpy as np

    rest = 4 * abs(int(np.prod(shape)))
    full = tuple(nbytes // rest if size < 0 else size for size in shape)
    header = header_bytes(full, np.dtype(np.float32), "C")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + rest * (nbytes // rest))


WATCH = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "gncli", *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, file=sys.stderr)
"""


def peak(arguments: list[str]) -> int:
    """Run gncli, and return the most bytes that it held at once.

    A process is counted with what its parent held when it was begun, so a small one stands between.
    """
    command = [sys.executable, "-c", WATCH, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    status, kilobytes = map(int, done.stderr.split())
    assert status == 0
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_gigabytes_take_the_memory_of_two_hundred_megabytes(case: str, tmp_path: Path) -> None:
    shape, options = CASES[case]
    peaks = []
    for nbytes in (200 * MIB, 2048 * MIB):
        path = tmp_path / f"{nbytes}.npy"
        sparse_npy(path, shape, nbytes)
        peaks.append(peak(["normalize", str(path), *options]))
        path.unlink()
    assert peaks[1] < 200e6
    assert abs(peaks[1] - peaks[0]) < 16e6
