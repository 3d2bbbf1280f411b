"""stdout and stderr: how text is written to them, and whether they are terminals."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
from typing import Any

from gncli import progress
from gncli.descriptors import write_fully
from gncli.errors import OutputError, ParameterError

ERROR = "gncli: error:"
"""How an error begins."""


def deliver(text: str) -> None:
    """Write all of `text` to stdout, without Python's buffer, so that an exit status of 0 means that it arrived."""
    if sys.stdout is None:
        raise OutputError("it is closed, and there is a report to write", subject="<stdout>")
    data = text.encode(sys.stdout.encoding, "backslashreplace")
    progress.clear()
    try:
        write_fully(sys.stdout.fileno(), memoryview(data))
    except BrokenPipeError:  # pragma: no cover  # the process dies of it, and what it covered is lost
        raise
    except OSError as error:
        raise OutputError(error.strerror or "it cannot be written", subject="<stdout>") from error


def say(line: str) -> None:
    """Write a line to stderr; an error is ignored, since it could be reported nowhere else."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    progress.clear()
    if line.startswith(ERROR) and colored("auto", is_terminal(sys.stderr)):
        line = f"\x1b[1;31m{ERROR}\x1b[0m{line.removeprefix(ERROR)}"
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(encoding, "backslashreplace"))


def colored(choice: str, stream_is_terminal: bool) -> bool:
    """Return whether to colour, given --color: ``auto`` respects NO_COLOR and a dumb terminal."""
    if choice != "auto":
        return choice == "always"
    return stream_is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_terminal(stream: Any) -> bool:
    """Return whether `stream` is a terminal; None, a closed stream, is not."""
    return stream is not None and bool(stream.isatty())


def width() -> int | None:
    """Return the columns of the terminal that stdout is, or $COLUMNS where it is something else; None is no limit."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (AttributeError, OSError, ValueError):  # closed, a pipe or a file, replaced
        columns = os.environ.get("COLUMNS", "")
        return int(columns) or None if columns.isdecimal() and len(columns) < 6 else None


def refuse_unfit_stdout() -> None:
    """Raise unless stdout can take binary data."""
    if sys.stdout is None:
        raise OutputError("it is closed", subject="<stdout>")
    if is_terminal(sys.stdout):
        raise ParameterError("binary data are not written to a terminal; send them to a pipe or a file", subject="-o -")


def refuse_report_in_tensor() -> None:
    """Raise if stdout is a file with the name of a tensor: the report would be written there, and not the tensor."""
    from gncli.names import TENSOR_SUFFIXES

    with contextlib.suppress(OSError):  # not every system has /proc
        name = os.readlink("/proc/self/fd/1")
        if name.lower().endswith(TENSOR_SUFFIXES) and stat.S_ISREG(os.fstat(1).st_mode):
            shown = shlex.quote(os.path.basename(name))
            raise ParameterError(
                f"stdout is the file {shown}, and the report would be written there", hint=f"say -o {shown}, or -o -"
            )
