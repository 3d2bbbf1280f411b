"""The engine: it does steps on an executor, a bounded number at once, and yields their results in order.

A step is small: a region to read, a job, and a small result. A sequential source
is read by the submitting thread, in order, before an item is submitted; every other source is read by the worker.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from gncli import progress
from gncli.errors import InputError
from gncli.io.source import Sink, Source
from gncli.kernels.loops import loops
from gncli.kernels.scratch import LINE, aligned, arithmetic
from gncli.kernels.walk import Region

if TYPE_CHECKING:  # a small file needs neither, and their import takes as long as reading it
    from concurrent.futures import Executor, Future
    from types import TracebackType

    from gncli.threads import Threads

DEFAULT_TILE = 2 << 20  # bytes of input; with its float64 scratch it fits the cache (0.5 to 4 MiB were tried)
TILES_PER_VISIT = 8
LEAST = 1 << 20  # bytes of a visit for which it is worth while to start threads

Result = TypeVar("Result")
Job = Callable[[Region, NDArray[Any]], Result]


class Step(NamedTuple):
    """A piece of a pass over a source.

    Attributes
    ----------
    job : callable
        Takes the region and its elements, and returns the result.
    region : Region
        What is read.
    sink : Sink, optional
        Where the job writes its result. Steps that write to one come in storage order.
    entry : int
        The size of an entry of the region: a region of fewer entries gives the same elements.
    """

    job: Job[Any]
    region: Region
    sink: Sink | None = None
    entry: int = 1

    @property
    def size(self) -> int:
        """The number of elements that are read."""
        return self.region.stop - self.region.start

    def ending(self, start: int) -> Step:
        """Return the end of this step that begins with the entry that holds element `start`, or all of it."""
        region = self.region
        skipped = max(0, start - region.start) // self.entry
        return self._replace(
            region=region._replace(start=region.start + skipped * self.entry, first=region.first + skipped)
        )


class Buffers:
    """Reuses buffers, since fresh pages of memory cost as much as the arithmetic on them."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def take(self, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an uninitialized array of `size` elements of `dtype`."""
        nbytes = size * dtype.itemsize
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(nbytes + LINE, np.uint8)
        if buffer.size < nbytes + LINE:
            buffer = np.empty(nbytes + LINE, np.uint8)
        return aligned(buffer)[:nbytes].view(dtype)

    def give(self, array: NDArray[Any]) -> None:
        """Take back an array that `take` returned; it must not be used afterwards."""
        whole = array
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        self._free.append(whole)


