"""What the engine knows of the outside: a tensor is read, or written, by runs of elements in storage order.

A run is ``[start, start + n)`` of the tensor's elements, counted as they lie in the file. With that one currency
a .npy, a dataset, a pipe and a drawn tensor are the same thing, and so are C and Fortran order: the reader of a
run never needs to know which axis moves.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gncli.io.dtypes import Widening

Order = Literal["C", "F"]


class Identity(NamedTuple):
    """What tells one state of a file from another: device, inode, size and times in ns."""

    device: int
    inode: int
    nbytes: int
    mtime_ns: int
    ctime_ns: int


class Described:
    """A tensor of which its file says more than a shape and NumPy's dtype.

    Attributes
    ----------
    stored_as : Widening or None
        Its dtype where NumPy has none like it, and a wider one is read: bfloat16.
    dimensions : tuple of str
        The names of its axes, as netCDF gives them; empty where they have none.
    """

    stored_as: Widening | None = None
    dimensions: tuple[str, ...] = ()


def stored_as(source: Source) -> Widening | None:
    """Return the dtype in which a tensor is stored if it is another one than it is read in."""
    return source.stored_as if isinstance(source, Described) else None


def dtype_name(source: Source) -> str:
    """Return the name of the dtype in which a tensor is stored, whatever the byte order."""
    return str((stored_as(source) or source.dtype).name)


def dimensions(source: Source) -> tuple[str, ...]:
    """Return the names of the axes of a tensor; none where its file says none."""
    return source.dimensions if isinstance(source, Described) else ()


class Source(Protocol):
    """A tensor that can be read.

    Attributes
    ----------
    name : str
        As the user typed it.
    shape : tuple of int
        As NumPy shows it.
    dtype : numpy.dtype
        As read, byte order included; boolean, integer or float16/32/64.
    order : {"C", "F"}
        "C" where the last axis runs fastest in storage, "F" where the first one does.
    sequential : bool
        Whether it is read forwards only, by one thread at a time (a pipe, a random stream). Other sources may be
        read anywhere, by many threads at once.
    identity : Identity or None
        Of the file behind it, when it was opened.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    sequential: bool
    identity: Identity | None

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` (1-D, contiguous, of `dtype`) with the elements from `start` on, in storage order.

        Raises
        ------
        ChangedError
            If the file behind it has become shorter.
        InputError
            If it cannot be read, or ends early.
        """

    def hold(self, start: int, stop: int) -> None:
        """Say that ``[start, stop)`` will be read again, from `start`, after it was read once.

        Only sequential sources have to do anything about it: a pipe keeps a copy in a file, a random stream its state.
        """

    def verify_unchanged(self) -> None:
        """Raise ChangedError if the file behind it is not what it was when it was opened."""

    def close(self) -> None:
        """Let go of the file."""


class Sink(Protocol):
    """A place for one tensor. Nothing is seen of it before `commit`, but for a stream, which cannot be taken back.

    Attributes
    ----------
    name : str
        As the user typed it.
    sequential : bool
        Whether runs must be written in order, by one thread at a time (standard output).
    """

    name: str
    sequential: bool

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data` (1-D, contiguous, in the sink's dtype) as the elements from `start` on, in storage order.

        Raises
        ------
        OutputError
            If it cannot be written.
        """

    def commit(self) -> None:
        """Make the tensor visible under its name, whole, or raise OutputError and leave what was there."""

    def abort(self) -> None:
        """Remove whatever was begun; after `commit` or a second `abort`, do nothing."""
