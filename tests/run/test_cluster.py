"""Past one machine: the same bits from a dask cluster of two processes, whatever becomes of its workers."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import dask
import distributed
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gncli.errors import ChangedError, InputError, LimitError, OutputError, ParameterError
from gncli.inputs import STRICT
from gncli.io import ArraySource, open_sink, open_source
from gncli.io.atomic import AtomicFile
from gncli.io.atomic_folder import AtomicFolder
from gncli.io.ranges import GRAIN_NBYTES, FolderRanges, Ranges
from gncli.io.rawfile import RawSink
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import GroupNorm
from gncli.kernels.moments import Moments, MomentsOf
from gncli.kernels.partition import whole
from gncli.kernels.plain import Affine
from gncli.kernels.reduction import Visit
from gncli.kernels.walk import Region
from gncli.run import cluster as cluster_module
from gncli.run.cluster import ClusterEngine
from gncli.run.engine import Engine, Step
from gncli.run.executors import engine_on
from gncli.run.normalization import Normalization, Outcome, at_once
from gncli.run.plan import Plan
from gncli.tasks.histograms import Bars
from gncli.tasks.survey import Wanted, survey
from tests.arrays import assert_same_moments
from tests.files import sparse_npy
from tests.marks import examples
from tests.processes import uncovered
from tests.runs import Run, measure

pytestmark = pytest.mark.cluster

COVERED = dict(os.environ)  # what the workers of `address` are started without


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start a cluster of two processes; a work item whose worker is lost twice is given up."""
    with (
        mock.patch.dict(os.environ, uncovered(), clear=True),  # also when a process is started again
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0", silence_logs=100
        ) as cluster,
    ):
        yield cluster.scheduler_address


# Shape, groups, layout, memory order, and how gamma is given: cells that fit an item and cells that do not.
CASES: dict[str, Any] = {
    "many cells an item": ((60, 16, 20, 20), 4, "NCHW", "C", 1.0),
    "gamma": ((50, 16, 20, 20), 4, "NCHW", "C", 2.5),
    "cells larger than an item": ((2, 4, 200, 300), 2, "NCHW", "C", 1.0),
    "channels last": ((20, 40, 40, 8), 2, "NHWC", "C", 1.0),
    "F-ordered": ((50, 16, 20, 20), 4, "NCHW", "F", 1.0),
    "tiny cells": ((5000, 64, 1, 1), 32, "NCHW", "C", 1.0),
}


def normalize(path: Path, output: Path, engine: Engine, groups: int, layout: str, gamma: float) -> Outcome:
    source = open_source(str(path))
    grouping = GroupNorm(groups, None, 1e-5, layout).on(source.shape, source.order)
    affine = Affine(np.full(grouping.channels, gamma), np.zeros(grouping.channels), grouping.channel_shape)
    sink = open_sink(str(output), shape=source.shape, dtype=source.dtype, order=source.order, force=True)
    try:
        outcome = Normalization(
            source, sink, grouping, affine, FLOATS[source.dtype.name], engine, keep=True, extras=frozenset({"zeros"})
        ).run()
        sink.commit()
    finally:
        sink.abort()
        source.close()
    return outcome


