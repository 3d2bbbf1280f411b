"""Signals and streams: gncli ends within a second, by the signal, with nothing left behind; and says what it could not.

Nothing here waits for a time to pass: a run stops at a known read or write (`HOOK`), says so, and only then is sent the
signal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gncli import signals
from tests.processes import HOOK, NEVER, ROOT, ended, start

pytestmark = pytest.mark.slow

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def files(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


@pytest.fixture
def x(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((64, 8, 512), np.float32))
    return tmp_path / "x.npy"


def sent(process: subprocess.Popen[bytes], ready: bytes, *signals: int) -> float:
    """Send `signals` once the process has said `ready`, and return the seconds that it then took to end."""
    assert process.stderr is not None
    assert process.stderr.readline() == ready
    started = time.perf_counter()
    for signum in signals:
        process.send_signal(signum)
    process.wait(60)
    return time.perf_counter() - started


RUNS = {
    "reading": (["normalize", "x.npy"], {"read": 3}, ""),
    "writing": (["normalize", "x.npy", "-o", "y.npy"], {"write": 4}, "y.npy was"),
    "writing HDF5": (["normalize", "x.npy", "-o", "y.h5::/a"], {"write": 6}, "y.h5::/a was"),
    "compressing": (["normalize", "x.npy", "-o", "y.h5", "--compression", "gzip=1"], {"read": 3}, "y.h5 was"),
    "in place": (["normalize", "x.npy", "--in-place", "--save-moments", "m.npz"], {"write": 4}, "x.npy and m.npz were"),
    "reporting": (
        ["normalize", "x.npy", "-o", "y.npy", "--save-moments", "m.npz", "--report", "\x1b.json"],
        {"read": 3},
        r"\x1b.json, y.npy and m.npz were",
    ),
}


def said(lost: str, signum: int) -> bytes:
    """Return what is said after a signal; only Ctrl-C, which a person types, is answered."""
    return f"gncli: interrupted; {lost} not written\n".encode() if lost and signum == signal.SIGINT else b""


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_ends_a_run_within_a_second_and_removes_what_was_begun(run: str, signum: int, x: Path) -> None:
    arguments, at, lost = RUNS[run]
    before = x.read_bytes()
    hook = HOOK.format(**({"read": NEVER, "write": NEVER} | at)) + f"os.chdir({str(x.parent)!r})"
    process = start([*arguments, "--groups", "2", "--tile", "4K", "--workers", "2"], hook)
    seconds = sent(process, b"at tile\n", signum)
    assert ended(process) == (-signum, b"", said(lost, signum))
    assert seconds < 1
    assert files(x.parent) == ["x.npy"]
    assert x.read_bytes() == before


@pytest.mark.parametrize("more", [[], ["--compression", "gzip=1"]])
def test_a_signal_ends_a_transposition_within_a_second(more: list[str], x: Path) -> None:
    np.save(x, np.asfortranarray(np.load(x)))
    # The last writes are those of the commit, in the main thread: there are 256 of them.
    hook = f"{HOOK.format(read=NEVER, write=9)}from gncli.io import transposition\n"
    hook += "transposition.PASSED_NBYTES, transposition.Cut.of.__func__.__defaults__ = 4096, (4096,)\n"
    hook += f"os.chdir({str(x.parent)!r})"
    process = start(["normalize", "x.npy", "-G", "2", "-o", "y.h5", *more], hook)
    assert sent(process, b"at tile\n", signal.SIGTERM) < 1
    assert ended(process) == (-signal.SIGTERM, b"", b"")
    assert files(x.parent) == ["x.npy"]


TRIAL = """
import os
from gncli.io.formats.hdf5 import guard
terminal = os.dup(2)
def endless(rehearsal, task, member):
    os.write(terminal, b"in a trial\\n")
    while True:
        pass
guard.Hdf5Rehearsal.__call__ = endless
"""


def test_a_signal_does_not_wait_for_a_trial_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    process = start(["stats", str(tmp_path / "x.h5")], TRIAL)
    assert sent(process, b"in a trial\n", signal.SIGINT) < 1
    assert ended(process) == (-signal.SIGINT, b"", b"")


def test_a_second_ctrl_c_while_the_first_is_cleaned_up_changes_nothing(x: Path) -> None:
    hook = HOOK.format(read=3, write=NEVER) + f"os.chdir({str(x.parent)!r})"
    process = start(["normalize", "x.npy", "-G", "2", "--tile", "4K", "-o", "y.npy"], hook)
    assert sent(process, b"at tile\n", signal.SIGINT, signal.SIGINT) < 1
    assert ended(process) == (-signal.SIGINT, b"", said("y.npy was", signal.SIGINT))
    assert files(x.parent) == ["x.npy"]


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("begun", [b"", b"\x93NUMPY\x01\x00"])
def test_a_signal_ends_a_read_of_stdin_that_waits(signum: int, begun: bytes, tmp_path: Path) -> None:
    hook = """
