"""`gncli.report` and `gncli.report.records`: whole outputs, form by form."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gncli.errors import InputError
from gncli.kernels.groupnorm import Check
from gncli.names import FORMS, STATISTICS, Draw
from gncli.report import render
from gncli.report.lines import check_line, seed_and_skipped
from gncli.report.records import (
    OBJECT_KEYS,
    Failure,
    NormalizeReport,
    Parameters,
    Report,
    Stage,
    StatsReport,
    TensorStats,
)
from gncli.report.style import Style

VALUES = {
    "mean": 0.5000566322329019,
    "std": 0.2886874123456789,
    "var": 0.0833404220,
    "min": 1.2e-08,
    "max": 0.99999998,
    "nan": 0,
    "posinf": 0,
    "neginf": 0,
}
X = TensorStats((4, 16), "float64", VALUES, "x.npy")
Y = TensorStats((4, 16), "float32", VALUES | {"mean": 5.643295e-17, "std": 3.4636999368667603}, "x.npy")
HOLED = TensorStats((2, 3), "int64", VALUES | {"mean": None, "std": math.inf, "min": -(2**62), "nan": 3}, "[b]\x1b[1m|")
EMPTY = TensorStats((0,), "float16", dict.fromkeys(VALUES, None) | {"nan": 0, "posinf": 0, "neginf": 0}, "empty")
BAD = Failure("=bad.npy", InputError("64 bytes are missing\n", subject="=bad.npy", hint="copy it again"))
PARAMETERS = Parameters(4, 4, 1e-5, "NC", "std", 1.0, 0.0, "float32")
CHECK = Check(16, 0.0213, 0.034)

ONE = StatsReport((X,))
SEVERAL = StatsReport((X, HOLED, BAD), skipped=(("d.h5", 2),))
NORMALIZED = NormalizeReport("x.npy", None, PARAMETERS, X, Y, CHECK)
STAGED = replace(
    NORMALIZED,
    stages=tuple(
        Stage(name, stats)
        for name, stats in [
            ("input", X),
            ("reshaped", replace(X, shape=(4, 4, 4))),
            ("mean", replace(X, shape=(4, 4, 1))),
            ("var", replace(X, shape=(4, 4, 1))),
            ("normalized", replace(Y, shape=(4, 4, 4))),
            ("output", Y),
        ]
    ),
)

REPORTS: dict[str, Report] = {"one": ONE, "several": SEVERAL, "normalized": NORMALIZED, "staged": STAGED}
GOLDEN = Path(__file__).parents[1] / "golden" / "reports.expected"
"""Every report in every form, each under a line ``#### report form``; read by eye before it was kept."""


def golden() -> dict[tuple[str, str], str]:
    """Return the kept outputs by report and form."""
    parts = re.split(r"^#### (\w+) (\w+)\n", GOLDEN.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {(name, form): text for name, form, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", REPORTS)
def test_whole_outputs(name: str, form: str) -> None:
    assert render(REPORTS[name], form) == golden()[name, form]


# Tables.


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


@pytest.mark.parametrize("width", [1, 20, 40, 80, 120, 200])
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


def test_statistics_come_in_the_order_that_was_asked_for() -> None:
    assert render(StatsReport((X,), ("max", "size", "mean")), "plain") == (
        "Max:  0.99999998\nSize:  64\nMean:  0.5000566322329019\n"
    )


@pytest.mark.parametrize("form", ["table", "plain", "markdown"])
def test_non_finite_values_are_counted_where_there_are_any(form: str) -> None:
    for name, label in [("nan", "NaN"), ("posinf", "+Infinity"), ("neginf", "-Infinity")]:
        with_some = replace(X, values=VALUES | {name: 7})
        assert label in render(StatsReport((with_some,), ("mean",)), form)
        assert label not in render(StatsReport((X,), ("mean",)), form)
        assert render(StatsReport((with_some,), (name,)), form).count(label) == 1


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("plain", "Mean:  -\n"),
        ("value", "-\n"),
        ("csv", 'name,mean\nempty,""\n'),
        ("markdown", "| Name | Mean |\n| --- | ---: |\n| empty | - |\n"),
    ],
)
def test_an_undefined_statistic(form: str, shown: str) -> None:
    assert render(StatsReport((EMPTY,), ("mean",)), form).replace("empty,\n", 'empty,""\n') == shown


