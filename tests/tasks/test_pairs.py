"""Many pairs of `gncli diff`: paired by name across formats, in natural order; identical means to the bit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.cli import main
from gncli.commands.diff import most_pairs
from gncli.errors import GncliError, InputError, ParameterError
from gncli.io import ArraySource
from gncli.names import DIFFERENCES
from gncli.report import document_of
from gncli.report.pair_records import NUMBERS, PairsReport
from gncli.run.engine import Engine
from gncli.tasks.pairs import Match, identical, matched
from gncli.tasks.requests import Pairing
from tests.archives import entry, tensors
from tests.arrays import spoiled
from tests.files import DTYPES
from tests.runs import diff, diff_many, stats

LAYERS = [f"layers.{at}.w" for at in (1, 2, 9, 10)]


def arrays(seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((3, 4)).astype(np.float32) for name in LAYERS}


def folder(path: Path, content: dict[str, NDArray[Any]]) -> str:
    path.mkdir()
    for name, array in content.items():
        np.save(path / f"{name}.npy", array)
    return str(path)


def safetensors(path: Path, content: dict[str, NDArray[Any]]) -> str:
    header, data = {}, b""
    for name, array in content.items():
        header[name] = entry("F32", array.shape, len(data), len(data) + array.nbytes)
        data += array.tobytes()
    path.write_bytes(tensors(header, data))
    return str(path)


def npz(path: Path, content: dict[str, NDArray[Any]]) -> str:
    np.savez_compressed(path, **content)  # type: ignore[arg-type]
    return str(path)


def hdf5(path: Path, content: dict[str, NDArray[Any]]) -> str:
    with h5py.File(path, "w") as file:
        file.update(content)
    return str(path)


FORMATS = {"folder": folder, "x.safetensors": safetensors, "x.npz": npz, "x.h5": hdf5}


def verdicts(report: PairsReport) -> dict[str, str]:
    return {row.name: row.verdict for row in report.rows}


def edited(changes: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the tensors with one element of some multiplied."""
    content = arrays()
    for name, factor in changes.items():
        content[name][1, 2] *= np.float32(factor)
    return content


@pytest.mark.parametrize("b", FORMATS)
@pytest.mark.parametrize("a", FORMATS)
def test_every_format_is_paired_with_every_other_in_natural_order(a: str, b: str, tmp_path: Path) -> None:
    changed = edited({"layers.9.w": 2, "layers.2.w": 1 + 2**-23})
    del changed["layers.10.w"]
    changed["layers.11.w"] = np.ones(2, np.float32)
    for side in "ab":
        (tmp_path / side).mkdir()
    report = diff_many(FORMATS[a](tmp_path / "a" / a, arrays()), FORMATS[b](tmp_path / "b" / b, changed))
    assert list(verdicts(report).items()) == [
        ("layers.1.w", "identical"),
        ("layers.2.w", "same"),
        ("layers.9.w", "different"),
        ("layers.10.w", "only in A"),
        ("layers.11.w", "only in B"),
    ]
    assert (report.equal, report.status, report.left) == (False, 1, 0)
    assert report.first is not None
    assert report.first.name == "layers.9.w"
    assert dict(report.counts) == dict.fromkeys(("identical", "same", "different", "only in A", "only in B"), 1)


def test_the_numbers_of_a_pair_are_those_of_the_two_tensors_alone(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", arrays()), folder(tmp_path / "b", arrays(1))
    for row in diff_many(a, b, rtol=0.1, atol=0.5).rows:
        alone = diff(f"{a}::{row.name}", f"{b}::{row.name}", rtol=0.1, atol=0.5)
        x, y = (arrays(seed)[row.name].astype(np.float64) for seed in (0, 1))
        assert alone.worst is not None
        assert row.number("max") == alone.worst.difference == np.abs(x - y).max()
        assert row.number("outside") == alone.outside == int((np.abs(x - y) > 0.5 + 0.1 * np.abs(y)).sum())
        assert row.number("rel") == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(y), rel=1e-14)
        assert row.number("cosine") == alone.cosine
        assert row.number("rmse") == alone.rmse
        assert row.number("size") == 12