import os, select
from tests.processes import HOOK, NEVER, ROOT, ended, start
class Waiting:
    def __init__(self): self.real = real()
    def register(self, *given): self.real.register(*given)
    def poll(self):
        ready = self.real.poll(0)
        if not ready:
            os.write(2, b"waiting\\n")
            ready = self.real.poll()
        return ready
real, select.poll = select.poll, Waiting
"""
    reader, writer = os.pipe()
    os.write(writer, begun)
    process = start(["stats", "-"], hook, stdin=reader, TMPDIR=str(tmp_path))
    seconds = sent(process, b"waiting\n", signum)
    assert ended(process) == (-signum, b"", b"")
    assert seconds < 1
    assert files(tmp_path) == []
    os.close(reader)
    os.close(writer)


def test_a_reader_that_goes_away_ends_a_stream_in_silence(x: Path) -> None:
    np.save(x, np.zeros((256, 8, 512), np.float32))  # more than a pipe holds
    process = start(["normalize", str(x), "-G", "2", "-o", "-"])
    assert process.stdout is not None
    assert process.stdout.read(10)[:6] == b"\x93NUMPY"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(60) == -signal.SIGPIPE
    process.stderr.close()


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
REPORTS = [
    ["stats", "{x}"],
    ["stats", "{x}", "--format", "json"],
    ["normalize", "{x}", "-G", "2"],
    ["normalize", "{x}", "-G", "2", "-o", "-"],
    ["random", "9", "--seed", "0"],
    ["--version"],
]


@FULL
@pytest.mark.parametrize("arguments", REPORTS, ids=" ".join)
def test_a_full_or_closed_stdout_is_4_and_one_line(arguments: list[str], x: Path) -> None:
    given = [argument.format(x=x) for argument in arguments]
    with Path("/dev/full").open("wb") as full:
        status, _, err = ended(start(given, stdout=full))
        assert (status, err.count(b"\n"), b"No space left on device" in err) == (4, 1, True), err
    status, _, err = ended(start(given, stdout=None, at_start=lambda: os.close(1)))
    assert (status, err.count(b"\n"), err[:30]) == (4, 1, b"gncli: error: <stdout>: it is "), err


@FULL
@pytest.mark.parametrize("how", ["full", "closed"])
def test_a_full_or_closed_stderr_loses_what_is_said_and_nothing_else(how: str, x: Path) -> None:
    def at_start() -> None:
        if how == "closed":
            os.close(2)
        else:
            os.dup2(os.open("/dev/full", os.O_WRONLY), 2)

    for arguments, status in ((["stats", str(x), "-s", "size", "--format", "value"], 0), (["stats", "none.npy"], 3)):
        process = start(arguments, at_start=at_start)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (status, b"262144\n" if status == 0 else b"", b"")


def test_the_file_is_committed_before_the_report_is_printed(x: Path) -> None:
    status, _, _ = ended(
        start(
            ["normalize", str(x), "-G", "2", "-o", str(x.parent / "y.npy")], stdout=None, at_start=lambda: os.close(1)
        )
    )
    assert (status, files(x.parent)) == (4, ["x.npy", "y.npy"])


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The signals that gncli would have ended by, with its handlers in place."""
    ended: list[int] = []
    monkeypatch.setattr(signals, "end", ended.append)
    monkeypatch.setattr(signals, "_received", 0)
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    signals.take()
    yield ended
    signals._taken = False
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


def test_a_signal_waits_for_the_end_of_a_section_and_is_told_once(ends: list[int]) -> None:
    with signals.Deferred():
        with signals.Deferred():
            signal.raise_signal(signal.SIGTERM)
        assert ends == []
    assert ends == [signal.SIGTERM]
    signals.checkpoint()
    assert ends == [signal.SIGTERM]


def test_a_signal_ends_a_section_that_looks_for_it_or_fails(ends: list[int]) -> None:
    with signals.Deferred():
        signal.raise_signal(signal.SIGHUP)
        signals.checkpoint()
        assert ends == [signal.SIGHUP]
    with pytest.raises(ValueError, match="other"), signals.Deferred():
        signals.Deferred.pending = signal.SIGHUP
        raise ValueError("other")
    assert ends == [signal.SIGHUP] * 2