@pytest.mark.parametrize("case", CASES)
def test_a_cluster_gives_the_bits_that_one_thread_gives(tmp_path: Path, address: str, case: str) -> None:
    shape, groups, layout, order, gamma = CASES[case]
    x = np.random.default_rng(0).standard_normal(shape, np.float32) + 3
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    with Engine(1) as plain:
        expected = normalize(tmp_path / "x.npy", tmp_path / "y.npy", plain, groups, layout, gamma)
    for work in (1 << 18, 3 << 20):
        with ClusterEngine(address, tile=1 << 16, work=work) as engine:
            found = normalize(tmp_path / "x.npy", tmp_path / "z.npy", engine, groups, layout, gamma)
        assert (tmp_path / "z.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()
        assert_same_moments(found.before, expected.before)
        assert_same_moments(found.after, expected.after)
        assert found.check == expected.check
        assert found.kept is not None and expected.kept is not None
        assert all(np.array_equal(a, b) for a, b in zip(found.kept, expected.kept, strict=True))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.npy", "y.npy", "z.npy"]


def test_hdf5_is_read_by_the_workers_and_written_by_the_caller(tmp_path: Path, address: str) -> None:
    x = np.random.default_rng(0).standard_normal((60, 16, 20, 20), np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=x, chunks=(7, 16, 20, 20), compression="gzip", shuffle=True)
    with Engine(1) as plain:
        normalize(tmp_path / "x.h5", tmp_path / "y.h5", plain, 4, "NCHW", 1.0)
    with ClusterEngine(address, work=1 << 19) as engine:
        normalize(tmp_path / "x.h5", tmp_path / "z.h5", engine, 4, "NCHW", 1.0)
    with h5py.File(tmp_path / "y.h5") as one, h5py.File(tmp_path / "z.h5") as other:
        assert np.array_equal(one["data"][()], other["data"][()])


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a cluster of two workers in this process, where shards are small."""
    monkeypatch.setattr("gncli.io.formats.zarr.writing.CHUNK_NBYTES", 1 << 14)
    monkeypatch.setattr("gncli.io.formats.zarr.writing.SHARD_NBYTES", 5 << 14)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", silence_logs=100
    ) as cluster:
        yield cluster.scheduler_address


def stored(output: Path) -> dict[str, bytes]:
    """Return the content of a file, or of all files in a store."""
    files = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file()]
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


STORED = {
    "many cells an item": None,
    "gamma": "zstd=1",
    "cells larger than an item": None,
    "channels last": "zstd=1",
    "tiny cells": None,
}


@pytest.mark.parametrize("case", STORED)
def test_workers_write_whole_shards_and_together_they_write_the_store(
    tmp_path: Path, threads: str, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    shape, groups, layout, _, gamma = CASES[case]
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal(shape, np.float32) + 3)
    monkeypatch.setattr(sys.modules[__name__], "open_sink", partial(open_sink, compression=STORED[case]))
    with Engine(1, tile=1 << 13) as plain:
        normalize(tmp_path / "x.npy", tmp_path / "y.zarr", plain, groups, layout, gamma)
    expected = stored(tmp_path / "y.zarr")
    assert len(expected) > 10
    keys: list[str] = []

    def recorded(file: Any, of: Any, key: str) -> Any:
        keys.append(key)
        return file(of, key)

    for folder in (FolderRanges, AtomicFolder):
        monkeypatch.setattr(folder, "file", partialmethod(partial(recorded, folder.file)))
    for work in (1 << 15, 1 << 18):
        keys.clear()
        with ClusterEngine(threads, tile=1 << 13, work=work) as engine:
            normalize(tmp_path / "x.npy", tmp_path / "z.zarr", engine, groups, layout, gamma)
        assert stored(tmp_path / "z.zarr") == expected
        assert sorted(keys) == sorted(expected)  # each once
        assert keys[-1] == "zarr.json"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.npy", "y.zarr", "z.zarr"]


def test_every_pass_of_stats_is_the_same_and_each_worker_opens_the_file_once(tmp_path: Path, address: str) -> None:
    x = np.random.default_rng(0).standard_normal((3_000_000,), np.float32)
    np.save(tmp_path / "x.npy", x)
    wanted = Wanted(("mean", "std", "skewness", "argmax", "median", "p99.9"), 0, Bars.of(16))
    with Engine(1) as plain:
        expected = survey(open_source(str(tmp_path / "x.npy")), plain, wanted)
    with ClusterEngine(address, work=1 << 20) as engine:
        found = survey(open_source(str(tmp_path / "x.npy")), engine, wanted)
        assert (found.stats, found.histograms) == (expected.stats, expected.histograms)
        with distributed.Client(address) as client:
            before = client.run(lambda: cluster_module._reopened.cache_info().misses)
        survey(open_source(str(tmp_path / "x.npy")), engine, wanted)
        with distributed.Client(address) as client:
            assert client.run(lambda: cluster_module._reopened.cache_info().misses) == before


def test_the_command_line_names_a_scheduler_or_starts_a_cluster_of_its_own(
    tmp_path: Path, address: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).standard_normal((40, 16, 30, 30), np.float32))
    line = "normalize x.npy -G 4 --format json -o"
    plain = json.loads(run(f"{line} y.npy")[1].replace("y.npy", "z.npy"))
    for more in (f"--scheduler {address}", "--workers 2"):
        status, out, err = run(f"{line} z.npy -f --executor dask {more}")
        assert (status, json.loads(out), err) == (0, plain, "")
        assert Path("z.npy").read_bytes() == Path("y.npy").read_bytes()
    line = "stats x.npy --format json"
    assert run(f"{line} --executor dask --scheduler {address}") == run(line)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.npy", "y.npy", "z.npy"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_a_cluster_starts_is_heard_after(signum: signal.Signals) -> None:
    heard: list[int] = []

    def elsewhere() -> None:
        with cluster_module._signals_later():
            pass

    old = signal.signal(signum, lambda number, _: heard.append(number))
    try:
        with cluster_module._signals_later():
            signal.raise_signal(signum)
            assert not heard
        assert heard == [signum]
        thread = threading.Thread(target=elsewhere)  # where Python takes no handlers
        thread.start()
        thread.join()
        assert signal.getsignal(signum) is not old
    finally:
        signal.signal(signum, old)


def members(group: int) -> int:
    found = subprocess.run(["ps", "-A", "-o", "pgid="], capture_output=True, text=True, check=True).stdout.split()
    return found.count(str(group))


INTERRUPTED = {
    ("stats", "x.npy"): b"",
    ("normalize", "x.npy", "-G", "4", "-o", "y.npy"): b"gncli: interrupted; y.npy was not written\n",
}


@pytest.mark.parametrize("arguments", INTERRUPTED, ids=lambda arguments: arguments[0])
def test_ctrl_c_leaves_no_process_and_no_file(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    sparse_npy(tmp_path / "x.npy", (-1, 64, 56, 56), (16 if arguments[0] == "stats" else 3) << 30)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "gncli", *arguments, "--executor", "dask", "--workers", "2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=uncovered() | {"TMPDIR": str(temporary)},
    )
    while members(process.pid) < 4:  # with the two that work and the tracker of resources
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)  # at work, or on the way to it
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGINT, b"", INTERRUPTED[arguments])
    with pytest.raises(ProcessLookupError):  # Python's tracker of resources is the last to go
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["tmp", "x.npy"]


USAGE = {
    "normalize --random 4,4,2 -G 2": "cannot be read by several processes; give a file",
    "normalize x.npy -G 2 -o -": "cannot be written by several processes; give a FILE.npy",
}


@pytest.mark.parametrize("line", USAGE)
def test_what_goes_by_one_process_alone_is_a_usage_error(
    tmp_path: Path, address: str, run: Run, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((2, 4, 3)))
    status, out, err = run(f"{line} --executor dask --scheduler {address}")
    assert (status, out, err.count("\n"), USAGE[line] in err) == (2, "", 1, True)


def test_a_scheduler_needs_dask_and_dask_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match=r"^--scheduler goes with --executor dask$"):
        engine_on(scheduler="tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        ParameterError, match=r"^--executor dask needs dask.distributed, which is not installed; pip inst"
    ):
        engine_on("dask")
    assert type(engine_on()) is Engine


def test_a_scheduler_that_does_not_answer_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "PATIENCE", 0.2)
    np.save(tmp_path / "x.npy", np.ones(10))
    for wrong in ("tcp://127.0.0.1:9", "nonsense://x"):
        with ClusterEngine(wrong) as engine, pytest.raises(LimitError, match=r"no dask scheduler with workers answers"):
            measure(open_source(str(tmp_path / "x.npy")), whole((10,)), engine)
        gc.collect()  # while no other client is about


def test_a_pause_that_nobody_awaits_any_more_is_not_said(
    tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    np.save(tmp_path / "x.npy", np.ones(10))
    with ClusterEngine(address) as engine:
        measure(open_source(str(tmp_path / "x.npy")), whole((10,)), engine)
    loop = asyncio.new_event_loop()
    for error in (TimeoutError("Timeout"), TimeoutError("Timeout of something else"), OSError("Timeout")):
        loop.create_future().set_exception(error)
    gc.collect()
    loop.call_exception_handler({"message": "no exception at all"})
    loop.close()
    said = [record.getMessage().splitlines()[-1] for record in caplog.records if record.name == "asyncio"]
    assert said == [
        "future: <Future finished exception=TimeoutError('Timeout of something else')>",
        "future: <Future finished exception=OSError('Timeout')>",
        "no exception at all",
    ]


def test_arrays_in_memory_do_not_travel(address: str) -> None:
    with ClusterEngine(address) as engine, pytest.raises(ParameterError, match=r"cannot be read by several processes"):
        measure(ArraySource(np.ones(3)), whole((3,)), engine)


def test_a_worker_that_sees_another_file_gives_no_result(tmp_path: Path, address: str) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones(1000))
    source = open_source(str(path))
    np.save(tmp_path / "other.npy", np.zeros(1000))
    os.replace(tmp_path / "other.npy", path)
    with ClusterEngine(address) as engine, pytest.raises(ChangedError, match=r"x\.npy: (is not the same|was replaced)"):
        measure(source, whole((1000,)), engine)


def test_what_a_worker_cannot_read_is_said_as_here(tmp_path: Path, address: str) -> None:
    x = np.random.default_rng(0).random((40, 50))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("a", data=x, chunks=(10, 50), compression="gzip")
        dataset.id.write_direct_chunk((20, 0), b"nonsense")
    with ClusterEngine(address, work=4000) as engine, pytest.raises(InputError, match=r"chunk at \(20, 0\) is damaged"):
        measure(open_source(str(tmp_path / "x.h5")), whole(x.shape), engine)


def test_an_item_of_work_is_done_by_whoever_has_the_order(tmp_path: Path) -> None:
    """The same as in a worker, in this process."""
    x = np.random.default_rng(0).standard_normal((2, 4, 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    source = open_source(str(tmp_path / "x.npy"))
    grouping = GroupNorm(2).on(x.shape, "C")
    affine = Affine(np.ones(4), np.zeros(4), grouping.channel_shape)
    sink = open_sink(str(tmp_path / "y.h5"), shape=x.shape, dtype=source.dtype)
    with ClusterEngine() as engine:
        run = Normalization(source, sink, grouping, affine, FLOATS[source.dtype.name], engine)
        (step,) = run.plan.steps(run._worker.normalize, None, "measure", sink)
        order = cluster_module._Orders(source, engine, STRICT).order([step])
        other, again, ((job, region),) = cluster_module._Receiver(order).load()
        worker = job.measure.__self__
        assert (again, region, worker.sink.sequential, other.shape) == ([], step.region, True, x.shape)
        assert (worker.engine.tile, worker.engine.visit) == (engine.tile, engine.visit)
        assert worker.engine is not engine
        (done,) = cluster_module.work(order)
        expected = at_once(x.reshape(-1), grouping, affine, FLOATS["float32"])
        assert expected is not None
        assert np.array_equal(done.result, expected)
    sink.abort()
    place = cluster_module._reopening(source, STRICT)
    assert cluster_module._reopened(place) is other
    with pytest.raises(ChangedError, match=r"x\.npy: is not the same file on a worker"):
        cluster_module._reopened(place._replace(inode=place.inode + 1))
    source.close()


def test_a_worker_does_the_next_item_while_one_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed, waiting, second = Ranges.commit, [], threading.Event()

    def commit(ranges: Ranges) -> None:
        waiting.append(ranges)
        if len(waiting) > 1:
            second.set()
        assert second.wait(10)
        committed(ranges)

    monkeypatch.setattr(Ranges, "commit", commit)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((300, 4, 30, 30), np.float32))
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", silence_logs=100
        ) as cluster,
        ClusterEngine(cluster.scheduler_address, tile=1 << 14) as engine,
        Engine(1) as plain,
    ):
        normalize(tmp_path / "x.npy", tmp_path / "z.npy", engine, 4, "NCHW", 1.0)
        normalize(tmp_path / "x.npy", tmp_path / "y.npy", plain, 4, "NCHW", 1.0)
    assert len(waiting) > 2
    assert (tmp_path / "z.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()


class Lethal(MomentsOf):
    """Kills the process that does the work: the first time, or each time."""

    def __init__(self, dtype: np.dtype[Any], flag: str) -> None:
        super().__init__(dtype)
        self.flag = flag

    def measure(self, visit: Visit) -> Moments:
        if visit.region.start and not (self.flag and os.path.exists(self.flag)):
            if self.flag:
                Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(visit)


class Undelivered(Moments):
    """Moments that kill the process that sends them."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class LethalAfterwards(Lethal):
    """Kills the process that sends what was measured; then, each process that measures it again."""

    def measure(self, visit: Visit) -> Moments:
        if os.path.exists(self.flag):
            os.kill(os.getpid(), signal.SIGKILL)
        Path(self.flag).touch()
        return Undelivered(*MomentsOf.measure(self, visit))


@pytest.mark.parametrize(("times", "suffix"), [("once", "npy"), ("once", "zarr"), ("always", "npy")])
def test_a_worker_killed_in_the_middle(tmp_path: Path, address: str, times: str, suffix: str) -> None:
    x = np.random.default_rng(0).standard_normal((40, 16, 30, 30), np.float32)
    np.save(tmp_path / "x.npy", x)
    with Engine(1) as plain:
        output, expected = tmp_path / f"y.{suffix}", tmp_path / f"expected.{suffix}"
        normalize(tmp_path / "x.npy", expected, plain, 4, "NCHW", 1.0)
        normalize(tmp_path / "x.npy", output, plain, 2, "NCHW", 1.0)
    old = stored(output)
    source = open_source(str(tmp_path / "x.npy"))
    grouping = GroupNorm(4).on(source.shape, "C")
    affine = Affine(np.ones(16), np.zeros(16), grouping.channel_shape)
    sink = open_sink(str(output), shape=x.shape, dtype=source.dtype, force=True)
    with ClusterEngine(address, tile=1 << 16, work=1 << 19) as engine:
        run = Normalization(source, sink, grouping, affine, FLOATS[source.dtype.name], engine)
        lethal = Lethal(source.dtype, str(tmp_path / "killed") if times == "once" else "")
        run._worker = replace(run._worker, before=lethal)
        if times == "once":
            run.run()
            sink.commit()
            assert stored(output) == stored(expected) != old
            assert (tmp_path / "killed").exists()
        else:
            with pytest.raises(LimitError, match=r"lost its workers") as caught:
                run.run()
            assert caught.value.status == 5
            sink.abort()
            assert stored(output) == old
    source.close()
    assert not list(tmp_path.glob("*.tmp"))


def test_an_item_that_fails_after_its_result_was_lost_ends_the_run(tmp_path: Path, address: str) -> None:
    """The future of dask's executor never ends then."""
    np.save(tmp_path / "x.npy", np.ones(1000))
    with open_source(str(tmp_path / "x.npy")) as source, ClusterEngine(address) as engine:
        plan = Plan.of(source, whole((1000,)), engine)
        with pytest.raises(LimitError, match=r"the cluster lost its workers, or they were killed"):
            list(plan.reduce(LethalAfterwards(source.dtype, str(tmp_path / "sent"))))


# --- a cluster that is lost ------------------------------------------------------------------------------------------


class Lost(NamedTuple):
    """A cluster of a scheduler and one worker that nobody restarts."""

    address: str
    scheduler: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes]


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Lost]:
    """Start a scheduler and a worker, each in a process of its own, and end them."""
    file, place = tmp_path / "scheduler.json", tmp_path / "dask"
    place.mkdir()

    def started(command: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", command, "--scheduler-file", str(file), "--no-dashboard", *arguments],
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=uncovered(),
        )

    scheduler = started("scheduler", "--port", "0", "--host", "127.0.0.1")
    worker = started("worker", "--no-nanny", "--nthreads", "1", "--local-directory", str(place))
    try:
        for _ in range(3000):
            if file.exists() and file.read_text().endswith("}"):
                break
            time.sleep(0.01)
        yield Lost(json.loads(file.read_text())["address"], scheduler, worker)
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


