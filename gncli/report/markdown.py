"""A table in Markdown."""

from __future__ import annotations

from gncli.report.records import Report
from gncli.report.rows import Sheet, by_cells, more_cells, sheet_of
from gncli.report.style import Style


def text(report: Report, style: Style) -> str:
    """Return the table of `report`."""
    more = more_cells(report) if by_cells(report) else []
    return table(sheet_of(report, style)) + "".join(f"\n{line}\n" for line in more)


def table(sheet: Sheet) -> str:
    """Return a table."""
    rule = ["---:" if right else "---" for right in sheet.right]
    rows = [[literal(cell) for cell in row] for row in (sheet.header, *sheet.rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (rows[0], rule, *rows[1:]))


def literal(cell: str) -> str:
    """Return text that Markdown takes for nothing else."""
    return "".join(f"\\{c}" if c in "\\`*[]<>|" else c for c in cell)
