"""``-q`` and ``-qq``: what is left of each command, on stdout and on stderr; and how an error looks on a terminal."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from gncli.cli import main
from gncli.commands import terminal
from gncli.names import STATISTICS
from tests.archives import ARRAY

SAME = "SAME: 0 of 6 elements outside |a - b| <= 1e-05 + 1.3e-06 |b|; --atol 0.0 passes\n"
DIFFERENT = "DIFFERENT: 6 of 6 elements outside |a - b| <= 1e-05 + 1.3e-06 |b|; --atol 1.0 passes\n"
FAILED = "gncli: expectation failed: x.npy: mean is 2.5, expected < 1\n"

CASES: dict[str, tuple[int, str, str]] = {
    "diff x.npy x.npy -q": (0, SAME, ""),
    "diff x.npy y.npy -q": (1, DIFFERENT, ""),
    "diff x.npy y.npy -qq": (1, "", ""),
    "diff x.npy y.npy --report r.json -q": (1, DIFFERENT, ""),
    "diff two.npz two.npz -q": (0, "SAME: 2 identical\n", ""),
    "diff two.npz two.npz -qq": (0, "", ""),
    "stats x.npy --expect mean<1 -q": (1, "", FAILED),
    "stats x.npy --expect mean<9 -q": (0, "", ""),
    "stats x.npy --report r.txt -q": (0, "", ""),
    "stats x.npy -s mean --format value -q": (0, "2.5\n", ""),
    "stats x.npy -s mean --format value -qq": (0, "", ""),
    "stats x.npy -s mean -q": (0, "╭──────┬", ""),
    "normalize x.npy --layout NC -G 1 --report n.txt -q": (0, "", ""),
    "normalize x.npy --layout NC -G 1 -qq": (0, "", ""),
}


@pytest.mark.parametrize("typed", CASES)
def test_quiet_leaves_the_answer(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ARRAY)
    np.save("y.npy", ARRAY + 1)
    np.savez("two.npz", a=ARRAY, b=ARRAY)
    status, out, err = CASES[typed]
    assert main(typed.split()) == status
    said = capfd.readouterr()
    assert said.err == err
    assert said.out.startswith(out)
    assert said.out.count("\n") == out.count("\n") or out == "╭──────┬"


def test_a_file_is_written_however_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ARRAY)
    assert main(["stats", "x.npy", "--report", "r.txt", "-qq"]) == 0
    assert "│ Mean " in Path("r.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tty", "no_color", "start"),
    [(True, "", "\x1b[1;31mgncli: error:\x1b[0m x"), (True, "1", "gncli: error: x"), (False, "", "gncli: error: x")],
)
def test_an_error_is_red_on_a_terminal(
    tty: bool, no_color: str, start: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: tty)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    terminal.say("gncli: error: x: is empty")
    terminal.say("gncli: x: skipped")
    assert capfd.readouterr().err == f"{start}: is empty\ngncli: x: skipped\n"


def test_the_page_of_statistics_has_a_line_for_each(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "statistics"]) == 0
    named = re.findall(r"^\| `(\w+)` \|", capfd.readouterr().out, re.MULTILINE)
    assert named == [*list(STATISTICS)[: named.index("pNN")], "pNN", *list(STATISTICS)[named.index("pNN") :]]


@pytest.mark.parametrize("command", [[], ["stats"], ["normalize"], ["diff"], ["random"], ["completion"], ["help"]])
def test_a_help_page_says_where_the_documentation_is(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert (
        capfd.readouterr()
        .out.rstrip()
        .endswith("Documentation: gncli help; its pages are in the package too, in gncli/docs.")
    )


def test_a_large_v_is_the_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-V"]) == 0
    short = capfd.readouterr()
    assert main(["--version"]) == 0
    assert capfd.readouterr() == short
