"""Zarr stores, written: zarr-python, tensorstore and gncli read them, and they are there whole or not at all."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gncli import signals
from gncli.cli import main
from gncli.errors import InputError, OutputError, ParameterError
from gncli.io import atomic_folder, open_sink, open_source
from gncli.io.formats.zarr import writing
from gncli.io.formats.zarr.writing import shard_of
from gncli.io.transposition import Cut
from gncli.kernels.floats import FLOATS
from tests.files import listed, read_all, write_in_threads
from tests.peer import Peer, peer
from tests.stores import group, store, v2, v3

SHAPES: tuple[tuple[int, ...], ...] = ((), (0, 3), (9,), (64, 3, 5), (2, 9, 100), (1, 1, 300), (3, 1, 7, 11))


@pytest.fixture(scope="module")
def other() -> Iterator[Peer]:
    with peer() as process:
        yield process


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CHUNK_NBYTES", 400)
    monkeypatch.setattr(writing, "SHARD_NBYTES", 2000)


def write(path: Path | str, x: Any, piece: int = 37, **given: Any) -> None:
    sink = open_sink(str(path), shape=x.shape, dtype=given.pop("kind", x.dtype), **given)
    flat = x.ravel(order=given.get("order", "C"))
    starts = list(range(0, flat.size, piece))
    random.Random(0).shuffle(starts)
    for start in starts:
        sink.write_from(flat[start : start + piece], start)
    sink.commit()
    sink.abort()


@pytest.mark.slow
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_written_is_read_by_everybody(
    tmp_path: Path, other: Peer, small: None, shape: tuple[int, ...], order: str
) -> None:
    attributes = {"eps": 1e-5, "groups": 4, "layout": "NC"}
    for dtype, compression, name in (("<f4", None, ""), ("<f2", "zstd", "g/a"), ("<f8", "zstd=22", "a")):
        x = np.random.default_rng(0).random(shape).astype(dtype)
        path = tmp_path / f"{dtype[1:]}.zarr"
        write(
            f"{path}/::/{name}" if name else f"{path}/", x, order=order, attributes=attributes, compression=compression
        )
        found, told = other.read(path, name)
        assert (found.dtype, told) == (x.dtype, attributes)
        assert np.array_equal(found, x)
        theirs = other.tensorstore(path / name)
        assert theirs is None or np.array_equal(theirs, x)
        with open_source(str(path)) as source:
            assert np.array_equal(read_all(source, 100), x)
            assert source.not_stored == 0
    assert listed(tmp_path) == ["f2.zarr", "f4.zarr", "f8.zarr"]


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_dtypes_that_numpy_lacks_are_named(tmp_path: Path, other: Peer, name: str) -> None:
    kind = FLOATS[name]
    x = np.linspace(-3, 3, 600, dtype="f4").reshape(3, 200)
    write(tmp_path / "y.zarr", x, kind=kind)
    bits = np.empty(600, kind.stored)
    kind.narrow(x.reshape(-1), bits)
    theirs = other.tensorstore(tmp_path / "y.zarr")
    assert theirs is None or np.array_equal(theirs, bits.reshape(3, 200))
    with open_source(str(tmp_path / "y.zarr")) as source:
        assert (source.dtype_name, source.not_stored) == (name, 0)
        got = np.empty(600, kind.stored)
        source.read_stored(got, 0)
        assert np.array_equal(got, bits)


@pytest.mark.slow
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple), st.sampled_from([2, 4, 8]))
def test_a_shard_is_a_run_of_chunks_of_bounded_size(shape: tuple[int, ...], itemsize: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "SHARD_NBYTES", 3000)
        cut = Cut.of(shape, itemsize, 500).evened()
        shard = shard_of(cut, itemsize)
    chunk = cut.chunk
    assert all(outer % inner == 0 for outer, inner in zip(shard, chunk, strict=True))
    assert math.prod(shard) * itemsize <= max(3000, math.prod(chunk) * itemsize)
    grid = [-(-size // step) for size, step in zip(shape, chunk, strict=True)]
    cells = [
        tuple(at // size for at, size in zip(cut.corner(number), shard, strict=True)) for number in range(cut.chunks)
    ]
    assert len(cells) == math.prod(grid)
    # Chunks come in order, so each shard is begun once.
    assert len(set(cells)) == 1 + sum(a != b for a, b in itertools.pairwise(cells))
    # The chunks of a row are alike: less than a chunk is filled up per row.
    assert math.prod(grid) * math.prod(chunk) < 2 * math.prod(shape)


def test_chunks_and_shards_have_the_sizes_that_are_promised(tmp_path: Path) -> None:
    x = np.zeros((20, 8, 256, 256), "f4")
    write(tmp_path / "y.zarr", x, piece=1 << 21)
    meta = json.loads((tmp_path / "y.zarr" / "zarr.json").read_text())
    inner = meta["codecs"][0]["configuration"]
    assert inner["chunk_shape"] == [2, 8, 256, 256]
    assert meta["chunk_grid"]["configuration"]["chunk_shape"] == [20, 8, 256, 256]
    assert [codec["name"] for codec in inner["codecs"]] == ["bytes", "crc32c"]
    assert [codec["name"] for codec in inner["index_codecs"]] == ["bytes", "crc32c"]
    assert (meta["fill_value"], meta["data_type"]) == ("NaN", "float32")
    sizes = {file.stat().st_size for file in (tmp_path / "y.zarr" / "c").rglob("*") if file.is_file()}
    assert sizes == {10 * ((4 << 20) + 4 + 16) + 4}


@pytest.mark.slow
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_every_flipped_byte_is_found(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "y.zarr"
    write(path, np.random.default_rng(0).random((4, 8), np.float32), compression=compression)
    file = path / "c" / "0" / "0"
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with open_source(str(path)) as source, pytest.raises(InputError, match="damaged"):
            read_all(source, 100)


def test_a_store_has_the_same_bytes_whichever_thread_was_first(tmp_path: Path, small: None) -> None:
    x = np.random.default_rng(0).random((40, 500), np.float32)
    written = set()
    for seed in range(4):
        path = tmp_path / f"{seed}.zarr"
        sink = open_sink(str(path), shape=x.shape, dtype=x.dtype, compression="zstd=1")
        write_in_threads(sink, x, 701, seed)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        written.add(tuple((str(file.relative_to(path)), file.read_bytes()) for file in files))
    assert len(written) == 1


# --- commands --------------------------------------------------------------------------------------------------------


def test_normalize_writes_what_it_writes_to_a_npy(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((4, 8, 5, 5), np.float32))
    for name in ("y.npy", "y.zarr", "z.zarr::/a/b"):
        assert main(["normalize", str(tmp_path / "x.npy"), "-G", "2", "-qo", str(tmp_path / name)]) == 0
        assert main(["diff", str(tmp_path / name), str(tmp_path / "y.npy"), "--rtol", "0", "--atol", "0"]) == 0
        assert capfd.readouterr().err == ""
    assert main(["random", "4,8", "--seed", "1", "-qo", str(tmp_path / "r.zarr")]) == 0
    capfd.readouterr()
    assert main(["stats", str(tmp_path / "r.zarr"), "-s", "shape,dtype", "--format", "value"]) == 0
    assert capfd.readouterr() == ("4,8\nfloat64\n", "")


def test_an_output_is_replaced_only_by_force(tmp_path: Path) -> None:
    x = np.zeros(3, "f4")
    path = tmp_path / "y.zarr"
    write(path, x)
    path.chmod(0o750)
    with pytest.raises(OutputError) as caught:
        write(path, x + 1)
    assert str(caught.value) == f"{path}: already exists; --force replaces it"
    write(path, x + 1, force=True)
    assert path.stat().st_mode & 0o777 == 0o750
    with open_source(str(path)) as source:
        assert read_all(source).tolist() == [1, 1, 1]
    assert listed(tmp_path) == ["y.zarr"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    os.symlink(tmp_path / "far" / "y.zarr", tmp_path / "y.zarr")
    write(tmp_path / "y.zarr", np.zeros(3))
    assert listed(tmp_path / "far") == ["y.zarr"]
    assert (tmp_path / "y.zarr").is_symlink()


HELD: dict[str, Any] = {
    "/b": lambda path: store(path / "b", v3((1,), (1,))),
    "the attributes of /": lambda path: (path / "zarr.json").write_text(
        '{"zarr_format": 3, "node_type": "group", "attributes": {"a": 1}}'
    ),
    "/.zattrs": lambda path: (path / ".zattrs").write_text("{}"),
    "/notes.txt": lambda path: (path / "notes.txt").write_text("kept"),
}


@pytest.mark.parametrize("what", HELD)
def test_a_store_that_holds_more_is_not_replaced(tmp_path: Path, what: str) -> None:
    write(f"{tmp_path / 'y.zarr'}::/a", np.zeros(3))
    HELD[what](tmp_path / "y.zarr")
    with pytest.raises(OutputError) as caught:
        write(f"{tmp_path / 'y.zarr'}::/a", np.ones(3), force=True)
    assert caught.value.problem == f"holds more than /a, and would lose {what}"
    assert listed(tmp_path) == ["y.zarr"]


def test_a_folder_that_is_no_store_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "y.zarr"
    path.mkdir()
    for name in ("", "::/a"):
        write(f"{path}{name}", np.zeros(3), force=True)  # an empty one loses nothing
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    (path / "thesis.tex").write_text("kept")
    for name in ("", "::/a"):
        with pytest.raises(OutputError, match=r"and would lose /thesis\.tex"):
            write(f"{path}{name}", np.zeros(3), force=True)
    (path / "thesis.tex").rename(path / "zarr.json")
    with pytest.raises(OutputError, match="holds what cannot be listed, and would be lost: has metadata that are not"):
        write(path, np.zeros(3), force=True)
    group(path)
    with pytest.raises(OutputError, match=r"holds more than /, and would lose /zarr\.json"):
        write(path, np.zeros(3), force=True)
    (path / "zarr.json").unlink()
    store(path, v2((1,), (1,)))
    write(path, np.zeros(3), force=True)


def test_a_folder_that_cannot_be_listed_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "y.zarr"
    write(path, np.zeros(3))
    real = os.scandir

    def scandir(folder: str) -> Any:
        if str(folder).endswith("y.zarr/c"):
            raise PermissionError(13, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OutputError, match=r"holds what cannot be listed, and would be lost: .*Permission denied"):
        write(path, np.ones(3), force=True)
    assert listed(tmp_path) == ["y.zarr"]


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("no/y.zarr", "cannot be written (No such file or directory); there is no folder no"),
        ("file.zarr", "is no folder; choose another name"),
        ("x.zarr", "holds the input x.zarr::/a; choose another name"),
        ("x.npy/y.zarr", "cannot be written (Not a directory)"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_read(
    tmp_path: Path, out: str, problem: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("x.zarr::/a", np.zeros((2, 32), "f4"))
    np.save("x.npy", np.zeros(3))
    Path("file.zarr").write_text("")
    assert main(["normalize", "x.zarr::/a", "-fo", out]) == 4
    assert capfd.readouterr() == ("", f"gncli: error: {out}: {problem}\n")
    assert listed(tmp_path) == ["file.zarr", "x.npy", "x.zarr"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["-o", "y.zarr::/../a"], "'/../a' is no name for an array"),
        (["-o", "y.zarr::zarr.json"], "'zarr.json' is no name for an array"),
        (["-o", "y.zarr", "--compression", "gzip"], "Zarr is not compressed by gzip; write --compression zstd"),
        (["-o", "y.h5", "--compression", "zstd"], "HDF5 is not compressed by zstd; write --compression gzip"),
        (["-o", "y.npy", "--compression", "zstd"], "only HDF5 and Zarr are compressed; leave out --compression, or"),
        (["--in-place"], "--in-place"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    tmp_path: Path,
    given: list[str],
    problem: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write("x.zarr", np.zeros((2, 32), "f4"))
    assert main(["normalize", "x.zarr", *given]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n"), problem in err) == ("", 1, True)
    assert listed(tmp_path) == ["x.zarr"]


@pytest.mark.parametrize("command", ["write", "compress", "read"])
def test_a_library_that_is_missing_is_named(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("x.zarr", np.zeros((2, 32), "f4"), compression="zstd")
    monkeypatch.setitem(__import__("sys").modules, "numcodecs" if command == "compress" else "google_crc32c", None)
    given = ["normalize", "x.zarr", "-o", "y.zarr"] if command == "read" else ["random", "3,4", "-o", "y.zarr"]
    assert main([*given, *(["--compression", "zstd"] if command == "compress" else [])]) == 2
    codec, subject = ("zstd" if command == "compress" else "crc32c"), "x.zarr" if command == "read" else "y.zarr"
    said = f"{subject}: needs a library for {codec} that is not installed; pip install 'gncli[zarr]'"
    assert capfd.readouterr() == ("", f"gncli: error: {said}\n")
    assert listed(tmp_path) == ["x.zarr"]


# --- the folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["none", "refused"])
def test_where_folders_cannot_change_places_the_old_one_is_moved_away_first(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, x = tmp_path / "y.zarr", np.zeros(3, "f4")

    class Library:
        def __getattr__(self, name: str) -> Any:
            if how == "none" or name != "renameat2":
                raise AttributeError(name)
            return lambda *_: -1

    monkeypatch.setattr(atomic_folder, "_LIBC", Library())
    monkeypatch.setattr(ctypes, "get_errno", lambda: 22)
    write(path, x)
    write(path, x + 1, force=True)
    with open_source(str(path)) as source:
        assert read_all(source).tolist() == [1, 1, 1]
    real, fail = os.rename, [2]

    def rename(old: str, new: str) -> None:
        fail[0] -= 1
        if not fail[0]:
            raise OSError(5, "Input/output error")
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OutputError, match="Input/output error"):
        write(path, x + 2, force=True)
    with open_source(str(path)) as source:
        assert read_all(source).tolist() == [1, 1, 1]
    assert listed(tmp_path) == ["y.zarr"]


@pytest.mark.parametrize("exchange", [True, False])
def test_what_appears_meanwhile_is_not_replaced(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(atomic_folder, "_renamed", lambda *_: False)
    sink = open_sink(str(tmp_path / "y.zarr"), shape=(1,), dtype=np.dtype("f4"))
    sink.write_from(np.zeros(1, "f4"), 0)
    (tmp_path / "y.zarr").mkdir()
    with pytest.raises(OutputError) as caught:
        sink.commit()
    assert "File exists" in str(caught.value) or "was created by someone else meanwhile" in str(caught.value)
    assert listed(tmp_path) == ["y.zarr"]


def test_a_folder_that_cannot_be_made_and_one_that_a_signal_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = atomic_folder.AtomicFolder(str(tmp_path / "y.zarr"), name="y.zarr")
    cleanup = signals.cleanups[next(key for key in signals.cleanups if str(tmp_path) in str(key))]
    folder.file("a/b").abort()
    assert cleanup() == "y.zarr"
    assert listed(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        cleanup()
    folder.abort()

    def mkdir(path: str, *_: int) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(OutputError) as caught:
        atomic_folder.AtomicFolder(str(tmp_path / "y.zarr"), name="y.zarr")
    assert str(caught.value) == "y.zarr: cannot be written (Permission denied)"


def test_what_a_killed_run_left_is_removed_by_clean(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    left = tmp_path / ".y.zarr.000000000000.tmp"  # before any other in the order of names
    (left / "c" / "0").mkdir(parents=True)
    (left / "c" / "0" / "0").write_bytes(bytes(100))
    folder = atomic_folder.AtomicFolder(str(tmp_path / "y.zarr"), name="y.zarr")
    assert main(["clean", str(tmp_path / "y.zarr")]) == 4
    assert "is being written by another process" in capfd.readouterr().err
    folder.abort()
    left.mkdir(exist_ok=True)
    (left / "zarr.json").write_bytes(bytes(100))
    assert main(["clean", str(tmp_path / "y.zarr")]) == 0
    assert listed(tmp_path) == []
    assert "100" in "".join(capfd.readouterr())


def test_what_is_aborted_leaves_nothing(tmp_path: Path, small: None) -> None:
    sink = open_sink(str(tmp_path / "y.zarr"), shape=(400,), dtype=np.dtype("f4"))
    sink.write_from(np.zeros(150, "f4"), 0)
    sink.abort()
    assert listed(tmp_path) == []
    folder = atomic_folder.AtomicFolder(str(tmp_path / "y.zarr"), name="y.zarr")
    folder.commit()
    folder.commit()
    folder.abort()
    assert listed(tmp_path) == ["y.zarr"]
    with pytest.raises(ParameterError):
        open_sink(str(tmp_path / "y.zar"), shape=(4,), dtype=np.dtype("f4"))
