"""HDF5: what is read, what is refused before it is read, and what is written."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gncli.errors import ChangedError, InputError, LimitError, OutputError, ParameterError
from gncli.inputs import Policy
from gncli.io import open_sink, open_source, open_sources
from gncli.io.atomic import AtomicFile
from gncli.io.formats.hdf5 import datasets, guard, reading, writing
from gncli.io.formats.hdf5.calls import calling
from gncli.io.formats.hdf5.reading import Hdf5File
from gncli.io.rawfile import RawFile, RawSource
from gncli.kernels.walk import boxes
from tests.files import DTYPES, make, read_all
from tests.io.formats.hdf5.mutations import lookup3
from tests.marks import slow_but

pytestmark = pytest.mark.usefixtures("unrehearsed")  # with the child: tests/io/test_hostile.py

LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (2, 3, 5)},
    "compressed": {"chunks": (2, 3, 5), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (1, 11, 13), "compression": "lzf"},
}


@given(st.lists(st.integers(1, 5), max_size=5).map(tuple), st.data())
def test_boxes_are_the_run_in_order_and_few(shape: tuple[int, ...], data: st.DataObject) -> None:
    size = int(np.prod(shape))
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    index = np.arange(size).reshape(shape)
    cut = list(boxes(shape, start, stop))
    found = [index[box].reshape(-1) for box in cut]
    assert np.array_equal(np.concatenate([np.empty(0, int), *found]), np.arange(start, stop))
    assert len(cut) <= max(1, 2 * len(shape) - 1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", slow_but(DTYPES, "|u1", "<i8", ">f4"))
def test_every_dtype_and_layout_is_read(tmp_path: Path, dtype: str, layout: str) -> None:
    array = make((7, 11, 13), dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=array, **LAYOUTS[layout])
    source = open_source(str(tmp_path / "x.h5"))
    got = read_all(source, 217)
    source.verify_unchanged()
    source.close()
    assert (source.name, source.order, source.sequential) == (str(tmp_path / "x.h5"), "C", False)
    assert got.dtype.str == array.dtype.str
    assert got.tobytes() == array.tobytes()
    assert isinstance(source, RawSource) == (layout == "contiguous")


def test_odd_datasets_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    twelve = h5py.h5t.STD_I16LE.copy()
    twelve.set_precision(12)
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["scalar"] = np.float32(3)
        file["empty"] = np.empty((0, 3))
        file["a/b"] = np.arange(5)
        file.create_dataset("never", (3,), "f4", fillvalue=7)
        file.create_dataset("never scalar", (), "f4", fillvalue=9)
        file.create_dataset("never chunked", (30,), "f4", chunks=(7,), fillvalue=8)
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"twelve", twelve, space).write(space, space, np.array([1, -2, 3], "i2"))
        file["soft"] = h5py.SoftLink("/a/./b")
        file["a/up"] = h5py.SoftLink("b")
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        h5py.h5d.create(file.id, b"compact", h5py.h5t.NATIVE_INT32, space, compact).write(
            space, space, np.arange(3, dtype="i4")
        )
    expected = {
        "scalar": 3.0,
        "empty": [],
        "a/b": [0, 1, 2, 3, 4],
        "/a//b": [0, 1, 2, 3, 4],
        "soft": [0, 1, 2, 3, 4],
        "a/up": [0, 1, 2, 3, 4],
        "never": [7.0] * 3,
        "never scalar": 9.0,
        "never chunked": [8.0] * 30,
        "twelve": [1, -2, 3],
        "compact": [0, 1, 2],
    }
    for name, values in expected.items():
        source = open_source(f"{path}::{name}")
        assert read_all(source).tolist() == values
        source.close()
    listing = open_sources(str(path))
    names = [source.name.partition("::")[2] for source in listing]
    assert names == ["/a/b", "/compact", "/empty", "/never", "/never chunked", "/never scalar", "/scalar", "/twelve"]


def test_a_container_with_several_lists_them_and_counts_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for number in range(22):
            file[f"n{number:02}"] = number
        file["text"] = "words"
        file["complex"] = np.zeros(3, complex)
        file["colour"] = np.zeros(3, h5py.enum_dtype({"red": 0, "green": 1}))
        file["many"] = np.zeros(3, h5py.enum_dtype({f"colour {number}": number for number in range(99)}))
        file["elsewhere"] = h5py.ExternalLink("/etc/hostname", "/")
        file["loop"] = file["/"]
    listing = open_sources(str(path))
    assert len(list(listing)) == 22
    assert listing.skipped == 5
    with pytest.raises(InputError, match=r"holds 22 tensors: /n00, .*/n09 and 12 more; name one, as FILE::NAME"):
        open_source(str(path))
    with pytest.raises(InputError, match=r"no such dataset; the file has .*/n21"):
        open_source(f"{path}::n211")
    with pytest.raises(InputError, match=r"no such dataset; the file has /n00"):
        open_source(f"{path}::zzzzzzzzz")
    for name, problem in (("complex", "complex numbers"), ("text", "text, not numbers"), ("colour", "an enumeration")):
        with pytest.raises(InputError, match=f"{path}::{name}: holds {problem}"):
            open_source(f"{path}::{name}")


def test_a_container_without_numbers_says_why(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["complex"] = np.zeros(3, complex)
    with pytest.raises(InputError, match=r"complex numbers"):
        open_source(str(path))
    with pytest.raises(InputError, match=r"complex numbers"):
        list(open_sources(str(path)))
    with h5py.File(path, "a") as file:
        file["text"] = "words"
    for opened in (open_source, open_sources):
        with pytest.raises(InputError, match=r"holds no numeric tensor \(2 others\)"):
            opened(str(path))
    with h5py.File(path, "w") as file:
        file.create_group("a")
    for opened in (open_source, open_sources):
        with pytest.raises(InputError, match=r"holds no numeric tensor \(0 others\)"):
            opened(str(path))
    with pytest.raises(InputError, match=r"is a group, not a dataset"):
        open_source(f"{path}::a")
    with pytest.raises(InputError, match=r"holds no numeric dataset"):
        open_source(f"{path}::b")


def test_an_error_of_one_dataset_does_not_end_the_listing(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"] = [1.0]
        file["c"] = [3.0]
        layout = h5py.VirtualLayout((1,), "f8")
        layout[0] = h5py.VirtualSource("other.h5", "b", (1,))[0]  # without a source older h5py makes a plain dataset
        file.create_virtual_dataset("b", layout)
    listing = open_sources(str(path))
    got: list[Any] = []
    while True:
        try:
            got.append(read_all(next(listing)).tolist())
        except InputError as error:
            got.append(error.problem)
        except StopIteration:
            break
    assert got == [[1.0], "is a virtual dataset, which reads other files", [3.0]]


def test_a_dataset_that_cannot_be_opened_says_so_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        file["a"] = [1.0]
        file.create_dataset("b", (77,), "f4", maxshape=(77,))
    data = bytearray(path.read_bytes())
    assert data.count(2 * (77).to_bytes(8, "little")) == 1
    data[data.index((77).to_bytes(8, "little")) - 8] = 99  # the version of its dataspace
    path.write_bytes(data)
    listing = open_sources(str(path))
    assert read_all(next(listing)).tolist() == [1.0]
    with pytest.raises(InputError, match=r"x.h5::/b: cannot be found \(.*version"):
        next(listing)


def test_no_other_file_is_read_because_a_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["inside/a"] = [1.0]
    with h5py.File(path, "w") as file:
        file.create_dataset("external", (1,), "f8", external=[(str(tmp_path / "secret"), 0, 8)])
        file["link"] = h5py.ExternalLink("other.h5", "/inside")
        file["around"] = h5py.SoftLink("/link/a")
        layout = h5py.VirtualLayout((1,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "inside/a", (1,))
        file.create_virtual_dataset("virtual", layout)
        own = h5py.VirtualLayout((4,), "f8")
        own[:] = h5py.VirtualSource(".", "itself", (4,))
        file.create_virtual_dataset("itself", own)
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["one"] = h5py.SoftLink("/two")
        file["two"] = h5py.SoftLink("/one")
        file["null"] = h5py.Empty("f4")
    cases = {
        "external": "data in other files",
        "link": "external link",
        "link/a": "external link",
        "around": "external link",
        "virtual": "virtual dataset",
        "itself": "virtual dataset",
        "dangling": "no such dataset",
        "one": "more than 40 soft links",
        ".": "is a group",
        "null": "null dataspace",
        "null/x": "no such dataset",
    }
    for name, problem in cases.items():
        with pytest.raises(InputError, match=problem):
            open_source(f"{path}::{name}")


def test_chunks_that_are_huge_and_datasets_that_store_nothing_are_limits(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("chunk", (1 << 27,), "u1", chunks=((1 << 26) + 1,))
        file.create_dataset("sparse", (1 << 33,), "u1", chunks=(1 << 20,))
        file.create_dataset("fine", (1 << 31,), "u1", chunks=(1 << 26,))
    with pytest.raises(LimitError, match=r"chunks of 67,108,865 bytes; the limit is 67,108,864"):
        open_source(f"{path}::chunk")
    with pytest.raises(LimitError, match=r"declares 8,589,934,592 bytes and stores 0"):
        open_source(f"{path}::sparse")
    out = np.ones(1 << 20, "u1")
    open_source(f"{path}::fine").read_into(out, (1 << 31) - (1 << 20))
    assert not out.any()


def test_an_unknown_filter_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        # A filter that may be left out: the dataset can be made without having it.
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((8,)), plist)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(40000, h5py.h5z.FLAG_OPTIONAL, (3,))
        h5py.h5d.create(file.id, b"b", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((8,)), plist)
    with pytest.raises(InputError, match=r"filter 32015 \(Zstandard\)"):
        open_source(f"{path}::a")
    with pytest.raises(InputError, match=r"filter 40000,"):
        open_source(f"{path}::b")


def test_a_damaged_chunk_and_a_cut_file_are_input_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    array = np.random.default_rng(0).random((64, 64))
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", data=array, chunks=(16, 64), compression="gzip", fletcher32=True)
        info = dataset.id.get_chunk_info(2)
    with path.open("r+b") as out:
        out.seek(info.byte_offset + 99)
        out.write(b"\0\0\0\0")
    source = open_source(str(path))
    with pytest.raises(InputError, match=r"cannot be read"):
        read_all(source, 4096)
    source.close()
    whole = path.read_bytes()
    for length in range(8, len(whole), 997):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cannot be opened"):
            open_source(str(path))


def test_a_contiguous_dataset_outside_its_file_is_refused_with_both_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(100.0)
    source = open_source(str(path))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ChangedError):
        read_all(source, 100)
    with pytest.raises(ChangedError):
        source.verify_unchanged()
    monkeypatch.setattr(RawFile, "verify_unchanged", lambda self: None)
    with pytest.raises(InputError, match=r"truncated|cannot be opened"):
        open_source(str(path))


@pytest.mark.slow
def test_of_many_names_and_deep_groups_each_link_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="latest") as file:
        here = file.id
        for _ in range(5_000):
            here = h5py.h5g.create(here, b"g")
        for number in range(50_000):
            file.create_group(f"many/{number}")
    listed = []
    links = reading._links

    def counted(*arguments: Any) -> list[tuple[bytes, int, Any]]:
        found = links(*arguments)
        listed.append(len(found))
        return found

    monkeypatch.setattr(reading, "_links", counted)
    raw = RawFile(str(path), "x.h5")
    file = Hdf5File(raw, "x.h5")
    assert file.names() == []
    assert sum(listed) == 55_001 and len(listed) == 55_002  # a call a group: h5py takes 20 us for any other
    file.close()
    raw.close()


def test_too_many_links_are_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LINKS", 3)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in "abcd":
            file[name] = 1.0
    raw = RawFile(str(tmp_path / "x.h5"), "x.h5")
    container = Hdf5File(raw, "x.h5")
    with pytest.raises(LimitError, match=r"more than 3 links"):
        container.names()
    monkeypatch.setattr(reading, "MAX_LINKS", 4)
    assert len(container.names()) == 4
    container._names, container.skipped = None, []
    monkeypatch.setattr(reading, "MAX_PATHS_NBYTES", 7)
    with pytest.raises(LimitError, match=r"names that are too long; name one dataset, as FILE::NAME"):
        container.names()
    container.close()
    assert read_all(open_source(f"{tmp_path / 'x.h5'}::d")).tolist() == 1.0


SHAPES: tuple[tuple[int, ...], ...] = ((), (9,), (5, 7), (3, 4, 5), (2, 1, 3, 4), (0, 3))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_written_dataset_is_c_ordered_whatever_order_the_runs_came_in(tmp_path: Path, shape: Any, order: Any) -> None:
    path = tmp_path / "y.h5"
    for dtype, piece in (("f4", 1), ("f2", 7), ("f8", 1000), ("i8", 11), ("b1", 5)):
        array = make(shape, dtype)
        sink = open_sink(
            f"{path}::a/b c/d",
            shape=shape,
            dtype=array.dtype,
            order=order,
            attributes={"groups": 4, "eps": 1e-5, "layout": "NCHW", "exact": True},
            force=True,
        )
        flat = array.ravel(order=order)
        for start in reversed(range(0, flat.size, piece)):
            sink.write_from(flat[start : start + piece], start)
        sink.commit()
        with h5py.File(path, "r") as file:
            dataset = file["a/b c/d"]
            assert np.array_equal(dataset[()], array)
            assert (dataset.shape, dataset.dtype) == (array.shape, array.dtype)
            assert dict(dataset.attrs) == {"groups": 4, "eps": 1e-5, "layout": "NCHW", "exact": True}
            assert dataset.chunks is None
        assert np.array_equal(read_all(open_source(str(path))), array)
    assert [entry.name for entry in tmp_path.iterdir()] == ["y.h5"]


@pytest.mark.slow
def test_many_attributes_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    written = []
    for name in ("a.h5", "b.hdf5"):
        sink = open_sink(
            f"{tmp_path / name}::deep/data",
            shape=(3,),
            dtype=np.dtype("f4"),
            attributes={f"a{k}": "x" * 99 for k in range(50)},
        )
        sink.write_from(np.arange(3, dtype="f4"), 0)
        sink.commit()
        with h5py.File(tmp_path / name) as file:
            assert list(file) == ["deep"]
            assert len(file["deep/data"].attrs) == 50
        written.append((tmp_path / name).read_bytes())
        time.sleep(1.01)
    assert written[0] == written[1]


def test_only_a_file_that_holds_nothing_else_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "y.h5"

    def replace(name: str = "") -> None:
        sink = open_sink(f"{path}{name}", shape=(2,), dtype=np.dtype("f4"), force=True)
        sink.write_from(np.zeros(2, "f4"), 0)
        sink.commit()

    def holding(make_it: Any) -> None:
        with h5py.File(path, "w") as file:
            make_it(file)

    def refused(name: str, lost: str) -> None:
        before = path.read_bytes()
        with pytest.raises(OutputError, match=lost):
            replace(name)
        assert path.read_bytes() == before
        assert len(list(tmp_path.iterdir())) == 1

    path.write_bytes(b"")
    replace()
    replace()
    with pytest.raises(OutputError, match=r"already exists; --force replaces it"):
        open_sink(str(path), shape=(2,), dtype=np.dtype("f4"))
    refused("::other", "holds more than /other, and would lose /data")
    holding(lambda file: file.create_dataset("a/b", data=1))
    refused("::a", "would lose /a, /a/b")
    refused("::a/b/c", "would lose /a/b")
    replace("::/a/b")
    holding(
        lambda file: file.update({"data": 1, "x": 2, "y": h5py.SoftLink("/data"), "z": h5py.ExternalLink("f", "/")})
    )
    refused("", "would lose /x, /y, /z")
    holding(lambda file: (file.update({"data": 1}), file.attrs.update({"note": "x"})))
    refused("", "would lose the attributes of /")
    holding(lambda file: (file.update({"a/data": 1}), file["a"].attrs.update({"note": "x"})))
    refused("::a/data", "would lose the attributes of /a")
    path.write_bytes(b"not HDF5")
    refused("", "cannot be listed")


@pytest.mark.parametrize("name", ["y.h5::", "y.h5::/", "y.h5::a/../b", "y.h5::."])
def test_names_that_no_dataset_can_have_are_usage_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParameterError, match=r"no name for a dataset"):
        open_sink(str(tmp_path / name), shape=(2,), dtype=np.dtype("f4"))


def test_a_npy_is_read_without_h5py(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3.0))
    script = (
        "import sys, numpy as np, gncli.io as io; s = io.open_source(sys.argv[1]);"
        "o = io.open_sink(sys.argv[1] + '.npy', shape=(3,), dtype=s.dtype); o.abort();"
        "assert 'h5py' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "x.npy")], check=True)


def test_what_libhdf5_writes_into_memory_can_be_read_back_by_it() -> None:
    image = writing._Image()
    image.seek(10)
    image.write(memoryview(b"abcdef"))
    image.seek(1 << 40)
    image.write(memoryview(b"end"))
    image.seek(12)
    image.write(memoryview(b"XY"))
    image.seek(8)
    assert image.read(9) == b"\0\0abXYef\0"
    assert image.tell() == 17
    assert image.seek(0, 2) == image.nbytes == (1 << 40) + 3


PRELOADED = """
import os, sys
os.environ.pop("HDF5_PLUGIN_PRELOAD", None)
class Look:
    def find_spec(self, name, *_):
        if name == "h5py":
            print(os.environ.get("HDF5_PLUGIN_PRELOAD"))