def test_a_scalar_has_a_shape_that_the_command_line_takes() -> None:
    assert render(StatsReport((replace(X, shape=()),), ("shape",)), "value") == "()\n"


def test_a_quiet_table_stands_alone() -> None:
    assert render(NORMALIZED, "table", Style(quiet=True)).endswith("╯\n")


# The lines under a table.


def test_what_is_said_beside_the_data() -> None:
    report = StatsReport((X,), skipped=(("a\x1b.h5", 1), ("b.h5", 2)), seed=7)
    assert seed_and_skipped(report) == [
        "seed 7 (chosen; --seed 7 draws the same again)",
        r"a\x1b.h5: 1 dataset skipped, not numeric",
        "b.h5: 2 datasets skipped, not numeric",
    ]
    assert seed_and_skipped(replace(NORMALIZED, seed=7)) == seed_and_skipped(report)[:1]
    assert render(report, "table").endswith("\n".join(["", *seed_and_skipped(report), ""]))


def test_where_a_result_went() -> None:
    assert "\nwritten to y.npy\n" in render(replace(NORMALIZED, output="y.npy"), "table")
    assert "\nwritten to y.npy\n" in render(StatsReport((X,), command="random", output="y.npy"), "table")
    failed = replace(NORMALIZED, output="y.npy", check=CHECK._replace(overflowed=1))
    assert "\nnothing written to y.npy\n" in render(failed, "table")


CHECKS = [
    (
        CHECK,
        PARAMETERS,
        "check: ok: 16 groups, |mean| <= 0.021 and |var - V| <= 0.034 of what rounding allows, "
        "V = var/(var + eps), a little under 1; 0 constant, 0 with NaN or infinity, 0 overflowed",
    ),
    (
        Check(1, 2.0, 0.5, 1, 0, 3),
        PARAMETERS._replace(denominator="variance", gamma="g.npy"),
        "check: FAILED: 1 group, |mean| <= 2 and |var - V| <= 0.5 of what rounding allows before gamma and beta, "
        "V = var/(var + eps)^2; 1 constant, 0 with NaN or infinity, 3 overflowed",
    ),
    (
        Check(4, None, None, 0, 4, 0),
        PARAMETERS,
        "check: ok: 4 groups; 0 constant, 4 with NaN or infinity, 0 overflowed",
    ),
    (None, PARAMETERS, "check: skipped (--no-verify)"),
]


@pytest.mark.parametrize(("check", "parameters", "line"), CHECKS)
def test_the_check_says_how_much_of_its_allowance_was_used(
    check: Check | None, parameters: Parameters, line: str
) -> None:
    assert check_line(replace(NORMALIZED, check=check, parameters=parameters)) == line


@pytest.mark.parametrize(
    ("check", "ok"),
    [
        (Check(1, 0.0, 1.0), True),
        (Check(1, 1.01, 0.0), False),
        (Check(1, 0.0, 1.01), False),
        (Check(1, math.nan, 0.0), False),
        (Check(1, 0.0, 0.0, overflowed=1), False),
        (Check(0, None, None), True),
    ],
)
def test_a_check_holds_within_its_allowance_and_without_overflow(check: Check, ok: bool) -> None:
    assert check.ok is ok
    assert replace(NORMALIZED, check=check).status == (0 if ok else 1)
    assert check.as_dict()["ok"] is ok


# JSON and CSV.


def strictly(text: str) -> object:
    """Return the JSON value of `text`; NaN and infinities are no JSON."""

    def refuse(constant: str) -> object:
        raise AssertionError(constant)

    return json.loads(text.encode("ascii"), parse_constant=refuse)


