"""The engine on a dask cluster, whose workers read the source and write the output themselves.

An item of work is some steps, `WORK_NBYTES` together at most. It returns their results in order. Their jobs are sent as
pickled functions. The source, the sink and the engine that a job refers to are sent as their location and sizes. Each
worker process opens a file once, and checks that it is the same file. It does the steps one after the other, as a
thread does, so an item of any size takes the memory of a visit.

Notes
-----
Several clients of a network file system write back whole pages, so no two of them may write into the same one. An item
therefore writes whole grains of the .npy: from the grain in which its first element lies to the grain in which the next
item begins. The elements before its own in the first of these grains, less than a grain, belong to the item before; it
computes them again, and both have the same bits for them. So nothing but plans and moments passes through the caller.
The grain of a Zarr store is the shard. An item ends with a step in which a grain begins, so what is computed again is
less than a step.
A worker fsyncs, or waits until its objects are on a store, before it answers, and begins the next item meanwhile. If an
item is done twice because a worker was lost, it writes the same bytes to the same place.
"""

from __future__ import annotations

import asyncio
import functools
import io as streams
import math
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from pickle import Unpickler
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gncli import progress, signals
from gncli.errors import ChangedError, GncliError, LimitError, ParameterError
from gncli.inputs import STRICT, Policy
from gncli.io import Sink, Source, open_source
from gncli.io.atomic import AtomicFile
from gncli.io.ranges import GRAIN_NBYTES, Ranges
from gncli.io.rawfile import RawSink
from gncli.io.urls import is_url
from gncli.run.engine import Buffers, Engine, Step

if TYPE_CHECKING:
    from logging import LogRecord

    from distributed import Client, LocalCluster

WORK_NBYTES = 256 << 20  # bytes of input per item, at most: 10 TB are 40,000 items
SHARES = 4  # items per worker of a tensor that is smaller, so that all end at nearly the same time
AT_ONCE = 3  # items per worker: one waits for the disk, one is worked on, and one waits for the worker
PATIENCE = 30  # seconds to wait for a scheduler that has a worker

_FILES = 8  # files that a worker process keeps open

T = TypeVar("T")


