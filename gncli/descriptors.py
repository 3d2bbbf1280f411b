"""File descriptors: a buffer is written whole, and no file takes the number of a closed standard stream."""

from __future__ import annotations

import os

_PIECE = 1 << 20
"""Bytes written at once. Larger writes make the page cache take large pages, of which a virtual machine has few warm
ones: 822 MB cost 1.0 s of system time in pieces of 4 MiB, 0.3 s in pieces of 1 MiB; smaller ones cost the threads."""


def write_fully(fd: int, view: memoryview, offset: int | None = None) -> None:
    """Write all of `view`, at `offset`, or at the position of a stream; wait while the stream is full."""
    done = 0
    while done < len(view):
        piece = view[done : done + _PIECE]
        try:
            done += os.write(fd, piece) if offset is None else os.pwrite(fd, piece, offset + done)
        except BlockingIOError:  # another process that shares the pipe has made it non-blocking
            import select

            waiting = select.poll()
            waiting.register(fd, select.POLLOUT)
            waiting.poll()


def hold_standard_descriptors() -> None:
    """Open /dev/null in place of closed standard streams, or the next file opened would take the number of one."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
