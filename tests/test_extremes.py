"""Every dtype, with its most hostile values, in every shape: numbers or null, never a warning or a traceback.

Warnings are errors in these tests, so that one would end a command with status 70.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.cli import main
from tests.archives import entry, tensors
from tests.marks import slow_but

DTYPES = ["?", "u1", "i4", "u8", ">i8", "f2", ">f4", "f8"]
FAILED = re.compile(r"[^\n]*: the check failed: [^\n]+; nothing was written\n")
NARROW = {
    "BF16": ("<u2", [0x7F7F, 0xFF7F, 1, 0x8001, 0x8000, 0, 0x3F80], [0x7FC0, 0x7F80, 0xFF80]),
    "F8_E4M3": ("u1", [126, 254, 1, 129, 128, 0, 56], [127, 255]),
    "F8_E5M2": ("u1", [123, 251, 1, 129, 128, 0, 60], [124, 252, 126]),
}
SHAPES = [(), (1,), (0, 4, 2), (2, 4, 0), (3, 8), (2, 4, 5, 3)]
NORMS = [
    ["--eps", "0"],
    ["--denominator", "variance", "--eps", "0"],
    ["--eps", "1e300", "--gamma", "1e30", "--beta", "-1e308", "--stages"],
]
Run = Callable[..., tuple[int, str]]


def hostile(dtype: str) -> dict[str, NDArray[Any]]:
    """Return values of `dtype` at the ends of its range, by what they are."""
    kind = np.dtype(dtype).newbyteorder("=")
    if kind.kind == "b":
        return {"both": np.array([True, False]), "one": np.array([True])}
    if kind.kind in "iu":
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        values = {"ends": [low, high, 0, 1, high - 1], "most": [high], "least": [low]}
        return {name: np.array(of, dtype) for name, of in values.items()}
    info = np.finfo(kind)
    most, tiny = float(info.max), float(info.smallest_subnormal)
    floats = {
        "ends": [most, -most, tiny, -tiny, float(info.tiny), -0.0, 1.0],
        "not finite": [np.nan, np.inf, -np.inf, most, tiny],
        "NaN": [np.nan],
        "infinite": [-np.inf],
        "most": [most],
        "large": [most, most / 2],
        "subnormal": [tiny, 3 * tiny, 0.0],
        "zeros": [-0.0, 0.0],
    }
    if kind.itemsize == 8:
        floats |= {"1e-170": [1e-170, 3e-170, -5e-170], "1e300": [1e300, -3e300, 2e299]}
    return {name: np.array(of, dtype) for name, of in floats.items()}


def npy_files(dtype: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Write files of the hostile values; yield their names and shapes."""
    for name, values in hostile(dtype).items():
        for place, shape in enumerate(SHAPES):
            np.save(f"{name} {place}.npy", np.resize(values, shape))
            yield f"{name} {place}.npy", shape


def narrow_files(kind: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Write files of a dtype that NumPy does not have; yield their names and shapes."""
    raw, finite, others = NARROW[kind]
    for name, values in (("ends", finite), ("not finite", finite + others)):
        for place, shape in enumerate(SHAPES):
            data = np.resize(np.array(values, raw), shape).tobytes()
            header = {"a": entry(kind, list(shape), 0, len(data))}
            Path(f"{name} {place}.safetensors").write_bytes(tensors(header, data))
            yield f"{name} {place}.safetensors", shape


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs a command in `tmp_path`: its status and stdout; stderr says at most why it is 1."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        status = main(arguments)
        out, err = capfd.readouterr()
        err = re.sub("gncli: eps is .* not 1\n", "", err)  # of so small deviations
        assert err == "" or (status == 1 and FAILED.fullmatch(err)), (err, arguments)
        assert status in (0, 1)
        return status, out

    return run


@pytest.mark.slow
@pytest.mark.parametrize("dtype", slow_but([*DTYPES, *NARROW], "?"))
def test_statistics_and_differences_of_hostile_values(dtype: str, run: Run) -> None:
    files = list(narrow_files(dtype) if dtype in NARROW else npy_files(dtype))
    for name, shape in files:
        status, out = run("stats", name, "-s", "all,median,p37.5", "--hist", "--bins", "5", "--format", "json")
        assert (status, json.loads(out)["tensors"][0]["shape"]) == (0, list(shape))
        run("stats", name, "-s", "all", "--ddof", "1", "--total", "--hist")
        if shape:
            run("stats", name, "--by", "0", "-s", "all,p25", "--format", "csv")
        status, out = run("diff", name, name, "--hist")
        assert (status, "INCONCLUSIVE: b holds no finite element" in out) in ((0, False), (1, True))
    for (left, shape), (right, other) in zip(files, files[len(SHAPES) :], strict=False):
        assert shape == other
        for options in (["--hist"], ["--rtol", "10", "--max-fraction", "0.6"]):
            json.loads(run("diff", left, right, *options, "--format", "json")[1])
            run("diff", right, left, *options)


@pytest.mark.parametrize("dtype", slow_but([*DTYPES, *NARROW], "?"))
def test_normalizations_of_hostile_values(dtype: str, run: Run) -> None:
    for name, shape in narrow_files(dtype) if dtype in NARROW else npy_files(dtype):
        if len(shape) < 2:
            continue
        layout = ["-G", "2", "--layout", {2: "NC", 3: "NCL", 4: "NCHW"}[len(shape)]]
        for norm in NORMS:
            kind = ["--dtype", "float32"] if dtype in NARROW else []
            run("normalize", name, *layout, *norm, *kind, "--save-moments", "m.npz", "-f")
        _, out = run("normalize", name, *layout, "--dtype", "float16", "--hist", "--format", "json")
        json.loads(out)


@pytest.mark.slow
@pytest.mark.parametrize("values", [[1e308, 1.79e308, -1e308], [1.79e308, -1.79e308, 5e-324], [1e-170, 5e-324, 1e308]])
def test_a_command_of_its_own_warns_nobody(values: list[float], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.resize(np.array(values), (2, 30)))
    for arguments in (
        ["stats", "x.npy", "-s", "all,median", "--by", "0"],
        ["stats", "x.npy", "--hist"],
        ["stats", "x.npy", "-s", "var,l2,skewness,kurtosis", "--ddof", "1", "--total"],
        ["diff", "x.npy", "x.npy", "--hist"],
        ["normalize", "x.npy", "-G", "3"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "gncli", *arguments], cwd=tmp_path, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
