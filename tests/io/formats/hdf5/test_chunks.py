"""Chunks decoded here: the same elements as libhdf5 gives, each chunk once a pass, by as many threads as read."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli.cli import main
from gncli.errors import ChangedError, InputError
from gncli.io import ArraySink, ArraySource, chunked, open_source
from gncli.io.formats.hdf5 import chunks, datasets
from gncli.io.formats.hdf5.chunks import ChunkIndex, Filter, FilteredSource, Stored, decode
from gncli.io.formats.hdf5.datasets import Hdf5Source
from gncli.io.formats.hdf5.reading import Hdf5File
from gncli.io.rawfile import RawFile
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import GroupNorm
from gncli.kernels.partition import whole
from gncli.kernels.plain import Affine, fletcher32
from gncli.run.engine import Engine
from gncli.run.normalization import Normalization
from tests.arrays import assert_same_bits, assert_same_moments, normalized
from tests.files import DTYPES, make, read_all
from tests.marks import examples, slow_but
from tests.runs import measure

FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "deflate": {"compression": "gzip"},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
    "shuffle and deflate": {"compression": "gzip", "shuffle": True},
    "shuffle, deflate, fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
}

# What chunks are in a tensor of (16, 8, 12, 12), whose cells are cut into 4 groups.
GRIDS: dict[str, Any] = {
    "a few samples": (3, 8, 12, 12),
    "across groups": (1, 3, 12, 12),
    "across samples and groups": (5, 3, 7, 12),
    "of h5py's own choice": (8, 2, 3, 6),
    "rows": (1, 1, 1, 12),
    "the whole tensor": (16, 8, 12, 12),
}


def write(path: Path, array: NDArray[Any], **options: Any) -> list[Any]:
    """Make a file with the one dataset, and return where its chunks are."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", data=array, **options)
        found: list[Any] = []
        dataset.id.chunk_iter(found.append)
        return found


def opened(path: Path) -> FilteredSource:
    """Return the source of a file whose chunks are decoded here."""
    source = open_source(str(path))
    assert isinstance(source, FilteredSource)
    return source


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("dtype", slow_but(DTYPES, ">u2", "<f4"))
def test_every_dtype_and_filter_is_undone(tmp_path: Path, dtype: str, filters: str) -> None:
    array = make((7, 11, 13), dtype)
    write(tmp_path / "x.h5", array, chunks=(2, 3, 5), **FILTERS[filters])
    source = opened(tmp_path / "x.h5")
    got = read_all(source, 217)
    source.verify_unchanged()
    source.close()
    assert (source.order, source.sequential) == ("C", False)
    assert got.dtype.str == array.dtype.str
    assert got.tobytes() == array.tobytes()


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=examples(150))
@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 8)), min_size=1, max_size=4),
    st.sampled_from(sorted(FILTERS)),
    st.sampled_from(["f2", "f4", "f8", "i1"]),
    st.data(),
)
def test_any_run_is_what_libhdf5_reads(
    tmp_path_factory: pytest.TempPathFactory, axes: Any, filters: str, dtype: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.h5"
    shape = tuple(size for size, _ in axes)
    array = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    chunk = tuple(min(size, step) for size, step in axes)
    skipped = data.draw(st.integers(0, 7))
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", shape, dtype, chunks=chunk, maxshape=shape, fillvalue=9, **FILTERS[filters])
        if data.draw(st.booleans()):
            dataset[: data.draw(st.integers(0, shape[0]))] = 3  # the chunks of the rest are never written
        else:
            dataset[...] = array
    # Of another opening: libhdf5 would write what it still holds of a chunk over one that is written past it.
    with h5py.File(path, "r+") as file:
        dataset = file["a"]
        if skipped and dataset.id.get_num_chunks():
            # A chunk to which some of the filters were not applied, as libhdf5 leaves optional ones out.
            raw = np.resize(array.reshape(-1), chunk)
            steps = [Filter(step[0], step[2]) for step in pipeline(dataset)]
            packed = encode(raw.tobytes(), steps, skipped, raw.dtype.itemsize)
            dataset.id.write_direct_chunk((0,) * len(shape), packed, skipped & (1 << len(steps)) - 1)
    with h5py.File(path) as file:
        expected = file["a"][()].reshape(-1)
    source = opened(path)
    first = data.draw(st.integers(0, array.size))
    cuts = sorted({0, first, data.draw(st.integers(first, array.size)), array.size})
    got = np.empty_like(expected)
    for start, stop in itertools.pairwise(cuts):
        source.read_into(got[start:stop], start)
    assert got.tobytes() == expected.tobytes()
    source.close()


def pipeline(dataset: Any) -> list[Any]:
    """Return the filters of a dataset, as h5py tells them."""
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(k) for k in range(plist.get_nfilters())]