@pytest.mark.parametrize("dtype", DTYPES)
def test_identical_means_every_bit_in_any_byte_order_and_storage_order(dtype: str) -> None:
    x = spoiled((40, 3, 50), dtype)
    swapped = x.astype(x.dtype.newbyteorder())
    other = x.copy()
    other.view(np.uint8).reshape(-1)[-1] ^= 1
    with Engine(2, tile=256) as engine:
        for y in (x, swapped, np.asfortranarray(x), np.asfortranarray(swapped)):
            assert identical(ArraySource(x), ArraySource(y), engine)
            assert identical(ArraySource(y), ArraySource(x), engine)
            assert not identical(ArraySource(other), ArraySource(y), engine)
        assert not identical(ArraySource(x), ArraySource(x[:1]), engine)
        assert not identical(ArraySource(x), ArraySource(x.astype("f4" if dtype[-2:] != "f4" else "f8")), engine)
        assert identical(ArraySource(x[:0]), ArraySource(x[:0]), engine)


def test_a_zero_of_another_sign_and_a_nan_of_other_bits_are_not_identical(tmp_path: Path) -> None:
    x = np.array([0.0, np.nan])
    y = x.copy()
    y[0] = -0.0
    z = x.copy()
    z.view(np.uint64)[1] ^= 1
    a = npz(tmp_path / "a.npz", {"x": x, "y": y, "z": z})
    b = npz(tmp_path / "b.npz", {"x": x, "y": x, "z": x})
    assert verdicts(diff_many(a, b)) == {"x": "identical", "y": "same", "z": "same"}
    assert verdicts(diff_many(a, b, nan_differs=True)) == {"x": "different", "y": "different", "z": "different"}
    assert verdicts(diff_many(a, a, nan_differs=True, match="x")) == {"x": "different"}


def test_identical_stays_so_where_two_nans_would_differ(tmp_path: Path) -> None:
    a = npz(tmp_path / "a.npz", {"x": np.ones(3), "y": np.arange(3)})
    report = diff_many(a, a, nan_differs=True)
    assert verdicts(report) == {"x": "identical", "y": "identical"}
    assert [report.rows[0].number(name) for name in NUMBERS] == [3, 0, 0, 0, 0, 0, 0, 0, 1]


def test_bfloat16_is_compared_as_it_is_stored(tmp_path: Path) -> None:
    for name, last in (("a", 0x3F80), ("b", 0x3F81)):
        data = np.array([0x3F80, 0x7FC1, last], "<u2")
        header = {"x": entry("BF16", (3,), 0, 6), "y": entry("F8_E5M2", (3,), 6, 9)}
        (tmp_path / name).write_bytes(tensors(header, data.tobytes() + bytes([0, 0x7D, 0x7E if name == "a" else 0x7F])))
    report = diff_many(str(tmp_path / "a"), str(tmp_path / "b"))
    assert verdicts(report) == {"x": "same", "y": "same"}
    assert diff_many(str(tmp_path / "a"), str(tmp_path / "a")).counts["identical"] == 2


def test_other_shapes_and_dtypes_have_a_verdict(tmp_path: Path) -> None:
    a = npz(tmp_path / "a.npz", {"x": np.ones((2, 3)), "y": np.ones(2), "z": np.ones(0)})
    b = npz(tmp_path / "b.npz", {"x": np.ones((3, 2)), "y": np.ones(2, np.float32), "z": np.ones(0)})
    report = diff_many(a, b)
    assert verdicts(report) == {"x": "different", "y": "same", "z": "identical"}
    assert [report.rows[0].number(name) for name in NUMBERS] == [None] * len(NUMBERS)


# Names.


@pytest.mark.parametrize(
    ("renames", "expected"),
    [
        ((), [("a.2", "a.2", None), ("a.10", "a.10", None), ("b.2", None, "b.2"), ("c", "c", "/c")]),
        ((("^a", "b"),), [("b.2", "a.2", "b.2"), ("b.10", "a.10", None), ("c", "c", "/c")]),
        ((("a", "x"), ("x", "b")), [("b.2", "a.2", "b.2"), ("b.10", "a.10", None), ("c", "c", "/c")]),
        (((r"a\.(\d+)", r"b.\1"),), [("b.2", "a.2", "b.2"), ("b.10", "a.10", None), ("c", "c", "/c")]),
    ],
)
def test_names_are_replaced_and_paired(renames: Any, expected: Any) -> None:
    assert matched(["a.10", "c", "a.2"], ["/c", "b.2"], Pairing(renames=renames)) == [Match(*each) for each in expected]


