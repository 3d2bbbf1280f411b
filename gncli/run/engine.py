"""Runs a plan: visits go out to an executor, a bounded number at a time, and their results come back in storage order.

Work items are small and independent: a region to read, what to do with it, and a small result. A sequential source
is read by the submitting thread, in order, before an item is submitted; every other source is read by the worker.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from gncli import progress
from gncli.errors import InputError
from gncli.io.source import Source
from gncli.kernels.scratch import LINE, aligned, arithmetic
from gncli.kernels.walk import Region

if TYPE_CHECKING:  # a file of one item needs neither, and they take as long to import as it takes to read
    from concurrent.futures import Executor, Future
    from types import TracebackType

    from gncli.run.threads import Threads

DEFAULT_TILE = 2 << 20  # bytes of input: with float64 scratch it stays in the cache (0.5 to 4 MiB were tried)
TILES_PER_VISIT = 8

Result = TypeVar("Result")
Job = Callable[[Region, NDArray[Any]], Result]


class Buffers:
    """Buffers that are used again, since fresh pages cost as much as the arithmetic on them."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def take(self, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array of `size` elements of `dtype`, of any content."""
        nbytes = size * dtype.itemsize
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(nbytes + LINE, np.uint8)
        if buffer.size < nbytes + LINE:
            buffer = np.empty(nbytes + LINE, np.uint8)
        return aligned(buffer)[:nbytes].view(dtype)

    def give(self, array: NDArray[Any]) -> None:
        """Take back what `take` gave, which nobody may use any more."""
        whole = array
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        self._free.append(whole)


class Engine:
    """An executor, with the sizes and buffers of a run, in which NumPy warns nobody: infinities and NaN are counted.

    Parameters
    ----------
    workers : int, optional
        How many visits are worked on at once; by default the processors this process may use.
    tile : int
        The bytes of input that are widened and worked on at a time.
    visit : int, optional
        The bytes that are read at once; by default eight tiles.
    executor : concurrent.futures.Executor, optional
        Where items run; by default threads of its own, which it stops when it is left. A lone item then needs none.
    """

    def __init__(
        self,
        workers: int | None = None,
        tile: int | None = None,
        visit: int | None = None,
        executor: Executor | None = None,
    ) -> None:
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
        """What a reader should be told about the run, beside its result."""
        return tuple(self._own.notes) if self._own else ()

    def rest(self) -> None:
        """End the threads, which the next run starts again: for what must be done while there is but one."""
        if self._own:
            self._own.rest()

    def tile_of(self, dtype: np.dtype[Any]) -> int:
        """Return how many elements of `dtype` a tile holds."""
        return max(1, self.tile // dtype.itemsize)

    def visit_of(self, source: Source) -> int:
        """Return how many elements of `source` a visit holds; few where each item in flight needs a buffer."""
        nbytes = self.visit // 4 if source.sequential else self.visit
        return max(1, nbytes // source.dtype.itemsize)

    def run(self, job: Job[Result], source: Source, regions: Iterable[Region]) -> Iterator[tuple[Region, Result]]:
        """Yield each of `regions` with what `job` made of its elements, in order.

        At most two items a worker are under way. Whoever stops listening, or an error, cancels what has not begun and
        waits for what has.

        Raises
        ------
        ChangedError
            If the file behind the source has changed by the end, or when it could not be read.
        """
        try:
            yield from self._results(job, source, regions)
            source.verify_unchanged()
        except InputError:
            source.verify_unchanged()  # what changes under a reader looks damaged
            raise

    def _results(self, job: Job[Result], source: Source, regions: Iterable[Region]) -> Iterator[tuple[Region, Result]]:
        plan = iter(regions)
        ahead = list(islice(plan, 2))
        if len(ahead) < 2 and self._given is None:
            return self._done_here(job, source, ahead)
        return self._shared_out(job, source, chain(ahead, plan))

    def _done_here(
        self, job: Job[Result], source: Source, regions: Iterable[Region]
    ) -> Iterator[tuple[Region, Result]]:
        for region in regions:
            result = self.work(job, source, region, None)
            progress.advance((region.stop - region.start) * source.dtype.itemsize)
            yield region, result

    def _shared_out(
        self, job: Job[Result], source: Source, regions: Iterable[Region]
    ) -> Iterator[tuple[Region, Result]]:
        pending: deque[tuple[Region, Future[Result]]] = deque()
        try:
            for region in regions:
                values = None
                if source.sequential:
                    values = self.buffers.take(region.stop - region.start, source.dtype)
                    source.read_into(values, region.start)
                pending.append((region, self._executor().submit(self.work, job, source, region, values)))
                if len(pending) >= 2 * self.workers:
                    yield _first(pending, source)
            while pending:
                yield _first(pending, source)
        finally:
            cancelled([future for _, future in pending])

    def _executor(self) -> Executor:
        if self._given is not None:
            return self._given
        if self._own is None:
            from gncli.run.threads import Threads

            self._own = Threads(self.workers)
        return self._own

    def work(self, job: Job[Result], source: Source, region: Region, values: NDArray[Any] | None = None) -> Result:
        """Return what `job` makes of the elements of `region`, which are read here unless they are given."""
        if values is None:
            values = self.buffers.take(region.stop - region.start, source.dtype)
            source.read_into(values, region.start)
        with arithmetic():
            result = job(region, values)
        self.buffers.give(values)
        return result


def _first(pending: deque[tuple[Region, Future[Result]]], source: Source) -> tuple[Region, Result]:
    region, future = pending[0]
    result = future.result()
    pending.popleft()
    progress.advance((region.stop - region.start) * source.dtype.itemsize)
    return region, result


def cancelled(futures: Collection[Future[Any]]) -> None:
    """Cancel what has not begun of `futures`, and wait for what has."""
    from concurrent.futures import wait

    for future in futures:
        future.cancel()
    wait(futures)


def available_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