def test_a_run_whose_last_worker_died_ends_if_none_comes(
    tmp_path: Path, mortal: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cluster_module.PATIENCE < 60
    x = np.random.default_rng(0).standard_normal((40, 16, 30, 30), np.float32)
    np.save(tmp_path / "x.npy", x)
    with open_source(str(tmp_path / "x.npy")) as source, ClusterEngine(mortal.address, work=1 << 19) as engine:
        engine._joined()
        monkeypatch.setattr(cluster_module, "PATIENCE", 2)
        plan = Plan.of(source, whole(x.shape), engine, most=1 << 19)
        with pytest.raises(LimitError) as caught:
            list(plan.reduce(Lethal(source.dtype, "")))
    assert mortal.worker.wait(10) == -signal.SIGKILL
    assert str(caught.value) == (
        f"{mortal.address}: the cluster has had no workers for 2 seconds; see the logs of the cluster, or use "
        "--executor threads"
    )


def has_begun(folder: Path) -> bool:
    """Return whether the worker has written elements of y.npy that are not 0."""
    for path in folder.glob(".y.npy.*.tmp"):
        with path.open("rb") as file:
            return any(file.read(1 << 16)[256:])
    return False


def test_a_scheduler_that_dies_is_one_line_and_leaves_nothing(tmp_path: Path, mortal: Lost) -> None:
    sparse_npy(tmp_path / "x.npy", (-1, 64, 56, 56), 6 << 30)
    x = np.load(tmp_path / "x.npy", mmap_mode="r+")
    x[0] = np.arange(x[0].size).reshape(x[0].shape)
    del x
    arguments = f"normalize x.npy -G 4 -o y.npy --executor dask --scheduler {mortal.address}"
    process = subprocess.Popen(
        [sys.executable, "-m", "gncli", *arguments.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=COVERED,
    )
    while not has_begun(tmp_path):
        assert process.poll() is None
        time.sleep(0.05)
    mortal.scheduler.kill()
    out, err = process.communicate(timeout=60)
    hint = "see the logs of the cluster, or use --executor threads"
    assert (process.returncode, out, err.decode()) == (
        5,
        b"",
        f"gncli: error: {mortal.address}: the scheduler of the cluster was lost; {hint}\n",
    )
    assert not list(tmp_path.glob("*y.npy*"))


# --- ranges ----------------------------------------------------------------------------------------------------------


ELEMENT = np.dtype(np.int32)
GRAIN = 48  # bytes: the header of a .npy does not end on a multiple of it


@settings(derandomize=True, deadline=None, max_examples=examples(40))
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=12), st.integers(1, 4))
def test_each_item_writes_whole_grains_and_together_they_write_the_file(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[tuple[int, int]], at_once: int
) -> None:
    size = sum(entry * count for entry, count in lengths)
    x = np.random.default_rng(size).integers(1, 256, 4 * size, np.uint8).view(ELEMENT)
    steps, start = [], 0
    for entry, count in lengths:
        region = Region(start, start + entry * count, 0, (), start, start + count)
        steps.append(Step(lambda *_: None, region, None, entry))
        start = region.stop
    output = tmp_path_factory.getbasetemp() / "ranges.npy"
    with pytest.MonkeyPatch.context() as patch, Engine(1) as engine:
        patch.setattr(cluster_module, "GRAIN_NBYTES", GRAIN)
        with open_sink(str(output), shape=x.shape, dtype=ELEMENT, force=True) as sink:
            assert isinstance(sink, RawSink)
            assert isinstance(sink.file, AtomicFile)
            orders = cluster_module._Orders(ArraySource(x), engine, STRICT)
            written = [0]
            for first in range(0, len(steps), at_once):
                item = [step._replace(sink=sink) for step in steps[first : first + at_once]]
                again, (begin, stop) = orders._aligned(item)
                assert sum(step.size for step in again) * ELEMENT.itemsize < GRAIN + 9 * ELEMENT.itemsize
                assert written[-1] == begin
                written.append(stop)
                path = sink.file.working_path
                mine = cluster_module._rewriting(sink, (begin, stop))()
                begin, stop = (sink.offset + at * ELEMENT.itemsize for at in (begin, stop))
                before = Path(path).read_bytes()
                for step in (*again, *item):
                    mine.write_from(x[step.region.start : step.region.stop], step.region.start)
                after = Path(path).read_bytes()
                assert [at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [
                    *range(begin, stop)
                ]
                mine.commit()
                mine.abort()
                mine.abort()
            inside = [sink.offset + at * ELEMENT.itemsize for at in written if 0 < at < x.size]
            assert all(byte % GRAIN == 0 for byte in inside)
            assert written[-1] == x.size
            sink.commit()
    assert np.array_equal(np.load(output), x)


def test_the_end_of_a_step_begins_with_an_entry() -> None:
    step = Step(lambda *_: None, Region(100, 127, 1, (3,), 4, 7), None, 10)
    assert step.ending(0) == step.ending(109) == step
    assert step.ending(110).region == Region(110, 127, 1, (3,), 5, 7)
    assert step.ending(126).region == Region(120, 127, 1, (3,), 6, 7)
    assert step.ending(126).size == 7


def test_another_file_in_the_place_of_the_output_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "y"
    path.write_bytes(b"something else")
    with pytest.raises(OutputError, match=r"^y.npy: cannot be written \(.*is another file where a worker sees it\)"):
        Ranges("y.npy", str(path), path.stat().st_ino + 1, 0, 1, (0, 1))
    with pytest.raises(OutputError, match=r"^y.npy: cannot be written \(No such file"):
        Ranges("y.npy", str(tmp_path / "none"), 1, 0, 1, (0, 1))
    assert GRAIN_NBYTES == 1 << 20


def test_a_worker_writes_what_lies_in_its_window_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "y"
    path.write_bytes(b"." * 10)
    mine = Ranges("y.npy", str(path), path.stat().st_ino, 2, 2, (4, 8))
    for start in (0, 2, 3):  # bytes 2 to 6, 6 to 10, 8 to 12
        mine.write_from(np.array([b"ab", b"cd"]), start)
        assert path.read_bytes() == (b"....cd...." if start == 0 else b"....cdab..")
    mine.commit()
    mine.abort()
    mine.abort()


def test_a_worker_writes_no_store_that_was_removed_and_what_it_adds_meanwhile_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = AtomicFolder(str(tmp_path / "y.zarr"), name="y.zarr")
    inode = os.stat(folder.working_path).st_ino
    with pytest.raises(OutputError, match=r"^y.zarr: cannot be written \(.*is another file where a worker sees it\)"):
        FolderRanges("y.zarr", folder.working_path, inode + 1)
    mine = FolderRanges("y.zarr", folder.working_path, inode)
    for key in ("c/0/0", "c/0/1", "c/0/0"):
        mine.file(key).abort()
    mine.commit()
    unlink, late = os.unlink, ["c/0/2", "c/1/0"]

    def meanwhile(path: str) -> None:
        unlink(path)
        if late:
            mine.file(late.pop()).abort()

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", meanwhile)
        folder.abort()
    assert os.listdir(tmp_path) == []
    with pytest.raises(OutputError, match=r"^y.zarr: cannot be written \(No such file or directory\)"):
        mine.file("c/0/3")
    mine.abort()
    mine.abort()
    assert os.listdir(tmp_path) == []
