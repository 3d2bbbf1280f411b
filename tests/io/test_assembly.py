"""Compressed output: the chunks of samples that HDF5 says they are, the same bytes whoever was first."""

from __future__ import annotations

import itertools
import math
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gncli.cli import main
from gncli.errors import InputError, OutputError, ParameterError
from gncli.io import ArraySink, open_sink, open_source, transposition
from gncli.io.atomic import OutputFile
from gncli.io.transposition import Cut
from tests.files import read_all, write_in_threads

SHAPES: tuple[tuple[int, ...], ...] = ((9,), (5, 7), (64, 3, 5), (2, 9, 100), (1, 1, 300), (3, 1, 7, 11), (), (0, 3))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple), st.integers(1, 400))
def test_the_chunks_are_the_tensor_in_order(shape: tuple[int, ...], nbytes: int) -> None:
    cut = Cut.of(shape, 4, nbytes)
    assert math.prod(cut.chunk) * 4 <= max(nbytes, 4 * math.prod(shape[cut.axis + 1 :]))
    element, number = 0, 0
    index = np.arange(np.prod(shape)).reshape(shape)
    while element < index.size:
        assert cut.number(element) == number
        first, stop = cut.run(number)
        assert first == element
        box = tuple(slice(at, at + extent) for at, extent in zip(cut.corner(number), cut.chunk, strict=True))
        assert index[box].ravel().tolist() == list(range(first, stop))
        element, number = stop, number + 1


@pytest.mark.usefixtures("unrehearsed")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_compressed_is_read_back_the_same(
    tmp_path: Path, shape: Any, order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transposition, "CHUNK_NBYTES", 512)
    monkeypatch.setattr(Cut.of.__func__, "__defaults__", (512,))  # type: ignore[attr-defined]
    path = tmp_path / "y.h5"
    for dtype, piece, level in (("<f4", 1, 0), ("<f2", 7, 4), ("<f8", 1000, 9)):
        array = np.random.default_rng(0).random(shape).astype(dtype)
        options: dict[str, Any] = {"attributes": {"g": 4}, "compression": level, "force": True}
        sink = open_sink(f"{path}::a/b", shape=shape, dtype=array.dtype, order=order, **options)
        flat = array.ravel(order=order)
        starts = list(range(0, flat.size, piece))
        random.Random(0).shuffle(starts)
        for start in starts:
            sink.write_from(flat[start : start + piece], start)
        sink.commit()
        sink.abort()
        with h5py.File(path, "r") as file:
            dataset = file["a/b"]
            assert np.array_equal(dataset[()], array)
            assert dict(dataset.attrs) == {"g": 4}
            plain = not shape or 0 in shape
            assert (dataset.compression, dataset.compression_opts) == ((None, None) if plain else ("gzip", level))
        assert np.array_equal(read_all(open_source(str(path)), 10_000), array)
    assert [entry.name for entry in tmp_path.iterdir()] == ["y.h5"]


