"""The table as a picture of a terminal, by rich's own export."""

from __future__ import annotations

from gncli.report.lines import title_of
from gncli.report.records import Report
from gncli.report.style import Style
from gncli.report.table import exported, part_of


def text(report: Report, style: Style) -> str:
    """Return the SVG of `report`."""
    return exported([part_of(report, style)], "svg", title_of(report), style)
