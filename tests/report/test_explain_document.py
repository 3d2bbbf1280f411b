"""The report of ``explain``: the verdict in a sentence, and every form of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gncli.kernels.conventions import Convention, said
from gncli.report import document_of, render
from gncli.report.diff_records import Operand
from gncli.report.explain_document import ExplainDocument
from gncli.report.explain_records import ExplainReport, Hypothesis

ASKED = Convention(8, 1e-5, "NCHW")
NAMES = {"gamma": "g.npy", "beta": "b.npy", "batch": "N,H,W"}


def hypothesis(asked: Convention = ASKED, *, outside: int = 0, max_ulp: float = 0.5, **changes: Any) -> Hypothesis:
    convention = asked._replace(**changes)
    words, options = said(convention, asked, NAMES)
    return Hypothesis(
        convention=convention,
        words=words,
        options=options,
        size=1000,
        outside=outside,
        max_abs=2e-6,
        max_ulp=max_ulp,
        rmse=1e-7,
        rounding=0.5,
    )


def report(*found: Hypothesis, asked: Convention = ASKED, is_input: bool = True) -> ExplainReport:
    y, given = (Operand(name, (2, 16, 5, 5), "float32") for name in ("y\udce9.npy", "x.npy"))
    return ExplainReport(y, given, asked, is_input=is_input, names=NAMES, hypotheses=found, tried=23)


INTERLEAVED = ASKED._replace(interleaved=True)

Y = "y\\xe9.npy is group norm of x.npy with"
NONE = "UNEXPLAINED: none of 23 hypotheses gives every element of y\\xe9.npy"
ONE_ULP = "NCHW; every element within 1 ULP"

VERDICTS = [
    (
        report(hypothesis(eps=1e-3)),
        [f"{Y} eps 0.001 (you asked for 1e-05), 8 groups, {ONE_ULP}", "--eps 0.001 reproduces it"],
    ),
    (
        report(hypothesis(), hypothesis(eps=0.0)),
        [f"{Y} eps 1e-05, 8 groups, {ONE_ULP}", "that is what you asked for", "the data cannot tell it from eps 0"],
    ),
    (
        report(hypothesis(groups=1, interleaved=True), hypothesis(eps=0.0), hypothesis(eps=1e-6), hypothesis()),
        [
            f"{Y} eps 1e-05, 1 interleaved group (you asked for 8), {ONE_ULP}",
            "--groups 1 --interleaved reproduces it",
            "the data cannot tell it from eps 0; eps 1e-06; or what you asked for",
        ],
    ),
    (
        report(hypothesis(over="batch", ddof=1, max_ulp=30.0), is_input=False),
        [
            "y\\xe9.npy is batch norm of the input of x.npy with eps 1e-05, NCHW, N - 1 for N in the variance; "
            "every element within rounding, the largest error 2e-06",
            "gncli normalize has no option for a part of it",
        ],
    ),
    (
        report(hypothesis(over="position", layout="NHWC", gamma="beta", beta="gamma")),
        [
            "y\\xe9.npy is layer norm over C of x.npy with eps 1e-05, NHWC (you asked for NCHW), gamma and beta "
            "swapped; every element within 1 ULP",
            "--layout NHWC --over C --gamma b.npy --beta g.npy reproduces it",
        ],
    ),
    (
        report(hypothesis(INTERLEAVED, interleaved=False), asked=INTERLEAVED),
        [
            f"{Y} eps 1e-05, 8 contiguous groups, {ONE_ULP}",
            "without --interleaved gncli normalize reproduces it",
        ],
    ),
    (
        report(hypothesis(eps=1e-3, outside=12), hypothesis(outside=400)),
        [NONE, "the nearest is eps 0.001: 12 of 1,000 elements beyond rounding, the largest error 2e-06"],
    ),
    (
        report(hypothesis(outside=12)),
        [NONE, "the nearest is what you asked for: 12 of 1,000 elements beyond rounding, the largest error 2e-06"],
    ),
]


@pytest.mark.parametrize(("found", "verdict"), VERDICTS)
def test_the_verdict_is_a_sentence(found: ExplainReport, verdict: list[str]) -> None:
    document = document_of(found)
    assert isinstance(document, ExplainDocument)
    assert document.verdict() == verdict
    assert document.answer().good is (found.status == 0) is not verdict[0].startswith("UNEXPLAINED")
    assert document.line == verdict[0]
    assert list(document.poster().caption) == verdict and not document.histograms()
    assert repr(found).startswith("<ExplainReport ")
    assert found["tried"] == 23


def test_every_form_has_every_hypothesis() -> None:
    found = report(hypothesis(), hypothesis(eps=0.0))
    for form in ("table", "plain", "json", "jsonl", "csv", "markdown", "html", "svg"):
        text = render(found, form)
        assert "eps 0" in text.replace("&#160;", " "), form
    shown = json.loads(render(found, "json"))
    assert shown["explained"] and shown["y"]["name"] == "y\\xe9.npy"
    assert [one["changes"] for one in shown["indistinguishable"]] == ["eps 0"]
    assert render(found, "value") == "\n"
    assert render(report(hypothesis(outside=1)), "value") == "-\n"
    assert "nearest" in json.loads(render(report(hypothesis(outside=1)), "json"))
    assert document_of(report(hypothesis(), is_input=False)).title == "gncli explain y\\xe9.npy x.npy"
