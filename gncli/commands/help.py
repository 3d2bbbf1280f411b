"""``gncli help``: the pages of `gncli/docs`, and the help pages of the commands."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from gncli.commands import about, terminal
from gncli.names import nearest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PAGERS = ("less", "more")
"""Where ``$PAGER`` names none: the first that is installed."""

TOPICS: Mapping[str, str] = {
    "tour": "Every feature, with its output.",
    "recipes": "Tasks of ten lines each.",
    "reference": "Every option, how a tensor is named, every error.",
    "statistics": "Each name that -s takes, with its formula.",
    "numbers": "The formula, how exact it is, and the check.",
    "reliability": "What is promised when things go wrong, and how it is kept.",
    "speed": "How fast it is, and why it is not faster.",
    "scale": "More than one machine: parts, a cluster.",
    "design": "How gncli is built.",
    "contributing": "How to test and change it.",
}
"""The pages, each with a line on what it is about."""

WIDEST = 100  # columns of a paragraph

WHOLE: Mapping[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
"""How lines are broken: not in the middle of a word."""


def suggest(ctx: click.Context, _param: object, typed: str) -> list[str | CompletionItem]:
    """Return the commands and pages whose names begin as what was typed."""
    return [name for name in (*_commands(ctx), *TOPICS) if name.startswith(typed)]


@click.command("help")
@click.argument("topic", metavar="[COMMAND | PAGE]", required=False, shell_complete=suggest)
@about.helpful
@click.pass_context
def help(ctx: click.Context, topic: str | None) -> None:  # noqa: A001  # its command line is the same word
    """Show the help of a command, or a page of the documentation.

    \b
    gncli help                what there is
    gncli help normalize      the same as gncli normalize --help
    gncli help tour           every feature, with its output

    On a terminal a page is shown by $PAGER.
    """
    commands = _commands(ctx)
    if topic is None:
        terminal.deliver(_overview())
    elif topic in commands:
        command = commands[topic]
        page = click.Context(command, parent=ctx.parent, info_name=topic, **command.context_settings)
        terminal.deliver(command.get_help(page) + "\n")
    elif topic in TOPICS:
        _show(_page(topic))
    else:
        known = (*commands, *TOPICS)
        hint = nearest(topic, known) or f"choose one of {', '.join(known)}"
        raise click.UsageError(f"{topic!r} is neither a command nor a page; {hint}", ctx)


def _commands(ctx: click.Context) -> Mapping[str, click.Command]:
    group = ctx.find_root().command
    return group.commands if isinstance(group, click.Group) else {}


def _overview() -> str:
    """Return the list of commands and pages."""
    from gncli.commands.group import PURPOSES

    formatter = click.HelpFormatter(max_width=80)
    formatter.write_usage("gncli help", "[COMMAND | PAGE]")
    with formatter.section("Commands"):
        formatter.write_dl(list(PURPOSES.items()))
    with formatter.section("Pages"):
        formatter.write_dl(list(TOPICS.items()))
    return formatter.getvalue()


def _page(topic: str) -> str:
    """Return a page without its comments, which are for whatever writes a part of it."""
    from importlib.resources import files

    page = files("gncli").joinpath("docs", f"{topic}.md")
    return re.sub(r"<!--.*?-->\n*", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _show(text: str) -> None:
    """Write a page to stdout; on a terminal, become the pager that shows it."""
    import shutil
    import tempfile

    pager = os.environ.get("PAGER") or next(filter(shutil.which, PAGERS), None)
    if pager is None or not terminal.is_terminal(sys.stdout):
        terminal.deliver(text)
        return
    with tempfile.TemporaryFile() as page:  # the pager's stdin; it reads keys from the terminal
        page.write(fitted(text, min(terminal.width() or 80, WIDEST)).encode(sys.stdout.encoding, "backslashreplace"))
        page.seek(0)
        os.dup2(page.fileno(), 0)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the pager would inherit that
    os.execv("/bin/sh", ["sh", "-c", pager])  # noqa: S606  # a command line, which is what $PAGER holds


def fitted(page: str, width: int) -> str:
    r"""Return a page whose paragraphs and list items are broken between words; headings, tables and code stay.

    Examples
    --------
    >>> print(fitted("# A heading\n\n* an item of a list\n  that goes on\n\n```\nsome line of code\n```\n", 12), end="")
    # A heading
    <BLANKLINE>
    * an item of
      a list
      that goes
      on
    <BLANKLINE>
    ```
    some line of code
    ```
    """
    import textwrap

    found: list[str] = []
    words: list[str] = []
    mark, code = "", False

    def end() -> None:
        hanging = " " * len(mark)
        found.extend(textwrap.wrap(" ".join(words), width, initial_indent=mark, subsequent_indent=hanging, **WHOLE))
        words.clear()

    for line in page.splitlines():
        fence, item = line.startswith("```"), re.match(r" *(?:[*]|\d+\.) +", line)
        stays = fence or code or not line.strip() or line.startswith(("| ", "|-", "#"))
        code = code is not fence
        if stays or item:
            end()
        if stays:
            found.append(line)
        else:
            mark = mark if words else item[0] if item else ""
            words.append(line[len(item[0]) if item else 0 :].strip())
    end()
    return "\n".join([*found, ""])
