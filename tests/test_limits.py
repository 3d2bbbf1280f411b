"""Limits of the machine: too little memory, too few descriptors, no threads; and what gncli takes of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from gncli.cli import main
from tests.files import MIB, sparse_npy
from tests.processes import ROOT, peak

pytestmark = pytest.mark.slow


def limited(arguments: list[str], limit: Callable[[], object], code: str = "") -> tuple[int, str, str]:
    """Run gncli under a limit that is set once everything is imported, and return status, stdout and stderr."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GNCLI_", "COV_", "COVERAGE_"))}
    script = f"""
import resource, sys, threading
import difflib, h5py, gncli.tasks.normalize, gncli.report.table, gncli.io.formats.hdf5
from gncli.cli import main
{code}
sys.exit(main())"""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=limit,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to RLIMIT_AS")
def test_too_little_memory_is_5_and_names_the_options(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 1 << 18), np.float32))
    statuses = []
    for more in [*range(0, 64, 4), 96, 128, 256, 512]:
        code = f"""
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
threading.stack_size(1 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size + {more * MIB},) * 2)"""
        status, out, err = limited(
            ["normalize", str(tmp_path / "x.npy"), "--groups", "1", "--workers", "4"], lambda: None, code
        )
        assert status in (0, 5), (more, err)
        lines = [line for line in err.splitlines() if not re.search("threads could be started", line)]
        assert len(lines) == (status == 5), (more, err)
        assert status == 0 or ("--workers" in err and "--tile" in err and out == ""), (more, err)
        statuses.append(status)
    assert {0, 5} == set(statuses)
    assert statuses[-1] == 0


COMMANDS = {
    "stats": "stats x.npy",
    "normalize": "normalize x.npy -G 2 -o y.npy -f --report r.json --plot p.png",
    "diff": "diff x.npy x.npy",
    "random": "random 16,256 --seed 1 -o d.h5 -f",
    "version": "--version -v",
    "help": "--help",
}
ENTRY = "import sys; from gncli.__main__ import main; sys.exit(main())"
STEPS = (1, 8, 40, 80, 100, 120, 150, 190, 300)  # MiB more than Python takes


def least_for_python() -> int:
    """Return the MiB of address space in which Python itself starts, and can import a module."""
    for mebibytes in range(4, 400, 2):
        if within(mebibytes, "-c", "import signal").returncode == 0:
            return mebibytes
    raise AssertionError("Python does not start in 400 MiB")


def within(mebibytes: int, *arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a limited address space."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes * MIB,) * 2)

    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GNCLI_", "COV", "OPENBLAS_", "OMP_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT)},
        preexec_fn=limit,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to RLIMIT_AS")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("steps", [STEPS, pytest.param(range(1, 300), marks=pytest.mark.soak)], ids=["few", "all"])
def test_any_limit_of_memory_is_5_and_one_line(command: str, steps: Iterable[int], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((8, 4, 256), np.float32))
    least, statuses = least_for_python(), []
    for step in steps:
        arguments = COMMANDS[command].split()
        done = within(least + step, "-c", ENTRY, *arguments, directory=tmp_path)
        statuses.append(done.returncode)
        assert done.returncode in (0, 5), (step, done)
        assert done.stderr.count("\n") == (done.returncode == 5), (step, done)
        assert done.stderr.startswith("gncli: error: ") or done.returncode == 0, (step, done)
        assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"], (step, done)
        if statuses[-2:] == [0, 0] and steps is STEPS:
            break
    assert statuses[-1] == 0


def test_too_few_descriptors_are_an_error_of_the_contract(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 8)))
    with (tmp_path / "x.npy").open("rb"):
        statuses = []
        for count in range(3, 24):
            code = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({count},) * 2)"
            given = ["normalize", str(tmp_path / "x.npy"), "--groups", "1", "-o", str(tmp_path / "y.npy"), "-f"]
            status, _, err = limited(given, lambda: None, code)
            assert status in (0, 3, 4, 5), (count, err)
            assert "Traceback" not in err, (count, err)
            assert err.count("\n") == (1 if status else 0), (count, err)
            statuses.append(status)
    assert statuses[-1] == 0
    assert statuses[0] != 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.npy", "y.npy"]


class NoThread(threading.Thread):
    """A thread that the system has no room for after `free` others."""

    free = 0

    def start(self) -> None:
        if NoThread.free == 0:
            raise RuntimeError("can't start new thread")
        NoThread.free -= 1
        super().start()


@pytest.mark.parametrize("free", [0, 1, 3])
def test_with_fewer_threads_to_be_had_it_goes_on_with_these_and_says_so_once(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((32, 8, 64)))
    given = ["normalize", str(tmp_path / "x.npy"), "-G", "2", "--tile", "1K", "--workers", "4", "--format", "json"]
    assert main(given) == 0
    expected = capfd.readouterr().out
    monkeypatch.setattr(threading, "Thread", NoThread)
    monkeypatch.setattr(NoThread, "free", free)
    assert main(given) == 0
    out, err = capfd.readouterr()
    assert out == expected
    assert err == f"gncli: only {free} threads could be started; continuing with these\n"


@pytest.mark.parametrize("name", ["y.h5", "z.h5"])
def test_hdf5_is_written_without_a_thread_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "Thread", NoThread)
    monkeypatch.setattr(NoThread, "free", 0)
    more = ["--compression", "gzip"] if name == "z.h5" else []
    assert main(["random", "3,4", "--seed", "0", "-o", str(tmp_path / name), *more]) == 0
    assert (tmp_path / name).exists()


@pytest.mark.slow
def test_64_mib_and_4_gib_take_the_same_memory(tmp_path: Path) -> None:
    peaks = []
    for nbytes in (64 * MIB, 4096 * MIB):
        sparse_npy(tmp_path / "x.npy", (-1, 64, 56, 56), nbytes)
        peaks.append(peak(["stats", str(tmp_path / "x.npy")]))
    assert abs(peaks[1] - peaks[0]) < 8 * MIB, peaks
