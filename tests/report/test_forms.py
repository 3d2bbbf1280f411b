"""`gncli.report.forms`: whole outputs, form by form, and what programs rely on."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gncli.kernels.groupnorm import Check
from gncli.names import FORMS
from gncli.report import render
from gncli.report.gates import AreFaithful, Gate, Shapes, WithinUlp
from gncli.report.records import OBJECT_KEYS, StatsReport, TensorStats
from tests.files import write_npy
from tests.report.samples import CELLS, DIFFERS_BY, EMPTY, HOLED, NORMALIZED, PARAMETERS, REPORTS, SEVERAL, VALUES, X
from tests.runs import stats

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


def test_statistics_come_in_the_order_that_was_asked_for() -> None:
    assert render(StatsReport((X,), ("max", "size", "mean")), "plain") == (
        "Max:  0.99999998\nSize:  64\nMean:  0.5000566322329019\n"
    )


def test_columns_of_cells_in_markdown_are_those_that_were_asked_for(tmp_path: Path) -> None:
    for value in (1.0, np.nan):
        name = write_npy(tmp_path, np.array([[value, 1.0]]))
        header = render(stats([name], by="0", statistics=("mean",)), "markdown").partition("\n")[0]
        assert header == "| Cell | Mean | Error |"


@pytest.mark.parametrize("form", ["table", "plain"])
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
        ("csv", "name,mean,error\nempty,,\n"),
        ("markdown", "| Name | Mean | Error |\n| --- | ---: | --- |\n| empty | - |  |\n"),
    ],
)
def test_an_undefined_statistic(form: str, shown: str) -> None:
    assert render(StatsReport((EMPTY,), ("mean",)), form).replace("empty,\n", 'empty,""\n') == shown


def test_a_scalar_has_a_shape_that_the_command_line_takes() -> None:
    assert render(StatsReport((replace(X, shape=()),), ("shape",)), "value") == "()\n"


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
    normalized = replace(NORMALIZED, input=name, output=name, parameters=replace(PARAMETERS, gamma=name))
    differs = replace(DIFFERS_BY, a=replace(DIFFERS_BY.a, name=name), output=name, notes=(name,))
    by_cells = replace(CELLS, tensors=tuple(replace(tensor, name=name) for tensor in CELLS.tensors))
    for report in (normalized, differs, by_cells):
        assert all(character.isprintable() or character == "\n" for character in render(report, form))


def test_the_form_value_of_a_comparison_is_its_verdict_or_the_numbers_that_were_asked_for() -> None:
    assert render(DIFFERS_BY, "value") == "DIFFERENT\n"
    assert render(replace(DIFFERS_BY, selected=("max", "outside")), "value") == "-\n0\n0.25\n3\n"
    assert render(replace(DIFFERS_BY, selected=("outside",), cells=None), "value") == "3\n"


def test_no_cell_is_named_where_none_differs() -> None:
    assert "differs most" in render(DIFFERS_BY, "table")
    assert "differs most" not in render(replace(DIFFERS_BY, most_different=None), "table")


@pytest.mark.parametrize(
    ("gate", "found"),
    [
        (Shapes((4, 16), (64,)), {"verdict": "DIFFERENT", "a": [4, 16], "b": [64]}),
        (
            WithinUlp(limit=2, near_zero=0.5, whole=False, outside=3, size=64, largest=9, index=(1, 2)),
            {"verdict": "DIFFERENT", "limit": 2, "near_zero": 0.5, "outside": 3, "largest": 9, "index": [1, 2]},
        ),
        (AreFaithful(outside=0, size=64), {"verdict": "SAME", "outside": 0, "first": None}),
    ],
)
def test_json_of_a_gate(gate: Gate, found: dict[str, object]) -> None:
    assert gate.as_dict() == found