sys.meta_path.insert(0, Look())
import gncli.io.formats.hdf5.reading
"""


def test_plugins_are_off_before_h5py_is_imported_by_whoever_is_first() -> None:
    done = subprocess.run([sys.executable, "-c", PRELOADED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "::\n", "")


def test_a_path_that_is_given_to_another_file_while_it_is_opened_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x.h5", "other.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["a"] = [1.0]

    def ask(*_: Any) -> None:
        if (tmp_path / "other.h5").exists():
            (tmp_path / "other.h5").replace(tmp_path / "x.h5")

    monkeypatch.setattr(guard, "Child", lambda _: SimpleNamespace(ask=ask, close=lambda: 0))
    raw = RawFile(str(tmp_path / "x.h5"), "x.h5")
    with pytest.raises(ChangedError, match=r"^x.h5: was (changed|replaced) while it was read$"):
        guard.GuardedHdf5File(raw, "x.h5")
    raw.close()


def test_array_types_are_refused_and_a_damaged_file_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (2,), np.dtype(("f4", (3,))))
    with pytest.raises(InputError, match=r"small arrays as elements"):
        open_source(str(path))
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    for opened in (open_source, open_sources):
        with pytest.raises(InputError, match=r"cannot be opened as HDF5"):
            opened(str(path))


def test_a_contiguous_dataset_that_points_outside_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["first"] = np.arange(77.0)
        file["a"] = np.arange(100.0)
        at = file["a"].id.get_offset()
    whole = path.read_bytes()
    address = at.to_bytes(8, "little")
    assert whole.count(address) == 1
    path.write_bytes(whole.replace(address, (len(whole) - 8).to_bytes(8, "little")))
    with pytest.raises(InputError, match=r"::a: (cannot be found \(Unable|is truncated)"):
        open_source(f"{path}::a")
    path.write_bytes(whole)
    # Some builds of libhdf5 look for themselves; for the others gncli has to.
    container = Hdf5File(RawFile(str(path), "x.h5"), "x.h5")
    container._file.identity = container._file.identity._replace(nbytes=at + 799)
    ours = rf"is truncated: its 800 bytes begin at {at:,}, and the file has {at + 799:,}"
    try:
        with pytest.raises(InputError, match=rf"{ours}|invalid dataset size"):
            container.open("a", "x.h5::a")
    finally:
        container.close()


def test_sequences_of_varying_length_are_no_numbers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (2,), h5py.vlen_dtype(np.int32))
    with pytest.raises(InputError, match="holds sequences of varying length, not numbers"):
        open_source(str(tmp_path / "x.h5"))


def test_what_libhdf5_has_written_it_finds_again(tmp_path: Path) -> None:
    file = AtomicFile(str(tmp_path / "x.h5"), name="x.h5")
    recorded = writing._Recorded(file)
    recorded.write(memoryview(b"abcdef"))
    recorded.seek(2)
    found = memoryview(bytearray(4))
    assert (recorded.readinto(found), bytes(found)) == (4, b"cdef")
    file.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_policy_lets_a_sparse_file_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "SPARSE_NBYTES", 100)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (1000,), np.float32, chunks=(100,))
    with pytest.raises(LimitError, match="declares 4,000 bytes and stores 0"):
        open_source(str(tmp_path / "x.h5"))
    source = open_source(str(tmp_path / "x.h5"), policy=Policy(sparse=True))
    assert not read_all(source).any()
    source.close()


# Exceptions that h5py raised on damaged files, and that nobody had expected: the call, the exception, the error.
SURPRISES: dict[str, tuple[str, Exception, str]] = {
    "opening": (
        "h5f.open",
        OverflowError("Python int too large to convert to C long"),
        "x.h5: cannot be opened as HDF5",
    ),
    "listing": ("h5g.get_objinfo", AttributeError("no attribute 'links'"), "x.h5: cannot be listed"),
    "finding": ("h5o.open", IndexError(), "x.h5::/a: cannot be found"),
    "checking": ("h5d.open", IndexError("tuple index out of range"), "x.h5::/a: cannot be opened"),
}


@pytest.mark.parametrize("what", SURPRISES)
def test_an_exception_of_any_class_is_an_error_about_the_file(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, surprise, problem = SURPRISES[what]
    monkeypatch.chdir(tmp_path)
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("a", data=[1.0])

    def raises(*_: Any, **__: Any) -> None:
        raise surprise

    with monkeypatch.context() as patch, pytest.raises(InputError) as caught:
        module, name = call.split(".")
        here = datasets if what == "checking" else reading
        patch.setattr(here, module, SimpleNamespace(**vars(getattr(h5py, module)) | {name: raises}))
        container = Hdf5File(RawFile("x.h5", "x.h5"), "x.h5")
        container.open(*(("a", "x.h5::/a") if what != "listing" else (container.names()[0], "")))
    assert str(caught.value) == f"{problem} ({surprise.args[0] if surprise.args else type(surprise).__name__})"


def test_memory_that_ran_out_in_h5py_stays_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MemoryError), calling("x.h5", "cannot be read"):
        raise MemoryError


def test_a_file_that_cannot_be_closed_is_an_error_about_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=[1.0], chunks=(1,), compression="lzf")

    def close() -> None:
        raise RuntimeError("Can't decrement id ref count")

    container = Hdf5File(RawFile(str(tmp_path / "x.h5"), "x.h5"), "x.h5")
    source = container.open("a", "x.h5::a")
    assert isinstance(source, datasets.Hdf5Source)
    source._dataset = SimpleNamespace(close=close)
    container._id = SimpleNamespace(close=close)
    for opened, name in ((source, "x.h5::a"), (container, "x.h5")):
        with pytest.raises(InputError) as caught:
            opened.close()
        assert str(caught.value) == f"{name}: cannot be closed (Can't decrement id ref count)"


def test_a_root_that_is_a_dataset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file["a"] = np.arange(3.0)
        root, dataset = (h5py.h5o.get_info(each.id).addr for each in (file, file["a"]))
    data = path.read_bytes()
    header = data[:44].replace(root.to_bytes(8, "little"), dataset.to_bytes(8, "little"))
    assert header != data[:44]
    path.write_bytes(header + lookup3(header, [44]).tobytes() + data[48:])
    for name, problem in ((str(path), "cannot be listed"), (f"{path}::a", "cannot be found")):
        with pytest.raises(InputError, match=rf"{problem} \(.*\)$"):
            open_source(name)


def test_a_chunk_with_fewer_axes_than_its_dataset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros((6, 7), "f4"), chunks=(5, 4))
    data = bytearray(path.read_bytes())
    layout = b"\x03\x02\x03"  # version 3, chunked, as many sizes as axes, and that of an element
    at = data.index(b"\x05\0\0\0\x04\0\0\0\x04\0\0\0") - 8 - len(layout)
    assert data[at : at + 3] == layout
    data[at + 2] = 2
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=r"x.h5: (is damaged: its chunks have 1 axes, and it has 2|cannot be opened \()"
    ):
        open_source(str(path))
