"""The progress bar: one line on the terminal behind stderr, from the second second of a command to its end.

Each pass is announced by `begin`, and `advance` counts its bytes. Without a bar, as in a pipe, in a library or in a
worker of a cluster, both do nothing.

Notes
-----
The bar has no thread: the thread that takes the results draws it between two of them, since only a process of one
thread may fork, and files are tried in forks. The cursor is never hidden, so nothing must be restored however the
process ends. If several gncli share a terminal, as in a pipeline, one draws at a time, which a lock on the terminal
ensures; a process in the background does not draw.

`rich.progress` is not used: at 60 columns its table wraps to a second line, and at 50 it cuts away the counts and
keeps the text. Here the name loses its middle first, then the bar goes, then the text, and the counts stay.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from threading import RLock
from typing import TYPE_CHECKING

from gncli import signals
from gncli.text import printable

if TYPE_CHECKING:
    from rich.console import Console

DELAY = 1.0  # seconds: a command that takes less needs no bar
PERIOD = 0.1  # seconds between two pictures
DUMB = ("", "dumb", "unknown")  # terminals that cannot clear a line

clock = time.monotonic

_SAMPLES = 100  # pictures, so that the throughput is that of the last 10 seconds
_WIDEST = 40  # columns of the bar itself
_NARROWEST = 8
_SHORTEST_NAME = 12
_CLEARED = b"\r\x1b[K"

_bar: Bar | None = None


def begin(doing: str, name: str, nbytes: int | None, passes: int = 1, spans: int = 1) -> None:
    """Announce `passes` over each of `spans` parts of a tensor.

    Parameters
    ----------
    doing : str
        What the passes do, in a word.
    name : str
        The tensor.
    nbytes : int or None
        Size of the whole tensor, counted once; None if it is not known.
    passes : int
        How often each byte is read.
    spans : int
        How many parts there are. The passes over one part are shown one by one. Each of several parts has all its
        passes before the next part begins, and so they are shown as one.
    """
    if _bar is not None:
        _bar.begin(doing, name, nbytes, passes, spans)


def advance(nbytes: int) -> None:
    """Count `nbytes` more."""
    if _bar is not None:
        _bar.advance(nbytes)


def retrying(why: str) -> None:
    """Say in the line that a request is sent again, and why, until more bytes come; any thread may say it."""
    if _bar is not None:
        _bar.retrying(why)


def clear() -> None:
    """Clear the line, for something else to be written; the next picture brings the bar back."""
    if _bar is not None:
        _bar.clear()


@contextlib.contextmanager
def shown(fd: int, *, color: bool = False, encoding: str = "utf-8") -> Iterator[None]:
    """Show a bar on the terminal `fd`, and clear it at the end, whether by an error or by a signal."""
    global _bar
    _bar = Bar(fd, color=color, encoding=encoding)
    signals.cleanups[_bar] = _bar.clear
    try:
        yield
    finally:
        _bar.close()
        del signals.cleanups[_bar]
        _bar = None


class Bar:
    """The line on the terminal.

    Parameters
    ----------
    fd : int
        The terminal.
    color : bool
        Whether it takes colours.
    encoding : str
        Its encoding. Characters outside it are escaped, and outside UTF-8 the bar is drawn in ASCII.
    """

    def __init__(self, fd: int, *, color: bool = False, encoding: str = "utf-8") -> None:
        self._fd, self._color, self._encoding = fd, color, encoding
        self._console: Console | None = None
        self._drawn = self._locked = False
        self._waiting = ""
        self._drawing = RLock()  # a thread that makes requests may draw too, and so may a signal in the middle of it
        self._due = clock() + DELAY
        self.begin("", "", None)

    def begin(self, doing: str, name: str, nbytes: int | None, passes: int = 1, spans: int = 1) -> None:
        """Start to count anew."""
        if spans > 1 and passes > 1 and nbytes is not None:
            doing, nbytes, passes = f"{doing}, {passes} passes", passes * nbytes, 1
        self._doing, self._name, self._total, self._passes = doing, name, nbytes, passes
        self._restart(1)

    def _restart(self, number: int) -> None:
        self._pass, self._done = number, 0
        self._samples = deque([(clock(), 0)], maxlen=_SAMPLES)

    def advance(self, nbytes: int) -> None:
        """Count, and draw a picture if the last one is old."""
        self._done += nbytes
        self._waiting = ""
        if self._done == self._total and self._pass < self._passes:
            self._restart(self._pass + 1)
        now = clock()
        if now >= self._due:
            self._due = now + PERIOD
            self._draw(now)

    def retrying(self, why: str) -> None:
        """Say why nothing comes, if the bar is due."""
        self._waiting = why
        now = clock()
        if now >= self._due:
            self._draw(now)

    def _draw(self, now: float) -> None:
        with self._drawing:
            self._drawn_now(now)

    def _drawn_now(self, now: float) -> None:
        if not (_in_front(self._fd) and self._alone()):
            self._drawn = False  # the line belongs to another process now
            return
        self._samples.append((now, self._done))
        picture = self._picture()
        self._drawn = True  # before it is drawn, since a signal may come in between
        with contextlib.suppress(OSError):
            os.write(self._fd, b"\r" + picture + b"\x1b[K\r")  # back to the start, so that echoed keys do not wrap

    def clear(self) -> None:
        """Clear the line, and leave the cursor at its beginning."""
        with self._drawing:
            self._cleared()

    def _cleared(self) -> None:
        if self._drawn and _in_front(self._fd):
            with contextlib.suppress(OSError):
                os.write(self._fd, _CLEARED)
        self._drawn = False

    def close(self) -> None:
        """Clear the line, and let the next process draw."""
        self.clear()
        if self._locked:
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _alone(self) -> bool:
        """Return whether no other gncli draws on this terminal; lock it then."""
        import fcntl

        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._locked = True
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # some systems cannot lock a terminal
            pass
        return True

    def _picture(self) -> bytes:
        """Return the line, a column narrower than the terminal, so that it never wraps.

        Where it does not fit, the name is cut, then the bar goes, then the text; the counts stay.
        """
        from rich.cells import cell_len
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        width = self._width()
        counts = self._counts()
        doing = self._waiting or self._doing + (f", pass {self._pass} of {self._passes}" if self._passes > 1 else "")
        free = width - len(counts) - 1
        name = printable(self._name, limit=None).encode(self._encoding, "backslashreplace").decode(self._encoding)
        limit = free - len(f": {doing}") - _NARROWEST - 1
        if limit >= min(_SHORTEST_NAME, cell_len(name)):
            doing = f"{printable(name, limit * len(name) // max(1, cell_len(name)))}: {doing}"
        pieces: list[tuple[Text | ProgressBar, int]] = []
        if cell_len(doing) <= free:
            pieces.append((Text(doing, style="cyan"), cell_len(doing)))
            free -= cell_len(doing) + 1
        bar = min(_WIDEST, free)
        if self._total and bar >= _NARROWEST:
            gauge = ProgressBar(total=self._total, completed=self._done, width=bar, finished_style="bar.complete")
            pieces.append((gauge, bar))
        pieces.append((Text(counts), min(len(counts), width)))
        table = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        for _, columns in pieces:
            table.add_column(width=columns, no_wrap=True, overflow="crop")
        table.add_row(*(piece for piece, _ in pieces))
        return self._printed(table, width)

    def _width(self) -> int:
        with contextlib.suppress(OSError):  # the terminal is gone
            return (os.get_terminal_size(self._fd).columns or 80) - 1
        return 79

    def _counts(self) -> str:
        """Return bytes, throughput and time left, as far as they are known, aligned so that they do not move."""
        from datetime import timedelta

        from rich.filesize import decimal

        (first, before), (now, done) = self._samples[0], self._samples[-1]
        speed = (done - before) / (now - first) if now > first else 0.0
        rate = f"{decimal(int(speed)):>8}/s"
        if self._total is None:
            return f"{decimal(done):>8} {rate}"
        left = timedelta(seconds=round((self._total - done) / speed)) if speed else "-:--:--"
        return f"{decimal(done):>8} of {decimal(self._total)} {rate} {left!s:>7} left"

    def _printed(self, table: object, width: int) -> bytes:
        if self._console is None:
            import io

            from rich.console import Console

            self._console = Console(
                file=io.TextIOWrapper(io.BytesIO(), self._encoding, "backslashreplace", write_through=True),
                height=25,
                color_system="standard" if self._color else None,
                force_terminal=self._color,
                force_jupyter=False,
                no_color=not self._color,
                legacy_windows=False,
                markup=False,
                emoji=False,
                highlight=False,
                _environ={},  # the caller has looked at NO_COLOR and TERM
            )
        self._console.width = width
        with self._console.capture() as captured:
            self._console.print(table)
        return captured.get().partition("\n")[0].rstrip().encode(self._encoding, "backslashreplace")


def _in_front(fd: int) -> bool:
    """Return whether this process is in the foreground of `fd`, or `fd` is not its controlling terminal."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return True
