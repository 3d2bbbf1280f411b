"""A report is data, then text: one function a form, each of which returns the whole text at once.

What came from data or the user goes through `gncli.text`; rich is imported by the one function that draws a table.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gncli.describe import (
    CELL_STATISTICS,
    DEFAULT_STATISTICS,
    DIFF_CELL_ROWS,
    NONFINITE,
    Cell,
    Check,
    DiffReport,
    Failure,
    Histogram,
    NormalizeReport,
    Parameters,
    Report,
    StatsReport,
    TensorStats,
    Value,
    shape_text,
    statistic,
)
from gncli.text import csv_cell, printable, without_surrogates

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1
UNDEFINED = "-"
PIPE_WIDTH = 80  # columns of a histogram where there is no terminal
NARROWEST_NAME = 24  # columns that a folded name keeps on a narrow terminal


@dataclass(frozen=True)
class Style:
    """How the text is to look; no form loses a fact to it.

    Parameters
    ----------
    precision : int
        Significant digits of floats in tables; integers are whole.
    color : bool
        Whether tables are coloured.
    width : int, optional
        Columns of the terminal; None (a pipe) is as wide as the table needs.
    encoding : str
        What the reader can take: other characters are escaped, and boxes drawn in ASCII.
    quiet : bool
        Whether a table stands alone, without the lines under it.
    """

    precision: int = 8
    color: bool = False
    width: int | None = None
    encoding: str = "utf-8"
    quiet: bool = False


def render(report: Report | DiffReport, form: str, style: Style | None = None) -> str:
    """Return the whole text of `report` in one of `FORMS`.

    Parameters
    ----------
    report : StatsReport, NormalizeReport or DiffReport
        What to show.
    form : str
        A key of `FORMS`.
    style : Style, optional
        How tables look.

    Returns
    -------
    str
        Lines that end in a newline, or nothing.
    """
    if isinstance(report, DiffReport):
        return DIFF_FORMS[form](report, style or Style())
    if _by(report) and form in STREAMED:
        return _after_stream(report, form)
    return FORMS[form](report, style or Style())


def seed_and_skipped(report: Report | DiffReport) -> list[str]:
    """Return the lines that belong on stderr where stdout carries data: a chosen seed, and what was passed over."""
    lines = [] if report.seed is None else [f"seed {report.seed} (chosen; --seed {report.seed} draws the same again)"]
    for container, count in report.skipped if isinstance(report, StatsReport) else ():
        lines.append(f"{printable(container)}: {_count(count, 'dataset')} skipped, not numeric")
    return lines + [printable(note) for note in report.notes]


def broken_lines(report: StatsReport) -> list[str]:
    """Return the expectations that did not hold: the first ones, then how many more."""
    lines = [f"expectation failed: {printable(text)}" for text in report.broken.first]
    more = report.broken.count - len(lines)
    return lines + ([f"expectation failed: {more:,} more"] if more else [])


def check_line(report: NormalizeReport) -> str:
    """Return the check in one line."""
    check, parameters = report.check, report.parameters
    if check is None:
        return "check: skipped (--no-verify)"
    identity = parameters.gamma == 1 and parameters.beta == 0
    measured = ", |mean| <= {} and |var - V| <= {} of what rounding allows{}, V = {}".format(
        _fraction(check.mean_error),
        _fraction(check.var_error),
        "" if identity else " before gamma and beta",
        "var/(var + eps), a little under 1" if parameters.denominator == "std" else "var/(var + eps)^2",
    )
    return (
        f"check: {_verdict(check)}: {_count(check.groups, 'group')}"
        f"{'' if check.mean_error is None else measured}; {check.constant_groups} constant, "
        f"{check.nonfinite_groups} with NaN or infinity, {check.overflowed} overflowed"
    )


def _verdict(check: Check) -> str:
    return "ok" if check.ok else "FAILED"


def _fraction(error: float | None) -> str:
    return UNDEFINED if error is None else f"{error:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _done_line(parameters: Parameters) -> str:
    p = parameters
    return (
        f"layout {p.layout}, {_count(p.groups, 'group')} of {_count(p.group_size, 'channel')}, eps {_exact(p.eps)}, "
        f"gamma {_exact(p.gamma)}, beta {_exact(p.beta)}, denominator {p.denominator}, dtype {p.dtype}"
    )


def _exact(given: float | str) -> str:
    return printable(given) if isinstance(given, str) else repr(given).removesuffix(".0")


def _output_line(output: str | None, written: bool) -> str:
    if output is None:
        return "nothing written (no -o)"
    return f"written to {printable(output)}" if written else f"nothing written to {printable(output)}"


def _lines_under(report: Report) -> list[str]:
    if isinstance(report, NormalizeReport):
        done = [
            _done_line(report.parameters),
            _output_line(report.output, written=report.status == 0),
            check_line(report),
        ]
        return done + seed_and_skipped(report)
    done = [] if report.output is None else [_output_line(report.output, written=True)]
    return done + seed_and_skipped(report)


# What every form shows: a row a tensor, or a row a stage.


def _records(report: Report) -> list[tuple[str, TensorStats | Failure]]:
    if isinstance(report, NormalizeReport):
        stages = [(stage.name, stage.stats) for stage in report.stages]
        return [*stages] or [("before", report.before), ("after", report.after)]
    totals = [] if report.total is None else [(report.total.name, report.total)]
    return [*((tensor.name, tensor) for tensor in report.tensors), *totals]


def _key(report: Report) -> str:
    return "stage" if isinstance(report, NormalizeReport) else "name"


def _selected(report: Report) -> tuple[str, ...]:
    return () if isinstance(report, NormalizeReport) else report.selected


def _shown(report: Report) -> list[str]:
    """Return what a reader sees: the statistics selected, and non-finite counts where any tensor has some."""
    found = [tensor.shown(_selected(report)) for _, tensor in _records(report) if isinstance(tensor, TensorStats)]
    chosen = list(_selected(report) or DEFAULT_STATISTICS)
    return chosen + [name for name in NONFINITE if name not in chosen and any(name in shown for shown in found)]


def _rounded(value: Value, precision: int) -> str:
    if isinstance(value, float):
        return f"{value:.{precision}g}"
    return UNDEFINED if value is None else str(value)


# Cells: a row each, in forms that are composed whole or streamed.

MOST_CELLS = 1000  # in a table; the others are counted


def _by(report: Report) -> bool:
    return isinstance(report, StatsReport) and report.by


def _cell_rows(report: Report) -> list[tuple[str, Cell | TensorStats | Failure]]:
    """Return the cells of all tensors with the tensors' names; and tensors that have none because they failed."""
    rows: list[tuple[str, Cell | TensorStats | Failure]] = []
    left = MOST_CELLS
    for name, tensor in _records(report):
        if isinstance(tensor, TensorStats) and tensor.cells is not None:
            rows += [(name, cell) for cell in tensor.cells.kept[:left]]
            left = max(0, left - len(tensor.cells.kept))
        else:
            rows.append((name, tensor))
    return rows


