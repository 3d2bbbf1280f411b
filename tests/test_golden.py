"""Whole commands as a user runs them: status, stdout and stderr, exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import transcripts
from tests.marks import slow_but

pytestmark = pytest.mark.golden

GOLDEN = {page.stem: page for page in sorted((Path(__file__).parent / "golden").glob("*.txt"))}


@pytest.mark.parametrize("page", slow_but(GOLDEN, "help"))
def test_a_command_gives_what_the_transcript_shows(page: str, tmp_path: Path) -> None:
    transcripts.prepare(tmp_path)
    steps = transcripts.steps(GOLDEN[page].read_text(encoding="utf-8"))
    assert steps, f"{page} has no command"
    for step in steps:
        transcripts.compare(step.expected, transcripts.outcome(step.command, tmp_path))


def test_a_transcript_that_differs_is_noticed() -> None:
    transcripts.compare(["mean 1e-17  x"], ["mean -3.2e-16 x"])
    transcripts.compare(["│ 0.12345678 │"], ["│ 0.123456781 │"])
    transcripts.compare(["a", "[...]", "b [...] passes"], ["a", "x", "y 1", "b 1e-5 passes"])
    transcripts.compare(["a", "[...]", "b"], ["a", "b"])
    for expected, found in [
        (["mean 1.0"], ["mean 1.1"]),
        (["mean 1.0"], ["Mean 1.0"]),
        (["a"], ["a", "b"]),
        (["[status 3]"], ["[status 4]"]),
        (["a"], ["a", ""]),
        (["a", "[...]", "b"], ["a", "x", "c"]),
        (["a", "[...]", "b", "a"], ["a", "b"]),
        (["b [...] passes"], ["b 1e-5 fails"]),
        (["b [...] passes", "c"], ["b 1e-5 passes"]),
    ]:
        with pytest.raises(AssertionError):
            transcripts.compare(expected, found)
