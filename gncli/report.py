"""A report is data, then text: one function a form, each of which returns the whole text at once.

What came from data or the user goes through `gncli.text`; rich is imported by the one function that draws a table.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gncli.describe import (
    DEFAULT_STATISTICS,
    NONFINITE,
    STATISTICS,
    Check,
    Failure,
    NormalizeReport,
    Parameters,
    Report,
    TensorStats,
    Value,
    shape_text,
)
from gncli.text import csv_cell, printable, without_surrogates

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1
UNDEFINED = "-"
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


def render(report: Report, form: str, style: Style | None = None) -> str:
    """Return the whole text of `report` in one of `FORMS`.

    Parameters
    ----------
    report : StatsReport or NormalizeReport
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
    return FORMS[form](report, style or Style())


def seed_and_skipped(report: Report) -> list[str]:
    """Return the lines that belong on stderr where stdout carries data: a chosen seed, and what was passed over."""
    lines = [] if report.seed is None else [f"seed {report.seed} (chosen; --seed {report.seed} draws the same again)"]
    for container, count in () if isinstance(report, NormalizeReport) else report.skipped:
        lines.append(f"{printable(container)}: {_count(count, 'dataset')} skipped, not numeric")
    return lines


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
    return [(tensor.name, tensor) for tensor in report.tensors]


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
    records, shown = _records(report), _shown(report)
    labels = [STATISTICS[name].label for name in shown]
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
        right = [False, *(STATISTICS[name].numeric for name in shown), *([False] if failed else [])]
    return _drawn(header, rows, right, [] if style.quiet else _lines_under(report), style)


def _row(name: str, tensor: TensorStats | Failure, shown: list[str], style: Style, failed: bool) -> list[str]:
    if isinstance(tensor, Failure):
        return [_Name(printable(name)), *([""] * len(shown)), _Name(printable(tensor.message))]
    cells = [_rounded(tensor.value(statistic), style.precision) for statistic in shown]
    return [_Name(printable(name)), *cells, *([""] if failed else [])]


def _drawn(header: list[str], rows: list[list[str]], right: list[bool], under: list[str], style: Style) -> Console:
    """Return the console that has printed a table and the lines under it.

    Notes
    -----
    Left to itself rich fits a table to 80 columns in a pipe and cuts digits without a word. So every column's width is
    set here, and the console is as wide as their sum. On a narrower terminal headings fold at words, then names
    anywhere; if that is not enough, the terminal wraps the lines, and every digit is still there.
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
    frame = 3 * len(columns) + 1
    while style.width is not None and sum(widths) + frame > style.width and widths != floors:
        widest = max(range(len(widths)), key=lambda i: widths[i] - floors[i])
        widths[widest] -= 1

    unicode = able("╭─┬╮│├┼┤╰┴╯") == "╭─┬╮│├┼┤╰┴╯"
    table = Table(box=box.ROUNDED if unicode else box.ASCII, border_style="dim", header_style="bold")
    for title, width, is_right in zip(header, widths, right, strict=True):
        justify = "right" if is_right else "left"
        table.add_column(Text(able(title)), width=width, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for first, *rest in rows:
        table.add_row(Text(able(first), style="cyan"), *(Text(able(cell)) for cell in rest))

    console = Console(
        file=io.StringIO(),
        record=True,
        width=max(sum(widths) + frame, style.width or 0),
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
    console.print(table)
    for line in under:
        text = Text(able(line))
        text.highlight_words(["check: ok"], "green")
        text.highlight_words(["check: FAILED"], "bold red")
        # On a terminal lines are broken at words; a pipe has them whole.
        console.print(text, soft_wrap=style.width is None)
    return console


# The other forms.


def _plain(report: Report, _style: Style) -> str:
    records = _records(report)
    named = len(records) > 1 and not (isinstance(report, NormalizeReport) and not report.stages)
    blocks = []
    for heading, tensor in records:
        head = [f"{_key(report).capitalize()}:  {printable(heading)}"] if named else []
        if isinstance(tensor, Failure):
            blocks.append([*head, f"Error:  {printable(tensor.message)}"])
        else:
            blocks.append([*head, *tensor.lines(_selected(report))])
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
            cells = [_bare(tensor.value(statistic), "") for statistic in chosen]
            write([name, *cells, *([""] if failed else [])])
    return text.getvalue()


def _markdown(report: Report, style: Style) -> str:
    records, shown = _records(report), _shown(report)
    failed = any(isinstance(tensor, Failure) for _, tensor in records)
    header = [_key(report).capitalize(), *(STATISTICS[name].label for name in shown), *(["Error"] if failed else [])]
    right = [False, *(STATISTICS[name].numeric for name in shown), *([False] if failed else [])]
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