def _more_line(report: Report) -> list[str]:
    """Return the line that says how many cells are not in a table."""
    found = [tensor.cells for _, tensor in _records(report) if isinstance(tensor, TensorStats) and tensor.cells]
    more = sum(cells.count for cells in found) - min(MOST_CELLS, sum(len(cells.kept) for cells in found))
    return [f"... {more:,} more; --format csv for all"] if more else []


def _cell_table(report: Report, style: Style) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return header, rows and alignment of the table of cells."""
    rows, chosen = _cell_rows(report), list(_selected(report) or CELL_STATISTICS)
    stats = [found.stats if isinstance(found, Cell) else found for _, found in rows]
    known = [found for found in stats if isinstance(found, TensorStats)]
    shown = chosen + [name for name in NONFINITE if name not in chosen and any(s.values.get(name) for s in known)]
    several = len(_records(report)) > 1
    failed = any(isinstance(found, Failure) for _, found in rows)
    header = [*(["Name"] if several else []), "Cell", *(statistic(name).label for name in shown)]
    right = [*([False] if several else []), False, *(statistic(name).numeric for name in shown)]
    cells = []
    for (name, found), record in zip(rows, stats, strict=True):
        label = found.label if isinstance(found, Cell) else ""
        head = [_Name(printable(name)), label] if several else [label]
        if isinstance(record, Failure):
            cells.append([*head, *([""] * len(shown)), _Name(printable(record.message))])
        else:
            values = [_rounded(record.value(each) if record.has(each) else None, style.precision) for each in shown]
            cells.append([*head, *values, *([""] if failed else [])])
    return header + (["Error"] if failed else []), cells, right + ([False] if failed else [])


class CellStream:
    """The text of cells, batch by batch: what ``csv``, ``jsonl``, ``plain`` and ``value`` make of ``--by``.

    Parameters
    ----------
    form : str
        One of `STREAMED`.
    selected : tuple of str
        Statistics by contract name; empty for those of cells.
    """

    def __init__(self, form: str, selected: tuple[str, ...]) -> None:
        self._form, self._selected = form, selected
        self._names: tuple[str, ...] | None = None

    def rows(self, tensor: TensorStats, cells: list[Cell]) -> str:
        """Return the text of the next cells of `tensor`."""
        name = printable(tensor.name, limit=None)
        if self._form == "jsonl":
            head = {"name": without_surrogates(tensor.name)}
            return "".join(_dumped(head | cell.as_dict(self._selected)) for cell in cells)
        if self._form == "value":
            shown = self._selected or CELL_STATISTICS
            return "".join(f"{_bare(cell.stats.value(each), UNDEFINED)}\n" for cell in cells for each in shown)
        if self._form == "plain":
            return "".join(self._plain(name, cell) for cell in cells)
        text = io.StringIO()
        write = csv.writer(text, lineterminator="\n").writerow
        chosen = self._selected or (*CELL_STATISTICS, *NONFINITE)
        for cell in cells:
            if self._names is None:
                self._names = tuple(cell.index)
                write(["name", *self._names, *chosen])
            write([csv_cell(name), *cell.index.values(), *(_bare(cell.stats.value(each), "") for each in chosen)])
        return text.getvalue()

    def _plain(self, name: str, cell: Cell) -> str:
        gap, self._names = ("" if self._names is None else "\n"), ()
        lines = [f"Name:  {name}", f"Cell:  {cell.label}", *cell.stats.lines(self._selected or CELL_STATISTICS)]
        return gap + "".join(f"{line}\n" for line in lines)


STREAMED = ("csv", "jsonl", "plain", "value")
"""The forms that show all cells of ``--by``, as they come."""


def _after_stream(report: Report, form: str) -> str:
    """Return what is left to show when the cells have been: tensors that could not be read, as objects."""
    failures = [tensor for _, tensor in _records(report) if isinstance(tensor, Failure)]
    return "".join(_dumped(_object(report, failure)) for failure in failures) if form == "jsonl" else ""


def _histograms(report: Report, style: Style, able: Callable[[str], bool]) -> list[str]:
    """Return the lines of the histograms of a report."""
    found = [
        (name, tensor.histogram)
        for name, tensor in (
            [("before", report.before), ("after", report.after)]
            if isinstance(report, NormalizeReport)
            else _records(report)
        )
        if isinstance(tensor, TensorStats) and tensor.histogram is not None
    ]
    lines = []
    for name, histogram in found:
        lines += [printable(name)] if len(found) > 1 else []
        lines += _bars(histogram, style, able)
    return lines


def _bars(histogram: Histogram, style: Style, able: Callable[[str], bool]) -> list[str]:
    from gncli.drawing import EIGHTHS, FRAME, bars

    blocks = able(EIGHTHS + "".join(FRAME))
    return bars(histogram, style.width or PIPE_WIDTH, blocks=blocks, precision=style.precision)


# The table.


class _Name(str):
    """A cell that may be folded on a narrow terminal; any other keeps its digits on one line."""

    __slots__ = ()


def picture(report: Report, title: str, width: int = 100) -> str:
    """Return the table of `report` as an SVG, by rich's own export, as on a terminal of `width` columns."""
    return _draw(report, Style(color=True, width=width)).export_svg(title=title, unique_id="gncli")