class ClusterEngine(Engine):
    """An engine whose items run on a dask cluster.

    Parameters
    ----------
    address : str, optional
        The address of the scheduler; by default the engine starts a cluster of processes on this machine, and ends it.
    workers : int, optional
        The number of processes of that cluster; by default the number of processors that this process may use.
    tile : int, optional
        The bytes of input that are widened to float64 at once.
    policy : Policy, optional
        The limits for the inputs, where a worker opens them.
    work : int
        The largest number of bytes of an item.

    Raises
    ------
    ParameterError
        If dask.distributed is not installed; from a run, if the source or the sink can be used by one process only.
    LimitError
        From a run, if the cluster cannot be reached, or an item loses its workers repeatedly.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        tile: int | None = None,
        policy: Policy = STRICT,
        work: int = WORK_NBYTES,
    ) -> None:
        super().__init__(workers, tile)
        self._address, self._policy, self._work_nbytes = address, policy, work
        self._client: Client | None = None
        self._cluster: LocalCluster | None = None
        self._directory = ""
        self._threads = 1
        try:
            import distributed
        except ImportError as error:
            problem = "--executor dask needs dask.distributed, which is not installed"
            raise ParameterError(problem, hint="pip install 'gncli[dask]'") from error
        self._distributed = distributed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.rest()

    def rest(self) -> None:
        """Leave the cluster; the next run joins it again."""
        with signals.Deferred():
            client, self._client = self._client, None
            cluster, self._cluster = self._cluster, None
            if client is not None:
                client.close()
            if cluster is not None:
                cluster.close()
                shutil.rmtree(self._directory, ignore_errors=True)
            signals.cleanups.pop(self, None)

    def _results(self, source: Source, steps: Iterable[Step | None]) -> Iterator[tuple[Step, Any]]:
        orders = _Orders(source, self, self._policy)
        client = self._joined()
        share = math.prod(source.shape) // (SHARES * self._threads)
        pending: deque[tuple[list[Step], Future[Any]]] = deque()
        try:
            for item in _items(steps, min(share, self._work_nbytes // source.dtype.itemsize), orders.may_end):
                if item:
                    order = orders.order(item)
                    with signals.Deferred():  # a signal here could leave a lock held that dask needs to end
                        pending.append((item, _begun(client, done(client, _work_on_cluster, order))))
                if not item or len(pending) >= AT_ONCE * self._threads:
                    yield from self._first(pending, source)
            while pending:
                yield from self._first(pending, source)
        finally:
            with signals.Deferred():
                for _, future in pending:
                    future.cancel()  # one that a worker is at goes on, and writes to a file that has lost its name

    def _first(self, pending: deque[tuple[list[Step], Future[Any]]], source: Source) -> Iterator[tuple[Step, Any]]:
        item, future = pending[0]
        try:
            results = self._awaited(future)
        except GncliError:
            raise
        except (self._distributed.KilledWorker, CancelledError, OSError) as error:
            problem = f"the cluster lost its workers, or they were killed ({str(error).partition(chr(10))[0]})"
            if isinstance(error, CancelledError):
                problem = "the scheduler of the cluster was lost"
            raise LimitError(
                problem, subject=self._address, hint="see the logs of the cluster, or use --executor threads"
            ) from error
        pending.popleft()
        progress.advance(sum(step.size for step in item) * source.dtype.itemsize)
        yield from zip(item, results, strict=True)

    def _awaited(self, future: Future[Any]) -> Any:
        """Return the result of `future`; a signal ends the wait, but never while a lock is held.

        Meanwhile the scheduler is asked for its workers: more may have come, and if it has none, or does not answer,
        for `PATIENCE` seconds, the wait ends.
        """
        client, asked, deadline = self._joined(), None, time.monotonic() + PATIENCE
        with signals.Deferred():
            while not wait((future,), timeout=0.1).done:
                signals.checkpoint()
                asked = asked or _begun(client, _threads_of(client))
                if answer := asked.result() if asked.done() and not asked.exception() else 0:
                    self._threads, deadline = answer, time.monotonic() + PATIENCE
                asked = None if asked.done() else asked
                if time.monotonic() > deadline:
                    problem = f"the cluster has had no workers for {PATIENCE} seconds"
                    raise LimitError(
                        problem, subject=self._address, hint="see the logs of the cluster, or use --executor threads"
                    )
            return future.result()

    def _joined(self) -> Client:
        if self._client is None:
            import logging  # slow to import

            for name in list(logging.root.manager.loggerDict):
                if name.partition(".")[0] == "distributed":
                    logging.getLogger(name).setLevel(logging.CRITICAL)  # problems are raised as errors
            logging.getLogger("asyncio").addFilter(_is_news)
            signals.cleanups[self] = self.rest
            try:
                if self._address is None:
                    self._start()
                else:
                    self._distributed.comm.resolve_address(self._address)  # a bad address fails here, at once
                self._client = self._distributed.Client(self._cluster or self._address, timeout=PATIENCE)
                self._client.wait_for_workers(1, timeout=PATIENCE)
                self._threads = sum(self._client.nthreads().values())
            except (OSError, ValueError, TimeoutError) as error:
                self.rest()
                problem = f"no dask scheduler with workers answers ({str(error).partition(chr(10))[0]})"
                raise LimitError(problem, subject=self._address, hint="give its address with --scheduler") from error
        return self._client

    def _start(self) -> None:
        # Python's resource tracker unblocks signals when it starts, so it is started first.
        from multiprocessing.resource_tracker import ensure_running

        from dask import config

        ensure_running()
        with _signals_later():
            self._directory = tempfile.mkdtemp(prefix="gncli-dask-")
            with config.set(temporary_directory=self._directory):
                self._cluster = self._distributed.LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=50,
                )


def _begun(client: Client, work: Coroutine[Any, Any, T]) -> Future[T]:
    """Return the future result of `work`, which is done in the thread of the client."""
    return asyncio.run_coroutine_threadsafe(work, client.loop.asyncio_loop)


async def done(client: Client, function: Callable[[bytes], T], order: bytes) -> T:
    """Have a worker call `function` with an order, and return what it returns.

    The future of `Client.get_executor` does not do it: it stays pending for ever if the worker is lost between the end
    of the call and the transfer of its result, and the call fails later.
    """
    future = client.submit(function, order, pure=False)
    try:
        return await future  # type: ignore[no-any-return]
    finally:
        future.release()


async def _threads_of(client: Client) -> int:
    """Return the number of threads of all workers, as the scheduler knows them."""
    return sum((await client.nthreads(asynchronous=True)).values())


def _is_news(record: LogRecord) -> bool:
    """Return whether asyncio has to say more than that a pause of tornado's ended, which nobody awaits any more.

    The client pauses so between two messages, and is closed in the middle of a pause.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, TimeoutError) and str(error) == "Timeout")


