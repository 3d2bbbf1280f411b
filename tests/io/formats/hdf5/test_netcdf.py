"""netCDF: HDF5 whose axes have names, which are shown; whatever is wrong with them keeps nobody from the data."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from gncli.api import normalize_file
from gncli.inputs import Policy
from gncli.io import open_source, open_sources
from gncli.io.formats.hdf5 import guard
from gncli.io.formats.hdf5.reading import Hdf5File
from gncli.io.rawfile import RawFile
from gncli.report import render
from gncli.report.records import StatsReport, TensorStats
from gncli.report.style import Style
from tests.files import read_all
from tests.runs import stats

SMALL = Path(__file__).parents[3] / "data" / "small.nc"
LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (1, 2, 4), "compression": "gzip"},
    "by libhdf5": {"chunks": (1, 2, 4), "compression": "lzf"},
}


def named(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the names of the axes of each dataset; read in this process, and as the other one says them."""
    with closing(Hdf5File(RawFile(str(path), "x"), "x")) as file:
        here = {name: tuple(file.axes(name, {})) for name in file.names()}
    there = {source.name.partition("::")[2] or "/a": source.dimensions for source in open_sources(str(path))}
    assert there == here
    return here


def test_what_the_library_wrote_is_read() -> None:
    assert named(SMALL) == {"/lat": ("lat",), "/t2m": ("lat", "lon")}
    assert read_all(open_source(f"{SMALL}::t2m")).tolist()[0] == [0.0, 1.0, -2.0, 0.5]
    lon = open_source(f"{SMALL}::lon")  # which has no values: nothing but its length is in the file
    assert (lon.shape, lon.dimensions) == ((4,), ("lon",))


