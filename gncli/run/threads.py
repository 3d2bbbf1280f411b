"""The workers: an executor that goes on with the threads it can get."""

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
        except BaseException as error:  # noqa: BLE001  # whatever it is, it goes to whoever waits for the result
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Threads(Executor):
    """Threads that are started as work comes in, `count` at most; with none to be had, the submitting one does it.

    Parameters
    ----------
    count : int
        How many.

    Notes
    -----
    `ThreadPoolExecutor` has put an item in its queue when it finds that no thread can be started, and raises: whether
    the item will be done then depends on the threads that there are.
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
        """Wait for what was submitted, and end the threads; the next item starts them again."""
        for _ in self._threads:
            self._items.put(None)
        while self._threads:
            self._threads[-1].join()
            self._threads.pop()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, after what was submitted, or after what was begun."""
        while cancel_futures:
            try:
                item = self._items.get_nowait()
            except Empty:
                break
            if item is not None:
                item.future.cancel()
                item.future.set_running_or_notify_cancel()  # whoever waits for it is told
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
