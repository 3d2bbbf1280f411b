"""Two tensors read as one: the same elements of both at a time, in whatever order each is stored."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import progress
from gncli.io.pipe import Spool
from gncli.io.rawfile import RawFile, RawSource, as_bytes
from gncli.io.source import Source, Wrapping
from gncli.io.transposition import Cut
from gncli.kernels.tally import split

PIECE = 1 << 20  # elements of a stream that are copied at a time
SLAB = 64 << 20  # bytes in memory, to turn one memory order into the other
READ = SLAB // 4  # bytes that are read at a time for it
LONG = 1 << 18  # bytes of a piece that is read alone, without what lies before the next


class InCOrder(Wrapping):
    """A tensor whose axes are stored in another order, read in C order.

    Parameters
    ----------
    source : Source
        A tensor that is not sequential.
    shape : tuple of int, optional
        The shape to read it in; by default its own.
    stored : tuple of int, optional
        The axes of that shape in the order of storage, the slowest first; by default that of the source.

    Attributes
    ----------
    rereads : bool
        Whether it is read more than once.

    Notes
    -----
    A slab is kept in memory, at most `SLAB` bytes: entries of one axis, all of the axes after it, one of each before.
    In storage it consists of pieces. Short ones are read together with what lies between them. So a tensor of n bytes
    is read once if a slab is one piece, and n / `SLAB` times at worst.
    """

    def __init__(
        self, source: Source, shape: tuple[int, ...] | None = None, stored: tuple[int, ...] | None = None
    ) -> None:
        super().__init__(source)
        self.shape = source.shape if shape is None else shape
        runs = _runs(storage(source) if stored is None else stored, self.shape)
        self.sequential, self.order = True, "C"
        sizes = {run: math.prod(self.shape[axis] for axis in run) for run in runs}
        self._sizes = list(sizes.values())
        self._stored = [sorted(runs).index(run) for run in runs]
        self._cut = Cut.of(tuple(sizes[run] for run in sorted(runs)), self.dtype.itemsize, SLAB)
        self._first = -1
        self._slab: NDArray[Any] = np.empty(0, self.dtype)
        self._lock = threading.Lock()
        box = [self._cut.box(0)[axis] for axis in self._stored]
        partial = _partial(box, self._sizes)
        pieces = math.prod(part.stop for part in box[: partial[-1]]) if partial else 1
        self.rereads = pieces > 1 and self._piece(box) * self.dtype.itemsize < LONG

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on, counted in C order."""
        done = 0
        with self._lock:
            while done < out.size:
                number = self._cut.number(start + done)
                first, _ = self._cut.run(number)
                if first != self._first:
                    self._first, self._slab = first, self._filled(number)
                have = self._slab[start + done - first :][: out.size - done]
                out[done : done + have.size] = have
                done += have.size

    def _filled(self, number: int) -> NDArray[Any]:
        """Return the elements of a slab in C order."""
        box = self._cut.box(number)
        stored = [box[axis] for axis in self._stored]
        values = np.empty([part.stop - part.start for part in stored], self.dtype)
        self._gather(values, stored, 0)
        return np.ascontiguousarray(values.transpose(np.argsort(self._stored))).reshape(-1)

    def _gather(self, values: NDArray[Any], box: Sequence[slice], start: int, axis: int = 0) -> None:
        """Fill `values` with a box of the axes from `axis` on, which begin at the element `start`."""
        part, inner, most = box[axis], math.prod(self._sizes[axis + 1 :]), max(1, READ // self.dtype.itemsize)
        start += part.start * inner
        if max(_partial(box, self._sizes), default=0) <= axis:
            flat = values.reshape(-1)
            for at in range(0, flat.size, most):
                self.inner.read_into(flat[at : at + most], start + at)
            return
        step = 0 if self._piece(box) * self.dtype.itemsize >= LONG else most // inner
        for at in range(0, values.shape[0], max(1, step)):
            if not step:
                self._gather(values[at], box, start + at * inner, axis + 1)
                continue
            some = values[at : at + step]
            around = np.empty((some.shape[0], *self._sizes[axis + 1 :]), self.dtype)
            self.inner.read_into(around.reshape(-1), start + at * inner)
            some[...] = around[(slice(None), *box[axis + 1 :])]

    def _piece(self, box: Sequence[slice]) -> int:
        """Return how many elements of a box lie one after the other in storage."""
        last = max(_partial(box, self._sizes), default=0)
        count: int = box[last].stop - box[last].start
        return count * math.prod(self._sizes[last + 1 :])


def _partial(box: Sequence[slice], sizes: Sequence[int]) -> list[int]:
    """Return the axes that a box does not hold whole."""
    return [axis for axis, part in enumerate(box) if part.stop - part.start < sizes[axis]]


def storage(source: Source) -> tuple[int, ...]:
    """Return the axes of a tensor in their order of storage, the slowest first."""
    axes = range(len(source.shape))
    return tuple(axes if source.order == "C" else reversed(axes))


def _runs(stored: Sequence[int], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the axes in their order of storage, with those joined that also follow each other in C order.

    Axes of size 1 are left out, and one of them is kept where there are no others.

    Examples
    --------
    >>> _runs((0, 2, 3, 1), (8, 64, 14, 14)), _runs((1, 0), (1, 7)), _runs((0,), (1,))
    ([(0,), (2, 3), (1,)], [(1,)], [(0,)])
    """
    long = [axis for axis in range(len(shape)) if shape[axis] != 1] or [*range(len(shape))][:1]
    runs: list[tuple[int, ...]] = []
    for axis in (axis for axis in stored if axis in long):
        if runs and long.index(axis) == long.index(runs[-1][-1]) + 1:
            runs[-1] += (axis,)
        else:
            runs.append((axis,))
    return runs


class Pair(Source):
    """Tensors of one shape and order as one source: a run holds the bytes of `a`, then those of `b`, then of others.

    Parameters
    ----------
    a, b, *others : Source
        Tensors of as many elements, which come in one order; the shape and the order are those of `a`.
    """

    def __init__(self, a: Source, b: Source, *others: Source) -> None:
        self.a, self.b, self.sources = a, b, (a, b, *others)
        self.name, self.shape, self.order = f"{a.name} and {b.name}", a.shape, a.order
        self.dtypes = tuple(source.dtype for source in self.sources)
        self.dtype = np.dtype((np.void, sum(dtype.itemsize for dtype in self.dtypes)))
        self.sequential = any(source.sequential for source in self.sources)
        self.holds_in_file = any(source.holds_in_file for source in self.sources)

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with a run of each."""
        for source, values in zip(self.sources, self.split(out), strict=True):
            source.read_into(values, start)

    def split(self, values: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Return the elements of each in a run that was read, without a copy."""
        return split(values, *self.dtypes)

    @property
    def held_names(self) -> tuple[str, ...]:
        """The names of those that `hold` keeps in a file."""
        return tuple(name for source in self.sources for name in source.held_names)

    def hold(self, start: int, stop: int) -> None:
        """Declare that the run will be read again."""
        for source in self.sources:
            source.hold(start, stop)

    def will_need(self, start: int, stop: int) -> None:
        """Declare that the run is read next."""
        for source in self.sources:
            source.will_need(start, stop)

    def verify_unchanged(self) -> None:
        """Raise ChangedError if one of the files is not what it was when it was opened."""
        for source in self.sources:
            source.verify_unchanged()


def paired(stack: ExitStack, a: Source, b: Source, *others: Source, axes: tuple[int, ...] | None = None) -> Pair:
    """Return tensors as one source, in the storage order they share, or in C order; `stack` closes what that needs.

    Parameters
    ----------
    stack : ExitStack
        Closes copies.
    a, b, *others : Source
        The tensors, of one shape.
    axes : tuple of int, optional
        The axis of `b` that is each axis of `a`; by default the same.
    """
    sources, shape = (a, b, *others), a.shape
    orders = [storage(source) for source in sources]
    if axes is not None:
        orders[1] = tuple(axes.index(axis) for axis in orders[1])
    runs = [_runs(order, shape) for order in orders]
    if 0 in shape or all(run == runs[0] for run in runs):
        return Pair(*sources)

    def turned(source: Source, order: tuple[int, ...]) -> Source:
        if len(_runs(order, shape)) == 1:
            return source
        return InCOrder(stack.enter_context(stored(source)) if source.sequential else source, shape, order)

    return Pair(*map(turned, sources, orders))


class Stored(Wrapping):
    """The bits of a tensor's elements, for a dtype that NumPy does not have; another tensor as it is.

    Parameters
    ----------
    source : Source
        The tensor.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.dtype, self.stored_as = source.stored_dtype, None

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the bits of the elements from `start` on."""
        self.inner.read_stored(out, start)

    def will_need(self, start: int, stop: int) -> None:
        """Declare that the run is read next."""
        self.inner.will_need(start, stop)


class Derived(Wrapping):
    """The values of a function of each pair, as a float64 tensor.

    Parameters
    ----------
    pair : Pair
        The two tensors.
    function : callable
        Takes runs of `a` and `b`, the first two, and returns a run of float64.
    """

    def __init__(self, pair: Pair, function: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> None:
        super().__init__(pair)
        self.dtype = np.dtype(np.float64)
        self._pair, self._function = pair, function

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the values of the function for the pairs from `start` on."""
        values = np.empty(out.size, self._pair.dtype)
        self._pair.read_into(values, start)
        with np.errstate(all="ignore"):
            out[...] = self._function(*self._pair.split(values)[:2])

    def will_need(self, start: int, stop: int) -> None:
        """Declare that the run is read next."""
        self._pair.will_need(start, stop)


def stored(source: Source) -> RawSource:
    """Return a copy of a stream, from its first element on, in an unlinked file in $TMPDIR, which can be read anywhere.

    Raises
    ------
    LimitError
        If $TMPDIR has no room for it.
    """
    spool = Spool()
    try:
        size = math.prod(source.shape)
        progress.begin("copy", source.name, size * source.dtype.itemsize)
        for start in range(0, size, PIECE):
            values = np.empty(min(PIECE, size - start), source.dtype)
            source.read_into(values, start)
            spool.write(as_bytes(values), start * source.dtype.itemsize)
            progress.advance(values.nbytes)
        source.verify_unchanged()
        file = RawFile.spooled(os.dup(spool.fd), source.name)
    finally:
        spool.close()
    return RawSource(file, 0, source.shape, source.dtype, source.order, source.name)
