"""Threads: what is submitted is done, what is dropped is not, and who rests begins again."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import pytest

from gncli.threads import Threads


def test_threads_do_what_is_submitted_rest_and_begin_again() -> None:
    before, threads = set(threading.enumerate()), Threads(2)
    assert [future.result() for future in [threads.submit(pow, 2, k) for k in range(5)]] == [1, 2, 4, 8, 16]
    threads.rest()
    threads.rest()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("gncli")]
    assert threads.submit(int, "7").result() == 7
    failing = threads.submit(int, "x")
    with pytest.raises(ValueError, match=r"invalid literal"):
        failing.result()
    threads.shutdown()


def test_threads_that_are_shut_down_drop_what_was_not_begun() -> None:
    threads, begun, go = Threads(1), threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go.wait()

    first, second = threads.submit(work), threads.submit(int, "7")
    assert begun.wait(60)
    given_up = threads.submit(int, "8")
    assert given_up.cancel()
    threading.Timer(0.05, go.set).start()
    threads.shutdown(cancel_futures=True)
    assert first.result()
    assert second.cancelled()
    wait([given_up])
    threads.shutdown(wait=False, cancel_futures=True)


def test_an_item_that_was_cancelled_is_not_done() -> None:
    threads, begun, go, done = Threads(1), threading.Event(), threading.Event(), []

    def wait() -> None:
        begun.set()
        go.wait(10)

    threads.submit(wait)
    begun.wait(10)
    cancelled = threads.submit(lambda: done.append("no"))
    threads.submit(lambda: done.append("yes"))
    assert cancelled.cancel()
    go.set()
    threads.shutdown()
    assert done == ["yes"]


def test_threads_that_were_told_to_rest_can_be_shut_down_at_once() -> None:
    threads = Threads(1)
    threads._items.put(None)  # a rest that a signal interrupted has left this behind
    threads.shutdown(cancel_futures=True)
    assert threads.submit(lambda: 7).result() == 7
    threads.shutdown()
