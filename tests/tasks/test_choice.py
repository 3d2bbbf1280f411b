"""``--where``, ``--sort`` and ``--top``: tensors, cells and pairs against a list, filtered and sorted in Python."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gncli
from gncli.cli import main
from gncli.commands import stats as command
from gncli.errors import LimitError, ParameterError
from gncli.report.records import Failure, TensorStats
from gncli.report.tensor_document import CellsDocument
from gncli.run.plan import Plan
from gncli.tasks.expect import OF_DIFFERENCES, parse
from tests.files import write_npy
from tests.runs import diff, diff_many, stats

RNG = np.random.default_rng(0)
ARRAYS = {
    name: RNG.integers(-3, 4, (2, 6, 3, 3)).astype(dtype) for name, dtype in (("a", "f4"), ("b", "f2"), ("c", "f4"))
}


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of three tensors, with one before the last that cannot be read."""
    monkeypatch.chdir(tmp_path)
    for name, array in ARRAYS.items():
        write_npy(tmp_path, array, f"{name}.npy")
    (tmp_path / "bad.npy").write_bytes(b"x")
    return ["a.npy", "b.npy", "bad.npy", "c.npy"]


def cells_of(name: str) -> list[tuple[str, int, float, int]]:
    """Return (name, channel, sum, zeros) of each channel, in longhand."""
    x = ARRAYS[name].astype(np.float64)
    return [(f"{name}.npy", c, float(x[:, c].sum()), int((x[:, c] == 0).sum())) for c in range(6)]


EVERY_CELL = [cell for name in ARRAYS for cell in cells_of(name)]


def test_tensors_are_chosen_and_what_cannot_be_read_stays(names: list[str]) -> None:
    report = stats(names, where=parse("dtype == float32"), statistics=["zeros"], total=True)
    assert [found.name for found in report.tensors] == ["a.npy", "bad.npy", "c.npy"]
    assert report.total is not None
    assert report.total.value("zeros") == sum(int((ARRAYS[name] == 0).sum()) for name in "ac")
    assert (report.total.size, report.status) == (2 * 108, 3)
    assert report.notes == ("2 of 3 tensors where dtype == float32",)


def test_tensors_are_ordered_with_what_cannot_be_read_first(names: list[str]) -> None:
    sums = {f"{name}.npy": float(x.astype("f8").sum()) for name, x in ARRAYS.items()}
    report = stats(names, sort="-sum", top=2)
    assert [found.name for found in report.tensors] == ["bad.npy", *sorted(sums, key=lambda n: -sums[n])[:2]]
    assert isinstance(report.tensors[0], Failure)
    assert [found.name for found in stats(names, top=1).tensors] == ["bad.npy", "a.npy"]
    assert stats(["a.npy"], sort="dimensions").tensors[0].name == "a.npy"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"where": "zeros/size > 0.15"}, [cell for cell in EVERY_CELL if cell[3] / 18 > 0.15]),
        ({"sort": "sum"}, sorted(EVERY_CELL, key=lambda cell: cell[2])),
        ({"sort": "-sum", "top": 4}, sorted(EVERY_CELL, key=lambda cell: -cell[2])[:4]),
        ({"top": 7}, EVERY_CELL[:7]),
        (
            {"where": "zeros >= 2 and sum < 4", "sort": "-zeros", "top": 5},
            sorted((c for c in EVERY_CELL if c[3] >= 2 and c[2] < 4), key=lambda cell: -cell[3])[:5],
        ),
        ({"where": "sum > 99"}, []),
    ],
)
def test_cells_of_all_tensors_are_chosen_and_ordered(
    names: list[str], given: dict[str, Any], expected: list[tuple[str, int, float, int]]
) -> None:
    given = given | ({"where": parse(given["where"])} if "where" in given else {})
    came: list[tuple[str, int]] = []
    report = stats(
        names,
        by="C",
        **given,
        statistics=["zeros"],
        on_cells=lambda tensor, cells: came.extend((tensor.name, cell.place["C"]) for cell in cells),
    )
    assert came == [cell[:2] for cell in expected]
    assert report.status == 3
    (sheet,) = CellsDocument(report).sheets(quiet=True)
    rows = [(str(name), place, zeros) for name, place, zeros, *_ in sheet.rows if name != "bad.npy"]
    assert rows == [(name, f"C {c}", zeros) for name, c, _, zeros in expected]
    kept = {
        found.name: [cell.place["C"] for cell in found.cells.kept]
        for found in report.tensors
        if isinstance(found, TensorStats) and found.cells is not None
    }
    assert kept == {f"{name}.npy": [c for at, c, *_ in expected if at == f"{name}.npy"] for name in ARRAYS}


