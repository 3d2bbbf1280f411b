"""Zarr written to stores: the objects of a folder, which are no array before the last is there, whatever happens."""

from __future__ import annotations

import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from obstore.store import MemoryStore

from gncli import signals
from gncli.errors import OutputError
from gncli.inputs import Network
from gncli.io import open_sink
from gncli.io.formats.zarr import writing
from gncli.io.remote import client, folder, obstores
from gncli.io.remote.client import MARK
from gncli.io.remote.s3 import S3Object
from gncli.io.shared_objects import SharedObjects, SharedPrefix
from gncli.io.source import Sink
from gncli.io.urls import Url
from gncli.run import parts as run_parts
from gncli.tasks import parts as tasks_parts
from tests.files import write_in_threads
from tests.io.remote.conftest import Command
from tests.marks import slow_but
from tests.peer import peer
from tests.processes import uncovered
from tests.servers import Asked, Fault, Handler, Store, dropped, lost, of, once, status

X = np.random.default_rng(0).normal(3, 20, (18, 8, 9, 9)).astype("f4")  # 6 shards here
LINE = ("normalize", "x.npy", "-G", "4", "-q", "-o")
SMALL = {"CHUNK_NBYTES": 1 << 12, "SHARD_NBYTES": 1 << 13}


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let chunks and shards be small."""
    monkeypatch.chdir(tmp_path)
    for name, nbytes in SMALL.items():
        monkeypatch.setattr(writing, name, nbytes)
    np.save("x.npy", X)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every claim as one of a run that was killed."""
    monkeypatch.setattr(client, "QUIET_SECONDS", 0)


@pytest.fixture
def out(bucket: Any, front: Store) -> str:
    return f"s3://{bucket.name}/y.zarr"


def keys(bucket: Any) -> list[str]:
    return [each.key for each in bucket.objects.all()]


def local(root: str = "y.zarr") -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


