"""Damaged and hostile stores: one line and a status of the contract, never a traceback, a fill value or much memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numcodecs.lz4
import numcodecs.zstd
import numpy as np
import pytest

from gncli.cli import main
from gncli.errors import GncliError, InputError, LimitError
from gncli.inputs import Policy
from gncli.io import open_source, open_sources
from gncli.io.chunked import DamagedError
from gncli.io.formats.zarr import metadata, reading
from gncli.io.formats.zarr import store as stores
from gncli.io.formats.zarr.codecs import BYTES_TO_BYTES
from tests.files import read_all
from tests.stores import BYTES, CRC, MISSING, crc, group, shard, sharded, store, v2, v3

ONES = np.ones(2, "<f4").tobytes()


def of(meta: Any, **files: Any) -> Callable[[Path], Any]:
    return lambda path: store(path, meta, **files)


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def with_codecs(*found: Any) -> Callable[[Path], Any]:
    return of(v3((4,), (2,), codecs=[BYTES, *found]))


def damaged(content: bytes | None, *codecs_: Any, **given: Any) -> Callable[[Path], Any]:
    """Return how to write an array of one shard of two chunks with this content, or of one chunk with these codecs."""
    if codecs_:
        return of(v3((2,), (2,), codecs=[BYTES, *codecs_]), c_0=content)
    return of(v3((4,), (4,), codecs=sharded((2,), **given)), c_0=content)


def linked(path: Path) -> None:
    store(path, v3((4,), (2,)), c_0=ONES)
    (path.parent / "secret").write_bytes(ONES)
    os.symlink("../../secret", path / "c" / "1")


def linked_folder(path: Path) -> None:
    store(path, v3((4,), (2,)))
    store(path.parent / "far", v3((4,), (2,)), c_0=ONES)
    os.symlink("../far/c", path / "c")


def linked_metadata(path: Path) -> None:
    store(path.parent / "far", v3((4,), (2,)))
    path.mkdir()
    os.symlink("../far/zarr.json", path / "zarr.json")


def dangling(path: Path) -> None:
    store(path, v3((4,), (2,)), c_0=ONES)
    os.symlink("nowhere", path / "c" / "1")


def fifo(path: Path) -> None:
    store(path, v3((4,), (2,)), c_0=ONES)
    os.mkfifo(path / "c" / "1")


def folder(path: Path) -> None:
    store(path, v3((4,), (2,)), c_0=ONES)
    (path / "c" / "1").mkdir()


def another_version_2(path: Path) -> None:
    store(path, v2((4,), (2,)))
    (path / ".zarray").write_text(json.dumps(v2((4,), (2,)) | {"zarr_format": 1}))


def large(path: Path) -> None:
    store(path, b"")
    with (path / "zarr.json").open("r+b") as file:
        file.truncate(1 << 30)


BOMB = gzip.compress(bytes(1 << 19))
LONG = zlib.compress(bytes(1 << 19))
HUGE = 1 << 40

# What is made, the status, and what is said.
CASES: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "not JSON": (of(b"{"), 3, "has metadata that are not JSON"),
    "not UTF-8": (of(b"\xff"), 3, "has metadata that are not JSON"),
    "a list": (of(b"[]"), 3, "has metadata that are no object of JSON"),
    "a key twice": (of(b'{"shape": [1], "shape": [2]}'), 3, "(a key comes twice)"),
    "deep JSON": (of(b'{"a":' * 100_000), 3, "has metadata that are not JSON"),
    "many values": (of(b"[" + b"0," * (1 << 20) + b"0]"), 5, "has metadata of more than 1,048,576 values"),
    "a GB of metadata": (large, 5, "has metadata of 1,073,741,824 bytes; the limit is 16,777,216"),
    "another version": (of(v3((4,), (2,), zarr_format=4)), 3, "zarr_format and node_type are not those"),
    "version 2, wrong": (of(v2((4,), (2,), zarr_format=2) | {"zarr_format": 2, "dtype": 4}), 3, "dtype is none of"),
    "version 1": (another_version_2, 3, "zarr_format is not 2"),
    "a node of no type": (of(v3((4,), (2,), node_type="thing")), 3, "zarr_format and node_type are not those"),
    "no shape": (of(v3((4,), (2,), shape=None)), 3, "shape is no list of at most 64 sizes"),
    "a shape of text": (of(v3((4,), (2,), shape="4")), 3, "shape is no list"),
    "a negative size": (of(v3((4,), (2,), shape=[-4])), 3, "shape has what is no size"),
    "a boolean size": (of(v3((4,), (2,), shape=[True])), 3, "shape has what is no size"),
    "a size of 2**63": (of(v3((1 << 63,), (2,))), 3, "shape has what is no size"),
    "65 axes": (of(v3((1,) * 65, (1,) * 65)), 3, "shape is no list of at most 64 sizes"),
    "a huge shape": (of(v3((HUGE, HUGE), (1, 1 << 20))), 3, "has a shape that is too large for any array"),
    "a shape of many chunks": (of(v3((HUGE,), (1,))), 5, "has 1,099,511,627,776 chunks; the limit is 16,777,216"),
    "a sparse shape": (of(v3((HUGE,), (1 << 20,)), c_0=ONES), 5, "declares 4,398,046,511,104 bytes and stores 8"),
    "a chunk of no elements": (of(v3((4,), (0,))), 3, "chunk_shape is [0]: a chunk without elements"),
    "a chunk of other axes": (of(v3((4,), (2, 2))), 3, "chunk_shape has 2 axes, and the array 1"),
    "a huge chunk": (of(v3((HUGE,), (HUGE >> 8,))), 5, "has chunks of 17,179,869,184 bytes; the limit is 67,108,864"),
    "another grid": (of(v3((4,), (2,), chunk_grid=codec("rectangular"))), 3, "has the chunk grid rectangular, which"),
    "a grid without a name": (of(v3((4,), (2,), chunk_grid={})), 3, "chunk_grid has no name or no configuration"),
    "a grid of a list": (of(v3((4,), (2,), chunk_grid=codec("regular") | {"configuration": []})), 3, "chunk_grid has"),
    "another key": (of(v3((4,), (2,), chunk_key_encoding=codec("hash"))), 3, "has the chunk key encoding hash, which"),
    "a separator": (of(v3((4,), (2,), chunk_key_encoding=codec("default", separator="../"))), 3, "is neither / nor ."),
    "an unknown field": (
        of(v3((4,), (2,), filters_of_mine=[])),
        3,
        "has the field filters_of_mine, which",
    ),
    "a transformer": (
        of(v3((4,), (2,), storage_transformers=[{}])),
        3,
        "has a storage transformer, which",
    ),
    "objects": (of(v2((4,), (2,), dtype="|O")), 3, "holds Python objects, which only unpickling could read"),
    "records": (of(v2((4,), (2,), dtype=[["a", "<f4"]])), 3, "holds raw or structured records, not numbers"),
    "dates": (of(v2((4,), (2,), dtype="<M8[ns]")), 3, "holds dates, not numbers"),
    "no dtype": (of(v2((4,), (2,), dtype="<q9")), 3, "holds elements of a type that is not read (dtype <q9)"),
    "two dtypes": (of(v2((4,), (2,), dtype="<f4,<f4")), 3, "dtype is none of NumPy's"),
    "text": (of(v3((4,), (2,), data_type="string")), 3, "holds elements of a type that is not read (dtype string)"),
    "complex": (of(v3((4,), (2,), data_type="complex64")), 3, "holds complex numbers, which have no order"),
    "a dtype of a number": (of(v3((4,), (2,), data_type=5)), 3, "data_type has no name or no configuration"),
    "no fill value": (of(v3((4,), (2,), fill_value=None)), 3, "fill_value is none of float32"),
    "a fill value of text": (of(v3((4,), (2,), fill_value="zero")), 3, "fill_value is none of float32"),
    "a fill value too large": (of(v3((4,), (2,), data_type="int8", fill_value=128)), 3, "fill_value is none of int8"),
    "a fill value of half": (of(v3((4,), (2,), data_type="int8", fill_value=0.5)), 3, "fill_value is none of int8"),
    "a boolean fill value": (of(v3((4,), (2,), fill_value=True)), 3, "fill_value is none of float32"),
    "a number as a boolean": (of(v3((4,), (2,), data_type="bool", fill_value=1)), 3, "fill_value is none of bool"),
    "a large integer": (of(v3((4,), (2,), fill_value=10**400)), 3, "fill_value is none of float32"),
    "bits of another size": (of(v3((4,), (2,), fill_value="0x0000")), 3, "fill_value is none of float32"),
    "an order": (of(v2((4,), (2,), order="K")), 3, "order is not one of C, F"),
    "filters of text": (of(v2((4,), (2,), filters="shuffle")), 3, "filters are no list"),
    "a filter without an id": (of(v2((4,), (2,), filters=[{}])), 3, "a codec has no id"),
    "pickled": (
        of(v2((4,), (2,), filters=[{"id": "pickle"}])),
        3,
        "has the codec pickle, which is not known",
    ),
    "an unknown field of 2": (of(v2((4,), (2,), extra=1)), 3, "has the field extra, which is not known"),
    "an unknown codec": (with_codecs(codec("mine")), 3, "has the codec mine, which is not known; write it again"),
    "a codec of numcodecs": (with_codecs(codec("numcodecs.pickle")), 3, "has the codec numcodecs.pickle, which is not"),
    "no codecs": (of(v3((4,), (2,), codecs=None)), 3, "codecs are no list"),
    "codecs without bytes": (of(v3((4,), (2,), codecs=[])), 3, "has no codec bytes"),
    "no byte order": (of(v3((4,), (2,), codecs=["bytes"])), 3, "the codec bytes does not say the byte order"),
    "a byte order": (of(v3((4,), (2,), codecs=[codec("bytes", endian="middle")])), 3, "is neither little nor big"),
    "a byte order of a list": (of(v3((4,), (2,), codecs=[codec("bytes", endian=[])])), 3, "is neither little nor big"),
    "another first codec": (
        of(v3((4,), (2,), codecs=[codec("vlen-utf8")])),
        3,
        "has the codec vlen-utf8, which",
    ),
    "a transposition": (of(v3((4,), (2,), codecs=[codec("transpose", order=[1]), BYTES])), 3, "is none of its axes"),
    "a shuffle of 0": (with_codecs(codec("numcodecs.shuffle", elementsize=0)), 3, "shuffle has no size of elements"),
    "a codec as a number": (with_codecs(5), 3, "a codec has no name or no configuration"),
    "shards encoded again": (of(v3((4,), (4,), codecs=[*sharded((2,)), CRC])), 3, "has shards that are encoded again"),
    "shards in shards": (of(v3((4,), (4,), codecs=sharded((4,), *sharded((2,))))), 3, "has shards within shards"),
    "shards of halves": (of(v3((4,), (4,), codecs=sharded((3,)))), 3, "shards of [4] do not consist of chunks of [3]"),
    "an index in the middle": (
        of(v3((4,), (4,), codecs=sharded((2,), place="middle"))),
        3,
        "no place for its index",
    ),
    "a compressed index": (
        of(v3((4,), (4,), codecs=sharded((2,), index=[BYTES, codec("gzip", level=1)]))),
        3,
        "has an index of shards encoded by bytes, gzip, which is not known",
    ),
    "shards with more": (
        of(v3((4,), (4,), codecs=[codec("sharding_indexed", chunk_shape=[2], secret=1)])),
        3,
        "has a codec sharding_indexed with chunk_shape, secret",
    ),
    "shards of many chunks": (of(v3((4,), (HUGE,), codecs=sharded((1,)))), 5, "has 1,099,511,627,776 chunks"),
    "attributes not JSON": (of(v2((4,), (2,)), **{".zattrs": b"{"}), 3, "has metadata that are not JSON"),
    "a short chunk": (of(v3((2,), (2,)), c_0=ONES[:-1]), 3, "the chunk at (0,) is damaged: it has 7 bytes, not 8"),
    "a long chunk": (of(v3((2,), (2,)), c_0=ONES + b"0"), 3, "the chunk at (0,) is damaged: it has 9 bytes, not 8"),
    "a huge file": (of(v3((2,), (2,)), c_0=bytes(9999)), 3, "its 9,999 bytes are more than it can need"),
    "a bad checksum": (damaged(ONES + bytes(4), CRC), 3, "the chunk at (0,) is damaged: its checksum does not match"),
    "a short checksum": (damaged(b"ab", CRC), 3, "the chunk at (0,) is damaged: its checksum does not match"),
    "bad gzip": (damaged(b"0" * 20, codec("gzip")), 3, "its compressed data make no sense"),
    "short gzip": (damaged(gzip.compress(ONES)[:-9], codec("gzip")), 3, "its compressed data are cut short"),
    "a bomb of gzip": (damaged(BOMB, codec("gzip")), 3, "it is longer than a chunk"),
    "a bomb of zlib": (damaged(LONG, codec("numcodecs.zlib")), 3, "it is longer than a chunk"),
    "bad zstd": (damaged(b"0" * 20, codec("zstd")), 3, "its compressed data make no sense"),
    "short zstd": (damaged(b"\x28\xb5\x2f\xfd", codec("zstd")), 3, "its compressed data make no sense"),
    "zstd of no size": (damaged(b"\x28\xb5\x2f\xfd\x00\x58\x41\x00\x00", codec("zstd")), 3, "does not say its size"),
    "cut zstd": (damaged(numcodecs.zstd.compress(ONES, 1)[:-3], codec("zstd")), 3, "compressed data make no sense"),
    "a bomb of zstd": (damaged(numcodecs.zstd.compress(bytes(1 << 22), 1), codec("zstd")), 3, "longer than a chunk"),
    "a bomb of LZ4": (damaged(b"\xff\xff\xff\x7f" + bytes(9), codec("numcodecs.lz4")), 3, "it is longer than a chunk"),
    "bad LZ4": (damaged(b"\x08\0\0\0" + bytes(9), codec("numcodecs.lz4")), 3, "its compressed data make no sense"),
    "short blosc": (damaged(b"\x02\x01", codec("blosc")), 3, "its compressed data are cut short"),
    "a bomb of blosc": (
        damaged(b"\x02\x01\x21\x04" + b"\0\0\0\x7f" + bytes(4) + b"\x20\0\0\0" + bytes(16), codec("blosc")),
        3,
        "it is longer than a chunk",
    ),
    "bad blosc": (
        damaged(b"\x02\x01\x21\x04" + b"\x08\0\0\0" * 2 + b"\x20\0\0\0" + b"\xff" * 16, codec("blosc")),
        3,
        "its compressed data make no sense",
    ),
    "bad bz2": (damaged(b"0" * 20, codec("numcodecs.bz2")), 3, "its compressed data make no sense"),
    "cut bz2": (damaged(bz2.compress(ONES)[:-9], codec("numcodecs.bz2")), 3, "its compressed data are cut short"),
    "a bomb of lzma": (damaged(lzma.compress(bytes(1 << 18)), codec("numcodecs.lzma")), 3, "it is longer than a chunk"),
    "bad lzma": (damaged(b"0" * 20, codec("numcodecs.lzma")), 3, "its compressed data make no sense"),
    "a truncated shard": (damaged(shard(ONES, ONES)[-20:]), 3, "(the shard c/0 is damaged: it has 20 bytes, and its"),
    "an index flipped": (
        damaged(shard(ONES, ONES)[:-5] + b"\xff" + shard(ONES, ONES)[-4:]),
        3,
        "the checksum of its index: its checksum does not match)",
    ),
    "an index beyond": (damaged(shard(ONES, entries=[(0, 8), (1 << 63, 1 << 63)])), 3, "names bytes that it"),
    "an index that wraps": (
        damaged(shard(ONES, entries=[(0, 8), (MISSING - 7, 8)])),
        3,
        "names bytes that it",
    ),
    "half an entry": (
        damaged(shard(ONES, entries=[(0, 8), (MISSING, 8)])),
        3,
        "its index names bytes",
    ),
    "an empty entry": (
        damaged(shard(ONES, entries=[(0, 8), (0, 0)])),
        3,
        "its index names bytes that it does",
    ),
    "a large entry": (
        damaged(shard(bytes(4000), None, entries=[(0, 4000), (0, 8)])),
        3,
        "its 4,000 bytes are more than it can need",
    ),
    "a link out": (linked, 3, "has the file c/1, which is a link out of the store; copy it into the store, with cp -L"),
    "a folder linked": (linked_folder, 3, "has the folder c, which is a link; copy the store with cp -rL"),
    "metadata linked": (linked_metadata, 3, "has the file zarr.json, which is a link out of the store"),
    "a link to nothing": (dangling, 3, "cannot be read (No such file or directory)"),
    "a FIFO": (fifo, 3, "has c/1, which is no file"),
    "a folder as a chunk": (folder, 3, "has c/1, which is no file"),
    "a chunk below a file": (of(v3((4, 4), (2, 4)), c=b""), 3, "cannot be read (Not a directory)"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_in_one_line(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, status, said = CASES[case]
    monkeypatch.chdir(tmp_path)
    make(Path("x.zarr"))
    assert main(["stats", "x.zarr", "-s", "mean"]) == status
    out, err = capfd.readouterr()
    lines = [line for line in err.splitlines() if "not stored" not in line]
    assert (out, len(lines)) == ("", 1)
    assert lines[0].startswith("gncli: error: x.zarr: ")
    assert said in lines[0]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), TimeoutError(110, "Connection timed out")])
@pytest.mark.parametrize("call", ["stat", "open", "scandir"])
@pytest.mark.parametrize("layout", ["chunks", "shards"])
def test_a_file_that_cannot_be_read_is_an_error_and_no_fill_value(
    error: OSError, call: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout == "chunks":
        path = store(tmp_path / "x", v3((4,), (2,)), c_0=ONES)
    else:
        path = store(tmp_path / "x", v3((8,), (4,), codecs=sharded((2,))), c_0=shard(ONES, None))
    real = getattr(os, call)

    def failing(place: Any, *more: Any, **given: Any) -> Any:
        if "c" in Path(os.fspath(place)).parts[-2:]:
            raise error
        return real(place, *more, **given)

    source = open_source(path)
    monkeypatch.setattr(os, call, failing)
    with pytest.raises(InputError) as caught:
        assert source.not_stored if call == "scandir" else read_all(source, 100) is None
    assert caught.value.problem == f"cannot be read ({error.strerror})"
    source.close()


def test_limits_are_lifted_by_those_who_ask(tmp_path: Path) -> None:
    path = store(tmp_path / "x", v3((HUGE,), (1 << 20,)), c_0=bytes(4 << 20))
    with pytest.raises(LimitError) as caught:
        open_source(path)
    assert caught.value.hint == "--allow-sparse reads it"
    with open_source(path, policy=Policy(sparse=True)) as source:
        out = np.empty(10, "f4")
        source.read_into(out, HUGE - 10)
        assert not out.any()
    path = store(tmp_path / "y", v3((30 << 20,), (30 << 20,)))
    with pytest.raises(LimitError) as caught:
        open_source(path)
    assert caught.value.hint == f"--max-chunk {120 << 20} reads them, each whole in memory"
    open_source(path, policy=Policy(max_chunk=120 << 20)).close()


def test_what_is_large_and_stored_is_no_sparse_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SPARSE_NBYTES", 1000)
    path = store(tmp_path / "x", v3((4000,), (100,)), c_0=bytes(400), c_9=bytes(400))
    with open_source(path) as source:
        assert source.not_stored == 38


def test_fields_that_need_not_be_understood_are_passed_over(tmp_path: Path) -> None:
    more = {"mine": {"must_understand": False}, "storage_transformers": [], "attributes": {"a": float("nan")}}
    with open_source(store(tmp_path / "x", v3((2,), (2,), **more), c_0=ONES)) as source:
        assert read_all(source).tolist() == [1, 1]


@pytest.mark.parametrize("names", [["a"], ["a", 3], "ab", [None, None], {}])
def test_names_of_axes_that_make_no_sense_name_none(tmp_path: Path, names: Any) -> None:
    with open_source(store(tmp_path / "x", v3((2, 1), (2, 1), dimension_names=names))) as source:
        assert source.dimensions == ()


@pytest.mark.slow
def test_deep_and_many_groups_are_walked_and_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "x.zarr"
    group(place)
    for _ in range(300):
        place = place / "g"
        group(place)
    store(place / "a", v3((2,), (2,)), c_0=ONES)
    os.symlink(tmp_path / "x.zarr", tmp_path / "x.zarr" / "again")
    with open_sources(str(tmp_path / "x.zarr")) as listing:
        assert listing.members == ["/g" * 300 + "/a"]
    monkeypatch.setattr(reading, "MAX_MEMBERS", 299)
    with pytest.raises(LimitError) as caught:
        open_sources(str(tmp_path / "x.zarr"))
    assert caught.value.problem == "has more than 299 groups and arrays"


def test_a_link_inside_the_store_is_followed(tmp_path: Path) -> None:
    path = store(tmp_path / "x", v3((4,), (2,)), c_0=ONES)
    os.symlink("0", tmp_path / "x" / "c" / "1")
    with open_source(path) as source:
        assert read_all(source).tolist() == [1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("change", [1, 2])
def test_metadata_with_any_byte_changed_give_an_array_or_an_error_of_ours(tmp_path: Path, change: int) -> None:
    whole = json.dumps(v3((4,), (4,), codecs=sharded((2,)), dimension_names=["a"])).encode()
    path = store(tmp_path / "x", whole, c_0=shard(ONES, ONES))
    rng = random.Random(change)
    kept = 0
    for place in range(len(whole)):
        text = bytearray(whole)
        text[place] = rng.choice(b'0"{}[],:-1e.x\0\xff')
        (tmp_path / "x" / "zarr.json").write_bytes(text)
        try:
            with open_source(path) as source:
                read_all(source, 100) if np.prod(source.shape) < 1000 else None
                kept += 1
        except GncliError:
            continue
    assert 0 < kept < len(whole) / 4


@pytest.mark.parametrize("name", [name for name in BYTES_TO_BYTES if name != "shuffle"])
def test_any_bytes_are_decoded_or_damaged(name: str) -> None:
    data = np.random.default_rng(0).integers(0, 256, 4000, np.uint8)
    good: dict[str, Any] = {
        "zstd": lambda x: numcodecs.zstd.compress(x, 1),
        "lz4": lambda x: numcodecs.lz4.compress(x, 1),
        "blosc": lambda x: numcodecs.blosc.compress(x, b"lz4", 5, 1),
        "gzip": gzip.compress,
        "crc32c": lambda x: crc(bytes(x)),
    }
    whole = bytearray(good.get(name, zlib.compress)(np.sort(data)))
    rng = random.Random(0)
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(min(len(changed), 60))] = rng.randrange(256)
        cut = changed[: rng.randint(0, len(changed))] if rng.random() < 0.3 else changed
        try:
            found = BYTES_TO_BYTES[name](np.frombuffer(bytes(cut), np.uint8), 4000, 1)
        except DamagedError:
            continue
        assert found.size <= 4000
    assert metadata.MAX_CHUNKS and stores.MAX_METADATA_NBYTES
