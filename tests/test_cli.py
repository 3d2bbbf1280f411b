"""`gncli.cli` and the commands: what each prints and where, and how every end of the process looks.

The tasks are the real ones, on tiny tensors. Opening the input raises the errors that no file gives.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import gncli
from gncli import cli
from gncli.cli import main
from gncli.commands.group import PURPOSES
from gncli.errors import InputError, OutputError
from gncli.kernels import native
from gncli.kernels.loops import loops
from gncli.run.engine import Engine
from gncli.run.plan import Plan
from tests.marks import slow_but
from tests.processes import ROOT, ended, start
from tests.runs import Run

X = np.tile([0.0, 1.0], 32).reshape(4, 16)
CHECK_LINE = "check: ok, 16 groups, worst error 5 % of the rounding bound; 64 elements proved correctly rounded"
OVERFLOW = "the check failed: 64 results beyond the largest float16"
SEED = re.compile(r"seed ([0-9]+) \(chosen; --seed \1 draws the same again\)\n")
Fail = Callable[[BaseException], None]


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FORMAT", "COLOR", "PRECISION", "WORKERS", "TILE"):
        monkeypatch.delenv(f"GNCLI_{name}", raising=False)
    np.save("x.npy", X)
    np.save("many.npy", np.full((3000, 1), 0.5))


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Return a function that has the input of `stats` raise an error as it is opened."""

    def fail(error: BaseException) -> None:
        def opening(*_given: object, **_named: object) -> object:
            raise error

        monkeypatch.setattr("gncli.io.open_sources", opening)

    return fail


# What is done.


def test_stats_are_those_that_were_asked_for(run: Run) -> None:
    assert run("stats", "x.npy", "-s", "std,nan", "--ddof", "1", "--format", "value") == (
        0,
        f"{X.std(ddof=1)}\n0\n",
        "",
    )


def test_normalize_has_the_defaults_of_the_paper(run: Run) -> None:
    np.save("c.npy", X.reshape(1, 32, 2))
    status, out, err = run("normalize", "c.npy", "--format", "json")
    assert (status, err) == (0, "")
    assert json.loads(out)["parameters"] == {
        "groups": 32,
        "group_size": 1,
        "eps": 1e-5,
        "layout": "NCL",
        "denominator": "std",
        "gamma": 1.0,
        "beta": 0.0,
        "dtype": "float64",
        "interleaved": False,
        "cells": [1, 32],
        "over": None,
        "rms": False,
        "mean": None,
        "var": None,
        "gamma_axes": None,
        "gamma_per_group": False,
        "overflow": None,
        "gamma_offset": 0.0,
        "round_before_affine": False,
        "activation": None,
    }


def test_normalize_of_a_random_tensor_takes_its_dtype_for_both(run: Run) -> None:
    arguments = "--random 4,16 --seed 3 --dist normal --dtype float16 --group-size 2 --gamma 2 --no-verify"
    status, out, err = run("normalize", *arguments.split(), "--format", "json")
    report = json.loads(out)
    drawn = np.random.default_rng(3).standard_normal((4, 16), np.float32).astype(np.float16)
    assert (status, err, report["verified"], report["parameters"]["groups"]) == (0, "", None, 8)
    assert [report[name]["dtype"] for name in ("before", "after")] == ["float16", "float16"]
    assert report["before"]["max"] == drawn.max()


def test_random_into_a_pipe_is_the_stream(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["random", "4x16"]) == 0
    out, err = capfdbinary.readouterr()
    said = SEED.fullmatch(err.decode().removeprefix("gncli: "))
    assert said is not None
    np.testing.assert_array_equal(np.load(io.BytesIO(out)), np.random.default_rng(int(said[1])).random((4, 16)))