class Engine:
    """An executor with the sizes and buffers of a run. NumPy's warnings are off in it: infinities and NaN are counted.

    Parameters
    ----------
    workers : int, optional
        The number of visits at once; by default the number of processors that this process may use.
    tile : int
        The bytes of input that are widened to float64 at once; by default 2 MiB.
    visit : int, optional
        The bytes that are read at once; by default eight tiles.
    executor : concurrent.futures.Executor, optional
        Runs the items; by default the engine starts threads of its own and stops them on exit. A single item runs
        without threads.
    """

    def __init__(
        self,
        workers: int | None = None,
        tile: int | None = None,
        visit: int | None = None,
        executor: Executor | None = None,
    ) -> None:
        loops()  # an error about GNCLI_KERNEL is raised here, and not by a worker
        self.workers = workers or available_processors()
        self.tile = tile or DEFAULT_TILE
        self.visit = visit or TILES_PER_VISIT * self.tile
        self.buffers = Buffers()
        self._given = executor
        self._own: Threads | None = None
        self._quiet = np.errstate(all="ignore")

    def __enter__(self) -> Self:
        self._quiet.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._quiet.__exit__(kind, error, trace)
        if self._own:
            self._own.shutdown(cancel_futures=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the run for the user, in addition to its result."""
        return tuple(self._own.notes) if self._own else ()

    def rest(self) -> None:
        """End the threads, so that only the main thread is left; the next run starts them again."""
        if self._own:
            self._own.rest()

    def tile_of(self, dtype: np.dtype[Any]) -> int:
        """Return the number of elements of `dtype` in a tile."""
        return max(1, self.tile // dtype.itemsize)

    def share_of(self, nbytes: int) -> int:
        """Return the bytes to read at once so that each worker has some visits of a tensor of `nbytes` bytes."""
        return max(LEAST, nbytes // (4 * self.workers))

    def visit_of(self, source: Source) -> int:
        """Return the number of elements of `source` in a visit; fewer if each pending item needs a buffer."""
        nbytes = self.visit // 2 if source.sequential else self.visit
        return max(1, nbytes // source.dtype.itemsize)

    def run(self, source: Source, steps: Iterable[Step | None]) -> Iterator[tuple[Step, Any]]:
        """Yield each step with its result, in order.

        A None among `steps` says that the next step depends on a result that has not been yielded. At most two steps
        per worker are pending. When the caller stops iterating, or an error occurs, steps that have not begun are
        cancelled, and running steps are waited for.

        Raises
        ------
        ChangedError
            If the file behind the source changed while it was read; this is checked at the end and after a read error.
        """
        try:
            yield from self._results(source, steps)
            source.verify_unchanged()
        except InputError:
            source.verify_unchanged()  # a file that changes during a read looks damaged
            raise

    def _results(self, source: Source, steps: Iterable[Step | None]) -> Iterator[tuple[Step, Any]]:
        plan = iter(steps)
        ahead = list(islice(plan, 2))
        if len(ahead) < 2 and self._given is None:
            return self._done_here(source, ahead)
        return self._shared_out(source, chain(ahead, plan))

    def _done_here(self, source: Source, steps: Iterable[Step | None]) -> Iterator[tuple[Step, Any]]:
        for step in filter(None, steps):
            result = self.work(step.job, source, step.region)
            progress.advance(step.size * source.dtype.itemsize)
            yield step, result

    def _shared_out(self, source: Source, steps: Iterable[Step | None]) -> Iterator[tuple[Step, Any]]:
        pending: deque[tuple[Step, Future[Any]]] = deque()
        try:
            for step in steps:
                if step is not None:
                    values = None
                    if source.sequential:
                        values = self.buffers.take(step.size, source.dtype)
                        source.read_into(values, step.region.start)
                    else:
                        source.will_need(step.region.start, step.region.stop)
                    pending.append((step, self._executor().submit(self.work, step.job, source, step.region, values)))
                if step is None or len(pending) >= 2 * self.workers:
                    yield _first(pending, source)
            while pending:
                yield _first(pending, source)
        finally:
            cancelled([future for _, future in pending])

    def _executor(self) -> Executor:
        if self._given is not None:
            return self._given
        if self._own is None:
            from gncli.threads import Threads

            self._own = Threads(self.workers)
        return self._own

    def work(self, job: Job[Result], source: Source, region: Region, values: NDArray[Any] | None = None) -> Result:
        """Return the result of `job` on the elements of `region`, which are read here unless `values` holds them."""
        lent = None if source.sequential else source.lent(region.start, region.stop)
        if lent is not None:
            with arithmetic():
                return job(region, lent)
        if values is None:
            values = self.buffers.take(region.stop - region.start, source.dtype)
            source.read_into(values, region.start)
        with arithmetic():
            result = job(region, values)
        self.buffers.give(values)
        return result


def _first(pending: deque[tuple[Step, Future[Any]]], source: Source) -> tuple[Step, Any]:
    step, future = pending[0]
    result = future.result()
    pending.popleft()
    progress.advance(step.size * source.dtype.itemsize)
    return step, result


def cancelled(futures: Collection[Future[Any]]) -> None:
    """Cancel those of `futures` that have not begun, and wait for the others."""
    from concurrent.futures import wait

    for future in futures:
        future.cancel()
    wait(futures)


def available_processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
