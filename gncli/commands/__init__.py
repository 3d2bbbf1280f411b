"""One module a command: it parses, calls one operation, and prints one report. Here is what they all do around it.

NumPy, h5py and rich are imported by the commands that need them, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gncli import progress
from gncli.commands import options, terminal
from gncli.errors import GncliError
from gncli.names import PICTURE_FORMS, REPORT_FORMS
from gncli.text import printable

if TYPE_CHECKING:
    from gncli.report import Report

HIST_FORMS = ("table", "plain", "json", "jsonl")
"""The forms that have a place for a histogram."""

MOST_CELLS = 1000  # in a table
MOST_JSON_CELLS = 100_000


def error_line(error: GncliError) -> str:
    """Return the one line that an error is to its user."""
    subject = f"{printable(error.subject)}: " if error.subject else ""
    facts = "; ".join(filter(None, (error.problem, error.hint)))
    return f"gncli: error: {subject}{printable(facts, limit=2000)}"


def check_grouping(num_groups: int | None, group_size: int | None) -> None:
    """Raise if both ways to say the groups are given."""
    if num_groups is not None and group_size is not None:
        raise click.UsageError("either --groups or --group-size, not both")


def check_cells(by: str | None, num_groups: int | None, group_size: int | None, layout: str | None) -> None:
    """Raise unless what is said of cells goes together."""
    check_grouping(num_groups, group_size)
    if by is None and (num_groups, group_size, layout) != (None, None, None):
        raise click.UsageError("--groups, --group-size and --layout are about cells; give --by too")


def bins_shown(hist: bool, bins: int, form: str) -> int | None:
    """Return the bins of the histogram in a report, None where there is to be none."""
    if hist and form not in HIST_FORMS:
        raise click.UsageError(f"{form} has no place for a histogram; choose --format {', '.join(HIST_FORMS)}")
    return bins if hist else None


def look_of(rest: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `options.reporting` out of `rest`; what stays is for the operation."""
    return {name: rest.pop(name) for name in ("form", "precision", "color", "quiet")}


class Beside:
    """The files of ``--plot`` and ``--report``: begun before anything is computed, and removed if it fails.

    The picture and the bytes of the report are on the disk before the output replaces anything, so that what can fail
    has failed by then; `commit` shows the report, which says what was written, when it was.

    Parameters
    ----------
    rest : dict
        The options of a command, of which ``plot`` and ``report_file`` are taken out.
    precision : int
        Significant digits of tables.
    inputs : sequence of str
        The tensors that will be read, as they were named.
    outputs : sequence of str
        What else will be written; None is nothing.
    """

    def __init__(
        self,
        rest: dict[str, Any],
        precision: int,
        inputs: Sequence[str | float],
        outputs: Sequence[str | None] = (),
    ) -> None:
        plot, report = rest.pop("plot", None), rest.pop("report_file")
        self.draws = plot is not None
        self.form = None if report is None else REPORT_FORMS[options.suffix_of(report)]
        self._picture = None if plot is None else PICTURE_FORMS[options.suffix_of(plot)]
        self._precision = precision
        self._pages: dict[str, Any] = {}
        if self.draws:
            from gncli.report.plot import require

            require()
        for name, path, others in (("plot", plot, outputs), ("report", report, (*outputs, plot))):
            if path is not None:
                from gncli import io

                names = [given for given in inputs if isinstance(given, str)]
                self._pages[name] = io.open_page(path, force=rest["force"], inputs=names, outputs=others)
                click.get_current_context().call_on_close(self._pages[name].abort)

    def asks(self, bins: int | None = None, *, in_time: bool = True) -> dict[str, Any]:
        """Return what an operation is asked for more: data for a picture, and the report before its output is there."""
        wanted: dict[str, Any] = {"before_commit": self.write} if self._pages and in_time else {}
        return wanted | ({"picture": bins} if self.draws else {})

    def append(self, text: str) -> None:
        """Write the next part of a report that comes in parts."""
        self._pages["report"].write(text.encode())

    def write(self, report: Report) -> None:
        """Draw the picture, and show it; write the report."""
        if self._picture is not None:
            from gncli.report.plot import draw

            self._pages["plot"].write(draw(report, self._picture))
        if self.form is not None:
            from gncli.report import render
            from gncli.report.style import Style

            self.append(render(report, self.form, Style(precision=self._precision)))
        if self._picture is not None:
            self._pages["plot"].commit()

    def commit(self) -> None:
        """Show the report."""
        if self.form is not None:
            self._pages["report"].commit()


def show(report: Report, form: str, precision: int, color: str, quiet: bool) -> None:
    """Print one report; what is not data goes to stderr where stdout carries data alone."""
    from gncli.report import render
    from gncli.report.style import Style

    style = Style(
        precision=precision,
        color=options.colored(color, terminal.is_terminal(sys.stdout)),
        width=options.terminal_width(),
        encoding=getattr(sys.stdout, "encoding", "utf-8"),
        quiet=quiet,
    )
    if not (quiet and form == "table" and report.output is not None):  # the data are in the file
        terminal.deliver(render(report, form, style))
    if form != "table" or quiet:
        say_aside(report)


def say_aside(report: Report, *more: str) -> None:
    """Say on stderr what belongs beside the data."""
    from gncli.report import aside

    for line in (*aside(report), *more):
        terminal.say(f"gncli: {line}")


def operations() -> None:
    """Show the progress bar of a task, where there is a terminal for it."""
    root = click.get_current_context().find_root()
    given = click.get_current_context().params
    if not given["quiet"] and terminal.is_terminal(sys.stderr) and os.environ.get("TERM", "") not in progress.DUMB:
        color = options.colored(given["color"], stream_is_terminal=True)
        root.with_resource(progress.shown(sys.stderr.fileno(), color=color, encoding=sys.stderr.encoding))
