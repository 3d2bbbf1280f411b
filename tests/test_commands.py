"""Random commands: no kernel, tile or number of workers changes a byte of what they write, print or say.

``GNCLI_SOAK`` is the number of commands of each name in the long version, 2,000 by default. The first 25,000 found five
faults: tracebacks, checks that failed right results, counts that depended on --tile.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gncli.cli import main
from gncli.kernels import native
from gncli.kernels.loops import loops
from tests.fuzz.commands import COMMANDS, Command, drawn

KERNELS = ("plain", *native.bodies())
FAILED = re.compile(r"gncli: error: x\.npy: the check failed: .*( beyond the largest | undefined)")  # no other reason
SIZES = [pytest.param(15, marks=pytest.mark.slow), pytest.param(None, marks=pytest.mark.soak)]
Outcome = tuple[int, str, str, list[bytes]]


@pytest.fixture
def ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[[Command, list[str], str], Outcome]]:
    """Return a function that runs a command by a kernel: its status, stdout, stderr, and the files that it made."""
    monkeypatch.chdir(tmp_path)

    def run(command: Command, more: list[str], kernel: str) -> Outcome:
        monkeypatch.setenv("GNCLI_KERNEL", kernel)
        loops.cache_clear()
        status = main([*command.words, "--format", "json", *more])
        made = [Path(name) for name in command.made if Path(name).exists()]
        written = [path.read_bytes() for path in made]
        for path in made:
            path.unlink()
        return status, *capfd.readouterr(), written

    yield run
    loops.cache_clear()


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", COMMANDS)
def test_what_cannot_change_a_result_changes_no_byte(
    name: str, count: int | None, ran: Callable[[Command, list[str], str], Outcome]
) -> None:
    for seed, command, more in drawn(name, count or int(float(os.environ.get("GNCLI_SOAK", "2000")))):
        told = (name, seed, *command.words, *more)
        command.write()
        status, out, err, written = right = ran(command, [], KERNELS[-1])
        assert ran(command, more, KERNELS[seed % max(1, len(KERNELS) - 1)]) == right, told
        failed = status == 1 and name in ("normalize", "backward")
        assert status == 0 or name == "diff" or (failed and FAILED.search(err)), (err, *told)
        assert all(line.startswith("gncli: ") for line in err.splitlines()), (err, *told)
        assert len(written) == (0 if failed else len(command.made)), told
        json.loads(out)  # it is one object, whatever the status