def test_the_second_signal_waits_for_the_cleaning_up_and_the_third_does_not(ends: list[int]) -> None:
    signals.cleanups["it"] = ends.clear
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert (ends, list(signals.cleanups)) == ([signal.SIGTERM], ["it"])
    signal.raise_signal(signal.SIGHUP)
    assert (ends, list(signals.cleanups)) == ([signal.SIGTERM, signal.SIGHUP], [])


def test_a_signal_wakes_a_wait_for_input(ends: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_wakeup_fd", None)
    old = signal.set_wakeup_fd(-1)
    try:
        fd = signals.wakeup_fd()
        assert fd is not None and fd == signals.wakeup_fd()
        signal.raise_signal(signal.SIGTERM)
        assert os.read(fd, 9) == bytes([signal.SIGTERM])
    finally:
        os.close(signal.set_wakeup_fd(old))
        os.close(fd or 0)


def test_nobody_needs_to_hear_what_was_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(signal, "signal", lambda *given: done.append(given))
    monkeypatch.setattr(os, "kill", lambda *given: done.append(given))
    monkeypatch.setattr(os, "_exit", done.append)

    def failing(_fd: int, said: bytes) -> int:
        done.append(said)
        raise OSError

    monkeypatch.setattr(os, "write", failing)
    signals.cleanups.update({1: lambda: "a", 2: lambda: "\udcff"})
    end: Callable[[int], object] = signals.end
    end(signal.SIGINT)
    assert done[0] == b"gncli: interrupted; a and \\udcff were not written\n"
    assert done[1:] == [(signal.SIGINT, signal.SIG_DFL), (os.getpid(), signal.SIGINT), 128 + signal.SIGINT]


def test_everything_temporary_is_removed_even_if_some_of_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(signal, "signal", lambda *given: done.append(given))
    monkeypatch.setattr(os, "kill", lambda *given: done.append(given))
    monkeypatch.setattr(os, "_exit", done.append)
    signals.cleanups.update({1: lambda: done.append(1), 2: lambda: 1 / 0, 3: lambda: done.append(3)})
    end: Callable[[int], object] = signals.end  # which returns here
    end(signal.SIGTERM)
    assert done == [3, 1, (signal.SIGTERM, signal.SIG_DFL), (os.getpid(), signal.SIGTERM), 128 + signal.SIGTERM]


# --- from the first moment on ----------------------------------------------------------------------------------------

AT_IMPORT = """
import os, sys
number, sent = int(sys.argv.pop(1)), int(sys.argv.pop(1))
class Sender:
    count = 0
    def find_spec(self, name, path, target=None):
        self.count += 1
        if self.count == number:
            os.write(1, name.encode())
            os.kill(os.getpid(), sent)
sys.meta_path.insert(0, Sender())
"""


@pytest.mark.parametrize(
    "numbers",
    [
        (1, 5, 6, 9, 40, 90, 130, 170, 220, 250),
        *(pytest.param(range(k, k + 40), marks=pytest.mark.soak) for k in range(1, 400, 40)),
    ],
)
def test_a_signal_that_comes_during_any_import_ends_gncli_in_order(numbers: Iterable[int], x: Path) -> None:
    for number in numbers:
        signum = SIGNALS[number % 3] if number > 3 else signal.SIGTERM  # Python prints a traceback of the first Ctrl-C
        y = str(x.parent / "y.npy")
        given = ["normalize", str(x), "-G", "2", "-o", y, "--report", str(x.parent / "y.json")]
        status, out, err = ended(start([str(number), str(signum), *given], AT_IMPORT))
        if not out:  # it has no more imports
            assert (status, number > 200) == (0, True)
            break
        begun = [b"", *(said(lost, signum) for lost in (f"{x.parent}/y.json was", f"{x.parent}/y.json and {y} were"))]
        assert status == -signum and err in begun, (number, out, err)
        assert set(files(x.parent)) <= {"x.npy", "y.npy", "y.json"}, (number, out)


def test_nothing_but_signal_is_imported_before_the_signals_are_taken() -> None:
    code = "import sys; import signal; before = set(sys.modules)\n"
    code += "from gncli import cli, signals\n"
    code += "signals.take = lambda: print(sorted(set(sys.modules) - before - {'__future__'})) or exit()\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "from gncli.__main__ import main; main()"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.stdout, done.stderr) == (
        "['gncli', 'gncli.__main__', 'gncli.cli', 'gncli.signals']\n",
        "",
    )