def test_a_table_counts_the_chosen_cells_that_it_leaves_out(names: list[str]) -> None:
    for given in ({"where": parse("size > 0")}, {"sort": "mean"}, {"sort": "mean", "keep_cells": 3}):
        report = stats(["a.npy", "b.npy"], by="C", total=True, **given)
        (sheet,) = CellsDocument(report).sheets(quiet=True, most=2)
        assert [row[0] for row in sheet.rows][2:] == ["(total)"]
        assert sheet.under[0] == "... 10 more; --format csv for all"


def test_a_row_that_cannot_be_read_is_the_first_of_a_table_in_order(names: list[str]) -> None:
    (sheet,) = CellsDocument(stats(names, by="C", sort="std", total=True)).sheets(quiet=True)
    assert [sheet.rows[0][0], sheet.rows[-1][0]] == ["bad.npy", "(total)"]
    (sheet,) = CellsDocument(stats(names, by="C", where=parse("std > 9"))).sheets(quiet=True)
    assert [row[0] for row in sheet.rows] == ["bad.npy"]


def test_expectations_are_about_what_is_chosen(names: list[str]) -> None:
    expect = [parse("zeros < 3")]
    report = stats(names, by="C", where=parse("zeros > 2"), top=1, expect=expect)
    assert report.broken.total == sum(cell[3] > 2 for cell in EVERY_CELL)
    report = stats(names, where=parse("dtype == float16"), expect=[parse("size < 1 or mean > 5*std")])
    mean, std = ARRAYS["b"].astype("f8").mean(), ARRAYS["b"].astype("f8").std()
    assert report.broken.total == 1
    assert report.broken.first[0].startswith("b.npy: size is 108, expected < 1; or mean is ")
    assert float(report.broken.first[0].split("(")[1][:-1]) == pytest.approx(5 * std)
    assert abs(mean) < 5 * std


