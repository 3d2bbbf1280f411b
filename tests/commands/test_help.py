"""``gncli help``: pages and help pages, on stdout or in a pager."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

import gncli as package
from gncli.cli import main
from gncli.commands import help as helping
from gncli.commands import terminal
from gncli.commands.group import gncli
from tests.transcripts import environment

ASKED = [
    (
        "",
        ["stats", "normalize", "backward", "diff", "explain", "random", "clean", "completion", "help", *helping.TOPICS],
    ),
    ("no", ["normalize"]),
    ("s", ["stats", "statistics", "speed", "scale"]),
    ("x", []),
]


def test_every_page_is_a_topic() -> None:
    assert sorted(helping.TOPICS) == sorted(path.stem for path in (Path(package.__file__).parent / "docs").glob("*.md"))
    assert not set(helping.TOPICS) & set(gncli.commands)


@pytest.mark.parametrize("name", gncli.commands)
def test_the_help_of_a_command_is_what_its_option_shows(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capfd.readouterr()
    assert main(["help", name]) == 0
    assert capfd.readouterr() == shown


@pytest.mark.parametrize("topic", helping.TOPICS)
def test_a_page_is_shown_without_what_is_for_machines(topic: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["help", topic]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("# ") and len(out.splitlines()) > 20 and not err
    assert "<!--" not in out and "[[[cog" not in out


@pytest.mark.parametrize(("typed", "suggested"), ASKED)
def test_commands_and_pages_are_suggested(typed: str, suggested: list[str]) -> None:
    context = click.Context(gncli.commands["help"], parent=click.Context(gncli))
    assert helping.suggest(context, None, typed) == suggested


def test_on_a_terminal_the_pager_takes_its_place(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started: list[tuple[str, list[str], bytes]] = []
    monkeypatch.setattr(terminal, "is_terminal", lambda _stream: True)
    monkeypatch.setattr(terminal, "width", lambda: 60)
    monkeypatch.setattr(os, "execv", lambda path, words: started.append((path, words, os.read(0, 1 << 20))))
    kept, disposition = os.dup(0), signal.getsignal(signal.SIGPIPE)
    try:
        for pager in ("most -s", ""):
            monkeypatch.setenv("PAGER", pager)
            monkeypatch.setattr(helping, "PAGERS", ("no-such-pager", "sh"))
            assert main(["help", "scale"]) == 0
            assert signal.getsignal(signal.SIGPIPE) == signal.SIG_DFL
        monkeypatch.setattr(helping, "PAGERS", ())
        assert main(["help", "speed"]) == 0
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        signal.signal(signal.SIGPIPE, disposition)
    page = helping.fitted(text_of("scale"), 60).encode()
    assert started == [("/bin/sh", ["sh", "-c", name], page) for name in ("most -s", "sh")]
    out, err = capfd.readouterr()
    assert out.startswith("# Speed\n") and not err


def text_of(topic: str) -> str:
    text = (Path(package.__file__).parent / "docs" / f"{topic}.md").read_text(encoding="utf-8")
    return re.sub(r"<!--.*?-->\n*", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("topic", helping.TOPICS)
def test_a_page_is_broken_between_words(topic: str) -> None:
    page = text_of(topic)
    shown = helping.fitted(page, 70)
    assert shown.split() == page.split()
    for kept in (r"^```.*?^```$", r"^(?:[|] |[|]-|#).*?$"):
        assert re.findall(kept, shown, re.DOTALL | re.MULTILINE) == re.findall(kept, page, re.DOTALL | re.MULTILINE)
    paragraphs = re.sub(r"^```.*?^```$|^(?:[|] |[|]-|#).*?$", "", shown, flags=re.DOTALL | re.MULTILINE)
    assert not [line for line in paragraphs.splitlines() if len(line) > 70 and " " in line.strip(" *")]


def test_a_reader_that_goes_away_ends_it_as_any_other_command() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "gncli", "help", "reference"],
        stdout=write,
        stderr=subprocess.PIPE,
        env=environment(),
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from gncli.cli import main; status = main(['help', 'numbers']); "
        "print(status, {'numpy', 'h5py', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(), check=True)
    assert done.stdout.startswith(b"# The numbers\n")
    assert done.stderr == b"0 set()\n"
