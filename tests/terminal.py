"""A terminal for tests: a pseudo-terminal that a process writes to, and what its screen shows in the end."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTROL = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|(.)", re.DOTALL)


def take_terminal() -> None:
    """Make the terminal on stderr that which controls this process."""
    os.setsid()
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)


class Terminal:
    """A pseudo-terminal: `fd` is its end for a process, `close` its hanging up."""

    def __init__(self, columns: int = 100) -> None:
        self.ours, self.fd = os.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def start(
        self,
        arguments: Sequence[str],
        hook: str = "",
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start gncli, this its controlling terminal, on stderr and, unless that is given, on stdout."""
        # Coverage too: a signal that comes while it holds its lock would stop it for ever.
        removed = ("NO_COLOR", "PYTHONUNBUFFERED", "FORCE_COLOR", "COLUMNS", "GNCLI_", "COV")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(removed)}
        code = f"import sys\n{hook}\nfrom gncli.__main__ import main\nsys.exit(main())"
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=stdin,
            stdout=self.fd if stdout is None else stdout,
            stderr=self.fd,
            env=kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONUTF8": "1"} | dict(environment or {}),
            preexec_fn=take_terminal,
        )

    def read(self) -> bytes:
        """Return all that was written until the last process let go of it."""
        self.let_go()
        data = b""
        while piece := self._piece():
            data += piece
        return data

    def _piece(self) -> bytes:
        try:
            return os.read(self.ours, 1 << 16)
        except OSError:  # Linux says it so when nobody is left at the other end
            return b""

    def let_go(self) -> None:
        """Close the end for processes."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Hang up."""
        self.let_go()
        os.close(self.ours)


def screen(text: str, columns: int = 100) -> list[str]:
    """Return the lines that a terminal shows after `text`; raise AssertionError if one wrapped, or a cursor is hidden.

    Of control sequences those are known that gncli may send.
    """
    lines, row, column = [""], 0, 0
    for given, kind, character in CONTROL.findall(text):
        if kind == "K":
            assert given == ""
            lines[row] = lines[row][:column]
        elif kind:
            assert kind == "m", f"ESC [ {given} {kind}"
        elif character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            lines.append("")
        else:
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
            assert column < columns, lines[row]
    return lines


def pictures(text: str) -> list[str]:
    """Return what was drawn in turn on a line that is taken back, without colour."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return [drawn for drawn in re.findall(r"\r([^\r\n]*?)\x1b\[K", plain) if drawn]