def test_too_many_cells_to_show_are_refused(names: list[str]) -> None:
    for given in ({"where": parse("size > 0")}, {"sort": "mean"}, {"top": 8}):
        report = stats(["a.npy", "c.npy"], by="C", most_cells=7, keep_cells=7, **given)
        found = [failure.error for failure in report.failures]
        if "where" in given:  # each tensor has no more than seven
            assert found == []
        else:
            assert [str(error) for error in found] == [
                "c.npy: has more than 7 cells to show; --top 1000 or a --where leaves out some"
            ]
            assert isinstance(found[0], LimitError)
    assert stats(["a.npy", "c.npy"], by="C", most_cells=7, top=7).failures == ()
    (failure,) = stats(["a.npy"], by="C", most_cells=5, where=parse("size > 0")).failures
    assert failure.error.status == 5
    (failure,) = stats(["a.npy"], by="C", most_cells=5).failures
    assert str(failure.error) == "a.npy: has 6 cells; json shows at most 5; --format jsonl streams them all"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_form_that_shows_every_cell_holds_them_until_they_are_in_order(
    names: list[str], form: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    typed = ["stats", "a.npy", "c.npy", "--by", "C", "--sort", "-std", "-s", "std", "--format", form]
    assert main(typed) == 0
    lines = capfd.readouterr().out.splitlines()
    stds = [float(line.split(",")[2]) for line in lines[1:]] if form == "csv" else [json.loads(x)["std"] for x in lines]
    assert stds == sorted(stds, reverse=True)
    assert len(stds) == 12
    monkeypatch.setattr(command, "MOST_RANKED", 9)
    assert main(typed) == 5
    assert capfd.readouterr().err == (
        "gncli: error: c.npy: has more than 9 cells to show; --top 1000 or a --where leaves out some\n"
    )


def test_all_of_a_file_that_is_in_order_is_in_json_and_a_page(
    names: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    typed = ["stats", "a.npy", "--by", "C", "--where", "zeros > 1", "--report", "r.html", "--format", "json"]
    assert main(typed) == 0
    (tensor,) = json.loads(capfd.readouterr().out)["tensors"]
    assert [cell["index"]["C"] for cell in tensor["cells"]] == [c for _, c, _, zeros in cells_of("a") if zeros > 1]
    assert "cells where zeros &gt; 1" in Path("r.html").read_text(encoding="utf-8")


def test_the_cells_of_a_tensor_that_changed_are_in_no_order(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reduce = Plan.reduce

    def touched(*args: Any, **kwargs: Any) -> Any:
        found = list(reduce(*args, **kwargs))
        os.utime("b.npy", ns=(1, 1))
        return iter(found)

    monkeypatch.setattr(Plan, "reduce", touched)
    report = stats(["a.npy", "b.npy"], by="C", sort="mean", where=parse("size > 0"))
    assert [failure.error.status for failure in report.failures] == [6]
    assert report.ranked is not None
    assert ({name for name, _ in report.ranked.rows}, report.ranked.total) == ({"a.npy"}, 6)
    assert report.notes == ("6 of 6 cells where size > 0",)


def test_a_fingerprint_orders_no_cells(names: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "a.npy", "--by", "C", "--sort", "sha256"]) == 2
    assert "a fingerprint is about whole tensors" in capfd.readouterr().err


# --- differences -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sides(tmp_path: Path) -> tuple[str, str]:
    """Return two files of tensors of which some differ, one is on one side only, and one cannot be read."""
    for side in "ab":
        (tmp_path / side).mkdir()
        for at in range(4):
            write_npy(tmp_path / side, ARRAYS["a"][:, :3] + (0.5 * at if side == "a" else 0), f"l{at}.npy")
        (tmp_path / side / "bad.npy").write_bytes(b"x")
    write_npy(tmp_path / "a", ARRAYS["b"], "only.npy")
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_pairs_are_chosen_by_their_numbers(sides: tuple[str, str]) -> None:
    def names_of(**given: Any) -> list[str]:
        where = parse(given.pop("where", "max >= 0"), OF_DIFFERENCES)
        return [row.name for row in diff_many(*sides, where=where, **given).rows]

    assert names_of(where="max > 0.5") == ["bad", "l2", "l3"]
    assert names_of(sort="-max", top=2) == ["bad", "l3", "l2"]
    assert names_of(where="dtype == float16") == ["bad", "only"]
    assert names_of(where="shape == 2,3,3,3 and outside/size > 0.5", sort="max") == ["bad", "l1", "l2", "l3"]
    report = diff_many(*sides, where=parse("max > 0.5", OF_DIFFERENCES), most_pairs=1)
    assert ([row.name for row in report.rows], report.more, report.status) == (["bad"], 2, 3)
    assert report.notes == ("2 of 5 pairs where max > 0.5",)


def test_cells_of_a_difference_are_chosen_and_the_worst_is_that_of_all(tmp_path: Path) -> None:
    x = ARRAYS["a"].astype("f8")
    a = x + np.arange(6).reshape(6, 1, 1) / 10
    sides = write_npy(tmp_path, a, "p.npy"), write_npy(tmp_path, x, "q.npy")
    where = parse("max < 0.35 and outside/size > 0", OF_DIFFERENCES)
    report = diff(*sides, by="C", where=where, sort="max", top=2)
    assert report.cells is not None
    assert [cell.place["C"] for cell in report.cells] == [1, 2]
    assert report.cells.total == 2
    assert report.most_different is not None
    assert report.most_different.place == {"C": 5}
    assert report.notes[-1] == "3 of 6 cells where max < 0.35 and outside/size > 0"
    report = diff(*sides, by="C", where=parse("slope > 0.5", OF_DIFFERENCES))
    assert report.cells is not None
    assert len(report.cells) == 6
    assert diff(sides[1], sides[1], by="C").most_different is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top": 1}, "--top is about cells, or about files or folders of tensors"),
        ({"where": "max > 1"}, "--where is about cells, or about files or folders of tensors"),
        (
            {"where": "dtype == float16", "by": "C"},
            "--where: dtype is about pairs of many tensors",
        ),
    ],
)
def test_what_has_no_rows_cannot_be_chosen_from(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    path = write_npy(tmp_path, ARRAYS["a"])
    where = {"where": parse(given["where"], OF_DIFFERENCES)} if "where" in given else {}
    with pytest.raises(ParameterError) as caught:
        diff(path, path, **given | where)
    assert str(caught.value).startswith(message)


# --- Python ----------------------------------------------------------------------------------------------------------


def test_python_chooses_too(sides: tuple[str, str]) -> None:
    x = ARRAYS["a"]
    cells = gncli.stats(x, "zeros", by="C", where="zeros/size > 0.1", sort="-zeros", top=2).cells
    expected = sorted((c for c in cells_of("a") if c[3] / 18 > 0.1), key=lambda cell: -cell[3])[:2]
    assert [cell.place["C"] for cell in cells] == [c for _, c, *_ in expected]
    assert [cell.place["C"] for cell in gncli.diff(x + 1, x, by="C", top=2).cells] == [0, 1]
    assert [row.name for row in gncli.diff(*sides, sort="-max", top=1)] == ["bad", "l3"]
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: gncli.stats(x, where="zeros >"), "expected a number, at character 8: zeros > >>> the end"),
        (lambda: gncli.stats(x, sort="-name"), "'name' is not a statistic"),
        (lambda: gncli.diff(x, x, by="C", sort="std"), "'std' is no difference"),
        (lambda: gncli.stats(x, top=0), "top is 0; give a finite number, at least 1"),
    ]
    for call, message in calls:
        with pytest.raises(ParameterError) as caught:
            call()
        assert str(caught.value).startswith(message)
