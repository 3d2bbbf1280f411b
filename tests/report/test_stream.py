"""`gncli.report.stream`: the cells of ``--by``, batch by batch."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gncli.report import render
from gncli.report.records import Cell, StatsReport
from gncli.report.stream import STREAMED, CellStream
from tests.report.samples import BAD, CELLS, KEPT, VALUES, X

HOLED = replace(KEPT[1], stats=replace(KEPT[1].stats, values=VALUES | {"mean": None, "nan": 3}), note="")

EXPECTED = {
    "csv": (
        "name,N,G,mean,std,min,max,nan,posinf,neginf,error\n"
        "x.npy,0,0,0.5000566322329019,0.2886874123456789,1.2e-08,0.99999998,0,0,0,\n"
        "x.npy,0,1,,0.2886874123456789,1.2e-08,0.99999998,3,0,0,\n"
    ),
    "value": "0.5000566322329019\n0.2886874123456789\n1.2e-08\n0.99999998\n"
    "-\n0.2886874123456789\n1.2e-08\n0.99999998\n",
    "plain": (
        "Name:  x.npy\nCell:  N 0  G 0  channels 0-3\n"
        "Mean:  0.5000566322329019\nStandard Deviation:  0.2886874123456789\nMin:  1.2e-08\nMax:  0.99999998\n"
        "\n"
        "Name:  x.npy\nCell:  N 0  G 1\n"
        "Mean:  -\nStandard Deviation:  0.2886874123456789\nMin:  1.2e-08\nMax:  0.99999998\nNaN:  3\n"
    ),
    "jsonl": "".join(json.dumps({"name": "x.npy"} | cell.as_dict()) + "\n" for cell in (KEPT[0], HOLED)),
}


@pytest.mark.parametrize("batches", [[[KEPT[0], HOLED]], [[KEPT[0]], [HOLED]], [[], [KEPT[0]], [], [HOLED], []]])
@pytest.mark.parametrize("form", STREAMED)
def test_no_batch_changes_the_text(form: str, batches: list[list[Cell]]) -> None:
    stream = CellStream(form, ())
    assert "".join(stream.rows(X, batch) for batch in batches) == EXPECTED[form]


def test_the_selected_statistics_are_shown_alone() -> None:
    assert (
        CellStream("csv", ("max", "nan")).rows(X, KEPT)
        == "name,N,G,max,nan,error\nx.npy,0,0,0.99999998,0,\nx.npy,0,1,0.99999998,0,\n"
    )
    assert CellStream("value", ("max",)).rows(X, KEPT) == "0.99999998\n" * 2


@pytest.mark.parametrize("form", STREAMED)
def test_a_failure_is_streamed_where_there_is_a_place_for_it(form: str) -> None:
    in_csv = "'=bad.npy,,,,,,,,,,64 bytes are missing\\n; copy it again\n"
    told = {"jsonl": render(StatsReport((BAD,)), "jsonl"), "csv": in_csv}
    failed, (head, mark, cells) = told.get(form, ""), EXPECTED[form].partition("\n")
    stream = CellStream(form, ())
    texts = [stream.rows(BAD, []), stream.rows(X, [KEPT[0], HOLED]), stream.rows(BAD, [])]
    # In CSV the header comes first, and its columns are known with the first cell.
    first = head + mark + failed + cells if form == "csv" else failed + EXPECTED[form]
    assert "".join(texts) == first + failed
    assert render(replace(CELLS, tensors=(*CELLS.tensors, BAD)), form) == ""