@pytest.mark.slow
def test_a_compressed_output_has_the_same_bytes_whichever_thread_was_first(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((40, 50_000), np.float32)
    written = set()
    for seed in range(4):
        path = tmp_path / f"{seed}.h5"
        sink = open_sink(str(path), shape=array.shape, dtype=array.dtype, compression=1)
        write_in_threads(sink, array, 70_001, seed)
        written.add(path.read_bytes())
    assert len(written) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("unrehearsed")
@pytest.mark.parametrize("seeds", [2, pytest.param(50, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", ["y.npy", "y.h5"])
def test_any_number_of_workers_writes_the_same_bytes(seeds: int, name: str, tmp_path: Path) -> None:
    for seed in range(seeds):
        np.save(tmp_path / "x.npy", np.random.default_rng(seed).random((64, 8, 256), np.float32))
        written = set()
        for workers in (1, 2, 3, 4, 8, 16):
            more = ["--compression", "gzip=1"] if name == "y.h5" else []
            given = ["normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", str(tmp_path / name), "-f", *more]
            assert main([*given, "--workers", str(workers), "--tile", "4K", "-q"]) == 0
            written.add((tmp_path / name).read_bytes())
        assert len(written) == 1


@pytest.mark.parametrize("compression", [None, 4])
def test_what_is_written_has_the_format_whose_metadata_have_checksums(tmp_path: Path, compression: int | None) -> None:
    sink = open_sink(str(tmp_path / "y.h5"), shape=(3,), dtype=np.dtype("f4"), compression=compression)
    sink.write_from(np.ones(3, "f4"), 0)
    sink.commit()
    whole = (tmp_path / "y.h5").read_bytes()
    assert whole[8] == 3  # version of the superblock
    assert whole.count(b"OHDR") >= 2


@pytest.mark.parametrize("name", ["y.npy", "-"])
def test_only_hdf5_is_compressed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"only HDF5 and Zarr are compressed; leave out --compression"):
        open_sink(name, shape=(3,), dtype=np.dtype("f4"), compression=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_compressed_output_that_is_given_up_leaves_nothing(tmp_path: Path, order: Any) -> None:
    sink = open_sink(str(tmp_path / "y.h5"), shape=(30, 40), dtype=np.dtype("f4"), order=order, compression=4)
    sink.write_from(np.zeros(700, "f4"), 0)
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("unrehearsed")
def test_a_flipped_byte_in_a_compressed_output_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "y.h5"
    array = np.random.default_rng(0).random((30, 40))
    sink = open_sink(str(path), shape=array.shape, dtype=array.dtype, compression=4)
    sink.write_from(array.reshape(-1), 0)
    sink.commit()
    with h5py.File(path) as file:
        info = file["data"].id.get_chunk_info(0)
    for place in range(info.byte_offset, info.byte_offset + info.size, 97):
        data = bytearray(path.read_bytes())
        data[place] ^= 0x10
        path.write_bytes(data)
        with pytest.raises(InputError):
            read_all(open_source(str(path)), 10_000)
        data[place] ^= 0x10
        path.write_bytes(data)


@pytest.mark.slow
@given(st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple), st.data())
def test_a_fortran_ordered_input_is_transposed_whatever_is_put_by_and_gathered_at_a_time(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    array = np.arange(math.prod(shape), dtype="<i4").reshape(shape)
    sizes = {name: data.draw(st.integers(1, 200)) for name in ("SPOOLED_NBYTES", "REGION_NBYTES", "PASSED_NBYTES")}
    runs: list[tuple[int, int]] = []
    kept = np.zeros(array.size, "<i4")

    class Taking(ArraySink):
        def write_from(self, values: Any, start: int) -> None:
            runs.append((start, values.size))
            kept[start : start + values.size] = values

    with pytest.MonkeyPatch.context() as patch:
        for name, nbytes in sizes.items():
            patch.setattr(transposition, name, nbytes)
        with tempfile.TemporaryFile() as file:
            scratch = OutputFile(os.dup(file.fileno()), "y.h5", lasting=False)
        sink = transposition.TransposingSink(Taking(shape, array.dtype, "C"), scratch, shape, array.dtype)
        flat = array.ravel(order="F")
        cuts = sorted({0, *data.draw(st.lists(st.integers(0, flat.size), max_size=9)), flat.size})
        starts = data.draw(st.permutations(list(itertools.pairwise(cuts))))
        for start, stop in starts:
            sink.write_from(flat[start:stop], start)
        sink.commit()
    assert np.array_equal(kept, array.reshape(-1))
    assert [start for start, _ in runs] == list(itertools.accumulate((size for _, size in runs), initial=0))[:-1]
    assert scratch.fd == -1


def test_a_transposed_output_is_written_in_large_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # N varies fastest: element by element it would be 40,000 writes.
    array = np.asfortranarray(np.random.default_rng(0).random((100, 4, 10, 10)))
    np.save(tmp_path / "x.npy", array)
    monkeypatch.setattr(transposition, "SPOOLED_NBYTES", 1 << 15)
    monkeypatch.setattr(transposition, "REGION_NBYTES", 1 << 16)
    writes = []
    real = OutputFile.write

    def write(file: OutputFile, view: memoryview, offset: int) -> None:
        writes.append(len(view))
        real(file, view, offset)

    monkeypatch.setattr(OutputFile, "write", write)
    given = ["normalize", str(tmp_path / "x.npy"), "-G", "2", "--tile", "4K", "-q", "-o"]
    assert main([*given, str(tmp_path / "y.h5")]) == 0
    assert len(writes) < 40, writes
    assert main([*given, str(tmp_path / "y.npy")]) == 0
    with h5py.File(tmp_path / "y.h5") as file:
        assert np.array_equal(file["data"][()], np.load(tmp_path / "y.npy"))


def test_no_room_for_the_copy_of_a_fortran_ordered_input_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match=r"y.h5: cannot be written .No space left"):
        open_sink(str(tmp_path / "y.h5"), shape=(3, 4), dtype=np.dtype("f4"), order="F", compression=4)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    sink = open_sink(str(tmp_path / "y.h5"), shape=(3, 4), dtype=np.dtype("f4"), order="F", compression=4)
    sink.write_from(np.zeros(12, "f4"), 0)
    monkeypatch.setattr("gncli.io.transposition.read_fully", lambda *_: 0)
    with pytest.raises(OutputError, match=r"the spooled data became shorter"):
        sink.commit()
    sink.abort()
    assert list(tmp_path.iterdir()) == []
