"""The sentences under a table, or on stderr beside data: what was done, the check, a seed, what was passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gncli.report.records import Histogram, NormalizeReport, Parameters, Report, StatsReport
from gncli.report.style import UNDEFINED, Style
from gncli.text import printable

if TYPE_CHECKING:
    from gncli.report.verdict import DiffReport

PIPE_WIDTH = 80  # columns of a histogram where there is no terminal


def seed_and_skipped(report: Report | DiffReport) -> list[str]:
    """Return the lines that belong on stderr where stdout carries data: a chosen seed, and what was passed over."""
    lines = [] if report.seed is None else [f"seed {report.seed} (chosen; --seed {report.seed} draws the same again)"]
    for container, count in report.skipped if isinstance(report, StatsReport) else ():
        lines.append(f"{printable(container)}: {_count(count, 'dataset')} skipped, not numeric")
    return lines + [printable(note) for note in report.notes]


def broken_lines(report: StatsReport) -> list[str]:
    """Return the expectations that did not hold: the first ones, then how many more."""
    lines = [f"expectation failed: {printable(text)}" for text in report.broken.first]
    more = report.broken.total - len(lines)
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
        f"check: {'ok' if check.ok else 'FAILED'}: {_count(check.groups, 'group')}"
        f"{'' if check.mean_error is None else measured}; {check.constant_groups} constant, "
        f"{check.nonfinite_groups} with NaN or infinity, {check.overflowed} overflowed"
    )


def title_of(report: Report | DiffReport) -> str:
    """Return what a page of its own is called: the command, and the tensors."""
    if isinstance(report, StatsReport):
        names = [report.output] if report.output is not None else [tensor.name for tensor in report.tensors]
        shown = [*names[:2], *([f"and {len(names) - 2:,} more"] if len(names) > 2 else [])]
        return printable(f"gncli {report.command} {' '.join(shown)}")
    names = [report.input] if isinstance(report, NormalizeReport) else [report.a.name, report.b.name]
    command = "normalize" if isinstance(report, NormalizeReport) else "diff"
    return printable(f"gncli {command} {' '.join(names)}")


def lines_under(report: Report) -> list[str]:
    """Return what stands under a table."""
    if isinstance(report, NormalizeReport):
        where = output_line(report.output, written=report.status == 0)
        done = [done_line(report.parameters), where, check_line(report)]
    else:
        done = [] if report.output is None else [output_line(report.output, written=True)]
    return done + seed_and_skipped(report)


def output_line(output: str | None, *, written: bool) -> str:
    """Return where the result went."""
    if output is None:
        return "nothing written (no -o)"
    return f"written to {printable(output)}" if written else f"nothing written to {printable(output)}"


def histogram_lines(histogram: Histogram, style: Style) -> list[str]:
    """Return a histogram, drawn in characters."""
    from gncli.report.bars import EIGHTHS, FRAME, bars

    blocks = style.fits(EIGHTHS + "".join(FRAME))
    return bars(histogram, style.width or PIPE_WIDTH, blocks=blocks, precision=style.precision)


def done_line(p: Parameters) -> str:
    """Return what was done, with every default resolved."""
    return (
        f"layout {p.layout}, {_count(p.groups, 'group')} of {_count(p.group_size, 'channel')}, eps {_exact(p.eps)}, "
        f"gamma {_exact(p.gamma)}, beta {_exact(p.beta)}, denominator {p.denominator}, dtype {p.dtype}"
    )


def _exact(given: float | str) -> str:
    return printable(given) if isinstance(given, str) else repr(given).removesuffix(".0")


def _fraction(error: float | None) -> str:
    return UNDEFINED if error is None else f"{error:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
