"""Zarr stores, read: the elements that zarr-python and tensorstore wrote, what is not stored, what changes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gncli.cli import main
from gncli.errors import ChangedError, InputError
from gncli.io import Source, member_names, open_source, open_sources
from gncli.io.formats.zarr.reading import ZarrSource
from gncli.kernels.floats import FLOATS
from tests.files import DTYPES, SHAPES, make, read_all
from tests.marks import examples
from tests.peer import Peer, peer
from tests.stores import MISSING, crc, group, shard, sharded, store, v2, v3

X = make((5, 6, 7), "<f4")


@pytest.fixture(scope="module")
def other() -> Iterator[Peer]:
    with peer() as process:
        yield process


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


COMPRESSORS: dict[str, Any] = {
    "nothing": None,
    "gzip": codec("gzip", level=1),
    "zstd": codec("zstd", level=3, checksum=True),
    "blosc": codec("blosc", cname="lz4", clevel=5, shuffle="shuffle", typesize=4, blocksize=0),
    "crc32c": [codec("zstd", level=1, checksum=False), codec("crc32c")],
    "lz4": codec("numcodecs.lz4", acceleration=1),
    "shuffle": [codec("numcodecs.shuffle", elementsize=4), codec("numcodecs.zlib", level=1)],
}


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("layout", ["chunks", "shards", "transposed", "big"])
def test_what_zarr_python_wrote_in_version_3_is_read(tmp_path: Path, other: Peer, compressor: str, layout: str) -> None:
    given: dict[str, Any] = {"chunks": (2, 3, 4), "compressors": COMPRESSORS[compressor]}
    layouts: dict[str, dict[str, Any]] = {
        "chunks": {},
        "shards": {"shards": (4, 6, 8)},
        "transposed": {"filters": [codec("transpose", order=[2, 0, 1])]},
        "big": {"serializer": codec("bytes", endian="big"), "dimension_names": ["a", None, "c"], "fill_value": "NaN"},
    }
    given |= layouts[layout]
    x = X.astype(">f4") if layout == "big" else X
    other.write(tmp_path / "x.zarr", x, stored=slice(0, 4), **given)
    expected = X.copy()
    expected[4:] = np.nan if layout == "big" else 0
    for name in ("x.zarr", "x.zarr/"):
        with open_source(str(tmp_path / name)) as source:
            assert (source.shape, source.order, source.dtype) == (X.shape, "C", x.dtype)
            assert source.dimensions == (("a", "", "c") if layout == "big" else ())
            assert np.array_equal(read_all(source, 37), expected, equal_nan=True)
            assert source.stored_chunks is not None and source.stored_chunks[:2] == (8, 12)
            source.verify_unchanged()


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype[0] != "<"])
def test_every_dtype_and_filter_of_version_2_is_read(tmp_path: Path, other: Peer, dtype: str) -> None:
    x = make((5, 6, 7), dtype)
    for number, (order, separator) in enumerate((order, sep) for order in "CF" for sep in "./"):
        given: dict[str, Any] = {"order": order, "fill_value": 1, "compressors": "auto" if number % 2 else None}
        given["config"] = {"write_empty_chunks": True}
        encoding = {"name": "v2", "separator": separator}
        path = tmp_path / f"{number}.zarr"
        other.write(path, x, stored=slice(2, 5), chunks=(2, 3, 4), zarr_format=2, chunk_key_encoding=encoding, **given)
        (path / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": ["t", "y", "x"], "url": "s3://bucket/key"}))
        with open_source(str(path)) as source:
            assert (source.dtype_name, source.dimensions) == (x.dtype.name, ("t", "y", "x"))
            expected = x.copy()
            expected[:2] = 1
            assert np.array_equal(read_all(source, 50), expected)
            assert source.not_stored == 4


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype[0] == ">"])
def test_version_2_says_the_byte_order_with_the_dtype(tmp_path: Path, dtype: str) -> None:
    x = make((3,), dtype)
    path = store(tmp_path / "x", v2((3,), (2,), dtype=dtype), **{"0": x[:2], "1": x[1:]})
    with open_source(path) as source:
        assert source.dtype == np.dtype(dtype)
        assert read_all(source).tolist() == [x[0], x[1], x[1]]


@pytest.mark.parametrize("codec_of", ["zlib", "bz2", "lzma", "gzip"])
def test_the_compressors_of_the_standard_library_are_undone(tmp_path: Path, codec_of: str) -> None:
    import bz2
    import gzip
    import lzma
    import zlib

    packed: Any = {"zlib": zlib.compress, "bz2": bz2.compress, "lzma": lzma.compress, "gzip": gzip.compress}[codec_of]
    x = X[0, 0, :6].copy()
    meta = v2((6,), (4,), compressor={"id": codec_of, "level": 1})
    path = store(tmp_path / "x", meta, **{"0": packed(x[:4].tobytes()), "1": packed(x[2:].tobytes())})
    with open_source(path) as source:
        assert read_all(source).tolist() == [*x[:4], *x[2:4]]


@pytest.mark.parametrize("shape", SHAPES)
def test_scalars_and_empty_arrays_are_read(tmp_path: Path, other: Peer, shape: tuple[int, ...]) -> None:
    x = make(shape, "<f4")
    for version in (2, 3):
        other.write(tmp_path / f"{version}", x, zarr_format=version, chunks=tuple(max(1, size) for size in shape))
        with open_source(str(tmp_path / f"{version}")) as source:
            assert np.array_equal(read_all(source), x)
            assert source.not_stored == 0


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
def test_dtypes_that_numpy_lacks_are_read_by_their_names(tmp_path: Path, other: Peer, name: str, driver: str) -> None:
    kind = FLOATS[name]
    raw = np.arange(40, dtype=kind.stored).reshape(4, 10)
    wide = np.empty(40, "f4")
    kind.widen(raw.reshape(-1), wide)
    chunks: dict[str, Any] = {"chunks": [2, 5], "dtype": name, "compressor": None}
    if driver == "zarr3":
        grid = codec("regular", chunk_shape=[2, 5])
        chunks = {"data_type": name, "chunk_grid": grid, "fill_value": "NaN"}
    if driver == "zarr" and name == "float8_e5m2":
        pytest.skip("tensorstore writes it as another type of NumPy")
    if not other.tensorstore_write(tmp_path / "x", raw, driver, {"shape": [4, 10], **chunks}):
        pytest.skip("no tensorstore")
    folder = tmp_path / "x" if driver == "zarr" else tmp_path / "x" / "c" / "0"
    (folder / ("0.1" if driver == "zarr" else "1")).unlink()
    with open_source(str(tmp_path / "x")) as source:
        assert (source.dtype_name, source.dtype) == (name, np.dtype("f4"))
        got = read_all(source, 7)
        assert np.array_equal(got[2:], wide.reshape(4, 10)[2:])
        assert np.isnan(got[:2, 5:]).all() if driver == "zarr3" else not got[:2, 5:].any()
        fill = source.stored_chunks[2] if source.stored_chunks else None
        assert source.not_stored == 1 and (fill != fill if driver == "zarr3" else fill == 0)


@pytest.mark.slow
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_shape_chunk_shard_and_order_is_read(tmp_path: Path, other: Peer, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)))
    chunk = tuple(data.draw(st.integers(1, 4)) for _ in shape)
    shards = tuple(n * data.draw(st.integers(1, 3)) for n in chunk) if data.draw(st.booleans()) else None
    version = 2 if shards is None and data.draw(st.booleans()) else 3
    x = make(shape, data.draw(st.sampled_from(DTYPES)))
    rows = data.draw(st.integers(0, shape[0]))
    given: dict[str, Any] = {"order": data.draw(st.sampled_from("CF"))} if version == 2 else {"shards": shards}
    path = tmp_path / os.urandom(8).hex()
    other.write(path, x, stored=slice(0, rows), chunks=chunk, zarr_format=version, **given)
    x[rows:] = 0
    with open_source(str(path)) as source:
        assert isinstance(source, ZarrSource)
        assert np.array_equal(read_all(source, data.draw(st.integers(1, 100))), x)
        assert source.stored_chunks is not None
        stored = np.zeros(source.grid.grid, bool)
        for cell in np.ndindex(source.grid.grid):
            box = tuple(slice(at * n, (at + 1) * n) for at, n in zip(cell, chunk, strict=True))
            stored[cell] = x[box].any()
        # A chunk that is all fill value is left out by zarr-python; one that was never written is not there.
        assert source.stored_chunks.stored == stored.sum()


def test_the_same_numbers_from_npy_and_from_three_chunkings(
    tmp_path: Path, other: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).standard_normal((8, 8, 6, 6)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    other.write(tmp_path / "a.zarr", x, chunks=(1, 8, 6, 6))
    other.write(tmp_path / "b.zarr", x, chunks=(3, 2, 5, 4), compressors=None)
    other.write(tmp_path / "c.zarr", x, chunks=(8, 1, 3, 6), shards=(8, 4, 6, 6))
    said, written = set(), set()
    for name in ("x.npy", "a.zarr", "b.zarr", "c.zarr"):
        given = ["normalize", str(tmp_path / name), "-G", "2", "-fo", str(tmp_path / "y.npy"), "--format", "csv"]
        assert main(given) == 0
        out, err = capfd.readouterr()
        assert err == ""
        said.add(out.replace(name, ""))
        written.add((tmp_path / "y.npy").read_bytes())
    assert (len(said), len(written)) == (1, 1)


# --- what is not stored ----------------------------------------------------------------------------------------------


def test_chunks_that_are_not_stored_are_counted_and_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ones = np.ones(2, "<f4")
    path = store(tmp_path / "x.zarr", v3((8,), (2,)), c_0=ones, c_1=ones, c_3=ones)
    assert main(["stats", path, "--format", "json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["tensors"][0]["not_stored"] == 1
    note = f"{path}: 1 of 4 chunks is not stored; its elements are the fill value 0"
    assert err == f"gncli: {note}\n"
    assert main(["stats", path, "-s", "not_stored,mean", "--format", "value"]) == 0
    assert capfd.readouterr() == ("1\n0.75\n", f"gncli: {note}\n")
    for by in ([], ["--by", "0"]):
        given = ["stats", path, *by, "-s", "mean", "--format", "csv", "--expect", "not_stored == 0"]
        assert main(given) == 1
        assert "not_stored is 1, expected == 0" in capfd.readouterr().err


def test_a_gate_on_chunks_passes_where_all_are_stored_or_there_are_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", X)
    path = store(tmp_path / "x.zarr", v3((2,), (2,)), c_0=np.ones(2, "<f4"))
    assert main(["stats", path, str(tmp_path / "x.npy"), "--expect", "not_stored == 0", "-s", "mean"]) == 0
    assert capfd.readouterr().err == ""


def test_inner_chunks_of_a_shard_are_counted_by_its_index(tmp_path: Path) -> None:
    one = np.ones(2, "<f4").tobytes()
    path = store(tmp_path / "x", v3((12,), (8,), codecs=sharded((2,))), c_0=shard(one, None, one, None))
    with open_source(path) as source:
        assert source.stored_chunks == (2, 6, 0.0)
        assert read_all(source).tolist() == [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    for place, parts in (("start", (1, 0)), ("end", (0, 1))):
        body = one + one
        at = 16 * 4 + 4 if place == "start" else 0
        index = crc(np.array([(at, 8), (MISSING, MISSING), (at + 8, 8), (MISSING, MISSING)], "<u8").tobytes())
        content = b"".join((body, index)[part] for part in parts)
        store(tmp_path / place, v3((12,), (8,), codecs=sharded((2,), place=place)), c_0=content)
        with open_source(str(tmp_path / place)) as source:
            assert read_all(source, 3).sum() == 4


def test_an_index_without_a_checksum_and_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    one = np.ones(2, "<f4").tobytes()
    index = [{"name": "bytes", "configuration": {"endian": "big"}}]
    content = one + np.array([(MISSING, MISSING), (0, 8)], ">u8").tobytes()
    store(tmp_path / "x", v3((4,), (4,), codecs=sharded((2,), index=index)), c_0=content)
    with open_source(str(tmp_path / "x")) as source:
        assert read_all(source).tolist() == [0, 0, 1, 1]


def test_files_that_are_no_chunks_are_not_counted(tmp_path: Path) -> None:
    ones = np.ones(2, "<f4")
    files: dict[str, Any] = {"0": ones, "9": ones, "00": ones, "0.0": ones, ".zattrs": b"{}"}
    path = store(tmp_path / "x", v2((4,), (2,)), **files)
    with open_source(path) as source:
        assert source.stored_chunks == (1, 2, 0.0)
    path = store(tmp_path / "s", v2((), ()), **{"0": ones[:1], "1": ones})
    with open_source(path) as source:
        assert source.stored_chunks == (1, 1, 0.0)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", "NaN", np.nan),
        ("float32", "-Infinity", -np.inf),
        ("float64", "0x3ff0000000000000", 1.0),
        ("float16", "0x3c00", 1.0),
        ("float32", 2, 2.0),
        ("float16", 1e300, np.inf),
        ("int8", -128, -128),
        ("uint64", (1 << 64) - 1, (1 << 64) - 1),
        ("int16", 5.0, 5),
        ("bool", True, 1),
    ],
)
def test_the_fill_value_is_read_as_it_is_written(tmp_path: Path, dtype: str, value: Any, expected: Any) -> None:
    path = store(tmp_path / "x", v3((3,), (2,), data_type=dtype, fill_value=value))
    with open_source(path) as source:
        assert np.array_equal(read_all(source), np.full(3, expected, dtype), equal_nan=dtype[0] == "f")
        assert source.stored_chunks is not None and source.stored_chunks[:2] == (0, 2)


@pytest.mark.parametrize("dtype", ["<f4", "bfloat16"])
def test_without_a_fill_value_version_2_is_0_where_no_chunk_is(tmp_path: Path, dtype: str) -> None:
    path = store(tmp_path / "x", v2((3,), (2,), dtype=dtype, fill_value=None))
    with open_source(path) as source:
        assert read_all(source).tolist() == [0, 0, 0]
        assert source.dtype_name == {"<f4": "float32"}.get(dtype, dtype)


# --- groups ----------------------------------------------------------------------------------------------------------


def several(folder: Path) -> Path:
    """Return a store of arrays of both versions in groups."""
    ones = np.ones(2, "<f4")
    root = folder / "m.zarr"
    for path in (root, root / "g", root / "g" / "deep"):
        group(path)
    store(root / "g" / "a10", v3((2,), (2,)), c_0=ones)
    store(root / "g" / "a9", v3((2,), (2,)), c_0=2 * ones)
    store(root / "g" / "deep" / "text", v3((2,), (2,), data_type="string", fill_value=""))
    store(root / "old", v2((2,), (2,)), **{"0": 3 * ones})
    store(root / "bad", b"{")
    (root / "no metadata").mkdir()
    return root


def test_a_group_stands_for_its_arrays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = several(tmp_path)
    assert member_names(str(root), 1) == ["/bad", "/g/a9", "/g/a10", "/old"]
    listing = open_sources(str(root))
    assert (listing.members, listing.skipped, listing.many) == (["/bad", "/g/a9", "/g/a10", "/old"], 1, True)
    listing.close()
    assert main(["stats", str(root), "-s", "mean", "--format", "value"]) == 3
    out, err = capfd.readouterr()
    assert out == "2.0\n1.0\n3.0\n"
    assert f"gncli: error: {root}::/bad: has metadata that are not JSON" in err
    for name, mean in (("::/g/a10", 1), ("::g/a9", 2), ("::old", 3), ("/g/a9", 2)):
        with open_source(f"{root}{name}") as source:
            assert read_all(source).mean() == mean


def test_a_store_in_a_folder_is_one_of_its_files(tmp_path: Path) -> None:
    several(tmp_path / "all")
    np.save(tmp_path / "all" / "x.npy", X)
    store(tmp_path / "all" / "lone", v3((1,), (1,)))
    os.symlink(tmp_path / "all" / "lone", tmp_path / "all" / "linked")
    with open_sources(str(tmp_path / "all")) as listing:
        names = ["lone", "m.zarr::/bad", "m.zarr::/g/a9", "m.zarr::/g/a10", "m.zarr::/old", "x"]
        assert listing.members == names
    for name in ("lone", "m.zarr::/g/a9"):
        with open_source(f"{tmp_path / 'all'}::{name}") as source:
            assert source.shape == ((1,) if name == "lone" else (2,))


def test_a_store_of_nothing_but_text_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    group(tmp_path / "m.zarr")
    assert main(["stats", str(tmp_path / "m.zarr")]) == 3
    assert "holds no numeric tensor (0 others); name an array" in capfd.readouterr().err
    store(tmp_path / "m.zarr" / "t", v3((2,), (2,), data_type="string", fill_value=""))
    assert main(["stats", str(tmp_path / "m.zarr")]) == 3
    assert "holds elements of a type that is not read (dtype string)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("::/g", "is a group, not an array; name one of /g/a9, /g/a10"),
        ("::/g/b", "no such array; the file has /g/a9"),
        ("::/g/../old", "has .. in the path of an array"),
        ("::/no metadata", "no such array; the file has"),
        ("::/g/deep", "is a group, not an array; name one of /g/deep/text"),
    ],
)
def test_a_name_that_is_no_array_is_said(tmp_path: Path, name: str, said: str) -> None:
    root = several(tmp_path)
    with pytest.raises(InputError) as caught:
        open_source(f"{root}{name}")
    assert f"{root}{name}: {said}" in str(caught.value)


# --- what changes ----------------------------------------------------------------------------------------------------


def changing(folder: Path, layout: str) -> tuple[Path, Source, Path]:
    ones = np.ones(2, "<f4").tobytes()
    if layout == "chunks":
        path = store(folder / "x", v3((8,), (2,)), c_0=ones, c_1=ones, c_2=ones)
    else:
        path = store(folder / "x", v3((8,), (4,), codecs=sharded((2,))), c_0=shard(ones, ones), c_1=shard(ones, None))
    return Path(path), open_source(path), Path(path) / "c" / "0"


def rewrite(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))
    os.utime(file, (1, 1))


CHANGES: dict[str, Any] = {
    "was changed while it was read: c/0": rewrite,
    "lost c/0 while it was read": os.unlink,
    "was changed while it was read": lambda file: (file.parent.parent / "zarr.json").write_text("{}"),
    "was changed while it was read: c/3": lambda file: (file.parent / "3").write_bytes(bytes(8)),
}


@pytest.mark.parametrize("layout", ["chunks", "shards"])
@pytest.mark.parametrize("problem", list(CHANGES)[:3])
def test_a_file_that_changes_between_two_looks_is_told(tmp_path: Path, layout: str, problem: str) -> None:
    _, source, file = changing(tmp_path, layout)
    read_all(source)
    source.verify_unchanged()
    read_all(source)
    CHANGES[problem](file)
    with pytest.raises(ChangedError) as caught:
        source.verify_unchanged()
    assert str(caught.value).startswith(f"{source.name}: was changed while it was read")
    if "zarr.json" not in problem and problem != "was changed while it was read":
        with pytest.raises(ChangedError) as caught:
            read_all(source)
        assert str(caught.value) == f"{source.name}: {problem}"
    source.close()


def test_a_chunk_that_appears_is_a_change(tmp_path: Path) -> None:
    path, source, file = changing(tmp_path, "chunks")
    assert source.not_stored == 1
    CHANGES["was changed while it was read: c/3"](file)
    source.verify_unchanged()  # nobody has used it
    read_all(source)
    with pytest.raises(ChangedError) as caught:
        source.verify_unchanged()
    assert str(caught.value) == f"{path}: was changed while it was read: c/3"
    source.close()


def test_a_run_over_a_store_that_changes_gives_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path, source, file = changing(tmp_path, "chunks")
    source.close()
    plain = ZarrSource.decode

    def decode(self: ZarrSource, number: int) -> Any:
        found = plain(self, number)
        if number == 2:
            rewrite(file)
        return found

    monkeypatch.setattr(ZarrSource, "decode", decode)
    assert main(["stats", str(path)]) == 6
    assert capfd.readouterr().err.endswith(f"{path}: was changed while it was read: c/0\n")


# --- workers ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["chunks", "shards"])
def test_many_threads_decode_each_chunk_once(tmp_path: Path, other: Peer, layout: str) -> None:
    x = make((60, 7, 9), "<f8") + 1
    given: dict[str, Any] = {"shards": (14, 6, 9)} if layout == "shards" else {}
    other.write(tmp_path / "x", x, chunks=(7, 3, 9), **given)
    with open_source(str(tmp_path / "x")) as source, ThreadPoolExecutor(8) as pool:
        assert isinstance(source, ZarrSource)
        source.will_need(0, x.size)  # the system reads a folder ahead
        got = np.empty(x.size)
        for turn in range(1, 6):
            list(pool.map(lambda start: source.read_into(got[start : start + 45], start), range(0, x.size, 45)))
            assert np.array_equal(got.reshape(x.shape), x)
            assert source.decoded == turn * len(source.grid)


@pytest.mark.slow
def test_no_thread_is_started_and_zarr_is_not_imported(tmp_path: Path, other: Peer) -> None:
    import subprocess
    import sys

    other.write(tmp_path / "x", X, chunks=(2, 3, 4))
    store(tmp_path / "y", v3((2,), (2,)), c_0=np.ones(2, "<f4"))
    code = (
        "import sys, threading; from gncli.io import open_source; import numpy as np\n"
        "for path in sys.argv[1:]:\n"
        "    s = open_source(path); s.read_into(np.empty(2, s.dtype), 0); s.verify_unchanged()\n"
        "    print(threading.active_count(), 'zarr' in sys.modules, 'numcodecs' in sys.modules)\n"
    )
    paths = [str(tmp_path / name) for name in "yx"]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False False\n1 False True\n"
    assert threading.active_count() >= 1