def remote(bucket: Any) -> dict[str, bytes]:
    return {each.key: each.get()["Body"].read() for each in bucket.objects.all()}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Let the stores that obstore speaks to be one in memory."""
    made = MemoryStore()
    monkeypatch.setattr(obstores, "store", lambda *_, **__: made)
    return made


def content(memory: MemoryStore) -> dict[str, bytes]:
    found = [each["path"] for page in obstore.list(memory) for each in page]
    return {path: bytes(obstore.get(memory, path).bytes()) for path in found}


def sink(out: str, **options: Any) -> Sink:
    return open_sink(out, shape=X.shape, dtype=X.dtype, **options)


# --- what is written -------------------------------------------------------------------------------------------------


WRITTEN: dict[str, tuple[str, ...]] = {
    "": (),
    "::/a/b": (),
    "/": ("--compression", "zstd"),
    "::c": ("--dtype", "bfloat16"),
}


@pytest.mark.parametrize("name", slow_but(WRITTEN, "::/a/b"))
def test_the_objects_are_the_files_of_the_folder(name: str, bucket: Any, out: str, gncli: Command) -> None:
    options = WRITTEN[name]
    assert gncli(*LINE, f"y.zarr{name}", *options) == (0, "", "")
    assert gncli(*LINE, f"{out}{name}", *options) == (0, "", "")
    assert remote(bucket) == local()
    assert len(keys(bucket)) > 4
    assert gncli("diff", out, "y.zarr", "--rtol", "0", "--atol", "0", "-q")[0] == 0
    assert not signals.cleanups


@pytest.mark.slow
def test_zarr_python_reads_what_was_put(bucket: Any, out: str, gncli: Command) -> None:
    for order in "CF":
        np.save("x.npy", np.asarray(X, order=order))  # type: ignore[call-overload]
        assert gncli(*LINE, "y.npy", "-f") == gncli(*LINE, f"{out}::/g/a", "-f") == (0, "", "")
        for key, content in remote(bucket).items():
            Path("got", key).parent.mkdir(parents=True, exist_ok=True)
            Path("got", key).write_bytes(content)
        with peer() as other:
            found, attributes = other.read(Path("got", "y.zarr"), "g/a")
        assert np.array_equal(found, np.load("y.npy"))
        assert attributes["num_groups"] == 4


@pytest.mark.parametrize("shape", [(), (0, 3), pytest.param((2000,), marks=pytest.mark.slow)])
def test_arrays_of_every_kind_are_put(shape: tuple[int, ...], bucket: Any, out: str) -> None:
    x = np.random.default_rng(1).random(shape)
    for place in ("y.zarr", out):
        with open_sink(place, shape=shape, dtype=x.dtype) as made:
            made.write_from(x.reshape(-1), 0)
            made.commit()
    assert remote(bucket) == local()


@pytest.mark.slow
def test_threads_put_what_one_puts(bucket: Any, out: str) -> None:
    for place in ("y.zarr", out):
        write_in_threads(sink(place, network=Network(requests=3)), X, 701, 0)
    assert remote(bucket) == local()


def test_what_describes_the_array_comes_last_and_the_root_after_all(
    bucket: Any, front: Store, out: str, gncli: Command
) -> None:
    assert gncli(*LINE, f"{out}::/g/a")[0] == 0
    sent = [asked.path.partition("y.zarr")[2] for asked in front.asked if asked.method == "PUT"]
    assert sent[0] == ".gncli-claim"
    assert all(re.fullmatch("/g/a/c(/[0-9])+", path) for path in sent[1:-3])
    assert sent[-3:] == ["/g/a/zarr.json", "/g/zarr.json", "/zarr.json"]
    assert all("if-none-match" in asked.headers for asked in front.asked if asked.method == "PUT")


COMMANDS = {
    "diff": ("diff", "x.npy", "x.npy", "-q", "-o"),
    "backward": ("backward", "x.npy", "dy.npy", "-G", "4", "-q", "--dx"),
    "random": ("random", "2,2", "--seed", "0", "-q", "-o"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_writes_writes_to_a_store(command: str, bucket: Any, out: str, gncli: Command) -> None:
    np.save("dy.npy", X[::-1])
    for place in ("y.zarr", out):
        assert gncli(*COMMANDS[command], place)[0] == 0
    assert remote(bucket) == local()


# --- what may be written ---------------------------------------------------------------------------------------------


def test_what_exists_is_replaced_by_force_alone(bucket: Any, front: Store, out: str, gncli: Command) -> None:
    assert gncli("random", "900,9", "--seed", "1", "-qo", out)[0] == 0
    old = remote(bucket)
    front.asked.clear()
    problem = "already exists; --force replaces it"
    assert gncli(*LINE, out) == (4, "", f"gncli: error: {out}: {problem}\n")
    assert {asked.method for asked in front.asked} == {"GET", "HEAD"}
    assert remote(bucket) == old
    bucket.put_object(Key="y.zarr/", Body=b"")  # what a console makes
    front.asked.clear()
    assert gncli(*LINE, out, "--force") == (0, "", "")
    assert gncli(*LINE, "y.zarr")[0] == 0
    assert remote(bucket) == {"y.zarr/": b"", **local()}
    touched = [(each.method, each.path.rpartition("y.zarr")[2]) for each in front.asked if each.method in "PUT DELETE"]
    first = next(at for at, (method, path) in enumerate(touched) if method == "PUT" and "/c/" in path)
    assert touched[1] == ("DELETE", "/zarr.json")
    assert len(touched[2:first]) == len(old) - 1  # all of them, before the first shard


HELD: dict[str, tuple[str, str, str, str]] = {
    "another array": ("::/a", "b/zarr.json", "{}", "holds more than /a, and would lose /b"),
    "attributes": (
        "::/a",
        "zarr.json",
        '{"zarr_format": 3, "node_type": "group", "attributes": {"a": 1}}',
        "holds more than /a, and would lose the attributes of /",
    ),
    "other objects": ("", "notes.txt", "kept", "holds more than /, and would lose /notes.txt"),
    "what is no JSON": (
        "",
        "zarr.json",
        "kept",
        "holds what cannot be listed, and would be lost: has metadata that are not JSON",
    ),
}


@pytest.mark.parametrize("case", slow_but(HELD, "attributes"))
def test_a_store_that_holds_more_is_not_replaced(case: str, bucket: Any, out: str, gncli: Command) -> None:
    member, key, text, problem = HELD[case]
    bucket.put_object(Key=f"y.zarr/{key}", Body=text.encode())
    code, report, err = gncli(*LINE, f"{out}{member}", "--force")
    assert (code, report, err.count("\n")) == (4, "", 1)
    assert err.startswith(f"gncli: error: {out}{member}: {problem}")
    assert remote(bucket) == {f"y.zarr/{key}": text.encode()}


@pytest.mark.slow
def test_what_holds_an_input_is_not_replaced(bucket: Any, out: str, gncli: Command) -> None:
    assert gncli("random", "4,8,9,9", "--seed", "1", "-qo", f"{out}::/g/a")[0] == 0
    old = remote(bucket)
    for name in (f"{out}::/g/a", out):
        answer = gncli("normalize", name, "-G", "4", "-q", "--force", "-o", out)
        problem = f"holds the input {name}; choose another name"
        assert answer == (4, "", f"gncli: error: {out}: {problem}\n")
    assert remote(bucket) == old


# --- two runs --------------------------------------------------------------------------------------------------------


def test_of_two_runs_one_writes(bucket: Any, out: str, gncli: Command) -> None:
    assert gncli(*LINE, "y.zarr")[0] == 0
    said = r"an upload was begun at [-\d]+ [:\d]+ \w+, and got something \d+ s ago"
    hint = f"wait for the run that writes it, or end it; gncli clean --force {out} removes what it left"
    with sink(out) as first:
        first.write_from(X.reshape(-1), 0)
        for given in ((), ("--force",)):
            code, report, err = gncli(*LINE, out, *given)
            assert (code, report) == (4, "")
            assert re.fullmatch(f"gncli: error: {out}: {said}; {hint}\n", err)
        first.commit()
    assert len(keys(bucket)) == len(local())
    assert gncli(*LINE, out)[0] == 4
    assert gncli(*LINE, out, "--force") == (0, "", "")
    assert remote(bucket) == local()


def ahead(bucket: Any, key: str, content: bytes = b"other") -> Fault:
    """Let somebody else put an object there just before the request."""

    def other(*_: object) -> bool:
        bucket.put_object(Key=key, Body=content)
        return False

    return once(other)


@pytest.mark.slow
def test_of_two_runs_that_claim_at_once_one_writes(bucket: Any, front: Store, out: str, gncli: Command) -> None:
    front.faults.append(of("PUT", "claim", ahead(bucket, "y.zarr.gncli-claim")))
    assert gncli(*LINE, out) == (4, "", f"gncli: error: {out}: is being written by another run\n")
    assert keys(bucket) == ["y.zarr.gncli-claim"]
    bucket.objects.all().delete()
    front.faults[:] = [of("PUT", "claim", ahead(bucket, "y.zarr/zarr.json"))]
    assert gncli(*LINE, out) == (4, "", f"gncli: error: {out}: was created by someone else meanwhile\n")
    assert keys(bucket) == ["y.zarr/zarr.json"]


@pytest.mark.parametrize("key", slow_but(["c/2/0/0/0", "zarr.json"], "zarr.json"))
def test_what_somebody_else_has_put_stays(key: str, bucket: Any, front: Store, out: str, gncli: Command) -> None:
    front.faults.append(of("PUT", f"y.zarr/{key}", ahead(bucket, f"y.zarr/{key}")))
    answer = gncli(*LINE, out)
    assert answer == (4, "", f"gncli: error: {out}: was created by someone else meanwhile: {key}\n")
    assert remote(bucket) == {f"y.zarr/{key}": b"other"}


@pytest.mark.parametrize("when", slow_but(["before the first", "before the last"], "before the last"))
def test_a_run_that_was_taken_over_leaves_everything(when: str, bucket: Any, out: str, quiet: None) -> None:
    first: Any = sink(out)
    half = X.size // 2
    if when == "before the last":
        first.write_from(X.reshape(-1)[:half], 0)
        first.limits(0, 0)  # finish the shard that is open
        first.folder._sending.wait(None)
    with sink(out) as second:
        theirs = remote(bucket)["y.zarr.gncli-claim"]
        with pytest.raises(OutputError, match="was taken over by another run; write it under another name"):
            if when == "before the first":
                first.write_from(X.reshape(-1), 0)
            else:
                first.commit()
        first.abort()
        found = remote(bucket)
        assert found["y.zarr.gncli-claim"] == theirs
        assert len(found) == (1 if when == "before the first" else 4)
        second.write_from(X.reshape(-1), 0)
        second.commit()
    assert len(keys(bucket)) == 7
    assert not signals.cleanups


@pytest.mark.slow
@pytest.mark.parametrize("who", ["another run", "clean"])
def test_a_run_that_is_taken_over_at_the_very_end_takes_back_what_it_described(
    who: str, bucket: Any, front: Store, out: str, gncli: Command
) -> None:
    made = sink(out)
    made.write_from(X.reshape(-1), 0)

    def over(*_: object) -> bool:
        front.faults.clear()
        if who == "clean":
            assert gncli("clean", out, "--force")[0] == 0
        else:
            bucket.put_object(Key="y.zarr.gncli-claim", Body=b"theirs", Metadata={MARK: "theirs"})
        return False

    front.faults.append(of("PUT", "y.zarr/zarr.json", over))
    with pytest.raises(OutputError, match="was taken over by another run"):
        made.commit()
    found = remote(bucket)
    assert "y.zarr/zarr.json" not in found
    assert found.get("y.zarr.gncli-claim") == (None if who == "clean" else b"theirs")
    assert len(found) == (0 if who == "clean" else 7)
    assert not signals.cleanups


@pytest.mark.slow
def test_after_a_signal_the_claim_stays_as_long_as_something_is_on_its_way(
    bucket: Any, front: Store, out: str, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "PARTS_SECONDS", 0.1)
    begun, goes_on = threading.Event(), threading.Event()

    def slow(handler: Handler, asked: Asked) -> bool:
        begun.set()
        assert goes_on.wait(30)
        return False

    made: Any = sink(out)
    front.faults.append(of("PUT", "c/4", slow))
    made.write_from(X.reshape(-1), 0)
    assert begun.wait(30)
    assert signals.cleanups[made.folder]() == out
    assert keys(bucket) == ["y.zarr.gncli-claim"]
    goes_on.set()
    made.folder._sending.wait(None)
    assert keys(bucket) == ["y.zarr.gncli-claim", "y.zarr/c/4/0/0/0"]
    assert gncli("clean", out, "--force")[0] == 0
    assert keys(bucket) == []
    made.abort()


def test_a_signal_removes_what_was_put_and_says_which_output_is_lost(bucket: Any, out: str) -> None:
    made: Any = sink(out)
    made.write_from(X.reshape(-1)[: X.size // 2], 0)
    assert signals.cleanups[made.folder]() == out
    assert keys(bucket) == []
    made.write_from(X.reshape(-1)[X.size // 2 :], X.size // 2)  # what a worker still does: nothing is put
    made.commit()
    made.abort()
    assert keys(bucket) == []
    assert not signals.cleanups


def test_a_signal_after_the_commit_says_nothing_of_the_output(bucket: Any, out: str) -> None:
    made: Any = sink(out)
    removed = signals.cleanups[made.folder]
    made.write_from(X.reshape(-1), 0)
    made.commit()
    with pytest.raises(OutputError, match="was committed just now"):
        removed()
    assert len(keys(bucket)) == 7


# --- workers ---------------------------------------------------------------------------------------------------------

MIDDLE = 9 * X[0].size  # where a shard begins


def by_a_worker(made: Any, start: int, stop: int) -> None:
    """Write whole shards as a worker does that was sent what opens the sink."""
    with pickle.loads(pickle.dumps(made.elsewhere(start, stop)))() as end:
        end.write_from(X.reshape(-1)[start:stop], start)
        end.commit()


def test_workers_put_whole_shards_and_one_item_may_come_twice(bucket: Any, out: str, gncli: Command) -> None:
    assert gncli("random", "9,9", "--seed", "1", "-qo", out)[0] == 0
    made = sink(out, force=True)
    for start, stop in ((MIDDLE, X.size), (0, MIDDLE), (MIDDLE, X.size)):
        by_a_worker(made, start, stop)
    assert len(keys(bucket)) == 7
    made.commit()
    with sink("y.zarr") as other:
        other.write_from(X.reshape(-1), 0)
        other.commit()
    assert remote(bucket) == local()


@pytest.mark.slow
def test_what_workers_put_is_removed_with_the_rest(bucket: Any, out: str) -> None:
    with sink(out) as made:
        by_a_worker(made, 0, MIDDLE)
        later: Any = made
        again = later.elsewhere(MIDDLE, X.size)
        bucket.put_object(Key="y.zarr/notes.txt", Body=b"kept")
    assert keys(bucket) == ["y.zarr/notes.txt"]
    with again() as end:  # one that goes on
        end.write_from(X.reshape(-1)[MIDDLE:], MIDDLE)
        with pytest.raises(OutputError, match="was taken over by another run"):
            end.commit()
    assert keys(bucket) == ["y.zarr/notes.txt"]


@pytest.mark.slow
def test_a_worker_that_comes_late_leaves_what_is_whole(bucket: Any, out: str) -> None:
    made: Any = sink(out)
    with made:
        late = made.elsewhere(0, MIDDLE)
        by_a_worker(made, 0, MIDDLE)
        by_a_worker(made, MIDDLE, X.size)
        made.commit()
    before = remote(bucket)
    with late() as end:
        end.write_from(X.reshape(-1)[:MIDDLE], 0)
        with pytest.raises(OutputError, match="was taken over by another run"):
            end.commit()
    assert remote(bucket) == before


@pytest.mark.slow
def test_what_a_late_worker_has_put_itself_stays_if_it_is_whole_by_then(bucket: Any, front: Store, out: str) -> None:
    with sink(out) as made:

        def meanwhile(handler: Handler, asked: Asked) -> bool:
            """Put it, and let others do all, before the answer comes."""
            front.faults.clear()
            answers: list[Any] = []
            say = handler.say
            handler.say = lambda *answer: answers.append(answer)  # type: ignore[method-assign]
            handler.hand_on(asked, handler.body)
            handler.say = say  # type: ignore[method-assign]
            by_a_worker(made, 0, MIDDLE)
            by_a_worker(made, MIDDLE, X.size)
            made.commit()
            say(*answers[0])
            return True

        front.faults.append(of("PUT", "c/0/0/0/0", meanwhile))
        with pytest.raises(OutputError, match="was taken over by another run"):
            by_a_worker(made, 0, X[0].size * 3)
    assert len(keys(bucket)) == 7


@pytest.mark.slow
def test_a_worker_writes_over_nothing(bucket: Any, out: str) -> None:
    with sink(out) as made:
        bucket.put_object(Key="y.zarr/c/2/0/0/0", Body=b"other")
        with pytest.raises(OutputError, match="was created by someone else meanwhile: c/2/0/0/0"):
            by_a_worker(made, 0, MIDDLE)
    assert remote(bucket) == {"y.zarr/c/2/0/0/0": b"other"}


@pytest.mark.cluster
def test_a_cluster_puts_what_one_process_puts(bucket: Any, out: str, gncli: Command) -> None:
    import distributed

    bucket.put_object(Key="x.npy", Body=Path("x.npy").read_bytes())
    assert gncli(*LINE, "y.zarr")[0] == 0
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", silence_logs=100
    ) as cluster:
        given = ("--executor", "dask", "--scheduler", cluster.scheduler_address)
        for name in ("x.npy", f"s3://{bucket.name}/x.npy"):
            assert gncli("normalize", name, *LINE[2:], out, "--force", *given) == (0, "", "")
            assert remote(bucket) == {"x.npy": Path("x.npy").read_bytes(), **local()}
        assert gncli(*LINE, out, *given)[0] == 4


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let visits, and parts of a run that goes on, be small."""
    monkeypatch.setattr(run_parts, "VISIT_NBYTES", 1 << 12)
    monkeypatch.setattr(tasks_parts, "PART_NBYTES", 1 << 14)


