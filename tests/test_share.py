"""What the wheel installs below ``share`` is what the program says now, and a man page that man can show."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests import share


@pytest.mark.parametrize("path", share.files())
def test_the_files_are_those_of_the_program(path: str) -> None:
    kept = (share.SHARE / path).read_text(encoding="utf-8")
    assert kept == share.files()[path], "run python -m tests.share"


def test_nothing_else_lies_there() -> None:
    found = {path.relative_to(share.SHARE).as_posix() for path in share.SHARE.rglob("*") if path.is_file()}
    assert found == set(share.files())


def test_the_man_page_has_every_command_and_no_request_of_the_text() -> None:
    text = share.manual()
    for name in ("STATS", "NORMALIZE", "DIFF", "RANDOM", "COMPLETION", "HELP"):
        assert f'.SH "GNCLI {name}"\n.nf\nUsage: gncli {name.lower()}' in text
    requests = {line.split(" ")[0] for line in text.splitlines() if line.startswith((".", "'"))}
    assert requests == {".TH", ".SH", ".nf", ".fi"}
    assert share._escaped(r".a\-b") == r"\&.a\e\-b"


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here")
def test_man_shows_it_without_a_warning() -> None:
    page = share.SHARE / "man" / "man1" / "gncli.1"
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", page], capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--group-size" in done.stdout
