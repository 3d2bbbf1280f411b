"""The engine: a bounded number of items under way, results in order, and nothing left running."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.io import ArraySource
from gncli.kernels.partition import whole
from gncli.kernels.scratch import BUFFER, LINE
from gncli.kernels.walk import Region, Walk
from gncli.run.engine import DEFAULT_TILE, TILES_PER_VISIT, Buffers, Engine, available_processors
from tests.arrays import Forward, Inline
from tests.runs import ran

ELEMENTS = np.arange(40 * 8192, dtype=np.float64)
WALK = Walk.of(whole(ELEMENTS.shape))
REGIONS = list(WALK.regions(8192))


class Recorded(ThreadPoolExecutor):
    """Threads, with every future they gave."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.futures.append(super().submit(fn, *args, **kwargs))
        return self.futures[-1]


def first(region: Region, values: NDArray[Any]) -> float:
    return float(values[0])


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("source_type", [ArraySource, Forward])
def test_results_come_in_storage_order(workers: int, source_type: type[ArraySource]) -> None:
    def slow_at_first(region: Region, values: NDArray[Any]) -> float:
        time.sleep(0.01 if region.first % 4 == 0 else 0)
        return first(region, values)

    with Engine(workers) as engine:
        found = list(ran(engine, slow_at_first, source_type(ELEMENTS), REGIONS))
    assert found == [(region, float(region.start)) for region in REGIONS]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_at_most_two_items_a_worker_are_under_way(workers: int) -> None:
    with Recorded(workers) as executor:
        engine = Engine(workers, executor=executor)
        most = 0
        for count, _ in enumerate(ran(engine, first, ArraySource(ELEMENTS), REGIONS)):
            most = max(most, len(executor.futures) - count)
    assert most == 2 * workers


def test_a_sequential_source_is_read_by_whoever_submits_no_further_than_items_are_under_way() -> None:
    source = Forward(ELEMENTS)
    with Engine(2) as engine:
        for count, _ in enumerate(ran(engine, first, source, REGIONS)):
            assert source.position <= (count + 4) * 8192


def test_an_error_in_an_item_is_raised_and_leaves_nothing_running() -> None:
    release = threading.Event()

    def job(region: Region, values: NDArray[Any]) -> None:
        if region.first == 3:
            release.set()
            raise ArithmeticError("in item 3")
        if region.first > 3:
            release.wait(10)
            time.sleep(0.01)

    with Recorded(2) as executor:
        engine = Engine(2, executor=executor)
        with pytest.raises(ArithmeticError, match="in item 3"):
            list(ran(engine, job, ArraySource(ELEMENTS), REGIONS))
        assert all(future.done() for future in executor.futures)
        assert len(executor.futures) <= 3 + 4


def test_an_error_while_reading_in_order_is_raised_and_leaves_nothing_running() -> None:
    class Broken(Forward):
        def read_into(self, out: NDArray[Any], start: int) -> None:
            if start == REGIONS[2].start:
                raise OSError("gone")
            super().read_into(out, start)

    def job(region: Region, values: NDArray[Any]) -> None:
        time.sleep(0.02)

    with Recorded(1) as executor:
        engine = Engine(3, executor=executor)
        with pytest.raises(OSError, match="gone"):
            list(ran(engine, job, Broken(ELEMENTS), REGIONS))
        assert len(executor.futures) == 2
        assert all(future.done() for future in executor.futures)


def test_who_stops_listening_cancels_what_has_not_begun() -> None:
    with Recorded(1) as executor:
        engine = Engine(4, executor=executor)
        begun: list[int] = []
        hold = threading.Event()

        def job(region: Region, values: NDArray[Any]) -> None:
            begun.append(region.first)
            if region.first == 1:
                hold.wait(10)

        results = ran(engine, job, ArraySource(ELEMENTS), REGIONS)
        next(results)
        while begun != [0, 1]:  # the second item holds the only thread
            time.sleep(0.001)
        threading.Timer(0.05, hold.set).start()
        results.close()  # type: ignore[attr-defined]  # it is a generator
        assert executor.futures[1].done()
        assert all(future.cancelled() for future in executor.futures[2:])
        assert begun == [0, 1]
        with pytest.raises(CancelledError):
            executor.futures[2].result()


def test_an_executor_that_is_given_is_used_and_not_stopped() -> None:
    executor = Inline()
    with Engine(2, executor=executor) as engine:
        list(ran(engine, first, ArraySource(ELEMENTS), REGIONS))
    assert executor.count == len(REGIONS)
    with ThreadPoolExecutor(1) as threads:
        with Engine(executor=threads):
            pass
        assert threads.submit(int).result() == 0