def test_names_in_files_of_a_folder_have_no_leading_slash_either() -> None:
    pairing = Pairing(renames=(("h5", "npz"),))
    assert matched(["s/x.h5::/g/a"], ["s/x.npz::g/a"], pairing) == [
        Match("s/x.npz::g/a", "s/x.h5::/g/a", "s/x.npz::g/a")
    ]


@pytest.mark.parametrize(
    ("pairing", "said"),
    [
        (Pairing(renames=((r"\d", ""),)), "--map makes two names one: l1 and l2 both become l"),
        (Pairing(renames=(("l", r"\9"),)), r"--map 'l=\\9' is no replacement: invalid group reference 9"),
        (Pairing(match="x*"), "--match 'x*' matches none of 3 tensors"),
        (Pairing(unchanged=("x*",)), "--expect-unchanged 'x*' matches none of 3 tensors"),
        (Pairing(changed=("l*", "y")), "--expect-changed 'y' matches none of 3 tensors"),
        (Pairing(match="l1"), "no tensor has the same name on both sides: A has l1, B has none; --map 'REGEX=TEXT'"),
    ],
)
def test_names_that_do_not_pair_are_refused(pairing: Pairing, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        matched(["l1", "l2"], ["l2", "l3"], pairing)
    assert str(caught.value).startswith(said)


# Options.


@pytest.fixture
def sides(tmp_path: Path) -> tuple[str, str]:
    """Return two folders: layers 2 and 10 differ, 10 more so; 9 is the same, and 1 identical."""
    changed = edited({"layers.2.w": 1.5, "layers.9.w": 1 + 2**-23, "layers.10.w": -90})
    return folder(tmp_path / "a", arrays()), folder(tmp_path / "b", changed)


def test_rows_are_sorted_and_left_out(sides: tuple[str, str]) -> None:
    def names(**options: Any) -> list[str]:
        return [name.split(".")[1] for name in verdicts(diff_many(*sides, **options))]

    assert names() == ["1", "2", "9", "10"]
    assert names(sort="name") == ["1", "2", "9", "10"]
    assert names(sort="-name") == ["10", "9", "2", "1"]
    assert names(sort="max") == ["1", "9", "2", "10"]
    assert names(sort="-rel") == ["10", "2", "9", "1"]
    assert names(only_different=True, sort="-outside") == ["2", "10"]
    assert names(match="*.1*.w") == ["1", "10"]
    report = diff_many(*sides, only_different=True)
    assert (report.counts["identical"], report.first and report.first.name) == (1, "layers.2.w")


def test_what_differs_by_a_nan_is_farthest_and_names_are_ordered_as_people_count(tmp_path: Path) -> None:
    x = np.arange(4.0)
    a = npz(tmp_path / "a.npz", {"w.9": x, "w.10": x, "v": x})
    b = npz(tmp_path / "b.npz", {"w.9": x + 1, "w.10": np.where(x > 2, np.nan, x), "v": x})
    for sort, expected in {
        "-max": ["w.10", "w.9", "v"],
        "max": ["v", "w.9", "w.10"],
        "name": ["v", "w.9", "w.10"],
        "-nan": ["w.10", "v", "w.9"],
    }.items():
        assert list(verdicts(diff_many(a, b, sort=sort))) == expected


def test_the_numbers_that_are_asked_for_are_shown_in_every_form(
    sides: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["-s", "offset,slope,size", "--sort", "-slope", "--match", "*.1*"]
    table = run(capfd, *sides, *options)[1].splitlines()
    assert [title.strip() for title in table[1].split("│")[1:-1]] == ["Name", "Verdict", "Offset", "Slope", "Size"]
    rows = run(capfd, *sides, *options, "--format", "csv")[1].splitlines()
    assert rows[0] == "name,verdict,a,b,offset,slope,size,error"
    assert rows[1].startswith("layers.1.w,identical,") and rows[1].endswith(",0,1.0,12,")
    lines = run(capfd, *sides, *options, "--format", "jsonl")[1].splitlines()
    objects = [json.loads(line) for line in lines]
    assert [list(found)[-2:] for found in objects] == [["offset", "slope"]] * 2
    x, y = (np.load(f"{side}/layers.10.w.npy").ravel().astype(float) for side in sides)
    slope, offset = np.polyfit(y, x, 1)
    assert objects[1]["slope"] == pytest.approx(slope, rel=1e-12)
    assert objects[1]["offset"] == pytest.approx(offset, rel=1e-12)
    values = run(capfd, *sides, *options, "--format", "value")[1].splitlines()
    assert values == ["0", "1.0", "12", repr(objects[1]["offset"]), repr(objects[1]["slope"]), "12"]
    assert "slope" not in json.loads(run(capfd, *sides, "--format", "jsonl")[1].splitlines()[0])


def test_a_number_that_is_unknown_comes_last(tmp_path: Path) -> None:
    a = npz(tmp_path / "a.npz", {"x": np.ones(2), "y": np.ones(3), "z": np.ones(4)})
    b = npz(tmp_path / "b.npz", {"x": np.ones(3), "y": np.ones(3), "z": np.zeros(4)})
    for sort, expected in (("max", ["y", "z", "x"]), ("-max", ["z", "y", "x"])):
        assert list(verdicts(diff_many(a, b, sort=sort))) == expected


def test_fail_fast_stops_at_the_first_difference(sides: tuple[str, str]) -> None:
    report = diff_many(*sides, fail_fast=True)
    assert (list(verdicts(report)), report.left, report.status) == (["layers.1.w", "layers.2.w"], 2, 1)
    assert not diff_many(*sides, fail_fast=True, match="layers.[19].w").left


@pytest.mark.parametrize(
    ("options", "status", "broken"),
    [
        ({"unchanged": ("layers.1.*",)}, 0, ()),
        ({"unchanged": ("layers.9.w",)}, 1, ("layers.9.w: is same (--expect-unchanged 'layers.9.w')",)),
        ({"changed": ("*.2.w", "*.9.w", "*.10.w")}, 0, ()),
        ({"changed": ("layers.1*",)}, 1, ("layers.1.w: is identical (--expect-changed 'layers.1*')",)),
        ({"unchanged": ("*",), "fail_fast": True}, 1, ("layers.2.w: is different (--expect-unchanged '*')",)),
    ],
)
def test_expectations_say_what_may_change(sides: tuple[str, str], options: Any, status: int, broken: Any) -> None:
    report = diff_many(*sides, **options)
    assert (report.status, report.broken.first, report.gated) == (status, broken, True)


def test_a_tensor_that_is_gone_fails_whatever_may_change(sides: tuple[str, str]) -> None:
    (Path(sides[1]) / "layers.1.w.npy").unlink()
    assert diff_many(*sides, changed=("layers.2.w",)).status == 1
    report = diff_many(*sides, unchanged=("layers.1.w",))
    assert report.broken.first == ("layers.1.w: is only in A (--expect-unchanged 'layers.1.w')",)


def test_what_cannot_be_read_is_a_row_and_the_others_go_on(sides: tuple[str, str]) -> None:
    a, b = map(Path, sides)
    (a / "layers.1.w.npy").write_bytes(b"\x93NUMPY")
    (b / "layers.3.w.npy").write_bytes(b"")
    (b / "bad.npz").write_bytes(b"PK\3\4")
    report = diff_many(*sides, fail_fast=True)
    assert {row.name: row.message[:20] for row in report.rows if row.error} == {
        "bad.npz": "is damaged: the zip ",
        "layers.1.w": "ends inside the .npy",
    }
    report = diff_many(*sides)
    assert (report.status, report.counts["unreadable"], report.counts["identical"]) == (3, 3, 0)
    assert report.failed


def test_a_report_keeps_as_many_pairs_as_are_wanted_and_counts_the_others(sides: tuple[str, str]) -> None:
    (Path(sides[0]) / "layers.99.w.npy").write_bytes(b"")
    every = diff_many(*sides)
    for sort in (None, "-name"):
        whole, some = diff_many(*sides, sort=sort), diff_many(*sides, sort=sort, most_pairs=2)
        assert [row.name for row in some.rows] == [row.name for row in whole.rows][:2]
        assert (whole.more, some.more, some.counts) == (0, len(every.rows) - 2, every.counts)
        assert [failure.name for failure in some.failures] == ["layers.99.w"]
        assert document_of(some).sheet(1).under[0] == f"... {len(every.rows) - 1} more; --format csv for all"
    nothing = diff_many(*sides, most_pairs=0)
    assert (nothing.rows, nothing.status, list(document_of(nothing).values())) == ((), 3, ["DIFFERENT"])


def test_a_command_keeps_as_many_pairs_as_its_forms_show() -> None:
    assert most_pairs(["table"], ()) == most_pairs(["value", "svg"], ()) == 1000
    assert (most_pairs(["value"], ()), most_pairs(["value"], ["slope"])) == (0, None)
    assert (most_pairs(["table", "html"], ()), most_pairs(["table", "csv"], ())) == (10_000, None)


def test_what_is_not_numeric_is_counted(tmp_path: Path) -> None:
    a = npz(tmp_path / "a.npz", {"x": np.ones(2), "y": np.ones(3), "words": np.array(["a"])})
    assert diff_many(a, a).skipped == ((a, 1), (a, 1))


# Which command lines are about many pairs.


def test_a_file_of_one_tensor_is_that_tensor(tmp_path: Path) -> None:
    one = npz(tmp_path / "one.npz", {"x": np.ones(3)})
    np.save(tmp_path / "y.npy", np.ones(3))
    two = npz(tmp_path / "two.npz", {"x": np.ones(3), "z": np.ones(3)})
    lone = folder(tmp_path / "lone", {"x": np.ones(3)})
    y = str(tmp_path / "y.npy")
    assert diff(one, one).equal
    for a, b in ((one, y), (f"{two}::z", f"{two}::x"), (lone, y)):
        assert diff(a, b).equal
        with pytest.raises(ParameterError, match="about files or folders of tensors, and there are only two tensors"):
            diff_many(a, b, fail_fast=True)
    assert diff_many(one, one, match="x").counts["identical"] == 1
    assert diff_many(lone, lone).counts["identical"] == 1
    assert verdicts(diff_many(one, two)) == {"x": "identical", "z": "only in B"}
    with pytest.raises(InputError, match="holds 2 tensors: x, z; name one, as FILE::NAME"):
        diff(str(tmp_path / "y.npy"), two)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "0"}, "--by is about two tensors, and there are many; name one on each side, as FILE::NAME"),
        ({"output": "d.npy"}, "-o is about"),
        ({"bins": 3}, "--hist is about"),
        ({"picture": 3}, "--plot is about"),
    ],
)
def test_options_about_two_tensors_are_refused(sides: tuple[str, str], options: Any, said: str) -> None:
    with pytest.raises(GncliError) as caught:
        diff_many(*sides, **options)
    assert str(caught.value).startswith(said)


