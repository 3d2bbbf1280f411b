"""How far a run has come: one line on the terminal that stderr is, from the second second of a command to its end.

Whoever starts a pass says so with `begin`, and whoever deals with bytes of it says with `advance` how many. Without a
bar, in a pipe, in a library, in a worker of a cluster, both do nothing.

Notes
-----
The bar has no thread of its own: it is drawn by the thread that takes the results, between two of them, since files are
tried in forks, and forks are for processes of one thread. The cursor is never hidden, so that there is nothing to put
right however the process ends. Of several gncli on one terminal, as in a pipeline, one draws at a time, which a lock on
the terminal sees to; one in the background does not draw.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gncli import signals
from gncli.text import printable

if TYPE_CHECKING:
    from rich.console import Console

DELAY = 1.0  # seconds: what is done by then needs no bar
PERIOD = 0.1  # seconds from one picture to the next
DUMB = ("", "dumb", "unknown")  # terminals on which a line cannot be taken back

clock = time.monotonic

_SAMPLES = 100  # pictures that throughput is taken over, 10 seconds
_WIDEST = 40  # columns of the bar itself
_NARROWEST = 8
_SHORTEST_NAME = 12
_CLEARED = b"\r\x1b[K"

_bar: Bar | None = None


def begin(doing: str, name: str, nbytes: int | None, passes: int = 1, spans: int = 1) -> None:
    """Say what comes now: `passes` over each of `spans` parts of a tensor.

    Parameters
    ----------
    doing : str
        What is done.
    name : str
        To which tensor.
    nbytes : int or None
        Of all of the tensor, once; None where nobody knows.
    passes : int
        How often each byte is dealt with.
    spans : int
        How many parts there are. Of one part the passes are told one by one; of several, each of which has all its
        passes before the next, they are told together.
    """
    if _bar is not None:
        _bar.begin(doing, name, nbytes, passes, spans)


def advance(nbytes: int) -> None:
    """Say that `nbytes` more have been dealt with."""
    if _bar is not None:
        _bar.advance(nbytes)


def clear() -> None:
    """Take the bar off the terminal, to which something else is about to be written; it comes back by itself."""
    if _bar is not None:
        _bar.clear()


@contextlib.contextmanager
def shown(fd: int, *, color: bool = False, encoding: str = "utf-8") -> Iterator[None]:
    """Show a bar on the terminal `fd`; it is gone at the end, however that comes."""
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
        Whether it is coloured.
    encoding : str
        What the terminal can take: other characters are escaped, and the bar drawn in ASCII.
    """

    def __init__(self, fd: int, *, color: bool = False, encoding: str = "utf-8") -> None:
        self._fd, self._color, self._encoding = fd, color, encoding
        self._console: Console | None = None
        self._drawn = self._locked = False
        self._due = clock() + DELAY
        self.begin("", "", None)

    def begin(self, doing: str, name: str, nbytes: int | None, passes: int = 1, spans: int = 1) -> None:
        """Go on with something else."""
        if spans > 1 and passes > 1 and nbytes is not None:
            doing, nbytes, passes = f"{doing}, {passes} passes", passes * nbytes, 1
        self._doing, self._name, self._total, self._passes = doing, name, nbytes, passes
        self._restart(1)

    def _restart(self, number: int) -> None:
        self._pass, self._done = number, 0
        self._samples = deque([(clock(), 0)], maxlen=_SAMPLES)

    def advance(self, nbytes: int) -> None:
        """Count, and draw what there is to see if the last picture is old."""
        self._done += nbytes
        if self._done == self._total and self._pass < self._passes:
            self._restart(self._pass + 1)
        now = clock()
        if now >= self._due:
            self._due = now + PERIOD
            self._draw(now)

    def _draw(self, now: float) -> None:
        if not (_in_front(self._fd) and self._alone()):
            self._drawn = False  # it is another one's terminal now
            return
        self._samples.append((now, self._done))
        picture = self._picture()
        self._drawn = True  # before it is, since a signal may come in between
        with contextlib.suppress(OSError):
            os.write(self._fd, b"\r" + picture + b"\x1b[K\r")  # and back: what a terminal echoes must not wrap

    def clear(self) -> None:
        """Leave the line empty, and the cursor at its beginning."""
        if self._drawn and _in_front(self._fd):
            with contextlib.suppress(OSError):
                os.write(self._fd, _CLEARED)
        self._drawn = False

    def close(self) -> None:
        """Leave the line empty, and the terminal to the next one."""
        self.clear()
        if self._locked:
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _alone(self) -> bool:
        """Return whether no other gncli draws on this terminal."""
        import fcntl

        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._locked = True
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # a system that has no locks for terminals
            pass
        return True

    def _picture(self) -> bytes:
        """Return the line, a column narrower than the terminal, so that it never wraps."""
        from rich.cells import cell_len
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        try:
            columns = os.get_terminal_size(self._fd).columns
        except OSError:  # it is gone
            columns = 0
        width = (columns or 80) - 1
        counts = self._counts()
        said = self._doing + (f", pass {self._pass} of {self._passes}" if self._passes > 1 else "")
        room = width - len(counts) - 1
        name = printable(self._name, limit=None).encode(self._encoding, "backslashreplace").decode(self._encoding)
        limit = room - len(f": {said}") - _NARROWEST - 1
        if limit >= min(_SHORTEST_NAME, cell_len(name)):
            said = f"{printable(name, limit * len(name) // max(1, cell_len(name)))}: {said}"
        pieces: list[tuple[Text | ProgressBar, int]] = []
        if cell_len(said) <= room:
            pieces.append((Text(said, style="cyan"), cell_len(said)))
            room -= cell_len(said) + 1
        bar = min(_WIDEST, room)
        if self._total and bar >= _NARROWEST:
            pieces.append(
                (ProgressBar(total=self._total, completed=self._done, width=bar, finished_style="bar.complete"), bar)
            )
        pieces.append((Text(counts), min(len(counts), width)))
        table = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        for _, columns in pieces:
            table.add_column(width=columns, no_wrap=True, overflow="crop")
        table.add_row(*(piece for piece, _ in pieces))
        return self._printed(table, width)

    def _counts(self) -> str:
        """Return bytes, throughput, and time left, as far as they are known, in columns that stay where they are."""
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
        import io

        if self._console is None:
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
                _environ={},  # NO_COLOR and TERM have been weighed already
            )
        self._console.width = width
        with self._console.capture() as captured:
            self._console.print(table)
        return captured.get().partition("\n")[0].rstrip().encode(self._encoding, "backslashreplace")


def _in_front(fd: int) -> bool:
    """Return whether this process is in the foreground of the terminal `fd`, if it is that which controls it."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return True