def _table(report: Report, style: Style) -> str:
    drawn = _draw(report, style).file
    assert isinstance(drawn, io.StringIO)
    return drawn.getvalue()


def _draw(report: Report, style: Style) -> Console:
    under = [] if style.quiet else _lines_under(report)
    if _by(report):
        header, rows, right = _cell_table(report, style)
        return _drawn(header, rows, right, [*_more_line(report), *under], style)
    records, shown = _records(report), _shown(report)
    labels = [statistic(name).label for name in shown]
    if isinstance(report, NormalizeReport) or (len(records) == 1 and isinstance(records[0][1], TensorStats)):
        tensors = [tensor for _, tensor in records if isinstance(tensor, TensorStats)]
        header = ["", *(printable(heading) for heading, _ in records)]
        rows = [
            [label, *(_rounded(tensor.value(name), style.precision) for tensor in tensors)]
            for name, label in zip(shown, labels, strict=True)
        ]
        right = [False] * len(header)
    else:
        failed = any(isinstance(tensor, Failure) for _, tensor in records)
        header = ["Name", *labels, *(["Error"] if failed else [])]
        rows = [_row(name, tensor, shown, style, failed) for name, tensor in records]
        right = [False, *(statistic(name).numeric for name in shown), *([False] if failed else [])]
    return _drawn(header, rows, right, under, style, _histograms(report, style, _able(style)))


