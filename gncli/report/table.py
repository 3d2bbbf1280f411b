"""Tables: with rich on a terminal, the same without colour in a pipe, and as a page in SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gncli.names import NONFINITE, STATISTICS, Value
from gncli.report.bars import bars
from gncli.report.document import Document, Foldable, Sheet
from gncli.report.style import Style
from gncli.text import printable

NARROWEST_NAME = 24  # columns that a folded name keeps on a narrow terminal
GOOD, BAD = "green", "bold red"
PAGE_WIDTH = 100  # columns of a page of its own; more if its table needs them


_COUNTS = {text for name in NONFINITE for text in (STATISTICS[name].label, STATISTICS[name].short) if text}


def table(document: Document, style: Style) -> str:
    """Return the tables of a document, and the lines under them."""
    return _text(_drawn(document.sheets(quiet=style.quiet), style))


def svg(document: Document, style: Style) -> str:
    """Return the tables as a picture of a terminal, by rich's own export."""
    console = _drawn(document.sheets(quiet=style.quiet), style._replace(color=True, page=True))
    title = printable(document.title, limit=2 * console.width // 3)
    head, end, rest = console.export_svg(title=title, unique_id="gncli").partition("</style>")
    return re.sub(r"@font-face \{[^}]*\}\s*", "", head) + end + rest  # no other host is asked for anything


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _drawn(sheets: Sequence[Sheet], style: Style) -> Console:
    """Return the console that has printed tables and what is under each."""
    laid = [_tables(sheet, style) for sheet in sheets]
    widest = max(width for _, _, width in laid)
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
    for sheet, (above, tables, _) in zip(sheets, laid, strict=True):
        if above:
            console.print(Text(style.fitted(above), style="bold"), soft_wrap=style.width is None)
        for part in tables:
            console.print(part)
        for name, histogram in sheet.histograms:
            named = [printable(name)] if len(sheet.histograms) > 1 else []
            for line in (*named, *bars(histogram, style)):
                console.print(Text(style.fitted(line)), soft_wrap=True)
        for line in sheet.under:
            text = Text(style.fitted(line))
            text.highlight_regex("^(?:check: ok|SAME)", GOOD)
            text.highlight_regex("^(?:check: FAILED|DIFFERENT|expectation failed)", BAD)
            # On a terminal and on a page lines are broken at words; in a pipe they stay whole.
            console.print(text, soft_wrap=style.width is None and not style.page)
    return console


def _tables(sheet: Sheet, style: Style) -> tuple[str, list[Table], int]:
    """Return the line above a table, the table, and its width; in several parts if it is too wide for the terminal.

    Notes
    -----
    By itself rich fits a table to 80 columns in a pipe and cuts digits without a word. So every column's width is set
    here, and the console is as wide as their sum. On a narrower terminal headings fold at words, then names anywhere;
    if that is not enough, words and shapes that are the same in every row are said once, above the table; at last the
    remaining columns form another table below, which repeats the first column.
    """
    right = sheet.right
    header = [style.fitted(title) for title in sheet.header]
    rows = [[style.fitted(style.rounded(cell, wide=sheet.wide)) for cell in row] for row in sheet.rows]
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]

    def floor(i: int) -> int:
        """Return the columns that column `i` needs at least: a folded text keeps `NARROWEST_NAME` of them."""
        words = [min(cell_len(word), NARROWEST_NAME) for word in header[i].split()]
        cells = [
            min(cell_len(text[i]), NARROWEST_NAME) if isinstance(row[i], Foldable) else cell_len(text[i])
            for text, row in zip(rows, sheet.rows, strict=True)
        ]
        return max(words + cells, default=0)

    everything = list(range(len(columns)))
    floors = [floor(i) for i in everything]

    def total(part: Sequence[int]) -> int:
        return sum(widths[i] for i in part) + 3 * len(part) + 1

    while style.width is not None and total(everything) > style.width and widths != floors:
        widest = max(everything, key=lambda i: widths[i] - floors[i])
        widths[widest] -= 1
    if style.width is not None and total(everything) > style.width and sheet.wide and (same := _same(sheet)):
        return _tables(same, style)
    longest = max(cell_len(text) for text in columns[0])
    if style.width is not None and total(everything) > style.width:  # in parts anyway: names are rather not folded
        widths[0] = max(widths[0], min(longest, style.width // 2))
    parts = [everything[:1]]
    for i in everything[1:]:
        full = style.width is not None and total([*parts[-1], i]) > style.width
        if full and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(i)

    def first(part: Sequence[int]) -> int:
        """Return the columns of the first column of a part: what the others of the part leave."""
        return widths[0] if style.width is None else min(longest, max(widths[0], widths[0] + style.width - total(part)))

    unicode = style.fits("╭─┬╮│├┼┤╰┴╯")

    def table_of(part: Sequence[int]) -> Table:
        table = Table(box=box.ROUNDED if unicode else box.ASCII, border_style="dim", header_style="bold")
        wide = {i: widths[i] if i else first(part) for i in part}
        for i in part:
            justify = "right" if right[i] else "left"
            table.add_column(Text(header[i]), width=wide[i], justify=justify, overflow="fold")  # type: ignore[arg-type]
        for cells, row in zip(rows, sheet.rows, strict=True):
            texts = [_broken(cells[i], wide[i]) if isinstance(row[i], Foldable) else cells[i] for i in part]
            about = [header[i] if header[0] else cells[0].strip() for i in part]
            looks = [_look(title, row[i]) if i else "cyan" for i, title in zip(part, about, strict=True)]
            table.add_row(*(Text(text, style=look) for text, look in zip(texts, looks, strict=True)))
        return table

    widest = max(total(part) + first(part) - widths[0] for part in parts)
    return sheet.above, [table_of(part) for part in parts], widest


def _same(sheet: Sheet) -> Sheet | None:
    """Return a table without the columns of words and shapes that are the same in every row, or None if none are."""
    first, *others = sheet.rows
    same = [
        i
        for i, text in enumerate(first)
        if i and isinstance(text, (str, tuple)) and text and all(row[i] == text for row in others)
    ]
    if not (same and others):
        return None
    kept = [i for i in range(len(first)) if i not in same]
    facts = ", ".join(f"{sheet.header[i]} {first[i]}" for i in same)
    return sheet._replace(
        header=[sheet.header[i] for i in kept],
        right=[sheet.right[i] for i in kept],
        rows=[[row[i] for i in kept] for row in sheet.rows],
        above=": ".join(filter(None, (sheet.above, facts))),
    )


def _broken(text: str, width: int) -> str:
    r"""Return a name in lines that fit, broken after ``.`` ``/`` or ``:`` or a space; a longer piece is left to rich.

    Examples
    --------
    >>> _broken("layers.10.attention.weight", 12)
    'layers.10.\nattention.\nweight'
    """
    lines = [""]
    for piece in re.findall(r"[^./: ]*[./: ]*", text):
        if lines[-1] and cell_len(lines[-1]) + cell_len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _look(title: str, value: Value) -> str:
    """Return how a value under a title is coloured: what is good or bad news stands out."""
    if title in _COUNTS and value:
        return BAD
    if title == "Verdict":
        return GOOD if value in ("identical", "same") else BAD
    return BAD if title == "Error" and value else ""