@pytest.mark.slow
@pytest.mark.parametrize("member", ["", "::/g/a"])
def test_parts_in_any_order_put_what_one_process_puts(
    member: str, bucket: Any, out: str, gncli: Command, parts: None
) -> None:
    line = ("normalize", "x.npy", "-G", "4", "-o")
    one = gncli(*line, f"y.zarr{member}")
    for part in (3, 1, 2, 1):
        assert gncli(*line, f"{out}{member}", "--part", f"{part}/3", "-q")[::2] == (0, "")
        assert "y.zarr/zarr.json" not in keys(bucket)
    assert "parts together" in gncli(*line, f"{out}{member}", "--force")[2]
    found = gncli(*line, f"{out}{member}", "--assemble")
    assert (found[0], found[1].replace(out, "y.zarr"), found[2]) == one
    assert remote(bucket) == local()
    again = gncli(*line, f"{out}{member}", "--part", "1/3", "--force")
    hint = "remove it, or choose another name: parts replace nothing"
    assert again == (4, "", f"gncli: error: {out}{member}: already exists; {hint}\n")
    assert remote(bucket) == local()


@pytest.mark.slow
def test_a_run_in_parts_goes_on_where_it_ended(
    bucket: Any, front: Store, out: str, gncli: Command, parts: None
) -> None:
    line = (*LINE, out, "--resume")
    front.faults.append(of("PUT", "c/5/", status(403)))
    assert gncli(*line)[0] == 4
    assert {"y.zarr.gncli-claim", "y.zarr/c/1/0/0/0"} <= {*keys(bucket)}
    front.faults.clear()
    front.asked.clear()
    assert gncli(*line) == (0, "", "")
    sent = [asked.path for asked in front.asked if asked.method == "PUT"]
    assert any("c/5/" in path for path in sent)
    assert not any("c/1/" in path for path in sent)  # what was done is not done again
    assert gncli(*LINE, "y.zarr")[0] == 0
    assert remote(bucket) == local()