def _able(style: Style) -> Callable[[str], bool]:
    """Return what tells whether the reader can take a text as it is."""
    return lambda text: text.encode(style.encoding, "backslashreplace").decode(style.encoding) == text


def _row(name: str, tensor: TensorStats | Failure, shown: list[str], style: Style, failed: bool) -> list[str]:
    if isinstance(tensor, Failure):
        return [_Name(printable(name)), *([""] * len(shown)), _Name(printable(tensor.message))]
    cells = [_rounded(tensor.value(each), style.precision) for each in shown]
    return [_Name(printable(name)), *cells, *([""] if failed else [])]


def _drawn(
    header: list[str],
    rows: list[list[str]],
    right: list[bool],
    under: list[str],
    style: Style,
    drawing: Sequence[str] = (),
) -> Console:
    """Return the console that has printed a table and the lines under it.

    Notes
    -----
    Left to itself rich fits a table to 80 columns in a pipe and cuts digits without a word. So every column's width is
    set here, and the console is as wide as their sum. On a narrower terminal headings fold at words, then names
    anywhere; if that is not enough, the columns go on in another table below, which begins with the first one again.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def able(text: str) -> str:
        return text.encode(style.encoding, "backslashreplace").decode(style.encoding)

    columns = list(zip(header, *rows, strict=True))
    widths = [max(cell_len(able(cell)) for cell in column) for column in columns]

    def floor(title: str, *cells: str) -> int:
        words = [min(cell_len(able(word)), NARROWEST_NAME) for word in title.split()]
        kept = [cell_len(able(cell)) for cell in cells if not isinstance(cell, _Name)]
        folded = [min(cell_len(able(cell)), NARROWEST_NAME) for cell in cells if isinstance(cell, _Name)]
        return max(words + kept + folded, default=0)

    floors = [floor(*column) for column in columns]
    everything = list(range(len(columns)))

    def total(sheet: Sequence[int]) -> int:
        return sum(widths[i] for i in sheet) + 3 * len(sheet) + 1

    while style.width is not None and total(everything) > style.width and widths != floors:
        widest = max(everything, key=lambda i: widths[i] - floors[i])
        widths[widest] -= 1
    sheets = [everything[:1]]
    for i in everything[1:]:
        full = style.width is not None and total([*sheets[-1], i]) > style.width
        if full and len(sheets[-1]) > 1:
            sheets.append([0])
        sheets[-1].append(i)

    unicode = _able(style)("╭─┬╮│├┼┤╰┴╯")

    def table_of(sheet: Sequence[int]) -> Table:
        table = Table(box=box.ROUNDED if unicode else box.ASCII, border_style="dim", header_style="bold")
        for i in sheet:
            justify = "right" if right[i] else "left"
            title = Text(able(header[i]))
            table.add_column(title, width=widths[i], justify=justify, overflow="fold")  # type: ignore[arg-type]
        for cells in rows:
            table.add_row(*(Text(able(cells[i]), style="" if i else "cyan") for i in sheet))
        return table

    console = Console(
        file=io.StringIO(),
        record=True,
        width=max([total(sheet) for sheet in sheets] + [style.width or 0]),
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
    for sheet in sheets:
        console.print(table_of(sheet))
    for line in drawing:
        console.print(Text(able(line)), soft_wrap=True)
    for line in under:
        text = Text(able(line))
        text.highlight_words(["check: ok"], "green")
        text.highlight_words(["check: FAILED"], "bold red")
        # On a terminal lines are broken at words; a pipe has them whole.
        console.print(text, soft_wrap=style.width is None)
    return console


# The other forms.


def _plain(report: Report, style: Style) -> str:
    records = _records(report)
    named = len(records) > 1 and not (isinstance(report, NormalizeReport) and not report.stages)
    blocks = []
    for heading, tensor in records:
        head = [f"{_key(report).capitalize()}:  {printable(heading)}"] if named else []
        if isinstance(tensor, Failure):
            blocks.append([*head, f"Error:  {printable(tensor.message)}"])
        else:
            blocks.append([*head, *tensor.lines(_selected(report))])
            if tensor.histogram is not None:
                blocks[-1] += _bars(tensor.histogram, style, _able(style))
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks)


def _value(report: Report, _style: Style) -> str:
    return "".join(
        f"{_bare(tensor.value(name), UNDEFINED)}\n"
        for _, tensor in _records(report)
        if isinstance(tensor, TensorStats)
        for name in _selected(report) or DEFAULT_STATISTICS
    )


def _bare(value: Value, undefined: str) -> str:
    """Return a value for a machine: a shape as --random takes it, floats that round-trip."""
    if isinstance(value, tuple):
        return shape_text(value)
    return undefined if value is None else str(value)


def _object(report: Report, tensor: TensorStats | Failure) -> dict[str, object]:
    found = tensor.as_dict() if isinstance(tensor, Failure) else tensor.as_dict(_selected(report))
    return {key: without_surrogates(value) if isinstance(value, str) else value for key, value in found.items()}


def _dumped(value: object, indent: int | None = None) -> str:
    # ASCII alone, because DEL, C1 and bidirectional marks pass through JSON's own rules for strings.
    return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=True) + "\n"


def _json(report: Report, _style: Style) -> str:
    document: dict[str, object] = {"schema": SCHEMA}
    if isinstance(report, NormalizeReport):
        document |= {
            "command": "normalize",
            "input": without_surrogates(report.input),
            "output": None if report.output is None else without_surrogates(report.output),
            "parameters": {
                key: without_surrogates(value) if isinstance(value, str) else value
                for key, value in report.parameters.as_dict().items()
            },
            "before": _object(report, report.before),
            "after": _object(report, report.after),
            "verified": None if report.check is None else report.check.as_dict(),
        }
        if report.stages:
            document["stages"] = [{"stage": stage.name, **_object(report, stage.stats)} for stage in report.stages]
    else:
        document |= {"command": report.command, "tensors": [_object(report, tensor) for tensor in report.tensors]}
        if report.total is not None:
            document["total"] = _object(report, report.total)
    return _dumped(document, indent=2)


def _jsonl(report: Report, _style: Style) -> str:
    staged = isinstance(report, NormalizeReport)
    return "".join(
        _dumped({"stage": heading} | _object(report, tensor) if staged else _object(report, tensor))
        for heading, tensor in _records(report)
    )


def _csv(report: Report, _style: Style) -> str:
    """Return the same columns for every input: non-finite counts are always there unless statistics were chosen."""
    chosen = _selected(report) or (*DEFAULT_STATISTICS, *NONFINITE)
    records = _records(report)
    failed = any(isinstance(tensor, Failure) for _, tensor in records)
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write([_key(report), *chosen, *(["error"] if failed else [])])
    for heading, tensor in records:
        name = csv_cell(printable(heading, limit=None))
        if isinstance(tensor, Failure):
            write([name, *([""] * len(chosen)), csv_cell(printable(tensor.message, limit=None))])
        else:
            cells = [_bare(tensor.value(each), "") for each in chosen]
            write([name, *cells, *([""] if failed else [])])
    return text.getvalue()


def _markdown(report: Report, style: Style) -> str:
    if _by(report):
        header, body, right = _cell_table(report, style)
        rule = ["---:" if is_right else "---" for is_right in right]
        rows = [header, rule, *([_literal(cell) for cell in row] for row in body)]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in rows) + "".join(
            f"\n{line}\n" for line in _more_line(report)
        )
    records, shown = _records(report), _shown(report)
    failed = any(isinstance(tensor, Failure) for _, tensor in records)
    header = [_key(report).capitalize(), *(statistic(name).label for name in shown), *(["Error"] if failed else [])]
    right = [False, *(statistic(name).numeric for name in shown), *([False] if failed else [])]
    rows = [[_literal(cell) for cell in _row(name, tensor, shown, style, failed)] for name, tensor in records]
    rule = ["---:" if is_right else "---" for is_right in right]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *rows))


def _literal(cell: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*[]<>|" else c for c in cell)


FORMS: Mapping[str, Callable[[Report, Style], str]] = {
    "table": _table,
    "plain": _plain,
    "value": _value,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "markdown": _markdown,
}
"""Every form by its name on the command line."""


# Differences: labelled values, then the verdict.


def _diff_table(report: DiffReport, style: Style) -> str:
    rows = [[label, _rounded(value, style.precision)] for label, value in report.rows()]
    drawing = [] if report.histogram is None else _bars(report.histogram, style, _able(style))
    under = [] if style.quiet else seed_and_skipped(report)
    if report.output is not None and report.compared and not style.quiet:
        under = [_output_line(report.output, written=True), *under]
    under = [*under, report.verdict]
    if not report.cells:
        return _text(_drawn(["", ""], rows, [False, False], under, style, drawing))
    first = _text(_drawn(["", ""], rows, [False, False], [], style, drawing))
    header, body, right = _diff_cells(report, style)
    most = report.most_different
    lines = (
        [f"... {len(report.cells) - len(body):,} more; --format csv for all"] if len(body) < len(report.cells) else []
    )
    lines += [f"differs most: {most.label}"] if most is not None and any(n > 0 for n in most.rank) else []
    return first + _text(_drawn(header, body, right, [*lines, *under], style))


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _diff_cells(report: DiffReport, style: Style) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return header, rows and alignment of the table of cells."""
    rows = [
        [cell.label, *(_rounded(getattr(cell, name), style.precision) for name in DIFF_CELL_ROWS)]
        for cell in report.cells[:MOST_CELLS]
    ]
    return ["Cell", *DIFF_CELL_ROWS.values()], rows, [False, *([True] * len(DIFF_CELL_ROWS))]


