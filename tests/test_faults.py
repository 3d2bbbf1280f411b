"""Every call that writes made to fail, one after the other: the old file or the new one, complete, and no third thing.

The faults come from a library that is preloaded (`faults.c`), into children of a process that has imported everything
(`faults.py`). ``python -m pytest -m soak tests/test_faults.py`` kills many more runs at random.
"""

from __future__ import annotations

import errno
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.faults import COMPILER, Do, End, Run, runner

SOURCE = Path(__file__).with_suffix("").parent / "faults.c"
MAX_CALLS = 60  # of a kind in a run: a case that makes more is too large

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the faults are preloaded as Linux does it"),
    pytest.mark.skipif(COMPILER is None, reason="no C compiler to make the faults with"),
]


Contents = dict[str, bytes]


class Case(NamedTuple):
    """A command line, and the files that it makes or replaces."""

    arguments: str
    files: tuple[str, ...]


SMALL = "--groups 2 --workers 2 --tile 2K --force"
CASES = {
    "npy": Case(f"normalize x.npy {SMALL} -o y.npy", ("y.npy",)),
    "hdf5": Case(f"normalize x.npy {SMALL} -o y.h5", ("y.h5",)),
    "compressed": Case(f"normalize x.npy {SMALL} -o y.h5 --compression gzip=1", ("y.h5",)),
    "transposed": Case(f"normalize f.npy {SMALL} -o y.h5", ("y.h5",)),
    "zarr": Case(f"normalize x.npy {SMALL} -o y.zarr --compression zstd=1", ("y.zarr",)),
    "in place": Case("normalize x.npy --groups 2 --workers 2 --tile 2K --in-place", ("x.npy",)),
    "moments": Case(f"normalize x.npy {SMALL} -o y.npy --save-moments m.npz", ("m.npz", "y.npy")),
    "drawn": Case("random 16,256 --seed 1 --workers 2 --tile 2K --force -o y.h5 --compression gzip", ("y.h5",)),
}
CALLS = ("write", "pwrite", "fsync", "fallocate", "truncate", "rename")
FAULTS = [
    ("once", errno.ENOSPC),
    ("forever", errno.ENOSPC),
    ("once", errno.EIO),
    ("short", 0),
    ("signal", signal.SIGKILL),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library that makes calls fail."""
    assert COMPILER is not None
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def do(library: Path) -> Iterator[Do]:
    """Return a function that does a run."""
    with runner(library) as do:
        yield do


@pytest.fixture(scope="module")
def importing(library: Path) -> Iterator[Do]:
    """Return a function that does a run with the imports that it needs, where a signal may arrive too."""
    with runner(library, imported=False) as do:
        yield do


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with an input and older outputs."""
    from gncli.io import open_sink

    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((8, 4, 256), np.float32))
    np.save(tmp_path / "f.npy", np.asfortranarray(np.load(tmp_path / "x.npy")))
    np.save(tmp_path / "y.npy", np.zeros(5))
    np.savez(tmp_path / "m.npz", mean=np.zeros(5))
    for name in ("y.h5", "y.zarr"):
        sink = open_sink(str(tmp_path / name), shape=(5,), dtype=np.dtype("f8"))
        sink.write_from(np.zeros(5), 0)
        sink.commit()
    return tmp_path


def contents(directory: Path) -> Contents:
    """Return what is in each file; of a folder, its files with their paths."""
    return {
        entry.name: entry.read_bytes() if entry.is_file() else pickle.dumps(sorted(inside(entry).items()))
        for entry in directory.iterdir()
    }


def inside(folder: Path) -> Contents:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def same(name: str, one: bytes, other: bytes) -> bool:
    """Return whether two files are the same; an archive has the time in it."""
    if not name.endswith(".npz") or one == other:
        return one == other
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) <= 48


def restore(directory: Path, old: Contents) -> None:
    for name, data in contents(directory).items():
        if data != old.get(name):
            path = directory / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, data in old.items():
        if (directory / name).exists():
            continue
        files = dict(pickle.loads(data)) if name.endswith(".zarr") else {"": data}
        for key, content in files.items():
            path = directory / name / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def check(end: End, old: Contents, new: Contents, now: Contents, files: tuple[str, ...]) -> None:
    """Raise unless every file is the old or the new one, and all are new where the status is 0."""
    killed = end.status == -signal.SIGKILL
    assert end.status in (0, 4) or killed, end
    assert "Traceback" not in end.err, end
    assert end.err.count("\n") == (1 if end.status == 4 else 0), end
    for name in files:
        fresh = same(name, now[name], new[name])
        assert fresh or now[name] == old[name], f"{name} is neither the old file nor the new one: {end}"
        assert fresh or end.status != 0, f"{name} was not written, and the status says it was: {end}"
    assert killed or now.keys() == old.keys(), f"left behind: {now.keys() - old.keys()}: {end}"
    assert all(now[name] == old[name] for name in old.keys() - set(files)), end


@pytest.mark.parametrize("case", CASES)
def test_any_write_that_fails_leaves_the_old_file_or_the_new_one(case: str, do: Do, place: Path) -> None:
    arguments, files = CASES[case]
    old = contents(place)
    end = do(Run(arguments.split(), str(place)))
    assert (end.status, end.err) == (0, "")
    new = contents(place)
    assert all(new[name] != old[name] for name in files)
    runs = 0
    for call in CALLS:
        for how, error in FAULTS:
            for nth in range(1, MAX_CALLS):
                restore(place, old)
                end = do(Run(arguments.split(), str(place), call, nth, how, error))
                if not end.fired:
                    break
                runs += 1
                check(end, old, new, contents(place), files)
                assert (how == "signal") == (end.status == -signal.SIGKILL), end
            else:
                raise AssertionError(f"more than {MAX_CALLS} calls of {call}")
    assert runs >= 25, runs


