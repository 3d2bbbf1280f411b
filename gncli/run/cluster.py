"""The engine on a dask cluster, whose workers read the source and write the output themselves.

An item of work is a job and a run of visits, `WORK_NBYTES` or more together. It returns the results of the visits in
order, as threads do. The job is sent as a pickled function. The source, the sink and the engine that it refers to are
sent as their location and sizes. Each worker process opens a file once, and checks that it is the same file.

Notes
-----
Several clients of a network file system write back whole pages, so no two of them may write into the same one. A
worker therefore writes only ranges of the .npy that are multiples of a grain, and fsyncs them before it answers.
The rest at both ends of its item, less than a grain each, is returned to the caller, who writes it. If an item is done
twice because a worker was lost, it writes the same bytes to the same place.
"""

from __future__ import annotations

import functools
import io as streams
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from pickle import Unpickler
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from gncli import progress, signals
from gncli.errors import ChangedError, GncliError, LimitError, ParameterError
from gncli.inputs import STRICT, Policy
from gncli.io import Source, open_source
from gncli.io.atomic import AtomicFile
from gncli.io.ranges import Edge, Ranges
from gncli.io.rawfile import RawSink
from gncli.kernels.walk import Region
from gncli.run.engine import Engine, Job, Result, cancelled

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

WORK_NBYTES = 256 << 20  # bytes of input per item: 10 TB are 40,000 items
PATIENCE = 30  # seconds to wait for a scheduler that has a worker

_FILES = 8  # files that a worker process keeps open


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
        The bytes of an item, and the largest visit: a worker reads so much at once.

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
        super().__init__(workers, tile, work)
        self._address, self._policy, self._work_nbytes = address, policy, work
        self._client: Client | None = None
        self._cluster: LocalCluster | None = None
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
            signals.cleanups.pop(self, None)

    def _results(self, job: Job[Result], source: Source, regions: Iterable[Region]) -> Iterator[tuple[Region, Result]]:
        order, sinks = _order(job, source, self, self._policy)
        client = self._joined()
        at_once = 2 * sum(client.nthreads().values())
        executor = client.get_executor(pure=False)
        pending: deque[tuple[list[Region], Future[Any]]] = deque()
        try:
            for batch in _batches(regions, self._work_nbytes // source.dtype.itemsize):
                with signals.Deferred():  # a signal here could leave a lock held that dask needs to end
                    pending.append((batch, executor.submit(work, order, batch)))
                if len(pending) >= at_once:
                    yield from self._first(pending, sinks, source)
            while pending:
                yield from self._first(pending, sinks, source)
        finally:
            with signals.Deferred():
                cancelled([future for _, future in pending])

    def _first(
        self, pending: deque[tuple[list[Region], Future[Any]]], sinks: list[RawSink], source: Source
    ) -> Iterator[tuple[Region, Any]]:
        batch, future = pending[0]
        try:
            results, edges = _awaited(future)
        except GncliError:
            raise
        except (self._distributed.KilledWorker, CancelledError, OSError) as error:
            problem = f"the cluster lost its workers, or they were killed ({str(error).partition(chr(10))[0]})"
            raise LimitError(problem, hint="see the logs of its workers, or use --executor threads") from error
        pending.popleft()
        for sink, ends in zip(sinks, edges, strict=True):
            for offset, data in ends:
                sink.file.write(memoryview(data), offset)
        progress.advance((batch[-1].stop - batch[0].start) * source.dtype.itemsize)
        yield from zip(batch, results, strict=True)

    def _joined(self) -> Client:
        if self._client is None:
            import logging  # slow to import

            logging.getLogger("distributed").setLevel(logging.CRITICAL)  # problems are raised as errors
            signals.cleanups[self] = self.rest
            try:
                if self._address is None:
                    self._start()
                else:
                    self._distributed.comm.resolve_address(self._address)  # a bad address fails here, at once
                self._client = self._distributed.Client(self._cluster or self._address, timeout=PATIENCE)
                self._client.wait_for_workers(1, timeout=PATIENCE)
            except (OSError, ValueError, TimeoutError) as error:
                self.rest()
                problem = f"no dask scheduler with workers answers ({str(error).partition(chr(10))[0]})"
                raise LimitError(problem, subject=self._address, hint="give its address with --scheduler") from error
        return self._client

    def _start(self) -> None:
        # Python's resource tracker unblocks signals when it starts, so it is started first.
        from multiprocessing.resource_tracker import ensure_running

        ensure_running()
        with _signals_later():
            self._cluster = self._distributed.LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
                silence_logs=50,
            )