def encode(data: bytes, steps: list[Filter], skipped: int, width: int) -> bytes:
    """Return what the filters make of a chunk, longhand."""
    for place, step in enumerate(steps):
        if skipped >> place & 1:
            continue
        if step.code == chunks.SHUFFLE:
            data = b"".join(data[k::width] for k in range(width))
        elif step.code == chunks.DEFLATE:
            data = zlib.compress(data)
        else:
            data += fletcher32(np.frombuffer(data, np.uint8)).to_bytes(4, "little")
    return data


def test_filters_in_another_order_are_undone_in_that_order() -> None:
    data = np.random.default_rng(0).integers(0, 9, 4000, np.uint8)
    for steps in (
        [Filter(3, ()), Filter(1, (4,))],
        [Filter(1, (4,)), Filter(2, (4,))],
        [Filter(3, ()), Filter(2, (8,)), Filter(1, (4,)), Filter(3, ())],
    ):
        width = next((step.values[0] for step in steps if step.code == chunks.SHUFFLE), 1)
        packed = b""
        for step in steps:
            packed = (
                encode(packed or data.tobytes(), [step], 0, 1)
                if step.code != chunks.SHUFFLE
                else shuffled(packed or data.tobytes(), width)
            )
        assert decode(np.frombuffer(packed, np.uint8), tuple(steps), 0, 4000).tobytes() == data.tobytes()


def shuffled(data: bytes, width: int) -> bytes:
    """Return data shuffled; bytes that make no whole element stay where they are, at the end."""
    whole = len(data) - len(data) % width
    return b"".join(data[k:whole:width] for k in range(width)) + data[whole:]


def test_a_checksum_with_swapped_bytes_is_accepted_as_libhdf5_does() -> None:
    data = np.arange(100, dtype=np.uint8)
    swapped = fletcher32(data).to_bytes(4, "little")
    packed = data.tobytes() + bytes([swapped[1], swapped[0], swapped[3], swapped[2]])
    assert decode(np.frombuffer(packed, np.uint8), (Filter(3, ()),), 0, 100).tobytes() == data.tobytes()


@pytest.mark.parametrize("grid", slow_but(GRIDS, next(iter(GRIDS))))
@pytest.mark.parametrize("workers", slow_but([1, 2, 5], 2))
def test_each_chunk_is_decoded_once_a_pass(tmp_path: Path, grid: str, workers: int) -> None:
    x = np.random.default_rng(0).standard_normal((16, 8, 12, 12), np.float32)
    found = write(tmp_path / "x.h5", x, chunks=GRIDS[grid], compression="gzip", shuffle=True)
    grouping = GroupNorm(4).on(x.shape, "C")
    affine = Affine(np.ones(8), np.zeros(8), grouping.channel_shape)
    with Engine(1) as plain:
        expected, _ = normalized(x, 4, "NCHW", plain)
    for tile, passes in ((4096, 1), (1 << 20, 1), (256, 2)):  # the last one: groups larger than a visit are read twice
        with Engine(workers, tile, visit=2 * tile if passes == 2 else None) as engine:
            source = opened(tmp_path / "x.h5")
            sink = ArraySink(x.shape, x.dtype, "C")
            Normalization(source, sink, grouping, affine, FLOATS[x.dtype.name], engine).run()
            assert source.decoded == len(found) or source.decoded <= passes * len(found)
            assert not source._slots
            first = source.decoded
            assert_same_bits(sink.array, expected, (grid, tile))
            moments = measure(source, whole(x.shape), engine)
            assert source.decoded == first + len(found)
            source.close()
        with Engine(1) as plain:
            assert_same_moments(moments, measure(ArraySource(x), whole(x.shape), plain))


def test_chunks_that_do_not_fit_are_dropped_and_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "MAX_KEPT_NBYTES", 5000)
    monkeypatch.setattr(chunked, "MAX_AHEAD_NBYTES", 5000)
    x = make((16, 40, 10), "f4")
    found = write(tmp_path / "x.h5", x, chunks=(8, 5, 10), compression="gzip")
    source = opened(tmp_path / "x.h5")
    assert np.array_equal(read_all(source, 400), x)
    assert source.decoded == 8 * len(found)
    assert len(source._slots) <= 3
    # In any order, and by many threads, still the same.
    got = np.empty(x.size, "f4")
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            starts = np.random.default_rng(1).permutation(range(0, x.size, 160))
            list(pool.map(lambda start: source.read_into(got[start : start + 160], start), starts.tolist()))
            assert np.array_equal(got.reshape(x.shape), x)
    source.close()


