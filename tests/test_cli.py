"""`gncli.cli`: what each command asks of its operation, what it prints, and how every end of the process looks.

The tasks are stand-ins here: their own tests and the golden transcripts run the real ones.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import pytest

import gncli
from gncli import cli
from gncli.cli import main
from gncli.errors import ChangedError, InputError, OutputError
from gncli.inputs import Draw
from gncli.kernels.groupnorm import Check, GroupNorm
from gncli.report.records import Failure, NormalizeReport, Parameters, StatsReport, TensorStats
from gncli.tasks.requests import Execution, Normalize, Output, Random, Stats

VALUES = {"mean": 0.5, "std": 0.25, "min": 0.0, "max": 1.0, "nan": 0, "posinf": 0, "neginf": 0}
X = TensorStats((4, 16), "float64", VALUES, "x.npy")
PARAMETERS = Parameters(
    groups=4, group_size=4, eps=1e-5, layout="NC", denominator="std", gamma=1.0, beta=0.0, dtype="float64"
)
STATS = StatsReport((X,))
NORMALIZED = NormalizeReport(
    input="x.npy", output=None, parameters=PARAMETERS, before=X, after=X, check=Check(16, 0.1, 0.2)
)
FAILURE = "the check failed: the mean of a group is off by 2 times the rounding bound"
CHECK_LINE = "check: ok, 16 groups, worst error 20 % of the rounding bound"


class Tasks:
    """Stand-ins for the tasks, which answer with `answer`, and keep the requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: object = None
        self.asked: list[object] = []
        for name in ("stats", "normalize", "random"):
            module: Any = types.ModuleType(f"gncli.tasks.{name}")
            setattr(module, f"{name.capitalize()}Run", self._run())
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def _run(self) -> type[Any]:
        tasks = self

        class StandIn:
            def __init__(self, request: object) -> None:
                tasks.asked.append(request)

            def __enter__(self) -> StandIn:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def cells(self) -> Iterator[Any]:
                yield from ()

            def report(self) -> object:
                if isinstance(tasks.answer, BaseException):
                    raise tasks.answer
                return tasks.answer

            def commit(self) -> None:
                pass

        return StandIn


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    for name in ("FORMAT", "COLOR", "PRECISION", "WORKERS", "TILE"):
        monkeypatch.delenv(f"GNCLI_{name}", raising=False)
    return Tasks(monkeypatch)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command line: its status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        out, err = capfd.readouterr()
        return status, out, err

    return run


# What is asked.


def test_a_command_asks_for_what_was_typed(tasks: Tasks, run: Run) -> None:
    tasks.answer = STATS
    assert run("stats", "x.npy", "-s", "mean,nan", "--ddof", "1", "--workers", "2", "--tile", "64K", "-q")[0] == 0
    asked = Execution(workers=2, tile=65536)
    assert tasks.asked == [Stats(tensors=("x.npy",), statistics=("mean", "nan"), ddof=1, execution=asked)]


def test_normalize_asks_for_the_defaults(tasks: Tasks, run: Run) -> None:
    tasks.answer = NORMALIZED
    assert run("normalize", "x.npy")[0] == 0
    assert tasks.asked == [Normalize(tensor="x.npy", norm=GroupNorm(None, None, 1e-5, None, "std"))]


def test_normalize_of_a_random_tensor_takes_its_dtype_for_both(tasks: Tasks, run: Run) -> None:
    tasks.answer = NORMALIZED
    arguments = "--random 4,16 --seed 3 --dist normal --dtype float16 --group-size 2 --gamma g.npy --format json"
    assert run("normalize", *arguments.split(), "--no-verify")[0] == 0
    draw = Draw((4, 16), dist="normal", seed=3, dtype="float16")
    norm = GroupNorm(None, 2)
    assert tasks.asked == [Normalize(tensor=draw, norm=norm, gamma="g.npy", dtype="float16", zeros=True, verify=False)]


def test_random_into_a_pipe_is_the_stream(tasks: Tasks, run: Run) -> None:
    tasks.answer = replace(STATS, seed=7, command="random")
    assert run("random", "4x16") == (0, "", "gncli: seed 7 (chosen; --seed 7 draws the same again)\n")
    assert tasks.asked == [Random(draw=Draw((4, 16)), output=Output(path="-"))]


# What is printed.


