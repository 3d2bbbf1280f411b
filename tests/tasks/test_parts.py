"""``normalize`` in parts: the bits and the report of one process, however it was cut, killed and put together."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gncli.cli import main
from gncli.errors import OutputError
from gncli.io import shared
from gncli.io.shared import SharedFolder
from gncli.report import document_of, render
from gncli.report.part_records import PartReport
from gncli.run import parts as run_parts
from gncli.tasks import parts as tasks_parts
from gncli.tasks.parts import listed
from tests.marks import slow_but
from tests.processes import ended, start
from tests.runs import Run

# Shape, memory order, dtype, and options: cells that fit a visit, that fit a part, and that are larger than a part.
CASES: dict[str, tuple[tuple[int, ...], str, str, str]] = {
    "many groups per visit": ((30, 8, 5, 5), "C", "f4", "-G 4"),
    "groups that fit a part": ((40, 4, 20, 20), "C", "f4", "-G 1"),
    "groups larger than a part": ((1, 4, 150, 150), "C", "f4", "-G 2 --save-moments m.npz"),
    "one group": ((1, 4, 150, 150), "C", "f8", "-G 1 --stages"),
    "channels last": ((3, 20, 20, 8), "C", "f2", "-G 2 --layout NHWC --gamma 2 --beta 1"),
    "Fortran order": ((6, 8, 9, 9), "F", "f4", "-G 4"),
    "batch norm of bytes": ((9, 6, 10, 10), "C", "u1", "--over N,H,W --layout NCHW --activation relu"),
    "given moments": ((4, 6, 30, 30), "C", "f4", "--mean 0.5 --var 2"),
    "bfloat16": ((4, 6, 30, 30), "C", "f4", "-G 2 --dtype bfloat16 --npy-bits --gamma gamma.npy --layout NCHW"),
    "root mean square": ((500, 16), "C", "f4", "--over -1 --rms --save-moments m.npz"),
    "not checked": ((30, 8, 5, 5), "C", "f4", "-G 4 --gamma 3 --no-verify"),
    "float64": ((1, 4, 150, 150), "C", "f8", "-G 2 --rms --gamma 3 --no-verify"),
    "64-bit integers": ((2, 4, 40, 40), "C", "i8", "-G 2"),
    "nothing": ((0, 8, 5), "C", "f4", "-G 4"),
    "NaN": ((30, 8, 5, 5), "C", "f4", "-G 4 --eps 0"),
}


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let visits be of 4 KiB, grains of 512 bytes, and parts of a run that goes on of 16 KiB."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_parts, "VISIT_NBYTES", 1 << 12)
    monkeypatch.setattr(shared, "GRAIN_NBYTES", 1 << 9)
    monkeypatch.setattr(tasks_parts, "PART_NBYTES", 1 << 14)


def save(name: str, shape: tuple[int, ...], order: Any, dtype: str, *, nan: bool = False) -> None:
    x = np.random.default_rng(len(shape)).normal(3, 20, shape)
    if nan:
        x.reshape(-1)[:: max(1, x.size // 3)] = np.nan
    np.save(name, np.asarray(np.abs(x) if dtype[0] == "u" else x, order=order).astype(dtype, order="K"))


def part(run: Run, line: str, which: int, parts: int, *more: str) -> dict[str, Any]:
    """Do one part, which must succeed in silence, and return what it says."""
    status, out, err = run(line, "--part", f"{which}/{parts}", "--format", "json", *more)
    assert (status, err) == (0, ""), (status, out, err)
    return dict(json.loads(out))


def all_parts(run: Run, line: str, parts: int, seed: int = 0) -> list[dict[str, Any]]:
    order = random.Random(seed).sample(range(1, parts + 1), parts)
    for which in order:
        part(run, line, which, parts, "--measure")
    return [part(run, line, which, parts) for which in reversed(order)]


def taken() -> dict[str, bytes]:
    """Return what was written, and remove it."""
    found = {name: Path(name).read_bytes() for name in ("y.npy", "m.npz") if Path(name).exists()}
    for name in found:
        os.unlink(name)
    return found


def members(archive: bytes) -> list[bytes]:
    Path("read.npz").write_bytes(archive)
    with np.load("read.npz") as found:
        return [found[name].tobytes() for name in sorted(found.files)]


@pytest.mark.parametrize("case", slow_but(CASES, "groups larger than a part", "Fortran order"))
def test_parts_in_any_order_give_the_bits_and_the_report_of_one_process(run: Run, case: str) -> None:
    shape, order, dtype, options = CASES[case]
    save("x.npy", shape, order, dtype, nan=case == "NaN")
    np.save("gamma.npy", np.linspace(0.5, 2, 6))
    line = f"normalize x.npy -o y.npy {options}"
    forms = ("table", "json")
    one = {}
    for form in forms:
        one[form] = run(line, "--format", form), taken()
    assert one["table"][0][0] == 0
    for parts in (1, 3, 7):
        said = all_parts(run, line, parts, seed=parts)
        assert sum(each["elements"] for each in said) == np.prod(shape)
        shutil.copytree(".y.npy.parts", "kept")
        for form in forms:
            assert run(f"{line} --assemble --format {form}") == one[form][0]
            found = taken()
            assert found["y.npy"] == one[form][1]["y.npy"]
            assert "m.npz" not in found or members(found["m.npz"]) == members(one[form][1]["m.npz"])
            assert not Path(".y.npy.parts").exists()
            shutil.copytree("kept", ".y.npy.parts")
        shutil.rmtree(".y.npy.parts")
        shutil.rmtree("kept")
    assert run(f"{line} --resume") == one["table"][0]
    assert taken()["y.npy"] == one["table"][1]["y.npy"]
    assert not Path(".y.npy.parts").exists()


@pytest.mark.slow
@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 150), st.integers(1, 70)),
    groups=st.sampled_from([1, 2]),
    parts=st.integers(1, 9),
    visit=st.sampled_from([64, 1 << 10, 1 << 15]),
    grain=st.sampled_from([1, 96, 1 << 12]),
    last=st.booleans(),
)
def test_any_cut_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int, int],
    groups: int,
    parts: int,
    visit: int,
    grain: int,
    last: bool,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cut"))
        patch.setattr(run_parts, "VISIT_NBYTES", visit)
        patch.setattr(shared, "GRAIN_NBYTES", grain)
        n, c, h, w = shape
        save("x.npy", (n, h, w, 2 * c) if last else (n, 2 * c, h, w), "C", "f4")
        line = f"normalize x.npy -G {groups} -qq --layout {'NHWC' if last else 'NCHW'} -o".split()
        assert main([*line, "one.npy"]) == 0
        order = random.Random(parts).sample(range(1, parts + 1), parts)
        for more in (["--measure"], []):
            for which in order:
                assert main([*line, "y.npy", "--part", f"{which}/{parts}", *more]) == 0
        assert main([*line, "y.npy", "--assemble"]) == 0
        assert Path("y.npy").read_bytes() == Path("one.npy").read_bytes()


STORES = {
    "many groups per visit": "-o y.zarr",
    "groups that fit a part": "-o y.zarr::/a/b --compression zstd=1",
    "groups larger than a part": "-o y.zarr --save-moments m.npz",
    "channels last": "-o y.zarr --compression zstd=3",
    "bfloat16": "-o y.zarr",
    "nothing": "-o y.zarr",
}


def stored(folder: str) -> dict[str, bytes]:
    """Return the files of a store, and remove it."""
    found = {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}
    shutil.rmtree(folder)
    Path("m.npz").unlink(missing_ok=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", slow_but(STORES, "groups that fit a part"))
def test_parts_write_the_shards_of_a_store(run: Run, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google_crc32c")
    monkeypatch.setattr("gncli.io.formats.zarr.writing.CHUNK_NBYTES", 1 << 11)
    monkeypatch.setattr("gncli.io.formats.zarr.writing.SHARD_NBYTES", 3 << 12)
    shape, order, dtype, options = CASES[case]
    options = options.replace("--npy-bits", "").replace("--save-moments m.npz", "")
    save("x.npy", shape, order, dtype)
    np.save("gamma.npy", np.linspace(0.5, 2, 6))
    line = f"normalize x.npy {options} {STORES[case]}"
    one = run(line), stored("y.zarr")
    assert one[0][0] == 0
    assert case == "nothing" or len(one[1]) > 3
    for parts in (1, 3, 7):
        all_parts(run, line, parts, seed=parts)
        assert run(f"{line} --assemble") == one[0]
        assert stored("y.zarr") == one[1]
        assert not Path(".y.zarr.parts").exists()
    assert run(f"{line} --resume") == one[0]
    assert stored("y.zarr") == one[1]


def test_a_shard_that_is_not_what_was_recorded_is_found_and_a_store_is_replaced(
    run: Run, cells: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("google_crc32c")
    monkeypatch.setattr("gncli.io.formats.zarr.writing.CHUNK_NBYTES", 1 << 11)
    monkeypatch.setattr("gncli.io.formats.zarr.writing.SHARD_NBYTES", 3 << 12)
    line = "normalize x.npy -G 2 -o y.zarr"
    assert run(line, "-q")[0] == 0
    one = stored("y.zarr")
    os.mkdir("y.zarr")
    line = f"{line} -f"
    for which in (1, 2, 3):
        part(run, line, which, 3)
    shards = sorted(path for path in Path(".y.zarr.parts/data").rglob("*") if path.is_file())
    flip(str(shards[0]), 100)
    shards[-1].unlink()
    problem = "y.zarr: not what was recorded: parts 1 and 2 of 3"
    status, out, err = run(f"{line} --assemble")
    assert (status, out) == (3, "")
    assert err.startswith("gncli: error: y.zarr: not what was recorded: part"), problem
    fd = os.open(".y.zarr.parts/data", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    busy = (4, "", "gncli: error: y.zarr: is being written by another process; wait for it, or end it\n")
    assert run(f"{line} --resume") == run("clean y.zarr") == busy
    os.close(fd)
    assert run(f"{line} --resume", "-q") == (0, "", "")
    assert stored("y.zarr") == one
    part(run, line, 1, 3)
    status, out, err = run("clean y.zarr")
    assert (status, err) == (0, "")
    assert out.startswith("removed .y.zarr.parts/data (")
    save("f.npy", (40, 4, 9, 9), "F", "f4")
    problem = "y.zarr: cannot be written in parts; -o FILE.npy can, and FILE.zarr unless the input is in Fortran order"
    assert run("normalize f.npy -G 2 -o y.zarr --part 1/2") == (2, "", f"gncli: error: {problem}\n")


@pytest.mark.parametrize("damage", ["removed", "cut short"])
def test_without_the_check_assembling_looks_that_every_shard_is_there(
    run: Run, cells: None, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gncli.io.formats.zarr.writing.CHUNK_NBYTES", 1 << 11)
    monkeypatch.setattr("gncli.io.formats.zarr.writing.SHARD_NBYTES", 3 << 12)
    line = "normalize x.npy -G 2 -o y.zarr --no-verify"
    for which in (1, 2):
        part(run, line, which, 2)
    first = min(path for path in Path(".y.zarr.parts/data").rglob("*") if path.is_file())
    if damage == "removed":
        first.unlink()
    else:
        os.truncate(first, first.stat().st_size - 1)
    problem = "y.zarr: not what was recorded: part 1 of 2; do it again: --part 1/2"
    assert run(f"{line} --assemble") == (3, "", f"gncli: error: {problem}\n")
    part(run, line, 1, 2)
    assert run(f"{line} --assemble", "-q") == (0, "", "")
    found = stored("y.zarr")
    assert run(line, "-q") == (0, "", "")
    assert stored("y.zarr") == found


LINE = "normalize x.npy -G 2 -o y.npy"


@pytest.fixture
def cells() -> None:
    """Make a tensor of 40 samples of 2 groups, of which a visit holds a sample."""
    save("x.npy", (40, 4, 15, 15), "C", "f4")


@pytest.fixture
def large() -> None:
    """Make a tensor of two groups that are larger than a seventh."""
    save("x.npy", (1, 4, 150, 150), "C", "f4")


def test_a_part_says_what_it_did(run: Run, cells: None) -> None:
    status, out, err = run(f"{LINE} --part 2/7 --format plain")
    assert (status, out, err) == (0, "part 2 of 7: 12 of 80 groups measured and written\n", "")
    status, out, err = run(f"{LINE} --part 2/7 --format plain")
    assert (status, out, err) == (0, "part 2 of 7: 12 of 80 groups measured and written before\n", "")
    said = part(run, LINE, 7, 7)
    assert said == {
        "schema": 1,
        "command": "normalize",
        "input": "x.npy",
        "output": "y.npy",
        "part": 7,
        "parts": 7,
        "steps": ["measured", "written"],
        "cells": 10,
        "of_cells": 80,
        "elements": 4500,
        "of_elements": 36000,
        "before": False,
    }
    status, out, err = run(f"{LINE} --part 1/7 --measure --format plain")
    assert (status, err) == (0, "")
    assert out == "part 1 of 7: nothing to measure, since no group is larger than a part\n"
    assert run(f"{LINE} --part 1/7 --format value") == (0, "5400\n", "")
    assert run(f"{LINE} --part 3/7 --report r.html -q") == (0, "", "")
    assert "part 3 of 7: 12 of 80 groups measured and written" in Path("r.html").read_text()
    for form in ("table", "csv", "markdown"):
        status, out, err = run(f"{LINE} --part 4/7 --format {form}")
        assert (status, err) == (0, "")
        assert "y.npy" in out
    assert not Path("y.npy").exists()


def recorded(kind: str, parts: int) -> list[list[tuple[str, int]]]:
    """Return the visits in the record of each part: pass, and first element."""
    records = [np.load(f".y.npy.parts/{kind}-{which}-of-{parts}.npz") for which in range(1, parts + 1)]
    return [[(step, start) for step, start, _ in json.loads(each["about"].tobytes())["visits"]] for each in records]


@pytest.mark.parametrize("case", ["many groups per visit", "groups that fit a part", "groups larger than a part"])
def test_each_visit_is_done_by_one_part_and_parts_are_about_the_same(run: Run, case: str) -> None:
    shape, order, dtype, options = CASES[case]
    save("x.npy", shape, order, dtype)
    said = all_parts(run, f"normalize x.npy -o y.npy {options}", 3)
    for kind in ("part", "measure") if case == "groups larger than a part" else ("part",):
        visits = recorded(kind, 3)
        every = [visit for some in visits for visit in some]
        assert len(every) == len(set(every))
        assert max(map(len, visits)) <= 2 * min(map(len, visits))
    assert max(each["elements"] for each in said) < np.prod(shape) / 2


def test_tile_and_workers_may_differ_from_part_to_part(run: Run, large: None) -> None:
    one = run(LINE), taken()
    for more in (["--measure"], []):
        for which, how in ((1, "--tile 1K --workers 1"), (2, "--workers 3"), (3, "--tile 64M")):
            part(run, f"{LINE} {how}", which, 3, *more)
    assert run(f"{LINE} --assemble --tile 7K") == one[0]
    assert taken() == one[1]


def test_a_share_of_a_group_is_told_in_elements(run: Run, large: None) -> None:
    status, out, err = run(f"{LINE} --part 2/7 --measure --format plain")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"part 2 of 7: [1-9][0-9,]* of 90,000 elements measured\n", out)


def test_a_group_larger_than_a_part_is_measured_by_all_of_its_parts_first(run: Run, large: None) -> None:
    part(run, LINE, 1, 7, "--measure")
    status, out, err = run(f"{LINE} --part 1/7")
    hint = "gncli normalize ... --part 2/7 --measure"
    assert (status, out, err) == (3, "", f"gncli: error: y.npy: not measured: parts 2 to 4 of 7; {hint}\n")
    for which in (2, 3, 4):
        part(run, LINE, which, 7, "--measure")
    assert part(run, LINE, 1, 7)["steps"] == ["written"]  # the other group is no matter of this part
    status, out, err = run(f"{LINE} --assemble")
    hint = "gncli normalize ... --part 5/7 --measure"
    assert (status, out, err) == (3, "", f"gncli: error: y.npy: not measured: parts 5 to 7 of 7; {hint}\n")


def test_missing_parts_are_named(run: Run, cells: None) -> None:
    assert run(f"{LINE} --assemble") == (
        *(3, ""),
        "gncli: error: y.npy: there are no parts of it; gncli normalize ... --part I/N makes them\n",
    )
    assert not Path(".y.npy.parts").exists()
    for which in (1, 4, 6):
        part(run, LINE, which, 7)
    assert run(f"{LINE} --assemble") == (
        *(3, ""),
        "gncli: error: y.npy: missing: parts 2, 3, 5 and 7 of 7; gncli normalize ... --part 2/7\n",
    )
    assert [listed(some, 9) for some in ([3], [1, 2, 3, 5], [1, 2], [1, 3, 5])] == [
        *("part 3 of 9", "parts 1 to 3 and 5 of 9", "parts 1 and 2 of 9", "parts 1, 3 and 5 of 9"),
    ]


CHANGES = {
    "eps": (f"{LINE} --eps 0.001", "eps differs (1e-05, now 0.001)"),
    "gamma": (f"{LINE} --gamma 2", "gamma or beta differs"),
    "the check": (f"{LINE} --no-verify", "the check differs"),
    "dtype": (f"{LINE} --dtype float64", "dtype differs (float32, now float64)"),
    "moments": (f"{LINE} --save-moments m.npz", "--save-moments differs"),
    "input": (LINE, "the input (its size, time, and inode or ETag) differs"),
    "version": (LINE, "the version of gncli differs"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("how", slow_but(["--part 2/3", "--part 1/3", "--assemble", "--resume"], "--assemble"))
def test_parts_of_another_run_are_refused(
    run: Run, cells: None, change: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for which in (1, 2, 3) if how == "--assemble" else (1,):
        part(run, LINE, which, 3)
    line, problem = CHANGES[change]
    if change == "input":
        os.utime("x.npy", ns=(0, 0))
    if change == "version":
        monkeypatch.setattr(tasks_parts, "__version__", "9.9.9")
    before = Path(".y.npy.parts/data").read_bytes()
    status, out, err = run(f"{line} {how}")
    text = f"is of another run: {problem}; gncli clean y.npy removes them"
    assert (status, out, err) == (6, "", f"gncli: error: .y.npy.parts/part-1-of-3.npz: {text}\n")
    assert Path(".y.npy.parts/data").read_bytes() == before
    assert not Path("y.npy").exists()


def test_raw_elements_that_are_read_otherwise_are_another_input(run: Run) -> None:
    np.save("x.npy", np.random.default_rng(0).integers(0, 100, (4, 4, 9)).astype("u1").view("V1"))
    line = f"{LINE} --dtype float32 --as-dtype"
    part(run, f"{line} float8_e4m3fn", 1, 2)
    status, out, err = run(f"{line} float8_e5m2 --part 2/2")
    text = ".y.npy.parts/part-1-of-2.npz: is of another run: the dtype of the input differs"
    assert (status, out, err) == (6, "", f"gncli: error: {text}; gncli clean y.npy removes them\n")


def test_another_number_of_parts_is_another_run(run: Run, cells: None) -> None:
    part(run, LINE, 1, 3)
    problem = ".y.npy.parts: holds parts of 3, not of 4; gncli clean y.npy removes them"
    assert run(f"{LINE} --part 1/4") == (6, "", f"gncli: error: {problem}\n")
    shutil.copy(".y.npy.parts/part-1-of-3.npz", ".y.npy.parts/part-1-of-4.npz")
    problem = ".y.npy.parts: holds parts of 3 and of 4; gncli clean y.npy removes them"
    assert run(f"{LINE} --assemble") == (6, "", f"gncli: error: {problem}\n")


REFUSED = {
    "- -G 2 -o y.npy --part 1/2": (2, "<stdin>: cannot be read in parts; store it in a .npy, and name that"),
    "--random 4,4,9 -G 2 -o y.npy --resume": (
        2,
        "<random>: cannot be read in parts; store it in a .npy, and name that",
    ),
    "z.npz::x -G 2 -o y.npy --resume": (2, "z.npz::x: cannot be read in parts; store it in a .npy, and name that"),
    "x.npy -G 2 -o y.h5 --part 1/2": (2, "y.h5: cannot be written in parts; -o FILE.npy can, and FILE.zarr"),
    "x.npy -G 2 --in-place --resume": (2, "work in parts needs a file to write to; give -o FILE.npy; try"),
    "x.npy -G 2 --part 1/2": (2, "work in parts needs a file to write to; give -o FILE.npy; try"),
    "x.npy -G 2 -o - --part 1/2": (2, "work in parts needs a file to write to; give -o FILE.npy; try"),
    "x.npy -G 2 -o y.npy --part 3/2": (2, "invalid value for '--part': '3/2' is no part; write I/N, such as 2/7, with"),
    "x.npy -G 2 -o y.npy --part 0/2": (2, "invalid value for '--part': '0/2' is no part; write I/N, such as 2/7, with"),
    "x.npy -G 2 -o y.npy --part two": (2, "invalid value for '--part': 'two' is no part; write I/N, such as 2/7, with"),
    "x.npy -G 2 -o y.npy --part 1/2 --resume": (2, "one of --part, --assemble and --resume; try"),
    "x.npy -G 2 -o y.npy --measure": (2, "--measure is about a part; give --part I/N too; try"),
    "x.npy -G 2 -o y.npy --resume --hist": (2, "histograms are not made in parts; leave out --hist and --plot"),
    "x.npy -G 2 -o y.npy --part 1/2 --executor dask": (2, "parts need no cluster; leave out --executor dask"),
    "x.npy -G 2 -o no/y.npy --part 1/2": (
        4,
        "no/y.npy: cannot be written (No such file or directory); there is no folder no",
    ),
    "x.npy -G 2 -o x.npy --part 1/2": (
        4,
        "x.npy: is the same file as the input x.npy; choose another name, or --in-place for a .npy",
    ),
    "x.npy -G 2 -o old.npy --part 1/2": (4, "old.npy: already exists; --force replaces it"),
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_done_in_parts_is_refused(run: Run, cells: None, line: str) -> None:
    np.savez_compressed("z.npz", x=np.load("x.npy"))
    Path("old.npy").write_bytes(b"old")
    status, problem = REFUSED[line]
    found, out, err = run(f"normalize {line}")
    assert (found, out) == (status, "")
    assert err.startswith(f"gncli: error: {problem}")
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == ["old.npy", "x.npy", "z.npz"]


def test_an_output_that_exists_is_replaced_by_force_alone(run: Run, cells: None) -> None:
    assert run(LINE, "-q")[0] == 0
    one = Path("y.npy").read_bytes()
    Path("y.npy").write_bytes(b"old")
    Path("y.npy").chmod(0o640)
    for which in (1, 2):
        part(run, f"{LINE} -f", which, 2)
    assert Path("y.npy").read_bytes() == b"old"
    assert run(f"{LINE} --assemble") == (4, "", "gncli: error: y.npy: already exists; --force replaces it\n")
    assert run(f"{LINE} --assemble -f -q") == (0, "", "")
    assert (Path("y.npy").read_bytes(), Path("y.npy").stat().st_mode & 0o777) == (one, 0o640)


def flip(path: str, at: int) -> None:
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 1
    Path(path).write_bytes(data)


def test_a_byte_that_is_not_what_was_recorded_is_found_and_its_part_done_again(run: Run, cells: None) -> None:
    all_parts(run, LINE, 3)
    flip(".y.npy.parts/data", 70_000)
    problem = "y.npy: not what was recorded: part 2 of 3; do it again: --part 2/3"
    assert run(f"{LINE} --assemble") == (3, "", f"gncli: error: {problem}\n")
    assert not part(run, LINE, 2, 3)["before"]
    assert part(run, LINE, 1, 3)["before"]
    flip(".y.npy.parts/part-1-of-3.npz", 2000)
    flip(".y.npy.parts/part-3-of-3.npz", 1000)
    problem = "y.npy: not what was recorded: parts 1 and 3 of 3; do it again: --part 1/3"
    assert run(f"{LINE} --assemble") == (3, "", f"gncli: error: {problem}\n")
    status, out, err = run(f"{LINE} --resume")
    assert (status, err) == (0, "")
    found = taken()
    assert (0, out, "") == run(LINE)
    assert taken() == found


@pytest.mark.slow
def test_a_run_goes_on_where_it_ended(run: Run, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(LINE), taken()
    saved = SharedFolder.save
    for stop in (1, 5, 8):
        count = 0

        def save(self: SharedFolder, *given: Any) -> None:
            nonlocal count
            count += 1
            if count == stop:  # noqa: B023  # within the loop
                raise OutputError("stopped", subject="y.npy")
            saved(self, *given)

        monkeypatch.setattr(SharedFolder, "save", save)
        assert run(f"{LINE} --resume") == (4, "", "gncli: error: y.npy: stopped\n")
        assert len(os.listdir(".y.npy.parts")) == stop
        count, stop = 0, -1
        assert run(f"{LINE} --resume") == one[0]
        assert len(os.listdir()) == 2
        assert taken() == one[1]


def test_a_part_that_a_scheduler_began_is_finished_by_a_run_that_goes_on(run: Run, large: None) -> None:
    one = run(LINE), taken()
    for which in range(1, 8):
        part(run, LINE, which, 7, "--measure")
    part(run, LINE, 3, 7)
    assert run(f"{LINE} --resume") == one[0]
    assert taken() == one[1]


def test_a_check_that_fails_leaves_the_parts_and_no_output(run: Run) -> None:
    x = np.zeros((4, 4, 9, 9), np.float16)
    x[:, :, 0, 0] = 1000
    np.save("x.npy", x)
    line = f"{LINE} --gamma 60000"
    status, _, err = run(f"{line} --resume")
    assert status == 1
    assert err.endswith("nothing was written; gncli clean y.npy removes the parts\n")
    assert not Path("y.npy").exists()
    assert Path(".y.npy.parts").exists()


def test_a_part_that_would_keep_too_much_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, cells: None) -> None:
    monkeypatch.setattr("gncli.run.records.MOST_NUMBERS", 100)
    problem = "a part would keep more than 100 numbers of its cells; take more parts, of less"
    assert run(f"{LINE} --part 1/2") == (5, "", f"gncli: error: {problem}\n")


# --- several processes ---


def lock(path: str, how: int) -> int:
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, how)
    return fd


def test_nothing_is_put_together_or_removed_while_a_part_is_written(run: Run, cells: None) -> None:
    for which in (1, 2):
        part(run, LINE, which, 2)
    fd = lock(".y.npy.parts/data", fcntl.LOCK_SH)
    busy = (4, "", "gncli: error: y.npy: is being written by another process; wait for it, or end it\n")
    for line in (f"{LINE} --assemble", f"{LINE} --resume", "clean y.npy"):
        assert run(line) == busy
    assert part(run, LINE, 2, 2)["before"]  # parts do not wait for each other
    os.close(fd)
    assert run(f"{LINE} --assemble -q") == (0, "", "")


def test_parts_of_another_size_are_not_written_over(run: Run, cells: None) -> None:
    os.mkdir(".y.npy.parts")
    Path(".y.npy.parts/data").write_bytes(b"other")
    fd = lock(".y.npy.parts/data", fcntl.LOCK_SH)
    problem = "y.npy: cannot be written (parts of another size are being written)"
    assert run(f"{LINE} --part 1/2") == (4, "", f"gncli: error: {problem}\n")
    os.close(fd)
    assert not part(run, LINE, 1, 2)["before"]  # nobody needs them


def test_a_folder_that_cannot_be_listed_is_an_error(run: Run, cells: None) -> None:
    Path(".y.npy.parts").write_text("a file")
    problem = ".y.npy.parts: cannot be listed (Not a directory)"
    assert run(f"{LINE} --part 1/2") == (4, "", f"gncli: error: {problem}\n")


def test_a_second_commit_does_nothing(cells: None) -> None:
    file = SharedFolder("y.npy").begin(alone=True, force=False, inputs=[])
    file.allocate(10)
    file.write(memoryview(b"0123456789"), 0)
    for _ in range(2):
        file.commit()
    assert Path("y.npy").read_bytes() == b"0123456789"


def test_a_shard_that_cannot_be_made_durable_is_not_recorded(cells: None, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SharedFolder("y.zarr").begin_store(alone=True, force=False, inputs=[])
    good, bad = store.file("c/0"), store.file("c/1")
    for file in (good, bad):
        file.write(memoryview(b"0123"), 0)
    good.commit()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        bad.commit()
    for file in (good, bad):
        file.abort()
    assert [run.place for run in store.finish()[0]] == ["c/0"]
    store.abort()


def test_a_file_system_without_locks_will_do(run: Run, cells: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(LINE), taken()

    def refuse(_fd: int, _how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    all_parts(run, LINE, 2)
    busy = (4, "", "gncli: error: y.npy: is being written by another process; wait for it, or end it\n")
    assert run("clean y.npy") == busy  # for all that is known
    assert run(f"{LINE} --assemble") == one[0]
    assert taken() == one[1]


def test_a_part_that_begins_as_all_are_put_together_writes_no_byte(
    run: Run, cells: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gncli.io.atomic import locked

    def late(fd: int, **how: Any) -> bool | None:
        if Path(".y.npy.parts/data").exists():
            os.rename(".y.npy.parts/data", "y.npy")
            Path(".y.npy.parts/data").write_bytes(b"")
        return locked(fd, **how)

    monkeypatch.setattr("gncli.io.shared.locked", late)
    problem = "y.npy: cannot be written (its parts were put together meanwhile)"
    assert run(f"{LINE} --part 1/2") == (4, "", f"gncli: error: {problem}\n")
    assert Path("y.npy").read_bytes() == b""


def test_what_is_left_over_is_named_and_removed(run: Run, cells: None) -> None:
    assert run("clean y.npy") == (0, "y.npy: nothing is left over\n", "")
    part(run, LINE, 1, 2)
    Path(".y.npy.parts/mine.txt").write_text("kept")
    Path(".y.npy.00ff00ff00ff.tmp").write_bytes(bytes(10))
    Path(".y.npy.00ff00ff00ff.other").write_bytes(bytes(10))
    assert run("clean no/y.npy") == (4, "", "gncli: error: no/y.npy: cannot be written (No such file or directory)\n")
    note = "gncli: .y.npy.parts: left by an earlier run; --resume goes on with it, gncli clean y.npy removes it\n"
    assert run(LINE, "-q") == (0, "", note)
    status, out, err = run("clean y.npy")
    assert (status, err) == (0, "")
    assert out.startswith("removed .y.npy.parts/data (144,128 bytes)\nremoved .y.npy.parts/part-1-of-2.npz (")
    assert os.listdir(".y.npy.parts") == ["mine.txt"]
    assert run(LINE, "-qf") == (0, "", "")  # nothing of a part is left
    for which in (1, 2):
        part(run, f"{LINE} -f", which, 2)
    assert run(f"{LINE} -f --assemble", "-q") == (0, "", "")
    assert os.listdir(".y.npy.parts") == ["mine.txt"]
    os.unlink(".y.npy.parts/mine.txt")
    Path(".y.npy.00ff00ff00ff.tmp").write_bytes(bytes(10))
    fd = lock(".y.npy.00ff00ff00ff.tmp", fcntl.LOCK_EX)
    busy = (4, "", "gncli: error: y.npy: is being written by another process; wait for it, or end it\n")
    assert run("clean y.npy") == busy
    os.close(fd)
    assert run("clean y.npy") == (0, "removed .y.npy.00ff00ff00ff.tmp (10 bytes)\n", "")
    part(run, f"{LINE} -f", 2, 2)
    status, out, err = run("clean y.npy")
    assert (status, err) == (0, "")
    assert re.fullmatch(
        r"removed \.y\.npy\.parts/data \(144,128 bytes\)\nremoved \.y\.npy\.parts/part-2-of-2\.npz \([0-9,]+ bytes\)\n",
        out,
    )
    assert sorted(os.listdir()) == [".y.npy.00ff00ff00ff.other", "x.npy", "y.npy"]


HOOK = """
from gncli.run import parts
from gncli.io import shared
from gncli.tasks import parts as tasks_parts
parts.VISIT_NBYTES = 1 << 16
shared.GRAIN_NBYTES = 1 << 9
tasks_parts.PART_NBYTES = 1 << 19
"""


@pytest.mark.slow
def test_a_kill_at_any_time_leaves_the_output_whole_or_absent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a part, of a run that goes on, and of the assembly; what is done again is done as if nothing had been."""
    monkeypatch.setattr(run_parts, "VISIT_NBYTES", 1 << 16)
    monkeypatch.setattr(tasks_parts, "PART_NBYTES", 1 << 19)
    save("x.npy", (40, 8, 60, 60), "C", "f4")
    one = run(LINE), taken()
    rng = random.Random(0)
    for how in ("--resume", "--part 1/2", "--resume", "--resume"):
        process = start([*LINE.split(), *how.split()], HOOK)
        time.sleep(rng.uniform(0.25, 0.6))
        process.send_signal(signal.SIGKILL)
        ended(process)
        assert not Path("y.npy").exists() or Path("y.npy").read_bytes() == one[1]["y.npy"]
        if how == "--part 1/2":
            assert run("clean y.npy")[0] == 0
    if not Path("y.npy").exists():
        assert run(f"{LINE} --resume") == one[0]
    assert taken() == one[1]
    run("clean y.npy")
    assert os.listdir() == ["x.npy"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", slow_but(["fill", "commit", "emptied"], "commit"))
def test_a_kill_of_the_assembly_is_made_good(run: Run, cells: None, stage: str) -> None:
    one = run(LINE), taken()
    all_parts(run, LINE, 3)
    hook = f"""{HOOK.replace("16", "12")}
import os, signal
name = {stage!r}
of = shared.SharedFolder if name == "emptied" else shared.SharedFile
setattr(of, name, lambda *given: os.kill(os.getpid(), signal.SIGKILL))
"""
    status, out, err = ended(start([*LINE.split(), "--assemble"], hook))
    assert (status, out, err) == (-signal.SIGKILL, b"", b"")
    if stage == "emptied":  # the output has its name, and the records are left
        assert taken() == one[1]
        assert run("clean y.npy")[0] == 0
        assert os.listdir() == ["x.npy"]
    else:
        assert not Path("y.npy").exists()
        assert run(f"{LINE} --assemble") == one[0]
        assert taken() == one[1]


STORE = "normalize x.npy -G 2 -o y.zarr -f"
STORE_HOOK = """
import os, signal
from gncli.io import atomic_folder, shared
from gncli.io.atomic import OutputFile
from gncli.io.formats.zarr import writing
from gncli.run import parts
parts.VISIT_NBYTES = 1 << 12
writing.CHUNK_NBYTES = 1 << 11
writing.SHARD_NBYTES = 3 << 12

def kill(*given):
    os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED = (-signal.SIGKILL, b"", b"")


@pytest.fixture
def store(run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, bytes]]:
    """Return the report of a run that wrote a store of many shards, and its files, which are gone."""
    pytest.importorskip("google_crc32c")
    monkeypatch.setattr("gncli.io.formats.zarr.writing.CHUNK_NBYTES", 1 << 11)
    monkeypatch.setattr("gncli.io.formats.zarr.writing.SHARD_NBYTES", 3 << 12)
    save("x.npy", (40, 4, 20, 20), "C", "f4")
    return run(STORE), stored("y.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_kill_in_any_write_of_a_part_of_a_store_is_made_good(
    run: Run, store: tuple[Any, dict[str, bytes]], seed: int
) -> None:
    for at in random.Random(seed).sample(range(1, 70), 2):
        hook = f"""{STORE_HOOK}
left, write = [{at}], OutputFile.write

def halved(file, view, offset):
    left[0] -= 1
    write(file, view if left[0] else view[: len(view) // 2], offset)
    left[0] or kill()

OutputFile.write = halved
"""
        assert ended(start([*STORE.split(), "--part", "1/2", "--workers", "2"], hook)) == KILLED
        assert sorted(os.listdir()) == [".y.zarr.parts", "x.npy"]
        assert not [name for name in os.listdir(".y.zarr.parts") if name.endswith(".npz")]
        if not seed:
            status, out, err = run("clean y.zarr")
            assert (status, err) == (0, "")
            assert out.startswith("removed .y.zarr.parts/data (")
            assert os.listdir() == ["x.npy"]
    all_parts(run, STORE, 2)
    assert run(f"{STORE} --assemble") == store[0]
    assert stored("y.zarr") == store[1]
    assert os.listdir() == ["x.npy"]


ASSEMBLING = {
    "shared.SharedStore.holds": "old",
    "shared.SharedStore.describe": "old",
    "shared.SharedStore._place": "old",
    "atomic_folder.sync_directory": "new",
    "shared.SharedFolder.emptied": "new",
}


@pytest.mark.slow
@pytest.mark.parametrize("place", slow_but(ASSEMBLING, next(iter(ASSEMBLING))))
def test_a_kill_of_the_assembly_of_a_store_leaves_the_old_one_or_the_new_one(
    run: Run, store: tuple[Any, dict[str, bytes]], place: str
) -> None:
    assert run("normalize x.npy -G 4 -o y.zarr")[0] == 0
    old = {str(path): path.read_bytes() for path in Path("y.zarr").rglob("*") if path.is_file()}
    all_parts(run, STORE, 3)
    assert ended(start([*STORE.split(), "--assemble"], f"{STORE_HOOK}\n{place} = kill")) == KILLED
    assert stored("y.zarr") == (old if ASSEMBLING[place] == "old" else store[1])
    if ASSEMBLING[place] == "old":
        assert run(f"{STORE} --assemble") == store[0]
        assert stored("y.zarr") == store[1]
    else:
        status, out, err = run("clean y.zarr")
        assert (status, err) == (0, "")
        assert "removed .y.zarr.parts/part-1-of-3.npz (" in out
        assert ("removed .y.zarr.parts/data (" in out) == (place == "atomic_folder.sync_directory")
    assert os.listdir() == ["x.npy"]


def test_a_report_of_a_part_has_every_form() -> None:
    report = PartReport(
        command="stats",
        input="x.npy",
        output="m.npz",
        part=1,
        parts=2,
        steps=("measured",),
        cells=1,
        of_cells=1,
        elements=3,
        of_elements=6,
        cell="cell",
        notes=("a note",),
    )
    document = document_of(report)
    assert document.line == document.answer().lines[0] == "part 1 of 2: 1 of 1 cell measured"
    assert (document.title, document.aside(), document.histograms()) == ("gncli stats x.npy", ["a note"], [])
    assert document.poster().caption == [document.line]
    assert render(report, "csv").splitlines() == [
        "command,input,output,part,parts,steps,cells,of_cells,elements,of_elements,before",
        "stats,x.npy,m.npz,1,2,measured,1,1,3,6,false",
    ]
