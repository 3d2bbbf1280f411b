"""One module per command: it parses, runs one task, and prints one report. Here is what all of them share.

NumPy, h5py and rich are imported by the commands that need them, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gncli import progress
from gncli.commands import terminal
from gncli.errors import GncliError
from gncli.text import printable

if TYPE_CHECKING:
    from gncli.commands.options import Look
    from gncli.report import Report
    from gncli.report.records import Broken

MOST_JSON_CELLS = 100_000


def error_line(error: GncliError) -> str:
    """Return the line that tells the user of an error."""
    subject = f"{printable(error.subject)}: " if error.subject else ""
    facts = "; ".join(filter(None, (error.problem, error.hint)))
    return f"{terminal.ERROR} {subject}{printable(facts, limit=2000)}"


def show(report: Report, look: Look, *, answered: bool = False) -> None:
    """Print a report. Where stdout carries only data, everything else goes to stderr.

    A quiet table is left out if the answer is `answered` elsewhere: on stderr, or in a file. Of a comparison, its
    verdict is left.
    """
    from gncli.report import render, verdict_of
    from gncli.report.style import Style

    style = Style(
        precision=look.precision,
        color=terminal.colored(look.color, terminal.is_terminal(sys.stdout)),
        width=terminal.width(),
        encoding=getattr(sys.stdout, "encoding", "utf-8"),
        quiet=look.quiet > 0,
    )
    verdict = verdict_of(report) if look.quiet and look.form == "table" else None
    if verdict is not None and look.quiet == 1:
        terminal.deliver(f"{verdict}\n")
    elif look.quiet < 2 and not (look.quiet and look.form == "table" and (answered or report.output is not None)):
        terminal.deliver(render(report, look.form, style))
    if look.quiet < 2 and (look.form != "table" or look.quiet):
        say_aside(report)


def say_aside(report: Report, *more: str) -> None:
    """Say on stderr what a reader of the data should know: the seed, notes, and `more`."""
    from gncli.report import aside

    for line in (*aside(report), *more):
        terminal.say(f"gncli: {line}")


def say_broken(broken: Broken) -> None:
    """Say on stderr which expectations did not hold."""
    if broken.total:
        from gncli.report.lines import broken_lines

        for line in broken_lines(broken):
            terminal.say(f"gncli: {line}")


@contextmanager
def session(look: Look) -> Iterator[None]:
    """Show the progress of the task inside, if it takes long and stderr is a terminal."""
    if look.quiet or not terminal.is_terminal(sys.stderr) or os.environ.get("TERM", "") in progress.DUMB:
        yield
        return
    color = terminal.colored(look.color, stream_is_terminal=True)
    with progress.shown(sys.stderr.fileno(), color=color, encoding=sys.stderr.encoding):
        yield
