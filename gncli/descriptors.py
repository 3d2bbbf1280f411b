"""File descriptors: all of a buffer is written, and the standard three are never those of another file."""

from __future__ import annotations

import os
import select

_PIECE = 1 << 20
"""Bytes written at once. Larger writes make the page cache take large pages, of which a virtual machine has few warm
ones: 822 MB cost 1.0 s of system time in pieces of 4 MiB, 0.3 s in pieces of 1 MiB; smaller ones cost the threads."""


def write_fully(fd: int, view: memoryview, offset: int | None = None) -> None:
    """Write all of `view`, at `offset`, or where a stream stands; a stream that is full is waited for."""
    done = 0
    while done < len(view):
        piece = view[done : done + _PIECE]
        try:
            done += os.write(fd, piece) if offset is None else os.pwrite(fd, piece, offset + done)
        except BlockingIOError:  # whoever shares the pipe has made it non-blocking
            waiting = select.poll()
            waiting.register(fd, select.POLLOUT)
            waiting.poll()


def hold_standard_descriptors() -> None:
    """Plug closed standard streams, or the next file opened would take the number of one."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