@pytest.mark.slow
def test_an_object_that_is_not_what_was_recorded_is_named(
    bucket: Any, out: str, gncli: Command, parts: None, quiet: None
) -> None:
    for part in (1, 2):
        assert gncli(*LINE, out, "--part", f"{part}/2")[::2] == (0, "")
    bucket.Object("y.zarr/c/1/0/0/0").delete()
    problem = "not what was recorded: part 1 of 2; do it again: --part 1/2"
    assert gncli(*LINE, out, "--assemble") == (3, "", f"gncli: error: {out}: {problem}\n")
    assert gncli(*LINE, out, "--part", "1/2")[::2] == (0, "")
    bucket.put_object(Key="y.zarr/c/1/0/0/0", Body=b"other")
    problem = "was created by someone else meanwhile: c/1/0/0/0"
    assert gncli(*LINE, out, "--part", "1/2") == (4, "", f"gncli: error: {out}: {problem}\n")
    code, report, err = gncli("clean", out)
    assert (code, report, err.count("\n"), "--assemble puts its parts together" in err) == (4, "", 1, True)
    code, report, err = gncli("clean", out, "--force")
    assert (code, err) == (0, "")
    assert report.count("removed") == 6 + 1 + 2
    assert keys(bucket) == []


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_parts_are_put_to_other_stores_by_obstore(
    scheme: str, memory: MemoryStore, gncli: Command, parts: None
) -> None:
    name = f"{scheme}://bucket/y.zarr"
    line = ("normalize", "x.npy", "-G", "4", "-o")
    one = gncli(*line, "y.zarr")
    assert gncli(*line, name, "--assemble")[0] == 3
    for part in (2, 1, 3):
        assert gncli(*line, name, "--part", f"{part}/3", "-q")[::2] == (0, "")
    path = "y.zarr/c/0/0/0/0"
    kept = bytes(obstore.get(memory, path).bytes())
    obstore.put(memory, path, b"other")
    problem = "not what was recorded: part 1 of 3; do it again: --part 1/3"
    assert gncli(*line, name, "--assemble") == (3, "", f"gncli: error: {name}: {problem}\n")
    obstore.delete(memory, path)
    assert gncli(*line, name, "--part", "1/3", "-q")[::2] == (0, "")
    assert bytes(obstore.get(memory, path).bytes()) == kept
    assert gncli(*line, name, "--assemble") == (one[0], one[1].replace("y.zarr", name), one[2])
    assert content(memory) == local()
    refused = gncli(*line, name, "--part", "1/2", "-q")
    assert (refused[0], refused[1], "already exists" in refused[2]) == (4, "", True)
    assert gncli("clean", name) == (0, f"{name}: nothing is left over\n", "")
    assert content(memory) == local()


