"""The terminal, or whatever stands in its place: what is delivered to stdout and said on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from gncli import progress
from gncli.descriptors import write_fully
from gncli.errors import OutputError, ParameterError


def deliver(text: str) -> None:
    """Write all of `text` to stdout, past Python's buffer: what exits with 0 has been delivered."""
    if sys.stdout is None:
        raise OutputError("it is closed, and there is a report to write", subject="<stdout>")
    data = text.encode(sys.stdout.encoding, "backslashreplace")
    progress.clear()
    try:
        write_fully(sys.stdout.fileno(), memoryview(data))
    except BrokenPipeError:  # pragma: no cover  # dies of it, and with it what it covered
        raise
    except OSError as error:
        raise OutputError(error.strerror or "it cannot be written", subject="<stdout>") from error


def say(line: str) -> None:
    """Write a line to stderr; where that cannot be written there is nobody left to tell."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    progress.clear()
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(encoding, "backslashreplace"))


def is_terminal(stream: Any) -> bool:
    """Return whether `stream` is a terminal; a closed one, None, is not."""
    return stream is not None and bool(stream.isatty())


def refuse_unfit_stdout() -> None:
    """Raise unless stdout can take binary data."""
    if sys.stdout is None:
        raise OutputError("it is closed", subject="<stdout>")
    if is_terminal(sys.stdout):
        raise ParameterError("binary data are not written to a terminal; send them to a pipe or a file", subject="-o -")