def test_a_lone_item_is_done_by_whoever_asks() -> None:
    def job(region: Region, values: NDArray[Any]) -> tuple[threading.Thread, float]:
        return threading.current_thread(), first(region, values)

    for source, regions in ((ArraySource(ELEMENTS), REGIONS[:1]), (Forward(ELEMENTS), REGIONS[:1])):
        with Engine(2) as engine:
            (found,) = ran(engine, job, source, regions)
            assert found == (REGIONS[0], (threading.main_thread(), 0.0))
            engine.rest()
    with Engine(2) as engine:
        threads = {thread for _, (thread, _) in ran(engine, job, ArraySource(ELEMENTS), REGIONS[:2])}
        assert threading.main_thread() not in threads


def begun(others: set[threading.Thread]) -> bool:
    """Return whether there are threads of gncli besides `others`, which may be of other tests."""
    return any(thread.name.startswith("gncli") for thread in set(threading.enumerate()) - others)


def test_threads_that_rest_are_started_again() -> None:
    others = set(threading.enumerate())
    with Engine(2) as engine:
        for _ in range(2):
            assert len(list(ran(engine, first, ArraySource(ELEMENTS), REGIONS[:4]))) == 4
            engine.rest()
            assert not begun(others)


def test_threads_of_its_own_are_stopped() -> None:
    others = set(threading.enumerate())
    with Engine(2) as engine:
        list(ran(engine, first, ArraySource(ELEMENTS), REGIONS[:4]))
        assert begun(others)
    assert not begun(others)


def test_overflow_in_an_item_is_no_warning() -> None:
    def job(region: Region, values: NDArray[Any]) -> float:
        return float((values * 1e308)[-1])

    with Engine(1) as engine:
        assert dict(ran(engine, job, ArraySource(ELEMENTS), REGIONS[:1]))[REGIONS[0]] == np.inf


def test_an_item_computes_without_copies_of_what_is_broadcast_and_leaves_numpy_as_it_was() -> None:
    array = np.zeros(4)
    partition = whole(array.shape)
    with Engine(1, executor=Inline()) as engine:
        regions = Walk.of(partition).regions(8)
        (found,) = (result for _, result in ran(engine, lambda *_: np.getbufsize(), ArraySource(array), regions))
    assert (found, np.getbufsize()) == (BUFFER, 8192)


def test_buffers_begin_at_a_cache_line() -> None:
    buffers = Buffers()
    taken = [buffers.take(size, np.dtype("f4")) for size in (1, 1000, 1 << 20)]
    buffers.give(taken[0])
    taken.append(buffers.take(3, np.dtype("f2")))
    assert [array.ctypes.data % LINE for array in taken] == [0] * 4


def test_buffers_are_used_again() -> None:
    strided = ArraySource(np.repeat(ELEMENTS, 2)[::2])
    with Engine(1) as engine:
        addresses = set()
        for _ in ran(engine, lambda region, values: addresses.add(values.ctypes.data), strided, REGIONS):
            pass
    assert len(addresses) <= 2


def test_elements_in_memory_are_not_copied() -> None:
    with Engine(2) as engine:
        for region, shared in ran(
            engine, lambda _, values: np.shares_memory(values, ELEMENTS), ArraySource(ELEMENTS), REGIONS
        ):
            assert shared, region


def test_a_buffer_that_is_too_small_is_replaced_and_any_dtype_may_use_it() -> None:
    buffers = Buffers()
    small = buffers.take(4, np.dtype(np.float16))
    buffers.give(small)
    large = buffers.take(8, np.dtype(np.float64))
    assert (large.size, large.dtype.str) == (8, "<f8")
    buffers.give(large)
    again = buffers.take(3, np.dtype(">i4"))
    assert again.ctypes.data == large.ctypes.data
    assert (again.size, again.dtype.str) == (3, ">i4")


def test_sizes_are_bytes_of_input() -> None:
    with Engine(3, 1 << 16, 1 << 18) as engine:
        assert engine.tile_of(np.dtype(np.float32)) == 1 << 14
        assert engine.visit_of(ArraySource(ELEMENTS)) == 1 << 15
        assert engine.visit_of(Forward(ELEMENTS)) == 1 << 14
        assert [engine.share_of(nbytes) for nbytes in (0, 12 << 20, 120 << 20)] == [1 << 20, 1 << 20, 10 << 20]
    with Engine(1, 1, 1) as engine:
        assert engine.tile_of(np.dtype(np.float32)) == 1
        assert engine.visit_of(Forward(ELEMENTS)) == 1
    with Engine() as engine:
        assert (engine.tile, engine.visit) == (DEFAULT_TILE, TILES_PER_VISIT * DEFAULT_TILE)
        assert engine.workers == available_processors()


def test_processors_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert available_processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_processors() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_processors() == 1


def test_an_engine_with_an_executor_of_its_callers_leaves_that_alone() -> None:
    class Watched(Inline):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            raise AssertionError("not ours to shut down")

    with Engine(executor=Watched()) as engine:
        engine.rest()
