"""What holds for every test: hypothesis draws the same examples each time, and takes the time it needs."""

from __future__ import annotations

import signal
import types

import pytest
from hypothesis import settings

# Whoever runs the tests in the background has perhaps had signals ignored; children would inherit that.
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, signal.SIG_DFL)

settings.register_profile("gncli", derandomize=True, deadline=None)
settings.load_profile("gncli")


@pytest.fixture
def unrehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process do alone what else another one does first: its guards are there too, and are covered."""
    nobody = types.SimpleNamespace(ask=lambda *_: None, close=lambda: 0)
    monkeypatch.setattr("gncli.io.formats.hdf5.reading.Probe", lambda _: nobody)