@pytest.mark.slow
def test_without_the_check_an_object_that_is_not_there_is_named_too(
    bucket: Any, out: str, gncli: Command, parts: None
) -> None:
    line = (*LINE, out, "--no-verify")
    assert gncli(*line, "--part", "1/1")[::2] == (0, "")
    bucket.Object("y.zarr/c/1/0/0/0").delete()
    problem = "not what was recorded: part 1 of 1; do it again: --part 1/1"
    assert gncli(*line, "--assemble") == (3, "", f"gncli: error: {out}: {problem}\n")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["a claim", "an object"])
def test_of_two_parts_that_begin_at_once_both_write(
    when: str, bucket: Any, front: Store, out: str, gncli: Command, parts: None
) -> None:
    other = out.replace("y.zarr", "z.zarr")
    assert gncli(*LINE, other, "--part", "1/2")[::2] == (0, "")
    run = bucket.Object("z.zarr.gncli-claim").metadata[MARK].split("-")[1]

    def claims(*_: object) -> bool:
        front.faults.clear()
        folder = SharedPrefix(out)
        folder.run = run
        SharedObjects(folder, ()).abort()
        return False

    second = of("GET", r"prefix=y\.zarr(/|%2F)(&|$)", once(ahead(bucket, "y.zarr/put-by-another-part"), 2))
    front.faults.append(of("PUT", "claim", claims) if when == "a claim" else second)
    assert gncli(*LINE, out, "--part", "1/2")[::2] == (0, "")
    assert gncli("clean", other, "--force")[::2] == (0, "")
    bucket.Object("y.zarr/put-by-another-part").delete()
    assert gncli(*LINE, out, "--part", "2/2")[::2] == (0, "")
    assert gncli(*LINE, out, "--assemble") == gncli(*LINE, "y.zarr") == (0, "", "")
    assert remote(bucket) == local()


@pytest.mark.slow
def test_parts_of_another_run_are_refused_before_there_is_a_record(
    bucket: Any, out: str, gncli: Command, parts: None
) -> None:
    assert gncli(*LINE, out, "--part", "1/2")[::2] == (0, "")
    records = [key for key in keys(bucket) if "gncli-parts" in key]
    for key in records:  # as if it had been killed before it had one
        bucket.Object(key).delete()
    before = remote(bucket)
    other = [word.replace("4", "8") for word in LINE]
    said = f"gncli: error: {out}: parts of another run are there; gncli clean --force {out} removes them\n"
    for more in (("--part", "1/2"), ("--resume",)):
        assert gncli(*other, out, *more) == (6, "", said)
    assert remote(bucket) == before
    for part in (1, 2):
        assert gncli(*LINE, out, "--part", f"{part}/2")[::2] == (0, "")
    assert gncli(*LINE, out, "--assemble") == gncli(*LINE, "y.zarr") == (0, "", "")
    assert remote(bucket) == local()


@pytest.mark.slow
def test_records_that_cannot_be_removed_at_the_end_are_no_error(
    bucket: Any, front: Store, out: str, gncli: Command, parts: None
) -> None:
    assert gncli(*LINE, out, "--part", "1/1")[::2] == (0, "")
    front.faults.append(of("DELETE", "gncli-parts", status(403)))
    assert gncli(*LINE, out, "--assemble") == (0, "", "")
    front.faults.clear()
    assert gncli("clean", out)[0] == 0
    assert len(keys(bucket)) == 7


@pytest.mark.slow
def test_parts_do_not_take_over_from_a_run(bucket: Any, out: str, gncli: Command, parts: None, quiet: None) -> None:
    with sink(out):
        hint = f"wait for it; gncli clean {out} removes what it left"
        answer = gncli(*LINE, out, "--part", "1/2")
        assert answer == (4, "", f"gncli: error: {out}: is being written by another run; {hint}\n")


def test_a_signal_leaves_parts_and_says_nothing_of_what_is_whole(bucket: Any, out: str, parts: None) -> None:
    made: Any = SharedObjects(SharedPrefix(out), ())
    removed = signals.cleanups[made]
    with made.file("c/0") as file:
        file.write(memoryview(b"0123"), 0)
        file.commit()
    assert [(run.place[0], run.nbytes) for run in made.finish()[0]] == [("c/0", 4)]
    assert removed() == out
    assert len(keys(bucket)) == 2
    signals.cleanups.clear()
    made = SharedObjects(SharedPrefix(out), ())
    removed = signals.cleanups[made]
    made.describe("zarr.json", b"{}")
    made.commit()
    made.commit()
    with pytest.raises(OutputError, match="was committed just now"):
        removed()
    assert keys(bucket) == ["y.zarr/c/0", "y.zarr/zarr.json"]


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("key", ["claim", "c/3", "y.zarr/zarr.json"])
def test_a_lost_answer_to_what_was_put_is_no_error(
    key: str, bucket: Any, front: Store, out: str, gncli: Command
) -> None:
    front.faults.append(of("PUT", key, once(lost)))
    assert gncli(*LINE, out) == gncli(*LINE, "y.zarr") == (0, "", "")
    assert remote(bucket) == local()


