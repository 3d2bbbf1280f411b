"""Memory does not grow with the input: whole processes, their peak as the system counted it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.files import MIB, sparse_npy
from tests.processes import peak

LARGE = (200 * MIB, 2048 * MIB)
CASES = {
    "NCHW": ((-1, 64, 56, 56), ["normalize", "{x}", "--groups", "4"], LARGE),
    "NHWC": ((-1, 56, 56, 64), ["normalize", "{x}", "--groups", "4", "--layout", "NHWC"], LARGE),
    "one group": ((1, 8, -1), ["normalize", "{x}", "--groups", "1"], LARGE),
    "one group, NumPy": ((1, 8, -1), ["normalize", "{x}", "--groups", "1"], (64 * MIB, 256 * MIB)),
    "backward": ((-1, 64, 56, 56), ["backward", "{x}", "{x}", "--groups", "4"], (64 * MIB, 400 * MIB)),
    "backward, one group": ((1, 8, -1), ["backward", "{x}", "{x}", "--groups", "1"], (64 * MIB, 400 * MIB)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_large_tensor_takes_the_memory_of_a_small_one(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "NumPy" in case:
        monkeypatch.setenv("GNCLI_KERNEL", "plain")
    shape, words, sizes = CASES[case]
    peaks = []
    for nbytes in sizes:
        path = tmp_path / f"{nbytes}.npy"
        sparse_npy(path, shape, nbytes)
        peaks.append(peak([word.format(x=path) for word in words]))
        path.unlink()
    assert peaks[1] < 200e6
    assert abs(peaks[1] - peaks[0]) < 16e6