def test_a_worker_that_would_wait_decodes_the_next_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = make((40, 10), "f4")
    write(tmp_path / "x.h5", x, chunks=(10, 10), compression="gzip")
    source = opened(tmp_path / "x.h5")
    entered, leave, order = threading.Event(), threading.Event(), []
    plain = chunks.decode

    def slow(*args: Any) -> Any:
        order.append(threading.current_thread().name)
        if len(order) == 1:
            entered.set()
            assert leave.wait(10)
        return plain(*args)

    monkeypatch.setattr(chunks, "decode", slow)
    out = np.empty((2, 50), "f4")
    first = threading.Thread(target=source.read_into, args=(out[0], 0), name="first")
    first.start()
    assert entered.wait(10)
    second = threading.Thread(target=source.read_into, args=(out[1], 50), name="second")
    second.start()
    while len(order) < 4:  # all that are left, while the one it needs is under way
        assert second.is_alive()
    leave.set()
    first.join()
    second.join()
    assert order == ["first", "second", "second", "second"]
    assert np.array_equal(out.reshape(-1), x.reshape(-1)[:100])
    source.close()


def test_many_threads_get_the_right_elements_and_decode_each_chunk_once(tmp_path: Path) -> None:
    x = make((60, 7, 9), "f8")
    found = write(tmp_path / "x.h5", x, chunks=(7, 3, 9), compression="gzip", shuffle=True, fletcher32=True)
    source = opened(tmp_path / "x.h5")
    got = np.empty(x.size)
    with ThreadPoolExecutor(8) as pool:
        for turn in range(1, 20):
            list(pool.map(lambda start: source.read_into(got[start : start + 45], start), range(0, x.size, 45)))
            assert np.array_equal(got.reshape(x.shape), x)
            assert source.decoded == turn * len(found)
    source.close()


