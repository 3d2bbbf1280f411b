"""The forms of what ``diff`` found: labelled values, cells if there are any, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gncli.report.csv import named, written
from gncli.report.json import SCHEMA, dumped
from gncli.report.lines import histogram_lines, output_line, seed_and_skipped, title_of
from gncli.report.markdown import literal
from gncli.report.markdown import table as markdown_table
from gncli.report.rows import MOST_CELLS, Sheet, exact
from gncli.report.style import UNDEFINED, Style
from gncli.report.verdict import DIFF_CELL_ROWS, DiffReport
from gncli.text import printable, without_surrogates

if TYPE_CHECKING:
    from gncli.report.table import Part


def _table(report: DiffReport, style: Style) -> str:
    from gncli.report.table import drawn, text_of

    return text_of(drawn(parts_of(report, style), style))


def parts_of(report: DiffReport, style: Style) -> list[Part]:
    """Return what there is to draw of `report`."""
    from gncli.report.table import Part

    rows = [[label, printable(style.rounded(value))] for label, value in report.rows()]
    values = Sheet(["", ""], rows, [False, False])
    drawing = [] if report.histogram is None else histogram_lines(report.histogram, style)
    under = [] if style.quiet else seed_and_skipped(report)
    if report.output is not None and report.compared and not style.quiet:
        under = [output_line(report.output, written=True), *under]
    under = [*under, report.verdict]
    if not report.cells:
        return [Part(values, drawing, under)]
    cells, most = _cells(report, style), report.most_different
    more = len(report.cells) - len(cells.rows)
    lines = [f"... {more:,} more; --format csv for all"] if more else []
    lines += [f"differs most: {most.label}"] if most is not None and any(n > 0 for n in most.rank) else []
    return [Part(values, drawing), Part(cells, under=[*lines, *under])]


def _cells(report: DiffReport, style: Style) -> Sheet:
    rows = [
        [cell.label, *(style.rounded(getattr(cell, name)) for name in DIFF_CELL_ROWS)]
        for cell in report.cells[:MOST_CELLS]
    ]
    return Sheet(["Cell", *DIFF_CELL_ROWS.values()], rows, [False, *([True] * len(DIFF_CELL_ROWS))])


def _svg(report: DiffReport, style: Style) -> str:
    from gncli.report.table import exported

    return exported(parts_of(report, style), "svg", title_of(report), style)


def _html(report: DiffReport, style: Style) -> str:
    from gncli.report.table import exported

    return exported(parts_of(report, style), "html", title_of(report), style)


def _plain(report: DiffReport, style: Style) -> str:
    lines = [
        f"{label.strip()}:  {UNDEFINED if value is None else printable(str(value))}" for label, value in report.rows()
    ]
    for cell in report.cells:
        values = ", ".join(f"{label} {getattr(cell, name)}" for name, label in DIFF_CELL_ROWS.items())
        lines.append(f"{cell.label}:  {values}")
    if report.histogram is not None:
        lines += histogram_lines(report.histogram, style)
    return "".join(f"{line}\n" for line in [*lines, report.verdict])


def _value(report: DiffReport, _style: Style) -> str:
    return f"{report.verdict.partition(':')[0]}\n"


def _object(report: DiffReport) -> dict[str, object]:
    found = report.as_dict()
    for side, operand in (("a", report.a), ("b", report.b)):
        found[side] = operand.as_dict() | {"name": without_surrogates(operand.name)}
    return found


def _json(report: DiffReport, _style: Style) -> str:
    return dumped({"schema": SCHEMA, "command": "diff"} | _object(report), indent=2)


def _jsonl(report: DiffReport, _style: Style) -> str:
    if report.names:
        return "".join(dumped(cell.as_dict()) for cell in report.cells)
    return dumped(_object(report))


_COLUMNS = (
    "equal", "rtol", "atol", "size", "nan_mismatches", "inf_mismatches", "outside", "max_abs",
    "mean_abs", "rmse", "psnr", "cosine", "smallest_atol",
)  # fmt: skip


def _csv(report: DiffReport, _style: Style) -> str:
    if report.names:
        rows = ([*cell.place.values(), *(exact(getattr(cell, n), "") for n in DIFF_CELL_ROWS)] for cell in report.cells)
        return written([[*report.names, *DIFF_CELL_ROWS], *rows])
    found = report.as_dict() | {"max_abs": None if report.worst is None else report.worst.difference}
    values = ("" if found.get(name) is None else str(found[name]) for name in _COLUMNS)
    return written([["a", "b", *_COLUMNS], [named(report.a.name), named(report.b.name), *values]])


def _markdown(report: DiffReport, style: Style) -> str:
    values = [[label.strip(), printable(style.rounded(value))] for label, value in report.rows()]
    sheet = _cells(report, style) if report.cells else Sheet(["", "Value"], values, [False, False])
    return markdown_table(sheet) + f"\n{literal(report.verdict)}\n"


DIFFERENCES: Mapping[str, Callable[[DiffReport, Style], str]] = {
    "table": _table,
    "plain": _plain,
    "value": _value,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "markdown": _markdown,
    "svg": _svg,
    "html": _html,
}
"""Every form of a difference by its name on the command line."""
