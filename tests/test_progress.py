"""The bar on the terminal: what it counts, when it is there, and that it is gone in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rich.cells import cell_len

from gncli import progress
from gncli.inputs import Draw
from tests.processes import HOOK, NEVER, ended, start
from tests.runs import diff, normalize, random, stats
from tests.terminal import Terminal, pictures, screen

EAGER = "import gncli.progress as p; p.DELAY = p.PERIOD = 0"  # a picture of every visit, from the first one on


@pytest.fixture
def x(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((8, 4, 4096), np.float32))
    return tmp_path / "x.npy"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


# --- what is counted -------------------------------------------------------------------------------------------------


class Recorder:
    """In the place of the bar: how many bytes each pass was to deal with, and did."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int | None, int]] = []

    def begin(self, doing: str, _name: str, nbytes: int | None, passes: int, spans: int) -> None:
        whole = None if nbytes is None else nbytes * passes
        self.runs.append((f"{doing} {passes}{' of spans' if spans > 1 < passes else ''}", whole, 0))

    def advance(self, nbytes: int) -> None:
        doing, whole, done = self.runs[-1]
        self.runs[-1] = (doing, whole, done + nbytes)

    def clear(self) -> None:
        pass


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(progress, "_bar", made)
    return made


NBYTES = 8 * 4 * 4096 * 4
BIG = 1 << 30  # a visit for all of it
RUNS: dict[str, tuple[Callable[..., Any], dict[str, Any], list[str]]] = {
    "stats": (stats, {}, ["measure 1"]),
    "percentiles": (stats, {"statistics": ["p99", "mean"]}, ["percentiles 3"]),
    "percentiles that fit": (stats, {"statistics": ["p99"], "tile": BIG}, ["measure 1"]),
    "histogram": (stats, {"bins": 5}, ["measure 1", "histogram 1"]),
    "by a cell axis": (stats, {"by": "N"}, ["measure 1"]),
    "by one that stays open": (stats, {"by": "C"}, ["measure 1"]),
    "percentiles by span": (stats, {"by": "N", "statistics": ["p9"]}, ["percentiles 3 of spans"]),
    "normalize in visits": (normalize, {"num_groups": 4, "tile": BIG}, ["normalize 1"]),
    "normalize twice": (normalize, {"num_groups": 4}, ["normalize 2 of spans"]),
    "normalize and draw": (
        normalize,
        {"num_groups": 4, "bins": 5},
        ["normalize 2 of spans", "histogram 1", "normalize 2 of spans"],
    ),
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("run", RUNS)
def test_each_pass_deals_with_as_many_bytes_as_it_says(run: str, workers: int, x: Path, recorder: Recorder) -> None:
    command, options, expected = RUNS[run]
    named = [str(x)] if command is stats else str(x)
    command(named, **({"workers": workers, "tile": 256} | options))
    assert [doing for doing, _, _ in recorder.runs] == expected
    assert all(whole == done > 0 for _, whole, done in recorder.runs), recorder.runs


def test_one_group_of_all_is_told_pass_by_pass(tmp_path: Path, recorder: Recorder) -> None:
    np.save(tmp_path / "one.npy", np.ones((1, 4, 8192)))
    normalize(str(tmp_path / "one.npy"), num_groups=1, tile=256)
    assert recorder.runs == [("normalize 2", 2 * 4 * 8192 * 8, 2 * 4 * 8192 * 8)]


def test_cells_in_parts_are_one_pass(tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gncli.run.plan.MAX_OPEN_CELLS", 8)
    np.save(tmp_path / "x.npy", np.ones((16, 4, 8)))
    stats([str(tmp_path / "x.npy")], by="C,L", layout="NCL")
    assert recorder.runs == [("measure 1", 16 * 4 * 8 * 8, 16 * 4 * 8 * 8)]


def test_a_comparison_is_one_pass_and_its_tolerance_some_more(tmp_path: Path, recorder: Recorder) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", rng.random((4, 1000), np.float32))
    np.save(tmp_path / "f.npy", np.asfortranarray(rng.random((4, 1000), np.float32)))
    a, b, f = (str(tmp_path / f"{name}.npy") for name in "abf")
    diff(a, b, bins=5, max_fraction=0.5)
    assert recorder.runs == [
        ("compare 1", 4000 * 8, 4000 * 8),
        ("tolerance 4", 4000 * 8 * 4, 4000 * 8 * 4),
        ("histogram 1", 4000 * 8, 4000 * 8),
    ]
    recorder.runs.clear()
    diff(a, f)
    assert recorder.runs == [("compare 1", 4000 * 8, 4000 * 8)]


def test_a_pipe_is_counted_with_its_copy(
    x: Path, tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.load(x)
    size = (tmp_path / "x.h5").stat().st_size
    real = os.dup(0)
    try:
        for name in ("x.h5", "x.npy"):
            with (tmp_path / name).open("rb") as piped:
                os.dup2(piped.fileno(), 0)
            stats(["-"]) if name == "x.h5" else normalize("-", num_groups=2, bins=3)
    finally:
        os.dup2(real, 0)
        os.close(real)
    assert recorder.runs == [
        ("copy 1", None, size),
        ("measure 1", NBYTES, NBYTES),
        ("copy 1", NBYTES, NBYTES),
        ("normalize 1", NBYTES, NBYTES),
        ("histogram 1", NBYTES, NBYTES),
        ("normalize 1", NBYTES, NBYTES),
    ]


def test_a_draw_is_counted(tmp_path: Path, recorder: Recorder) -> None:
    random(Draw((3, 1000), seed=0), output=str(tmp_path / "y.npy"))
    assert recorder.runs == [("measure 1", 24000, 24000)]


# --- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [0.0]
    monkeypatch.setattr(progress, "clock", lambda: now[0])
    return now


def test_there_is_a_bar_after_a_second_and_ten_pictures_a_second(terminal: Terminal, seconds: list[float]) -> None:
    with progress.shown(terminal.fd):
        progress.begin("percentiles", "x.npy", 2_000_000_000, passes=2)
        for now in (0.5, 0.999, 1.0, 1.05, 1.09, 2.0, 4.0, 4.01):
            seconds[0] = now
            progress.advance(500_000_000)
    said = terminal_text(terminal)
    assert pictures(said) == [
        "x.npy: percentiles, pass 1 of 2 ━━━━━━━━━━━━━━━━━━         1.5 GB of 2.0 GB   1.5 GB/s 0:00:00 left",
        "x.npy: percentiles, pass 2 of 2 ━━━━━━━━━━━━               1.0 GB of 2.0 GB   1.1 GB/s 0:00:01 left",
        "x.npy: percentiles, pass 2 of 2 ━━━━━━━━━━━━━━━━━━         1.5 GB of 2.0 GB 508.5 MB/s 0:00:01 left",
    ]
    assert screen(said) == [""]


def terminal_text(terminal: Terminal, encoding: str = "utf-8") -> str:
    return terminal.read().decode(encoding)


NAMES = ("x.npy", "long/" * 30 + "x.npy", "\x1b[2J\r\n\udcff.npy", "日本語" * 9, "")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("columns", [200, 100, 79, 60, 50, 42, 30, 5, 0])
def test_a_picture_is_one_line_of_any_terminal(columns: int, encoding: str, seconds: list[float]) -> None:
    for name in NAMES:
        seconds[0] = 0.0
        terminal = Terminal(columns)
        with progress.shown(terminal.fd, encoding=encoding):
            progress.begin("normalize", name, 2_000_000_000)
            for now in (1.0, 2.0):
                seconds[0] = now
                progress.advance(1_000_000_000)
        said = terminal.read().decode(encoding)
        terminal.close()
        drawn = pictures(said)
        assert len(drawn) == 2
        assert all(cell_len(line) < (columns or 80) for line in drawn), drawn
        assert columns == 5 or "2.0 GB of 2.0 GB" in drawn[1]
        assert 0 < columns < 79 or name != "x.npy" or drawn[1].startswith("x.npy: normalize ")
        assert "\x1b[2J" not in said and "\n" not in said
        assert ("━" in said) == (encoding == "utf-8" and not 0 < columns < 79), said


def test_without_a_length_there_are_bytes_and_throughput(terminal: Terminal, seconds: list[float]) -> None:
    with progress.shown(terminal.fd):
        progress.begin("copy", "<stdin>", None)
        seconds[0] = 2.0
        progress.advance(3_000_000)
    assert pictures(terminal_text(terminal)) == ["<stdin>: copy   3.0 MB   1.5 MB/s"]


def test_passes_over_each_of_several_spans_are_told_together(terminal: Terminal, seconds: list[float]) -> None:
    with progress.shown(terminal.fd):
        progress.begin("normalize", "x", 1_000_000, passes=2, spans=3)
        seconds[0] = 2.0
        progress.advance(500_000)
    (drawn,) = pictures(terminal_text(terminal))
    assert drawn.startswith("x: normalize, 2 passes ━") and "500.0 kB of 2.0 MB 250.0 kB/s 0:00:06 left" in drawn


def test_throughput_is_that_of_the_last_pictures(
    terminal: Terminal, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SAMPLES", 10)
    with progress.shown(terminal.fd):
        progress.begin("measure", "x", 10_000_000)
        for number in range(1, 40):
            seconds[0] += 1.0
            progress.advance(20_000 if number < 20 else 1_000)
    drawn = pictures(terminal_text(terminal))
    assert "20.0 kB/s" in drawn[15] and " 1.0 kB/s 2:40:00 left" in drawn[-1]


def test_nothing_is_drawn_in_the_background_or_beside_another_bar(
    terminal: Terminal, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding = "import fcntl, sys; fcntl.lockf(2, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=terminal.fd
    )
    assert other.stdout is not None and other.stdout.readline() == b"\n"

    def later(doing: str) -> None:
        seconds[0] += 2
        progress.begin(doing, "x", None)
        progress.advance(1)

    with progress.shown(terminal.fd):
        later("waits")
        other.communicate()
        later("draws")
        with monkeypatch.context() as context:
            context.setattr(os, "tcgetpgrp", lambda fd: 0)
            progress.clear()  # which would take the line of a shell
            later("hides")
            progress.clear()
        later("comes back")
        with monkeypatch.context() as context:  # a system without such locks
            context.setattr("fcntl.lockf", lambda *given: (_ for _ in ()).throw(OSError(22, "no")))
            later("draws all the same")
    said = terminal_text(terminal)
    assert [line.split(":")[1].split("  ")[0].strip() for line in pictures(said)] == [
        "draws",
        "comes back",
        "draws all the same",
    ]
    assert said.endswith("\r\x1b[K")


def test_a_terminal_that_went_away_stops_nothing(seconds: list[float]) -> None:
    terminal = Terminal()
    with progress.shown(terminal.fd):
        terminal.close()
        seconds[0] = 5
        progress.advance(1)


def test_a_request_that_is_sent_again_is_said_until_bytes_come(terminal: Terminal, seconds: list[float]) -> None:
    with progress.shown(terminal.fd):
        progress.begin("measure", "s3://b/x.npy", 2_000_000)
        progress.retrying("retry 1 of 5: 503 Slow Down")
        seconds[0] = 2.0
        progress.retrying("retry 2 of 5: 503 Slow Down")
        seconds[0] = 4.0
        progress.advance(1_000_000)
    first, second = pictures(terminal_text(terminal))
    assert first.startswith("s3://b/x.npy: retry 2 of 5: 503 Slow Down")
    assert second.startswith("s3://b/x.npy: measure")


def test_without_a_bar_nothing_happens() -> None:
    progress.retrying("retry 1 of 5: 503 Slow Down")
    progress.begin("measure", "x", 1)
    progress.advance(1)
    progress.clear()


# --- commands on a terminal ------------------------------------------------------------------------------------------


def run(
    terminal: Terminal,
    arguments: list[str],
    hook: str = EAGER,
    *,
    stdin: int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Return the status, and what the terminal was sent."""
    process = terminal.start(arguments, hook, stdin=stdin, environment=environment)
    text = terminal.read().decode((environment or {}).get("PYTHONIOENCODING", "utf-8"))
    return process.wait(60), text


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_command_shows_its_passes_and_leaves_its_report(workers: str, x: Path, terminal: Terminal) -> None:
    arguments = ["stats", str(x), "-s", "size,median", "--format", "value", "--tile", "2K", "--workers", workers]
    status, text = run(terminal, arguments)
    lines = screen(text)
    assert (status, lines[0], len(lines), lines[-1]) == (0, "131072", 3, "")
    drawn = pictures(text)
    for number in (1, 2, 3):
        passing = [line for line in drawn if f"pass {number} of 3" in line]
        done = [line.split(" of 524.3 kB")[0].split()[-2] for line in passing]
        assert len(passing) > 10 and done == sorted(done, key=float), done
    assert "524.3 kB of 524.3 kB" in drawn[-1]


@pytest.mark.slow
def test_a_short_command_draws_nothing_and_does_not_import_rich_for_it(x: Path, terminal: Terminal) -> None:
    hook = "import atexit; atexit.register(lambda: print('rich' in sys.modules))"
    assert run(terminal, ["stats", str(x), "-s", "size,max", "--format", "value"], hook)[1].splitlines()[-1] == "False"


QUIET: dict[str, tuple[list[str], dict[str, str]]] = {
    "-q": (["-q"], {}),
    "a dumb terminal": ([], {"TERM": "dumb"}),
    "no TERM": ([], {"TERM": ""}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", QUIET)
def test_there_are_terminals_and_options_without_a_bar(case: str, x: Path, terminal: Terminal) -> None:
    more, environment = QUIET[case]
    arguments = ["stats", str(x), "-s", "size,sum", "--format", "value", *more]
    status, text = run(terminal, arguments, environment=environment)
    assert (status, pictures(text), text.count("\r\n"), "\x1b" in text) == (0, [], 2, False)


@pytest.mark.slow
def test_a_pipe_gets_nothing_of_it(x: Path, tmp_path: Path) -> None:
    status, out, err = ended(start(["stats", str(x), "-s", "max,size", "--format", "value"], EAGER, TERM="xterm"))
    assert (status, out.splitlines()[1], err) == (0, b"131072", b"")


COLORS: dict[str, tuple[list[str], dict[str, str], bool]] = {
    "as it is": ([], {}, True),
    "NO_COLOR": ([], {"NO_COLOR": "1"}, False),
    "never": (["--color", "never"], {}, False),
    "always": (["--color", "always"], {"NO_COLOR": "1"}, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", COLORS)
def test_the_bar_is_coloured_as_tables_are(case: str, x: Path, terminal: Terminal) -> None:
    more, environment, colored = COLORS[case]
    status, text = run(terminal, ["stats", str(x), "-s", "max", "--format", "value", *more], environment=environment)
    assert (status, len(pictures(text)) > 0, "\x1b[36m" in text) == (0, True, colored)


@pytest.mark.slow
def test_a_terminal_without_utf8_gets_ascii(x: Path, terminal: Terminal) -> None:
    status, text = run(
        terminal,
        ["stats", str(x), "--format", "value"],
        environment={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"},
    )
    assert (status, text.isascii(), "-----" in pictures(text)[-1]) == (0, True, True)


@pytest.mark.slow
def test_a_pipe_of_unknown_length_shows_bytes_and_throughput(x: Path, tmp_path: Path, terminal: Terminal) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.load(x)
    with (tmp_path / "x.h5").open("rb") as file:
        status, text = run(terminal, ["stats", "-s", "size,max", "--format", "value"], stdin=file.fileno())
    drawn = pictures(text)
    copying = [line for line in drawn if line.startswith("<stdin>: copy ")]
    assert (status, screen(text)[0], len(copying), len(drawn) > 1) == (0, "131072", 1, True)
    assert " of " not in copying[0] and "/s" in copying[0] and "left" not in copying[0]


@pytest.mark.slow
def test_cells_streamed_to_the_same_terminal_stay_whole(
    x: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(x.parent)
    arguments = ["stats", x.name, "--by", "N,C", "-s", "size,nan", "--format", "csv", "--tile", "2K"]
    status, text = run(terminal, arguments)
    cells = [f"{x.name},{n},{c},4096,0," for n in range(8) for c in range(4)]
    assert (status, screen(text)) == (0, ["name,N,C,size,nan,error", *cells, ""])
    assert len(pictures(text)) > 8


@pytest.mark.slow
def test_an_error_in_the_middle_leaves_its_line_alone(x: Path, terminal: Terminal) -> None:
    hook = EAGER + (
        "\nfrom gncli.errors import InputError\n"
        "from gncli.io.rawfile import RawFile\n"
        "import itertools\n"
        "real, count = RawFile.read, itertools.count()\n"
        "def failing(*given):\n"
        "    if next(count) == 9: raise InputError('was lost', subject='x.npy')\n"
        "    return real(*given)\n"
        "RawFile.read = failing"
    )
    status, text = run(terminal, ["normalize", str(x), "-G", "2", "--tile", "2K", "-o", str(x.parent / "y.npy")], hook)
    assert (status, screen(text), len(pictures(text)) > 1) == (3, ["gncli: error: x.npy: was lost", ""], True)
    assert sorted(path.name for path in x.parent.iterdir()) == ["x.npy"]


@pytest.mark.slow
def test_what_is_said_in_the_middle_has_a_line_of_its_own(x: Path, terminal: Terminal) -> None:
    hook = EAGER + (
        "\nimport itertools, gncli.run.engine as engine, gncli.commands.terminal\n"
        "real, count = engine._first, itertools.count()\n"
        "def first(pending, source):\n"
        "    if next(count) == 9: gncli.commands.terminal.say('gncli: by the way')\n"
        "    return real(pending, source)\n"
        "engine._first = first"
    )
    status, text = run(terminal, ["stats", str(x), "-s", "size,nan", "--format", "value", "--tile", "2K"], hook)
    assert (status, screen(text)) == (0, ["gncli: by the way", "131072", "0", ""])
    before, _, after = text.partition("gncli: by the way")
    assert pictures(before) and pictures(after)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_a_signal_leaves_the_line_empty(how: str, x: Path, terminal: Terminal) -> None:
    hook = EAGER + HOOK.format(read=4, write=NEVER).replace("os.write(2,", "os.write(1,")
    reader, writer = os.pipe()
    arguments = ["normalize", str(x), "-G", "2", "--tile", "1K", "--workers", "1"]
    process = terminal.start(arguments, hook, stdout=writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as ready:
        assert ready.readline() == b"at tile\n"
        if how == "Ctrl-C":
            os.write(terminal.ours, b"\x03")
        else:
            process.terminate()
        text = terminal.read().decode()
        assert process.wait(60) == -(signal.SIGINT if how == "Ctrl-C" else signal.SIGTERM)
    assert (screen(text), len(pictures(text)) > 0) == ([""], True)
