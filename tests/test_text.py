"""`gncli.text`: nothing that came from data acts on the terminal, the JSON reader or the spreadsheet that shows it."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gncli.errors import InputError
from gncli.report import render
from gncli.report.records import Failure, StatsReport, TensorStats
from gncli.report.style import Style
from gncli.text import csv_cell, printable, without_surrogates
from tests.marks import slow_but

ESCAPED = [
    ("x.npy", "x.npy"),
    ("café 卷积.npy", "café 卷积.npy"),
    ("a\x1b[31mb", r"a\x1b[31mb"),
    ("a\nb\tc\rd", r"a\nb\tc\rd"),
    ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
    ("\u202e\u2066\u200e\u061c", r"\u202e\u2066\u200e\u061c"),
    ("\u2028\u2029\u200b\u200d\ufeff", r"\u2028\u2029\u200b\u200d\ufeff"),
    ("\U000e0041", r"\U000e0041"),
    ("bad\udcff", r"bad\xff"),
    ("\ud800", r"\ud800"),
    ("[bold]x[/bold]", "[bold]x[/bold]"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "shown"), ESCAPED)
def test_what_a_terminal_might_act_on_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.slow
@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_no_text_leaves_with_a_character_that_is_not_printable(text: str) -> None:
    shown = printable(text, limit=None)
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("utf-8") == shown


def test_every_control_format_and_separator_character_is_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            assert printable(character).isascii(), hex(code)


@pytest.mark.parametrize(("limit", "shown"), [(10, "abcdefghij"), (9, "abc...hij"), (8, "abc...ij"), (3, "...")])
def test_a_long_text_loses_its_middle(limit: int, shown: str) -> None:
    assert printable("abcdefghij", limit) == shown


def test_a_name_of_ten_thousand_characters_is_cut_unless_told_otherwise() -> None:
    assert len(printable("x" * 10_000)) == 300
    assert len(printable("x" * 10_000, limit=None)) == 10_000


def test_strict_json_carries_any_name() -> None:
    assert without_surrogates("bad\udcff\ud800 \x1b é") == "bad\\xff\\ud800 \x1b é"
    json.dumps(without_surrogates("\udcff"), ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("start", list("=+-@\t\r"))
def test_a_spreadsheet_does_not_take_a_name_for_a_formula(start: str) -> None:
    assert csv_cell(f"{start}cmd") == f"'{start}cmd"


@pytest.mark.parametrize("text", ["", "x.npy", "a=b", "<stdin>"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert csv_cell(text) == text


# The whole way: 200 names into every form, in a pipe and on a terminal.

PIECES = [
    *("\x1b[31m", "\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "\x07", "\x08", "\x7f", "\r", "\n", "\t", "\x0b", "\x0c"),
    *("\u202e", "\u2066", "\u200f", "\u2028", "\u2029", "\u200b", "\ufeff", "\u00a0", "\U000e0041", "\u0301", "\udcff"),
    *("[bold]", "[/x]", "[link=http://x.example]x[/link]", ":smile:", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)"),
    *("'", '"', "`", "|", "<b>", "&amp;", "\\", "$(x)", "%s", "{}", "\ud800", "x" * 10_000, "卷积", "é", " ", "\x00"),
]


def hostile_names() -> list[str]:
    draw = random.Random(0)
    return PIECES + ["".join(draw.choices(PIECES, k=draw.randint(2, 4))) for _ in range(200 - len(PIECES))]


@pytest.mark.slow
@pytest.mark.parametrize("form", slow_but(["table", "json", "csv", "plain", "jsonl", "markdown"], "table"))
@pytest.mark.parametrize(
    ("encoding", "width"), slow_but([("utf-8", None), ("utf-8", 80), ("ascii", None)], ("utf-8", 80))
)
def test_no_name_writes_a_control_byte(form: str, encoding: str, width: int | None) -> None:
    values = {"mean": 0.5, "std": 0.25, "min": 0.0, "max": 1.0, "nan": 0, "posinf": 0, "neginf": 0}
    names = hostile_names()
    assert len(names) == 200
    for name in names:
        found = TensorStats((4, 16), "float64", values, name)
        report = StatsReport((found, Failure(name, InputError(f"of {name}", hint=name))), skipped=((name, 3),))
        text = render(report, form, Style(encoding=encoding, width=width))
        text = text.encode(encoding, "strict" if form == "table" else "backslashreplace").decode(encoding)
        assert all(character.isprintable() for character in text.replace("\n", "")), repr(name)
        if form == "json":
            assert json.loads(text)["tensors"][0]["name"].encode()
        if form == "csv":
            rows = list(csv.reader(text.splitlines()))
            assert len(rows) == 3, repr(name)
            assert not rows[1][0].startswith(("=", "+", "-", "@")), repr(name)


@pytest.mark.slow
def test_no_name_writes_a_control_byte_to_a_terminal(tmp_path: Path) -> None:
    names = [name for name in hostile_names() if name and not {"\0", "/"} & set(name) and "\ud800" not in name]
    names = [name for name in names if len(os.fsencode(name)) < 200]
    for name in names:
        (tmp_path / os.fsdecode(os.fsencode(name))).write_bytes(b"")
    leader, follower = os.openpty()
    arguments = ["stats", *(f"./{name}" for name in names), *(f"none{name}" for name in names), "--format", "csv"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gncli", *arguments],
        cwd=tmp_path,
        env=os.environ | {"NO_COLOR": "1"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    written = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while data := os.read(leader, 65536):
            written += data
    os.close(leader)
    assert process.wait() == 3
    assert len(names) > 130
    text = written.decode().replace("\r\n", "\n").replace("\n", "")
    assert {character for character in text if not character.isprintable()} == set()
    assert text.count("gncli: error: ") == 2 * len(names)


LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.slow
@pytest.mark.parametrize("locale", LOCALES)
def test_a_poor_locale_costs_characters_and_nothing_else(locale: str, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "卷积 é.npy", np.arange(4.0))
    for form in ("table", "plain", "json", "csv", "markdown", "value"):
        done = subprocess.run(
            [sys.executable, "-m", "gncli", "stats", "卷积 é.npy", "没有.npy", "--format", form],
            cwd=tmp_path,
            env=os.environ | LOCALES[locale],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 3, done
        assert done.stdout
        assert done.stderr.count(b"\n") == 1
        assert b"Traceback" not in done.stderr
        if locale != "latin-1":
            assert (done.stdout + done.stderr).isascii()
