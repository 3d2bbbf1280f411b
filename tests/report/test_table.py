"""`gncli.report.table`: on terminals of any width, in a pipe, and as pages."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gncli.report import render
from gncli.report.normalize_records import NormalizeReport, Stage
from gncli.report.records import StatsReport
from gncli.report.style import Style
from tests.archives import ARRAY
from tests.files import write_npy
from tests.marks import slow_but
from tests.report.samples import NORMALIZED, ONE, REPORTS, SEVERAL, STAGED, VALUES, X
from tests.runs import diff


def wide(columns: int) -> NormalizeReport:
    """Return a report whose table is far wider than 80 columns."""
    stats = replace(X, values=VALUES | {"mean": 0.12345678901234567})
    return replace(NORMALIZED, stages=tuple(Stage(f"stage {i}", stats) for i in range(columns)))


@pytest.mark.parametrize("columns", [1, 8, 40])
def test_a_table_in_a_pipe_is_as_wide_as_its_numbers(columns: int) -> None:
    text = render(wide(columns), "table", Style(precision=17))
    rows = [line for line in text.splitlines() if line.startswith("│ Mean")]
    assert [row.count(f"{0.12345678901234567:.17g}") for row in rows] == [columns]
    assert "…" not in text


@pytest.mark.parametrize("width", slow_but([1, 20, 40, 80, 120, 200], 1, 80))
@pytest.mark.parametrize("report", [ONE, SEVERAL, NORMALIZED, STAGED, wide(12)])
def test_a_narrow_terminal_costs_no_digit(report: StatsReport | NormalizeReport, width: int) -> None:
    def numbers(text: str) -> list[str]:
        return sorted(re.findall(r"(?<= )-?[0-9][-+.e0-9]*(?= )", text))

    style = Style(width=width, quiet=True, precision=17)
    assert numbers(render(report, "table", style)) == numbers(render(report, "table", style._replace(width=None)))


@pytest.mark.parametrize("width", [100, 120, 140])
def test_headings_and_names_fold_until_the_table_fits_the_terminal(width: int) -> None:
    long = replace(X, name="directory/" * 12 + "x.npy")
    text = render(StatsReport((long, X), ("shape", "mean", "std", "min")), "table", Style(width=width))
    assert {len(line) for line in text.splitlines()} == {width}
    name = "".join(line.split("│")[1].strip() for line in text.splitlines()[3:-2])
    assert name == long.name


def test_a_wide_character_counts_as_two_columns() -> None:
    text = render(StatsReport((replace(X, name="卷积"),), ("dtype",)), "table")
    assert text.splitlines()[1:4] == ["│           │ 卷积    │", "├───────────┼─────────┤", "│ Data Type │ float64 │"]


def test_a_terminal_without_utf_8_gets_ascii() -> None:
    text = render(StatsReport((replace(X, name="é卷.npy"),), ("dtype",)), "table", Style(encoding="ascii"))
    assert text == (
        "+----------------------------+\n"
        "|           | \\xe9\\u5377.npy |\n"
        "|-----------+----------------|\n"
        "| Data Type | float64        |\n"
        "+----------------------------+\n"
    )


def test_colour_is_the_same_table_with_sequences_of_our_own() -> None:
    for report in (ONE, SEVERAL, NORMALIZED, STAGED):
        text = render(report, "table", Style(color=True))
        assert re.sub(r"\x1b\[[0-9;]*m", "", text) == render(report, "table")
        assert text != render(report, "table")


def test_the_environment_does_not_reach_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = render(ONE, "table")
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "10", "TERM": "xterm-256color", "NO_COLOR": ""}.items():
        monkeypatch.setenv(name, value)
    assert render(ONE, "table") == plain


@pytest.mark.parametrize(("precision", "shown"), [(1, "0.5"), (4, "0.5001"), (8, "0.50005663")])
def test_precision_rounds_floats(precision: int, shown: str) -> None:
    assert f" {shown} " in render(StatsReport((X,), ("mean",)), "table", Style(precision=precision))


def test_an_integer_is_whole_at_any_precision() -> None:
    report = StatsReport((replace(X, values={"min": -(2**63), "max": 2**64 - 1}),), ("min", "max"))
    text = render(report, "table", Style(precision=1))
    assert "-9223372036854775808" in text
    assert "18446744073709551615" in text


def test_a_quiet_table_stands_alone() -> None:
    assert render(NORMALIZED, "table", Style(quiet=True)).endswith("╯\n")


def test_a_table_too_wide_for_the_terminal_goes_on_in_one_below() -> None:
    lines = render(STAGED, "table", Style(width=80)).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split("│")[2].strip() for line in lines if "Standard Deviation" in line] == [
        "0.28868741",
        "0.28868741",
    ]
    headings = [
        cell.strip() for line in lines for cell in line.split("│") if cell.strip() in ("input", "var", "output")
    ]
    assert headings == ["input", "var", "output"]


@pytest.mark.parametrize("name", REPORTS)
def test_a_picture_of_a_table_asks_no_other_host(name: str) -> None:
    picture = render(REPORTS[name], "svg")
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert not re.search("@font-face|url\\(http|src=|href=|@import", picture)


def test_a_checkpoint_of_fifty_tensors_fits_an_old_terminal() -> None:
    names = [f"{of}.{what}" for of in ("attention.wq", "attention.wk", "norm", "mlp.w1", "mlp.w2") for what in "wb"]
    fifty = [replace(X, name=f"model.pt::model.layers.{at}.{name}") for at in range(5) for name in names]
    text = render(StatsReport(tuple(fifty)), "table", Style(width=80))
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("model.pt: Shape (4, 16), Type float64", "no NaN or infinity")
    assert len(lines) == 56
    assert max(map(len, lines)) <= 80
    assert "Object Type" not in text
    other = render(
        StatsReport((*fifty, replace(X, name="model.pt::b", shape=(1,), dtype="float32"))), "table", Style(width=80)
    )
    assert (other.splitlines()[0], other.count("layers.4.mlp.w2.b ")) == ("model.pt", 2)  # a row in each of two parts


def test_names_of_several_files_stay_whole_and_break_after_a_stop_or_a_slash() -> None:
    tensors = tuple(replace(X, name=f"{file}.npz::encoder.layers.attention.weight") for file in ("first", "second"))
    text = render(StatsReport(tensors, ("shape", "mean", "std", "min", "max")), "table", Style(width=76))
    names = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert names == [
        "Name", "first.npz::encoder.layers.", "attention.weight", "second.npz::encoder.", "layers.attention.weight",
    ]  # fmt: skip


def test_wide_tables_have_five_digits_unless_more_are_asked_for() -> None:
    wide, more = (render(SEVERAL, "table", Style(precision=precision)) for precision in (None, 17))
    assert (" 0.50006 " in wide, f" {VALUES['mean']:.17g} " in more) == (True, True)
    assert " 0.50005663 " in render(ONE, "table")


RED, GREEN = "\x1b[1;31m", "\x1b[32m"


def test_what_matters_is_coloured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_npy(tmp_path, ARRAY, "y.npy")
    bad = replace(X, values=VALUES | {"nan": 7})
    style = Style(color=True)
    assert RED not in render(ONE, "table", style)
    for report in (StatsReport((bad,)), StatsReport((bad, X))):
        assert re.search(r"\x1b\[1;31m *7 *\x1b\[0m", render(report, "table", style))
    assert f"{RED}64 bytes are missing" in render(SEVERAL, "table", style)
    assert f"{RED}DIFFERENT" in render(REPORTS["differs"], "table", style)
    assert f"{GREEN}SAME" in render(diff("y.npy", "y.npy"), "table", style)
    assert f"{GREEN}check: ok" in render(NORMALIZED, "table", style)