def test_json_is_strict_and_has_the_keys_of_the_contract_in_order() -> None:
    holed = replace(HOLED, values={**HOLED.values, "zeros": 2, "var": math.inf})
    document = strictly(render(StatsReport((holed,), ("var", "mean")), "json"))
    assert isinstance(document, dict)
    assert list(document) == ["schema", "command", "tensors"]
    assert list(document["tensors"][0]) == ["name", *OBJECT_KEYS, "var"]
    assert document["tensors"][0]["var"] is None
    assert document["tensors"][0]["shape"] == [2, 3]
    assert document["tensors"][0]["name"] == HOLED.name
    assert document["tensors"][0]["min"] == -(2**62)


def test_json_of_normalize_has_the_keys_of_the_contract_in_order() -> None:
    document = strictly(render(NORMALIZED, "json"))
    assert isinstance(document, dict)
    assert list(document) == ["schema", "command", "input", "output", "parameters", "before", "after", "verified"]
    assert list(document["parameters"]) == list(PARAMETERS.as_dict())
    unverified = strictly(render(replace(NORMALIZED, check=None), "json"))
    assert isinstance(unverified, dict)
    assert unverified["verified"] is None
    failed = strictly(render(replace(NORMALIZED, check=Check(1, math.inf, math.nan)), "json"))
    assert isinstance(failed, dict)
    assert failed["verified"] == {**Check(1, None, None).as_dict(), "ok": False}


def test_what_was_not_measured_is_absent_rather_than_undefined() -> None:
    assert list(TensorStats((2,), "bool", {}).as_dict(("shape",))) == [
        "name", "object_type", "shape", "dtype", "size", "nbytes"
    ]  # fmt: skip


def test_csv_round_trips_and_holds_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(render(SEVERAL, "csv"))))
    assert {len(row) for row in rows} == {12}
    assert rows[3][0] == "'=bad.npy"
    assert float(rows[1][4]) == VALUES["mean"]


HOSTILE = [
    "\x1b]0;x\x07",
    "a\nb",
    "\x9b31m",
    "\x7f",
    "\u202ex",
    "\udcff",
    "[/x]",
    "[link=http://x]y",
    ":smile:",
    "x" * 10**4,
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", FORMS)
def test_no_name_sends_a_control_sequence_or_a_second_line(form: str, name: str) -> None:
    honest = replace(SEVERAL, tensors=(X, replace(X, name="x")))
    hostile = replace(SEVERAL, tensors=(X, replace(X, name=name)), skipped=((name, 1),))
    text = render(hostile, form)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert text.count("\n") == render(honest, form).count("\n")
    normalized = replace(NORMALIZED, input=name, output=name, parameters=PARAMETERS._replace(gamma=name))
    assert all(character.isprintable() or character == "\n" for character in render(normalized, form))


# The records.


@pytest.mark.parametrize(
    ("dtype", "nbytes"),
    [
        ("bool", 6),
        ("int8", 6),
        ("float16", 12),
        ("uint32", 24),
        ("float64", 48),
        ("bfloat16", 12),
        ("float8_e4m3fn", 6),
    ],
)
def test_the_bytes_of_a_tensor(dtype: str, nbytes: int) -> None:
    assert TensorStats((2, 3), dtype, {}).nbytes == nbytes


def test_an_array_prints_the_lines_of_the_article() -> None:
    assert f"{X}\n" == render(ONE, "plain")


def test_a_value_is_plain_python() -> None:
    class Scalar(float):
        """A stand-in for a NumPy scalar, whose repr is not that of a float."""

        def __repr__(self) -> str:
            return "np.float64(0.5)"

    assert repr(replace(X, values={"mean": Scalar(0.5)}).value("mean")) == "0.5"


def test_every_statistic_has_a_value() -> None:
    stats = replace(X, values={**dict.fromkeys(STATISTICS, 0), **VALUES}, axis_names=("a", "b"))
    assert [stats.value(name) is not None for name in STATISTICS] == [True] * len(STATISTICS)


def test_the_status_is_the_highest_of_the_failures() -> None:
    assert (ONE.status, SEVERAL.status) == (0, 3)


def test_a_draw_names_itself_as_it_was_asked_for() -> None:
    assert str(Draw((64, 16))) == "--random 64,16"


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