@pytest.mark.slow
def test_what_passes_is_tried_again(bucket: Any, front: Store, out: str, gncli: Command) -> None:
    front.faults += [
        of("PUT", "claim", once(status(503))),
        of("PUT", "c/1/", once(status(409))),
        of("PUT", "c/2/", once(dropped)),
        of("PUT", "c/3/", once(status(500))),
        of("PUT", "y.zarr/zarr.json", once(status(429))),
        of("DELETE", "claim", once(status(503))),
    ]
    assert gncli(*LINE, out) == gncli(*LINE, "y.zarr") == (0, "", "")
    assert remote(bucket) == local()


@pytest.mark.slow
def test_a_store_without_conditions_is_written_without(bucket: Any, front: Store, out: str, gncli: Command) -> None:
    def ignorant(handler: Handler, asked: Asked) -> bool:
        if "if-none-match" not in asked.headers:
            return False
        handler.say(501)
        return True

    front.faults.append(ignorant)
    assert gncli(*LINE, out) == gncli(*LINE, "y.zarr") == (0, "", "")
    assert remote(bucket) == local()
    assert gncli(*LINE, out)[0] == 4


FAULTS: dict[str, tuple[Fault, str]] = {
    "403 at the look": (of("HEAD", "claim", status(403)), "cannot be written (403 Forbidden); set AWS_PROFILE, or"),
    "403 of the listing": (of("GET", "list-type=2", status(403)), "cannot be written (403 "),
    "403 of the claim": (of("PUT", "claim", status(403)), "cannot be written (403 "),
    "404 of the claim": (of("PUT", "claim", status(404)), "cannot be written (404 "),
    "403 of a shard": (of("PUT", "c/3", status(403)), "cannot be written (403 "),
    "503 of a shard": (of("PUT", "c/3", status(503)), "cannot be written (503 Service Unavailable, after 1"),
    "409 of a shard": (of("PUT", "c/3", status(409)), "cannot be written (409 Conflict, after 1 retry)"),
    "a shard is dropped": (of("PUT", "c/3", dropped), "cannot be written (the connection broke, or none was made, "),
    "403 of the last": (of("PUT", "y.zarr/zarr.json", status(403)), "cannot be written (403 "),
    "503 of the last": (
        of("PUT", "y.zarr/zarr.json", status(503)),
        "cannot be written (503 Service Unavailable, after 1",
    ),
    "400 of the last": (of("PUT", "y.zarr/zarr.json", status(400)), "cannot be written (400 Bad Request)"),
    "no room for a shard": (lambda *_: False, ""),
}


