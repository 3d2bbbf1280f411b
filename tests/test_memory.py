"""Memory does not grow with the input: whole processes, their peak as the system counted it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.files import MIB, sparse_npy
from tests.processes import peak

CASES = {
    "NCHW": ((-1, 64, 56, 56), ["--groups", "4"]),
    "NHWC": ((-1, 56, 56, 64), ["--groups", "4", "--layout", "NHWC"]),
    "one group": ((1, 8, -1), ["--groups", "1"]),
}


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
