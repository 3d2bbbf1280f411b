"""A report is data, then text: each form is the module here of its name, and makes the whole text at once.

What came from data or the user goes through `gncli.text` on its way; rich is imported with the table alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from gncli.report.records import NormalizeReport, Report, StatsReport
from gncli.report.rows import by_cells
from gncli.report.style import Style

if TYPE_CHECKING:
    from gncli.report.verdict import DiffReport


class Form(Protocol):
    """What the module of a form has."""

    def text(self, report: Report, style: Style, /) -> str:
        """Return the whole text of `report`."""


def render(report: Report | DiffReport, form: str, style: Style | None = None) -> str:
    """Return the whole text of `report` in one of `gncli.names.FORMS`.

    Parameters
    ----------
    report : StatsReport, NormalizeReport or DiffReport
        What to show.
    form : str
        One of `FORMS`.
    style : Style, optional
        How tables look.

    Returns
    -------
    str
        Lines that end in a newline, or nothing.
    """
    style = style or Style()
    if not isinstance(report, StatsReport | NormalizeReport):
        from gncli.report.difference import DIFFERENCES

        return DIFFERENCES[form](report, style)
    if by_cells(report):
        from gncli.report.stream import STREAMED, after_cells

        if form in STREAMED:
            return after_cells(report, form)
    module: Form = import_module(f"gncli.report.{form}")
    return module.text(report, style)
