"""Records of what was found, and the text made of them.

A task returns a report (`records`, `diff_records`), which is data alone. A document (`document`) says what there is to
say of it, and a form (`forms`, `table`) makes one text of the document. Names that came from data or the user go
through `gncli.text` on that way. rich is imported for tables alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from gncli.report.style import Style

if TYPE_CHECKING:
    from gncli.report.backward_records import BackwardReport
    from gncli.report.diff_records import DiffReport
    from gncli.report.document import Document
    from gncli.report.explain_records import ExplainReport
    from gncli.report.normalize_records import NormalizeReport
    from gncli.report.page import Origin
    from gncli.report.pair_records import PairsReport
    from gncli.report.part_records import PartReport
    from gncli.report.records import StatsReport

    Report: TypeAlias = (
        StatsReport | NormalizeReport | DiffReport | PairsReport | ExplainReport | BackwardReport | PartReport
    )


def document_of(report: Report) -> Document:
    """Return what `report` says."""
    from gncli.report.records import StatsReport
    from gncli.report.tensor_document import CellsDocument, StatsDocument

    if isinstance(report, StatsReport):
        return CellsDocument(report) if report.by else StatsDocument(report)
    from gncli.report.normalize_records import NormalizeReport

    if isinstance(report, NormalizeReport):
        from gncli.report.normalize_document import NormalizeDocument

        return NormalizeDocument(report)
    from gncli.report.part_records import PartReport

    if isinstance(report, PartReport):
        from gncli.report.part_document import PartDocument

        return PartDocument(report)
    from gncli.report.backward_records import BackwardReport

    if isinstance(report, BackwardReport):
        from gncli.report.backward_document import BackwardDocument

        return BackwardDocument(report)
    from gncli.report.pair_records import PairsReport

    if isinstance(report, PairsReport):
        from gncli.report.pair_document import PairsDocument

        return PairsDocument(report)
    from gncli.report.explain_records import ExplainReport

    if isinstance(report, ExplainReport):
        from gncli.report.explain_document import ExplainDocument

        return ExplainDocument(report)
    from gncli.report.diff_document import DiffDocument

    return DiffDocument(report)


def render(report: Report, form: str, style: Style | None = None, origin: Origin | None = None) -> str:
    """Return the whole text of `report`.

    Parameters
    ----------
    report : StatsReport, NormalizeReport, DiffReport, PairsReport, ExplainReport, BackwardReport or PartReport
        What to show.
    form : str
        One of `gncli.names.FORMS` and of the values of `gncli.names.REPORT_FORMS`.
    style : Style, optional
        How tables look.
    origin : Origin, optional
        Where the report came from; a page of HTML shows it.

    Returns
    -------
    str
        Lines that end in a newline, or nothing.
    """
    document, style = document_of(report), style or Style()
    if form == "html":
        from gncli.report import page

        return page.html(document, style, origin)
    if form in ("table", "svg"):
        from gncli.report import table

        return {"table": table.table, "svg": table.svg}[form](document, style)
    from gncli.report import forms

    return forms.FORMS[form](document, style)


def verdict_of(report: Report) -> str | None:
    """Return the verdict of a comparison in a line; None for other reports."""
    return document_of(report).verdict_alone


def aside(report: Report) -> list[str]:
    """Return the lines that go to stderr where stdout carries data: a chosen seed, what was skipped, and notes."""
    return document_of(report).aside()
