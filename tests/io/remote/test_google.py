"""Objects on Google Cloud Storage, written: obstore's store in memory stands for it."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import obstore
import pytest
from obstore.store import MemoryStore

from gncli import signals
from gncli.errors import LimitError, OutputError
from gncli.inputs import Network
from gncli.io.remote import client, google, obstores, upload
from gncli.io.remote.client import Failure
from gncli.io.remote.google import Feed, GoogleObject
from gncli.io.remote.upload import MultipartFile
from gncli.io.urls import Url
from tests.files import saved
from tests.io.remote.conftest import Command

X = np.random.default_rng(0).standard_normal((8, 8, 64, 64), dtype=np.float32)  # 1 MiB: 8 parts here
PART = 1 << 17
NAME = "gs://bucket/a/y.npy"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    made = MemoryStore()
    monkeypatch.setattr(obstores, "store", lambda *_, **__: made)
    monkeypatch.setattr(google, "store", lambda *_, **__: made)
    monkeypatch.setattr(upload, "LEAST_PART", PART)
    monkeypatch.setattr(upload, "MIB", 1 << 10)
    return made


def keys(memory: MemoryStore) -> list[str]:
    return [each["path"] for page in obstore.list(memory) for each in page]


def content(memory: MemoryStore) -> bytes:
    return bytes(obstore.get(memory, "a/y.npy").bytes())


def new(**options: Any) -> MultipartFile:
    return MultipartFile(GoogleObject(Url("gs", "bucket", "a/y.npy"), Network()), name=NAME, **options)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_an_object_has_the_bytes_that_a_file_has(
    suffix: str, memory: MemoryStore, gncli: Command, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    assert gncli("normalize", "x.npy", "-G", "4", "-o", f"y{suffix}", "-q") == (0, "", "")
    assert gncli("normalize", "x.npy", "-G", "4", "-o", f"gs://bucket/a/y{suffix}", "-q") == (0, "", "")
    assert keys(memory) == [f"a/y{suffix}"]
    assert bytes(obstore.get(memory, f"a/y{suffix}").bytes()) == (tmp_path / f"y{suffix}").read_bytes()


def test_an_existing_object_is_replaced_by_force_alone(memory: MemoryStore, gncli: Command, tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", X)
    obstore.put(memory, "a/y.npy", b"old")
    words = ("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", NAME, "-q")
    assert gncli(*words) == (4, "", f"gncli: error: {NAME}: already exists; --force replaces it\n")
    assert content(memory) == b"old"
    assert gncli(*words, "--force") == (0, "", "")
    assert (len(content(memory)), keys(memory)) == (len(saved(X)), ["a/y.npy"])


def test_runs_come_in_any_order_from_any_thread(memory: MemoryStore) -> None:
    data = np.random.default_rng(1).bytes(11 * PART + 5)
    runs = [(at, data[at : at + PART // 3]) for at in range(0, len(data), PART // 3)]
    for order in (1, -1):
        with new(force=True) as file, ThreadPoolExecutor(4) as pool:
            file.allocate(len(data))
            list(pool.map(lambda run: file.write(memoryview(run[1]), run[0]), runs[::order]))
            assert "a/y.npy" not in keys(memory) or order == -1
            file.commit()
            file.commit()
        assert content(memory) == data
        assert keys(memory) == ["a/y.npy"]


def test_a_slow_store_gets_every_part(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = obstore.put

    def slow(store: Any, path: str, parts: Iterator[Any], **options: Any) -> Any:
        def slowly() -> Iterator[Any]:
            for part in parts:
                time.sleep(0.02)
                yield part

        return real(store, path, slowly(), **options)

    monkeypatch.setattr(obstore, "put", slow)
    data = os.urandom(4 * PART)
    with new() as file:
        file.allocate(len(data))
        file.write(memoryview(data), 0)
        file.commit()
    assert content(memory) == data


def test_of_two_runs_one_wins(memory: MemoryStore) -> None:
    with new() as one, new() as other:
        for file, data in ((one, b"one"), (other, b"two")):
            file.allocate(3)
            file.write(memoryview(data), 0)
        one.commit()
        with pytest.raises(OutputError, match="was created by someone else meanwhile"):
            other.commit()
    assert (content(memory), keys(memory)) == (b"one", ["a/y.npy"])


def test_the_copy_itself_depends_on_it(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with new() as file:
        file.allocate(3)
        file.write(memoryview(b"one"), 0)
        real = obstore.copy

        def late(store: Any, *places: str, overwrite: bool) -> None:
            obstore.put(memory, "a/y.npy", b"other")
            real(store, *places, overwrite=overwrite)

        monkeypatch.setattr(obstore, "copy", late)
        with pytest.raises(OutputError, match="was created by someone else meanwhile"):
            file.commit()
    assert (content(memory), keys(memory)) == (b"other", ["a/y.npy"])


def test_a_lost_answer_to_a_copy_that_worked_is_no_error(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = obstore.copy

    def lost(store: Any, *places: str, overwrite: bool) -> None:
        real(store, *places, overwrite=overwrite)
        raise OSError("connection reset")

    monkeypatch.setattr(obstore, "copy", lost)
    with new() as file:
        file.allocate(3)
        file.write(memoryview(b"one"), 0)
        file.commit()
    assert (content(memory), keys(memory)) == (b"one", ["a/y.npy"])


def test_what_is_aborted_leaves_nothing(memory: MemoryStore) -> None:
    for written in (b"", bytes(3 * PART + 1)):
        file = new()
        file.allocate(4 * PART)
        file.write(memoryview(written), 0)
        file.abort()
        file.abort()
        assert keys(memory) == []
    with new() as file:
        pass
    assert keys(memory) == []
    assert not signals.cleanups


def test_what_is_gone_need_not_be_removed(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError("a/y.npy.gncli-0 not found")

    monkeypatch.setattr(obstore, "delete", gone)
    GoogleObject(Url("gs", "bucket", "a/y.npy"), Network()).abort_upload("a/y.npy.gncli-0")


def test_a_signal_removes_the_temporary_object(memory: MemoryStore) -> None:
    file = new()
    file.allocate(4 * PART)
    file.write(memoryview(bytes(2 * PART)), 0)
    assert signals.cleanups[file]() == NAME
    signals.cleanups.pop(file)
    assert keys(memory) == []
    file.abort()


def refusing(status: int, call: str) -> Any:
    from obstore.exceptions import GenericError

    def refuse(*_: Any, **__: Any) -> Any:
        raise GenericError(f"Generic GCS error: Error performing {call}: Server returned non-2xx status code: {status}")

    return refuse


@pytest.mark.parametrize("call", ["put", "copy", "get"])
def test_what_fails_is_one_line_and_status_4_and_leaves_nothing(
    call: str, memory: MemoryStore, gncli: Command, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(obstore, call, refusing(403, call))
    code, out, err = gncli("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", NAME, "--retries", "1", "-q")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith(f"gncli: error: {NAME}: cannot be written (")
    assert "set GOOGLE_APPLICATION_CREDENTIALS" in err
    assert keys(memory) == []
    assert not signals.cleanups


def test_an_upload_that_breaks_in_the_middle_wakes_those_who_wait(
    memory: MemoryStore, gncli: Command, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", X)

    def broken(_store: Any, _path: str, parts: Iterator[Any], **_: Any) -> None:
        next(parts)
        time.sleep(0.05)
        raise OSError("connection reset by peer")

    monkeypatch.setattr(obstore, "put", broken)
    words = ("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", NAME, "--retries", "0", "-q")
    answer = gncli(*words)
    assert answer == (4, "", f"gncli: error: {NAME}: cannot be written (connection reset by peer)\n")
    assert keys(memory) == []


def test_a_part_that_nobody_takes_is_a_failure(memory: MemoryStore) -> None:
    begun = GoogleObject(Url("gs", "bucket", "a/y.npy"), Network())
    temporary = begun.begin_upload("00ff", PART)
    begun.abort_upload(temporary)
    with pytest.raises(Failure, match="the upload has ended"):
        begun.upload_part(temporary, 1, bytearray(PART))
    assert keys(memory) == []


def test_a_temporary_object_that_stays_is_named_and_cleaned(
    memory: MemoryStore, gncli: Command, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", X)
    real = obstore.delete
    monkeypatch.setattr(obstore, "delete", refusing(403, "delete"))
    words = ("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", NAME, "-q")
    assert gncli(*words) == (0, "", "")  # OUT is there
    assert [re.sub("[0-9a-f]{16}$", "", key) for key in keys(memory)] == ["a/y.npy", "a/y.npy.gncli-"]
    code, out, err = gncli("clean", NAME, "--force")
    assert (code, out) == (4, "")
    assert "403" in err
    monkeypatch.setattr(obstore, "delete", real)
    hint = f"of a run that failed, was killed or goes on; gncli clean {NAME} removes what is left over"
    assert gncli(*words, "--force") == (0, "", f"gncli: {NAME}: an upload is open, {hint}\n")
    assert gncli("clean", NAME)[0] == 4  # it is not an hour old
    monkeypatch.setattr(client, "QUIET_SECONDS", 0)
    code, out, err = gncli("clean", NAME)
    assert (code, err, keys(memory)) == (0, "", ["a/y.npy"])
    assert out.startswith("removed an upload that was begun at ")
    assert gncli("clean", NAME) == (0, f"{NAME}: nothing is left over\n", "")


def test_an_object_beyond_the_limit_is_refused_at_once(memory: MemoryStore) -> None:
    with new() as file, pytest.raises(LimitError, match=re.escape("an object may have 637,534,208,000")):
        file.allocate(1 << 40)
    assert keys(memory) == []


def test_parts_are_taken_in_their_order_and_few_wait() -> None:
    feed, taken = Feed(), []
    for number in (3, 2):  # not their turn: nobody waits
        feed.give(number, bytearray([number]))
    giving = threading.Thread(target=feed.give, args=(1, bytearray([1])))
    giving.start()
    assert giving.is_alive()  # three wait, and it is the turn of one of them
    parts = iter(feed)
    taken += [next(parts), next(parts)]
    giving.join(10)
    assert not giving.is_alive()
    taken += [next(parts)]
    assert [part[0] for part in taken] == [1, 2, 3]
    feed.last(3)
    assert list(parts) == []
    with pytest.raises(Failure, match="the upload has ended"):
        feed.give(4, bytearray())


def test_the_client_that_writes_retries_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("obstore.store.GCSStore", lambda *_, **options: made.append(options))
    obstores.store.cache_clear()
    for retried in (True, False):
        obstores.store(Url("gs", f"b{os.getpid()}", ""), Network(retries=3), retried=retried)
    obstores.store.cache_clear()
    assert [options["retry_config"]["max_retries"] for options in made] == [3, 0]
    assert [options["client_options"]["timeout"] for options in made] == ["600s", "60s"]