PARTED = f"normalize x.npy {SMALL} -o y.npy"


@pytest.mark.parametrize("how", ["--resume", "--part 1/1", "--assemble"])
def test_any_write_that_fails_in_parts_is_made_good_by_the_next_run(how: str, do: Do, place: Path) -> None:
    def run(options: str, *fault: Any) -> End:
        return do(Run(f"{PARTED} {options}".split(), str(place), *fault))

    def begin() -> None:
        shutil.rmtree(place / ".y.npy.parts", ignore_errors=True)
        (place / "y.npy").write_bytes(old)
        assert how != "--assemble" or run("--part 1/1").status == 0

    old = (place / "y.npy").read_bytes()
    assert run("").status == 0
    new = (place / "y.npy").read_bytes()
    runs = 0
    for call in (*CALLS, "unlink"):
        for kind, error in (*FAULTS[1:3], FAULTS[-1]):
            for nth in range(1, MAX_CALLS):
                begin()
                end = run(how, call, nth, kind, error)
                if not end.fired:
                    break
                runs += 1
                killed = end.status == -signal.SIGKILL
                assert killed or (end.status in (0, 4) and end.err.count("\n") == bool(end.status)), end
                found = (place / "y.npy").read_bytes()
                assert found in (old, new), end
                if how != "--part 1/1" and end.status == 0:
                    assert found == new, end
                    continue
                end = run("--resume")
                assert (end.status, end.err, (place / "y.npy").read_bytes()) == (0, "", new), end
                assert not (place / ".y.npy.parts").exists(), end
    assert runs >= 15, runs


@pytest.mark.parametrize(
    ("case", "kills"),
    [
        ("npy", 7),
        ("compressed", 7),
        ("zarr", 7),
        ("in place", 6),
        *(pytest.param(c, 300, marks=pytest.mark.soak) for c in CASES),
    ],
)
def test_a_run_that_is_killed_at_random_left_the_old_file_or_the_new_one(
    case: str, kills: int, do: Do, place: Path
) -> None:
    arguments, files = CASES[case]
    np.save(place / "x.npy", np.random.default_rng(0).random((64, 4, 4096), np.float32))
    np.save(place / "f.npy", np.asfortranarray(np.load(place / "x.npy")))
    old = contents(place)
    assert do(Run(arguments.split(), str(place))).status == 0
    new = contents(place)
    ended = set()
    for kill in range(kills):
        restore(place, old)
        end = do(Run(arguments.split(), str(place), seconds=random.Random(kill).uniform(0.001, 0.3)))
        check(end, old, new, contents(place), files)
        ended.add(end.status)
    assert -signal.SIGKILL in ended


BESIDE = {
    **CASES,
    "report": Case(f"normalize x.npy {SMALL} -o y.npy --report r.json", ("r.json", "y.npy")),
    "piped": Case(f"normalize - {SMALL} -o y.npy", ("y.npy",)),
    "from HDF5": Case("stats y.h5 --format csv --report r.csv --force", ("r.csv",)),
    "drawn .npy": Case("random 16,256 --seed 1 --force -o y.npy", ("y.npy",)),
    "drawn Zarr": Case("random 16,256 --seed 1 --force -o y.zarr", ("y.zarr",)),
}
SENT = ("write", "pwrite", "fsync", "fallocate", "truncate", "rename", "unlink", "close", "open", "mmap", "line")
MANY = ("close", "open", "mmap", "line")


def step(call: str, nth: int) -> int:
    """Return which call follows the `nth`: the next one, and of calls that are many one further and further away."""
    return nth + (1 if call not in MANY else max(1, nth // 2))


@pytest.mark.parametrize("case", ["report", "piped", "from HDF5", "drawn .npy", "drawn Zarr"])
@pytest.mark.parametrize("each", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_signal_at_any_call_or_line_leaves_nothing_behind(case: str, each: bool, importing: Do, place: Path) -> None:
    arguments, files = BESIDE[case]
    old = contents(place)
    stdin = "x.npy" if case == "piped" else ""

    def run(call: str = "", nth: int = 0, signum: int = 0) -> End:
        return importing(Run(arguments.split(), str(place), call, nth, "signal", signum, stdin=stdin))

    assert run().status == 0
    new = contents(place)
    restore(place, old)
    runs = 0
    for call in SENT:
        nth = 1
        while (end := run(call, nth, signum := (signal.SIGINT, signal.SIGTERM)[nth % 2])).fired:
            now = contents(place)
            runs += 1
            said = r"(gncli: interrupted; [^\n]+ not written\n)?" if signum == signal.SIGINT else ""
            assert end.status == -signum and re.fullmatch(said, end.err), (call, nth, end)
            assert now.keys() <= old.keys() | set(files), (call, nth, now.keys() - old.keys())
            assert all(data in (old.get(name), new.get(name)) for name, data in now.items()), (call, nth, end)
            restore(place, old)
            nth = nth + 1 if each else step(call, nth)
        assert end.status == 0, (call, nth, end)
        restore(place, old)
    assert runs > 30, runs