@contextmanager
def _signals_later() -> Iterator[None]:
    """Delay signals until the cluster exists and can be ended; processes started meanwhile ignore Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {
        signum: signal.signal(signum, lambda signum, _: came.append(signum))
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if came:
            signal.raise_signal(came[0])


def _items(steps: Iterable[Step | None], size: int, may_end: Callable[[Step], bool]) -> Iterator[list[Step]]:
    """Yield neighbouring steps that have about `size` elements together; and none where a result must come first.

    They end with a step for which `may_end` holds, unless the next one depends on a result.
    """
    item: list[Step] = []
    held = 0
    for step in steps:
        if item and (step is None or (held + step.size > size and may_end(item[-1]))):
            yield item
            item, held = [], 0
        if step is None:
            yield []
        else:
            item.append(step)
            held += step.size
    if item:
        yield item


# --- what is sent ----------------------------------------------------------------------------------------------------


class _Reopen(NamedTuple):
    """A source as it is sent: its location and its identity."""

    text: str
    subject: str
    inode: int
    nbytes: int
    mtime_ns: int
    policy: Policy


class _Local(NamedTuple):
    """An engine as it is sent: its sizes."""

    tile: int
    visit: int


class _Orders:
    """Makes the orders of a run, which are what is sent to workers.

    Parameters
    ----------
    source : Source
        What is read.
    engine : Engine
        Whose place is taken by an engine of the worker.
    policy : Policy
        The limits for the source.
    """

    def __init__(self, source: Source, engine: Engine, policy: Policy) -> None:
        self._source, self._engine, self._policy = source, engine, policy
        self._size = math.prod(source.shape)
        self._behind: list[Step] = []  # the last steps that write, back to the grain in which the next one begins

    def order(self, item: list[Step]) -> bytes:
        """Return the pickled source, what to do again for the sake of a whole grain, and `item`: jobs and regions."""
        from cloudpickle import Pickler

        again, window = self._aligned([step for step in item if step.sink is not None])

        class Sender(Pickler):  # type: ignore[misc]  # it has no types
            def persistent_id(_, item: Any) -> object:  # noqa: N805
                if hasattr(item, "read_into"):
                    return _reopening(item, self._policy)
                if isinstance(item, Sink):
                    return _rewriting(item, window)
                return _Local(item.tile, item.visit) if item is self._engine else None

        stream = streams.BytesIO()
        Sender(stream).dump((self._source, *([step[:2] for step in steps] for steps in (again, item))))
        return stream.getvalue()

    def _aligned(self, writing: list[Step]) -> tuple[list[Step], tuple[int, int]]:
        """Return the ends of earlier steps that fill the first grain of these, and the elements to write."""
        if not writing or (grain := self._grains(writing[0].sink)) is None:
            return [], (0, 0)
        first, stop = grain(writing[0].region.start), grain(writing[-1].region.stop)
        again = [step.ending(first) for step in self._behind if step.region.stop > first]
        self._behind = [step for step in (*self._behind, *writing) if step.region.stop > stop]
        if not first and isinstance(file := getattr(writing[0].sink, "file", None), AtomicFile):
            file.sync()  # the header, which lies in the same page as the first elements
        return again, (first, stop)

    def may_end(self, step: Step) -> bool:
        """Return whether an item may end with a step: if a grain begins in it, else the next one would do it again."""
        grain = self._grains(step.sink)
        return grain is None or grain(step.region.start) < grain(step.region.stop)

    def _grains(self, sink: Sink | None) -> Callable[[int], int] | None:
        """Return what takes an element, and returns the first one of its grain; None of what the caller writes."""
        if isinstance(sink, RawSink):
            return functools.partial(self._grain, sink) if isinstance(sink.file, AtomicFile) else None
        return getattr(sink, "shard_with", None)

    def _grain(self, sink: RawSink, at: int) -> int:
        """Return the first element of the grain that holds element `at`; the end of the tensor is also one."""
        if at == self._size:
            return at
        grain = (sink.offset + at * sink.dtype.itemsize) // GRAIN_NBYTES * GRAIN_NBYTES
        return max(0, (grain - sink.offset) // sink.dtype.itemsize)


def _reopening(source: Source, policy: Policy) -> _Reopen:
    if source.sequential or source.identity is None:
        raise ParameterError(
            "cannot be read by several processes", subject=source.name, hint="give a file, or --executor threads"
        )
    _, inode, nbytes, mtime_ns, _ = source.identity
    place = source.name if is_url(source.name) else os.path.join(os.getcwd(), source.name)
    return _Reopen(place, source.name, inode, nbytes, mtime_ns, policy)


def _rewriting(sink: Sink, window: tuple[int, int]) -> Callable[[], Any]:
    """Return what opens a sink in a worker, which writes the elements of `window`; `InTurn` if only the caller does."""
    if hasattr(sink, "elsewhere"):
        return sink.elsewhere(*window)  # type: ignore[no-any-return]
    if not isinstance(sink, RawSink) or not isinstance(sink.file, AtomicFile):
        raise ParameterError(
            "cannot be written by several processes",
            subject=sink.name,
            hint="give a FILE.npy, a FILE.zarr unless the input is in Fortran order, or --executor threads",
        )
    if not sink.name.lower().endswith(".npy"):
        return InTurn
    inode, itemsize = os.fstat(sink.file.fd).st_ino, sink.dtype.itemsize
    first, stop = (sink.offset + at * itemsize for at in window)
    return functools.partial(Ranges, sink.name, sink.file.working_path, inode, sink.offset, itemsize, (first, stop))


class _Receiver(Unpickler):
    """Loads in a worker what `_Orders` has pickled. It comes from the caller, over dask's own connection."""

    def __init__(self, order: bytes) -> None:
        super().__init__(streams.BytesIO(order))
        self.engine = Engine(1)
        self.engine.buffers = _buffers
        self.sinks: list[Sink] = []

    def persistent_load(self, place: Any) -> Any:
        if isinstance(place, _Reopen):
            with _opening:
                return _reopened(place)
        if isinstance(place, _Local):
            self.engine.tile, self.engine.visit = place
            return self.engine
        sink = place()
        if not sink.sequential:
            self.sinks.append(sink)
        return sink


