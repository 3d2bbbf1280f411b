"""The table: rich on a terminal, the same without colour in a pipe. rich is imported here alone."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gncli.names import statistic
from gncli.report.lines import histogram_lines, lines_under
from gncli.report.records import NormalizeReport, Report, TensorStats
from gncli.report.rows import Foldable, Sheet, by_cells, more_cells, records, sheet_of, shown
from gncli.report.style import Style
from gncli.text import printable

NARROWEST_NAME = 24  # columns that a folded name keeps on a narrow terminal


PAGE_WIDTH = 100  # columns of a page of its own; as many more as its table needs


class Part(NamedTuple):
    """A table, a drawing below it, and lines below that."""

    sheet: Sheet
    drawing: Sequence[str] = ()
    under: Sequence[str] = ()


def text(report: Report, style: Style) -> str:
    """Return the table of `report`, and the lines under it."""
    return text_of(drawn([part_of(report, style)], style))


def text_of(console: Console) -> str:
    """Return what `drawn` has printed."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def exported(parts: Sequence[Part], form: str, title: str, style: Style) -> str:
    """Return tables as ``svg`` or ``html`` by rich's own export, on a page that asks no other host for anything."""
    console = drawn(parts, style._replace(color=True, page=True))
    if form == "html":
        from html import escape

        return console.export_html().replace("<head>", f"<head>\n<title>{escape(title)}</title>", 1)
    shown = printable(title, limit=2 * console.width // 3)
    head, end, rest = console.export_svg(title=shown, unique_id="gncli").partition("</style>")
    return re.sub(r"@font-face \{[^}]*\}\s*", "", head) + end + rest


def part_of(report: Report, style: Style) -> Part:
    """Return what there is to draw of `report`."""
    under = [] if style.quiet else lines_under(report)
    if by_cells(report):
        return Part(sheet_of(report, style), under=[*more_cells(report), *under])
    found = records(report)
    if isinstance(report, NormalizeReport) or (len(found) == 1 and isinstance(found[0][1], TensorStats)):
        sheet = _upright(report, style)
    else:
        sheet = sheet_of(report, style)
    return Part(sheet, _histograms(report, style), under)


def _upright(report: Report, style: Style) -> Sheet:
    """Return the table of few tensors: a row a statistic, a column a tensor or stage."""
    found = records(report)
    tensors = [tensor for _, tensor in found if isinstance(tensor, TensorStats)]
    header = ["", *(printable(heading) for heading, _ in found)]
    rows = [
        [statistic(name).label, *(style.rounded(tensor.value(name)) for tensor in tensors)] for name in shown(report)
    ]
    return Sheet(header, rows, [False] * len(header))


def _histograms(report: Report, style: Style) -> list[str]:
    found = [
        (name, tensor.histogram)
        for name, tensor in (
            [("before", report.before), ("after", report.after)]
            if isinstance(report, NormalizeReport)
            else records(report)
        )
        if isinstance(tensor, TensorStats) and tensor.histogram is not None
    ]
    lines = []
    for name, histogram in found:
        lines += [printable(name)] if len(found) > 1 else []
        lines += histogram_lines(histogram, style)
    return lines


def drawn(parts: Sequence[Part], style: Style) -> Console:
    """Return the console that has printed tables and what is under each."""
    laid = [_tables(part.sheet, style) for part in parts]
    widest = max(width for _, width in laid)
    console = Console(
        file=io.StringIO(),
        record=True,
        width=max(widest, (PAGE_WIDTH if style.page else style.width) or 0),
        height=100,
        color_system="standard" if style.color else None,
        force_terminal=style.color,
        force_jupyter=False,
        force_interactive=False,
        no_color=not style.color,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        _environ={},  # COLUMNS, FORCE_COLOR and TERM have been weighed already, in options.py
    )
    for part, (tables, _) in zip(parts, laid, strict=True):
        for table in tables:
            console.print(table)
        for line in part.drawing:
            console.print(Text(style.fitted(line)), soft_wrap=True)
        for line in part.under:
            text = Text(style.fitted(line))
            text.highlight_words(["check: ok"], "green")
            text.highlight_words(["check: FAILED"], "bold red")
            # On a terminal and on a page lines are broken at words; a pipe has them whole.
            console.print(text, soft_wrap=style.width is None and not style.page)
    return console


def _tables(sheet: Sheet, style: Style) -> tuple[list[Table], int]:
    """Return a table, in several parts where it is too wide for the terminal, and the columns that it takes.

    Notes
    -----
    Left to itself rich fits a table to 80 columns in a pipe and cuts digits without a word. So every column's width is
    set here, and the console is as wide as their sum. On a narrower terminal headings fold at words, then names
    anywhere; if that is not enough, the columns go on in another table below, which begins with the first one again.
    """
    header, rows, right = sheet
    able = style.fitted
    columns = list(zip(header, *rows, strict=True))
    widths = [max(cell_len(able(cell)) for cell in column) for column in columns]

    def floor(title: str, *cells: str) -> int:
        words = [min(cell_len(able(word)), NARROWEST_NAME) for word in title.split()]
        kept = [cell_len(able(cell)) for cell in cells if not isinstance(cell, Foldable)]
        folded = [min(cell_len(able(cell)), NARROWEST_NAME) for cell in cells if isinstance(cell, Foldable)]
        return max(words + kept + folded, default=0)

    floors = [floor(*column) for column in columns]
    everything = list(range(len(columns)))

    def total(part: Sequence[int]) -> int:
        return sum(widths[i] for i in part) + 3 * len(part) + 1

    while style.width is not None and total(everything) > style.width and widths != floors:
        widest = max(everything, key=lambda i: widths[i] - floors[i])
        widths[widest] -= 1
    parts = [everything[:1]]
    for i in everything[1:]:
        full = style.width is not None and total([*parts[-1], i]) > style.width
        if full and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(i)

    unicode = style.fits("╭─┬╮│├┼┤╰┴╯")

    def table_of(part: Sequence[int]) -> Table:
        table = Table(box=box.ROUNDED if unicode else box.ASCII, border_style="dim", header_style="bold")
        for i in part:
            justify = "right" if right[i] else "left"
            title = Text(able(header[i]))
            table.add_column(title, width=widths[i], justify=justify, overflow="fold")  # type: ignore[arg-type]
        for cells in rows:
            table.add_row(*(Text(able(cells[i]), style="" if i else "cyan") for i in part))
        return table

    return [table_of(part) for part in parts], max(total(part) for part in parts)
