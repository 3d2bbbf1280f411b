"""Records as Python shows them: in a line, as lines, and in a notebook."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from gncli.errors import InputError
from gncli.report.diff_records import DiffReport, Operand, Worst
from gncli.report.gates import WithinTolerance
from gncli.report.pair_records import PairRow, PairsReport
from gncli.report.records import Cell, Cells, Failure, Histogram, StatsReport, TensorStats, Total
from tests.report import samples

HOSTILE = "<b>&\"'\x1b[1m\n"
X = TensorStats((2, 3), "float32", {"mean": 1 / 3, "std": None, "min": -1, "nan": 2}, "x.npy")
D = DiffReport(
    Operand("a", (2,), "float32"),
    Operand("b", (2,), "float32"),
    rtol=0.1,
    atol=0.0,
    compared=True,
    size=2,
    outside=1,
    worst=Worst((1,), 2.5, 2.0, 0.5),
    smallest_atol=0.301,
    gates=(WithinTolerance(rtol=0.1, atol=0.0, outside=1, size=2, smallest_atol=0.301),),
)
PAIRS = PairsReport(
    a="a.npz",
    b="b.npz",
    rows=(PairRow(name="w", verdict="different", report=D),),
    counts=Counter(different=1),
    first=None,
)


class Reader(HTMLParser):
    """Reads a fragment, and raises where a tag is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: Counter[str] = Counter()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert set(dict(attrs)) <= {"style"}
        self.open.append(tag)
        self.seen[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(record: Any) -> Reader:
    reader = Reader()
    reader.feed(record._repr_html_())
    reader.close()
    assert not reader.open
    return reader


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (X, "<TensorStats x.npy: float32 (2, 3), mean 0.333333, std None, min -1>"),
        (replace(X, name="", selected=("nan",)), "<TensorStats float32 (2, 3), nan 2>"),
        (TensorStats((), "int8", {}, HOSTILE), r"""<TensorStats <b>&"'\x1b[1m\n: int8 ()>"""),
        (StatsReport((X, X)), "<StatsReport 2 tensors>"),
        (StatsReport((X, Failure("y", InputError("no")))), "<StatsReport 2 tensors, 1 of them could not be read>"),
        (Cell({"C": 3}, X), "<Cell C 3: float32 (2, 3), mean 0.333333, std None, min -1>"),
        (Cells(("N", "C"), (1, 2), 2000), "<Cells of N, C: 2,000>"),
        (D, "<DiffReport a, b: DIFFERENT: 1 of 2 elements outside |a - b| <= 0 + 0.1 |b|; atol=0.301 passes>"),
        (PAIRS, "<PairsReport a.npz, b.npz: DIFFERENT: 1 different>"),
    ],
)
def test_a_record_is_a_line(record: Any, line: str) -> None:
    assert repr(record) == line


def test_a_report_of_normalize_is_its_check() -> None:
    report = samples.NORMALIZED
    assert repr(report).startswith("<NormalizeReport x.npy: check: ")
    assert str(report).startswith("Object Type:  ")


def test_a_printed_record_is_lines_that_speak_python() -> None:
    assert str(D).splitlines()[-2:] == [
        "Smallest atol:  0.301",
        "DIFFERENT: 1 of 2 elements outside |a - b| <= 0 + 0.1 |b|; atol=0.301 passes",
    ]
    assert str(replace(X, selected=("nan",))) == "NaN:  2"
    assert "Mean:  1.0" in str(Total({"mean": 1.0}, 3, 12)).splitlines()


def test_a_notebook_shows_tables_in_which_all_text_is_escaped() -> None:
    stats = replace(X, name=HOSTILE, histogram=Histogram((0.0, 1.0), (5,)), notes=("say --layout <NHWC>",))
    reader = read(stats)
    assert reader.seen["table"] == reader.seen["pre"] == 1
    assert "say layout <NHWC>" in reader.texts
    assert r"""<b>&"'\x1b[1m\n""" in reader.texts
    assert "0.333333" in reader.texts
    cells = Cells(("C",), tuple(Cell({"C": c}, X) for c in range(1200)), 1200)
    reader = read(replace(stats, cells=cells))
    assert reader.seen["tr"] == 1001
    assert "... 200 more; .cells for all" in reader.texts
    for record in (D, PAIRS, StatsReport((X, stats)), Total({"mean": 1.0}, 3, 12), samples.NORMALIZED):
        assert read(record).seen["table"] == 1
    assert "atol=0.301 passes" in read(D).texts[-1]


def test_attributes_are_items() -> None:
    assert (D["equal"], D["worst"]["a"], D.a["name"], PAIRS.rows[0]["verdict"]) == (False, 2.5, "a", "different")
    assert PAIRS["w"]["max_abs"] == 0.5
    for name in ("_shown", "__class__", "nothing"):
        with pytest.raises(KeyError, match="is not known"):
            D[name]
    with pytest.raises(KeyError, match=r"did you mean outside\?"):
        D["outsid"]
