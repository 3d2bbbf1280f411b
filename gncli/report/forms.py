"""The forms of a report in text, each written once for all reports; tables are in `gncli.report.table`."""

from __future__ import annotations

import csv as comma_separated
import io
import json as notation
from collections.abc import Callable, Mapping

from gncli.names import shape_text
from gncli.report.bars import bars
from gncli.report.document import Document, Stream
from gncli.report.style import UNDEFINED, Style
from gncli.text import csv_cell, printable

SCHEMA = 1


def plain(document: Stream, style: Style) -> str:
    """Return paragraphs of lines such as ``Mean:  0.5000566322329019``, at full precision."""
    paragraphs = []
    for entries, histogram, last in document.blocks():
        lines = [f"{label}:  {UNDEFINED if value is None else value}" for label, value in entries]
        lines += [] if histogram is None else bars(histogram, style)
        lines += [] if last is None else [last]
        paragraphs.append("".join(f"{line}\n" for line in lines))
    return "\n".join(paragraphs)


def value(document: Stream, _style: Style) -> str:
    """Return the values alone, one per line, for a shell's ``$(...)``."""
    return "".join([f"{_exact(value, UNDEFINED)}\n" for value in document.values()])


def json(document: Document, _style: Style) -> str:
    """Return one JSON document, as strict as RFC 8259."""
    return _dumped({"schema": SCHEMA} | document.body(), indent=2)


def jsonl(document: Stream, _style: Style) -> str:
    """Return one JSON object per line."""
    return "".join(map(_dumped, document.objects()))


def csv(document: Stream, _style: Style) -> str:
    """Return comma-separated values: a header, then a row per tensor, stage or cell."""
    text = io.StringIO()
    writer = comma_separated.writer(text, lineterminator="\n")
    writer.writerows([_spelled(cell) for cell in row] for row in document.rows())
    return text.getvalue()


def markdown(document: Document, style: Style) -> str:
    """Return a table in Markdown, and lines under it."""
    sheet = document.sheet()
    rule = ["---:" if right else "---" for right in sheet.right]
    header = [_literal(title) for title in sheet.header]
    rows = [[_literal(style.rounded(cell, wide=sheet.wide)) for cell in row] for row in sheet.rows]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *rows))
    return table + "".join(f"\n{_literal(line)}\n" for line in sheet.under)


def _exact(value: object, undefined: str) -> str:
    """Return a value for a program: a shape as ``--random`` takes it, floats that round-trip, booleans as in JSON."""
    if isinstance(value, tuple):
        return shape_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    return undefined if value is None else str(value)


def _spelled(cell: object) -> str:
    """Return a cell of a spreadsheet; text is whole, printable, and no formula."""
    return csv_cell(printable(cell, limit=None)) if isinstance(cell, str) else _exact(cell, "")


def _dumped(value: object, indent: int | None = None) -> str:
    """Return `value` as JSON in ASCII: JSON itself lets DEL, C1 and bidirectional marks stand in a string."""
    return notation.dumps(value, indent=indent, allow_nan=False, ensure_ascii=True) + "\n"


def _literal(text: str) -> str:
    """Return text without a character that means something in Markdown."""
    return "".join(f"\\{c}" if c in "\\`*[]<>|" else c for c in text)


STREAMED: Mapping[str, Callable[[Stream, Style], str]] = {"plain": plain, "value": value, "jsonl": jsonl, "csv": csv}
"""The forms that show all cells of ``--by``, as they come; the others show the first ones."""

FORMS: Mapping[str, Callable[[Document, Style], str]] = {**STREAMED, "json": json, "markdown": markdown}
"""The forms by name."""