@pytest.mark.parametrize("line", ["stats x.npy", "normalize x.npy -G 4", "diff x.npy x.npy", "random 4 -o y.npy"])
def test_workers_and_tile_reach_the_engine(line: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    enter = Engine.__enter__

    def entered(engine: Engine) -> Engine:
        asked.append((engine.workers, engine.tile))
        return enter(engine)

    monkeypatch.setattr(Engine, "__enter__", entered)
    assert run(*line.split(), "--workers", "2", "--tile", "64K")[0] == 0
    monkeypatch.setenv("GNCLI_WORKERS", "3")
    monkeypatch.setenv("GNCLI_TILE", "1M")
    assert run(*line.split(), *(["-f"] if "-o" in line else []))[0] == 0
    assert asked == [(2, 1 << 16), (3, 1 << 20)]


# What is printed.


def test_the_report_goes_to_stdout_and_the_seed_beside_it(run: Run) -> None:
    status, out, err = run("stats", "--random", "8", "-s", "max", "--format", "value")
    said = SEED.fullmatch(err.removeprefix("gncli: "))
    assert said is not None
    assert (status, out) == (0, f"{np.random.default_rng(int(said[1])).random(8).max()}\n")
    status, out, err = run("stats", "--random", "8")
    assert (status, bool(SEED.search(out)), err) == (0, True, "")


def test_normalize_to_stdout_says_one_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for more, said in (([], f"gncli: {CHECK_LINE}\n"), (["-q"], "")):
        assert main(["normalize", "x.npy", "-G", "4", "-o", "-", *more]) == 0
        out, err = capfdbinary.readouterr()
        assert (np.load(io.BytesIO(out)).shape, err.decode()) == (X.shape, said)


def test_a_failed_check_is_shown_and_ends_with_1(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    given = "normalize x.npy -G 4 --gamma 1e6 --dtype float16 -o".split()
    assert main([*given, "y.npy"]) == 1
    out, err = capfdbinary.readouterr()
    assert "check: FAILED" in out.decode()
    assert err.decode() == f"gncli: error: x.npy: {OVERFLOW}; nothing was written\n"
    assert not Path("y.npy").exists()
    assert main([*given, "-"]) == 1
    out, err = capfdbinary.readouterr()
    check, error = err.decode().splitlines()
    assert np.load(io.BytesIO(out)).dtype == np.float16
    assert check.startswith("gncli: check: FAILED")
    assert error == f"gncli: error: x.npy: {OVERFLOW}; discard what was written to stdout"


def test_stats_of_several_goes_on_and_ends_with_the_highest_status(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a").touch()
    np.save("b\x1b.npy", X)
    reduce = Plan.reduce

    def touching(*given: Any) -> Any:
        os.utime("b\x1b.npy", ns=(1, 1))
        return reduce(*given)

    monkeypatch.setattr(Plan, "reduce", touching)
    changed = "was changed while it was read"
    assert run("stats", "a", "x.npy", "b\x1b.npy", "-s", "mean", "--format", "csv") == (
        6,
        f"name,mean,error\na,,is empty (0 bytes)\nx.npy,0.5,\nb\\x1b.npy,,{changed}\n",
        f"gncli: error: a: is empty (0 bytes)\ngncli: error: b\\x1b.npy: {changed}\n",
    )
    assert run("stats", "a") == (3, "", "gncli: error: a: is empty (0 bytes)\n")


def test_the_environment_sets_how_it_looks_and_nothing_else(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FORMAT": "plain", "SEED": "1", "STAT": "max", "DDOF": "1"}.items():
        monkeypatch.setenv(f"GNCLI_{name}", value)
    status, out, err = run("stats", "x.npy")
    assert (status, err) == (0, "")
    assert out.splitlines()[3:] == ["Mean:  0.5", "Standard Deviation:  0.5", "Min:  0.0", "Max:  1.0"]


# Usage.


USAGE = [
    ("normalize", "x -G 4 --group-size 4", "either --groups or --group-size, not both"),
    ("normalize", "x --group-size 0", "invalid value for '--group-size': '0' is not an integer of at least 1"),
    ("normalize", "x y.npy", "'y.npy' is one too many; -o writes a file"),
    ("explain", "x y z.npy", "'z.npy' is one too many; it takes [OPTIONS] Y [REF]"),
    ("random", "4 4", "'4' is one too many; it takes [OPTIONS] SHAPE"),
    ("normalize", "x.h5 /x", "'/x' is one too many; a tensor in a file is named FILE::NAME"),
    ("normalize", "- --gamma -", "standard input can be read once, but - was given 2 times"),
    ("stats", "x --random 4", "either a TENSOR or --random, not both: x"),
    ("stats", "x --seed 4", "--seed is about a drawn tensor; give --random SHAPE too"),
    ("stats", "- -", "standard input can be read once, but - was given 2 times"),
    ("stats", "-s maen x", "invalid value for '-s' / '--stat': 'maen' is not a statistic; did you mean mean?"),
    ("random", "", "missing argument 'SHAPE'"),
]


@pytest.mark.parametrize(("command", "arguments", "message"), USAGE)
def test_a_usage_error_is_one_line(run: Run, command: str, arguments: str, message: str) -> None:
    line = f"gncli: error: {message}; try 'gncli {command} --help'\n"
    assert run(command, *arguments.split()) == (2, "", line)


@pytest.mark.parametrize("arguments", [("x", "-o", "y.npy"), ("-",), ("--random", "4,16")])
def test_in_place_is_about_one_file(run: Run, arguments: tuple[str, ...]) -> None:
    status, out, err = run("normalize", "--in-place", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("gncli: error: --in-place writes to the FILE that is read;")


def test_a_file_is_no_command(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("w.npy::a") == (2, "", "gncli: error: no such command 'w.npy::a'; try 'gncli --help'\n")
    Path("w.npy").touch()
    said = "gncli: error: no such command 'w.npy::a'; gncli stats w.npy::a describes it; try 'gncli --help'\n"
    assert run("w.npy::a") == (2, "", said)


@pytest.mark.parametrize("argument", ["--\x1b[31mred", "-\x9b", "stats\x1b", "\udcff"])
def test_what_was_typed_wrong_is_shown_without_its_control_characters(run: Run, argument: str) -> None:
    status, out, err = run(argument)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.rstrip("\n").isprintable()


def test_help_is_there_everywhere_and_fits_80_columns(run: Run) -> None:
    for command in ((), ("stats",), ("normalize",), ("random",)):
        pages = [run(*command, option) for option in ("-h", "--help")]
        assert pages[0] == pages[1]
        status, out, err = pages[0]
        assert (status, err) == (0, "")
        assert out.startswith(f"Usage: {' '.join(['gncli', *command])} [OPTIONS]")
        assert max(map(len, out.splitlines())) <= 80


def test_gncli_alone_shows_its_help_as_an_error(run: Run) -> None:
    status, out, err = run("")
    assert (status, out) == (2, "")
    assert err == run("--help")[1]


# Errors.


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("it ends\nearly", subject="a\x1bb", hint="copy it"), 3, r"a\x1bb: it ends\nearly; copy it"),
        (OutputError("no space", subject="y.npy"), 4, "y.npy: no space"),
        (MemoryError(), 5, "memory ran out; use fewer --workers or a smaller --tile, or raise its limit (ulimit -v)"),
    ],
)
def test_an_error_is_one_line_and_a_status(run: Run, fail: Fail, error: Exception, status: int, line: str) -> None:
    fail(error)
    assert run("stats", "x.npy") == (status, "", f"gncli: error: {line}\n")


def test_a_bug_keeps_its_traceback(run: Run, fail: Fail) -> None:
    fail(ValueError("of\x1b ours"))
    status, out, err = run("stats", "x.npy")
    assert (status, out) == (70, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(
        "ValueError: of\\x1b ours\ngncli: this is a bug in gncli; please report it, with the lines above\n"
    )


SHORTAGES = {
    "an import": (ImportError("libx.so: failed to map segment from shared object"), "memory ran out"),
    "another import": (ImportError("libx.so: cannot open shared object file: Too many open files"), "no more files"),
    "the system": (OSError(12, "Cannot allocate memory"), "memory ran out"),
}


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_is_5_whatever_error_it_comes_as(shortage: str, run: Run, fail: Fail) -> None:
    error, line = SHORTAGES[shortage]
    fail(error)
    assert run("stats", "x.npy")[2].startswith(f"gncli: error: {line}")
    outer = RuntimeError("outer")
    outer.__cause__ = error
    fail(outer)
    status, out, err = run("stats", "x.npy")
    assert (status, out, err.count("\n"), err.startswith(f"gncli: error: {line}")) == (5, "", 1, True)


def test_a_bug_is_one_only_where_there_is_memory(run: Run, fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(SystemError("error return without exception set"))
    monkeypatch.setattr(cli, "_SPARE_NBYTES", 1 << 62)
    status, out, err = run("stats", "x.npy")
    assert (status, out, err.startswith("gncli: error: memory ran out"), err.count("\n")) == (5, "", True, 1)


def test_a_shortage_that_cannot_be_said_is_5_all_the_same(fail: Fail, capfd: Any) -> None:
    fail(MemoryError())
    stderr = os.dup(2)
    os.close(2)
    try:
        status = main(["stats", "x.npy"])
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    assert status == 5


@pytest.mark.parametrize("given", [(), ("-W", "default")])
def test_warnings_reach_stderr_only_if_somebody_asks_for_them(given: tuple[str, ...]) -> None:
    code = "import atexit, warnings; atexit.register(lambda: warnings.warn('overflow encountered', RuntimeWarning))\n"
    code += "from gncli.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, *given, "-c", code, "--version"],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"} | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, "overflow encountered" in done.stderr) == (0, bool(given))
    assert given or done.stderr == ""


def test_an_error_that_python_reports_is_said_as_python_says_it(capfd: Any) -> None:
    cli._quiet_excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capfd.readouterr().err == ""
    cli._quiet_excepthook(ValueError, ValueError("other"), None)
    assert capfd.readouterr().err == "ValueError: other\n"


# The process.

MANY = ("stats", "many.npy", "--by", "0", "-s", "mean", "--format", "value")


def test_everything_arrives() -> None:
    assert ended(start([*MANY])) == (0, b"0.5\n" * 3000, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [MANY, ("--help",), ("stats", "-h")])
def test_a_full_stdout_is_4(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        said = b"gncli: error: <stdout>: No space left on device\n"
        assert ended(start([*arguments], stdout=full, covered=True)) == (4, b"", said)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_report_is_not_written_where_a_tensor_was_expected(tmp_path: Path) -> None:
    normalize = ("normalize", "x.npy", "-G", "4")
    for name, status in (("y z.npy", 2), ("y.H5", 2), ("y.txt", 0), ("y.npy", 0)):
        place = tmp_path / name
        with place.open("wb") as file:
            done, _, err = ended(
                start([*normalize, *(["-o", "-"] if name == "y.npy" else [])], stdout=file, covered=True)
            )
        assert (done, bool(place.stat().st_size)) == (status, not status), (name, err)
        shown = "'y z.npy'" if " " in name else name
        said = f"stdout is the file {shown}, and the report would be written there; say -o {shown}, or -o -"
        assert (err == f"gncli: error: {said}\n".encode()) == (status == 2), err


@pytest.mark.parametrize(
    "arguments", slow_but(zip([("stats", "x.npy"), ("--help",), ("random", "4")]), (("stats", "x.npy"),))
)
def test_a_closed_stdout_is_4_when_there_is_something_to_write(arguments: tuple[str, ...]) -> None:
    status, _, err = ended(start([*arguments], stdout=None, at_start=lambda: os.close(1), covered=True))
    assert status == 4
    assert err.startswith(b"gncli: error: <stdout>: it is closed")
    assert err.count(b"\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [MANY, ("normalize", "x.npy", "-G", "4", "-o", "-")])
def test_a_reader_that_went_away_ends_gncli_in_silence(arguments: tuple[str, ...]) -> None:
    process = start([*arguments])
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.wait(60), process.stderr.read()) == (-signal.SIGPIPE, b"")
    process.stderr.close()


HANGING = """
import os, time
import gncli.io
from gncli import signals
def clean_up():
    {cleaning}
    os.write(2, b"removed\\n")  # past the buffer, which the signal may have found in use
def opening(*given, **named):
    signals.cleanups["it"] = clean_up
    os.write(2, b"ready\\n")
    {work}
gncli.io.open_sources = opening
"""


def interrupted(process: subprocess.Popen[bytes], *signals: int) -> tuple[int, bytes, bytes]:
    """Return how `process` ends when it is sent `signals`, once it is at work."""
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    for signum in signals:
        process.send_signal(signum)
        time.sleep(0.2)
    return ended(process)


def hanging(work: str = "time.sleep(60)", cleaning: str = "") -> subprocess.Popen[bytes]:
    """Return a process that hangs as it opens its input."""
    return start(["stats", "x.npy"], HANGING.format(work=work, cleaning=cleaning))


@pytest.mark.parametrize("signum", slow_but([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], signal.SIGINT))
def test_a_signal_ends_gncli_by_that_signal_with_everything_temporary_removed(signum: int) -> None:
    assert interrupted(hanging(), signum) == (-signum, b"", b"removed\n")


@pytest.mark.slow
def test_a_second_signal_does_not_break_the_cleaning_up() -> None:
    process = hanging(cleaning="time.sleep(1)")
    assert interrupted(process, signal.SIGINT, signal.SIGINT) == (-signal.SIGINT, b"", b"removed\n")


@pytest.mark.slow
def test_a_third_signal_ends_a_cleaning_up_that_hangs() -> None:
    process = hanging(cleaning="time.sleep(60)")
    assert interrupted(process, signal.SIGINT, signal.SIGINT, signal.SIGTERM) == (-signal.SIGTERM, b"", b"")


@pytest.mark.slow
def test_a_signal_that_is_ignored_on_entry_stays_so() -> None:
    hook = HANGING.format(work="time.sleep(0.5); sys.exit(0)", cleaning="")
    process = start(["stats", "x.npy"], hook, at_start=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert interrupted(process, signal.SIGHUP) == (0, b"", b"")


def test_help_imports_nothing_heavy() -> None:
    heavy = {"numpy", "h5py", "rich", "gncli.commands.options", *(f"gncli.commands.{name}" for name in PURPOSES)}
    hook = f"import atexit; atexit.register(lambda: print(sorted({heavy} & set(sys.modules))))"
    for command in ([], ["stats"], ["help"]):
        status, out, err = ended(start([*command, "--help"], hook))
        imported = [f"gncli.commands.{name}" for name in command + ["options"] * (command == ["stats"])]
        assert (status, out.splitlines()[-1], err) == (0, str(sorted(imported)).encode(), b"")


def test_at_the_end_nothing_is_searched_for_garbage() -> None:
    hook = "import atexit, gc; atexit.register(lambda: print(len(gc.get_objects()) < gc.get_freeze_count()))"
    status, out, err = ended(start(["--help"], hook))
    assert (status, out.splitlines()[-1], err) == (0, b"True", b"")


UNNEEDED = (
    "asyncio concurrent.futures csv difflib distributed h5py html json logging matplotlib multiprocessing subprocess "
    "tempfile traceback zipfile gncli.run.cluster gncli.tasks.diff gncli.tasks.expect "
    "gncli.report.plot gncli.threads gncli.report.verdict gncli.commands.diff gncli.commands.explain"
)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["stats", "x.npy"], ["--version", "-v"]], ids=" ".join)
@pytest.mark.parametrize(("given", "kept"), slow_but([(None, "1"), ("3", "3")], (None, "1")))
def test_blas_starts_no_threads_unless_it_is_told_to(
    given: str | None, kept: str, arguments: list[str], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.arange(8.0))
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"} | {"PYTHONPATH": str(ROOT)}
    code = "import atexit, os; atexit.register(lambda: print(os.environ['OPENBLAS_NUM_THREADS']))\n"
    code += "from gncli.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        env=environment | ({} if given is None else {"OPENBLAS_NUM_THREADS": given}),
        check=False,
    )
    assert (done.returncode, done.stdout.split()[-1], done.stderr) == (0, kept.encode(), b"")


@pytest.mark.parametrize(
    "arguments", slow_but(zip([("stats", "x.npy"), ("normalize", "x.npy", "--groups", "2")]), (("stats", "x.npy"),))
)
def test_what_a_small_npy_does_not_need_is_not_imported(arguments: tuple[str, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 4)))
    code = "import atexit, sys; import numpy, click, rich.table, rich.console; before = set(sys.modules);"
    code += f"atexit.register(lambda: print(sorted(set({UNNEEDED!r}.split()) & (set(sys.modules) - before))));"
    code += "from gncli.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith(("COV_", "COVERAGE_"))}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "[]", "")


@pytest.mark.slow
def test_closed_standard_streams_are_not_taken_by_files() -> None:
    hook = "import gncli.io\ngncli.io.open_sources = lambda *given, **named: sys.exit(open('x.npy').fileno() < 3)"
    assert ended(start(["stats", "x.npy"], hook, at_start=lambda: os.closerange(0, 3), covered=True))[0] == 0


@pytest.mark.slow
def test_stdout_that_another_process_made_non_blocking_gets_everything() -> None:
    np.save("many.npy", np.full((30_000, 1), 0.5))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = start([*MANY], stdout=writer, covered=True)
    while process.poll() is None and select.select([], [writer], [], 0)[1]:
        time.sleep(0.01)  # until the pipe is full
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        assert stream.read() == b"0.5\n" * 30_000
    assert ended(process) == (0, b"", b"")


def test_the_module_runs() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "gncli", "nothing"], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"gncli: error: no such command 'nothing'; try 'gncli --help'\n"