def test_the_library_writes_and_the_names_of_its_dimensions_are_read(tmp_path: Path) -> None:
    netcdf = pytest.importorskip("netCDF4")
    path = tmp_path / "x.nc"
    with netcdf.Dataset(path, "w") as file:
        for name, size in (("time", None), ("lat", 3), ("lon", 4), ("ensemble member", 2)):
            file.createDimension(name, size)
        file.createVariable("time", "f8", ("time",))[:] = [0, 6]
        file.createVariable("t", "f4", ("ensemble member", "time", "lat", "lon"), zlib=True)[:] = np.ones((2, 2, 3, 4))
        file.createVariable("square", "i2", ("lat", "lat"))[:] = 1
        file.createVariable("scalar", "f8", ())[...] = 1
        inner = file.createGroup("inner")
        inner.createDimension("lat", 1)
        inner.createVariable("u", "u1", ("lon", "lat"))[:] = 1
    assert named(path) == {
        "/inner/u": ("lon", "lat"),
        "/scalar": (),
        "/square": ("lat", "lat"),
        "/t": ("ensemble member", "time", "lat", "lon"),
        "/time": ("time",),
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_are_read_of_every_layout_and_of_labels_too(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros((2, 3, 4)), **LAYOUTS[layout])
        file["long"] = np.arange(4)
        file["long"].make_scale("longitude")
        file["x"].dims[2].attach_scale(file["long"])
        file["x"].dims[0].label = "sample"
        file["labelled"] = np.zeros((2, 3))
        file["labelled"].dims[1].label = "b"
        file["empty label"] = np.zeros(2)
        file["empty label"].dims[0].label = ""
    assert named(path) == {"/x": ("sample", "", "long"), "/labelled": ("", "b"), "/long": ("long",), "/empty label": ()}
    report = stats([f"{path}::x"], statistics=("dimensions",))
    assert render(report, "value", Style()) == "(sample, -, long)\n"


def test_names_are_a_row_of_the_table_and_a_key_of_the_object(tmp_path: Path) -> None:
    report = stats([f"{SMALL}::t2m"])
    rows = [line.split("│")[1:3] for line in render(report, "table", Style()).splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows][2:5] == [
        ["Shape", "(2, 4)"],
        ["Dimensions", "(lat, lon)"],
        ["Data Type", "float32"],
    ]
    assert "\nDimensions:  (lat, lon)\n" in render(report, "plain", Style())
    assert json.loads(render(report, "json", Style()))["tensors"][0]["dimensions"] == ["lat", "lon"]
    np.save(tmp_path / "x.npy", np.zeros(2))
    both = stats([f"{SMALL}::t2m", str(tmp_path / "x.npy")], total=True)
    named = stats([f"{SMALL}::t2m", str(tmp_path / "x.npy")], total=True, statistics=("shape", "dimensions"))
    header, _, one, other, total = render(named, "markdown", Style()).splitlines()
    assert ["Dimensions" in header, "(lat, lon)" in one] == [True, True]
    assert [line.split(" | ")[2] for line in (other, total)] == ["-", "-"]
    assert "dimensions" not in json.loads(render(both, "json", Style()))["tensors"][1]
    assert render(both, "csv", Style()).splitlines()[0].count("imension") == 0
    staged = normalize_file(f"{SMALL}::t2m", num_groups=1, stages=True)
    assert [stage.stats.axis_names for stage in staged.stages] == [("lat", "lon"), (), (), (), (), ("lat", "lon")]


def test_a_name_is_shown_and_never_obeyed() -> None:
    hostile = TensorStats((1, 2), "float32", {}, "x", axis_names=("\x1b[31m\n", "\udcff" + "a" * 400))
    assert hostile.dimensions == hostile.axis_names
    shown = render(StatsReport((hostile,), ("dimensions",)), "value")
    assert shown.startswith(r"(\x1b[31m\n, \xffaaa") and len(shown) < 400
    (found,) = json.loads(render(StatsReport((hostile,)), "json"))["tensors"]
    assert found["dimensions"][0] == r"\x1b[31m\n" and found["dimensions"][1].startswith(r"\xffaaa")


def test_a_hostile_name_in_a_file_reaches_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros((2, 3))
        file["\x1b]0;owned\x07"] = np.arange(3)
        file["\x1b]0;owned\x07"].make_scale()
        file["a"].dims[1].attach_scale(file["\x1b]0;owned\x07"])
        file["a"].dims[0].label = "[bold]\n"
    for form in ("table", "plain", "value", "json", "jsonl", "csv", "markdown"):
        text = render(stats([f"{path}::a"], statistics=("shape", "dimensions")), form, Style())
        assert "\x1b" not in text and "\x07" not in text, form
        assert "owned" in text, form


def words(file: Any) -> None:
    file["a"].attrs["DIMENSION_LIST"] = ["not", "references"]


def numbers(file: Any) -> None:
    file["a"].attrs["DIMENSION_LIST"] = np.arange(7)


def nowhere(file: Any) -> None:
    references = np.empty(2, object)
    references[:] = [np.array([h5py.h5r.Reference()], h5py.ref_dtype)] * 2
    file["a"].attrs.create("DIMENSION_LIST", references, dtype=h5py.vlen_dtype(h5py.ref_dtype))


def gone(file: Any) -> None:
    file["s"] = np.arange(3)
    file["s"].make_scale()
    file["a"].dims[1].attach_scale(file["s"])
    del file["s"]


def of_a_group(file: Any) -> None:
    references = np.empty(2, object)
    references[:] = [np.array([file.create_group(f"g{k}").ref], h5py.ref_dtype) for k in range(2)]
    file["a"].attrs.create("DIMENSION_LIST", references, dtype=h5py.vlen_dtype(h5py.ref_dtype))


def labels(file: Any) -> None:
    file["a"].attrs["DIMENSION_LABELS"] = np.arange(2.0)


def name_of_numbers(file: Any) -> None:
    file["a"].attrs["NAME"] = np.arange(9)


def name_of_variable_length(file: Any) -> None:
    file["a"].attrs["NAME"] = "This is a netCDF dimension but not a netCDF variable."


def scale_of_nothing(file: Any) -> None:
    file["a"].attrs["CLASS"] = 3


DAMAGED: list[Callable[[Any], None]] = [
    words, numbers, nowhere, gone, of_a_group, labels, name_of_numbers, name_of_variable_length, scale_of_nothing,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_whatever_is_wrong_with_the_names_the_data_are_read(damage: Callable[[Any], None], tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(6.0).reshape(2, 3)
        damage(file)
    source = open_source(f"{path}::a")
    assert read_all(source).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not any(source.dimensions)
    assert not any(named(path)["/a"])


ABORTING = "task == 'read' and __import__('os').abort()"


def test_a_crash_over_the_names_leaves_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    class Saboteur(guard.Hdf5Rehearsal):
        def __call__(self, task: str, member: str) -> object:
            if task == "read":
                os.abort()
            return super().__call__(task, member)

        def __repr__(self) -> str:  # evaluated in a Python of its own
            return f"type('S', (), {{'nbytes': 0, '__call__': lambda s, task, m: {ABORTING}}})()"

    monkeypatch.setattr(guard, "Hdf5Rehearsal", Saboteur)
    Saboteur.__module__ = "gncli.io.formats.hdf5.rehearsal"
    source = open_source(f"{SMALL}::t2m")
    assert (source.dimensions, read_all(source).shape) == ((), (2, 4))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (["a", "b"], ("a", "b")),
        (["a"], ()),
        (["a", "b", "c"], ()),
        (["a", 1], ()),
        ("ab", ()),
        (None, ()),
        ([], ()),
        ({"a": "b"}, ()),
    ],
)
def test_the_names_that_the_child_answers_are_checked(
    answer: Any, found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"open": None, "read": answer}
    child = SimpleNamespace(ask=lambda task, *_: answers[task], close=lambda: 0)
    monkeypatch.setattr(guard, "Child", lambda _: child)
    source = open_source(f"{SMALL}::t2m")
    assert source.dimensions == found
    source.close()


def test_the_child_answers_the_names(tmp_path: Path) -> None:
    fd = os.open(SMALL, os.O_RDONLY)
    rehearsal = guard.Hdf5Rehearsal(fd, str(SMALL), "x", Policy())
    assert rehearsal("read alone", "t2m") is None
    assert rehearsal("read", "t2m") == ["lat", "lon"]
    assert rehearsal("list", "") == (["/lat", "/t2m"], [])
    os.close(fd)