@pytest.mark.parametrize("case", slow_but(FAULTS, "503 of the last"))
def test_what_fails_is_one_line_and_leaves_nothing(
    case: str, bucket: Any, front: Store, out: str, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, problem = FAULTS[case]
    front.faults.append(fault)
    if "room" in case:
        monkeypatch.setattr("gncli.io.pipe.write_fully", full)
    code, report, err = gncli(*LINE, out, "--retries", "1")
    assert (code, report, err.count("\n")) == (5 if "room" in case else 4, "", 1)
    assert err.startswith(f"gncli: error: {out}: {problem}")
    assert keys(bucket) == []
    assert not signals.cleanups


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.slow
def test_what_cannot_be_removed_is_left_for_clean(bucket: Any, front: Store, out: str, gncli: Command) -> None:
    front.faults += [of("PUT", "c/5", status(404)), of("DELETE", "c/2", status(403))]
    code, report, err = gncli(*LINE, out, "--retries", "0")
    assert (code, report, "404" in err) == (4, "", True)  # why it failed, and not why it could not be undone
    assert {"y.zarr/c/2/0/0/0", "y.zarr.gncli-claim"} <= {*keys(bucket)}
    code, report, err = gncli("clean", "--force", out)
    assert (code, report, "403" in err) == (4, "", True)
    front.faults.clear()
    assert gncli("clean", "--force", out)[0] == 0
    assert keys(bucket) == []
    assert gncli("clean", out) == (0, f"{out}: nothing is left over\n", "")


@pytest.mark.slow
def test_what_is_left_of_an_old_array_is_known_by_the_claim(
    bucket: Any, front: Store, out: str, gncli: Command
) -> None:
    assert gncli(*LINE, out)[0] == 0
    front.faults.append(of("DELETE", "c/4", status(403)))
    assert gncli(*LINE, out, "--force")[::2][0] == 4
    assert keys(bucket)[0] == "y.zarr.gncli-claim"
    assert "y.zarr/zarr.json" not in keys(bucket)
    front.faults.clear()
    assert gncli("clean", out, "--force")[0] == 0
    assert keys(bucket) == []


@pytest.mark.slow
def test_what_is_on_its_way_when_a_run_fails_is_removed_too(bucket: Any, front: Store, out: str) -> None:
    begun, landed = threading.Event(), threading.Event()

    def slow(handler: Handler, asked: Asked) -> bool:
        begun.set()
        time.sleep(0.2)
        handler.hand_on(asked, handler.body)
        landed.set()
        return True

    front.faults.append(of("PUT", "c/4", slow))
    with sink(out) as made:
        made.write_from(X.reshape(-1), 0)
        assert begun.wait(30)
    assert landed.wait(30)
    assert keys(bucket) == []


def test_the_last_sign_of_a_run_is_its_newest_object(bucket: Any, front: Store) -> None:
    now = datetime.now(UTC)
    hours = [now - timedelta(hours=hour) for hour in range(3)]
    prefix = S3Object(Url("s3", bucket.name, "y.zarr"), Network())
    claim = client.Found(client.State(1, "", ""), "", hours[2])
    folder._check_quiet("y", prefix, claim, [client.Stored("c/0", 1, "", hours[1])])
    with pytest.raises(OutputError, match="got something 0 s ago"):
        folder._check_quiet("y", prefix, claim, [client.Stored("c/0", 1, "", hours[0])])


def test_what_has_no_mark_is_not_taken_for_ones_own(bucket: Any, front: Store) -> None:
    object_ = S3Object(Url("s3", bucket.name, "y"), Network())
    object_.put(b"one", create=True)
    with pytest.raises(client.Failure, match="412"):
        object_.put(b"two", create=True)
    assert remote(bucket) == {"y": b"one"}


@pytest.mark.slow
def test_an_old_array_that_cannot_be_removed_stays_whole(bucket: Any, front: Store, out: str, gncli: Command) -> None:
    assert gncli(*LINE, out)[0] == 0
    old = remote(bucket)
    front.faults.append(of("DELETE", "zarr.json", status(403)))
    code, report, err = gncli(*LINE, out, "--force")
    assert (code, report, "403" in err) == (4, "", True)
    assert remote(bucket) == old


@pytest.mark.slow
def test_a_claim_that_cannot_be_removed_at_the_end_is_no_error(
    bucket: Any, front: Store, out: str, gncli: Command, quiet: None
) -> None:
    front.faults.append(of("DELETE", "claim", status(403)))
    assert gncli(*LINE, out) == gncli(*LINE, "y.zarr") == (0, "", "")
    claim = remote(bucket)["y.zarr.gncli-claim"]
    assert remote(bucket) == {**local(), "y.zarr.gncli-claim": claim}
    front.faults.clear()
    assert gncli("clean", out) == (0, f"removed {out}.gncli-claim ({len(claim)} bytes)\n", "")
    assert remote(bucket) == local()


# --- what a killed run leaves ----------------------------------------------------------------------------------------


def left(bucket: Any, *more: str) -> None:
    for key in (".gncli-claim", "/c/0/0/0/0", "/c/11/0/0/0", "/g/c", "/g/zarr.json", *more):
        bucket.put_object(Key=f"y.zarr{key}", Body=b"x" * 500)


def test_what_a_killed_run_left_is_named_and_replaced(bucket: Any, out: str, gncli: Command, quiet: None) -> None:
    left(bucket)
    note = f"gncli: {out}: 4 objects of a run that was killed (2,000 bytes) are replaced\n"
    assert gncli(*LINE, out) == (0, "", note)
    assert gncli(*LINE, "y.zarr")[0] == 0
    assert remote(bucket) == local()
    bucket.objects.all().delete()
    bucket.put_object(Key="y.zarr.gncli-claim", Body=b"x")
    bucket.put_object(Key="y.zarr/c/0", Body=b"x")
    note = f"gncli: {out}: 1 object of a run that was killed (1 bytes) are replaced\n"
    assert gncli(*LINE, out)[::2] == (0, note)
    bucket.put_object(Key="y.zarr.gncli-claim", Body=b"x")
    assert "already exists" in gncli(*LINE, out)[2]


@pytest.mark.parametrize("key", slow_but(["/notes.txt", "/0.0", "/.zgroup", "/zarr.json"], "/0.0"))
def test_what_no_run_has_put_is_not_taken_for_its_own(
    key: str, bucket: Any, out: str, gncli: Command, quiet: None
) -> None:
    left(bucket, key)
    assert gncli(*LINE, out) == (4, "", f"gncli: error: {out}: already exists; --force replaces it\n")
    assert len(keys(bucket)) == 6
    code, report, err = gncli("clean", out)
    whole = key in ("/.zgroup", "/zarr.json")
    assert (code, err) == (0, "")
    assert f"y.zarr{key}" in keys(bucket)
    assert len(keys(bucket)) == (5 if whole else 1)
    assert report.count("removed") == (1 if whole else 5)


def test_clean_names_what_it_removes(
    bucket: Any, front: Store, out: str, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(bucket)
    code, report, err = gncli("clean", f"{out}/")
    assert (code, report) == (4, "")
    assert err.startswith(f"gncli: error: {out}/: an upload was begun at ")
    assert len(keys(bucket)) == 5
    monkeypatch.setattr(folder, "AT_ONCE", 2)
    front.asked.clear()
    code, report, err = gncli("clean", f"{out}::/g", "--force")
    assert (code, err) == (0, "")
    names = ("/c/0/0/0/0", "/c/11/0/0/0", "/g/c", "/g/zarr.json", ".gncli-claim")
    assert report == "".join(f"removed {out}{name} (500 bytes)\n" for name in names)
    gone = [asked.path.partition("y.zarr")[2].partition("?")[0] for asked in front.asked if asked.method == "DELETE"]
    assert (gone[0], gone[-1]) == ("/g/zarr.json", ".gncli-claim")
    assert keys(bucket) == []


KILLED = """
import os, sys
from gncli.io.formats.zarr import writing
from gncli.run import parts
from gncli.tasks import parts as tasks
writing.CHUNK_NBYTES, writing.SHARD_NBYTES = {CHUNK_NBYTES}, {SHARD_NBYTES}
parts.VISIT_NBYTES, tasks.PART_NBYTES = 1 << 12, 1 << 14
from gncli.__main__ import main
sys.argv[1:] = {words!r}
sys.exit(main())
"""


def killed(front: Store, at: Callable[[Fault], Fault], words: list[str], signum: int, after: bool) -> tuple[int, str]:
    """Run gncli, and send it a signal at a request; return its status, and what it said."""
    process: list[subprocess.Popen[str]] = []

    def kill(handler: Handler, asked: Asked) -> bool:
        if after:
            handler.hand_on(asked, handler.body)
        process[0].send_signal(signum)
        if signum == signal.SIGKILL:
            process[0].wait(30)
            return True
        return after

    front.faults.append(at(once(kill)))
    code = KILLED.format(words=words, **SMALL)
    process.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=uncovered()))
    _, err = process[0].communicate(timeout=60)
    front.faults.clear()
    return process[0].returncode, err