def _diff_plain(report: DiffReport, style: Style) -> str:
    lines = [
        f"{label.strip()}:  {UNDEFINED if value is None else printable(str(value))}" for label, value in report.rows()
    ]
    for cell in report.cells:
        values = ", ".join(f"{label} {getattr(cell, name)}" for name, label in DIFF_CELL_ROWS.items())
        lines.append(f"{cell.label}:  {values}")
    if report.histogram is not None:
        lines += _bars(report.histogram, style, _able(style))
    return "".join(f"{line}\n" for line in [*lines, report.verdict])


def _diff_value(report: DiffReport, _style: Style) -> str:
    return f"{report.verdict.partition(':')[0]}\n"


def _diff_object(report: DiffReport) -> dict[str, object]:
    found = report.as_dict()
    for side, operand in (("a", report.a), ("b", report.b)):
        found[side] = operand.as_dict() | {"name": without_surrogates(operand.name)}
    return found


def _diff_json(report: DiffReport, _style: Style) -> str:
    return _dumped({"schema": SCHEMA, "command": "diff"} | _diff_object(report), indent=2)


def _diff_jsonl(report: DiffReport, _style: Style) -> str:
    if report.names:
        return "".join(_dumped(cell.as_dict()) for cell in report.cells)
    return _dumped(_diff_object(report))


