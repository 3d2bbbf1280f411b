"""One module a command: it parses, calls one operation, and prints one report. Here is what they all do around it.

NumPy, h5py and rich are imported by the commands that need them, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from gncli import options, process
from gncli.describe import DiffReport, Report
from gncli.errors import GncliError
from gncli.text import printable

if TYPE_CHECKING:
    from types import ModuleType


HIST_FORMS = ("table", "plain", "json", "jsonl")
"""The forms that have a place for a histogram."""

MOST_JSON_CELLS = 100_000


def error_line(error: GncliError) -> str:
    """Return the one line that an error is to its user."""
    subject = f"{printable(error.subject)}: " if error.subject else ""
    facts = "; ".join(filter(None, (error.problem, error.way_out)))
    return f"gncli: error: {subject}{printable(facts, limit=2000)}"


def look_of(rest: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `options.reporting` out of `rest`; what stays is for the operation."""
    return {name: rest.pop(name) for name in ("form", "precision", "color", "quiet")}


def show(report: Report | DiffReport, form: str, precision: int, color: str, quiet: bool) -> None:
    """Print one report; what is not data goes to stderr where stdout carries data alone."""
    from gncli.report import Style, render

    style = Style(
        precision=precision,
        color=options.colored(color, process.is_terminal(sys.stdout)),
        width=options.terminal_width(),
        encoding=getattr(sys.stdout, "encoding", "utf-8"),
        quiet=quiet,
    )
    if not (quiet and form == "table" and report.output is not None):  # the data are in the file
        process.deliver(render(report, form, style))
    if form != "table" or quiet:
        say_aside(report)


def say_aside(report: Report | DiffReport, *more: str) -> None:
    """Say on stderr what belongs beside the data."""
    from gncli.report import seed_and_skipped

    for line in (*seed_and_skipped(report), *more):
        process.say(f"gncli: {line}")


def operations() -> ModuleType:
    """Return the operations, whose import is what a command pays for NumPy and h5py."""
    import gncli.operations as operations_of_gncli
    from gncli.io.stream import listen

    root = click.get_current_context().find_root()
    listen(root.obj)  # a signal then ends a read of stdin at once
    root.call_on_close(lambda: listen(None))
    return operations_of_gncli