def corrupt(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as out:
        out.seek(at)
        out.write(data)


DAMAGES: dict[str, Any] = {
    "its checksum does not match": lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
    "make no sense": lambda raw: bytes(2) + raw[2:],
    "cut short": lambda raw: zlib.compress(bytes(3200))[:-6].ljust(len(raw), b"\0")[:18],
    "longer than a chunk": lambda raw: zlib.compress(bytes(99_999), 9),
    "it has 77 bytes, not 3,200": lambda raw: zlib.compress(bytes(77)),
    "its 9,999 bytes are more than it can need": lambda raw: bytes(9999),
}


@pytest.mark.parametrize("problem", DAMAGES)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_damaged_chunk_is_named(tmp_path: Path, problem: str, workers: int) -> None:
    x = np.random.default_rng(0).integers(0, 4, (20, 40)).astype("f8")
    sealed = "checksum" in problem
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("a", data=x, chunks=(10, 40), compression="gzip", fletcher32=sealed)
        raw = dataset.id.read_direct_chunk((10, 0))[1]
        dataset.id.write_direct_chunk((10, 0), DAMAGES[problem](raw))
    source = opened(tmp_path / "x.h5")
    with Engine(workers, tile=800, visit=800) as engine, pytest.raises(InputError) as caught:
        measure(source, whole(x.shape), engine)
    assert "x.h5: cannot be read (the chunk at (10, 0) is damaged: " in str(caught.value)
    assert problem in str(caught.value)
    out = np.empty(400)
    source.read_into(out, 0)  # the others are what they were
    assert np.array_equal(out, x.reshape(-1)[:400])
    source.close()


def test_a_damaged_chunk_that_was_decoded_ahead_is_its_own_readers_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("a", data=np.ones((20, 40)), chunks=(10, 40), compression="gzip")
        dataset.id.write_direct_chunk((10, 0), b"not deflated")
    source = opened(tmp_path / "x.h5")
    out = np.empty(400)
    source.read_into(out, 0)
    assert not source._decode_ahead(0)
    assert not source._slots
    assert not source._decode_ahead(0)  # nor is it tried again
    assert not source._decode_ahead(1)  # there is none after it
    assert source.decoded == 2
    source.close()


def test_a_file_that_shrinks_is_a_change_and_one_that_is_too_short_a_truncation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.h5"
    found = write(path, np.random.default_rng(0).random((20, 40)), chunks=(10, 40), compression="gzip")
    source = opened(path)
    path.write_bytes(path.read_bytes()[: found[1].byte_offset + 5])
    with pytest.raises(ChangedError, match=r"became shorter"):
        read_all(source)
    source.close()
    found = write(path, np.random.default_rng(0).random((20, 40)), chunks=(10, 40), compression="gzip")
    container = Hdf5File(RawFile(str(path), "x.h5"), "x.h5")
    end = max(info.byte_offset + info.size for info in found)
    container._file.identity = container._file.identity._replace(nbytes=end - 1)
    with pytest.raises(InputError, match=rf"is truncated: its chunks end at {end:,}, and the file has {end - 1:,}"):
        container.open("a", "x.h5::a")
    container.close()


def test_what_is_not_covered_goes_through_libhdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(800).reshape(20, 40)
    path = tmp_path / "x.h5"
    cases: dict[str, dict[str, Any]] = {"lzf": {"compression": "lzf"}, "scaleoffset": {"scaleoffset": 0}}
    for options in cases.values():
        write(path, x, chunks=(10, 40), **options)
        source = open_source(str(path))
        assert isinstance(source, Hdf5Source)
        assert np.array_equal(read_all(source, 70), x)
        source.close()
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("a", data=x, chunks=(10, 40), compression="gzip")
    source = open_source(str(path))
    assert isinstance(source, Hdf5Source)
    assert np.array_equal(read_all(source, 70), x)
    source.close()
    write(path, x, chunks=(1, 1))
    monkeypatch.setattr(datasets, "MAX_INDEXED_CHUNKS", 799)
    source = open_source(str(path))
    assert isinstance(source, Hdf5Source)
    source.close()


def test_a_chunk_that_libhdf5_would_read_declares_no_more_bytes_than_it_can_need(tmp_path: Path) -> None:
    x = np.arange(800).reshape(20, 40)
    for nbytes in (2 * 3200 + 1024, 2 * 3200 + 1025):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            dataset = file.create_dataset("a", data=x, chunks=(10, 40), compression="lzf")
            dataset.id.write_direct_chunk((10, 0), bytes(nbytes))
        container = Hdf5File(RawFile(str(tmp_path / "x.h5"), "x.h5"), "x.h5")
        if nbytes == 7424:
            container.open("a", "x.h5::a").close()
        else:
            problem = "the chunk at (10, 0) is damaged: its 7,425 bytes are more than it can need"
            with pytest.raises(InputError, match=re.escape(f"x.h5::a: cannot be read ({problem})")):
                container.open("a", "x.h5::a")
        container.close()


def test_a_dataset_that_was_resized_is_read_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    for shape in ((3, 3), (9, 40), (0, 5)):
        with h5py.File(path, "w") as file:
            dataset = file.create_dataset(
                "a", data=make((7, 9), "f4"), chunks=(4, 4), maxshape=(None, None), compression="gzip", fillvalue=5
            )
            dataset.resize(shape)
            expected = dataset[()]
        source = opened(path)
        assert np.array_equal(read_all(source, 11), expected)
        source.close()


def test_an_index_holds_offsets_and_sizes_beyond_any_file() -> None:
    index = ChunkIndex((4, 4), (2, 2), "x.h5")
    index.add((2, 2), Stored(1 << 64, 1 << 40, 0))
    assert [number in index for number in range(len(index))] == [False, False, False, True]
    assert index[3] == Stored((1 << 63) - 1, (1 << 32) - 1, 0)
    assert (index.end, index.stored, index.nbytes) == ((1 << 64) + (1 << 40), 1, 1 << 40)


# What is wrong with an index; the chunks are (corner, offset, bytes).
WRONG: dict[str, tuple[list[tuple[tuple[int, int], int, int]], str]] = {
    "between the chunks": ([((0, 1), 100, 8)], "names a chunk at (0, 1), which is off the grid"),
    "beyond the tensor": ([((4, 0), 100, 8)], "names a chunk at (4, 0), which is off the grid"),
    "twice": ([((2, 0), 100, 8), ((2, 0), 200, 8)], "names the chunk at (2, 0) twice"),
    "too few": ([((2, 0), 100, 8)], "lists 1 chunks of 8 bytes together, and the dataset has 2 of 16"),
    "too short": (
        [((2, 0), 100, 8), ((2, 2), 108, 7)],
        "lists 2 chunks of 15 bytes together, and the dataset has 2 of",
    ),
    "overlapping": ([((2, 2), 107, 8), ((0, 0), 100, 8)], "the chunk at (0, 0) overlaps the chunk at (2, 2)"),
    "over metadata": ([((0, 0), 100, 8), ((0, 2), 108, 8)], "the chunk at (0, 2) overlaps the metadata"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_index_that_cannot_be_right_is_refused(what: str) -> None:
    listed, problem = WRONG[what]
    index = ChunkIndex((4, 3), (2, 2), "x.h5")
    with pytest.raises(InputError) as caught:
        for corner, offset, nbytes in listed:
            index.add(corner, Stored(offset, nbytes, 0))
        index.check(2, 16, 1000, [(92, 8), (115, 8)])
    assert str(caught.value).startswith("x.h5: cannot be read (its index of chunks is damaged: ")
    assert problem in str(caught.value)


def test_a_chunk_that_was_dropped_meanwhile_is_not_missed(tmp_path: Path) -> None:
    write(tmp_path / "x.h5", np.zeros((4, 4)), chunks=(2, 2))
    source = opened(tmp_path / "x.h5")
    source._took(0, 4)
    assert not source._slots
    source.close()


@pytest.mark.slow
def test_many_chunks_are_found_in_one_call(tmp_path: Path) -> None:
    x = make((16_000, 4), "f4")
    write(tmp_path / "x.h5", x, chunks=(1, 4))
    started = time.process_time()
    source = opened(tmp_path / "x.h5")
    assert time.process_time() - started < 2  # 0.02; asked for one at a time, in 31
    assert np.array_equal(read_all(source, 6400), x)
    source.close()


@pytest.mark.slow
@pytest.mark.parametrize("blocked", [False, True])
def test_the_faster_inflate_is_used_where_it_is_installed(blocked: bool) -> None:
    pytest.importorskip("isal")
    script = f"import sys; sys.modules.update({{'isal': None}} if {blocked} else {{}})"
    script += "; import gncli.io.chunked as c"
    script += "; print(c.inflate.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("zlib" if blocked else "isal.isal_zlib")


@pytest.mark.parametrize("name", ["zlib", "isal.isal_zlib"])
def test_damage_is_told_by_either_inflate(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(chunked, "inflate", pytest.importorskip(name))
    whole = zlib.compress(b"x" * 1000)
    for packed in (whole, whole[:9], b"nonsense", zlib.compress(b"x" * 1001)):
        data = np.frombuffer(packed, np.uint8)
        if packed == whole:
            assert decode(data, (Filter(1, (4,)),), 0, 1000).tobytes() == b"x" * 1000
        else:
            with pytest.raises(chunked.DamagedError):
                decode(data, (Filter(1, (4,)),), 0, 1000)


def test_chunks_that_are_not_stored_are_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File("x.h5", "w") as file:
        for name, options in (("gzip", {"compression": "gzip"}), ("lzf", {"compression": "lzf", "fillvalue": 7})):
            file.create_dataset(name, (40, 10), "f4", chunks=(4, 10), **options)[8:20] = 1.5
        file.create_dataset("one", (40, 10), "i2", chunks=(4, 10), fillvalue=-3)[4:] = 1
        file.create_dataset("full", data=np.ones((40, 10)), chunks=(4, 10))
        file["plain"] = np.ones((40, 10))
    notes = [
        "x.h5::/gzip: 7 of 10 chunks are not stored; their elements are the fill value 0",
        "x.h5::/lzf: 7 of 10 chunks are not stored; their elements are the fill value 7",
        "x.h5::/one: 1 of 10 chunks is not stored; its elements are the fill value -3",
    ]
    assert main(["stats", "x.h5"]) == 0
    out, err = capfd.readouterr()
    assert (out.splitlines()[-3:], err) == (notes, "")
    assert main(["stats", "x.h5", "--format", "json"]) == 0
    out, err = capfd.readouterr()
    counts = {tensor["name"][6:]: tensor.get("not_stored") for tensor in json.loads(out)["tensors"]}
    assert counts == {"/gzip": 7, "/lzf": 7, "/one": 1, "/full": 0, "/plain": None}
    assert err.splitlines() == [f"gncli: {note}" for note in notes]
    assert main(["normalize", "x.h5::lzf", "--groups", "2", "--format", "json"]) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert (found["before"]["not_stored"], "not_stored" in found["after"]) == (7, False)
    assert notes[1].replace("/", "") in err
    assert main(["diff", "x.h5::lzf", "x.h5::gzip", "--format", "json"]) == 1
    out, err = capfd.readouterr()
    assert [json.loads(out)[which]["not_stored"] for which in "ab"] == [7, 7]
    assert [notes[k].replace("/", "") in err for k in (0, 1)] == [True, True]


def test_chunks_without_an_index_in_memory_are_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MAX_INDEXED_CHUNKS", 9)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (40, 10), "f4", chunks=(4, 10))[8:20] = 1.5
    source = open_source(str(tmp_path / "x.h5"))
    assert source.stored_chunks == (3, 10, 0.0)
    source.close()
