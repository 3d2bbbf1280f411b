"""An executor on threads that continues with the threads that could be started."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


class _Item(NamedTuple):
    future: Future[Any]
    work: Callable[[], Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001  # any error is raised where the result is awaited
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Threads(Executor):
    """Starts threads as work arrives, `count` at most; if none can be started, the submitting thread does the work.

    Parameters
    ----------
    count : int
        The largest number of threads.

    Notes
    -----
    `ThreadPoolExecutor` first puts an item in its queue, then raises an error if no thread can be started. Whether the
    item is done then depends on the threads that already run.
    """

    def __init__(self, count: int) -> None:
        self._wanted = count
        self.notes: list[str] = []
        self._items: SimpleQueue[_Item | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Return the future of ``fn(*args, **kwargs)``."""
        item = _Item(Future(), lambda: fn(*args, **kwargs))
        if len(self._threads) < self._wanted:
            self._hire()
        if self._threads:
            self._items.put(item)
        else:
            item.run()
        return item.future

    def rest(self) -> None:
        """Wait for all submitted items, and end the threads; the next item starts them again."""
        for _ in self._threads:
            self._items.put(None)
        while self._threads:
            self._threads[-1].join()
            self._threads.pop()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads after all submitted items, or with `cancel_futures` after the running ones."""
        while cancel_futures:
            try:
                item = self._items.get_nowait()
            except Empty:
                break
            if item is not None:
                item.future.cancel()
                item.future.set_running_or_notify_cancel()  # wakes those who wait for it
        if wait:
            self.rest()

    def _hire(self) -> None:
        thread = threading.Thread(target=self._work, name=f"gncli-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            self._wanted = len(self._threads)
            self.notes.append(f"only {self._wanted} threads could be started; continuing with these")
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while (item := self._items.get()) is not None:
            item.run()
            del item  # and with it the result, which may be large