@pytest.mark.slow
def test_a_terminal_gets_colour_but_never_binary() -> None:
    parent, child = os.openpty()
    process = start(["normalize", "x.npy", "-G", "4", "-o", "-"], stdout=child, covered=True)
    assert ended(process) == (
        2,
        b"",
        b"gncli: error: -o -: binary data are not written to a terminal; send them to a pipe or a file\n",
    )
    process = start(["stats", "x.npy"], stdout=child, stdin=child)
    os.close(child)
    assert process.stderr is not None
    assert b"\x1b[1m" in os.read(parent, 4096)
    process.kill()
    process.communicate()
    os.close(parent)


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version") == (0, f"gncli {gncli.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--version", "-v"], ["-v", "--version"]])
def test_the_version_with_v_is_that_of_all_that_matters(arguments: list[str], run: Run) -> None:
    status, shown, said = run(*arguments)
    first = [f"gncli {gncli.__version__}", f"Python {platform.python_version()}", f"NumPy {np.__version__}"]
    last = [f"h5py {h5py.__version__}", f"HDF5 {h5py.version.hdf5_version}", f"platform {platform.platform()}"]
    last += [f"kernel: {gncli.kernel()}", *(f"note: {why}" for why in [native.why_not()] if why)]
    assert (status, shown.splitlines(), said) == (0, first + last, "")


@pytest.mark.parametrize("name", ["plain", "native", *native.BODIES])
def test_a_kernel_is_chosen_by_name_and_said(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNCLI_KERNEL", name)
    here = native.bodies()
    status, out, err = run("--version", "-v")
    if name == "plain" or (here and name in ("native", *here)):
        assert (status, err) == (0, "")
        assert f"kernel: {here[-1] if name == 'native' else name}" in out.splitlines()
    else:
        usable = ", ".join(("plain", *(("native", *here) if here else ())))
        said = f"gncli: error: GNCLI_KERNEL: the kernel {name} does not run here; choose {usable}\n"
        assert (status, out, err) == (5, "", said)


@pytest.mark.parametrize(
    "words", ["--version -v", "stats x.npy", "normalize x.npy -G 4", "diff x.npy x.npy", "random 4"]
)
def test_an_unknown_kernel_is_a_usage_error(words: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNCLI_KERNEL", "sse9")
    loops.cache_clear()
    known = "plain, native, baseline, avx2, avx512"
    assert run(*words.split()) == (2, "", f"gncli: error: GNCLI_KERNEL: there is no kernel 'sse9'; choose {known}\n")
    monkeypatch.setattr(native, "bodies", lambda: ("baseline",))
    monkeypatch.setenv("GNCLI_KERNEL", "avx512")
    said = "gncli: error: GNCLI_KERNEL: the kernel avx512 does not run here; choose plain, native, baseline\n"
    assert run(*words.split()) == (5, "", said)


def test_the_version_alone_imports_nothing_for_it() -> None:
    code = "import sys; from gncli.cli import main; main(['--version']); print({'numpy', 'h5py'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert (done.stdout, done.stderr) == (f"gncli {gncli.__version__}\nset()\n".encode(), b"")


@pytest.mark.parametrize("command", ["", "stats", "normalize", "diff", "random", "completion"])
def test_help_shows_examples_a_line_each(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    status = main([*command.split(), "--help"])
    shown, said = capfd.readouterr()
    examples = [line for line in shown.splitlines() if line.startswith(f"  gncli {command}".rstrip())]
    assert (status, said, len(examples) >= 2, "\\b" in shown) == (0, "", True, False)
    assert all(line.count("gncli ") == 1 or "|" in line for line in examples)