def test_the_report_goes_to_stdout_and_the_seed_beside_it(tasks: Tasks, run: Run) -> None:
    tasks.answer = replace(STATS, selected=("mean",), seed=7)
    seed = "seed 7 (chosen; --seed 7 draws the same again)\n"
    assert run("stats", "x", "--format", "value") == (0, "0.5\n", f"gncli: {seed}")
    status, out, err = run("stats", "x")
    assert (status, out.endswith(seed), err) == (0, True, "")


def test_normalize_to_stdout_says_one_line(tasks: Tasks, run: Run) -> None:
    tasks.answer = replace(NORMALIZED, output="-")
    assert run("normalize", "x.npy", "-o", "-") == (0, "", f"gncli: {CHECK_LINE}\n")
    assert run("normalize", "x.npy", "-o", "-", "-q") == (0, "", "")


def test_a_failed_check_is_shown_and_ends_with_1(tasks: Tasks, run: Run) -> None:
    tasks.answer = replace(NORMALIZED, output="y.npy", check=Check(16, 2.0, 0.2))
    status, out, err = run("normalize", "x.npy", "-o", "y.npy")
    assert (status, err) == (1, f"gncli: error: x.npy: {FAILURE}; nothing was written\n")
    assert "check: FAILED" in out
    status, out, err = run("normalize", "x.npy", "-o", "-")
    assert (status, out) == (1, "")
    assert err.endswith(f"gncli: error: x.npy: {FAILURE}; discard what was written to stdout\n")


def test_stats_of_several_goes_on_and_ends_with_the_highest_status(tasks: Tasks, run: Run) -> None:
    failures = (Failure("a", InputError("empty")), Failure("b\x1b", ChangedError("it changed", hint="again")))
    tasks.answer = StatsReport((failures[0], X, failures[1]), ("mean",))
    assert run("stats", "a", "x.npy", "b", "--format", "csv") == (
        6,
        "name,mean,error\na,,empty\nx.npy,0.5,\nb\\x1b,,it changed; again\n",
        "gncli: error: a: empty\ngncli: error: b\\x1b: it changed; again\n",
    )
    tasks.answer = StatsReport((failures[0],))
    assert run("stats", "a") == (3, "", "gncli: error: a: empty\n")