POINTS: dict[str, tuple[str, str, bool]] = {
    "before the claim": ("PUT", "claim", False),
    "after the claim": ("PUT", "claim", True),
    "before a shard": ("PUT", "c/4/", False),
    "after a shard": ("PUT", "c/4/", True),
    "before the last": ("PUT", "y.zarr/zarr.json", False),
    "after the last": ("PUT", "y.zarr/zarr.json", True),
    "after the end": ("DELETE", "claim", True),
}


@pytest.mark.slow
@pytest.mark.parametrize("when", POINTS)
def test_a_kill_at_any_time_leaves_an_array_that_is_whole_or_none(
    when: str, bucket: Any, front: Store, out: str, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, pattern, after = POINTS[when]
    words = [*LINE, out]
    assert gncli(*LINE, "y.zarr")[0] == 0
    assert killed(front, lambda kill: of(method, pattern, kill), words, signal.SIGKILL, after)[0] == -signal.SIGKILL
    whole = when in ("after the last", "after the end")
    claimed = when not in ("before the claim", "after the end")
    found = remote(bucket)
    assert ("y.zarr.gncli-claim" in found) == claimed
    code, _, err = gncli("stats", out)
    if whole:
        assert code == 0
        assert gncli("diff", out, "y.zarr", "--rtol", "0", "--atol", "0", "-q")[0] == 0
    else:
        assert (code, "is no Zarr store" in err) == (3, True)
    assert gncli(*words)[0] == (4 if claimed or whole else 0)
    monkeypatch.setattr(client, "QUIET_SECONDS", 0)
    code, report, _ = gncli("clean", out)
    assert (code, report.count("removed")) == (0, (1 if whole else len(found)) if claimed else 0)
    assert gncli(*words)[0] == (0 if claimed and not whole else 4)
    assert remote(bucket) == local()


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in the middle", "metadata", "old chunks"])
def test_a_forced_run_that_is_killed_leaves_no_half_of_an_array(
    when: str, bucket: Any, front: Store, out: str, gncli: Command, quiet: None
) -> None:
    for place in (out, "y.zarr"):
        assert gncli("random", "900,9", "--seed", "1", "-qo", place)[0] == 0
    old = {key.removeprefix("y.zarr/"): content for key, content in local().items()}
    method, pattern, after = {
        "in the middle": ("PUT", "c/4/", False),
        "metadata": ("DELETE", "zarr.json", False),
        "old chunks": ("DELETE", "c/0/0", True),
    }[when]
    words = [*LINE, out, "--force"]
    assert killed(front, lambda kill: of(method, pattern, kill), words, signal.SIGKILL, after)[0] == -signal.SIGKILL
    code, _, err = gncli("stats", out)
    if when == "metadata":
        assert {key: remote(bucket)[f"y.zarr/{key}"] for key in old} == old
    else:
        assert (code, "is no Zarr store" in err) == (3, True)
    assert gncli(*words)[0] == 0
    assert gncli(*LINE, "y.zarr", "--force")[0] == 0
    assert remote(bucket) == local()


@pytest.mark.slow
@pytest.mark.parametrize("when", [when for when in POINTS if when not in ("before the claim", "after the end")])
def test_a_run_in_parts_that_is_killed_goes_on(
    when: str, bucket: Any, front: Store, out: str, gncli: Command, parts: None
) -> None:
    method, pattern, after = POINTS[when]
    words = [*LINE, out, "--resume"]
    assert gncli(*LINE, "y.zarr")[0] == 0
    assert killed(front, lambda kill: of(method, pattern, kill), words, signal.SIGKILL, after)[0] == -signal.SIGKILL
    assert ("y.zarr/zarr.json" in keys(bucket)) == (when == "after the last")
    assert gncli(*words) == (0, "", "")
    assert remote(bucket) == local()


@pytest.mark.parametrize("when", slow_but(POINTS, "before a shard"))
def test_ctrl_c_removes_what_was_put(when: str, bucket: Any, front: Store, out: str, gncli: Command) -> None:
    method, pattern, after = POINTS[when]
    assert gncli(*LINE, "y.zarr")[0] == 0
    code, err = killed(front, lambda kill: of(method, pattern, kill), [*LINE, out], signal.SIGINT, after)
    if "y.zarr/zarr.json" in keys(bucket):  # it came too late
        assert when in ("before the last", "after the last", "after the end")
        assert code in (0, -signal.SIGINT)
        assert remote(bucket) == local()
    else:
        assert (code, err) == (-signal.SIGINT, f"gncli: interrupted; {out} was not written\n")
        assert keys(bucket) == []


# --- other stores ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_other_stores_are_written_by_obstore(
    scheme: str, memory: MemoryStore, gncli: Command, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{scheme}://bucket/p/y.zarr"

    def contents() -> dict[str, bytes]:
        return {path.removeprefix("p/"): found for path, found in content(memory).items()}

    assert gncli(*LINE, "y.zarr")[0] == 0
    assert gncli(*LINE, name) == (0, "", "")
    assert contents() == local()
    assert "already exists" in gncli(*LINE, name)[2]
    assert gncli(*LINE, name, "--force") == (0, "", "")
    assert "holds the input" in gncli("normalize", name, "-G", "4", "-qfo", name)[2]
    real, fail = obstore.put, ["c/4", "zarr.json"]

    def refused(store: Any, path: str, *given: Any, **options: Any) -> Any:
        if any(path.endswith(f"y.zarr/{key}") or f"y.zarr/{key}/" in path for key in fail[:1]):
            raise PermissionError("403")
        return real(store, path, *given, **options)

    monkeypatch.setattr(obstore, "put", refused)
    while fail:
        code, out, err = gncli(*LINE, name, "--force", "--retries", "0")
        assert (code, out, "403" in err) == (4, "", True)
        assert contents() == {}
        fail.pop(0)
    obstore.put(memory, "p/y.zarr.gncli-claim", b"x")
    obstore.put(memory, "p/y.zarr/c/0/0", b"x")
    lines = (f"removed {name}/c/0/0 (1 bytes)", f"removed {name}.gncli-claim (1 bytes)")
    assert gncli("clean", name) == (0, "".join(f"{line}\n" for line in lines), "")
    assert contents() == {}