def _awaited(future: Future[Any]) -> Any:
    """Return the result of `future`; a signal ends the wait, but never while a lock is held."""
    with signals.Deferred():
        while not wait((future,), timeout=0.1).done:
            signals.checkpoint()
        return future.result()


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


def _batches(regions: Iterable[Region], size: int) -> Iterator[list[Region]]:
    """Yield batches of neighbouring regions, each of `size` elements or more; the last batch may be smaller."""
    batch: list[Region] = []
    for region in regions:
        batch.append(region)
        if region.stop - batch[0].start >= size:
            yield batch
            batch = []
    if batch:
        yield batch


# --- what is sent ----------------------------------------------------------------------------------------------------


class _Reopen(NamedTuple):
    """A source as it is sent: its location and its identity."""

    text: str
    subject: str
    inode: int
    nbytes: int
    mtime_ns: int
    policy: Policy


class _Rewrite(NamedTuple):
    """A sink as it is sent: the file that is being written; without a path, the caller writes in order."""

    name: str
    path: str | None = None
    inode: int = 0
    offset: int = 0
    itemsize: int = 1


class _Local(NamedTuple):
    """An engine as it is sent: its sizes."""

    tile: int
    visit: int


def _order(job: Any, source: Source, engine: Engine, policy: Policy) -> tuple[bytes, list[RawSink]]:
    """Return the pickled job and source, and the sinks that its workers write to."""
    from cloudpickle import Pickler

    sinks: list[RawSink] = []

    class Sender(Pickler):  # type: ignore[misc]  # it has no types
        def persistent_id(self, item: Any) -> NamedTuple | None:
            if hasattr(item, "read_into"):
                return _reopening(item, policy)
            if hasattr(item, "write_from"):
                return _rewriting(item, sinks)
            return _Local(item.tile, item.visit) if item is engine else None

    stream = streams.BytesIO()
    Sender(stream).dump((job, source))
    return stream.getvalue(), sinks


def _reopening(source: Source, policy: Policy) -> _Reopen:
    if source.sequential or source.identity is None:
        raise ParameterError(
            "cannot be read by several processes", subject=source.name, hint="give a file, or --executor threads"
        )
    _, inode, nbytes, mtime_ns, _ = source.identity
    return _Reopen(os.path.join(os.getcwd(), source.name), source.name, inode, nbytes, mtime_ns, policy)


def _rewriting(sink: Any, sinks: list[RawSink]) -> _Rewrite:
    if not isinstance(sink, RawSink) or not isinstance(sink.file, AtomicFile):
        raise ParameterError(
            "cannot be written by several processes",
            subject=sink.name,
            hint="give a FILE.npy, or --executor threads",
        )
    if not sink.name.lower().endswith(".npy"):
        return _Rewrite(sink.name)
    sinks.append(sink)
    inode = os.fstat(sink.file.fd).st_ino
    return _Rewrite(sink.name, sink.file.working_path, inode, sink.offset, sink.dtype.itemsize)


class _Receiver(Unpickler):
    """Loads in a worker what `_order` has pickled. It comes from the caller, over dask's own connection."""

    def __init__(self, order: bytes) -> None:
        super().__init__(streams.BytesIO(order))
        self.ranges: list[Ranges] = []

    def persistent_load(self, place: Any) -> Any:
        if isinstance(place, _Reopen):
            with _opening:
                return _reopened(place)
        if isinstance(place, _Local):
            return Engine(1, place.tile, place.visit)
        if place.path is None:
            return InTurn()
        self.ranges.append(Ranges(place.path, place.name, place.inode, place.offset, place.itemsize))
        return self.ranges[-1]


# --- what a worker does ----------------------------------------------------------------------------------------------

_opening = threading.Lock()


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


def work(order: bytes, regions: list[Region]) -> tuple[list[Any], list[list[Edge]]]:
    """Do an item of work; return the results of its visits, and for each sink the edges that the caller must write."""
    receiver = _Receiver(order)
    try:
        job, source = receiver.load()
        engine = Engine(1)
        results = [engine.work(job, source, region) for region in regions]
        source.verify_unchanged()
        return results, [ranges.finish() for ranges in receiver.ranges]
    finally:
        for ranges in receiver.ranges:
            ranges.close()


class InTurn:
    """Stands in a worker for a sink that only the caller writes; results are returned to the caller."""

    sequential = True