# What it looks like.


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["diff", *arguments])
    said = capfd.readouterr()
    return status, said.out, said.err


def test_every_form_has_every_pair(sides: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    (Path(sides[1]) / "layers.3.w.npy").write_bytes(b"\x93NUMPY")
    error = f"gncli: error: {sides[1]}::layers.3.w: ends inside the .npy header (6 of 8 bytes)\n"
    status, out, err = run(capfd, *sides, "--format", "json")
    assert (status, err) == (3, error)
    body = json.loads(out)
    assert (body["command"], body["equal"], body["first_different"]) == ("diff", False, "layers.2.w")
    assert body["counts"] == {
        "identical": 1,
        "same": 1,
        "different": 2,
        "inconclusive": 0,
        "unreadable": 1,
        "only in A": 0,
        "only in B": 0,
    }
    lines = run(capfd, *sides, "--format", "jsonl")[1].splitlines()
    assert [json.loads(line) for line in lines] == body["pairs"]
    assert body["pairs"][2]["error"] == "ends inside the .npy header (6 of 8 bytes)"
    rows = run(capfd, *sides, "--format", "csv")[1].splitlines()
    assert rows[0] == f"name,verdict,a,b,{','.join(DIFFERENCES[name].field for name in NUMBERS)},error"
    assert [row.split(",")[1] for row in rows[1:]] == ["identical", "different", "unreadable", "same", "different"]
    assert run(capfd, *sides, "--format", "value")[1] == "DIFFERENT\n"
    last = "first different: layers.2.w: 1 of 12 elements outside |a - b| <= 1e-05 + 1.3e-06 |b|; --atol"
    counts = "DIFFERENT: 1 identical, 1 same, 2 different, 1 unreadable"
    for form in ("table", "plain", "markdown"):
        shown = run(capfd, *sides, "--format", form)[1].replace("\\", "").rstrip("\n")
        assert last in shown.splitlines()[-1]
        assert counts in shown.splitlines()[-3:], form


def test_expectations_that_do_not_hold_are_said(sides: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capfd, *sides, "--expect-unchanged", "*.[29].w", "-q")
    assert (status, err.splitlines()) == (
        1,
        [
            "gncli: expectation failed: layers.2.w: is different (--expect-unchanged '*.[29].w')",
            "gncli: expectation failed: layers.9.w: is same (--expect-unchanged '*.[29].w')",
        ],
    )
    status, out, err = run(capfd, *sides, "--expect-unchanged", "layers.1.w")
    assert (status, err) == (0, "")
    assert "DIFFERENT: 1 identical, 1 same, 2 different; as expected" in out.splitlines()


def test_the_same_folders_are_the_same(sides: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capfd, sides[0], sides[0])
    assert (status, out.splitlines()[-1], err) == (0, "SAME: 4 identical", "")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--map", "("], "'(' is not a regular expression"),
        (["--map", "a"], "'a' is not REGEX=TEXT"),
        (["--map", "=a"], "'=a' is not REGEX=TEXT"),
        (["--sort", "-maxx"], "'maxx' orders no pairs; did you mean max?"),
        (["--sort", "?"], "'?' orders no pairs; choose (name, size"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(option: list[str], said: str, capfd: Any) -> None:
    status, out, err = run(capfd, "a", "b", *option)
    assert (status, out) == (2, "")
    assert said in err


def test_the_map_is_split_at_the_first_sign(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a = npz(tmp_path / "a.npz", {"x": np.ones(2), "y": np.ones(2)})
    b = npz(tmp_path / "b.npz", {"=x": np.ones(2), "y": np.ones(2)})
    assert run(capfd, a, b, "--map", "^x==x", "--format", "value")[:2] == (0, "SAME\n")


def test_a_report_in_a_file_is_a_page(
    sides: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for suffix in ("html", "svg"):
        assert run(capfd, *sides, "--report", str(tmp_path / f"r.{suffix}"))[0] == 1
        page = (tmp_path / f"r.{suffix}").read_text().replace("&#160;", " ")
        assert "DIFFERENT: 1 identical, 1 same, 2 different" in re.sub("<[^>]*>", "", page)  # its colours are apart
        assert "gncli diff" in page


def test_a_page_without_pictures_says_the_verdict(sides: tuple[str, str]) -> None:
    poster = document_of(diff_many(*sides)).poster()
    assert (poster.title, list(poster.panels)) == (f"{sides[0]} - {sides[1]}", [])
    assert poster.caption[0] == "DIFFERENT: 1 identical, 1 same, 2 different"


@pytest.mark.slow
def test_many_tensors_show_the_first_thousand(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a = npz(tmp_path / "a.npz", {f"x{at}": np.ones(1) for at in range(1002)})
    out = run(capfd, a, a)[1].splitlines()
    assert out[-2:] == ["... 2 more; --format csv for all", "SAME: 1,002 identical"]
    assert len(stats([a]).tensors) == 1002


def test_a_file_of_all_pairs_is_named_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for side in ("a", "b"):
        (tmp_path / side / "sub").mkdir(parents=True)
        npz(tmp_path / side / "sub" / "m.npz", {"x": np.ones(1), "y": np.ones(2)})
    out = run(capfd, str(tmp_path / "a"), str(tmp_path / "b"))[1].splitlines()
    assert out[0] == "sub/m.npz"
    assert [line.split()[1] for line in out[4:6]] == ["x", "y"]
    csv = run(capfd, str(tmp_path / "a"), str(tmp_path / "b"), "--format", "csv")[1].splitlines()
    assert csv[1].startswith("sub/m.npz::x,")
