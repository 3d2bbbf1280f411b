"""``stats`` in parts: the report of one process, from records in any order."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli.io import shared
from gncli.io.shared import Remembered
from gncli.run import parts as run_parts
from gncli.run.records import Packed, unpacked
from gncli.tasks import parts as tasks_parts
from tests.marks import examples, slow_but
from tests.runs import Run


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let visits be of 4 KiB."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_parts, "VISIT_NBYTES", 1 << 12)


def make(shape: tuple[int, ...], dtype: str, order: Any) -> NDArray[Any]:
    x = np.random.default_rng(len(shape)).normal(3, 20, shape)
    if dtype[0] == "f" and x.size:
        x.reshape(-1)[:: max(1, x.size // 5)] = np.nan
        x.reshape(-1)[1 :: max(1, x.size // 3)] = np.inf
    return np.asarray(np.round(np.abs(x)) if dtype[0] == "u" else x, order=order).astype(dtype, order="K")


PRECISE = "subnormal,smallest_nonzero,at_min,at_max,zero_fraction,absmax,rms"
# Shape, dtype, memory order, and options.
CASES: dict[str, tuple[tuple[int, ...], str, str, str]] = {
    "the default": ((40, 6, 30), "f4", "C", ""),
    "one long row": ((200_000,), "f4", "C", "-s all"),
    "everything": ((6, 8, 40, 20), "f2", "C", f"-s all,{PRECISE},distinct --as bfloat16,float16:4"),
    "64-bit integers": ((6, 8, 40, 20), "i8", "C", "-s all,distinct"),
    "bytes by channel": ((9, 7, 30, 20), "u1", "C", "--by C -s all --ddof 1"),
    "channels last": ((9, 30, 20, 8), "f4", "C", "--by C --layout NHWC -s mean,std,argmax,first_nan,zeros"),
    "Fortran order": ((9, 8, 30, 20), "f8", "F", "--by N,C -s mean,kurtosis,argmin"),
    "groups with percentiles": ((9, 8, 10, 10), "f4", "C", "--by group --groups 4 -s median,p99,mean"),
    "header": ((9, 8, 10, 10), "f4", "C", "-s shape,dtype,nbytes"),
    "nothing": ((0, 8, 10), "f4", "C", "-s mean,sum,argmax"),
    "a number": ((), "f8", "C", ""),
}


@pytest.mark.parametrize("case", slow_but(CASES, "the default", "bytes by channel", "nothing"))
def test_parts_in_any_order_give_the_report_of_one_process(run: Run, case: str) -> None:
    shape, dtype, order, options = CASES[case]
    np.save("x.npy", make(shape, dtype, order))
    for parts in (1, 3, 7):
        measured = 0
        for which in random.Random(parts).sample(range(1, parts + 1), parts):
            status, out, err = run(f"stats x.npy --part {which}/{parts} -o m{which}.npz --format json -f {options}")
            assert (status, err) == (0, "")
            said = json.loads(out)
            assert (said["part"], said["parts"], said["of_elements"]) == (which, parts, np.prod(shape))
            measured += said["elements"]
        assert measured == np.prod(shape)
        names = " ".join(f"m{which}.npz" for which in random.Random(-parts).sample(range(1, parts + 1), parts))
        for form in ("table", "json", "csv", "plain"):
            assert run(f"stats --assemble {names} --format {form}") == run(f"stats x.npy {options} --format {form}")


def three(run: Run, options: str = "") -> str:
    for which in (1, 2, 3):
        assert run(f"stats x.npy --part {which}/3 -o m{which}.npz -q {options}") == (0, "", "")
    return "m1.npz m2.npz m3.npz"


@pytest.fixture
def cells() -> None:
    """Make a tensor of 40 samples, of which a visit holds one."""
    np.save("x.npy", make((40, 4, 15, 15), "f4", "C"))


def test_what_is_asked_of_the_report_is_asked_of_the_assembly(run: Run, cells: None) -> None:
    names = three(run, "--by C -s mean,std")
    for more in ("--expect nan==0", "--sort -std --top 2", "--where mean>3 --format csv", "--expect zeros<1 --total"):
        assert run(f"stats --assemble {names} {more}") == run(f"stats x.npy --by C -s mean,std {more}")


def test_a_part_says_what_it_did(run: Run, cells: None) -> None:
    assert run("stats x.npy --part 2/3 -o m.npz --format plain") == (
        0,
        "part 2 of 3: 14,400 of 36,000 elements measured\n",
        "",
    )
    status, out, err = run("stats x.npy --part 2/3 -o n.npz --by N --report r.txt")
    assert (status, err) == (0, "")
    assert "part 2 of 3: 13 of 40 cells measured" in out
    assert Path("r.txt").read_text() == out
    assert sorted(np.load("n.npz").files)[:2] == ["about", "f8"]  # NumPy reads it too, without pickles


def test_no_other_file_is_replaced_by_a_record(run: Run, cells: None) -> None:
    said = (0, "part 2 of 3: 14,400 of 36,000 elements measured\n", "")
    refused = (4, "", "gncli: error: m.npz: already exists; --force replaces it\n")
    np.savez("m.npz", mine=np.arange(3))
    assert run("stats x.npy --part 2/3 -o m.npz --format plain") == refused
    assert np.load("m.npz").files == ["mine"]
    assert run("stats x.npy --part 2/3 -o m.npz --format plain --force") == said
    assert run("stats x.npy --part 2/3 -o m.npz --format plain") == said  # a job that is run again
    for other in ("--part 1/3", "--part 2/4", "--part 2/3 -s std", "--part 2/3 --by N"):
        assert run(f"stats x.npy {other} -o m.npz") == refused
    assert run("normalize x.npy -G 1 -o y.npy --part 1/1 -q") == (0, "", "")
    os.replace(".y.npy.parts/part-1-of-1.npz", "m.npz")
    assert run("stats x.npy --part 2/3 -o m.npz") == refused


def test_chunks_that_are_not_stored_and_members_that_are_no_numbers_are_remembered(run: Run) -> None:
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", (40, 1000), "f4", chunks=(10, 1000), fillvalue=2.0)[:20] = 1.0
        file.create_dataset("words", data=["no", "number"])
    for which in (1, 2, 3):
        assert run(f"stats x.h5 --part {which}/3 -o m{which}.npz -q")[0] == 0
    for form in ("table", "json"):
        one = run(f"stats x.h5 --format {form}")
        assert run(f"stats --assemble m1.npz m2.npz m3.npz --format {form}") == one
        assert "not stored" in "".join(one[1:])
    np.savez("x.npz", x=np.arange(9.0), words=np.array(["a"]))
    assert run("stats x.npz --part 1/1 -o m.npz -q") == (0, "", "")
    assert run("stats --assemble m.npz") == run("stats x.npz")


REFUSED = {
    "- --part 1/2 -o m.npz": (2, "<stdin>: cannot be read in parts; store it in a .npy, and name that"),
    "x.npy x.npy --part 1/2 -o m.npz": (2, "a part is of one TENSOR, not of 2; name one"),
    "x.npy --part 1/2": (2, "--part and -o FILE.npz go together; try"),
    "x.npy -o m.npz": (2, "--part and -o FILE.npz go together; try"),
    "x.npy --part 1/2 -o m.npy": (2, "m.npy: .npy is not a format that can be written; choose FILE.npz"),
    "x.npy --part 1/2 -o no/m.npz": (
        4,
        "no/m.npz: cannot be written (No such file or directory); there is no folder no",
    ),
    "x.npy --part 1/2 -o m.npz -s sha256": (2, "a fingerprint is not measured in parts; leave out sha256"),
    "x.npy --part 1/2 -o m.npz -s median": (2, "x.npy: percentiles of cells that are larger than 16 MiB are not"),
    "x.npy --part 1/2 -o m.npz --by Q": (2, "x.npy: "),
    "x.npy --part 1/2 -o m.npz --total": (2, "--total does not go with --part; give it to --assemble; try"),
    "x.npy --part 1/2 -o m.npz --hist": (2, "--hist does not go with --part; leave it out; try"),
    "x.npy --part 1/2 -o m.npz --executor dask": (2, "--executor does not go with --part; leave it out; try"),
    "--assemble m1.npz m2.npz m3.npz -s mean": (2, "--stat does not go with --assemble; the parts say it; try"),
    "--assemble m1.npz m2.npz m3.npz --by C": (2, "--by does not go with --assemble; the parts say it; try"),
    "--assemble m1.npz m2.npz m3.npz --plot p.png": (2, "--plot does not go with --assemble; leave it out; try"),
    "--assemble m1.npz m3.npz m1.npz": (2, "m1.npz: is the same part as m1.npz; give each part once"),
    "--assemble m1.npz m2.npz m3.npz --expect kurtosis<1": (2, "the parts did not measure kurtosis; name it in -s of"),
    "--assemble m1.npz m2.npz m3.npz --expect p50<1": (2, "the parts did not measure p50; name it in -s of each part"),
    "--assemble m3.npz": (3, "x.npy: missing: parts 1 and 2 of 3; gncli stats ... --part I/N -o FILE.npz measures one"),
    "--assemble m1.npz x.npy": (3, "x.npy: is no record of a part; --part I/N -o FILE.npz writes one"),
    "--assemble m1.npz gone.npz": (3, "gone.npz: cannot be read (No such file or directory)"),
    "--assemble m1.npz .y.npy.parts/part-1-of-2.npz": (3, ".y.npy.parts/part-1-of-2.npz: is a part of normalize; "),
    "--assemble m1.npz m2.npz bad.npz": (3, "bad.npz: is damaged: its checksum is wrong; do this part again"),
    "--assemble m1.npz m2.npz four.npz": (6, "four.npz: is a part of 4, not of 3; give the parts of one run"),
    "--assemble m1.npz m2.npz other.npz": (
        6,
        "other.npz: is of another run: ddof differs (1, now 0); give the parts of",
    ),
    "--assemble m1.npz m2.npz late.npz": (
        6,
        "late.npz: is of another run: the input (its size, time, and inode or ETag) differs;",
    ),
}


def test_what_cannot_be_done_in_parts_is_refused(run: Run, cells: None) -> None:
    three(run)
    assert run("normalize x.npy -G 2 -o y.npy --part 1/2 -q")[0] == 0
    assert run("stats x.npy --part 4/4 -o four.npz -q")[0] == 0
    assert run("stats x.npy --part 3/3 -o other.npz -q --ddof 1")[0] == 0
    bad = bytearray(Path("m3.npz").read_bytes())
    bad[bad.index(b'{"run"') + 20] ^= 1
    Path("bad.npz").write_bytes(bad)
    os.utime("x.npy", ns=(0, 0))
    assert run("stats x.npy --part 3/3 -o late.npz -q")[0] == 0
    before = sorted(os.listdir())
    for line, (status, problem) in REFUSED.items():
        found, out, err = run(f"stats {line}")
        assert (found, out) == (status, ""), line
        assert err.startswith(f"gncli: error: {problem}"), line
        assert err.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_more_cells_than_may_be_open_are_refused(run: Run, cells: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gncli.run.plan.MAX_OPEN_CELLS", 5)
    status, out, err = run("stats x.npy --part 1/2 -o m.npz --by W,C")
    assert (status, out) == (5, "")
    assert err.endswith(" cells and more are too many to be open in a part; ask for fewer cells\n")


@pytest.mark.parametrize("name", ["version", "input"])
def test_a_part_of_another_version_is_refused(
    run: Run, cells: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    names = three(run)
    if name == "version":
        monkeypatch.setattr(tasks_parts, "__version__", "9.9.9")
        words = "the version of gncli"
    else:
        np.save("x.npy", np.zeros(36000, np.float32))
        words = "the input (its size, time, and inode or ETag)"
    assert run("stats x.npy --part 2/3 -o m2.npz -qf")[0] == 0
    status, out, err = run(f"stats --assemble {names}")
    text = f"m2.npz: is of another run: {words} differs; give the parts of one run"
    assert (status, out, err) == (6, "", f"gncli: error: {text}\n")


@pytest.mark.parametrize("about", [b"", b"{", b"[]", b"{}", b'{"run": 1}', b"\xff"])
def test_a_record_that_does_not_say_its_run_is_damaged(run: Run, cells: None, about: bytes) -> None:
    said = np.frombuffer(about, np.uint8)
    np.savez("m.npz", sha256=shared._digest({"about": said}), about=said)
    status, out, err = run("stats --assemble m.npz")
    text = "m.npz: is damaged: it does not say what run it is of; do this part again"
    assert (status, out, err) == (3, "", f"gncli: error: {text}\n")
    assert run("stats x.npy --part 2/3 -o m.npz")[0] == 4


def test_a_remembered_tensor_has_no_elements() -> None:
    about = {"shape": [2], "dtype": ["<f4", "bfloat16"], "order": "C", "dimensions": [], "chunks": [3, 4, 0.0]}
    source = Remembered("x", about)
    assert (source.dtype_name, source.shape, source.not_stored) == ("bfloat16", (2,), 1)
    with pytest.raises(NotImplementedError):
        source.read_into(np.empty(1, np.float32), 0)


numbers = st.one_of(st.none(), st.booleans(), st.integers(-(2**4000), 2**4000), st.floats(), st.text(max_size=3))


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(
    values=st.recursive(
        numbers,
        lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
        max_leaves=8,
    ),
    whole=st.lists(st.integers(-(2**2000), 2**2000), max_size=4),
    dtype=st.sampled_from(["<f8", ">f8", "<f4", "<i8", "<u8", "|b1", "<i4"]),
    shape=st.sampled_from([(), (0,), (3,), (2, 3)]),
)
def test_what_is_packed_comes_back_as_the_same_bits(
    values: Any, whole: list[int], dtype: str, shape: tuple[int, ...]
) -> None:
    objects = np.empty(len(whole), object)
    objects[:] = whole
    array = np.random.default_rng(0).normal(0, 100, shape).astype(dtype)
    packed = Packed()
    facts = json.loads(json.dumps(packed.pack((values, objects, array))))
    back, back_objects, back_array = unpacked(facts, packed.arrays())
    assert repr(back) == repr(values)
    assert back_objects.tolist() == whole
    assert back_array.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
    assert (back_array.shape, back_array.dtype.kind) == (shape, array.dtype.kind)
