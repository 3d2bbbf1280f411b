"""`gncli.text`: nothing that came from data acts on the terminal, the JSON reader or the spreadsheet that shows it."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gncli.text import csv_cell, printable, without_surrogates

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
