"""A report as a notebook shows it: a fragment of HTML, without a style of its own."""

from __future__ import annotations

from gncli.names import Value, in_python
from gncli.report.bars import bars
from gncli.report.document import Document, Sheet
from gncli.report.page import Markup, element
from gncli.report.style import Style

STYLE = Style(precision=6)


def html(document: Document) -> str:
    """Return the tables of a document, and what is under each."""
    return "".join(part for sheet in document.sheets(quiet=False) for part in _parts(sheet))


def _parts(sheet: Sheet) -> list[Markup]:
    above = element("caption", in_python(sheet.above)) if sheet.above else ""
    head = element("thead", _row("th", sheet.header, sheet.right))
    body = element("tbody", *(_row("td", row, sheet.right) for row in sheet.rows))
    drawn = ["\n".join(filter(None, (name, *bars(histogram, STYLE)))) for name, histogram in sheet.histograms]
    under = [in_python(line) for line in sheet.under]
    return [
        element("table", above, head, body),
        *(element("pre", text) for text in drawn),
        *(element("p", t) for t in under),
    ]


def _row(tag: str, cells: list[str] | list[Value], right: list[bool]) -> Markup:
    said = [in_python(STYLE.rounded(cell)) for cell in cells]
    sides = [f"text-align: {'right' if to_the_right else 'left'}" for to_the_right in right]
    return element("tr", *(element(tag, text, style=side) for text, side in zip(said, sides, strict=True)))
