"""What a shell may suggest at a place of the command line; `gncli.commands.shells` says it to the shell.

Suggestions are looked up for whoever presses TAB, perhaps in a directory that others write to. So a name that holds a
control character is left out, and what is in a file is listed within `SECONDS` or not at all.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gncli.names import COMPRESSIONS, OUTPUT_SUFFIXES, STATISTICS, TENSOR_SUFFIXES
from gncli.text import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SECONDS = 1.0  # until there is no suggestion from inside a file
LAYOUTS = ("NC", "NCL", "NLC", "NCHW", "NHWC", "NCDHW", "NDHWC", "CNHW", "CHW", "HWC")
CUTS = ("C", "N", "N,C", "group")
PERCENTILES = ("p1", "p99", "p99.9")
WAYS = [way for name, (levels, _) in COMPRESSIONS.items() for way in (name, *(f"{name}={n}" for n in levels[:10]))]

_MARGIN = 0.05  # seconds to tell what was found

Suggest = Callable[[Any, Any, str], "list[str | CompletionItem]"]
"""Takes what click tells it, context, parameter and what was typed, and returns what that may become."""


def words(*known: str) -> Suggest:
    """Return what suggests the words that begin as what was typed."""
    return lambda _ctx, _param, typed: [word for word in known if word.startswith(typed)]


layouts = words(*LAYOUTS)
cuts = words(*CUTS)
compressions = words(*WAYS)
orders = words(*STATISTICS, *(f"-{name}" for name in STATISTICS))


def statistics(_ctx: object, _param: object, typed: str) -> list[str | CompletionItem]:
    """Return what the last of some statistics, comma-separated, may become."""
    head, comma, last = typed.rpartition(",")
    taken = set(head.split(","))
    known = (*STATISTICS, *PERCENTILES, "all")
    return [f"{head}{comma}{name}" for name in known if name.startswith(last) and name not in taken]


def expectations(_ctx: object, _param: object, typed: str) -> list[str | CompletionItem]:
    """Return what the statistic in an expectation may become, as long as nothing follows it."""
    match = re.fullmatch(r"(abs\()?([\w.]*)", typed)
    if match is None:
        return []
    opened, begun = match[1] or "", match[2]
    return [f"{opened}{name}{')' if opened else ''}" for name in STATISTICS if name.startswith(begun)]


def files(*suffixes: str) -> Suggest:
    """Return what suggests files that end in one of `suffixes`, and directories."""

    def suggest(_ctx: object, _param: object, typed: str) -> list[str | CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(typed, type="file", suffixes=suffixes)]

    return suggest


outputs = files(*OUTPUT_SUFFIXES)


def tensors(ctx: object, param: object, typed: str) -> list[str | CompletionItem]:
    """Return what a TENSOR may become: a file, or a name inside one."""
    if "::" in typed and not os.path.lexists(typed):
        return list(_inside(typed))
    return files(*TENSOR_SUFFIXES)(ctx, param, typed)


def listed(typed: str, suffixes: Iterable[str]) -> list[str]:
    """Return the files that end in one of `suffixes`, and the directories, with a slash, that begin as was typed."""
    directory, begun = os.path.split(typed)
    wanted = tuple(suffixes)
    found = []
    try:
        with os.scandir(os.path.expanduser(directory) or ".") as entries:
            for entry in entries:
                name = entry.name
                if not name.startswith(begun) or (name.startswith(".") and not begun) or not _plain(name):
                    continue
                if entry.is_dir():
                    found.append(f"{name}/")
                elif name.lower().endswith(wanted):
                    found.append(name)
    except OSError:
        return []
    return [typed[: len(typed) - len(begun)] + name for name in sorted(found)]


def _inside(typed: str) -> Iterable[str]:
    cuts = (match.start() for match in re.finditer("(?=::)", typed))
    path = next((typed[:at] for at in cuts if os.path.lexists(os.path.expanduser(typed[:at]))), None)
    if path is None:
        return
    begun = typed[len(path) + 2 :]
    for name in _members(os.path.expanduser(path)):
        shown = name if begun.startswith("/") or not begun else name.removeprefix("/")
        if shown.startswith(begun) and _plain(shown):
            yield f"{path}::{shown}"


def _members(path: str) -> list[str]:
    """Return the names of the tensors in a file; none if it is no container, takes too long, or cannot be read."""
    end = time.monotonic() + SECONDS
    signal.setitimer(signal.ITIMER_REAL, SECONDS)  # ends the process, whatever it is at: then there is no suggestion
    try:
        from gncli.errors import GncliError
        from gncli.io import member_names

        try:
            return member_names(path, max(_MARGIN, end - _MARGIN - time.monotonic()))
        except GncliError:
            return []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _plain(name: str) -> bool:
    """Return whether a name is one line of printable characters."""
    return printable(name, limit=None) == name