_DIFF_COLUMNS = (
    "equal", "rtol", "atol", "size", "nan_mismatches", "inf_mismatches", "outside", "max_abs",
    "mean_abs", "rmse", "psnr", "cosine", "smallest_atol",
)  # fmt: skip


def _diff_csv(report: DiffReport, _style: Style) -> str:
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    if report.names:
        write([*report.names, *DIFF_CELL_ROWS])
        for cell in report.cells:
            write([*cell.index.values(), *(_bare(getattr(cell, name), "") for name in DIFF_CELL_ROWS)])
        return text.getvalue()
    found = report.as_dict() | {"max_abs": None if report.worst is None else report.worst.difference}
    write(["a", "b", *_DIFF_COLUMNS])
    names = (csv_cell(printable(operand.name, limit=None)) for operand in (report.a, report.b))
    write([*names, *("" if found.get(name) is None else str(found[name]) for name in _DIFF_COLUMNS)])
    return text.getvalue()


def _diff_markdown(report: DiffReport, style: Style) -> str:
    header, rows, right = (
        ["", "Value"],
        [[a.strip(), printable(_rounded(b, style.precision))] for a, b in report.rows()],
        [False, False],
    )
    if report.cells:
        header, rows, right = _diff_cells(report, style)
    rule = ["---:" if is_right else "---" for is_right in right]
    table = [[_literal(cell) for cell in header], rule, *([_literal(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table) + f"\n{_literal(report.verdict)}\n"


DIFF_FORMS: Mapping[str, Callable[[DiffReport, Style], str]] = {
    "table": _diff_table,
    "plain": _diff_plain,
    "value": _diff_value,
    "json": _diff_json,
    "jsonl": _diff_jsonl,
    "csv": _diff_csv,
    "markdown": _diff_markdown,
}
"""Every form of a difference by its name on the command line."""
