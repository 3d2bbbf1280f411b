"""What holds for every test: hypothesis draws the same examples each time, and takes the time it needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings

from gncli.cli import main
from gncli.errors import GncliError
from gncli.kernels import build, native
from tests.processes import uncovered
from tests.runs import Run

UNCOUNTED = {"kernels"} | {f"test_{name}.py" for name in "changes conformance diff docs explain extremes npy".split()}
"""Whose slow tests, of whole tables, reach no line that others do not reach."""

# Bytecode is kept: a test that starts processes would wait for each of them to compile all of gncli again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Whoever runs the tests in the background has perhaps had signals ignored; children would inherit that.
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """Compile the loops in place if they are missing or old, so that every kernel is tested if there is a compiler."""
    os.environ.pop("COLUMNS", None)  # gncli heeds it, and who runs the tests in parallel sets it
    os.unsetenv("COLUMNS")  # as does readline, which pytest imports, behind the back of os.environ
    if "not slow" in config.option.markexpr:  # the quick subset
        settings.load_profile("quick")
    if not hasattr(config, "workerinput"):
        code = "from gncli.kernels import native; raise SystemExit(not native.bodies())"
        # Another process looks: one that has loaded an old library would be given it again.
        if subprocess.run([sys.executable, "-c", code], check=False).returncode:
            build.compiled(build.LIBRARY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that at the end no process waits for another, and end with what makes requests.

    Threads for requests live as long as the process; where there are threads, a Python is started to try an HDF5 file.
    """
    first, last = ("test_build.py", "test_packaging.py"), os.sep + "remote" + os.sep
    items.sort(key=lambda item: (item.path.name not in first, last in item.location[0]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Count no lines while a test of `UNCOUNTED` runs: to count them takes as long as the test itself.

    What it has made once and for all is forgotten then, so that the lines that make it are counted in another test.
    """
    uncounted = item.get_closest_marker("slow") and UNCOUNTED.intersection(item.location[0].split(os.sep))
    if "COVERAGE_RUN" not in os.environ or not uncounted:
        return (yield)
    here, elsewhere = sys.gettrace(), threading.gettrace()
    made = {id(cache) for cache in caches() if cache.cache_info().currsize}
    with mock.patch.dict(os.environ, uncovered(), clear=True):
        sys.settrace(None)
        threading.settrace(None)
        try:
            return (yield)
        finally:
            sys.settrace(here)
            threading.settrace(elsewhere)
            for cache in caches():
                if id(cache) not in made:
                    cache.cache_clear()


def caches() -> list[Any]:
    """Return the functions of gncli's modules that remember their results."""
    modules = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("gncli.")]
    return [found for module in modules for found in module.values() if hasattr(type(found), "cache_clear")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say, in every report, which kernels the tests did not see."""
    unseen = [body for body in native.BODIES if body not in native.bodies()]
    if unseen:
        why = native.why_not() or "this processor lacks the instructions"
        terminalreporter.write_line(f"not tested: the kernels {', '.join(unseen)}: {why}")


settings.register_profile("gncli", derandomize=True, deadline=None)
settings.register_profile("quick", settings.get_profile("gncli"), max_examples=20)
settings.load_profile("gncli")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command line: its status, stdout and stderr."""

    def run(line: str, *more: str) -> tuple[int, str, str]:
        status = main([*line.split(), *more])
        out, err = capfd.readouterr()
        return status, out, err

    return run


@pytest.fixture
def unrehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process do the child's work itself, so that its lines are covered, and a child's errors seen whole."""

    def inline(rehearsal: Any) -> Any:
        def ask(task: str, member: str = "", seconds: float | None = None) -> Any:
            try:
                return json.loads(json.dumps(rehearsal(task, member)))
            except GncliError as error:
                error.subject = None  # as it comes from a child
                raise

        return types.SimpleNamespace(ask=ask, close=lambda: 0)

    monkeypatch.setattr("gncli.io.formats.hdf5.guard.Child", inline)