def test_the_environment_sets_how_it_looks_and_nothing_else(
    tasks: Tasks, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks.answer = replace(STATS, selected=("mean",))
    for name, value in {"FORMAT": "plain", "WORKERS": "3", "TILE": "1M", "SEED": "1", "STAT": "max"}.items():
        monkeypatch.setenv(f"GNCLI_{name}", value)
    assert run("stats", "x") == (0, "Mean:  0.5\n", "")
    (request,) = tasks.asked
    assert request == Stats(tensors=("x",), execution=Execution(workers=3, tile=1 << 20))


# Usage.


USAGE = [
    ("normalize", "x -G 4 --group-size 4", "either --groups or --group-size, not both"),
    ("normalize", "x -G 0", "invalid value for '-G' / '--groups': 0 is not in the range x>=1"),
    ("normalize", "- --gamma -", "standard input can be read once, but - was given 2 times"),
    ("stats", "x --random 4", "either a TENSOR or --random, not both: x"),
    ("stats", "x --seed 4", "--seed is about a drawn tensor; give --random SHAPE too"),
    ("stats", "- -", "standard input can be read once, but - was given 2 times"),
    ("stats", "-s maen x", "invalid value for '-s' / '--stat': 'maen' is not a statistic; did you mean mean?"),
    ("random", "", "missing argument 'SHAPE'"),
]


@pytest.mark.parametrize(("command", "arguments", "message"), USAGE)
def test_a_usage_error_is_one_line(tasks: Tasks, run: Run, command: str, arguments: str, message: str) -> None:
    line = f"gncli: error: {message}; try 'gncli {command} --help'\n"
    assert run(command, *arguments.split()) == (2, "", line)
    assert not tasks.asked


@pytest.mark.parametrize("arguments", [("x", "-o", "y.npy"), ("-",), ("--random", "4,16")])
def test_in_place_is_about_one_file(tasks: Tasks, run: Run, arguments: tuple[str, ...]) -> None:
    status, out, err = run("normalize", "--in-place", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("gncli: error: --in-place writes to the FILE that is read;")
    assert not tasks.asked


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
    status, out, err = run()
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
def test_an_error_is_one_line_and_a_status(tasks: Tasks, run: Run, error: Exception, status: int, line: str) -> None:
    tasks.answer = error
    assert run("stats", "x") == (status, "", f"gncli: error: {line}\n")


def test_a_bug_keeps_its_traceback(tasks: Tasks, run: Run) -> None:
    tasks.answer = ValueError("of\x1b ours")
    status, out, err = run("stats", "x")
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
def test_a_shortage_is_5_whatever_error_it_comes_as(shortage: str, tasks: Tasks, run: Run) -> None:
    error, line = SHORTAGES[shortage]
    tasks.answer = error
    assert run("stats", "x")[2].startswith(f"gncli: error: {line}")
    outer = RuntimeError("outer")
    outer.__cause__ = error
    tasks.answer = outer
    status, out, err = run("stats", "x")
    assert (status, out, err.count("\n"), err.startswith(f"gncli: error: {line}")) == (5, "", 1, True)


def test_a_bug_is_one_only_where_there_is_memory(tasks: Tasks, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.answer = SystemError("error return without exception set")
    monkeypatch.setattr(cli, "_SPARE_NBYTES", 1 << 62)
    status, out, err = run("stats", "x")
    assert (status, out, err.startswith("gncli: error: memory ran out"), err.count("\n")) == (5, "", True, 1)


def test_a_shortage_that_cannot_be_said_is_5_all_the_same(tasks: Tasks, capfd: Any) -> None:
    tasks.answer = MemoryError()
    stderr = os.dup(2)
    os.close(2)
    try:
        status = main(["stats", "x"])
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

STAND_IN = f"""
import sys, types, gncli
from gncli.report.records import *
operations = types.ModuleType("gncli.tasks.stats")
operations.stats = lambda *given, **named: StatsReport(({X!r},) * 3000, ("mean",))
sys.modules["gncli.tasks.stats"] = operations
class StatsRun:
    def __init__(self, request): self.request = request
    def report(self): return operations.stats(self.request)
    def cells(self): yield from ()
operations.StatsRun = StatsRun
"""
ROOT = Path(__file__).parent.parent


def python(
    code: str,
    arguments: Sequence[str] = ("stats", "x", "--format", "value"),
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.PIPE,
    at_start: Callable[[], object] | None = None,
) -> subprocess.Popen[bytes]:
    """Return a process that runs `code` with gncli's own main at the end."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED" and not k.startswith("GNCLI_")}
    return subprocess.Popen(
        [sys.executable, "-c", f"{STAND_IN}\n{code}\nfrom gncli.__main__ import main\nsys.exit(main())", *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment | {"PYTHONPATH": str(ROOT)},
        preexec_fn=at_start,
    )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Return the status, stdout and stderr of `process`."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out or b"", err or b""


def test_everything_arrives() -> None:
    assert ended(python("")) == (0, b"0.5\n" * 3000, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [("stats", "x"), ("--help",), ("stats", "-h")])
def test_a_full_stdout_is_4(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        assert ended(python("", arguments=arguments, stdout=full)) == (
            4,
            b"",
            b"gncli: error: <stdout>: No space left on device\n",
        )


@pytest.mark.parametrize("arguments", [("stats", "x"), ("--help",), ("random", "4")])
def test_a_closed_stdout_is_4_when_there_is_something_to_write(arguments: tuple[str, ...]) -> None:
    status, _, err = ended(python("", arguments=arguments, stdout=None, at_start=lambda: os.close(1)))
    assert status == 4
    assert err.startswith(b"gncli: error: <stdout>: it is closed")
    assert err.count(b"\n") == 1


def test_a_reader_that_went_away_ends_gncli_in_silence() -> None:
    process = python("")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.wait(60), process.stderr.read()) == (-signal.SIGPIPE, b"")
    process.stderr.close()


def test_a_wrapped_broken_pipe_is_one_too() -> None:
    code = """
from gncli.errors import OutputError
def stats(*given, **named):
    try:
        raise BrokenPipeError
    except OSError as error:
        raise OutputError("broken") from error
operations.stats = stats
"""
    assert ended(python(code)) == (-signal.SIGPIPE, b"", b"")
    assert ended(python("operations.stats = lambda *given, **named: (_ for _ in ()).throw(BrokenPipeError)"))[0] == -13


HANGING = """
import os, time
from gncli import signals
def clean_up():
    {cleaning}
    os.write(2, b"removed\\n")  # past the buffer, which the signal may have found in use
def stats(*given, **named):
    signals.cleanups["it"] = clean_up
    print("ready", file=sys.stderr, flush=True)
    {work}
operations.stats = stats
"""


def interrupted(process: subprocess.Popen[bytes], *signals: int) -> tuple[int, bytes, bytes]:
    """Return how `process` ends when it is sent `signals`, once it is at work."""
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    for signum in signals:
        process.send_signal(signum)
        time.sleep(0.2)
    return ended(process)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_gncli_by_that_signal_with_everything_temporary_removed(signum: int) -> None:
    assert interrupted(python(HANGING.format(work="time.sleep(60)", cleaning="")), signum) == (
        -signum,
        b"",
        b"removed\n",
    )


def test_a_second_signal_does_not_break_the_cleaning_up() -> None:
    process = python(HANGING.format(work="time.sleep(60)", cleaning="time.sleep(1)"))
    assert interrupted(process, signal.SIGINT, signal.SIGINT) == (-signal.SIGINT, b"", b"removed\n")


def test_a_third_signal_ends_a_cleaning_up_that_hangs() -> None:
    process = python(HANGING.format(work="time.sleep(60)", cleaning="time.sleep(60)"))
    assert interrupted(process, signal.SIGINT, signal.SIGINT, signal.SIGTERM) == (-signal.SIGTERM, b"", b"")


def test_a_signal_that_is_ignored_on_entry_stays_so() -> None:
    code = HANGING.format(work="time.sleep(0.5); sys.exit(0)", cleaning="")
    process = python(code, at_start=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert interrupted(process, signal.SIGHUP) == (0, b"", b"")


def test_help_and_version_import_nothing_heavy() -> None:
    code = "import atexit; atexit.register(lambda: print(sorted({'numpy', 'h5py', 'rich'} & set(sys.modules))))"
    for arguments in (("--help",), ("stats", "--help")):
        status, out, err = ended(python(code, arguments=arguments))
        assert (status, out.splitlines()[-1], err) == (0, b"[]", b"")


UNNEEDED = (
    "asyncio concurrent.futures csv difflib distributed h5py html json logging matplotlib multiprocessing subprocess "
    "tempfile traceback zipfile gncli.run.cluster gncli.tasks.diff gncli.tasks.expect "
    "gncli.report.plot gncli.run.threads gncli.report.verdict"
)


@pytest.mark.parametrize("arguments", [["stats", "x.npy"], ["--version", "-v"]], ids=" ".join)
@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("3", "3")])
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


@pytest.mark.parametrize("arguments", [("stats", "x.npy"), ("normalize", "x.npy", "--groups", "2")])
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


def test_closed_standard_streams_are_not_taken_by_files() -> None:
    code = "operations.stats = lambda *given, **named: sys.exit(0 if open(sys.executable).fileno() > 2 else 1)"
    assert ended(python(code, at_start=lambda: os.closerange(0, 3)))[0] == 0


def test_stdout_that_another_process_made_non_blocking_gets_everything() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = python(
        "operations.stats = lambda *g, **n: StatsReport((X,) * 300000, ('mean',))".replace("X", repr(X)), stdout=writer
    )
    os.close(writer)
    time.sleep(1)
    with os.fdopen(reader, "rb") as stream:
        assert stream.read() == b"0.5\n" * 300000
    assert ended(process) == (0, b"", b"")


def test_the_module_runs() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "gncli", "nothing"], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"gncli: error: no such command 'nothing'; try 'gncli --help'\n"


def test_a_terminal_gets_colour_but_never_binary(tasks: Tasks, tmp_path: Path) -> None:
    parent, child = os.openpty()
    process = python("", arguments=("normalize", "x", "-o", "-"), stdout=child)
    assert ended(process) == (
        2,
        b"",
        b"gncli: error: -o -: binary data are not written to a terminal; send them to a pipe or a file\n",
    )
    process = python("", arguments=("stats", "x", "--format", "table"), stdout=child, stdin=child)
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
    assert (status, shown.splitlines(), said) == (0, first + last, "")


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