# --- what a worker does ----------------------------------------------------------------------------------------------

_opening = threading.Lock()
_buffers = Buffers()  # of all threads, since one that waits for the disk ends and another takes its place


@functools.lru_cache(maxsize=_FILES)
def _reopened(place: _Reopen) -> Source:
    """Return the source in this process; it is opened on the first call."""
    source = open_source(place.text, policy=place.policy)
    source.name = place.subject
    found = source.identity
    if found is None or (found.inode, found.nbytes, found.mtime_ns) != place[2:5]:
        source.close()
        raise ChangedError("is not the same file on a worker", subject=place.subject)
    return source


def work(order: bytes, before_disk: Callable[[], object] = lambda: None) -> list[Any]:
    """Do an item of work, and return the results of its steps; call `before_disk` before waiting for the disk."""
    receiver = _Receiver(order)
    try:
        source, again, item = receiver.load()
        results = [receiver.engine.work(job, source, region) for job, region in (*again, *item)]
        source.verify_unchanged()
        if receiver.sinks:
            before_disk()
        for sink in receiver.sinks:
            sink.commit()
        return results[len(again) :]
    finally:
        for sink in receiver.sinks:
            sink.abort()


def _work_on_cluster(order: bytes) -> list[Any]:
    """Do an item of work; the worker begins another one while this waits for the disk."""
    from distributed import secede

    return work(order, secede)


class InTurn:
    """Stands in a worker for a sink that only the caller writes; results are returned to the caller."""

    sequential = True
