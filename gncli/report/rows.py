"""What every form shows: a row a tensor, a stage, or a cell."""

from __future__ import annotations

from typing import NamedTuple

from gncli.names import (
    CELL_STATISTICS,
    DEFAULT_STATISTICS,
    NAMED_STATISTICS,
    NONFINITE,
    Value,
    shape_text,
    statistic,
)
from gncli.report.records import Cell, Failure, NormalizeReport, Report, StatsReport, TensorStats
from gncli.report.style import Style
from gncli.text import printable

MOST_CELLS = 1000  # in a table; the others are counted


class Foldable(str):
    """A cell of a table that may be folded on a narrow terminal; any other keeps its digits on one line."""

    __slots__ = ()


class Sheet(NamedTuple):
    """A table: its header, its rows, and which columns are aligned to the right."""

    header: list[str]
    rows: list[list[str]]
    right: list[bool]


def by_cells(report: Report) -> bool:
    """Return whether a row is a cell."""
    return isinstance(report, StatsReport) and report.by


def records(report: Report) -> list[tuple[str, TensorStats | Failure]]:
    """Return what is shown, each with its heading: a stage, or the name of a tensor."""
    if isinstance(report, NormalizeReport):
        stages = [(stage.name, stage.stats) for stage in report.stages]
        return [*stages] or [("before", report.before), ("after", report.after)]
    totals = [] if report.total is None else [(report.total.name, report.total)]
    return [*((tensor.name, tensor) for tensor in report.tensors), *totals]


def key(report: Report) -> str:
    """Return what a heading of `records` is."""
    return "stage" if isinstance(report, NormalizeReport) else "name"


def selected(report: Report) -> tuple[str, ...]:
    """Return the statistics that were asked for; none for the default ones."""
    return () if isinstance(report, NormalizeReport) else report.selected


def shown(report: Report) -> list[str]:
    """Return what a reader sees: the statistics selected, and non-finite counts where any tensor has some."""
    found = [tensor.shown(selected(report)) for _, tensor in records(report) if isinstance(tensor, TensorStats)]
    named = any(isinstance(tensor, TensorStats) and tensor.axis_names for _, tensor in records(report))
    chosen = list(selected(report) or (NAMED_STATISTICS if named else DEFAULT_STATISTICS))
    return chosen + [name for name in NONFINITE if name not in chosen and any(name in names for names in found)]


def exact(value: Value, undefined: str) -> str:
    """Return a value for a machine: a shape as --random takes it, floats that round-trip."""
    if isinstance(value, tuple):
        return shape_text(value)
    return undefined if value is None else str(value)


def sheet_of(report: Report, style: Style) -> Sheet:
    """Return the table of a report: a row a cell, or a row a tensor or stage."""
    return _cells(report, style) if by_cells(report) else _tensors(report, style)


def _tensors(report: Report, style: Style) -> Sheet:
    found, names = records(report), shown(report)
    failed = any(isinstance(tensor, Failure) for _, tensor in found)
    header = [key(report).capitalize(), *(statistic(name).label for name in names), *(["Error"] if failed else [])]
    right = [False, *(statistic(name).numeric for name in names), *([False] if failed else [])]
    rows = []
    for heading, tensor in found:
        if isinstance(tensor, Failure):
            cells = [*([""] * len(names)), Foldable(printable(tensor.message))]
        else:
            cells = [*(style.rounded(tensor.value(name)) for name in names), *([""] if failed else [])]
        rows.append([Foldable(printable(heading)), *cells])
    return Sheet(header, rows, right)


def _cells(report: Report, style: Style) -> Sheet:
    rows, chosen = _cell_rows(report), list(selected(report) or CELL_STATISTICS)
    stats = [found.stats if isinstance(found, Cell) else found for _, found in rows]
    known = [found for found in stats if isinstance(found, TensorStats)]
    names = chosen + [name for name in NONFINITE if name not in chosen and any(s.values.get(name) for s in known)]
    several = len(records(report)) > 1
    failed = any(isinstance(found, Failure) for _, found in rows)
    header = [*(["Name"] if several else []), "Cell", *(statistic(name).label for name in names)]
    right = [*([False] if several else []), False, *(statistic(name).numeric for name in names)]
    cells = []
    for (name, found), record in zip(rows, stats, strict=True):
        label = found.label if isinstance(found, Cell) else ""
        head = [Foldable(printable(name)), label] if several else [label]
        if isinstance(record, Failure):
            cells.append([*head, *([""] * len(names)), Foldable(printable(record.message))])
        else:
            values = [style.rounded(record.value(each) if record.has(each) else None) for each in names]
            cells.append([*head, *values, *([""] if failed else [])])
    return Sheet(header + (["Error"] if failed else []), cells, right + ([False] if failed else []))


def _cell_rows(report: Report) -> list[tuple[str, Cell | TensorStats | Failure]]:
    """Return the cells of all tensors with the tensors' names; and tensors that have none because they failed."""
    rows: list[tuple[str, Cell | TensorStats | Failure]] = []
    left = MOST_CELLS
    for name, tensor in records(report):
        if isinstance(tensor, TensorStats) and tensor.cells is not None:
            rows += [(name, cell) for cell in tensor.cells.kept[:left]]
            left = max(0, left - len(tensor.cells.kept))
        else:
            rows.append((name, tensor))
    return rows


def more_cells(report: Report) -> list[str]:
    """Return the line that says how many cells are not in a table."""
    found = [tensor.cells for _, tensor in records(report) if isinstance(tensor, TensorStats) and tensor.cells]
    more = sum(cells.total for cells in found) - min(MOST_CELLS, sum(len(cells.kept) for cells in found))
    return [f"... {more:,} more; --format csv for all"] if more else []
