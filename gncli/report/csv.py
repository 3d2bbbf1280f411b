"""Comma-separated values: a header, then a row a tensor, a stage or a cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from gncli.names import DEFAULT_STATISTICS, NONFINITE
from gncli.report.records import Failure, Report
from gncli.report.rows import exact, key, records, selected
from gncli.report.style import Style
from gncli.text import csv_cell, printable


def text(report: Report, _style: Style) -> str:
    """Return the same columns for every input: non-finite counts are always there unless statistics were chosen."""
    chosen = selected(report) or (*DEFAULT_STATISTICS, *NONFINITE)
    found = records(report)
    failed = any(isinstance(tensor, Failure) for _, tensor in found)
    rows: list[list[str]] = [[key(report), *chosen, *(["error"] if failed else [])]]
    for heading, tensor in found:
        if isinstance(tensor, Failure):
            rows.append([named(heading), *([""] * len(chosen)), named(tensor.message)])
        else:
            values = [exact(tensor.value(each), "") for each in chosen]
            rows.append([named(heading), *values, *([""] if failed else [])])
    return written(rows)


def named(name: str) -> str:
    """Return a name as a cell: whole, printable, and no formula."""
    return csv_cell(printable(name, limit=None))


def written(rows: Iterable[Iterable[object]]) -> str:
    """Return the text of rows."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
