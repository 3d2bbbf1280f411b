"""An input that changes while it is read: status 6, no result, and no output; whatever the format, whatever the change.

A hook stops the run before the k-th read of a tile, and changes the file there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gncli.cli import main
from gncli.errors import ChangedError
from gncli.io import open_source
from gncli.kernels.walk import Region
from gncli.run.engine import Engine
from tests.files import saved
from tests.marks import slow_but
from tests.runs import ran

SHAPE = (128, 8, 64)
DATA = np.random.default_rng(0).random(SHAPE, np.float32)


def dataset(**options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("a", data=DATA, **options)

    return write


FORMATS: dict[str, Callable[[Path], Any]] = {
    "npy": lambda path: path.write_bytes(saved(DATA)),
    "contiguous": dataset(),
    "deflated": dataset(chunks=(1, 8, 64), compression="gzip"),
    "through libhdf5": dataset(chunks=(1, 8, 64), compression="lzf"),
}


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwritten(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3] + bytes(len(data) - len(data) // 3))


def replaced(path: Path) -> None:
    path.with_suffix(".other").write_bytes(path.read_bytes())
    path.with_suffix(".other").rename(path)


CHANGES = [truncated, grown, overwritten, replaced, os.unlink]
COMMANDS = {
    "stats": ["stats", "x"],
    "one pass": ["normalize", "x", "-G", "2", "-o", "y.npy", "--save-moments", "m.npz"],
    "two passes": ["normalize", "x", "--layout", "HWC", "-G", "1", "-o", "y.h5", "--compression", "gzip"],
}


@pytest.mark.slow
@pytest.mark.usefixtures("unrehearsed")
@pytest.mark.parametrize("at", slow_but([0, 3], 3))
@pytest.mark.parametrize("command", slow_but(COMMANDS, "one pass"))
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", FORMATS)
def test_a_change_while_it_is_read_is_6_and_nothing_is_written(
    form: str,
    change: Callable[[Path], None],
    command: str,
    at: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x"
    FORMATS[form](path)
    os.utime(path, ns=(1, 1))  # so that no clock is too coarse to tell
    count = 0
    real = Engine.work

    def work(engine: Engine, *given: Any) -> Any:
        nonlocal count
        if count == at:
            change(path)
        count += 1
        return real(engine, *given)

    monkeypatch.setattr(Engine, "work", work)
    status = main([*COMMANDS[command], "--tile", "512", "--workers", "1"])
    out, err = capfd.readouterr()
    assert count > at
    assert (status, out, err.count("\n"), err[:17]) == (6, "", 1, "gncli: error: x: "), err
    assert not {entry.name for entry in tmp_path.iterdir()} - {"x", "x.other"}


def test_each_pass_ends_with_a_look_at_the_file(tmp_path: Path) -> None:
    FORMATS["npy"](tmp_path / "x")
    os.utime(tmp_path / "x", ns=(1, 1))
    source = open_source(str(tmp_path / "x"))
    with Engine(1) as engine, pytest.raises(ChangedError, match="was changed while it was read"):
        for _ in ran(engine, lambda *_: grown(tmp_path / "x"), source, [Region(0, 8, 0, (), 0, 1)]):
            pass
    source.close()


def test_gamma_that_changes_is_6_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    FORMATS["npy"](tmp_path / "x")
    np.save("gamma.npy", np.ones(8))
    os.utime("gamma.npy", ns=(1, 1))
    from gncli.io.rawfile import RawFile

    real = RawFile.read

    def read(file: RawFile, view: memoryview, offset: int) -> None:
        if file.name == "gamma.npy":
            grown(tmp_path / "gamma.npy")
        real(file, view, offset)

    monkeypatch.setattr(RawFile, "read", read)
    assert main(["normalize", "x", "-G", "2", "--gamma", "gamma.npy", "-o", "y.npy"]) == 6
    assert capfd.readouterr() == ("", "gncli: error: gamma.npy: was changed while it was read\n")
    assert not (tmp_path / "y.npy").exists()
