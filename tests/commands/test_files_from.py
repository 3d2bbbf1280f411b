"""``--files-from``: the tensors that a file or standard input names, after those of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from gncli import io
from gncli.cli import main

FIRST = {"x.npy": 1.0, "b c.npy": 2.0, "two\nlines.npy": 3.0, "caf\udce9.npy": 4.0}
NULL = "gncli: error: --null is about the names in a file; give --files-from FILE too"
USAGE = "; try 'gncli stats --help'\n"

CASES: dict[str, tuple[bytes, int, str, str]] = {
    "--files-from n": (b"x.npy\n\nb c.npy", 0, "1.0\n2.0\n", ""),
    "x.npy  --files-from n": (b"caf\xe9.npy\n", 0, "1.0\n4.0\n", ""),
    "--files-from n --null": (b"two\nlines.npy\0x.npy\0", 0, "3.0\n1.0\n", ""),
    "--files-from -": (b"x.npy\nb c.npy\n", 0, "1.0\n2.0\n", ""),
    "--files-from - --null": (b"two\nlines.npy\0", 0, "3.0\n", ""),
    "--files-from n --where max>1": (b"x.npy\nb c.npy", 0, "2.0\n", "gncli: 1 of 2 tensors where max>1\n"),
    "--files-from n --match b*": (
        b"x.npy\ngone\nb c.npy\n",
        3,
        "2.0\n",
        "gncli: error: gone: cannot be read (No such file or directory)\n",
    ),
    "x.npy --files-from gone": (b"", 3, "", "gncli: error: gone: cannot be read (No such file or directory)\n"),
    "--files-from n ": (b"x.npy\0", 3, "", "gncli: error: n: holds a NUL; --null reads what find -print0 writes\n"),
    "x.npy --files-from n": (b"\n", 3, "", "gncli: error: n: names no tensor; it has one name per line\n"),
    "x.npy --files-from - --null": (b"", 3, "", "gncli: error: <stdin>: names no tensor; it has one name per NUL\n"),
    "x.npy --null": (
        b"",
        2,
        "",
        f"{NULL}{USAGE}",
    ),
    "--random 3 --files-from n": (b"", 2, "", f"gncli: error: either --files-from or --random, not both{USAGE}"),
    "- --files-from -": (
        b"",
        2,
        "",
        f"gncli: error: standard input can be read once, but - was given 2 times{USAGE}",
    ),
    "--files-from -  ": (
        b"-\n",
        2,
        "",
        f"gncli: error: standard input can be read once, but - was given 2 times{USAGE}",
    ),
}


@contextmanager
def stdin_is(path: Path) -> Iterator[None]:
    """Let standard input be a file."""
    kept, fd = os.dup(0), os.open(path, os.O_RDONLY)
    os.dup2(fd, 0)
    os.close(fd)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in FIRST.items():
        with open(os.fsencode(name), "wb") as file:
            np.save(file, np.full(2, value))


@pytest.mark.parametrize("typed", CASES)
def test_a_file_names_the_tensors(typed: str, capfd: pytest.CaptureFixture[str]) -> None:
    names, status, out, err = CASES[typed]
    Path("n").write_bytes(names)
    with stdin_is(Path("n")):
        assert main(["stats", "-s", "max", "--format", "value", *typed.split()]) == status
    said = capfd.readouterr()
    assert (said.out, said.err) == (out, err)


def test_a_file_of_names_has_a_limit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(io, "MAX_TEXT_NBYTES", 3)
    Path("n").write_bytes(b"x.npy\n")
    assert main(["stats", "--files-from", "n"]) == 5
    assert capfd.readouterr().err == "gncli: error: n: is 6 bytes long; the limit is 3\n"
